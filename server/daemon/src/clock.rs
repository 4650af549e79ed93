//! The fleet clock: advances only while the server works, and never steps back.
//!
//! Every deadline of the server counts on it. It resumes from the last persisted value, so deadlines
//! stand still while the server is down. A gap between two looks that is longer than [`STEP_MAX`]
//! is an outage of the server itself (a full disk, a stopped process, a suspended machine), and an
//! outage must not count against hosts (DESIGN §2.6): of such a gap only `STEP_MAX` passes.

use ringward_domain::{Millis, Timestamp};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest step between two looks. The actor looks at least every 250 ms while it works; eight
/// times that tells a busy server from one that stood still.
pub const STEP_MAX: Millis = Millis::secs(2);

/// The fleet clock, owned by the actor.
#[derive(Debug)]
pub struct FleetClock {
    value: Timestamp,
    looked: Instant,
    lost: Millis,
}

impl FleetClock {
    /// Goes on from the value last persisted.
    pub fn resume(persisted: Timestamp, at: Instant) -> Self {
        Self {
            value: persisted,
            looked: at,
            lost: Millis::ZERO,
        }
    }

    /// The time at `at`; an `at` before the last look changes nothing.
    pub fn look(&mut self, at: Instant) -> Timestamp {
        let passed = at.saturating_duration_since(self.looked);
        let passed_ms = Millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        if passed_ms == Millis::ZERO {
            return self.value;
        }
        let step = passed_ms.min(STEP_MAX);
        self.lost += passed_ms - step;
        self.value = self.value + step;
        // The fraction of a millisecond is kept for the next look.
        self.looked += Duration::from_millis(passed_ms.0);
        self.value
    }

    /// The time at the last look.
    pub fn read(&self) -> Timestamp {
        self.value
    }

    /// How long after the last look `time` is reached; zero if it is past.
    pub fn until(&self, time: Timestamp) -> Duration {
        Duration::from_millis(time.since(self.value).0)
    }

    /// When, on this process's clock, the fleet clock read `time`; the last look if it did not yet.
    pub fn instant_of(&self, time: Timestamp) -> Instant {
        let back = self.value.since(time);
        self.looked
            .checked_sub(Duration::from_millis(back.0))
            .unwrap_or(self.looked)
    }

    /// Time taken out since the start because the server itself stood still.
    pub fn lost(&self) -> Millis {
        self.lost
    }
}

/// Wall clock in Unix milliseconds: for display and for expiry at the edge, never for a decision
/// about a rollout.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_resumes_where_it_was_and_never_steps_back() {
        let start = Instant::now();
        let mut clock = FleetClock::resume(Timestamp(5_000), start);
        assert_eq!(clock.look(start), Timestamp(5_000));
        assert_eq!(
            clock.look(start + Duration::from_millis(250)),
            Timestamp(5_250)
        );
        assert_eq!(clock.look(start), Timestamp(5_250));
    }

    #[test]
    fn an_outage_of_the_server_is_not_time_for_the_fleet() {
        let start = Instant::now();
        let mut clock = FleetClock::resume(Timestamp(0), start);
        let after = start + Duration::from_secs(600);
        assert_eq!(clock.look(after), Timestamp(STEP_MAX.0));
        assert_eq!(clock.lost(), Millis::secs(598));
        assert_eq!(
            clock.look(after + Duration::from_millis(100)),
            Timestamp(STEP_MAX.0 + 100)
        );
    }

    #[test]
    fn many_looks_lose_no_fraction() {
        let start = Instant::now();
        let mut clock = FleetClock::resume(Timestamp(0), start);
        for i in 1..=1_000u64 {
            clock.look(start + Duration::from_micros(i * 300));
        }
        assert_eq!(
            clock.look(start + Duration::from_millis(300)),
            Timestamp(300)
        );
    }
}
