//! What the host says of itself: a level, told when it changes and repeated in case it was lost.

use crate::Machine;
use ringward_domain::ledger::{Attempt, AttemptPhase};
use ringward_domain::observed::{AttemptObserved, Observed, PackageObserved, PhaseObserved};
use ringward_domain::order::ContainmentObserved;

/// Repeated with every third heartbeat while something is under way or changed lately...
const REPEAT_BUSY: u32 = 3;
/// ...lately being this many heartbeats...
const LATELY: u32 = 12;
/// ...and otherwise only this often: with 10 s heartbeats 10,000 hosts send 33 a second.
const REPEAT_IDLE: u32 = 30;

/// What the server was told in this session.
#[derive(Debug, Default)]
pub(crate) struct Told {
    last: Option<Observed>,
    /// The burned attempt beside the trial was told in this session.
    pub(crate) aside: bool,
    heartbeats_since_told: u32,
    heartbeats_since_change: u32,
}

impl Told {
    pub(crate) fn heartbeat(&mut self) {
        self.heartbeats_since_told = self.heartbeats_since_told.saturating_add(1);
        self.heartbeats_since_change = self.heartbeats_since_change.saturating_add(1);
    }

    /// What was given out last was not carried out.
    pub(crate) fn forget(&mut self) {
        self.last = None;
        self.aside = false;
    }
}

impl Machine {
    /// The host's own account of what it runs and does.
    #[must_use]
    pub fn observed(&self) -> Observed {
        let attempt = self.ledger.attempt.as_ref();
        Observed {
            packages: self.packages_observed(),
            preparing: self.preparation.observed(),
            attempt: attempt.map(|attempt| self.attempt_observed(attempt)),
            bars: self.ledger.bars.iter().copied().collect(),
            orders: self.containment.observed(self.awake(self.seen)),
        }
    }

    fn packages_observed(&self) -> Vec<PackageObserved> {
        let mut names: Vec<_> = self
            .slots
            .keys()
            .chain(self.ledger.packages.keys())
            .collect();
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let running = self.running(name);
                let committed = self
                    .ledger
                    .packages
                    .get(name)
                    .and_then(|package| package.committed.as_ref());
                PackageObserved {
                    package: name.clone(),
                    running: running.map(|r| r.release),
                    running_version: running.map(|r| r.version.clone()),
                    committed: committed.map(|c| c.release),
                    committed_version: committed.map(|c| c.version.clone()),
                }
            })
            .collect()
    }

    fn attempt_observed(&self, attempt: &Attempt) -> AttemptObserved {
        let phase = match attempt.phase {
            AttemptPhase::Switching => PhaseObserved::Switching,
            AttemptPhase::Trial if self.awaits_reboot() => match self.rebooting {
                Some(_) => PhaseObserved::Rebooting,
                None => PhaseObserved::Applied,
            },
            AttemptPhase::Trial => match self.soaked() {
                Some((_, soaked)) => PhaseObserved::Soaking { soaked },
                None => PhaseObserved::Applied,
            },
            AttemptPhase::Committed => PhaseObserved::Committed,
            // Not back yet: the slot still holds the release.
            AttemptPhase::Reverted(_) if self.reverting.is_some() => PhaseObserved::Applied,
            AttemptPhase::Reverted(why) => PhaseObserved::Reverted(why),
            AttemptPhase::Failed(why) => PhaseObserved::Failed(why),
            AttemptPhase::NotSwitched(why) => PhaseObserved::NotSwitched(why),
        };
        AttemptObserved {
            nonce: attempt.nonce,
            rollout: attempt.rollout,
            package: attempt.package.clone(),
            release: attempt.to.release,
            phase,
        }
    }

    /// What goes into a new session's Hello; counts as told.
    pub(crate) fn session_observed(&mut self) -> Observed {
        self.told = Told::default();
        let observed = self.with_aside();
        self.told.last = Some(comparable(&observed));
        observed
    }

    /// The observed state, with the burned attempt in the trial's place as long as it is untold.
    fn with_aside(&mut self) -> Observed {
        let mut observed = self.observed();
        if let Some(aside) = self.aside.as_ref()
            && !self.told.aside
        {
            observed.attempt = Some(aside.clone());
            self.told.aside = true;
        }
        observed
    }

    /// Tells what changed, or repeats it in due time. At most twice: a burned attempt, then the
    /// trial beside which it happened.
    pub(crate) fn tell(&mut self) {
        // What the ledger does not hold yet is not told.
        if !self.link.is_up() || self.ledger_retry.is_some() {
            return;
        }
        for _ in 0..2 {
            let observed = self.with_aside();
            let comparable = comparable(&observed);
            let changed = self.told.last.as_ref() != Some(&comparable);
            let busy = self.open_attempt().is_some()
                || self.progress.target().is_some()
                || self.told.heartbeats_since_change < LATELY;
            let repeat_after = if busy { REPEAT_BUSY } else { REPEAT_IDLE };
            if !changed && self.told.heartbeats_since_told < repeat_after {
                return;
            }
            self.told.heartbeats_since_told = 0;
            if changed {
                self.told.heartbeats_since_change = 0;
            }
            self.told.last = Some(comparable);
            self.out.send_observed(Box::new(observed));
        }
    }
}

/// Without the soak time, which heartbeats carry, and without what an isolation has left, which the
/// server counts itself.
fn comparable(observed: &Observed) -> Observed {
    let mut observed = observed.clone();
    if let Some(attempt) = observed.attempt.as_mut()
        && let PhaseObserved::Soaking { soaked } = &mut attempt.phase
    {
        *soaked = ringward_domain::Millis::ZERO;
    }
    if let ContainmentObserved::Closed { left, .. } = &mut observed.orders.containment {
        *left = None;
    }
    observed
}
