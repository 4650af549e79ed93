//! `ringward-agent inspect`: reads any artefact or folder offline. This file walks folders and opens
//! files; `ringward-evidence` reads them.

use ringward_agent_os::machine::folders;
use ringward_evidence::finding::{Finding, Item};
use ringward_evidence::inspect::{ARTEFACTS_MAX, Artefact, Open, inspect};
use ringward_evidence::source::Source;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Folders deeper than this are not entered: no log tree is deeper, a loop of mounts is.
const DEPTH_MAX: usize = 16;
/// Bytes read of a file whose size the system does not tell (`/proc` says 0 for all of them).
const UNSIZED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What an inspection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Facts.
    pub findings: u64,
    /// What could not be read.
    pub gaps: u64,
}

/// How items are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people: a line a fact, with what it rests on beneath.
    Human,
    /// One JSON object a line: `{"kind", "key", "title", "module", "function", "evidence", "path"}`
    /// or `{"error", "offset", "path"}`.
    Json,
}

/// Reads every file and folder in `paths` and writes what they tell to `out`. Links are not
/// followed, other file systems' devices, pipes and sockets not opened.
///
/// # Errors
/// `out` cannot be written; what cannot be read is told as a gap instead.
pub fn run(paths: &[PathBuf], form: Form, out: &mut dyn Write) -> io::Result<Told> {
    let mut walk = Walk::default();
    for path in paths {
        walk.enter(path, 0);
    }
    let mut report = Report {
        form,
        out,
        told: Told::default(),
        failed: None,
    };
    for (path, gap) in &walk.gaps {
        report.tell(path, gap);
    }
    let listing: Vec<Artefact> = walk.files.iter().map(|path| Artefact::at(path)).collect();
    inspect(&listing, &mut Files(walk.files), &mut |path, item| {
        report.tell(path, &item);
    });
    report.finish()
}

/// Collects files, in the order of their names.
#[derive(Default)]
struct Walk {
    files: Vec<PathBuf>,
    gaps: Vec<(String, Item)>,
    full: bool,
}

impl Walk {
    fn gap(&mut self, path: &Path, why: &str) {
        let path = path.to_string_lossy().into_owned();
        self.gaps.push((path, Item::unreadable(why, 0)));
    }

    fn enter(&mut self, path: &Path, depth: usize) {
        if self.full {
            return;
        }
        let kind = match path.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(error) => return self.gap(path, &format!("looking at it failed: {error}")),
        };
        if kind.is_dir() {
            self.folder(path, depth);
        } else if kind.is_file() {
            match self.files.len() < ARTEFACTS_MAX {
                true => self.files.push(path.to_owned()),
                false => {
                    self.full = true;
                    self.gap(
                        path,
                        &format!("more than {ARTEFACTS_MAX} files, the rest is not read"),
                    );
                }
            }
        } else if depth == 0 {
            self.gap(path, folders::special(kind));
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        if depth == DEPTH_MAX {
            return self.gap(path, &format!("{DEPTH_MAX} folders deep, not entered"));
        }
        let entries = match path.read_dir() {
            Ok(entries) => entries,
            Err(error) => return self.gap(path, &format!("listing it failed: {error}")),
        };
        let mut inside = Vec::new();
        for entry in entries.take(ARTEFACTS_MAX) {
            match entry {
                Ok(entry) => inside.push(entry.path()),
                Err(error) => self.gap(path, &format!("listing it failed: {error}")),
            }
        }
        inside.sort();
        for path in inside {
            self.enter(&path, depth + 1);
        }
    }
}

struct Files(Vec<PathBuf>);

impl Open for Files {
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        let file = folders::open_listed(&self.0[index])?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file any more"));
        }
        let size = match metadata.len() {
            0 => UNSIZED_BYTES_MAX,
            size => size,
        };
        Ok(Box::new(OnDisk { file, size }))
    }
}

/// A file, up to the size it had when it was opened: a log that grows while it is read has an end.
struct OnDisk {
    file: File,
    size: u64,
}

impl Source for OnDisk {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        use std::io::Read;
        let room = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = into.len().min(room);
        self.file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < wanted {
            match self.file.read(&mut into[filled..wanted]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

struct Report<'a> {
    form: Form,
    out: &'a mut dyn Write,
    told: Told,
    failed: Option<io::Error>,
}

impl Report<'_> {
    fn tell(&mut self, path: &str, item: &Item) {
        match item {
            Item::Finding(_) => self.told.findings += 1,
            Item::Unreadable(_) => self.told.gaps += 1,
        }
        if self.failed.is_some() {
            return;
        }
        let text = match self.form {
            Form::Json => ringward_evidence::inspect::json_line(path, item) + "\n",
            Form::Human => human(path, item),
        };
        self.failed = self.out.write_all(text.as_bytes()).err();
    }

    fn finish(mut self) -> io::Result<Told> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.form == Form::Human {
            let Told { findings, gaps } = self.told;
            writeln!(self.out, "{findings} found, {gaps} not readable")?;
        }
        self.out.flush()?;
        Ok(self.told)
    }
}

/// One item for people. All of it comes cleaned out of the evidence crate, the path is cleaned here.
fn human(path: &str, item: &Item) -> String {
    let path = ringward_evidence::text::evidence(path);
    match item {
        Item::Unreadable(gap) => format!(
            "{path}: not readable at byte {}: {}\n",
            gap.offset, gap.error
        ),
        Item::Finding(finding) => {
            let mut text = format!("{path}: {}: {}\n", finding.kind, finding.title);
            for (name, value) in facts(finding) {
                text.push_str(&format!("    {name:<12} {value}\n"));
            }
            text
        }
    }
}

/// Facts worth a line of their own: short values, and lists of them.
fn facts(finding: &Finding) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let named = [
        ("module", finding.module.as_deref()),
        ("function", finding.function.as_deref()),
        ("key", Some(finding.key.as_str())),
    ];
    for (name, value) in named {
        facts.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    for (name, value) in &finding.evidence {
        let shown = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(parts) => {
                let texts: Vec<&str> = parts.iter().filter_map(|part| part.as_str()).collect();
                match texts.is_empty() {
                    true => value.to_string(),
                    false => texts.join(" < "),
                }
            }
            other => other.to_string(),
        };
        if !shown.is_empty() {
            facts.push((name.clone(), ringward_evidence::text::evidence(&shown)));
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PANIC: &[u8] = b"[    1.000000] Kernel panic - not syncing: attempted to kill init\n";

    fn told(paths: &[&Path], form: Form) -> (Told, String) {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let mut out = Vec::new();
        let told = run(&paths, form, &mut out).unwrap();
        (told, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_folder_is_read_to_its_bottom_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("kern.log"), PANIC).unwrap();
        std::os::unix::fs::symlink(&deep, root.path().join("again")).unwrap();
        std::os::unix::fs::symlink(deep.join("kern.log"), root.path().join("once-more")).unwrap();
        let (told, text) = told(&[root.path()], Form::Json);
        assert_eq!((told.findings, told.gaps), (1, 0), "{text}");
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["kind"], "kernel-panic");
        assert!(line["evidence"].is_object() && line["key"].is_string());
    }

    #[test]
    fn devices_links_and_what_is_not_there_are_told_and_the_rest_is_read() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("kern.log");
        let link = root.path().join("link");
        std::fs::write(&log, PANIC).unwrap();
        std::os::unix::fs::symlink(&log, &link).unwrap();
        let gone = root.path().join("gone");
        let (told, text) = told(&[Path::new("/dev/zero"), &link, &gone, &log], Form::Human);
        assert_eq!((told.findings, told.gaps), (1, 3), "{text}");
        assert!(text.contains("a device, not read") && text.contains("not followed"));
        assert!(text.ends_with("1 found, 3 not readable\n"));
    }

    #[test]
    fn files_whose_size_the_kernel_does_not_tell_have_an_end() {
        let (told, text) = told(&[Path::new("/proc/self/status")], Form::Json);
        assert_eq!(told.findings, 0, "{text}");
    }

    #[test]
    fn a_loop_of_folders_is_not_entered_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let mut deep = root.path().to_owned();
        for _ in 0..DEPTH_MAX + 2 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        let (told, text) = told(&[root.path()], Form::Human);
        assert_eq!(told.gaps, 1, "{text}");
        assert!(text.contains("folders deep"));
    }
}
