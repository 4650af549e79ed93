//! The start: what ledger and slots say was under way is reported as it truly ended. No `Begun` of
//! an earlier process is ever used; the slot is inspected instead.

use crate::Machine;
use crate::planted::{Bug, planted};
use crate::revert::Reverting;
use ringward_domain::ledger::{AttemptPhase, Installed, NotSwitchedWhy, RevertWhy};
use ringward_domain::limits::BAD_BOOTS_MAX;
use ringward_domain::manifest::Manifest;
use ringward_domain::observed::PackageObserved;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{AssignmentKind, BootId, Millis, Timestamp};

impl Machine {
    pub(crate) fn recover(
        &mut self,
        slots: Vec<PackageObserved>,
        manifest: Option<Box<Manifest>>,
        now: Timestamp,
    ) {
        self.slots = slots
            .into_iter()
            .map(|slot| (slot.package.clone(), installed(slot)))
            .collect();
        if !self.acts {
            self.report_unusable_ledger(now);
            return;
        }
        if planted(Bug::OwnBarForgotten) {
            self.ledger.bars.clear();
        }
        let Some(attempt) = self.ledger.attempt.as_ref() else {
            self.report_unclean_stop();
            return;
        };
        let on_release =
            self.running(&attempt.package).map(|r| r.release) == Some(attempt.to.release);
        match attempt.phase {
            AttemptPhase::Switching if on_release => self.recover_applied(manifest, now),
            AttemptPhase::Switching => {
                let nonce = attempt.nonce;
                self.set_phase(AttemptPhase::NotSwitched(NotSwitchedWhy::Restarted));
                self.remember_burned(nonce);
            }
            AttemptPhase::Trial if on_release => self.recover_applied(manifest, now),
            // Somebody put the old release back by hand: it stays, and the new one stays away.
            AttemptPhase::Trial => {
                let release = attempt.to.release;
                self.ledger.bars.insert(release);
                self.set_phase(AttemptPhase::Reverted(RevertWhy::Rescue));
            }
            AttemptPhase::Reverted(why) => {
                if on_release && attempt.from.as_ref() != Some(&attempt.to) {
                    self.reverting = Some(Reverting::Due { at: now });
                }
                if why == RevertWhy::BadBoots {
                    self.report_guard_revert(now);
                }
            }
            AttemptPhase::Committed | AttemptPhase::Failed(_) | AttemptPhase::NotSwitched(_) => {}
        }
        self.report_unclean_stop();
    }

    fn set_phase(&mut self, phase: AttemptPhase) {
        if let Some(attempt) = self.ledger.attempt.as_mut() {
            attempt.phase = phase;
            self.write_ledger();
        }
    }

    fn recover_applied(&mut self, manifest: Option<Box<Manifest>>, now: Timestamp) {
        if self
            .ledger
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.phase == AttemptPhase::Switching)
        {
            self.set_phase(AttemptPhase::Trial);
        }
        self.unmark_boot_that_died();
        self.note_boot();
        if self.bad_boots_before_this() >= BAD_BOOTS_MAX {
            // The guard would have gone back before us; where it could not run, the agent does.
            self.revert(RevertWhy::BadBoots, now);
            return;
        }
        self.begin_trial(manifest.map(|manifest| manifest.probes), now);
    }

    /// A boot that was healthy for a while and then died was not healthy.
    fn unmark_boot_that_died(&mut self) {
        let boot = self.boot;
        if self.last_stop_clean != Some(false) {
            return;
        }
        if let Some(attempt) = self.ledger.attempt.as_mut()
            && let Some(last) = attempt.boots.iter_mut().rfind(|noted| noted.boot != boot)
            && last.healthy
        {
            last.healthy = false;
            self.write_ledger();
        }
    }

    fn bad_boots_before_this(&self) -> u32 {
        let Some(attempt) = self.ledger.attempt.as_ref() else {
            return 0;
        };
        if attempt.kind == AssignmentKind::Rollback {
            return 0; // it has nowhere better to go
        }
        let bad =
            |noted: &&ringward_domain::ledger::TrialBoot| noted.boot != self.boot && !noted.healthy;
        u32::try_from(attempt.boots.iter().filter(bad).count()).unwrap_or(u32::MAX)
    }

    /// The stop before this boot, told once a process under one key a boot.
    fn report_unclean_stop(&mut self) {
        if self.last_stop_clean != Some(false) {
            return;
        }
        let died = self.boot_that_died();
        let against = self
            .open_attempt()
            .filter(|_| died.is_some())
            .map(|attempt| attempt.to.release);
        let draft = SignalDraft {
            kind: SignalKind::UncleanBoot,
            key: format!("unclean-stop-before:{}", self.boot),
            boot: died.unwrap_or(self.boot),
            at_boottime: Millis::ZERO,
            title: "the host stopped without a clean shutdown".to_owned(),
            signature: String::new(),
            evidence: "{}".to_owned(),
        };
        self.signal(draft, against);
    }

    /// The trial's boot before this one, if the trial had begun before this boot.
    fn boot_that_died(&self) -> Option<BootId> {
        let attempt = self.ledger.attempt.as_ref()?;
        if attempt.switched_in == self.boot {
            return None;
        }
        let noted = attempt.boots.iter().rfind(|noted| noted.boot != self.boot);
        Some(noted.map_or(attempt.switched_in, |noted| noted.boot))
    }

    /// The guard went back: told once, then the boot is marked so that it is not told again.
    fn report_guard_revert(&mut self, now: Timestamp) {
        let boot = self.boot;
        let Some(attempt) = self.ledger.attempt.as_mut() else {
            return;
        };
        let Some(noted) = attempt.boots.last_mut().filter(|noted| !noted.healthy) else {
            return;
        };
        noted.healthy = true;
        let release = attempt.to.release;
        let draft = SignalDraft {
            kind: SignalKind::GuardReverted,
            key: format!("guard-reverted:{}", attempt.nonce),
            boot,
            at_boottime: now.since(Timestamp::default()),
            title: format!(
                "the guard went back from {} {} after {BAD_BOOTS_MAX} bad boots",
                attempt.package, attempt.to.version
            ),
            signature: String::new(),
            evidence: "{}".to_owned(),
        };
        self.signal(draft, Some(release));
        self.write_ledger();
    }

    fn report_unusable_ledger(&mut self, now: Timestamp) {
        let draft = SignalDraft {
            kind: SignalKind::AgentDegraded,
            key: format!("ledger-unusable:{}", self.boot),
            boot: self.boot,
            at_boottime: now.since(Timestamp::default()),
            title: "the ledger cannot be read: the agent reports and takes no orders".to_owned(),
            signature: String::new(),
            evidence: "{}".to_owned(),
        };
        self.signal(draft, None);
    }
}

fn installed(slot: PackageObserved) -> Option<Installed> {
    Some(Installed {
        release: slot.running?,
        version: slot.running_version?,
    })
}
