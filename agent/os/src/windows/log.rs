//! Where the agent's log goes: to the console, or, as a service, to a file of bounded size.

use super::{places, service};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Two files of this size are kept.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

static FILE: Mutex<Option<Rotating>> = Mutex::new(None);

/// Where the next line goes.
#[must_use]
pub fn log_writer() -> Box<dyn Write> {
    match service::is_service() {
        true => Box::new(ToFile),
        false => Box::new(io::stderr()),
    }
}

struct Rotating {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Rotating {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 > FILE_BYTES_MAX {
            let new = self.path.with_extension("log.new");
            let next = File::create(&new)?;
            self.file = next;
            self.bytes = 0;
            std::fs::rename(&self.path, self.path.with_extension("log.old"))?;
            std::fs::rename(&new, &self.path)?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Lines of a service. What cannot be written is lost: a full disk must not stop the agent.
struct ToFile;

impl Write for ToFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            let folder = places::state_dir();
            if folder.is_dir() {
                *file = Rotating::open(folder.join("agent.log")).ok();
            }
        }
        if let Some(file) = file.as_mut() {
            file.write(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
