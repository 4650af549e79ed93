//! The steps that decide what survives a crash, behind a trait so that tests can fail or drop them.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

/// What the embedded store asks of the file system beside sled's own reads and writes.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes what was written to the file durable, its size too, through the device's cache.
    ///
    /// # Errors
    /// As the system says; the store then counts nothing since the last success as durable.
    fn sync_data(&self, file: &File, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Bytes the store may still use on the file system of the folder.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn sync_data(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        fs4::available_space(folder)
    }
}
