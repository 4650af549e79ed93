//! A disk as a power cut sees it: what was synced, and what was only written.

use crate::record::Call;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that a device writes whole or not at all.
const SECTOR: u64 = 512;

/// What a folder holds, by path below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Image(BTreeMap<PathBuf, Thing>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Thing {
    File(Vec<u8>),
    Link(PathBuf),
    Folder,
}

/// What a name stands for.
#[derive(Debug, Clone)]
enum Entry {
    File(usize),
    Link(PathBuf),
    Folder(usize),
}

/// Names in one folder.
type Names = BTreeMap<OsString, Entry>;

/// A change of names, which happens as a whole: a rename changes two folders.
#[derive(Debug, Clone)]
struct NameChange(Vec<(usize, OsString, Option<Entry>)>);

#[derive(Debug, Clone)]
enum ByteChange {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Content {
    durable: Vec<u8>,
    unsynced: Vec<ByteChange>,
}

/// What a cut lets survive of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// Everything: what a SIGKILL leaves.
    Everything,
    /// Every name, no byte: new files are empty.
    NamesOnly,
    /// Every byte of files whose names were synced.
    BytesOnly,
    /// Everything, but the newest write only in part.
    TornTail(u64),
    /// Any sectors of any writes, any names in their order.
    Any(u64),
    /// Any sectors of any writes, any names, and lengths without their bytes.
    Scattered(u64),
}

/// The disk.
#[derive(Debug)]
pub struct Disk {
    contents: Vec<Content>,
    by_inode: BTreeMap<u64, usize>,
    /// Names in each folder as the process sees them; the first folder is the root.
    seen: Vec<Names>,
    /// Names that a cut leaves.
    durable: Vec<Names>,
    unsynced: Vec<NameChange>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            contents: Vec::new(),
            by_inode: BTreeMap::new(),
            seen: vec![Names::new()],
            durable: vec![Names::new()],
            unsynced: Vec::new(),
        }
    }
}

fn change(folders: &mut [Names], NameChange(parts): &NameChange) {
    for (folder, name, entry) in parts {
        match entry {
            Some(entry) => folders[*folder].insert(name.clone(), entry.clone()),
            None => folders[*folder].remove(name),
        };
    }
}

fn write(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

fn apply(bytes: &mut Vec<u8>, change: &ByteChange) {
    match change {
        ByteChange::Write(at, data) => write(bytes, *at, data),
        ByteChange::Length(length) => {
            bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
        }
    }
}

impl Disk {
    /// Carries out one call.
    pub fn carry_out(&mut self, call: &Call) {
        match call {
            Call::Create(inode, path) => {
                self.contents.push(Content::default());
                let id = self.contents.len() - 1;
                // A number that was freed is given again: it is another file now.
                self.by_inode.insert(*inode, id);
                self.name(&[(path, Some(Entry::File(id)))]);
            }
            Call::Write(inode, at, data) => {
                self.bytes(*inode, ByteChange::Write(*at, data.clone()));
            }
            Call::SetLength(inode, length) => self.bytes(*inode, ByteChange::Length(*length)),
            Call::Sync(inode) => {
                if let Some(content) = self.content(*inode) {
                    let unsynced = std::mem::take(&mut content.unsynced);
                    for change in &unsynced {
                        apply(&mut content.durable, change);
                    }
                }
            }
            Call::SyncFolder(path) => self.sync_folder(path),
            Call::Rename(from, to) => {
                let moved = self.find(from);
                self.name(&[(from, None), (to, moved)]);
            }
            Call::Link(target, path) => {
                self.name(&[(path, Some(Entry::Link(target.clone())))]);
            }
            Call::Remove(path) | Call::RemoveFolder(path) => self.name(&[(path, None)]),
            Call::MakeFolder(path) => {
                self.seen.push(Names::new());
                self.durable.push(Names::new());
                let id = self.seen.len() - 1;
                self.name(&[(path, Some(Entry::Folder(id)))]);
            }
            Call::Say(_) => {}
        }
    }

    /// The folder at a path below the root, as the process sees it.
    fn folder(&self, path: &Path) -> Option<usize> {
        path.iter()
            .try_fold(0, |folder, name| match self.seen[folder].get(name) {
                Some(Entry::Folder(id)) => Some(*id),
                _ => None,
            })
    }

    fn find(&self, path: &Path) -> Option<Entry> {
        let folder = self.folder(path.parent()?)?;
        self.seen[folder].get(path.file_name()?).cloned()
    }

    fn name(&mut self, parts: &[(&PathBuf, Option<Entry>)]) {
        let parts = parts.iter().filter_map(|(path, entry)| {
            let folder = self.folder(path.parent()?)?;
            Some((folder, path.file_name()?.to_owned(), entry.clone()))
        });
        let changed = NameChange(parts.collect());
        change(&mut self.seen, &changed);
        self.unsynced.push(changed);
    }

    /// A rename is one transaction: the sync of either folder takes the whole of it along.
    fn sync_folder(&mut self, path: &Path) {
        let Some(folder) = self.folder(path) else {
            return;
        };
        for changed in std::mem::take(&mut self.unsynced) {
            match changed.0.iter().any(|(of, _, _)| *of == folder) {
                true => change(&mut self.durable, &changed),
                false => self.unsynced.push(changed),
            }
        }
    }

    fn content(&mut self, inode: u64) -> Option<&mut Content> {
        let id = self.by_inode.get(&inode)?;
        self.contents.get_mut(*id)
    }

    fn bytes(&mut self, inode: u64, change: ByteChange) {
        if let Some(content) = self.content(inode) {
            content.unsynced.push(change);
        }
    }

    /// What the folder holds after a cut now.
    #[must_use]
    pub fn after(&self, cut: Cut) -> Image {
        let mut random = fastrand::Rng::with_seed(match cut {
            Cut::TornTail(seed) | Cut::Any(seed) | Cut::Scattered(seed) => seed,
            _ => 0,
        });
        let folders = self.names_after(cut, &mut random);
        let chance = random.u32(1..=15);
        let mut image = Image::default();
        let mut open = vec![(0, PathBuf::new())];
        while let Some((folder, at)) = open.pop() {
            for (name, entry) in &folders[folder] {
                let path = at.join(name);
                let thing = match entry {
                    Entry::Folder(id) => {
                        open.push((*id, path.clone()));
                        Thing::Folder
                    }
                    Entry::Link(target) => Thing::Link(target.clone()),
                    Entry::File(id) => {
                        Thing::File(bytes_after(&self.contents[*id], cut, chance, &mut random))
                    }
                };
                image.0.insert(path, thing);
            }
        }
        image
    }

    fn names_after(&self, cut: Cut, random: &mut fastrand::Rng) -> Vec<Names> {
        let mut names = self.durable.clone();
        let keep = random.usize(0..=self.unsynced.len());
        for (index, changed) in self.unsynced.iter().enumerate() {
            let survives = match cut {
                Cut::Nothing | Cut::BytesOnly => false,
                Cut::Everything | Cut::NamesOnly | Cut::TornTail(_) => true,
                Cut::Any(_) => index < keep,
                Cut::Scattered(_) => random.bool(),
            };
            if survives {
                change(&mut names, changed);
            }
        }
        names
    }
}

fn bytes_after(content: &Content, cut: Cut, chance: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = content.durable.clone();
    let newest = content.unsynced.len();
    for (index, changed) in content.unsynced.iter().enumerate() {
        match cut {
            Cut::Nothing | Cut::NamesOnly => {}
            Cut::Everything | Cut::BytesOnly => apply(&mut bytes, changed),
            Cut::TornTail(_) => match changed {
                ByteChange::Write(at, data) if index + 1 == newest => {
                    write(&mut bytes, *at, &data[..random.usize(0..data.len().max(1))]);
                }
                _ => apply(&mut bytes, changed),
            },
            Cut::Any(_) | Cut::Scattered(_) => {
                scatter(&mut bytes, changed, chance, random);
                if let (Cut::Scattered(_), ByteChange::Write(at, data)) = (cut, changed) {
                    let end = usize::try_from(*at).unwrap_or(usize::MAX) + data.len();
                    if bytes.len() < end && random.bool() {
                        bytes.resize(end, 0);
                    }
                }
            }
        }
    }
    bytes
}

/// Lets each sector of a write arrive or not.
fn scatter(bytes: &mut Vec<u8>, change: &ByteChange, chance: u32, random: &mut fastrand::Rng) {
    let ByteChange::Write(at, data) = change else {
        if random.u32(0..16) < chance {
            apply(bytes, change);
        }
        return;
    };
    let (mut from, end) = (*at, *at + data.len() as u64);
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if random.u32(0..16) < chance {
            let range =
                usize::try_from(from - at).unwrap_or(0)..usize::try_from(to - at).unwrap_or(0);
            write(bytes, from, &data[range]);
        }
        from = to;
    }
}

impl Image {
    /// A number that differs where images differ.
    #[must_use]
    pub fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// Lays it down in an empty folder.
    ///
    /// # Errors
    /// The disk of this machine fails.
    pub fn lay_down(&self, folder: &Path) -> io::Result<()> {
        // A folder sorts before what is in it.
        for (path, thing) in &self.0 {
            let path = folder.join(path);
            match thing {
                Thing::Folder => fs::create_dir(&path)?,
                Thing::Link(target) => std::os::unix::fs::symlink(target, &path)?,
                Thing::File(bytes) => fs::write(&path, bytes)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> Image {
        Image([(PathBuf::from(name), Thing::File(bytes.to_vec()))].into())
    }

    #[test]
    fn only_synced_bytes_under_a_synced_name_survive_the_worst_cut() {
        let mut disk = Disk::default();
        disk.carry_out(&Call::Create(7, "new".into()));
        disk.carry_out(&Call::Write(7, 0, b"synced".to_vec()));
        disk.carry_out(&Call::Sync(7));
        disk.carry_out(&Call::Write(7, 6, b" not".to_vec()));
        assert_eq!(disk.after(Cut::Nothing), Image::default());
        assert_eq!(disk.after(Cut::NamesOnly), file("new", b"synced"));
        assert_eq!(disk.after(Cut::Everything), file("new", b"synced not"));
        disk.carry_out(&Call::SyncFolder("".into()));
        assert_eq!(disk.after(Cut::Nothing), file("new", b"synced"));
        disk.carry_out(&Call::Rename("new".into(), "old".into()));
        assert_eq!(disk.after(Cut::Nothing), file("new", b"synced"));
        assert_eq!(disk.after(Cut::Everything), file("old", b"synced not"));
    }

    #[test]
    fn a_torn_tail_is_a_prefix_and_scattered_sectors_are_whole() {
        let mut disk = Disk::default();
        disk.carry_out(&Call::Create(7, "f".into()));
        disk.carry_out(&Call::SyncFolder("".into()));
        disk.carry_out(&Call::Write(7, 0, vec![1; 2048]));
        for seed in 0..64 {
            let Some(Thing::File(torn)) = disk.after(Cut::TornTail(seed)).0.remove(Path::new("f"))
            else {
                panic!("the file is gone");
            };
            assert!(torn.len() < 2048 && torn.iter().all(|byte| *byte == 1));
            let Some(Thing::File(any)) = disk.after(Cut::Any(seed)).0.remove(Path::new("f")) else {
                panic!("the file is gone");
            };
            assert!(any.len().is_multiple_of(512));
        }
    }
}
