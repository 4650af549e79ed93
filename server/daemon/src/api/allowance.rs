//! How much a host may say: messages and signals, over all its sessions. A host that opens a new session
//! finds its allowance as it left it; otherwise each session would bring a fresh burst, and four hosts
//! that come again and again take the disk from two hundred.

use crate::config::Limits;
use ringward_domain::HostId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Every host's allowance; one for each that had a session since the server started.
#[derive(Debug, Default)]
pub struct Allowances {
    by_host: Mutex<HashMap<HostId, Arc<Mutex<Allowance>>>>,
}

/// What one host may still say.
#[derive(Debug)]
pub struct Allowance {
    messages: Rate,
    signals: Rate,
}

impl Allowances {
    /// The allowance of a host.
    pub fn of(&self, host: HostId, limits: &Limits, now: Instant) -> Arc<Mutex<Allowance>> {
        // A map that is only read and added to is whole whatever panicked.
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Mutex::new(Allowance {
                messages: Rate::new(limits.host_messages_per_s, limits.host_message_burst, now),
                signals: Rate::new(limits.host_signals_per_s, limits.host_signal_burst, now),
            }))
        };
        Arc::clone(by_host.entry(host).or_insert_with(fresh))
    }
}

impl Allowance {
    /// Takes one message with so many signals in it; answers how long to wait first, if at all.
    pub fn take(&mut self, signals: usize, now: Instant) -> Option<Duration> {
        let message = self.messages.take(1, now);
        message.max(self.signals.take(signals, now))
    }
}

/// A token bucket: so many in one go, so many a second in the long run.
#[derive(Debug)]
struct Rate {
    per_s: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn new(per_s: u32, burst: u32, now: Instant) -> Self {
        Self {
            per_s: f64::from(per_s),
            burst: f64::from(burst),
            tokens: f64::from(burst),
            at: now,
        }
    }

    /// Takes so many; answers how long to wait first, if at all.
    fn take(&mut self, count: usize, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * self.per_s).min(self.burst) - count as f64;
        (self.tokens < 0.0).then(|| Duration::from_secs_f64(-self.tokens / self.per_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed_to_the_rate() {
        let start = Instant::now();
        let mut rate = Rate::new(10, 5, start);
        for _ in 0..5 {
            assert_eq!(rate.take(1, start), None);
        }
        let pause = rate.take(1, start).unwrap_or_default();
        assert!((99..=101).contains(&pause.as_millis()), "{pause:?}");
        assert_eq!(rate.take(1, start + Duration::from_secs(1)), None);
    }

    #[test]
    fn signals_count_each_and_a_message_of_many_waits_for_all_of_them() {
        let start = Instant::now();
        let mut allowance = Allowance {
            messages: Rate::new(1_000, 1_000, start),
            signals: Rate::new(100, 64, start),
        };
        assert_eq!(allowance.take(64, start), None);
        assert_eq!(allowance.take(64, start), Some(Duration::from_millis(640)));
        let later = start + Duration::from_secs(2);
        assert_eq!(allowance.take(0, later), None);
    }
}
