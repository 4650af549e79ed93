//! The few file operations that the spool needs, as a seam where tests inject faults.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The files of one spool, named by number.
pub trait Files {
    /// Every file there is, in any order.
    ///
    /// # Errors
    /// The folder cannot be listed.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// The whole content of a file.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, number: u64) -> io::Result<Vec<u8>>;
    /// Append to a file, which is made where it is missing; with `sync` the bytes are on the disk
    /// when this returns.
    ///
    /// # Errors
    /// Any part of the bytes may have been written.
    fn append(&mut self, number: u64, bytes: &[u8], sync: bool) -> io::Result<()>;
    /// Put other content into a file: afterwards, power cut or not, it holds all of the old or all
    /// of the new.
    ///
    /// # Errors
    /// The file holds the old content.
    fn replace(&mut self, number: u64, bytes: &[u8]) -> io::Result<()>;
    /// Make the names of new files durable.
    ///
    /// # Errors
    /// New files may be gone after a power cut.
    fn sync_folder(&mut self) -> io::Result<()>;
    /// Remove a file; a missing one is removed already.
    ///
    /// # Errors
    /// The file may still be there.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// Real files in a folder of their own.
#[derive(Debug)]
pub struct DiskFiles {
    folder: PathBuf,
    /// The file appended to last.
    open: Option<(u64, File)>,
}

impl DiskFiles {
    /// Use this folder, making it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            open: None,
        })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:016x}.log"))
    }

    fn close(&mut self, number: u64) {
        if self.open.as_ref().is_some_and(|(open, _)| *open == number) {
            self.open = None;
        }
    }

    fn opened(&mut self, number: u64) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let mut options = OpenOptions::new();
            options.create(true).append(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(self.path(number))?;
            self.open = Some((number, file));
        }
        match &mut self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::Error::other("no file is open")),
        }
    }
}

impl Files for DiskFiles {
    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|digits| u64::from_str_radix(digits, 16).ok());
            numbers.extend(number);
        }
        Ok(numbers)
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(number))
    }

    fn append(&mut self, number: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        let file = self.opened(number)?;
        file.write_all(bytes)?;
        if sync { file.sync_data() } else { Ok(()) }
    }

    fn replace(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        self.close(number);
        let temporary = self.folder.join("replacement.new");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.path(number))?;
        self.sync_folder()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        ringward_guard::sync_folder(&self.folder)
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.close(number);
        match std::fs::remove_file(self.path(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
