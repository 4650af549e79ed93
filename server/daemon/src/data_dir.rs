//! Where everything lies below `--data`, and how files are written there: whole or not at all, and
//! secrets readable by their owner only.

use crate::error::ServerError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data directory of one server.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Names a directory; touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("server.toml")
    }
    /// Who is seated by the first start, one name a line.
    pub fn seats(&self) -> PathBuf {
        self.root.join("seats")
    }
    /// The names in it; in a folder made before there were seats, those who were given a context.
    pub fn first_people(&self) -> Vec<String> {
        if let Ok(text) = std::fs::read_to_string(self.seats()) {
            return text.lines().map(str::to_owned).collect();
        }
        let files = std::fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| {
                let name = file.file_name().into_string().ok()?;
                name.strip_suffix(".context.toml").map(str::to_owned)
            })
            .collect()
    }
    /// Ring policy that the first start puts in force.
    pub fn rings(&self) -> PathBuf {
        self.root.join("rings.toml")
    }
    /// Certificates and keys.
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }
    /// The store.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }
    /// Artefacts by their SHA-256.
    pub fn artefacts(&self) -> PathBuf {
        self.root.join("artefacts")
    }
    /// The keys that may sign releases; public keys only.
    pub fn release_root(&self) -> PathBuf {
        self.root.join("release-root.json")
    }
    /// The signed roots that led to it from the first one, in order.
    pub fn release_roots(&self) -> PathBuf {
        self.root.join("release-roots.json")
    }
    /// The first admin's context for `ringwardctl`.
    pub fn admin_context(&self, admin: &str) -> PathBuf {
        self.root.join(format!("{admin}.context.toml"))
    }
    /// Chosen addresses of the running server.
    pub fn addresses(&self) -> PathBuf {
        self.root.join("run").join("addresses.json")
    }
}

/// Creates a directory that only its owner may enter; its parents keep the usual mode.
pub(crate) fn create_private_dir(path: &Path) -> Result<(), ServerError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ServerError::file("creating the folder", parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(ServerError::file("creating the folder", path)(error)),
    }
}

/// Writes a file whole or not at all: a temporary file, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ServerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = folder.join(name);
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(ServerError::file("writing", path))
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ServerError> {
    let length = fs::metadata(path)
        .map_err(ServerError::file("reading", path))?
        .len();
    if length > bytes_max {
        return Err(ServerError::refused(
            format!("{} has {length} bytes", path.display()),
            format!("at most {bytes_max} make sense there; check the path"),
        ));
    }
    fs::read(path).map_err(ServerError::file("reading", path))
}

/// Refuses a secret that others than its owner may read or write.
pub(crate) fn check_private(path: &Path) -> Result<(), ServerError> {
    let mode = fs::metadata(path)
        .map_err(ServerError::file("checking the mode of", path))?
        .mode();
    if mode & 0o077 != 0 {
        return Err(ServerError::refused(
            format!(
                "{} may be read by others (mode {:03o})",
                path.display(),
                mode & 0o777
            ),
            format!("chmod go= {}", path.display()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_readable_by_its_owner_only_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_whole(&path, b"one", 0o600).unwrap();
        write_whole(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        check_private(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_whole(&path, b"one", 0o640).unwrap();
        let error = check_private(&path).unwrap_err();
        assert!(error.to_string().contains("chmod go="), "{error}");
    }
}
