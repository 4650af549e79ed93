//! Files where a link is replaced by one rename.

use super::absent_is_none;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Makes the names in a folder durable.
///
/// # Errors
/// The folder cannot be opened or the disk does not answer.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    sync(path)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}

pub(super) fn sync(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

pub(super) fn link(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

pub(super) fn link_target(link: &Path) -> io::Result<Option<PathBuf>> {
    absent_is_none(std::fs::read_link(link))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}
