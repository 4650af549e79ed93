//! What happened over time, for people: signals by kind, and the numbers of each rollout. Nothing is
//! decided by it; it is written down once a minute, so a crash loses a minute of a curve.

use super::batch::Work;
use crate::clock::unix_ms;
use crate::storage::{META, to_json};
use ringward_domain::report::RolloutState;
use ringward_domain::signal::SignalKind;
use ringward_domain::{ReleaseDigest, RolloutId};
use ringward_server_core::control::Control;
use ringward_server_core::rollout::Rollout;
use ringward_server_core::rollout::ring::Bucket;
use ringward_store::Key;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Id of the series within [`META`].
const SERIES: &[u8] = b"series";
/// Width of a bucket of signals: a minute shows an outage, and a day of them is 1,440.
pub const BUCKET_MS: u64 = 60_000;
/// Buckets kept: one day.
const BUCKETS_MAX: usize = 1_440;
/// Kinds counted apart in one bucket; what comes beyond is counted as unknown.
const KINDS_MAX: usize = 64;
/// Rollouts whose history is kept: the newest.
const ROLLOUTS_MAX: usize = 32;
/// Samples of a rollout; when full, every second one of the older half goes.
const SAMPLES_MAX: usize = 400;
/// Steps of a rollout kept.
const STEPS_MAX: usize = 200;
/// Shortest time between two samples of a rollout whose state did not change.
const SAMPLE_EVERY_MS: u64 = 500;
/// How often it is written down while it changes.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// The numbers of a rollout at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Unix milliseconds.
    pub at: u64,
    /// Hosts exposed so far.
    pub exposed: u64,
    /// Hosts confirmed so far.
    pub confirmed: u64,
    /// Hosts failed, silent or gone back so far.
    pub failed: u64,
    /// Failure signals blamed on its release so far.
    pub signals: u64,
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unix milliseconds.
    pub at: u64,
    /// The ring; empty for the rollout itself.
    pub ring: String,
    /// What, in words.
    pub words: String,
}

/// How a rollout went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Its numbers when they changed.
    pub samples: Vec<Sample>,
    /// What happened.
    pub steps: Vec<Step>,
    /// State told last.
    state: Option<RolloutState>,
    /// The ring that was open last.
    ring: Option<usize>,
    signals: u64,
}

/// All series.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Counted since, Unix milliseconds.
    pub since: u64,
    /// By the minute since 1970, then by the wire's number of the kind.
    pub signals: BTreeMap<u64, BTreeMap<i32, u32>>,
    rollouts: BTreeMap<u64, History>,
    #[serde(skip)]
    is_dirty: bool,
    #[serde(skip)]
    written: Option<Instant>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            since: unix_ms(),
            signals: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            is_dirty: false,
            written: None,
        }
    }
}

impl Series {
    /// Where it is kept.
    pub fn key() -> Key {
        Key {
            kind: META,
            id: SERIES.to_vec(),
        }
    }

    /// How a rollout went.
    pub fn history(&self, rollout: RolloutId) -> Option<&History> {
        self.rollouts.get(&rollout.0)
    }

    /// Counts the signals of a batch, and writes itself down with it when that is due.
    pub(super) fn take(&mut self, work: &mut Work, control: &Control) {
        if !work.signals_seen().is_empty() {
            let now = unix_ms();
            for (kind, release) in work.signals_seen() {
                self.signal(*kind, now);
                if let Some(release) = release.filter(|_| kind.is_failure()) {
                    self.blame(release, control);
                }
            }
            self.is_dirty = true;
        }
        let due = self.written.is_none_or(|at| at.elapsed() >= WRITE_EVERY);
        if self.is_dirty && due {
            self.written = Some(Instant::now());
            self.is_dirty = false;
            work.put(Self::key(), to_json(self));
        }
    }

    fn signal(&mut self, kind: SignalKind, now_unix_ms: u64) {
        let bucket = self.signals.entry(now_unix_ms / BUCKET_MS).or_default();
        let code = ringward_wire::signal::kind_code(kind);
        let known = bucket.len() < KINDS_MAX || bucket.contains_key(&code);
        *bucket.entry(if known { code } else { 0 }).or_default() += 1;
        while self.signals.len() > BUCKETS_MAX {
            self.signals.pop_first();
        }
        let oldest = (now_unix_ms / BUCKET_MS).saturating_sub(BUCKETS_MAX as u64);
        while self
            .signals
            .first_key_value()
            .is_some_and(|(at, _)| *at < oldest)
        {
            self.signals.pop_first();
        }
    }

    fn blame(&mut self, release: ReleaseDigest, control: &Control) {
        let newest = control.rollouts().into_iter().rev().find(|(id, _)| {
            let rollout = control.rollout(*id);
            rollout.is_some_and(|rollout| rollout.spec.release == release)
        });
        if let Some((id, _)) = newest {
            self.rollouts.entry(id.0).or_default().signals += 1;
        }
    }

    /// Looks at every rollout.
    pub(super) fn look(&mut self, control: &Control) {
        let now = unix_ms();
        let rollouts = control.rollouts();
        for (id, state) in rollouts.iter().rev().take(ROLLOUTS_MAX) {
            let Some(rollout) = control.rollout(*id) else {
                continue;
            };
            let history = self.rollouts.entry(id.0).or_default();
            self.is_dirty |= history.look(rollout, *state, control, now);
        }
        if self.rollouts.len() > ROLLOUTS_MAX {
            let newest = rollouts.iter().rev().take(ROLLOUTS_MAX);
            let kept: Vec<u64> = newest.map(|(id, _)| id.0).collect();
            self.rollouts.retain(|id, _| kept.contains(id));
        }
    }
}

impl History {
    /// Whether anything was new.
    fn look(
        &mut self,
        rollout: &Rollout,
        state: RolloutState,
        control: &Control,
        now: u64,
    ) -> bool {
        let stepped = self.step(rollout, state, control, now);
        let sample = self.now(rollout, now);
        let last = self.samples.last();
        let same = last.is_some_and(|last| Sample { at: now, ..*last } == sample);
        let early = last.is_some_and(|last| now.saturating_sub(last.at) < SAMPLE_EVERY_MS);
        if same || (early && !stepped) {
            return stepped;
        }
        self.samples.push(sample);
        if self.samples.len() > SAMPLES_MAX {
            let mut i = 0;
            self.samples.retain(|_| {
                i += 1;
                i > SAMPLES_MAX / 2 || i % 2 == 0
            });
        }
        true
    }

    fn now(&self, rollout: &Rollout, now: u64) -> Sample {
        let mut sample = Sample {
            at: now,
            signals: self.signals,
            ..Sample::default()
        };
        for ring in rollout.rings() {
            let confirmed = ring.count(Bucket::Confirmed);
            let failed = ring.count(Bucket::Failed)
                + ring.count(Bucket::Reverted)
                + ring.count(Bucket::Silent);
            sample.confirmed += confirmed;
            sample.failed += failed;
            sample.exposed +=
                confirmed + failed + ring.in_flight + ring.express + ring.count(Bucket::Away);
        }
        sample
    }

    fn step(
        &mut self,
        rollout: &Rollout,
        state: RolloutState,
        control: &Control,
        now: u64,
    ) -> bool {
        let before = self.steps.len();
        if self.state.replace(state) != Some(state) {
            let why = match state {
                RolloutState::Running | RolloutState::Completed => String::new(),
                _ => control
                    .rollout_view(rollout.id)
                    .map_or_else(String::new, |view| view.state_reason),
            };
            let words = if why.is_empty() {
                state.to_string()
            } else {
                format!("{state}: {why}")
            };
            self.push(now, String::new(), words);
        }
        let current = rollout.current();
        if self.ring != Some(current) {
            let name = |i: usize| rollout.rings().get(i).map(|r| r.record.name.to_string());
            if let Some(done) = self.ring.and_then(name) {
                self.push(now, done, "complete".to_owned());
            }
            if let Some(open) = name(current) {
                self.push(now, open, "open".to_owned());
            }
            self.ring = Some(current);
        }
        let failed = self.now(rollout, now).failed;
        let told = self.samples.last().map_or(0, |last| last.failed);
        if failed > told {
            let name = rollout
                .rings()
                .get(current)
                .map(|r| r.record.name.to_string());
            let words = format!("{} more failed, {failed} in all", failed - told);
            self.push(now, name.unwrap_or_default(), words);
        }
        self.steps.len() != before
    }

    fn push(&mut self, at: u64, ring: String, words: String) {
        if self.steps.len() >= STEPS_MAX {
            // The beginning stays: it says where the story starts.
            self.steps.remove(1);
        }
        self.steps.push(Step { at, ring, words });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_counted_by_minute_and_kind_and_a_day_is_kept() {
        let mut series = Series::default();
        let day = 86_400_000;
        for minute in 0..3_000_u64 {
            series.signal(SignalKind::KernelPanic, day + minute * BUCKET_MS);
            series.signal(SignalKind::OomKill, day + minute * BUCKET_MS);
        }
        assert_eq!(series.signals.len(), BUCKETS_MAX);
        assert!(series.signals.values().all(|kinds| kinds.len() == 2));
        // A clock that jumps ahead ends what is older than a day.
        series.signal(SignalKind::OomKill, 30 * day);
        assert_eq!(series.signals.len(), 1);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut series = Series::default();
        series.signal(SignalKind::KernelPanic, 1_000_000);
        series.rollouts.entry(7).or_default().signals = 3;
        let read: Series = serde_json::from_slice(&to_json(&series)).unwrap_or_default();
        assert_eq!(read.signals, series.signals);
        assert_eq!(read.rollouts, series.rollouts);
    }
}
