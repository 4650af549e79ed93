//! The file operations the guard needs, behind a trait so that tests can lose, tear and reorder them.

// The one choice of an OS outside of `agent/os`: the guard is below it and has to work without it.
#[cfg_attr(windows, path = "files/windows.rs")]
#[cfg_attr(not(windows), path = "files/unix.rs")]
mod system;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use system::sync_folder;

/// Largest file read whole: a ledger with every list full is below 64 KiB.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Files, folders and links. Nothing is durable before the sync of the file and of the folder that
/// names it.
pub trait Files {
    /// The whole file; `None` if there is none. Refuses files over [`FILE_BYTES_MAX`].
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Creates or truncates and writes; readable and writable by the owner only.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content, or a folder's entries, durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Atomically gives a file, folder or link another name; replaces a file or link there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a link that points to `target`; fails where something is.
    fn link(&self, target: &Path, link: &Path) -> io::Result<()>;
    /// Where a link points; `None` if there is no such link.
    fn link_target(&self, link: &Path) -> io::Result<Option<PathBuf>>;
    /// Makes a folder and those above it; fine if it is there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Whether there is a folder (links are not followed).
    fn is_folder(&self, path: &Path) -> io::Result<bool>;
    /// Names in a folder; empty if there is none.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Removes a file or link; fine if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it; fine if there is none.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = absent_is_none(std::fs::File::open(path))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(Some(bytes))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        system::write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        system::sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        system::rename(from, to)
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        system::link(target, link)
    }

    fn link_target(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        system::link_target(link)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        let found = absent_is_none(std::fs::symlink_metadata(path))?;
        // A junction is a link to everybody, `is_dir` here included.
        Ok(found.is_some_and(|found| found.is_dir() && !found.is_symlink()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let Some(entries) = absent_is_none(std::fs::read_dir(path))? else {
            return Ok(Vec::new());
        };
        entries.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        absent_is_none(system::remove(path)).map(|_| ())
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        absent_is_none(std::fs::remove_dir_all(path)).map(|_| ())
    }
}
