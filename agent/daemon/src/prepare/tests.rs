//! What becomes of bundles that are not what was signed.
#![allow(clippy::unwrap_used)]

use super::*;
use ringward_domain::host::Os;
use ringward_wire::token::sha256;
use std::io::Cursor;

fn bundle(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn artefact(bytes: &[u8]) -> Artefact {
    Artefact {
        os: Os::Linux,
        arch: None,
        sha256: sha256(bytes),
        size: bytes.len() as u64,
    }
}

/// Stages what is read; answers the outcome and whether a tree is left.
fn staged(mut file: impl Read + Seek, wanted: &Artefact) -> (Result<(), NotReady>, bool) {
    let root = tempfile::tempdir().unwrap();
    let tree = root.path().join("tree");
    let outcome = stage(&mut file, wanted, &tree, root.path());
    (outcome, tree.exists())
}

const FILES: &[(&str, &str)] = &[("bin/tool", "#!/bin/sh\n"), ("etc/tool.conf", "x = 1\n")];

#[test]
fn a_flipped_byte_anywhere_in_a_bundle_makes_no_tree() {
    let signed = bundle(FILES);
    let wanted = artefact(&signed);
    let (whole, tree) = staged(Cursor::new(signed.clone()), &wanted);
    assert!(whole.is_ok() && tree);
    for at in 0..signed.len() {
        let mut flipped = signed.clone();
        flipped[at] ^= 1;
        let (outcome, tree) = staged(Cursor::new(flipped), &wanted);
        assert!(
            matches!(outcome, Err(NotReady::Digest)) && !tree,
            "byte {at}"
        );
    }
}

#[test]
fn a_file_added_renamed_or_left_out_makes_no_tree() {
    let wanted = artefact(&bundle(FILES));
    for other in [
        &[FILES[0], FILES[1], ("etc/more", "y\n")][..],
        &[FILES[0], ("etc/other.conf", "x = 1\n")][..],
        &FILES[..1],
    ] {
        let (outcome, tree) = staged(Cursor::new(bundle(other)), &wanted);
        assert!(matches!(outcome, Err(NotReady::Digest)) && !tree);
    }
}

/// A file that is another one from the second reading on.
struct Swapped {
    first: Cursor<Vec<u8>>,
    then: Cursor<Vec<u8>>,
    readings: u32,
}

impl Read for Swapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.readings {
            0 | 1 => self.first.read(buffer),
            _ => self.then.read(buffer),
        }
    }
}

impl Seek for Swapped {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.readings += 1;
        self.first.seek(to)?;
        self.then.seek(to)
    }
}

#[test]
fn a_bundle_swapped_between_its_check_and_its_use_leaves_no_tree() {
    let signed = bundle(FILES);
    let forged = bundle(&[("bin/tool", "#!/bin/rm\n")]);
    let wanted = artefact(&signed);
    let file = Swapped {
        first: Cursor::new(signed),
        then: Cursor::new(forged),
        readings: 0,
    };
    let (outcome, tree) = staged(file, &wanted);
    assert!(matches!(outcome, Err(NotReady::Digest)) && !tree);
}
