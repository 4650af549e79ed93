//! What the writer keeps in memory: counters, and the index of all that is bounded.

use std::collections::{BTreeMap, VecDeque};

use ::sled::Db;

use super::rows::{
    CHANGE, COUNTERS_ROW, FORMAT, FORMAT_ROW, LEASE, REQUEST, SIGNAL, damaged, lease_from, number,
};
use super::view::read_failed;
use crate::StoreError;
use crate::lease::Lease;

/// The writer's memory, rebuilt from the rows at each opening.
#[derive(Debug, Default)]
pub(super) struct State {
    pub counters: Counters,
    /// The signals were counted at this opening: the program before did not.
    pub counted_anew: bool,
    /// Commits remembered, by request id.
    pub requests: BTreeMap<[u8; 16], u64>,
    /// The same, oldest first.
    pub request_order: VecDeque<(u64, [u8; 16])>,
    /// Commits in the feed with their number of changes, oldest first.
    pub feed: VecDeque<(u64, u64)>,
    /// Sum of the feed's changes.
    pub feed_changes: u64,
    pub leases: BTreeMap<String, Lease>,
}

/// Numbers that go on where they stopped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// Of the last commit.
    pub seq: u64,
    /// Index of the next audit entry.
    pub audit_next: u64,
    /// Changes up to this seq are gone.
    pub feed_floor: u64,
    /// Id of the next overflow.
    pub overflow_next: u64,
    /// Signals in the store.
    pub signals: u64,
}

impl Counters {
    pub fn bytes(&self) -> Vec<u8> {
        [
            self.seq,
            self.audit_next,
            self.feed_floor,
            self.overflow_next,
            self.signals,
        ]
        .iter()
        .flat_map(|counter| counter.to_be_bytes())
        .collect()
    }

    pub fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let at = |at: usize| number(bytes, at * 8, "the row of counters");
        Ok(Self {
            seq: at(0)?,
            audit_next: at(1)?,
            feed_floor: at(2)?,
            overflow_next: at(3)?,
            // A program that did not count yet wrote the row last: `State::load` counts anew.
            signals: at(4).unwrap_or(0),
        })
    }

    /// Whether whoever wrote the row counted signals.
    fn counts_signals(bytes: &[u8]) -> bool {
        bytes.len() >= 40
    }
}

impl State {
    /// Reads the state; `None` for an empty database.
    pub fn load(db: &Db) -> Result<Option<Self>, StoreError> {
        let Some(format) = db.get(FORMAT_ROW).map_err(|why| read_failed(&why))? else {
            if db.is_empty() {
                return Ok(None);
            }
            return Err(damaged("the store", "it has rows but no format"));
        };
        let format = number(&format, 0, "the store's format")?;
        if format != FORMAT {
            return Err(StoreError::Failed {
                doing: "opening the store".into(),
                why: format!("it has format {format}, this program reads format {FORMAT}"),
                next: "run the ringward-server version that wrote it, or restore a backup",
            });
        }
        let counters = db.get(COUNTERS_ROW).map_err(|why| read_failed(&why))?;
        let counters = counters.ok_or_else(|| damaged("the store", "its counters are gone"))?;
        let mut state = Self {
            counters: Counters::read(&counters)?,
            ..Self::default()
        };
        state.counted_anew = !Counters::counts_signals(&counters);
        if state.counted_anew {
            for key in db.scan_prefix([SIGNAL]).keys() {
                key.map_err(|why| read_failed(&why))?;
                state.counters.signals += 1;
            }
        }
        state.load_requests(db)?;
        state.load_feed(db)?;
        for row in db.scan_prefix([LEASE]) {
            let (key, value) = row.map_err(|why| read_failed(&why))?;
            let name = String::from_utf8(key[1..].to_vec())
                .map_err(|_| damaged("a lease", "its name is not UTF-8"))?;
            state.leases.insert(name, lease_from(&value)?);
        }
        Ok(Some(state))
    }

    fn load_requests(&mut self, db: &Db) -> Result<(), StoreError> {
        for row in db.scan_prefix([REQUEST]) {
            let (key, value) = row.map_err(|why| read_failed(&why))?;
            let seq = number(&key, 1, "a request id")?;
            let id: [u8; 16] = value
                .as_ref()
                .try_into()
                .map_err(|_| damaged("a request id", "it is not 16 bytes"))?;
            self.requests.insert(id, seq);
            self.request_order.push_back((seq, id));
        }
        Ok(())
    }

    fn load_feed(&mut self, db: &Db) -> Result<(), StoreError> {
        for key in db.scan_prefix([CHANGE]).keys() {
            let key = key.map_err(|why| read_failed(&why))?;
            let seq = number(&key, 1, "a change")?;
            match self.feed.back_mut() {
                Some((last, changes)) if *last == seq => *changes += 1,
                _ => self.feed.push_back((seq, 1)),
            }
            self.feed_changes += 1;
        }
        Ok(())
    }
}
