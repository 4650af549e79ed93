//! Writing a backup.

use super::line::{Bytes, Line};
use super::{FORMAT, PIECE, is_copied};
use crate::actor::Handle;
use crate::artefacts::Artefacts;
use crate::clock::unix_ms;
use crate::data_dir::DataDir;
use crate::error::ServerError;
use ring::digest::{Context, SHA256};
use ringward_domain::Sha256;
use ringward_store::{AnyStore, Key, Store};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Things read from the store in one page.
const PAGE: usize = 512;

/// What is backed up.
#[derive(Clone)]
pub(super) struct Source {
    /// The data directory.
    pub(super) data: DataDir,
    /// Its store.
    pub(super) store: Arc<AnyStore>,
    /// Its artefacts.
    pub(super) artefacts: Artefacts,
    /// The decisions, where the server runs: they stand still while the values are copied.
    pub(super) handle: Option<Handle>,
}

/// Writes lines and remembers what their digest will be.
struct Out<W> {
    to: W,
    digest: Context,
    lines: u64,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    async fn line(&mut self, line: &Line) -> Result<(), ServerError> {
        let mut text = crate::storage::to_json(line);
        text.push(b'\n');
        if !matches!(line, Line::End { .. } | Line::Failed { .. }) {
            self.digest.update(&text);
            self.lines += 1;
        }
        let written = self.to.write_all(&text).await;
        written.map_err(|source| ServerError::File {
            doing: "writing the backup to",
            path: "its reader".into(),
            source,
        })
    }
}

/// Writes a whole backup; where that fails half-way the last line says why.
///
/// # Errors
/// Where nobody reads it, or something cannot be read. The reader is told too.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    source: &Source,
    to: W,
) -> Result<(), ServerError> {
    let mut out = Out {
        to,
        digest: Context::new(&SHA256),
        lines: 0,
    };
    let copied = copy(source, &mut out).await;
    let last = match &copied {
        Ok(()) => {
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(out.digest.clone().finish().as_ref());
            Line::End {
                lines: out.lines,
                sha256: Sha256(sha256),
            }
        }
        Err(error) => Line::Failed {
            why: crate::error::chain(error),
        },
    };
    out.line(&last).await?;
    let _ = out.to.flush().await;
    let _ = out.to.shutdown().await;
    copied
}

async fn copy<W: AsyncWrite + Unpin>(source: &Source, out: &mut Out<W>) -> Result<(), ServerError> {
    let failed = |source| ServerError::Store {
        doing: "reading the store for the backup",
        source,
    };
    out.line(&Line::Backup {
        format: FORMAT,
        server: env!("CARGO_PKG_VERSION").to_owned(),
        at_unix_ms: unix_ms(),
    })
    .await?;
    files(source.data.root(), "", out).await?;
    let held = match &source.handle {
        Some(handle) => Some(handle.hold().await.map_err(|gone| {
            ServerError::refused(gone.to_string(), "back it up while it stands still")
        })?),
        None => None,
    };
    let mut after: Option<Key> = None;
    loop {
        let page = source.store.list_all(after.as_ref(), PAGE).await;
        let page = page.map_err(failed)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (key, value) in page {
            out.line(&Line::Value {
                kind: key.kind.to_owned(),
                id: Bytes(key.id),
                value: Bytes(value.value),
            })
            .await?;
        }
    }
    // What people did up to here and no further: the values know nothing of what comes after.
    let audit_end = audit_size(&source.store).await.map_err(failed)?;
    drop(held);
    audit(source, audit_end, out).await?;
    signals(source, out).await?;
    for (sha256, size) in source.artefacts.all()? {
        artefact(source, sha256, size, out).await?;
    }
    Ok(())
}

/// The files of a folder, one folder deep.
async fn files<W: AsyncWrite + Unpin>(
    root: &Path,
    folder: &str,
    out: &mut Out<W>,
) -> Result<(), ServerError> {
    let path = root.join(folder);
    let reading = |source| ServerError::file("reading the folder", &path)(source);
    let mut names: Vec<_> = std::fs::read_dir(&path)
        .map_err(reading)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    for name in names {
        let relative = match folder {
            "" => name.clone(),
            _ => format!("{folder}/{name}"),
        };
        let path = root.join(&relative);
        let meta =
            std::fs::symlink_metadata(&path).map_err(ServerError::file("looking at", &path))?;
        if meta.is_dir() && folder.is_empty() && is_copied(Path::new(&relative)) {
            Box::pin(files(root, &relative, out)).await?;
        }
        if !meta.is_file() || !is_copied(Path::new(&relative)) {
            continue;
        }
        let content = crate::data_dir::read_bounded(&path, PIECE as u64)?;
        out.line(&Line::File {
            path: relative,
            mode: meta.mode() & 0o777,
            content: Bytes(content),
        })
        .await?;
    }
    Ok(())
}

async fn audit_size(store: &AnyStore) -> Result<u64, ringward_store::StoreError> {
    let mut size = 0;
    loop {
        let page = store.audit(size, PAGE).await?;
        size += page.len() as u64;
        if page.len() < PAGE {
            return Ok(size);
        }
    }
}

async fn audit<W: AsyncWrite + Unpin>(
    source: &Source,
    end: u64,
    out: &mut Out<W>,
) -> Result<(), ServerError> {
    let mut next = 0;
    while next < end {
        let limit = PAGE.min(usize::try_from(end - next).unwrap_or(PAGE));
        let page = source.store.audit(next, limit).await;
        let page = page.map_err(|source| ServerError::Store {
            doing: "reading the audit log for the backup",
            source,
        })?;
        for entry in page {
            if entry.index != next {
                return Err(ServerError::Inconsistent {
                    what: format!("entry {next} of the audit log is missing"),
                });
            }
            next += 1;
            out.line(&Line::Audit {
                entry: Bytes(entry.entry),
            })
            .await?;
        }
    }
    Ok(())
}

async fn signals<W: AsyncWrite + Unpin>(
    source: &Source,
    out: &mut Out<W>,
) -> Result<(), ServerError> {
    let mut after = None;
    loop {
        let page = source.store.signals(None, after, PAGE).await;
        let page = page.map_err(|source| ServerError::Store {
            doing: "reading the signals for the backup",
            source,
        })?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some((last.host, last.seq));
        for signal in page {
            out.line(&Line::Signal {
                host: signal.host,
                seq: signal.seq,
                value: Bytes(signal.value),
            })
            .await?;
        }
    }
}

async fn artefact<W: AsyncWrite + Unpin>(
    source: &Source,
    sha256: Sha256,
    size: u64,
    out: &mut Out<W>,
) -> Result<(), ServerError> {
    let failed = |error: crate::artefacts::ArtefactError| ServerError::Inconsistent {
        what: crate::error::chain(&error),
    };
    let Some((mut reading, _)) = source.artefacts.read(sha256, 0).map_err(failed)? else {
        return Ok(());
    };
    while let Some((offset, content)) = reading.chunk().map_err(failed)? {
        out.line(&Line::Artefact {
            sha256,
            size,
            offset,
            content: Bytes(content),
        })
        .await?;
    }
    Ok(())
}
