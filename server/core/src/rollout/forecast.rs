//! When a rollout will be through, as things are: an estimate for people that decides nothing.
//!
//! The window grows in rounds: what was confirmed allows as much again. So the time is the number of
//! rounds times what one took so far. Failures to come are not guessed, and hosts that cannot be
//! exposed now are named as not counted.

use super::Rollout;
use super::ring::{Bucket, Ring};
use ringward_domain::Millis;
use ringward_domain::incident::ForecastView;

/// Rounds after which nobody waits for the end of the estimate.
const ROUNDS_MAX: u32 = 10_000;

/// What keeps a round from being larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Proof,
    Failures,
    Cap,
    Reboots,
}

impl Limit {
    const ALL: [Self; 4] = [Self::Proof, Self::Failures, Self::Cap, Self::Reboots];

    fn words(self) -> &'static str {
        match self {
            Self::Proof => "proof: the window grows only as hosts are confirmed",
            Self::Failures => "failures: they hold the window down",
            Self::Cap => "the share of a ring that may be in flight",
            Self::Reboots => "the hourly cap of reboots in the first ring",
        }
    }
}

/// Hosts still to come in one ring, and confirmed ones.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    coming: u64,
    confirmed: u64,
}

impl Rollout {
    /// When it will be through, if no further host fails; `None` where it exposes nobody now.
    #[must_use]
    pub fn forecast(&self) -> Option<ForecastView> {
        if self.not_exposing().is_some() || self.current >= self.rings.len() {
            return None;
        }
        let (left, not_counted) = self.left();
        if left.iter().all(|ring| ring.coming == 0) {
            return Some(ForecastView {
                remaining_ms: None,
                limited_by: "hosts: none can be exposed now".to_owned(),
                not_counted,
            });
        }
        let round = self.round_time();
        let (rounds, limit) = self.rounds(&left, round);
        Some(ForecastView {
            remaining_ms: (rounds < ROUNDS_MAX).then(|| round.times(u64::from(rounds))),
            limited_by: limit.words().to_owned(),
            not_counted,
        })
    }

    fn left(&self) -> (Vec<Left>, u64) {
        let left = |ring: &Ring| Left {
            coming: ring.shown.coming,
            confirmed: ring.count(Bucket::Confirmed),
        };
        let not_counted = self.rings.iter().map(|ring| ring.shown.idle).sum();
        (self.rings.iter().map(left).collect(), not_counted)
    }

    /// From `Begin` to the proof, as it took so far; before anything is proven the soak and half the
    /// silence allowed.
    fn round_time(&self) -> Millis {
        let mut switching = self.switching.clone();
        switching.sort_unstable();
        let floor = if self.spec.boots {
            self.pace.silence_reboot
        } else {
            self.pace.silence
        };
        let usual = Millis(floor.0 / 2);
        self.pace.soak + switching.get(switching.len() / 2).copied().unwrap_or(usual)
    }

    fn rounds(&self, left: &[Left], round: Millis) -> (u32, Limit) {
        let mut spent = [0u32; Limit::ALL.len()];
        let mut trials = self.evidence.trials().max(1);
        let held = self.proof_held_down(left);
        let mut previous = self
            .rings
            .get(self.current)
            .map_or(0, |ring| ring.record.previous_window);
        for (index, ring) in self.rings.iter().enumerate().skip(self.current) {
            let (mut coming, mut confirmed) = (left[index].coming, left[index].confirmed);
            let policy = self.pace.window();
            let (start, cap) = crate::window::bounds(ring.members, index, previous, &policy);
            let mut window = start;
            while coming > 0 && spent.iter().sum::<u32>() < ROUNDS_MAX {
                let proof = start.saturating_add(confirmed);
                let by_failures =
                    held.map_or(u64::MAX, |share| (share * trials as f64).min(1e15) as u64);
                let reboots = self.reboots_a_round(index, round);
                let limits = [proof, by_failures, cap, reboots];
                window = limits.into_iter().min().unwrap_or(1).max(1);
                let which = limits.iter().position(|l| *l == window).unwrap_or(0);
                spent[which] += 1;
                let done = window.min(coming);
                coming -= done;
                confirmed += done;
                trials = trials.saturating_add(done);
            }
            previous = window;
        }
        let longest = (0..spent.len()).max_by_key(|i| spent[*i]).unwrap_or(0);
        (spent.iter().sum(), Limit::ALL[longest])
    }

    /// In flight allowed a trial, where failures and not the lack of proof bound the window.
    fn proof_held_down(&self, left: &[Left]) -> Option<f64> {
        let ring = self.rings.get(self.current)?;
        let previous = ring.record.previous_window;
        let policy = self.pace.window();
        let (start, cap) = crate::window::bounds(ring.members, self.current, previous, &policy);
        let by_progress = start.saturating_add(left[self.current].confirmed).min(cap);
        let failed = self.evidence.total().failed > 0;
        (failed && self.window < by_progress)
            .then(|| self.window as f64 / self.evidence.trials().max(1) as f64)
    }

    fn reboots_a_round(&self, ring: usize, round: Millis) -> u64 {
        if !self.adds_reboot(ring) {
            return u64::MAX;
        }
        let hourly = self.pace.reboot_cap.of(self.members.len() as u64);
        ((hourly as f64 * round.as_secs_f64() / 3600.0) as u64).max(1)
    }
}
