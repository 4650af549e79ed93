//! Runs a program with the recording library loaded, and reads what it wrote down.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SHIM: &str = include_str!("shim.c");

/// One file call that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A file was made.
    Create(u64, PathBuf),
    /// Bytes were written to a file.
    Write(u64, u64, Vec<u8>),
    /// A file's length was set.
    SetLength(u64, u64),
    /// A file was synced.
    Sync(u64),
    /// The names in a folder were synced.
    SyncFolder(PathBuf),
    /// A file, folder or link got another name.
    Rename(PathBuf, PathBuf),
    /// A link was made: its target, its name.
    Link(PathBuf, PathBuf),
    /// A file or link was removed.
    Remove(PathBuf),
    /// An empty folder was removed.
    RemoveFolder(PathBuf),
    /// A folder was made.
    MakeFolder(PathBuf),
    /// The program said something.
    Say(String),
}

/// Why nothing can be recorded here, or the library's path.
///
/// # Errors
/// This system has no preloading, or no C compiler.
pub fn shim(folder: &Path) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        bail!("recording file calls needs Linux with glibc");
    }
    let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
    std::fs::write(&source, SHIM)?;
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-pthread", "-o"])
        .args([&library, &source])
        .output()
        .context("there is no C compiler `cc`")?;
    if !built.status.success() {
        bail!(
            "the C compiler does not build the recording library: {}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    Ok(library)
}

/// Runs a program and answers its file calls below `root`, in order.
///
/// # Errors
/// It fails, or its record cannot be read.
pub fn record(shim: &Path, root: &Path, command: &mut Command) -> Result<Vec<Call>> {
    let log = shim.with_extension("log");
    let _ = std::fs::remove_file(&log);
    let ended = command
        .env("LD_PRELOAD", shim)
        .env("CRASH_ROOT", root)
        .env("CRASH_LOG", &log)
        .stdin(Stdio::null())
        .output()
        .context("starting the program to record")?;
    if !ended.status.success() {
        bail!(
            "the recorded program ended with {}: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        );
    }
    let bytes = std::fs::read(&log).context("reading the record of file calls")?;
    std::fs::remove_file(&log)?;
    read(&bytes, root)
}

fn read(mut bytes: &[u8], root: &Path) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(25) {
        let number = |at: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&head[at..at + 8]);
            u64::from_ne_bytes(raw)
        };
        let (a, b, length) = (number(1), number(9), usize::try_from(number(17))?);
        let (data, rest) = rest
            .split_at_checked(length)
            .context("the record of file calls is cut short")?;
        let split = usize::try_from(a).unwrap_or(usize::MAX);
        let pair = || data.split_at_checked(split).context("a record is mangled");
        calls.push(match head[0] {
            b'C' => Call::Create(a, below(data, root)?),
            b'W' => Call::Write(a, b, data.to_vec()),
            b'T' => Call::SetLength(a, b),
            b'S' => Call::Sync(a),
            b'G' => {
                bytes = rest;
                continue;
            }
            b'F' => Call::SyncFolder(below(data, root)?),
            b'R' => Call::Rename(below(pair()?.0, root)?, below(pair()?.1, root)?),
            b'L' => Call::Link(
                PathBuf::from(OsStr::from_bytes(pair()?.0)),
                below(pair()?.1, root)?,
            ),
            b'U' => Call::Remove(below(data, root)?),
            b'D' => Call::RemoveFolder(below(data, root)?),
            b'M' => Call::MakeFolder(below(data, root)?),
            b'A' => Call::Say(String::from_utf8_lossy(data).into_owned()),
            other => bail!("the record of file calls holds an unknown {other}"),
        });
        bytes = rest;
    }
    Ok(calls)
}

fn below(path: &[u8], root: &Path) -> Result<PathBuf> {
    let path = Path::new(OsStr::from_bytes(path));
    let path = path
        .strip_prefix(root)
        .with_context(|| format!("{} is not below {}", path.display(), root.display()))?;
    Ok(path.to_owned())
}
