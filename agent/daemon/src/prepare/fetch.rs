//! Fetching from the server: small answers whole, artefacts from where an earlier try stopped.

use ringward_domain::manifest::{Artefact, Envelope};
use ringward_domain::{ReleaseDigest, Sha256};
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
    let read = roots.into_iter().take(ROOTS_MAX).map(Envelope::try_from);
    read.collect::<Result<_, _>>()
        .map_err(|error| FetchError::Malformed {
            what: what.to_owned(),
            why: error.to_string(),
        })
}

/// The artefact's file, complete by its size, open for reading and writing. Its content is not
/// verified yet.
pub(super) async fn artefact(
    channel: Channel,
    staging: &Path,
    artefact: &Artefact,
) -> Result<File, FetchError> {
    let path = staging.join(part_name(&artefact.sha256));
    let disk = |source| FetchError::Disk {
        path: path.clone(),
        source,
    };
    let (mut file, mut offset) = open_part(&path, artefact.size).map_err(disk)?;
    if offset == artefact.size {
        return Ok(file);
    }
    let what = format!("artefact {}", artefact.sha256);
    let request = pb::FetchArtifactRequest {
        sha256: artefact.sha256.0.to_vec(),
        offset,
    };
    let mut client = AgentServiceClient::new(channel);
    let mut chunks = timeout(ANSWER_TIMEOUT, client.fetch_artifact(request))
        .await
        .map_err(late(&what))?
        .map_err(server(&what))?
        .into_inner();
    while offset < artefact.size {
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
        if chunk.offset != offset {
            return Err(malformed("a chunk is not the next one"));
        }
        if data.is_empty() || data.len() as u64 > artefact.size - offset {
            return Err(malformed(
                "a chunk is empty, or goes beyond the size in the manifest",
            ));
        }
        file.write_all(&data).map_err(disk)?;
        offset += data.len() as u64;
    }
    Ok(file)
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
