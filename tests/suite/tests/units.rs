//! How exposed the shipped units are, by systemd's own judgement.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the child that parses hostile files has in effect, said in the words of a unit: it runs as
/// nobody, which with `NoNewPrivileges=` leaves it no capability; it may have three descriptors and has
/// its standard streams, so that it opens no file, device or socket; it starts no process.
const CHILD: &str = "[Service]\nUser=nobody\nCapabilityBoundingSet=\nPrivateNetwork=yes\n\
    RestrictAddressFamilies=none\nPrivateDevices=yes\nDeviceAllow=\nIPAddressDeny=any\n\
    ProtectProc=invisible\nProcSubset=pid\nProtectKernelLogs=yes\nPrivateUsers=yes\n\
    SystemCallFilter=~@privileged @resources\n";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/agent")
}

/// systemd's exposure level, 0 to 10; `None` where it does not judge files.
fn exposure(unit: &Path) -> Option<f64> {
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(unit)
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = told.lines().rfind(|line| line.contains("exposure level"))?;
    line.split_whitespace().find_map(|word| word.parse().ok())
}

#[test]
fn shipped_units_and_the_parsing_child_are_as_confined_as_promised() {
    let agent = units().join("ringward-agent.service");
    let Some(of_agent) = exposure(&agent) else {
        println!("skipped: systemd-analyze is not there, or too old to judge files");
        return;
    };
    assert!(of_agent <= 5.0, "the agent's exposure is {of_agent}");
    // Runs the packages' own scripts, which may do anything; it lives for one piece of work.
    let installer = "ringward-package@.service";
    for entry in std::fs::read_dir(units()).unwrap().flatten() {
        let path = entry.path();
        let is_unit = path.extension().is_some_and(|end| end == "service");
        if !is_unit || path.file_name().is_some_and(|name| name == installer) {
            continue;
        }
        let exposure = exposure(&path).unwrap();
        assert!(exposure <= 7.0, "{} has {exposure}", path.display());
    }
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child.service");
    let text = std::fs::read_to_string(&agent).unwrap();
    let kept = text.lines().filter(|line| {
        !line.starts_with("CapabilityBoundingSet=") && !line.starts_with("DeviceAllow=")
    });
    let text: Vec<&str> = kept.collect();
    std::fs::write(&child, text.join("\n") + "\n" + CHILD).unwrap();
    let of_child = exposure(&child).unwrap();
    println!("exposure: agent {of_agent}, the child's likeness {of_child}");
    assert!(of_child <= 2.0, "the child's exposure is {of_child}");
}
