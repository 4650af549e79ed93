//! A store that keeps only what was made durable, and the queue of what waits for it.
//!
//! Effects are taken in their order: what is written is one commit, and what is sent waits until
//! everything written before it, in this list and in all lists before, is durable.

use ringward_domain::HostId;
use ringward_domain::ids::SignalSeq;
use ringward_domain::session::ToAgent;
use ringward_domain::signal::Signal;
use ringward_server_core::event::Effect;
use ringward_server_core::record::{Record, RecordKey};
use std::collections::{BTreeMap, VecDeque};

/// What survives a crash of the server.
#[derive(Debug, Default)]
pub struct Durable {
    /// Records by key.
    pub records: BTreeMap<RecordKey, Record>,
    /// Signals by host and seq.
    pub signals: BTreeMap<(HostId, SignalSeq), Signal>,
}

impl Durable {
    /// The records as a new process reads them: what is not written is not there.
    #[must_use]
    pub fn read_back(&self) -> Vec<Record> {
        let records = self.records.values();
        records
            .map(|record| {
                let bytes = serde_json::to_vec(record).expect("a record is written");
                serde_json::from_slice(&bytes).expect("what was written reads back")
            })
            .collect()
    }
}

/// One change of the store.
#[derive(Debug)]
enum Write {
    Put(Box<Record>),
    Delete(RecordKey),
    Signal(HostId, Box<Signal>),
}

/// Something that goes out once everything before it is durable.
#[derive(Debug)]
pub enum Outgoing {
    /// A message to a host.
    Send(HostId, Box<ToAgent>),
    /// The end of a host's session.
    Close(HostId),
}

/// Writes of one list of effects, all or nothing, and what they hold back.
#[derive(Debug, Default)]
struct Commit {
    writes: Vec<Write>,
    outgoing: Vec<Outgoing>,
}

/// The store with its queue of commits under way.
#[derive(Debug, Default)]
pub struct Store {
    /// What is durable.
    pub durable: Durable,
    queue: VecDeque<Commit>,
}

impl Store {
    /// Queues a list of effects; answers how many commits it became.
    pub fn take(&mut self, effects: Vec<Effect>) -> usize {
        let before = self.queue.len();
        let mut commit = Commit::default();
        for effect in effects {
            let write = match effect {
                Effect::Put(record) => Write::Put(record),
                Effect::Delete(key) => Write::Delete(key),
                Effect::StoreSignal(host, signal) => Write::Signal(host, signal),
                Effect::Send(host, message) => {
                    commit.outgoing.push(Outgoing::Send(host, message));
                    continue;
                }
                Effect::Close(host) => {
                    commit.outgoing.push(Outgoing::Close(host));
                    continue;
                }
                Effect::Audit(_) | Effect::Notice(_) => continue,
            };
            if !commit.outgoing.is_empty() {
                // Written after something was sent: that send does not wait for it.
                self.queue.push_back(std::mem::take(&mut commit));
            }
            commit.writes.push(write);
        }
        if !commit.writes.is_empty() || !commit.outgoing.is_empty() {
            self.queue.push_back(commit);
        }
        self.queue.len() - before
    }

    /// The oldest commit becomes durable; answers what it held back.
    pub fn commit(&mut self) -> Vec<Outgoing> {
        let Some(commit) = self.queue.pop_front() else {
            return Vec::new();
        };
        for write in commit.writes {
            match write {
                Write::Put(record) => {
                    self.durable.records.insert(record.key(), *record);
                }
                Write::Delete(key) => {
                    self.durable.records.remove(&key);
                }
                Write::Signal(host, signal) => {
                    self.durable.signals.insert((host, signal.seq), *signal);
                }
            }
        }
        commit.outgoing
    }

    /// Commits under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// The server dies: the first `kept` commits under way were made durable in time, nothing of
    /// what they held back went out, the rest never happened.
    pub fn crash(&mut self, kept: usize) {
        for _ in 0..kept {
            self.commit();
        }
        self.queue.clear();
    }
}
