//! Fetching from the server: small answers whole, artefacts from where an earlier try stopped.

use super::hash_from_start;
use super::mirror::Mirrors;
use ringward_domain::manifest::{Artefact, Envelope};
use ringward_domain::{ReleaseDigest, Sha256};
use ringward_wire::authority::BUNDLES_MAX;
use ringward_wire::pb;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::pb::trust_service_client::TrustServiceClient;
use ringward_wire::roots::ROOTS_MAX;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Channel;

/// An answer, or the next chunk of one, comes within this, or the source is given up for now.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server refused or the connection broke.
    #[error("fetching {what}: {status}")]
    Server {
        /// What was fetched.
        what: String,
        /// In the server's words.
        status: String,
    },
    /// Nothing came for too long.
    #[error("fetching {what}: nothing came for {} s", ANSWER_TIMEOUT.as_secs())]
    Late {
        /// What was fetched.
        what: String,
    },
    /// What came cannot be right.
    #[error("fetching {what}: {why}")]
    Malformed {
        /// What was fetched.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The disk failed or is full.
    #[error("writing {path}; make space and check the disk")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn server(what: &str) -> impl Fn(tonic::Status) -> FetchError + '_ {
    move |status| FetchError::Server {
        what: what.to_owned(),
        status: format!("{:?}: {}", status.code(), status.message()),
    }
}

fn late(what: &str) -> impl Fn(tokio::time::error::Elapsed) -> FetchError + '_ {
    move |_| FetchError::Late {
        what: what.to_owned(),
    }
}

/// Name of a download under way in the staging folder.
pub(super) fn part_name(sha256: &Sha256) -> String {
    format!("{sha256}.part")
}

/// The signed manifest of a release. Nothing of it is believed yet.
pub(super) async fn release(
    channel: Channel,
    release: ReleaseDigest,
) -> Result<Envelope, FetchError> {
    let what = format!("release {release}");
    let request = pb::GetReleaseRequest {
        release: release.0.to_vec(),
    };
    let mut client = AgentServiceClient::new(channel);
    let response = timeout(ANSWER_TIMEOUT, client.get_release(request))
        .await
        .map_err(late(&what))?
        .map_err(server(&what))?;
    let malformed = |why: String| FetchError::Malformed {
        what: what.clone(),
        why,
    };
    let envelope = response.into_inner().envelope;
    let envelope = envelope.ok_or_else(|| malformed("the answer holds no envelope".to_owned()))?;
    Envelope::try_from(envelope).map_err(|error| malformed(error.to_string()))
}

/// Release roots after a version, as the server has them; a server that knows of none has none.
/// Nothing of them is believed yet.
pub(super) async fn roots(
    channel: Channel,
    after_version: u64,
) -> Result<Vec<Envelope>, FetchError> {
    let what = "newer release roots";
    let mut client = TrustServiceClient::new(channel);
    let request = pb::ReleaseRootsRequest { after_version };
    let answer = timeout(ANSWER_TIMEOUT, client.release_roots(request))
        .await
        .map_err(late(what))?;
    let roots = match answer {
        Ok(answer) => answer.into_inner().roots,
        Err(status) if status.code() == tonic::Code::Unimplemented => Vec::new(),
        Err(status) => return Err(server(what)(status)),
    };
    envelopes(what, roots, ROOTS_MAX)
}

/// Bundles of authorities after a version, as the server has them; a server that knows of none has none.
/// Nothing of them is believed yet.
pub(crate) async fn authority_bundles(
    channel: Channel,
    after_version: u64,
) -> Result<Vec<Envelope>, FetchError> {
    let what = "newer authorities";
    let mut client = TrustServiceClient::new(channel);
    let request = pb::AuthorityBundlesRequest { after_version };
    let answer = timeout(ANSWER_TIMEOUT, client.authority_bundles(request))
        .await
        .map_err(late(what))?;
    let bundles = match answer {
        Ok(answer) => answer.into_inner().bundles,
        Err(status) if status.code() == tonic::Code::Unimplemented => Vec::new(),
        Err(status) => return Err(server(what)(status)),
    };
    envelopes(what, bundles, BUNDLES_MAX)
}

fn envelopes(
    what: &str,
    given: Vec<pb::Envelope>,
    most: usize,
) -> Result<Vec<Envelope>, FetchError> {
    let read = given.into_iter().take(most).map(Envelope::try_from);
    read.collect::<Result<_, _>>()
        .map_err(|error| FetchError::Malformed {
            what: what.to_owned(),
            why: error.to_string(),
        })
}

/// A file that is being fetched. It may hold bytes of several sources, none of which is believed.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl Part {
    fn open(staging: &Path, artefact: &Artefact) -> Result<Self, FetchError> {
        let path = staging.join(part_name(&artefact.sha256));
        match open_part(&path, artefact.size) {
            Ok((file, offset)) => Ok(Self {
                file,
                path,
                offset,
                size: artefact.size,
            }),
            Err(source) => Err(FetchError::Disk { path, source }),
        }
    }

    fn disk(&self, source: io::Error) -> FetchError {
        FetchError::Disk {
            path: self.path.clone(),
            source,
        }
    }

    /// The next byte wanted.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the whole file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes still to come.
    pub(super) fn missing(&self) -> u64 {
        self.size - self.offset
    }

    /// Adds the next bytes; there are as many missing.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), FetchError> {
        self.file
            .write_all(data)
            .map_err(|source| self.disk(source))?;
        self.offset += data.len() as u64;
        Ok(())
    }

    /// Begins anew.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        self.offset = 0;
        let cut = self.file.set_len(0);
        cut.and_then(|()| self.file.rewind())
            .map_err(|source| self.disk(source))
    }

    /// Whether its content is the one named.
    async fn is(&mut self, sha256: Sha256) -> Result<bool, FetchError> {
        let file = self.file.try_clone();
        let mut file = file.map_err(|source| self.disk(source))?;
        // Up to 2 GiB.
        let hashed = tokio::task::spawn_blocking(move || hash_from_start(&mut file)).await;
        let hashed = hashed.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        Ok(hashed.map_err(|source| self.disk(source))? == sha256)
    }
}

/// The artefact's file, complete by its size, open for reading and writing: from mirrors as far as they
/// serve it, the rest from the server. Its content is verified by whoever uses it.
pub(super) async fn artefact(
    channel: Channel,
    mirrors: &Mirrors,
    staging: &Path,
    artefact: &Artefact,
) -> Result<File, FetchError> {
    let mut part = Part::open(staging, artefact)?;
    // Bytes of an earlier try may be a mirror's.
    let is_mixed = !mirrors.is_empty();
    mirrors.fill(&mut part, &artefact.sha256).await?;
    from_server(channel.clone(), &mut part, &artefact.sha256).await?;
    if is_mixed && !part.is(artefact.sha256).await? {
        tracing::warn!(artefact = %artefact.sha256, "a mirror sent other bytes; all of it from the server");
        part.restart()?;
        from_server(channel, &mut part, &artefact.sha256).await?;
    }
    Ok(part.file)
}

async fn from_server(channel: Channel, part: &mut Part, sha256: &Sha256) -> Result<(), FetchError> {
    if part.missing() == 0 {
        return Ok(());
    }
    let what = format!("artefact {sha256}");
    let request = pb::FetchArtifactRequest {
        sha256: sha256.0.to_vec(),
        offset: part.offset,
    };
    let mut client = AgentServiceClient::new(channel);
    let mut chunks = timeout(ANSWER_TIMEOUT, client.fetch_artifact(request))
        .await
        .map_err(late(&what))?
        .map_err(server(&what))?
        .into_inner();
    while part.missing() > 0 {
        let chunk = timeout(ANSWER_TIMEOUT, chunks.message())
            .await
            .map_err(late(&what))?
            .map_err(server(&what))?;
        let malformed = |why: &str| FetchError::Malformed {
            what: what.clone(),
            why: why.to_owned(),
        };
        let chunk = chunk.ok_or_else(|| malformed("it ends too early"))?;
        let data = chunk.data;
        if chunk.offset != part.offset {
            return Err(malformed("a chunk is not the next one"));
        }
        if data.is_empty() || data.len() as u64 > part.missing() {
            return Err(malformed(
                "a chunk is empty, or goes beyond the size in the manifest",
            ));
        }
        part.append(&data)?;
    }
    Ok(())
}

/// The part of an earlier try and its length; a part that is too long is none.
fn open_part(path: &Path, size: u64) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut length = file.metadata()?.len();
    if length > size {
        file.set_len(0)?;
        length = 0;
    }
    file.seek(SeekFrom::Start(length))?;
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_is_gone_on_with_and_a_part_that_is_too_long_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(part_name(&Sha256([1; 32])));
        let (mut file, offset) = open_part(&path, 10).unwrap();
        assert_eq!(offset, 0);
        file.write_all(b"1234").unwrap();
        drop(file);
        let (mut file, offset) = open_part(&path, 10).unwrap();
        assert_eq!(offset, 4);
        file.write_all(b"56").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"123456");
        assert_eq!(open_part(&path, 5).unwrap().1, 0);
    }
}
