//! `ringward-guard`: run once a boot, before the units of any release on trial.
//!
//! Exit status: 0 nothing to do or boot noted; 3 went back; 1 could not act (said on stderr,
//! nothing half done); 2 wrong arguments.

#[cfg(windows)]
mod service;

use ringward_domain::BootId;
use ringward_guard::SystemFiles;
use ringward_guard::run::{Did, run};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str =
    "usage: ringward-guard --root DIR (--boot-id HEX | --boot-id-file FILE | --service)

Notes this boot in DIR/ledger while a release is on trial, and goes back to the release before it
after 2 boots that never became healthy. FILE is usually /proc/sys/kernel/random/boot_id.
--service (Windows): the service manager starts this; the boot is read from the registry.

exit status: 0 nothing to do, or boot noted; 3 went back; 1 could not act; 2 wrong arguments";

struct Arguments {
    root: PathBuf,
    boot: Boot,
}

enum Boot {
    Given(BootId),
    /// Found by the service itself.
    Service,
}

fn arguments() -> Result<Arguments, String> {
    let (mut root, mut boot) = (None, None);
    let mut given = std::env::args_os().skip(1);
    while let Some(name) = given.next() {
        let name = name.to_string_lossy().into_owned();
        if name == "--service" {
            boot = Some(Boot::Service);
            continue;
        }
        let value = given
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--root" => root = Some(PathBuf::from(value)),
            "--boot-id" => {
                boot = Some(Boot::Given(boot_id("--boot-id", &value.to_string_lossy())?))
            }
            "--boot-id-file" => {
                let path = PathBuf::from(value);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("reading {}: {error}", path.display()))?;
                boot = Some(Boot::Given(boot_id(&path.display().to_string(), &text)?));
            }
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(Arguments {
        root: root.ok_or("--root is missing")?,
        boot: boot.ok_or("--boot-id or --boot-id-file is missing")?,
    })
}

/// A boot id with or without the dashes the kernel writes.
fn boot_id(of: &str, text: &str) -> Result<BootId, String> {
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    hex.parse().map_err(|error| format!("{of}: {error}"))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("ringward-guard: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let boot = match arguments.boot {
        Boot::Given(boot) => boot,
        Boot::Service => return serve(&arguments.root),
    };
    match run(SystemFiles, &arguments.root, boot) {
        Ok(did) => {
            println!("ringward-guard: {did}");
            match did {
                Did::WentBack { .. } => ExitCode::from(3),
                Did::NothingOnTrial | Did::NotedBefore | Did::Noted { .. } => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("ringward-guard: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(windows)]
fn serve(root: &std::path::Path) -> ExitCode {
    match service::start(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ringward-guard: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(windows))]
fn serve(_root: &std::path::Path) -> ExitCode {
    eprintln!("ringward-guard: --service is for Windows");
    ExitCode::from(2)
}

/// An error with everything beneath it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        line.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    line
}
