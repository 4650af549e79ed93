//! The boot loader's part of a trial: systemd-boot counts the tries of an entry whose name ends in
//! `+LEFT-DONE.conf`, and starts another one when none is left. What it cannot do is bring a kernel
//! back that panics before the guard: a stock one waits for ever. So the entries that are counted are
//! told to reboot while a release is on trial, by one line of their own, which is taken out after it.
//!
//! An entry with that line and no tries left, in a boot of another entry, is the loader's word that the
//! release's kernel never came up.

use crate::files::{Files, SystemFiles};
use crate::trial::PANIC_REBOOT_S;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// Where the system that loads the kernel may be mounted.
const FOLDERS: [&str; 3] = [
    "/efi/loader/entries",
    "/boot/loader/entries",
    "/boot/efi/loader/entries",
];
/// Of no meaning to a kernel; in its command line it says which entry was started.
const MARK: &str = "ringward.trial";
/// A menu is a screen long; a folder with more entries is none.
const ENTRIES_MAX: usize = 256;

/// Where entries lie and the command line of this boot.
#[derive(Debug, Clone)]
pub struct Entries {
    folders: Vec<PathBuf>,
    command_line: PathBuf,
}

impl Default for Entries {
    fn default() -> Self {
        Self {
            folders: FOLDERS.iter().map(PathBuf::from).collect(),
            command_line: PathBuf::from("/proc/cmdline"),
        }
    }
}

impl Entries {
    /// From other places than the real ones.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            folders: vec![root.join("loader/entries")],
            command_line: root.join("cmdline"),
        }
    }

    /// Counted entries reboot after a panic, from their next boot on. One that says itself when it
    /// reboots keeps its own time. Idempotent; answers how many there are.
    ///
    /// # Errors
    /// An entry cannot be read or written.
    pub fn begin(&self) -> io::Result<usize> {
        let mut counted = 0;
        for path in self.all()? {
            if tries_left(&path).is_none_or(|left| left == 0) {
                continue;
            }
            counted += 1;
            let text = read(&path)?;
            if is_marked(&text) {
                continue;
            }
            let own = options(&text).any(|word| word.starts_with("panic="));
            let end = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            replace(&path, &format!("{text}{end}{}\n", line(own)))?;
        }
        Ok(counted)
    }

    /// As they were before [`Entries::begin`], those too that were renamed since. Idempotent.
    ///
    /// # Errors
    /// An entry cannot be read or written.
    pub fn end(&self) -> io::Result<()> {
        let ours = [line(false), line(true)];
        for path in self.all()? {
            let text = read(&path)?;
            if is_marked(&text) {
                let kept = text
                    .split_inclusive('\n')
                    .filter(|part| !ours.iter().any(|own| own == part.trim_end()));
                replace(&path, &kept.collect::<String>())?;
            }
        }
        Ok(())
    }

    /// Whether the loader has given an entry up that was on trial, and started another one.
    ///
    /// # Errors
    /// Entries or the command line cannot be read.
    pub fn gave_up(&self) -> io::Result<bool> {
        let command_line = read(&self.command_line)?;
        if command_line.split_whitespace().any(|word| word == MARK) {
            return Ok(false);
        }
        for path in self.all()? {
            if tries_left(&path) == Some(0) && is_marked(&read(&path)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn all(&self) -> io::Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for folder in &self.folders {
            let names = SystemFiles.list(folder)?;
            let entries = names.iter().map(|name| folder.join(name));
            all.extend(
                entries
                    .filter(|path| path.extension() == Some(OsStr::new("conf")))
                    .take(ENTRIES_MAX),
            );
        }
        Ok(all)
    }
}

fn line(has_own_time: bool) -> String {
    match has_own_time {
        true => format!("options {MARK}"),
        false => format!("options panic={PANIC_REBOOT_S} {MARK}"),
    }
}

/// The words of all `options` lines: the loader puts them one after another.
fn options(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("options"))
        .flat_map(str::split_whitespace)
}

fn is_marked(text: &str) -> bool {
    options(text).any(|word| word == MARK)
}

/// Tries left of `NAME+LEFT.conf` or `NAME+LEFT-DONE.conf`; `None` = not counted.
fn tries_left(path: &Path) -> Option<u32> {
    let (_, counter) = path.file_stem()?.to_str()?.rsplit_once('+')?;
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u32>().ok()).flatten()
    };
    number(done)?;
    number(left)
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = SystemFiles.read(path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A cut in between leaves the entry as it was, as it shall be, or (the file system is FAT) none: then
/// the loader starts the one before it.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("ringward");
    SystemFiles.write(&new, text.as_bytes())?;
    SystemFiles.sync(&new)?;
    SystemFiles.rename(&new, path)?;
    SystemFiles.sync(path.parent().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    const TEXT: &str = "title New\nlinux /new\noptions root=/dev/vda quiet\n";

    fn place(entries: &[(&str, &str)], command_line: &str) -> (tempfile::TempDir, Entries) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("loader/entries");
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in entries {
            fs::write(folder.join(name), text).unwrap();
        }
        fs::write(root.path().join("cmdline"), command_line).unwrap();
        let entries = Entries::at(root.path());
        (root, entries)
    }

    fn entry(root: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(root.path().join("loader/entries").join(name)).unwrap()
    }

    #[test]
    fn counted_entries_reboot_after_a_panic_until_the_trial_ends() {
        let entries = [
            ("new+3.conf", TEXT),
            ("old.conf", TEXT),
            ("odd+x.conf", TEXT),
        ];
        let (root, loader) = place(&entries, "");
        assert_eq!(loader.begin().unwrap(), 1);
        assert_eq!(loader.begin().unwrap(), 1);
        let marked = entry(&root, "new+3.conf");
        assert_eq!(marked, format!("{TEXT}options panic=30 ringward.trial\n"));
        assert_eq!(entry(&root, "old.conf"), TEXT);
        assert_eq!(entry(&root, "odd+x.conf"), TEXT);
        // Blessed: the counter is gone, the line is not.
        let folder = root.path().join("loader/entries");
        fs::rename(folder.join("new+3.conf"), folder.join("new.conf")).unwrap();
        loader.end().unwrap();
        loader.end().unwrap();
        assert_eq!(entry(&root, "new.conf"), TEXT);
        assert_eq!(fs::read_dir(folder).unwrap().count(), 3);
    }

    #[test]
    fn an_entry_that_reboots_by_itself_keeps_its_own_time() {
        let own = "linux /new\noptions root=/dev/vda panic=5";
        let (root, loader) = place(&[("new+3.conf", own)], "");
        loader.begin().unwrap();
        let marked = entry(&root, "new+3.conf");
        assert_eq!(marked, format!("{own}\noptions ringward.trial\n"));
        loader.end().unwrap();
        assert_eq!(entry(&root, "new+3.conf"), format!("{own}\n"));
    }

    #[test]
    fn only_an_entry_on_trial_without_tries_in_a_boot_of_another_was_given_up() {
        let marked = format!("{TEXT}options panic=30 ringward.trial\n");
        let gave_up = |name: &str, text: &str, line: &str| {
            let (_root, loader) = place(&[(name, text)], line);
            loader.gave_up().unwrap()
        };
        assert!(gave_up("new+0-3.conf", &marked, "root=/dev/vda quiet\n"));
        assert!(!gave_up("new+1-2.conf", &marked, "quiet"), "a person chose");
        assert!(
            !gave_up("new+0-3.conf", TEXT, "quiet"),
            "older than the trial"
        );
        let itself = "quiet panic=30 ringward.trial\n";
        assert!(!gave_up("new+0-3.conf", &marked, itself), "its last try");
    }

    #[test]
    fn a_host_without_such_a_loader_has_no_entries() {
        let root = tempfile::tempdir().unwrap();
        let loader = Entries::at(root.path());
        assert_eq!(loader.begin().unwrap(), 0);
        assert!(!loader.gave_up().unwrap());
        loader.end().unwrap();
    }
}
