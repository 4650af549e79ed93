//! The Linux parsers against real samples; every score is printed as one row of a table.
#![allow(clippy::unwrap_used)]

mod console;
mod journals;
mod kernel;
mod machine;

use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::{fs, io};

use ringward_evidence::finding::{Finding, Item};
use ringward_evidence::inspect::{Artefact, Open, inspect};
use ringward_evidence::source::Source;

fn samples() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: samples not here");
    None
}

fn findings(items: Vec<Item>) -> Vec<Finding> {
    items
        .into_iter()
        .filter_map(|item| match item {
            Item::Finding(finding) => Some(finding),
            Item::Unreadable(_) => None,
        })
        .collect()
}

fn row(what: &str, good: usize, of: usize, rest: &str) {
    println!("| {what:<34} | {good:>4} / {of:<4} | {rest}");
}

/// Opens files of a folder for `inspect`.
struct Files(Vec<PathBuf>);

impl Open for Files {
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        Ok(Box::new(Loaded(fs::read(&self.0[index])?)))
    }
}

struct Loaded(Vec<u8>);

impl Source for Loaded {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.as_slice().read_at(offset, into)
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

fn files(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries.iter().for_each(|entry| files(entry, into));
    } else {
        into.push(path.to_owned());
    }
}

/// Everything `inspect` says about a file or folder of the samples.
fn inspected(path: &Path) -> Vec<(String, Item)> {
    let mut paths = Vec::new();
    files(path, &mut paths);
    let listing: Vec<Artefact> = paths
        .iter()
        .map(|path| Artefact {
            path: path.to_string_lossy().replace(MAIN_SEPARATOR, "/"),
        })
        .collect();
    let mut items = Vec::new();
    inspect(&listing, &mut Files(paths), &mut |path, item| {
        items.push((path.to_owned(), item))
    });
    items
}

fn found(path: &Path) -> Vec<Finding> {
    findings(inspected(path).into_iter().map(|(_, item)| item).collect())
}

fn kinds(found: &[Finding]) -> Vec<&str> {
    found.iter().map(|finding| finding.kind).collect()
}
