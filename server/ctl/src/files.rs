//! Files that this tool reads and writes.

use crate::error::Error;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// A whole file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let failed = Error::file("reading", path);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(&failed)?
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(&failed)?;
    if bytes.len() as u64 > max {
        return Err(failed(std::io::Error::other(format!(
            "it has more than {max} bytes"
        ))));
    }
    Ok(bytes)
}

/// A new file, which must not exist.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_new(OpenOptions::new().write(true).create_new(true), path, bytes)
}

/// A new file that only its owner can read.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    write_new(&options, path, bytes)
}

fn write_new(options: &OpenOptions, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = Error::file("writing", path);
    let mut file = options.open(path).map_err(&failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

/// Writes beside the file and renames over it, so that it is never seen half-written.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = Path::new(&beside);
    create(beside, bytes)?;
    std::fs::rename(beside, path).map_err(Error::file("writing", path))
}

/// A folder that only its owner can enter, unless it exists already.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(Error::file("creating", path))
}

/// That nobody but its owner can read the file.
#[cfg(unix)]
pub(crate) fn check_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)
        .map_err(Error::file("reading", path))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::usage(
        format!(
            "{} holds a private key and others can read it (mode {:o})",
            path.display(),
            mode & 0o777
        ),
        format!("run `chmod 600 {}`", path.display()),
    ))
}

/// That nobody but its owner can read the file; folders are protected by their lists here.
#[cfg(not(unix))]
pub(crate) fn check_private(_path: &Path) -> Result<(), Error> {
    Ok(())
}
