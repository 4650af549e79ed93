//! Two clocks: time awake, and healthy time of a trial.

use crate::planted::{Bug, planted};
use ringward_domain::{Millis, Timestamp};

/// The boot-time clock without the time asleep.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AwakeClock {
    slept: Millis,
}

impl AwakeClock {
    /// The host was asleep for this long.
    pub(crate) fn slept(&mut self, slept: Millis) {
        if !planted(Bug::SoakClockRunsInSuspend) {
            self.slept += slept;
        }
    }

    pub(crate) fn awake(self, now: Timestamp) -> Timestamp {
        now - self.slept
    }

    pub(crate) fn to_boottime(self, awake: Timestamp) -> Timestamp {
        awake + self.slept
    }
}

/// Awake time proven by rounds of probes: healthy, unhealthy or cut off. It grows from one such
/// round to the next, by at most
/// `step_max`: a round that came late (a wake-up from suspend not yet told, a stalled process)
/// proves nothing about the time before it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SoakClock {
    soaked: Millis,
    passed_at: Option<Timestamp>,
}

impl SoakClock {
    pub(crate) fn soaked(self) -> Millis {
        self.soaked
    }

    /// A round passed at this time of the awake clock.
    pub(crate) fn passed(&mut self, awake: Timestamp, step_max: Millis) {
        if let Some(before) = self.passed_at {
            let step = awake.since(before);
            self.soaked += if planted(Bug::SoakClockRunsInSuspend) {
                step
            } else {
                step.min(step_max)
            };
        }
        self.passed_at = Some(awake);
    }

    /// A sleep was told after a round had counted it: the awake clock went back. What that round
    /// earned at most is taken away again.
    pub(crate) fn slept_before(&mut self, awake: Timestamp, step_max: Millis) {
        if self.passed_at.is_some_and(|passed| passed > awake) {
            self.soaked = self.soaked - step_max;
            self.passed_at = Some(awake);
        }
    }

    /// A round failed: the time since the last passing one earns nothing.
    pub(crate) fn failed(&mut self) {
        self.passed_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_between_passing_rounds_counts() {
        let mut soak = SoakClock::default();
        let step_max = Millis::secs(30);
        soak.passed(Timestamp(0), step_max);
        soak.passed(Timestamp(10_000), step_max);
        soak.failed();
        soak.passed(Timestamp(20_000), step_max);
        soak.passed(Timestamp(30_000), step_max);
        assert_eq!(soak.soaked(), Millis::secs(20));
    }

    #[test]
    fn a_late_round_earns_no_more_than_one_step() {
        let mut soak = SoakClock::default();
        soak.passed(Timestamp(0), Millis::secs(30));
        soak.passed(Timestamp(8 * 3_600_000), Millis::secs(30));
        assert_eq!(soak.soaked(), Millis::secs(30));
    }

    #[test]
    fn time_asleep_is_not_time_awake() {
        let mut clock = AwakeClock::default();
        clock.slept(Millis::hours(1));
        assert_eq!(clock.awake(Timestamp(3_600_500)), Timestamp(500));
        assert_eq!(clock.to_boottime(Timestamp(500)), Timestamp(3_600_500));
    }
}
