//! A child without rights: nobody's, with no file to open and little to take.

use rustix::process::{Resource, Rlimit, setrlimit};
use std::io;
use tokio::process::Command;

/// This program, also after an update replaced its file.
const PROGRAM: &str = "/proc/self/exe";
/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
/// Data of the process: what the parsers may take, beside the program itself.
const DATA_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// CPU time; a usual file takes milliseconds.
const CPU_SECONDS_MAX: u64 = 10;

/// This program as a child.
///
/// # Errors
/// None here.
pub(crate) fn command() -> io::Result<Command> {
    let mut command = Command::new(PROGRAM);
    command.env_clear().current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
}

/// Called by the child before it reads: gives away what it does not need. It can write no file, start
/// nothing, and ends when it takes too much.
///
/// # Errors
/// A limit cannot be set; the child must not go on.
pub fn confine() -> io::Result<()> {
    for (resource, limit) in [
        (Resource::Data, DATA_BYTES_MAX),
        (Resource::Cpu, CPU_SECONDS_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        // Standard streams are open already.
        (Resource::Nofile, 3),
    ] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}
