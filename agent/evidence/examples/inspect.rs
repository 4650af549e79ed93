//! `cargo run --example inspect -- PATH...`: findings of files and folders, one JSON object a line.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ringward_evidence::inspect::{Artefact, Open, inspect, json_line};
use ringward_evidence::source::Source;

/// Folders deeper than this are not entered.
const DEPTH_MAX: usize = 8;

struct Files(Vec<PathBuf>);

struct OnDisk {
    file: File,
    size: u64,
}

impl Source for OnDisk {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < into.len() {
            match self.file.read(&mut into[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Open for Files {
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        let file = File::open(&self.0[index])?;
        let size = file.metadata()?.len();
        Ok(Box::new(OnDisk { file, size }))
    }
}

fn collect(path: &Path, depth: usize, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let kind = path.symlink_metadata()?;
    if kind.is_dir() && depth < DEPTH_MAX {
        let mut entries: Vec<PathBuf> = path
            .read_dir()?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        entries.sort();
        for entry in entries {
            collect(&entry, depth + 1, into)?;
        }
    } else if kind.is_file() {
        into.push(path.to_owned());
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut paths = Vec::new();
    for path in std::env::args_os()
        .skip(1)
        .filter(|argument| argument != "--json")
    {
        collect(Path::new(&path), 0, &mut paths)?;
    }
    let listing: Vec<Artefact> = paths
        .iter()
        .map(|path| Artefact {
            path: path.to_string_lossy().into_owned(),
        })
        .collect();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut failed = None;
    inspect(&listing, &mut Files(paths), &mut |path, item| {
        if failed.is_none()
            && let Err(error) = writeln!(out, "{}", json_line(path, &item))
        {
            failed = Some(error);
        }
    });
    failed.map_or_else(|| out.flush(), Err)
}
