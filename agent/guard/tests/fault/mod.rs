//! A disk that forgets what was not synced: a crash keeps any subset of the unsynced renames and
//! any part of the unsynced contents.

use ringward_guard::Files;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    File(usize),
    Link(PathBuf),
    Folder,
}

#[derive(Debug, Clone)]
enum Change {
    Set(PathBuf, Entry),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

type Entries = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Default, Clone)]
struct Disk {
    /// (durable, cached) content of each file ever made.
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    durable: Entries,
    cached: Entries,
    unsynced: Vec<Change>,
    operations: usize,
    fails_after: Option<usize>,
    forgets_sync: Option<fn(&Path) -> bool>,
}

/// The disk as [`Files`].
#[derive(Debug, Clone)]
pub struct FaultyFiles(Rc<RefCell<Disk>>);

/// A small seeded generator for the tests' choices.
pub struct Choices(pub u64);

impl Choices {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn apply(entries: &mut Entries, change: &Change) {
    match change {
        Change::Set(path, entry) => {
            entries.insert(path.clone(), entry.clone());
        }
        Change::Remove(path) => entries.retain(|at, _| !at.starts_with(path)),
        Change::Rename(from, to) => {
            if !entries.contains_key(from) {
                return;
            }
            entries.retain(|at, _| !at.starts_with(to));
            let moved: Vec<_> = entries
                .iter()
                .filter(|(at, _)| at.starts_with(from))
                .map(|(at, entry)| (at.clone(), entry.clone()))
                .collect();
            for (at, entry) in moved {
                entries.remove(&at);
                let rest = at.strip_prefix(from).expect("starts with it");
                let path = if rest.as_os_str().is_empty() {
                    to.clone()
                } else {
                    to.join(rest)
                };
                entries.insert(path, entry);
            }
        }
    }
}

fn folder_of(change: &Change) -> &Path {
    let (Change::Set(path, _) | Change::Remove(path) | Change::Rename(_, path)) = change;
    path.parent().unwrap_or(path)
}

impl FaultyFiles {
    pub fn new(root: &Path) -> Self {
        let mut disk = Disk::default();
        for folder in root.ancestors() {
            disk.durable.insert(folder.to_owned(), Entry::Folder);
        }
        disk.cached = disk.durable.clone();
        Self(Rc::new(RefCell::new(disk)))
    }

    /// From now on syncs of these paths do nothing: the fault the tests must notice.
    pub fn forget_syncs(&self, which: fn(&Path) -> bool) {
        self.0.borrow_mut().forgets_sync = Some(which);
    }

    pub fn operations(&self) -> usize {
        self.0.borrow().operations
    }

    /// Every operation after this many more fails, as if the power were gone.
    pub fn cut_after(&self, operations: usize) {
        let mut disk = self.0.borrow_mut();
        disk.fails_after = Some(disk.operations + operations);
    }

    /// What a machine finds after the cut.
    pub fn after_power_cut(&self, choices: &mut Choices) -> Self {
        let old = self.0.borrow();
        let mut disk = Disk {
            durable: old.durable.clone(),
            forgets_sync: old.forgets_sync,
            ..Disk::default()
        };
        let in_order = choices.below(2) == 0;
        let keep = choices.below(old.unsynced.len() + 1);
        for (index, change) in old.unsynced.iter().enumerate() {
            let kept = if in_order {
                index < keep
            } else {
                choices.below(2) == 0
            };
            if kept {
                apply(&mut disk.durable, change);
            }
        }
        disk.contents = old
            .contents
            .iter()
            .map(|(durable, cached)| {
                let kept = match choices.below(4) {
                    _ if durable == cached => cached.clone(),
                    0 => durable.clone(),
                    1 => cached.clone(),
                    2 => cached[..choices.below(cached.len() + 1)].to_vec(),
                    _ => vec![0; cached.len()],
                };
                (kept.clone(), kept)
            })
            .collect();
        disk.cached = disk.durable.clone();
        Self(Rc::new(RefCell::new(disk)))
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.count()?;
        apply(&mut disk.cached, &change);
        disk.unsynced.push(change);
        Ok(())
    }
}

impl Disk {
    fn count(&mut self) -> io::Result<()> {
        if self
            .fails_after
            .is_some_and(|after| self.operations >= after)
        {
            return Err(io::Error::other("power is gone"));
        }
        self.operations += 1;
        Ok(())
    }
}

impl Files for FaultyFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let disk = self.0.borrow();
        Ok(match disk.cached.get(path) {
            Some(Entry::File(id)) => Some(disk.contents[*id].1.clone()),
            _ => None,
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let existing = match self.0.borrow().cached.get(path) {
            Some(Entry::File(id)) => Some(*id),
            _ => None,
        };
        if let Some(id) = existing {
            let mut disk = self.0.borrow_mut();
            disk.count()?;
            disk.contents[id].1 = bytes.to_vec();
            return Ok(());
        }
        let id = {
            let mut disk = self.0.borrow_mut();
            disk.contents.push((Vec::new(), bytes.to_vec()));
            disk.contents.len() - 1
        };
        self.change(Change::Set(path.to_owned(), Entry::File(id)))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.count()?;
        if disk.forgets_sync.is_some_and(|forgets| forgets(path)) {
            return Ok(());
        }
        match disk.cached.get(path).cloned() {
            Some(Entry::File(id)) => disk.contents[id].0 = disk.contents[id].1.clone(),
            Some(Entry::Folder) => {
                let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut disk.unsynced)
                    .into_iter()
                    .partition(|change| folder_of(change) == path);
                disk.unsynced = later;
                for change in now {
                    // A synced folder names what was moved into it, wherever that came from.
                    if let Change::Rename(from, to) = &change
                        && let Some(entry) = disk.cached.get(to).cloned()
                    {
                        disk.durable.entry(from.clone()).or_insert(entry);
                    }
                    apply(&mut disk.durable, &change);
                }
            }
            _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.0.borrow().cached.contains_key(from) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        if self.0.borrow().cached.contains_key(link) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        self.change(Change::Set(link.to_owned(), Entry::Link(target.to_owned())))
    }

    fn link_target(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        Ok(match self.0.borrow().cached.get(link) {
            Some(Entry::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|folder| !self.0.borrow().cached.contains_key(*folder))
            .map(Path::to_owned)
            .collect();
        missing
            .into_iter()
            .rev()
            .try_for_each(|folder| self.change(Change::Set(folder, Entry::Folder)))
    }

    fn is_folder(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.borrow().cached.get(path) == Some(&Entry::Folder))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.0.borrow();
        let names = disk.cached.keys();
        Ok(names
            .filter(|at| at.parent() == Some(path))
            .filter_map(|at| at.file_name().map(OsString::from))
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.0.borrow().cached.contains_key(path) {
            return Ok(());
        }
        self.change(Change::Remove(path.to_owned()))
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }
}
