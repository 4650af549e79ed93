//! Who may write into the data directory may have a backup: a socket in it, for its owner only.

use super::LINE_BYTES_MAX;
use super::line::Line;
use super::write::{Source, write};
use crate::actor::Handle;
use crate::artefacts::Artefacts;
use crate::config::Config;
use crate::data_dir::{DataDir, create_private_dir};
use crate::error::ServerError;
use crate::storage;
use ring::digest::{Context, SHA256};
use ringward_store::AnyStore;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// A socket's path has at most 108 bytes: it is short, and bound by a short name.
const SOCKET: &str = "backup.sock";

fn socket(data: &DataDir) -> PathBuf {
    data.root().join("run").join(SOCKET)
}

/// Gives a backup to whoever of the data directory's owner connects, one after another.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(
    data: &DataDir,
    store: &Arc<AnyStore>,
    artefacts: &Artefacts,
    handle: &Handle,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, ServerError> {
    let path = socket(data);
    if let Some(folder) = path.parent() {
        create_private_dir(folder)?;
    }
    let _ = fs::remove_file(&path);
    let making = |source| ServerError::file("making the socket", &path)(source);
    let listener = UnixListener::bind(&path).map_err(making)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(making)?;
    let source = Source {
        data: data.clone(),
        store: Arc::clone(store),
        artefacts: artefacts.clone(),
        handle: Some(handle.clone()),
    };
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let written = tokio::select! {
                () = stop.cancelled() => return,
                written = write(&source, stream) => written,
            };
            match written {
                Ok(()) => tracing::info!("a backup was taken"),
                Err(error) => {
                    tracing::warn!(error = crate::error::chain(&error), "no backup was taken");
                }
            }
        }
    })
}

/// Takes a backup of a data directory to a new file: from the server that runs on it, or from its
/// store where none does. Answers how many lines it has.
///
/// # Errors
/// Where the file exists, or something cannot be read or written; no file is left then.
pub async fn take(config: &Config, to: &Path) -> Result<u64, ServerError> {
    if to.exists() {
        return Err(ServerError::refused(
            format!("{} exists already", to.display()),
            "a backup never overwrites: name another file",
        ));
    }
    let mut beside = to.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let writing = ServerError::file("writing", &beside);
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    let file = file.open(&beside).map_err(writing)?;
    let taken = match UnixStream::connect(socket(&config.data)).await {
        Ok(stream) => save(stream, &file, &beside).await,
        Err(_) => save_offline(config, &file, &beside).await,
    };
    let kept = taken.and_then(|lines| {
        file.sync_all()
            .and_then(|()| fs::rename(&beside, to))
            .and_then(|()| {
                File::open(
                    to.parent()
                        .filter(|p| !p.as_os_str().is_empty())
                        .unwrap_or(Path::new(".")),
                )?
                .sync_all()
            })
            .map_err(ServerError::file("keeping", to))?;
        Ok(lines)
    });
    if kept.is_err() {
        let _ = fs::remove_file(&beside);
    }
    kept
}

async fn save_offline(config: &Config, file: &File, path: &Path) -> Result<u64, ServerError> {
    let source = Source {
        data: config.data.clone(),
        store: storage::open(config).await?,
        artefacts: Artefacts::open(config.data.artefacts())?,
        handle: None,
    };
    let (ours, theirs) = UnixStream::pair().map_err(ServerError::file("connecting", path))?;
    let (written, saved) = tokio::join!(write(&source, theirs), save(ours, file, path));
    written?;
    saved
}

/// Copies a backup to a file and makes sure that it is whole.
async fn save(from: UnixStream, mut file: &File, path: &Path) -> Result<u64, ServerError> {
    let mut from = BufReader::with_capacity(LINE_BYTES_MAX / 4, from);
    let mut digest = Context::new(&SHA256);
    let mut text = Vec::new();
    let mut lines = 0;
    loop {
        text.clear();
        let mut bounded = (&mut from).take(LINE_BYTES_MAX as u64);
        let read = bounded.read_until(b'\n', &mut text).await;
        read.map_err(ServerError::file("reading the backup for", path))?;
        if text.last() != Some(&b'\n') {
            return Err(ServerError::refused(
                "the server ended before the backup was whole",
                "look at its log, then take it again",
            ));
        }
        file.write_all(&text)
            .map_err(ServerError::file("writing", path))?;
        if text.starts_with(b"{\"end\"") || text.starts_with(b"{\"failed\"") {
            break;
        }
        digest.update(&text);
        lines += 1;
    }
    match serde_json::from_slice(&text) {
        Ok(Line::End {
            lines: told,
            sha256,
        }) if told == lines && sha256.0 == digest.finish().as_ref() => Ok(lines),
        Ok(Line::Failed { why }) => Err(ServerError::refused(why, "then take the backup again")),
        _ => Err(ServerError::refused(
            "the backup changed on its way",
            "take it again",
        )),
    }
}
