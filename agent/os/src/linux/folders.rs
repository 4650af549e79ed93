//! Folders and files that a stranger must not read, and files opened without following or waiting.

use std::fs::{DirBuilder, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder, and those above it. With `is_private` its owner alone enters it.
///
/// # Errors
/// It is missing and cannot be made.
pub fn make(path: &Path, is_private: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder.mode(if is_private { 0o700 } else { 0o755 });
    builder.create(path)
}

/// A new file that its owner alone reads.
///
/// # Errors
/// It is there already or cannot be made.
pub fn new_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

/// Opens for reading what was a file when it was listed. Meanwhile it may have become a pipe or a
/// link: neither blocks nor leads elsewhere.
///
/// # Errors
/// It cannot be opened, or is a link now.
pub fn open_listed(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// What it is that is neither file nor folder, and what to do.
#[must_use]
pub fn special(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "a link, not followed: name what it points to",
        kind if kind.is_fifo() || kind.is_socket() => "a pipe or socket, not read",
        _ => "a device, not read: name a copy of its content",
    }
}
