//! A bundle becomes a tree: strictly files and folders below one root, everything else is refused.
//!
//! The archive was signed for, so a bad one is a broken release or a stolen key; either way nothing
//! of it may reach outside its slot or fill the disk.

use ringward_domain::limits::BUNDLE_BYTES_MAX;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Files and folders in one bundle.
const ENTRIES_MAX: usize = 20_000;
/// Bytes of one path, and components of it.
const PATH_BYTES_MAX: usize = 1024;
const DEPTH_MAX: usize = 32;

/// Why a bundle was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bundle breaks a rule: final for this release.
    #[error("the bundle's entry {entry:?} {rule}; build the bundle of plain files and folders")]
    Rule {
        /// The entry's path, cut.
        entry: String,
        /// The broken rule.
        rule: &'static str,
    },
    /// The archive cannot be read as one.
    #[error("the bundle is no tar archive that ends well")]
    Archive(#[source] io::Error),
    /// The disk failed or is full.
    #[error("unpacking the bundle to {path}; make space and check the disk")]
    Disk {
        /// The file being written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn rule(path: &Path, rule: &'static str) -> UnpackError {
    UnpackError::Rule {
        entry: path.to_string_lossy().chars().take(200).collect(),
        rule,
    }
}

fn disk(path: &Path) -> impl Fn(io::Error) -> UnpackError {
    move |source| UnpackError::Disk {
        path: path.to_owned(),
        source,
    }
}

/// What may still come, and which names are taken.
struct Bounds {
    entries_left: usize,
    bytes_left: u64,
    /// Lower-cased path to the path as written and whether it is a folder: two names that a
    /// case-insensitive file system takes for one are refused everywhere.
    taken: BTreeMap<String, (PathBuf, bool)>,
}

/// Unpack a tar archive into `root`, an empty folder. Whoever makes the tree a slot makes it durable.
///
/// # Errors
/// A broken rule, an unreadable archive, or the disk; part of the tree may be there.
pub fn unpack(archive: impl Read, root: &Path) -> Result<(), UnpackError> {
    unpack_within(ENTRIES_MAX, archive, root)
}

fn unpack_within(entries_max: usize, archive: impl Read, root: &Path) -> Result<(), UnpackError> {
    let mut bounds = Bounds {
        entries_left: entries_max,
        bytes_left: BUNDLE_BYTES_MAX,
        taken: BTreeMap::new(),
    };
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        unpack_entry(&mut entry, root, &mut bounds)?;
    }
    if bounds.taken.is_empty() {
        return Err(rule(Path::new(""), "is missing: the bundle is empty"));
    }
    Ok(())
}

fn unpack_entry(
    entry: &mut Entry<'_, impl Read>,
    root: &Path,
    bounds: &mut Bounds,
) -> Result<(), UnpackError> {
    let raw = entry.path().map_err(UnpackError::Archive)?.into_owned();
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(());
    }
    bounds.entries_left = bounds
        .entries_left
        .checked_sub(1)
        .ok_or_else(|| rule(&raw, "is one more than a bundle may hold"))?;
    let path = harmless(&raw)?;
    match kind {
        EntryType::Directory => {
            if path.as_os_str().is_empty() {
                return Ok(()); // "./": the root itself
            }
            make_folder(&path, root, bounds)
        }
        EntryType::Regular => write_file(entry, &path, root, bounds),
        _ => Err(rule(&raw, "is neither a file nor a folder")),
    }
}

/// The path as plain names below the root.
fn harmless(raw: &Path) -> Result<PathBuf, UnpackError> {
    let text = raw
        .to_str()
        .ok_or_else(|| rule(raw, "has a path that is not UTF-8"))?;
    if text.len() > PATH_BYTES_MAX {
        return Err(rule(raw, "has too long a path"));
    }
    if text.contains(['\\', ':']) || text.chars().any(char::is_control) {
        return Err(rule(
            raw,
            "has a backslash, colon or control character in its path",
        ));
    }
    let mut path = PathBuf::new();
    for component in raw.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => path.push(name),
            Component::ParentDir => return Err(rule(raw, "has '..' in its path")),
            Component::RootDir | Component::Prefix(_) => {
                return Err(rule(raw, "has an absolute path"));
            }
        }
    }
    if path.components().count() > DEPTH_MAX {
        return Err(rule(raw, "is too deep"));
    }
    Ok(path)
}

/// Claim a name. `Ok(false)`: a folder that is there already.
fn claim(path: &Path, folder: bool, bounds: &mut Bounds) -> Result<bool, UnpackError> {
    let folded = path.to_string_lossy().to_lowercase();
    match bounds.taken.get(&folded) {
        Some((same, true)) if folder && same == path => Ok(false),
        Some((same, _)) if same == path => Err(rule(path, "is there twice")),
        Some(_) => Err(rule(path, "differs from another one only in case")),
        None => {
            bounds.taken.insert(folded, (path.to_owned(), folder));
            Ok(true)
        }
    }
}

fn make_folder(path: &Path, root: &Path, bounds: &mut Bounds) -> Result<(), UnpackError> {
    let mut made = PathBuf::new();
    for name in path.components() {
        made.push(name);
        if claim(&made, true, bounds)? {
            let target = root.join(&made);
            #[allow(unused_mut, reason = "elsewhere access follows from the folder above")]
            let mut builder = DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o755);
            builder.create(&target).map_err(disk(&target))?;
        }
    }
    Ok(())
}

fn write_file(
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    root: &Path,
    bounds: &mut Bounds,
) -> Result<(), UnpackError> {
    if path.as_os_str().is_empty() {
        return Err(rule(path, "has no name"));
    }
    let size = entry.size();
    bounds.bytes_left = bounds
        .bytes_left
        .checked_sub(size)
        .ok_or_else(|| rule(path, "makes the bundle too large"))?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        make_folder(folder, root, bounds)?;
    }
    claim(path, false, bounds)?;
    let target = root.join(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        let executable = entry.header().mode().unwrap_or(0) & 0o111 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    }
    let mut file = options.open(&target).map_err(disk(&target))?;
    copy(entry, &mut file, &target, size)
}

/// Copy exactly `size` bytes, telling a broken archive from a broken disk.
fn copy(
    entry: &mut impl Read,
    file: &mut File,
    target: &Path,
    size: u64,
) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let count = entry.read(&mut buffer).map_err(UnpackError::Archive)?;
        if count == 0 {
            return Err(UnpackError::Archive(io::ErrorKind::UnexpectedEof.into()));
        }
        io::Write::write_all(file, &buffer[..count]).map_err(disk(target))?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tar::{Builder, Header};

    fn header(kind: EntryType, size: u64, mode: u32) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(mode);
        header
    }

    /// An archive of (path as raw bytes, kind, content).
    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, kind, content) in entries {
            let mut header = header(*kind, content.len() as u64, 0o4755);
            // Written raw: the builder itself would refuse what the tests need.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            bytes.extend(header.as_bytes());
            bytes.extend(content.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn try_unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<(), UnpackError>) {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("slot");
        std::fs::create_dir(&target).unwrap();
        let outcome = unpack(bytes, &target);
        (root, outcome)
    }

    #[test]
    fn files_and_folders_arrive_without_special_bits() {
        use std::os::unix::fs::PermissionsExt;
        let bytes = archive(&[
            ("./", EntryType::Directory, ""),
            ("./bin/", EntryType::Directory, ""),
            ("./bin/tool", EntryType::Regular, "#!/bin/sh\n"),
            ("etc/deep/name.conf", EntryType::Regular, "x = 1\n"),
        ]);
        let (root, outcome) = try_unpack(&bytes);
        outcome.unwrap();
        let tool = root.path().join("slot/bin/tool");
        assert_eq!(std::fs::read_to_string(&tool).unwrap(), "#!/bin/sh\n");
        assert_eq!(
            std::fs::metadata(&tool).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        assert!(root.path().join("slot/etc/deep/name.conf").exists());
    }

    #[test]
    fn every_rule_is_kept_and_nothing_leaves_the_slot() {
        use EntryType as E;
        type Case<'a> = (&'a [(&'a str, E, &'a str)], &'a str);
        let cases: &[Case<'_>] = &[
            (&[("../out", E::Regular, "x")], "'..'"),
            (&[("a/../../out", E::Regular, "x")], "'..'"),
            (&[("/out", E::Regular, "x")], "absolute"),
            (&[("out", E::Symlink, "")], "neither"),
            (&[("out", E::Link, "")], "neither"),
            (&[("out", E::Char, "")], "neither"),
            (&[("out", E::Block, "")], "neither"),
            (&[("out", E::Fifo, "")], "neither"),
            (&[("out", E::GNUSparse, "")], "no tar archive"),
            (
                &[("Name", E::Regular, "1"), ("name", E::Regular, "2")],
                "case",
            ),
            (
                &[("Dir/a", E::Regular, "1"), ("dir/b", E::Regular, "2")],
                "case",
            ),
            (&[("a", E::Regular, "1"), ("a", E::Regular, "2")], "twice"),
            (&[("a", E::Regular, "1"), ("a/b", E::Regular, "2")], "twice"),
            (&[("a\\b", E::Regular, "1")], "backslash"),
            (&[("c:out", E::Regular, "1")], "colon"),
            (&[("a\nb", E::Regular, "1")], "control"),
            (&[], "empty"),
        ];
        for (entries, expected) in cases {
            let (root, outcome) = try_unpack(&archive(entries));
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(expected), "{entries:?}: {error}");
            assert!(!root.path().join("out").exists() && !Path::new("/out").exists());
        }
    }

    #[test]
    fn a_cut_archive_and_a_lie_about_its_size_are_refused() {
        let mut bytes = archive(&[("a", EntryType::Regular, &"x".repeat(2000))]);
        bytes.truncate(1500);
        assert!(matches!(try_unpack(&bytes).1, Err(UnpackError::Archive(_))));
        let mut huge = header(EntryType::Regular, BUNDLE_BYTES_MAX + 1, 0o644);
        huge.set_path("huge").unwrap();
        huge.set_cksum();
        let error = try_unpack(huge.as_bytes()).1.unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }

    #[test]
    fn too_many_entries_are_refused() {
        let mut builder = Builder::new(Vec::new());
        for n in 0..11 {
            let mut header = header(EntryType::Directory, 0, 0o755);
            builder
                .append_data(&mut header, format!("d{n}"), io::empty())
                .unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let root = tempfile::tempdir().unwrap();
        let error = unpack_within(10, bytes.as_slice(), root.path()).unwrap_err();
        assert!(error.to_string().contains("one more"), "{error}");
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic() {
        for seed in 0u8..64 {
            let bytes: Vec<u8> = (0..2048u32)
                .map(|n| (n as u8).wrapping_mul(seed) ^ seed)
                .collect();
            assert!(try_unpack(&bytes).1.is_err());
        }
    }
}
