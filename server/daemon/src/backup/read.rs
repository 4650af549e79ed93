//! Restoring a backup into a new data directory: paused, under a raised epoch, with dead tokens.

use super::line::Line;
use super::{FORMAT, LINE_BYTES_MAX, damaged, is_copied};
use crate::actor::{By, Notes};
use crate::artefacts::{Artefacts, Receiving};
use crate::clock::unix_ms;
use crate::config::Config;
use crate::data_dir::{DataDir, create_private_dir, write_whole};
use crate::error::ServerError;
use crate::pki::random;
use crate::storage::{self, audit_bytes, record_key, to_json};
use crate::tokens;
use ring::digest::{Context, SHA256};
use ringward_domain::command::{Action, Command};
use ringward_domain::{RequestId, Sha256};
use ringward_server_core::control::Control;
use ringward_server_core::event::Effect;
use ringward_server_core::policy::Policy;
use ringward_store::{AnyStore, Batch, Key, MAX_COMMIT_BYTES, Store};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What a store counts for an item beside its bytes.
const ITEM_BYTES: usize = 64;

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was taken, Unix milliseconds.
    pub taken_unix_ms: u64,
    /// The epoch from now on.
    pub epoch: u64,
    /// Hosts.
    pub hosts: u64,
    /// Entries of the audit log.
    pub audit: u64,
    /// Signals.
    pub signals: u64,
    /// Tokens that are dead now.
    pub tokens: u64,
    /// Artefacts.
    pub artefacts: u64,
}

impl Restored {
    /// What a person reads.
    #[must_use]
    pub fn words(&self, data: &Path) -> String {
        format!(
            "restored {} hosts, {} audit entries, {} signals and {} artefacts; epoch {}\n\
             every rollout is paused and all {} tokens are dead\n\n\
             Next:\n  \
             ringward-server doctor --data {data}\n  \
             ringward-server run --data {data}\n  \
             ringwardctl hosts list --attention   # who is missing, who runs what\n  \
             ringwardctl resume-all               # when all is as it should be",
            self.hosts,
            self.audit,
            self.signals,
            self.artefacts,
            self.epoch,
            self.tokens,
            data = data.display(),
        )
    }
}

/// Restores a backup into a data directory that does not exist or is empty.
///
/// # Errors
/// Where the backup is not whole (then nothing was made), or something cannot be written.
pub async fn restore(data: &DataDir, from: &Path) -> Result<Restored, ServerError> {
    crate::init::refuse_existing(data)?;
    check(from)?;
    create_private_dir(data.root())?;
    let mut restored = Restored::default();
    let mut bringing = Bringing::new(data)?;
    for_each(from, |number, line| {
        bringing.file(number, line, &mut restored)
    })?;
    let config = Config::load(data.clone())?;
    let store = storage::open(&config).await?;
    // The second pass: the store's settings are known only from the files of the first.
    let mut batch = Pending::new(&store);
    for line in Lines::open(from)? {
        let (_, line) = line?;
        match line {
            Line::Value { kind, id, value } => {
                let value = match kind.as_str() {
                    tokens::KIND => {
                        restored.tokens += 1;
                        tokens::revoked(&value.0)
                    }
                    "host" => {
                        restored.hosts += 1;
                        value.0
                    }
                    _ => value.0,
                };
                let key = Key::read(&kind, id.0).map_err(failed)?;
                batch.put(key, value).await?;
            }
            Line::Audit { entry } => {
                restored.audit += 1;
                batch.audit(entry.0).await?;
            }
            Line::Signal { host, seq, value } => {
                restored.signals += 1;
                batch.signal(host, seq, value.0).await?;
            }
            _ => {}
        }
    }
    batch.write().await?;
    restored.epoch = pause(&store, restored.taken_unix_ms).await?;
    Ok(restored)
}

fn failed(source: ringward_store::StoreError) -> ServerError {
    ServerError::Store {
        doing: "restoring the store",
        source,
    }
}

/// Raises the epoch and pulls the andon, in the words of a person's order.
async fn pause(store: &AnyStore, taken_unix_ms: u64) -> Result<u64, ServerError> {
    let records = storage::load_records(store).await?;
    let clock = Control::clock(&records);
    let mut control = Control::restore(Policy::default(), records, clock).map_err(|error| {
        ServerError::Inconsistent {
            what: crate::error::chain(&error),
        }
    })?;
    control.wall_clock(unix_ms());
    let reason = format!(
        "restored from a backup of {taken_unix_ms} ms Unix time: look at the fleet, then \
         `ringwardctl resume-all`"
    );
    let mut effects = control.raise_epoch(clock);
    let command = Command {
        request: RequestId(random()),
        actor: "ringward-server restore".to_owned(),
        reason: reason.clone(),
        dry_run: false,
        action: Action::StopAll,
    };
    let (_, paused) =
        control
            .command(&command, clock)
            .map_err(|refusal| ServerError::Inconsistent {
                what: refusal.to_string(),
            })?;
    effects.extend(paused);
    let mut batch = Batch {
        request_id: random(),
        ..Batch::default()
    };
    for effect in effects {
        match effect {
            Effect::Put(record) => batch
                .puts
                .push((record_key(&record.key()), to_json(&record))),
            Effect::Delete(key) => batch.deletes.push(record_key(&key)),
            Effect::Audit(entry) => batch.audit.push(audit_bytes(&entry)),
            _ => {}
        }
    }
    let mut notes: Notes = store
        .get(&Notes::key())
        .await
        .map_err(failed)?
        .and_then(|value| serde_json::from_slice(&value.value).ok())
        .unwrap_or_default();
    notes.andon = By {
        actor: command.actor,
        reason,
        at_unix_ms: unix_ms(),
    };
    batch.puts.push((Notes::key(), to_json(&notes)));
    storage::commit(store, batch).await.map_err(failed)?;
    Ok(control.epoch().0)
}

/// Reads a backup from end to end and makes sure that it is whole.
fn check(from: &Path) -> Result<(), ServerError> {
    let mut lines = Lines::open(from)?;
    let mut first = true;
    let mut end = None;
    while let Some(line) = lines.next() {
        let (number, line) = line?;
        match (first, &line) {
            (true, Line::Backup { format: FORMAT, .. }) => {}
            (true, Line::Backup { format, .. }) => {
                return Err(damaged(
                    number,
                    format!(
                        "its format {format} is not known to this version; restore it with the version that wrote it"
                    ),
                ));
            }
            (true, _) => return Err(damaged(number, "this is no backup")),
            (false, Line::Backup { .. }) => return Err(damaged(number, "another one begins")),
            (false, Line::File { path, .. }) if !is_copied(Path::new(path)) => {
                return Err(damaged(
                    number,
                    format!("{path:?} does not belong into one"),
                ));
            }
            (
                false,
                Line::End {
                    lines: told,
                    sha256,
                },
            ) => {
                if *told != number - 1 || *sha256 != lines.before {
                    return Err(damaged(number, "the lines before it were changed"));
                }
                end = Some(number);
            }
            (false, Line::Failed { why }) => return Err(damaged(number, why)),
            (false, _) => {}
        }
        if end.is_some_and(|end| end != number) {
            return Err(damaged(number, "something follows the end"));
        }
        first = false;
    }
    end.map(drop)
        .ok_or_else(|| damaged(lines.number, "it ends too early: it is not whole"))
}

fn for_each(
    from: &Path,
    mut take: impl FnMut(u64, Line) -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    for line in Lines::open(from)? {
        let (number, line) = line?;
        take(number, line)?;
    }
    Ok(())
}

/// The lines of a backup.
struct Lines {
    from: BufReader<File>,
    path: PathBuf,
    number: u64,
    digest: Context,
    /// Digest of the lines before the newest.
    before: Sha256,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, ServerError> {
        let file = File::open(path).map_err(ServerError::file("opening the backup", path))?;
        Ok(Self {
            from: BufReader::with_capacity(1 << 20, file),
            path: path.to_owned(),
            number: 0,
            digest: Context::new(&SHA256),
            before: Sha256([0; 32]),
        })
    }
}

impl Iterator for Lines {
    type Item = Result<(u64, Line), ServerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut text = Vec::new();
        let mut bounded = (&mut self.from).take(LINE_BYTES_MAX as u64);
        let read = bounded.read_until(b'\n', &mut text);
        if let Err(error) = read {
            return Some(Err(ServerError::file("reading", &self.path)(error)));
        }
        if text.is_empty() {
            return None;
        }
        self.number += 1;
        if text.last() != Some(&b'\n') {
            return Some(Err(damaged(self.number, "it is cut off")));
        }
        let line = serde_json::from_slice(&text);
        self.before
            .0
            .copy_from_slice(self.digest.clone().finish().as_ref());
        self.digest.update(&text);
        let number = self.number;
        Some(
            line.map(|line| (number, line))
                .map_err(|error| damaged(number, error)),
        )
    }
}

/// Files and artefacts on their way back.
struct Bringing {
    data: DataDir,
    artefacts: Artefacts,
    receiving: Option<(Sha256, Receiving)>,
}

impl Bringing {
    fn new(data: &DataDir) -> Result<Self, ServerError> {
        Ok(Self {
            data: data.clone(),
            artefacts: Artefacts::open(data.artefacts())?,
            receiving: None,
        })
    }

    fn file(
        &mut self,
        number: u64,
        line: Line,
        restored: &mut Restored,
    ) -> Result<(), ServerError> {
        let wrong =
            |error: crate::artefacts::ArtefactError| damaged(number, crate::error::chain(&error));
        match line {
            Line::Backup { at_unix_ms, .. } => restored.taken_unix_ms = at_unix_ms,
            Line::File {
                path,
                mode,
                content,
            } => {
                let path = self.data.root().join(path);
                if let Some(folder) = path.parent() {
                    create_private_dir(folder)?;
                }
                write_whole(&path, &content.0, mode & 0o777)?;
            }
            Line::Artefact {
                sha256,
                size,
                offset,
                content,
            } => {
                if offset == 0 {
                    self.receiving =
                        Some((sha256, self.artefacts.receive(sha256, size).map_err(wrong)?));
                }
                let Some((of, receiving)) = &mut self.receiving else {
                    return Err(damaged(number, "an artefact begins in its middle"));
                };
                if *of != sha256 || receiving.got() != offset {
                    return Err(damaged(number, "an artefact's pieces are out of order"));
                }
                receiving.write(&content.0).map_err(wrong)?;
                if receiving.got() == size
                    && let Some((_, whole)) = self.receiving.take()
                {
                    whole.finish().map_err(wrong)?;
                    restored.artefacts += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Writes that wait to be one commit.
struct Pending<'a> {
    store: &'a AnyStore,
    batch: Batch,
    bytes: usize,
}

impl<'a> Pending<'a> {
    fn new(store: &'a AnyStore) -> Self {
        Self {
            store,
            batch: Batch::default(),
            bytes: 0,
        }
    }

    async fn room(&mut self, bytes: usize) -> Result<(), ServerError> {
        if self.bytes + bytes + ITEM_BYTES > MAX_COMMIT_BYTES {
            self.write().await?;
        }
        self.bytes += bytes + ITEM_BYTES;
        Ok(())
    }

    async fn put(&mut self, key: Key, value: Vec<u8>) -> Result<(), ServerError> {
        self.room(key.kind.len() + key.id.len() + value.len())
            .await?;
        self.batch.puts.push((key, value));
        Ok(())
    }

    async fn audit(&mut self, entry: Vec<u8>) -> Result<(), ServerError> {
        self.room(entry.len()).await?;
        self.batch.audit.push(entry);
        Ok(())
    }

    async fn signal(&mut self, host: u64, seq: u64, value: Vec<u8>) -> Result<(), ServerError> {
        self.room(value.len()).await?;
        self.batch.signals.push((host, seq, value));
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ServerError> {
        self.bytes = 0;
        let mut batch = std::mem::take(&mut self.batch);
        if batch.puts.is_empty() && batch.audit.is_empty() && batch.signals.is_empty() {
            return Ok(());
        }
        batch.request_id = random();
        storage::commit(self.store, batch).await.map_err(failed)?;
        Ok(())
    }
}
