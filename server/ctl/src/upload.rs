//! Feeds a release's files into the stream that publishes it.

use crate::error::Error;
use ringward_domain::Sha256;
use ringward_wire::pb;
use ringward_wire::release::CHUNK_BYTES_MAX;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks read ahead of the network: half a megabyte.
const AHEAD: usize = 8;

/// The task that reads the files.
pub(crate) struct Feeder(JoinHandle<Result<(), Error>>);

impl Feeder {
    /// Whether every file was read, as far as the server wanted them.
    pub(crate) async fn finished(self) -> Result<(), Error> {
        self.0.await.unwrap_or(Ok(()))
    }
}

/// The messages of one publication: the start, then each file from its beginning to its end.
pub(crate) fn parts(
    start: pb::PublishStart,
    artefacts: Vec<(Sha256, PathBuf)>,
) -> (ReceiverStream<pb::PublishRequest>, Feeder) {
    let (send, receive) = mpsc::channel(AHEAD);
    let feeder = tokio::spawn(async move {
        let start = message(pb::publish_request::Part::Start(start));
        if send.send(start).await.is_err() {
            return Ok(());
        }
        for (sha256, path) in artefacts {
            feed(&send, sha256, &path)
                .await
                .map_err(Error::file("reading", &path))?;
        }
        Ok(())
    });
    (ReceiverStream::new(receive), Feeder(feeder))
}

async fn feed(
    send: &mpsc::Sender<pb::PublishRequest>,
    sha256: Sha256,
    path: &Path,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut offset = 0;
    loop {
        let mut data = Vec::with_capacity(CHUNK_BYTES_MAX);
        let mut part = (&mut file).take(CHUNK_BYTES_MAX as u64);
        let read = part.read_to_end(&mut data).await?;
        if read == 0 && offset > 0 {
            return Ok(());
        }
        let content = pb::ArtefactPart {
            sha256: sha256.0.to_vec(),
            chunk: Some(pb::ArtefactChunk { offset, data }),
        };
        let content = message(pb::publish_request::Part::Content(content));
        // A closed stream means that the server has said why already.
        if send.send(content).await.is_err() || read == 0 {
            return Ok(());
        }
        offset += read as u64;
    }
}

fn message(part: pb::publish_request::Part) -> pb::PublishRequest {
    pb::PublishRequest { part: Some(part) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pb::publish_request::Part;
    use tokio_stream::StreamExt;

    async fn sent(files: Vec<(Sha256, PathBuf)>) -> (Vec<Part>, Result<(), Error>) {
        let (parts, feeder) = parts(pb::PublishStart::default(), files);
        let parts = parts.map(|message| message.part.unwrap()).collect().await;
        (parts, feeder.finished().await)
    }

    #[tokio::test]
    async fn files_follow_the_start_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let size = 2 * CHUNK_BYTES_MAX + 5;
        let (large, empty) = (dir.path().join("large"), dir.path().join("empty"));
        std::fs::write(&large, vec![7; size]).unwrap();
        std::fs::write(&empty, b"").unwrap();
        let files = vec![(Sha256([1; 32]), large), (Sha256([2; 32]), empty)];
        let (parts, finished) = sent(files).await;
        finished.unwrap();
        let (first, rest) = parts.split_first().unwrap();
        assert!(matches!(first, Part::Start(_)));
        let chunks: Vec<_> = rest
            .iter()
            .map(|part| match part {
                Part::Start(_) => panic!("started twice"),
                Part::Content(content) => {
                    let chunk = content.chunk.as_ref().unwrap();
                    (content.sha256[0], chunk.offset as usize, chunk.data.len())
                }
            })
            .collect();
        let (one, two) = (CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX);
        assert_eq!(chunks, [(1, 0, one), (1, one, one), (1, two, 5), (2, 0, 0)]);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_the_error_that_is_told() {
        let missing = PathBuf::from("/nonexistent/bundle");
        let (parts, finished) = sent(vec![(Sha256([1; 32]), missing)]).await;
        assert_eq!(parts.len(), 1);
        let error = finished.unwrap_err().render();
        assert!(error.contains("/nonexistent/bundle"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_ends_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("large");
        std::fs::write(&file, vec![7; 100 * CHUNK_BYTES_MAX]).unwrap();
        let (stream, feeder) = parts(pb::PublishStart::default(), vec![(Sha256([1; 32]), file)]);
        drop(stream);
        assert!(feeder.finished().await.is_ok());
    }
}
