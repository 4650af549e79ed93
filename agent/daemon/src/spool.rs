//! The spool: signals on disk until the server has them (DESIGN §6).
//!
//! A log of small segments. A record is framed and checked on its own, so a torn tail or a flipped
//! bit loses that record and nothing else, and opening never refuses. Everything up to a sequence
//! number is given up at once, when the server says that it is durable there.

mod files;
mod frame;
#[cfg(test)]
mod tests;

pub use files::{DiskFiles, Files};

use frame::{Frame, Kind};
use ringward_domain::SignalSeq;
use ringward_domain::signal::Signal;
use std::collections::VecDeque;
use std::io;

/// A segment is closed at this size: what is given up is given up in steps of it.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024;
/// A segment whose records are all acknowledged is replaced from this size on.
const SEGMENT_BYTES_WORTH_REPLACING: u64 = 8 * 1024;

/// Why the spool could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder or a file in it failed.
    #[error("{doing} the signal spool; check that the state folder is writable and has space left")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The signal cannot be kept.
    #[error("signal {seq} of {bytes} bytes exceeds the {max} bytes of a spool record")]
    TooLarge {
        /// Its seq.
        seq: SignalSeq,
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> SpoolError {
    move |source| SpoolError::Io { doing, source }
}

/// One file of the log.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Its name, as a number; grows with each segment.
    number: u64,
    /// Highest seq of its records; zero without one.
    last: SignalSeq,
    bytes: u64,
}

/// What was given up without the server having it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Damaged places found when the log was read: each lost at least one record.
    pub damaged: u64,
    /// Signals dropped because the spool was full.
    pub dropped: u64,
}

/// The log.
#[derive(Debug)]
pub struct Spool<F> {
    files: F,
    bytes_max: u64,
    /// Oldest first; the last one is appended to.
    segments: VecDeque<Segment>,
    acknowledged: SignalSeq,
    next: SignalSeq,
    /// The tail of the last segment is not known to be whole: append to a new one.
    tail_in_doubt: bool,
    losses: Losses,
}

impl<F: Files> Spool<F> {
    /// Open the log, whatever state its bytes are in. At most `bytes_max` are kept.
    ///
    /// # Errors
    /// The folder cannot be listed. Damaged content is never an error: see [`Spool::losses`].
    pub fn open(files: F, bytes_max: u64) -> Result<Self, SpoolError> {
        let mut numbers = files.list().map_err(io_error("listing"))?;
        numbers.sort_unstable();
        let mut spool = Self {
            files,
            bytes_max: bytes_max.max(2 * SEGMENT_BYTES_MAX),
            segments: VecDeque::new(),
            acknowledged: SignalSeq(0),
            next: SignalSeq(1),
            tail_in_doubt: true,
            losses: Losses::default(),
        };
        for number in numbers {
            spool.take_in(number);
        }
        Ok(spool)
    }

    fn take_in(&mut self, number: u64) {
        let read = self.files.read(number);
        let bytes = read.as_deref().unwrap_or_default();
        let mut last = SignalSeq(0);
        let mut high = SignalSeq(0);
        let mut damage = frame::scan(bytes, |frame| match frame.kind {
            Kind::Signal => {
                last = last.max(frame.seq);
                high = high.max(frame.seq);
            }
            Kind::Acknowledged => {
                self.acknowledged = self.acknowledged.max(frame.seq);
                high = high.max(frame.seq);
            }
            Kind::Next => high = high.max(SignalSeq(frame.seq.0.saturating_sub(1))),
        });
        if read.is_err() {
            damage.places += 1;
            damage.bytes += SEGMENT_BYTES_MAX;
        }
        self.losses.damaged += damage.places;
        // Records that are damaged beyond reading used sequence numbers too, and the server may have
        // them: a number is never used twice, so skip as many as can have been there.
        let skipped = damage.bytes.div_ceil(frame::HEADER_BYTES as u64);
        let next = SignalSeq(high.0.saturating_add(skipped)).next();
        self.next = self.next.max(next);
        self.tail_in_doubt = damage.places > 0 || bytes.is_empty();
        self.segments.push_back(Segment {
            number,
            last,
            bytes: bytes.len() as u64,
        });
    }

    /// First seq that is not known to be durable at the server, and the next free one.
    #[must_use]
    pub fn range(&self) -> (SignalSeq, SignalSeq) {
        (self.acknowledged.next().min(self.next), self.next)
    }

    /// What was lost so far, since the log was opened.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Append a signal; it is durable when this returns.
    ///
    /// # Errors
    /// It is not in the spool, and its seq is free again.
    pub fn append(&mut self, signal: &Signal) -> Result<(), SpoolError> {
        let payload = serde_json::to_vec(signal).unwrap_or_default();
        if payload.len() > frame::PAYLOAD_BYTES_MAX {
            return Err(SpoolError::TooLarge {
                seq: signal.seq,
                bytes: payload.len(),
                max: frame::PAYLOAD_BYTES_MAX,
            });
        }
        let bytes = frame::encode(Kind::Signal, signal.seq, &payload);
        self.make_room(bytes.len() as u64)?;
        let number = self.tail(bytes.len() as u64)?;
        if let Err(source) = self.files.append(number, &bytes, true) {
            // Part of it may be there: what follows goes elsewhere, and a later record of the same
            // seq wins over this one.
            self.tail_in_doubt = true;
            return Err(SpoolError::Io {
                doing: "appending to",
                source,
            });
        }
        if let Some(tail) = self.segments.back_mut() {
            tail.bytes += bytes.len() as u64;
            tail.last = tail.last.max(signal.seq);
        }
        self.next = self.next.max(signal.seq.next());
        Ok(())
    }

    /// At most `count` signals from `from` on, in the order of their seq.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn read(&mut self, from: SignalSeq, count: usize) -> Result<Vec<Signal>, SpoolError> {
        let mut found: Vec<Signal> = Vec::new();
        for segment in self.segments.iter().filter(|segment| segment.last >= from) {
            let bytes = self
                .files
                .read(segment.number)
                .map_err(io_error("reading"))?;
            frame::scan(&bytes, |frame| {
                let wanted = frame.kind == Kind::Signal && frame.seq >= from;
                if let Some(signal) = wanted.then(|| decode(&frame)).flatten() {
                    found.retain(|earlier| earlier.seq != signal.seq);
                    found.push(signal);
                }
            });
            // One more than wanted: a record that failed to be appended is superseded by the next
            // one of the same seq, which stands first in the segment after it.
            if found.len() > count {
                break;
            }
        }
        found.sort_by_key(|signal| signal.seq);
        found.truncate(count);
        Ok(found)
    }

    /// Everything up to and with this seq is durable at the server and may go.
    ///
    /// # Errors
    /// Something could not be removed; it is tried again with the next acknowledgement.
    pub fn acknowledge(&mut self, through: SignalSeq) -> Result<(), SpoolError> {
        let through = SignalSeq(through.0.min(self.next.0.saturating_sub(1)));
        if through <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = through;
        let worth_replacing = self.segments.back().is_some_and(|tail| {
            tail.last <= through && tail.bytes >= SEGMENT_BYTES_WORTH_REPLACING
        });
        if worth_replacing {
            self.start_segment()?;
        } else {
            // Not synced: when it is lost the server hears these signals again and knows them.
            let bytes = frame::encode(Kind::Acknowledged, through, &[]);
            let number = self.tail(bytes.len() as u64)?;
            self.files
                .append(number, &bytes, false)
                .map_err(io_error("writing an acknowledgement to"))?;
            if let Some(tail) = self.segments.back_mut() {
                tail.bytes += bytes.len() as u64;
            }
        }
        while self.segments.len() > 1 && self.segments[0].last <= through {
            self.remove(0)?;
        }
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Result<(), SpoolError> {
        self.files
            .remove(self.segments[index].number)
            .map_err(io_error("removing a segment of"))?;
        self.segments.remove(index);
        Ok(())
    }

    /// The segment that takes `bytes` more.
    fn tail(&mut self, bytes: u64) -> Result<u64, SpoolError> {
        match self.segments.back() {
            Some(tail) if !self.tail_in_doubt && tail.bytes + bytes <= SEGMENT_BYTES_MAX => {
                Ok(tail.number)
            }
            _ => self.start_segment(),
        }
    }

    /// Begin a segment; it carries what must outlive the ones before it.
    fn start_segment(&mut self) -> Result<u64, SpoolError> {
        let number = self.segments.back().map_or(1, |tail| tail.number + 1);
        let mut bytes = frame::encode(Kind::Next, self.next, &[]);
        bytes.extend(frame::encode(Kind::Acknowledged, self.acknowledged, &[]));
        let made = self
            .files
            .append(number, &bytes, true)
            .and_then(|()| self.files.sync_folder());
        // Even a failed file may be there and must not be taken for another one later.
        self.segments.push_back(Segment {
            number,
            last: SignalSeq(0),
            bytes: bytes.len() as u64,
        });
        self.tail_in_doubt = made.is_err();
        made.map_err(io_error("starting a segment of"))?;
        Ok(number)
    }

    /// Drop the oldest signals of low value, then the oldest whatever they are, until `bytes` fit.
    fn make_room(&mut self, bytes: u64) -> Result<(), SpoolError> {
        // Every round thins or removes one segment, and none twice.
        for _ in 0..=2 * self.segments.len() {
            let used: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
            if used + bytes <= self.bytes_max {
                return Ok(());
            }
            if self.segments.len() < 2 {
                self.start_segment()?;
            }
            self.thin_out_or_remove()?;
        }
        Ok(())
    }

    /// Take the signals of low value out of the oldest segment that has some; where none has, remove
    /// the oldest segment. The one appended to is left alone.
    fn thin_out_or_remove(&mut self) -> Result<(), SpoolError> {
        for index in 0..self.segments.len() - 1 {
            let (kept, low) = self.contents(self.segments[index])?;
            if low == 0 && !(kept.is_empty() && index == 0) {
                continue;
            }
            if kept.is_empty() {
                self.remove(index)?;
            } else {
                self.rewrite(index, &kept)?;
            }
            self.losses.dropped += low;
            return Ok(());
        }
        let (failures, _) = self.contents(self.segments[0])?;
        self.remove(0)?;
        self.losses.dropped += failures.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, index: usize, kept: &[Signal]) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        for signal in kept {
            let payload = serde_json::to_vec(signal).unwrap_or_default();
            bytes.extend(frame::encode(Kind::Signal, signal.seq, &payload));
        }
        self.files
            .replace(self.segments[index].number, &bytes)
            .map_err(io_error("making room in"))?;
        self.segments[index].bytes = bytes.len() as u64;
        Ok(())
    }

    /// The unacknowledged failures of a segment, and the number of its other signals.
    fn contents(&self, segment: Segment) -> Result<(Vec<Signal>, u64), SpoolError> {
        let bytes = self
            .files
            .read(segment.number)
            .map_err(io_error("reading"))?;
        let (mut kept, mut low) = (Vec::new(), 0);
        frame::scan(&bytes, |frame| {
            let live = frame.kind == Kind::Signal && frame.seq > self.acknowledged;
            match live.then(|| decode(&frame)).flatten() {
                Some(signal) if signal.kind.is_failure() => kept.push(signal),
                Some(_) => low += 1,
                None => {}
            }
        });
        Ok((kept, low))
    }
}

fn decode(frame: &Frame<'_>) -> Option<Signal> {
    serde_json::from_slice(frame.payload).ok()
}
