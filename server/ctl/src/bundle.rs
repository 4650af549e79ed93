//! A folder becomes a bundle: a tar archive (ustar, GNU long names) that is the same bytes for the
//! same content, wherever and whenever it is made.

use crate::error::Error;
use ring::digest;
use ringward_domain::Sha256;
use ringward_domain::limits::BUNDLE_BYTES_MAX;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// Files and folders of one bundle.
const ENTRIES_MAX: usize = 20_000;

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its content's hash.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// The file, named by its hash.
    pub path: PathBuf,
}

/// Packs a folder, or takes a file as the archive it is, into `out` as `<sha256>.bundle`.
///
/// # Errors
/// A folder with anything but plain files and folders, too many or too large ones, and whatever the
/// disk reports.
pub fn pack(source: &Path, out: &Path) -> Result<Bundle, Error> {
    let reading = Error::file("reading", source);
    let meta = std::fs::metadata(source).map_err(&reading)?;
    write(out, |file| match meta.is_dir() {
        true => archive(source, file),
        false => File::open(source)
            .and_then(|mut tar| io::copy(&mut tar, file))
            .map(|_| ())
            .map_err(&reading),
    })
}

/// Packs a package of the system's own format as the bundle's only file, under this name.
///
/// # Errors
/// Anything but a file, and whatever the disk reports.
pub fn pack_package(source: &Path, name: &str, out: &Path) -> Result<Bundle, Error> {
    let reading = Error::file("reading", source);
    if !std::fs::metadata(source).map_err(&reading)?.is_file() {
        return Err(Error::usage(
            format!("{} is no file", source.display()),
            "name the package file itself, one for each architecture",
        ));
    }
    write(out, |file| {
        let mut tar = Builder::new(file);
        append(&mut tar, source, Path::new(name)).map_err(&reading)?;
        tar.finish().map_err(&reading)
    })
}

fn write(out: &Path, fill: impl FnOnce(&mut Hashed) -> Result<(), Error>) -> Result<Bundle, Error> {
    let made = out.join(format!(".bundle-{}.tmp", std::process::id()));
    let writing = Error::file("writing", &made);
    let mut file = Hashed::new(File::create(&made).map_err(&writing)?);
    let packed = fill(&mut file);
    let finished = packed.and_then(|()| finish(file, &made, out));
    if finished.is_err() {
        // Best effort: what matters is the error already at hand.
        let _ = std::fs::remove_file(&made);
    }
    finished
}

fn finish(file: Hashed, made: &Path, out: &Path) -> Result<Bundle, Error> {
    let writing = Error::file("writing", made);
    file.inner.sync_all().map_err(&writing)?;
    if file.size == 0 || file.size > BUNDLE_BYTES_MAX {
        return Err(Error::usage(
            format!("the bundle has {} bytes", file.size),
            "a bundle holds 1 byte to 2 GiB; leave out what the package does not need",
        ));
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(file.hash.finish().as_ref());
    let sha256 = Sha256(hash);
    let path = out.join(format!("{sha256}.bundle"));
    std::fs::rename(made, &path).map_err(&writing)?;
    Ok(Bundle {
        sha256,
        size: file.size,
        path,
    })
}

fn archive(root: &Path, out: &mut Hashed) -> Result<(), Error> {
    let mut entries = Vec::new();
    collect(root, Path::new(""), &mut entries)?;
    if entries.is_empty() {
        return Err(Error::usage(
            format!("{} is empty", root.display()),
            "name the folder that holds the package's files",
        ));
    }
    entries.sort();
    let mut tar = Builder::new(out);
    for relative in &entries {
        let path = root.join(relative);
        append(&mut tar, &path, relative).map_err(Error::file("packing", &path))?;
    }
    tar.finish().map_err(Error::file("packing", root))
}

/// Every file and folder below `root`, relative to it.
fn collect(root: &Path, below: &Path, entries: &mut Vec<PathBuf>) -> Result<(), Error> {
    let dir = root.join(below);
    let reading = Error::file("listing", &dir);
    for entry in std::fs::read_dir(&dir).map_err(&reading)? {
        let entry = entry.map_err(&reading)?;
        let relative = below.join(entry.file_name());
        let kind = entry.file_type().map_err(&reading)?;
        let shown = entry.path().display().to_string();
        if entries.len() >= ENTRIES_MAX {
            return Err(Error::usage(
                format!("{} holds more than {ENTRIES_MAX} files", root.display()),
                "leave out what the package does not need",
            ));
        }
        if relative.to_str().is_none() {
            return Err(Error::usage(
                format!("the name of {shown} is not UTF-8"),
                "rename it",
            ));
        }
        if !kind.is_dir() && !kind.is_file() {
            return Err(Error::usage(
                format!("{shown} is neither a plain file nor a folder"),
                "replace links by what they point at and leave out devices and sockets",
            ));
        }
        entries.push(relative.clone());
        if kind.is_dir() {
            collect(root, &relative, entries)?;
        }
    }
    Ok(())
}

/// Owner, group and times are the same everywhere; of the mode only "executable" is kept.
fn append(tar: &mut Builder<&mut Hashed>, path: &Path, relative: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        return tar.append_data(&mut header, relative, io::empty());
    }
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if executable(&meta) { 0o755 } else { 0o644 });
    header.set_size(meta.len());
    // Exactly as long as the header says, or the archive is broken: the file must not change now.
    let mut content = file.take(meta.len());
    tar.append_data(&mut header, relative, &mut content)?;
    if content.limit() > 0 {
        return Err(io::Error::other("the file shrank while it was packed"));
    }
    Ok(())
}

#[cfg(unix)]
fn executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn executable(_meta: &std::fs::Metadata) -> bool {
    true
}

/// Hashes and counts what is written.
struct Hashed {
    inner: File,
    hash: digest::Context,
    size: u64,
}

impl Hashed {
    fn new(inner: File) -> Self {
        Self {
            inner,
            hash: digest::Context::new(&digest::SHA256),
            size: 0,
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("content of {name}")).unwrap();
        }
        dir
    }

    #[test]
    fn the_same_content_makes_the_same_bytes() {
        let out = tempfile::tempdir().unwrap();
        let one = tree(&["b/c", "a", "b/a"]);
        let other = tree(&["b/a", "b/c", "a"]);
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let file = File::options()
            .write(true)
            .open(other.path().join("a"))
            .unwrap();
        file.set_modified(old).unwrap();
        let first = pack(one.path(), out.path()).unwrap();
        assert_eq!(pack(other.path(), out.path()).unwrap(), first);
        assert_eq!(std::fs::metadata(&first.path).unwrap().len(), first.size);
        std::fs::write(one.path().join("a"), "changed").unwrap();
        assert_ne!(pack(one.path(), out.path()).unwrap().sha256, first.sha256);
    }

    #[test]
    fn a_finished_archive_is_taken_as_it_is() {
        let out = tempfile::tempdir().unwrap();
        let made = pack(tree(&["a"]).path(), out.path()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let taken = pack(&made.path, elsewhere.path()).unwrap();
        assert_eq!((taken.sha256, taken.size), (made.sha256, made.size));
    }

    #[test]
    fn long_names_survive_packing() {
        let out = tempfile::tempdir().unwrap();
        let name = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let made = pack(tree(&[&name]).path(), out.path()).unwrap();
        let mut archive = tar::Archive::new(File::open(made.path).unwrap());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert!(names.contains(&PathBuf::from(name)), "{names:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_folder_is_refused_and_nothing_is_left() {
        let out = tempfile::tempdir().unwrap();
        let dir = tree(&["a"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let error = pack(dir.path(), out.path()).unwrap_err().to_string();
        assert!(error.contains("link"), "{error}");
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_folder_is_no_bundle() {
        let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(pack(dir.path(), out.path()).is_err());
    }
}
