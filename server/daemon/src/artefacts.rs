//! Artefacts by their SHA-256: written beside, hashed while written, renamed into place only when
//! whole and right, so that a name in the folder always keeps its promise.

use crate::data_dir::create_private_dir;
use crate::error::ServerError;
use ring::digest::{Context, SHA256};
use ringward_domain::Sha256;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of one chunk on the wire.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// How an unfinished file's name ends.
const UNFINISHED: &str = ".part";

/// The folder of artefacts.
#[derive(Debug, Clone)]
pub struct Artefacts {
    folder: Arc<PathBuf>,
}

/// Why an artefact was not stored or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArtefactError {
    /// The disk failed.
    #[error("{doing} artefact {sha256}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To which.
        sha256: Sha256,
        /// What the system said.
        source: io::Error,
    },
    /// More or fewer bytes than the manifest says.
    #[error("artefact {sha256} must have {wanted} bytes but {got} came")]
    Size {
        /// Which.
        sha256: Sha256,
        /// By the manifest.
        wanted: u64,
        /// So far.
        got: u64,
    },
    /// The content is not what the manifest names.
    #[error("the content sent as artefact {sha256} has another digest ({got})")]
    Digest {
        /// Which.
        sha256: Sha256,
        /// What it is.
        got: Sha256,
    },
}

/// An artefact on its way in; an unfinished one leaves nothing behind.
#[derive(Debug)]
pub struct Receiving {
    sha256: Sha256,
    size: u64,
    got: u64,
    hash: Hash,
    file: File,
    temporary: PathBuf,
    folder: Arc<PathBuf>,
}

/// `Context` without a `Debug` that could print content.
struct Hash(Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

impl Artefacts {
    /// Opens the folder, makes it where it is absent, and drops unfinished files.
    ///
    /// # Errors
    /// Where the folder cannot be read or made.
    pub fn open(folder: PathBuf) -> Result<Self, ServerError> {
        create_private_dir(&folder)?;
        let entries =
            fs::read_dir(&folder).map_err(ServerError::file("listing the folder", &folder))?;
        for entry in entries {
            let path = entry
                .map_err(ServerError::file("listing the folder", &folder))?
                .path();
            if path.to_string_lossy().ends_with(UNFINISHED) {
                fs::remove_file(&path)
                    .map_err(ServerError::file("removing the unfinished file", &path))?;
            }
        }
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    /// Every whole artefact with its size, by name.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn all(&self) -> Result<Vec<(Sha256, u64)>, ServerError> {
        let reading = |source| ServerError::file("reading the folder", &self.folder)(source);
        let mut all = Vec::new();
        for entry in fs::read_dir(&*self.folder).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let name = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(sha256) = name {
                all.push((sha256, entry.metadata().map_err(reading)?.len()));
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    /// Whether it is here.
    pub fn has(&self, sha256: Sha256) -> bool {
        self.path(sha256).is_file()
    }

    fn path(&self, sha256: Sha256) -> PathBuf {
        self.folder.join(sha256.to_string())
    }

    /// Begins to receive one.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn receive(&self, sha256: Sha256, size: u64) -> Result<Receiving, ArtefactError> {
        let unique = ringward_domain::Nonce(crate::pki::random::<16>());
        let temporary = self.folder.join(format!("{sha256}.{unique}{UNFINISHED}"));
        let file = File::create_new(&temporary).map_err(|source| ArtefactError::Disk {
            doing: "creating",
            sha256,
            source,
        })?;
        Ok(Receiving {
            sha256,
            size,
            got: 0,
            hash: Hash(Context::new(&SHA256)),
            file,
            temporary,
            folder: Arc::clone(&self.folder),
        })
    }

    /// Opens one for reading from `offset`; answers the reader and the size, or `None` where it is
    /// not here.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn read(
        &self,
        sha256: Sha256,
        offset: u64,
    ) -> Result<Option<(Reading, u64)>, ArtefactError> {
        let disk = |source| ArtefactError::Disk {
            doing: "reading",
            sha256,
            source,
        };
        let mut file = match File::open(self.path(sha256)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk(error)),
        };
        let size = file.metadata().map_err(disk)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(disk)?;
        Ok(Some((
            Reading {
                sha256,
                file,
                offset,
            },
            size,
        )))
    }
}

impl Receiving {
    /// Takes the next piece.
    ///
    /// # Errors
    /// Where more comes than was announced, or the disk fails.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), ArtefactError> {
        let got = self.got.saturating_add(piece.len() as u64);
        if got > self.size {
            return Err(ArtefactError::Size {
                sha256: self.sha256,
                wanted: self.size,
                got,
            });
        }
        self.hash.0.update(piece);
        self.file
            .write_all(piece)
            .map_err(|source| ArtefactError::Disk {
                doing: "writing",
                sha256: self.sha256,
                source,
            })?;
        self.got = got;
        Ok(())
    }

    /// Bytes taken so far.
    pub fn got(&self) -> u64 {
        self.got
    }

    /// Checks size and digest, then makes it durable under its name.
    ///
    /// # Errors
    /// Where it is not what was announced, or the disk fails; nothing is left then.
    pub fn finish(self) -> Result<(), ArtefactError> {
        if self.got != self.size {
            return Err(ArtefactError::Size {
                sha256: self.sha256,
                wanted: self.size,
                got: self.got,
            });
        }
        let mut got = [0; 32];
        got.copy_from_slice(self.hash.0.clone().finish().as_ref());
        if got != self.sha256.0 {
            return Err(ArtefactError::Digest {
                sha256: self.sha256,
                got: Sha256(got),
            });
        }
        let settle = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.temporary, self.folder.join(self.sha256.to_string()))?;
            File::open(self.folder.as_path())?.sync_all()
        };
        settle().map_err(|source| ArtefactError::Disk {
            doing: "settling",
            sha256: self.sha256,
            source,
        })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // After `finish` the name is gone already; what else stays is removed at the next start.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// An artefact being read.
#[derive(Debug)]
pub struct Reading {
    sha256: Sha256,
    file: File,
    offset: u64,
}

impl Reading {
    /// The next chunk with its offset; `None` at the end.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn chunk(&mut self) -> Result<Option<(u64, Vec<u8>)>, ArtefactError> {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        (&self.file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut data)
            .map_err(|source| ArtefactError::Disk {
                doing: "reading",
                sha256: self.sha256,
                source,
            })?;
        if data.is_empty() {
            return Ok(None);
        }
        let at = self.offset;
        self.offset += data.len() as u64;
        Ok(Some((at, data)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::sha256;

    fn open() -> (tempfile::TempDir, Artefacts) {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(dir.path().join("artefacts")).unwrap();
        (dir, artefacts)
    }

    #[test]
    fn what_came_in_goes_out_from_any_offset() {
        let (_dir, artefacts) = open();
        let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let digest = sha256(&content);
        let mut receiving = artefacts.receive(digest, content.len() as u64).unwrap();
        for piece in content.chunks(30_000) {
            receiving.write(piece).unwrap();
        }
        assert!(!artefacts.has(digest));
        receiving.finish().unwrap();
        assert!(artefacts.has(digest));
        let (mut reading, size) = artefacts.read(digest, 70_000).unwrap().unwrap();
        assert_eq!(size, 200_000);
        let mut got = Vec::new();
        while let Some((at, data)) = reading.chunk().unwrap() {
            assert_eq!(at, 70_000 + got.len() as u64);
            got.extend_from_slice(&data);
        }
        assert_eq!(got, content[70_000..]);
    }

    #[test]
    fn wrong_content_leaves_nothing_behind() {
        let (dir, artefacts) = open();
        let digest = sha256(b"right");
        let mut wrong = artefacts.receive(digest, 5).unwrap();
        wrong.write(b"wrong").unwrap();
        assert!(matches!(wrong.finish(), Err(ArtefactError::Digest { .. })));
        let mut short = artefacts.receive(digest, 5).unwrap();
        short.write(b"rig").unwrap();
        assert!(matches!(short.finish(), Err(ArtefactError::Size { .. })));
        let mut long = artefacts.receive(digest, 5).unwrap();
        assert!(long.write(b"right and more").is_err());
        drop(long);
        assert_eq!(
            fs::read_dir(dir.path().join("artefacts")).unwrap().count(),
            0
        );
    }
}
