//! The verbs that need no server, no identity and no running agent.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const PANIC: &[u8] = b"[    1.000000] Kernel panic - not syncing: attempted to kill init\n";

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringward-agent"))
        .args(arguments)
        .output()
        .unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn inspect_says_by_its_exit_status_whether_everything_was_read() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("kern.log"), PANIC).unwrap();
    let whole = agent(&["inspect", "--json", path(root.path())]);
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let line: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(line["kind"], "kernel-panic");
    std::fs::write(root.path().join("zeros"), [0; 512]).unwrap();
    let gaps = agent(&["inspect", "--json", path(root.path())]);
    assert_eq!(gaps.status.code(), Some(3), "{gaps:?}");
    assert_eq!(gaps.stdout.split(|&b| b == b'\n').count(), 3);
    assert_eq!(agent(&["inspect"]).status.code(), Some(2));
}

#[test]
fn rescue_of_a_disk_without_an_agent_says_what_to_mount() {
    let root = tempfile::tempdir().unwrap();
    let output = agent(&["rescue", "--root", path(root.path()), "--revert"]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("mount the disk"), "{words}");
}

#[test]
fn the_child_that_parses_works_within_its_own_limits() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringward-agent"))
        .arg("parse-child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let listing = format!("{{\"files\":[[\"/p/kern.log\",{}]]}}\n", PANIC.len());
    stdin.write_all(listing.as_bytes()).unwrap();
    stdin.write_all(PANIC).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("kernel-panic"));
    let silent = agent(&["parse-child"]);
    assert!(!silent.status.success());
}
