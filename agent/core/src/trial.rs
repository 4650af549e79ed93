//! A release on trial: probes, soak, the network, and what ends it.

use crate::soak::SoakClock;
use crate::{Effect, Machine};
use ringward_domain::ledger::{AttemptPhase, Installed, RevertWhy, TrialBoot};
use ringward_domain::limits::{BAD_BOOTS_MAX, HISTORY_MAX};
use ringward_domain::manifest::Probe;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{AssignmentKind, Millis, Nonce, ReleaseDigest, Timestamp};

/// Probes run six times a soak, between four times a second and every 10 s.
const PROBES_A_SOAK: u64 = 6;
const PROBE_EVERY_MIN: Millis = Millis(250);
const PROBE_EVERY_MAX: Millis = Millis::secs(10);
/// A round that brought no answer for this long failed.
const PROBES_LOST: Millis = Millis::secs(60);
/// Probes that fail for the soak time on end, but at least and at most this long, take the host back:
/// services need time to come up after a boot.
const UNHEALTHY_MIN: Millis = Millis::secs(10);
const UNHEALTHY_MAX: Millis = Millis::mins(5);
/// A boot counts as healthy after the soak time, at most this: a host that dies a little later does
/// not collect healthy boots.
const HEALTHY_BOOT_AFTER_MAX: Millis = Millis::secs(60);
/// Neither server nor gateway for this long: the release broke the network (DESIGN §2.6).
const NETWORK_LOST: Millis = Millis::mins(10);
/// A reboot that did not come about is asked for again.
const REBOOT_AGAIN: Millis = Millis::mins(5);
/// Boots a trial remembers.
const BOOTS_MAX: usize = BAD_BOOTS_MAX as usize + 2;

/// What this process knows of the trial under way; times are of the awake clock.
#[derive(Debug)]
pub(crate) struct Trial {
    /// `None` where the manifest is lost: nothing proves health then.
    probes: Option<Vec<Probe>>,
    soak: SoakClock,
    /// The first passing round was seen in this process.
    passing: bool,
    next_round: Timestamp,
    /// Since when a round is out.
    asked: Option<Timestamp>,
    /// Time of rounds that failed on end.
    unhealthy: SoakClock,
    /// Time of rounds during which neither server nor gateway could be reached.
    unreachable: Option<SoakClock>,
    probe_failure_told: bool,
    /// Boot-time clock when the release began to run in this process.
    began: Timestamp,
}

impl Machine {
    /// Starts the trial, or the reboot that comes before it.
    pub(crate) fn begin_trial(&mut self, probes: Option<Vec<Probe>>, now: Timestamp) {
        if self.awaits_reboot() {
            return;
        }
        let awake = self.clock.awake(now);
        let mut unhealthy = SoakClock::default();
        unhealthy.passed(awake, Millis::ZERO);
        self.trial = Some(Trial {
            probes,
            soak: SoakClock::default(),
            passing: false,
            next_round: awake,
            asked: None,
            unhealthy,
            unreachable: None,
            probe_failure_told: false,
            began: now,
        });
    }

    /// On the release, and the boot that is to prove it has not happened yet.
    pub(crate) fn awaits_reboot(&self) -> bool {
        self.ledger.attempt.as_ref().is_some_and(|attempt| {
            attempt.phase == AttemptPhase::Trial
                && attempt.boot_required
                && attempt.switched_in == self.boot
        })
    }

    /// Notes this boot in the ledger's trial, as the guard does; it counts as bad until marked.
    pub(crate) fn note_boot(&mut self) {
        let boot = self.boot;
        if let Some(attempt) = self.ledger.attempt.as_mut()
            && attempt.boots.iter().all(|noted| noted.boot != boot)
            && (!attempt.boot_required || attempt.switched_in != boot)
        {
            attempt.boots.push(TrialBoot {
                boot,
                healthy: false,
            });
            while attempt.boots.len() > BOOTS_MAX {
                let oldest_healthy = attempt.boots.iter().position(|noted| noted.healthy);
                attempt.boots.remove(oldest_healthy.unwrap_or(0));
            }
            self.write_ledger();
        }
    }

    /// How often a round of probes runs.
    fn probe_every(&self) -> Millis {
        let soak = self
            .ledger
            .attempt
            .as_ref()
            .map_or(Millis::ZERO, |a| a.soak);
        Millis((soak.0 / PROBES_A_SOAK).clamp(PROBE_EVERY_MIN.0, PROBE_EVERY_MAX.0))
    }

    pub(crate) fn on_probes(&mut self, failed: &[String], now: Timestamp) {
        let awake = self.clock.awake(now);
        let every = self.probe_every();
        let Some(trial) = self.trial.as_mut() else {
            return;
        };
        if trial.asked.take().is_none() {
            return; // an answer to a round that was given up
        }
        trial.next_round = awake + every;
        if failed.is_empty() {
            trial.round_passed(awake, step_max(every));
        } else {
            trial.round_failed(awake, step_max(every));
        }
    }

    pub(crate) fn settle_trial(&mut self, now: Timestamp) {
        let awake = self.clock.awake(now);
        let every = self.probe_every();
        let Some(trial) = self.trial.as_mut() else {
            return;
        };
        if trial
            .asked
            .is_some_and(|asked| awake.since(asked) >= PROBES_LOST)
        {
            trial.asked = None;
            trial.round_failed(awake, step_max(every));
        }
        if trial.asked.is_none() && trial.next_round <= awake {
            match trial.probes.as_ref() {
                Some(probes) if probes.is_empty() => {
                    trial.round_passed(awake, step_max(every));
                    trial.next_round = awake + every;
                }
                Some(probes) => {
                    trial.asked = Some(awake);
                    self.out.free(Effect::RunProbes(probes.clone()));
                }
                None => {
                    trial.round_failed(awake, step_max(every));
                    trial.next_round = awake + every;
                }
            }
        }
        self.mark_healthy_boot();
        self.end_trial(now);
    }

    fn mark_healthy_boot(&mut self) {
        let boot = self.boot;
        let (Some(trial), Some(attempt)) = (self.trial.as_ref(), self.ledger.attempt.as_mut())
        else {
            return;
        };
        if trial.soak.soaked() < Millis(attempt.soak.0.min(HEALTHY_BOOT_AFTER_MAX.0)) {
            return;
        }
        if let Some(noted) = attempt.boots.iter_mut().find(|noted| noted.boot == boot)
            && !noted.healthy
            && trial.passing
        {
            noted.healthy = true;
            self.write_ledger();
        }
    }

    /// Commits, or goes back, when the trial says so.
    fn end_trial(&mut self, now: Timestamp) {
        // A release that cuts the host off could soak in full before the cut is certain: nothing is
        // proven without a session.
        let connected = self.link.is_up();
        let (Some(trial), Some(attempt)) = (self.trial.as_mut(), self.ledger.attempt.as_ref())
        else {
            return;
        };
        let reachable = connected && trial.unreachable.is_none();
        if trial.passing && trial.soak.soaked() >= attempt.soak && reachable {
            self.commit();
            return;
        }
        let install = attempt.kind == AssignmentKind::Install;
        let limit = Millis(attempt.soak.0.clamp(UNHEALTHY_MIN.0, UNHEALTHY_MAX.0));
        let unreachable = trial.unreachable.map_or(Millis::ZERO, SoakClock::soaked);
        if trial.unhealthy.soaked() >= limit {
            let first = !std::mem::replace(&mut trial.probe_failure_told, true);
            if first {
                let draft = SignalDraft {
                    kind: SignalKind::ProbeFailed,
                    key: format!("probe-failed:{}", attempt.nonce),
                    boot: self.boot,
                    at_boottime: now.since(Timestamp::default()),
                    title: format!(
                        "the health probes of {} {} did not pass for {limit}",
                        attempt.package, attempt.to.version
                    ),
                    signature: String::new(),
                    evidence: "{}".to_owned(),
                };
                let release = attempt.to.release;
                self.signal(draft, Some(release));
            }
            if install {
                self.revert(RevertWhy::ProbesFailed, now);
            }
        } else if install && unreachable >= NETWORK_LOST {
            self.revert(RevertWhy::NetworkLost, now);
        }
    }

    fn commit(&mut self) {
        self.trial = None;
        let Some(attempt) = self.ledger.attempt.as_mut() else {
            return;
        };
        attempt.phase = AttemptPhase::Committed;
        let package = self
            .ledger
            .packages
            .entry(attempt.package.clone())
            .or_default();
        let proven: Installed = attempt.to.clone();
        let before = package.committed.replace(proven.clone());
        package
            .history
            .retain(|known| known.release != proven.release);
        // What a rollback leaves was taken back: it is no place to go back to.
        if attempt.kind == AssignmentKind::Install
            && let Some(before) = before.filter(|before| before.release != proven.release)
        {
            package.history.push(before);
            let excess = package.history.len().saturating_sub(HISTORY_MAX);
            package.history.drain(..excess);
        }
        self.write_ledger();
    }

    pub(crate) fn trial_slept(&mut self, now: Timestamp) {
        let (awake, step_max) = (self.clock.awake(now), step_max(self.probe_every()));
        if let Some(trial) = self.trial.as_mut() {
            trial.soak.slept_before(awake, step_max);
            trial.unhealthy.slept_before(awake, step_max);
            if let Some(lost) = trial.unreachable.as_mut() {
                lost.slept_before(awake, step_max);
            }
        }
    }

    pub(crate) fn on_network(&mut self, reachable: bool, now: Timestamp) {
        let awake = self.clock.awake(now);
        if let Some(trial) = self.trial.as_mut() {
            match reachable {
                true => trial.unreachable = None,
                false if trial.unreachable.is_none() => {
                    let mut lost = SoakClock::default();
                    lost.passed(awake, Millis::ZERO);
                    trial.unreachable = Some(lost);
                }
                false => {}
            }
        }
    }

    /// The release a signal of this boot tells against, if one is on trial in it.
    pub(crate) fn trial_release(&self, draft: &SignalDraft) -> Option<ReleaseDigest> {
        let attempt = self.open_attempt()?;
        let trial_boot = attempt.boots.iter().any(|noted| noted.boot == draft.boot);
        let before_switch = self.trial.as_ref().is_some_and(|trial| {
            attempt.switched_in == draft.boot
                && draft.boot == self.boot
                && draft.at_boottime != Millis::ZERO
                && Timestamp(draft.at_boottime.0) < trial.began
        });
        (trial_boot && !before_switch).then_some(attempt.to.release)
    }

    /// A service that crash-loops under a release on trial takes the host back; a rollback has
    /// nowhere better to go.
    pub(crate) fn reverts_on(&self, kind: SignalKind) -> bool {
        kind == SignalKind::CrashLoop && self.trial_goes_back()
    }

    /// Whether a failing trial of now goes back by itself.
    fn trial_goes_back(&self) -> bool {
        self.trial.is_some()
            && self.open_attempt().is_some_and(|attempt| {
                attempt.phase == AttemptPhase::Trial && attempt.kind == AssignmentKind::Install
            })
    }

    /// Whether the rollback on trial is not healthy either: then anything newer may be tried.
    pub(crate) fn rollback_is_unhealthy(&self) -> bool {
        self.trial
            .as_ref()
            .is_some_and(|trial| trial.probe_failure_told)
            && !self.trial_goes_back()
    }

    /// Soak so far of the attempt that soaks.
    pub(crate) fn soaked(&self) -> Option<(Nonce, Millis)> {
        let trial = self.trial.as_ref().filter(|trial| trial.passing)?;
        Some((self.ledger.attempt.as_ref()?.nonce, trial.soak.soaked()))
    }

    /// Asks for the reboot into the trial, the guard armed and the server told before.
    pub(crate) fn settle_reboot(&mut self, now: Timestamp) {
        let asked_lately = self
            .rebooting
            .is_some_and(|asked| now.since(asked) < REBOOT_AGAIN);
        let may = self.acts && self.ledger_retry.is_none() && self.reverting.is_none();
        if !self.awaits_reboot() || asked_lately || !may {
            return;
        }
        self.rebooting = Some(now);
        self.tell();
        self.armed = Some(true);
        self.out.act(Effect::ArmGuard);
        self.out.act(Effect::Reboot);
    }

    /// The guard is armed exactly while something is switching, on trial, or left on trial by a
    /// rollback that did not come about.
    pub(crate) fn settle_guard(&mut self) {
        let left_on_trial = self.ledger.attempt.as_ref().is_some_and(|attempt| {
            let committed = self.ledger.packages.get(&attempt.package);
            let committed = committed.and_then(|package| package.committed.as_ref());
            let running = self.running(&attempt.package);
            attempt.kind == AssignmentKind::Rollback
                && running == attempt.from.as_ref()
                && running != committed
        });
        let wanted = self.open_attempt().is_some() || self.reverting.is_some() || left_on_trial;
        if self.acts && self.armed != Some(wanted) {
            self.armed = Some(wanted);
            self.out.act(match wanted {
                true => Effect::ArmGuard,
                false => Effect::DisarmGuard,
            });
        }
    }

    pub(crate) fn trial_wakeup(&self) -> Option<Timestamp> {
        if self.awaits_reboot() {
            return self.rebooting.map(|asked| asked + REBOOT_AGAIN);
        }
        let trial = self.trial.as_ref()?;
        let round = match trial.asked {
            Some(asked) => asked + PROBES_LOST,
            None => trial.next_round,
        };
        Some(self.clock.to_boottime(round))
    }
}

/// Most that one round earns. Three periods: a round may take as long as one, and be late by
/// another.
fn step_max(every: Millis) -> Millis {
    every.times(3)
}

impl Trial {
    fn round_passed(&mut self, awake: Timestamp, step_max: Millis) {
        self.soak.passed(awake, step_max);
        self.passing = true;
        self.unhealthy = SoakClock::default();
        self.network_round(awake, step_max);
    }

    fn round_failed(&mut self, awake: Timestamp, step_max: Millis) {
        self.soak.failed();
        self.unhealthy.passed(awake, step_max);
        self.network_round(awake, step_max);
    }

    /// Counted by rounds too: a clock that jumps must not look like ten minutes without network.
    fn network_round(&mut self, awake: Timestamp, step_max: Millis) {
        if let Some(lost) = self.unreachable.as_mut() {
            lost.passed(awake, step_max);
        }
    }
}
