//! The store's folder: taken by one process, cleared of what makes sled refuse to open, made durable.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::sled::Db;

use super::Options;
use crate::StoreError;

/// Bytes of a sled segment. The largest commit is half of it; sled reuses a segment no earlier than
/// one whole segment after what replaced it was written, and each group is synced before the next.
const SEGMENT_BYTES: usize = 2 << 20;

/// Files set aside that are kept, newest first.
const SET_ASIDE_KEPT: usize = 16;

/// How long a database just closed in this process may keep its file locked.
const CLOSING: Duration = Duration::from_secs(2);

/// Subfolder of files set aside.
pub(crate) const SET_ASIDE: &str = "set-aside";

/// The folder, held by this process until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// An open database with the second handle of its file.
#[derive(Debug)]
pub(crate) struct Opened {
    /// sled.
    pub db: Db,
    /// The `db` file, to sync.
    pub file: File,
    /// Names of the files that had to be set aside.
    pub set_aside: Vec<String>,
}

impl Folder {
    /// Makes the folder if absent and takes it.
    pub fn take(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let failed = |why: io::Error| failed("taking the store's folder", path, &why);
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(failed)?;
            sync_parent(path, options).map_err(failed)?;
        }
        let mut file = OpenOptions::new();
        let file = file.create(true).truncate(false).write(true);
        let lock = file.open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Failed {
                doing: format!("opening the store in {}", path.display()),
                why: "it is open already, in this or another process".into(),
                next: "stop the other ringward-server, or give this one its own data folder",
            }),
            Err(TryLockError::Error(why)) => Err(failed(why)),
        }
    }

    /// The `db` file.
    pub fn db_path(&self) -> PathBuf {
        self.path.join("db")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database. `rewrite` after a failed sync: the system may have dropped the pages it
    /// could not write and yet show them, so every byte is written again before it is believed.
    pub fn open(&self, options: &Options, rewrite: bool) -> Result<Opened, StoreError> {
        let failed = |why: io::Error| failed("opening the store", &self.path, &why);
        let mut set_aside = self.set_torn_aside().map_err(failed)?;
        self.settle(options, rewrite).map_err(failed)?;
        let db = match self.open_sled(options) {
            Ok(db) => db,
            Err(OpenError::Broken(why)) => {
                let snapshots = snapshots(&self.path).map_err(failed)?;
                if snapshots.is_empty() {
                    return Err(damaged(&self.path, &why));
                }
                for name in snapshots {
                    self.set_aside(&name).map_err(failed)?;
                    set_aside.push(name);
                }
                self.open_sled(options)
                    .map_err(|again| again.report(&self.path))?
            }
            Err(other) => return Err(other.report(&self.path)),
        };
        let mut file = OpenOptions::new();
        let file = file.read(true).write(true).open(self.db_path());
        let file = file.map_err(failed)?;
        self.sync_all(&file, options).map_err(failed)?;
        Ok(Opened {
            db,
            file,
            set_aside,
        })
    }

    fn open_sled(&self, options: &Options) -> Result<Db, OpenError> {
        let config = ::sled::Config::new()
            .path(&self.path)
            .mode(::sled::Mode::LowSpace)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT_BYTES);
        let began = Instant::now();
        loop {
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => return Ok(db),
                Ok(Err(::sled::Error::Io(why))) => {
                    // Our own lock is held, so a locked `db` is one that is still being closed.
                    let closing = why.to_string().contains("could not acquire lock");
                    if !closing || began.elapsed() >= CLOSING {
                        return Err(OpenError::Io(why));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Err(why)) => return Err(OpenError::Broken(why.to_string())),
                Err(_) => return Err(OpenError::Broken("sled gave up while recovering".into())),
            }
        }
    }

    /// Makes what is there durable before sled reads it: what it reads it takes for durable, and
    /// writes a snapshot that relies on it.
    fn settle(&self, options: &Options, rewrite: bool) -> io::Result<()> {
        let path = self.db_path();
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        if rewrite {
            rewrite_all(&file)?;
        }
        options.disk.sync_data(&file, &path)
    }

    /// Makes the files' names and sled's settings durable, which sled leaves to chance.
    fn sync_all(&self, file: &File, options: &Options) -> io::Result<()> {
        let disk = &options.disk;
        let conf = self.path.join("conf");
        disk.sync_data(&OpenOptions::new().write(true).open(&conf)?, &conf)?;
        disk.sync_data(file, &self.db_path())?;
        disk.sync_folder(&self.path.join("blobs"))?;
        disk.sync_folder(&self.path)?;
        sync_parent(&self.path, options)
    }

    /// Sets aside settings and snapshots that do not check out, and snapshots never finished: sled
    /// takes the latter for the newest and refuses to open.
    fn set_torn_aside(&self) -> io::Result<Vec<String>> {
        let mut torn = Vec::new();
        for name in snapshots(&self.path)? {
            if name.ends_with(".generating") || !snapshot_sound(&self.path.join(&name))? {
                torn.push(name);
            }
        }
        if conf_torn(&self.path.join("conf"))? {
            torn.push("conf".into());
        }
        for name in &torn {
            self.set_aside(name)?;
        }
        Ok(torn)
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        let folder = self.path.join(SET_ASIDE);
        fs::create_dir_all(&folder)?;
        let mut kept = set_aside_names(&self.path)?;
        while kept.len() >= SET_ASIDE_KEPT {
            fs::remove_file(folder.join(kept.remove(0)))?;
        }
        let number = kept.last().and_then(|last| last.split('-').next());
        let number = number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) + 1;
        fs::rename(
            self.path.join(name),
            folder.join(format!("{number:08}-{name}")),
        )
    }
}

/// Why sled did not open.
enum OpenError {
    Io(io::Error),
    Broken(String),
}

impl OpenError {
    fn report(self, path: &Path) -> StoreError {
        match self {
            Self::Io(why) => failed("opening the store", path, &why),
            Self::Broken(why) => damaged(path, &why),
        }
    }
}

/// Names of sled's snapshots, finished or not, sorted.
pub(crate) fn snapshots(folder: &Path) -> io::Result<Vec<String>> {
    names(folder, |name| name.starts_with("snap."))
}

/// Names of the files set aside, oldest first.
pub(crate) fn set_aside_names(folder: &Path) -> io::Result<Vec<String>> {
    let folder = folder.join(SET_ASIDE);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    names(&folder, |_| true)
}

fn names(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if wanted(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a snapshot ends in its length and the checksum of its body (sled 0.34).
pub(crate) fn snapshot_sound(path: &Path) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    let Some(body) = bytes.len().checked_sub(12).filter(|body| *body > 0) else {
        return Ok(false);
    };
    let crc = crc32fast::hash(&bytes[..body]).to_le_bytes();
    Ok(bytes[body + 8..] == crc)
}

/// Whether sled's settings are there but do not end in their checksum.
pub(crate) fn conf_torn(path: &Path) -> io::Result<bool> {
    let bytes = match fs::read(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes?,
    };
    let Some(body) = bytes.len().checked_sub(4) else {
        return Ok(true);
    };
    Ok(bytes[body..] != crc32fast::hash(&bytes[..body]).to_le_bytes())
}

fn rewrite_all(mut file: &File) -> io::Result<()> {
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&chunk[..read])?;
        at += read as u64;
    }
}

fn sync_parent(path: &Path, options: &Options) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => options.disk.sync_folder(parent),
        _ => options.disk.sync_folder(Path::new(".")),
    }
}

fn failed(doing: &str, path: &Path, why: &io::Error) -> StoreError {
    StoreError::Failed {
        doing: format!("{doing} in {}", path.display()),
        why: why.to_string(),
        next: "check that the folder is writable and the disk has room and is sound",
    }
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError::Damaged {
        what: format!("the store in {}", path.display()),
        why: why.to_owned(),
    }
}
