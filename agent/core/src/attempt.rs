//! One attempt: request -> grant -> Begin -> Begun -> switch (DESIGN §4).
//!
//! A grant's life and the 10 s for `Begun` run on the boot-time clock, so time asleep uses them up.

use crate::event::SwitchFailure;
use crate::planted::{Bug, planted};
use crate::prepare::Want;
use crate::{Effect, Machine};
use ringward_domain::ledger::{
    Attempt, AttemptPhase, FailWhy, Installed, NotSwitchedWhy, TrialBoot,
};
use ringward_domain::limits::BURNED_MAX;
use ringward_domain::manifest::{BootNeed, Probe};
use ringward_domain::observed::{AttemptObserved, PhaseObserved};
use ringward_domain::session::{Begin, BeginRefusal, RequestGrant, ToServer};
use ringward_domain::{AssignmentKind, Millis, Nonce, Timestamp};

/// Only a `Begun` this long after the first `Begin` permits the switch.
const BEGUN_WITHIN: Millis = Millis::secs(10);
/// `Begin` is sent again this often within that.
const BEGIN_AGAIN: Millis = Millis::secs(1);
/// A request without an answer is sent again this often...
const REQUEST_AGAIN: Millis = Millis::secs(10);
/// ...and given up after this, the default life of a grant: a new nonce asks anew.
const REQUEST_GIVEN_UP: Millis = Millis::secs(60);
/// No grant lives longer, whatever the server says.
const LIFE_MAX: Millis = Millis::hours(1);
/// After a burned nonce the next request waits this long (jittered), or for the next invitation.
const AFTER_BURN: Millis = Millis::secs(30);
/// A server may not make a host wait longer than this before it asks again.
const WAIT_MAX: Millis = Millis::mins(30);

/// What a request would switch to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    want: Want,
    boot_required: bool,
    soak: Millis,
    probes: Vec<Probe>,
}

/// How far this process got with the attempt of now.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing asked; no request before then.
    Idle { not_before: Timestamp },
    /// Asked for a grant.
    Requesting {
        nonce: Nonce,
        target: Box<Target>,
        requested: Timestamp,
        again: Timestamp,
    },
    /// Granted and announced; waits for `Begun`.
    Beginning {
        nonce: Nonce,
        target: Box<Target>,
        /// End of the grant's life.
        life_ends: Timestamp,
        /// When the first `Begin` went out.
        begun_asked: Timestamp,
        again: Timestamp,
    },
    /// `Effect::Switch` is out.
    Switching { probes: Vec<Probe> },
}

impl Progress {
    /// What is asked for or announced, as long as it can be given up.
    pub(crate) fn target(&self) -> Option<&Want> {
        match self {
            Self::Requesting { target, .. } | Self::Beginning { target, .. } => Some(&target.want),
            Self::Idle { .. } | Self::Switching { .. } => None,
        }
    }

    pub(crate) fn is_switching(&self) -> bool {
        matches!(self, Self::Switching { .. })
    }
}

impl Machine {
    /// A new desired state invites: a wait told earlier is over.
    pub(crate) fn invited(&mut self, now: Timestamp) {
        if let Progress::Idle { not_before } = &mut self.progress {
            *not_before = now;
        }
    }

    /// Asks for a grant when everything is ready and the server invited this host.
    pub(crate) fn settle_request(&mut self, now: Timestamp) {
        let Progress::Idle { not_before } = self.progress else {
            return;
        };
        if not_before > now || !self.may_begin() {
            return;
        }
        let Some(target) = self.target_ready() else {
            return;
        };
        let nonce = self.random.nonce();
        self.send_request(nonce, &target);
        self.progress = Progress::Requesting {
            nonce,
            target: Box::new(target),
            requested: now,
            again: now + REQUEST_AGAIN,
        };
    }

    fn target_ready(&self) -> Option<Target> {
        let (want, manifest) = self.preparation.ready()?;
        let desired = self.desired.as_ref()?;
        let assignment = desired
            .assignments
            .iter()
            .find(|a| a.rollout == want.rollout && a.release == want.release)?;
        let stopped = desired.stopped && assignment.kind == AssignmentKind::Install;
        let asks = assignment.invited && !stopped && self.refuses(want).is_none();
        asks.then(|| Target {
            want: want.clone(),
            boot_required: assignment.verify_boot || manifest.boot == BootNeed::Required,
            soak: assignment.soak,
            probes: manifest.probes.clone(),
        })
    }

    fn send_request(&mut self, nonce: Nonce, target: &Target) {
        self.out.send(ToServer::RequestGrant(RequestGrant {
            nonce,
            rollout: target.want.rollout,
            release: target.want.release,
        }));
    }

    pub(crate) fn on_wait(&mut self, asked: Nonce, retry_after: Millis, now: Timestamp) {
        if let Progress::Requesting { nonce, .. } = self.progress
            && nonce == asked
        {
            let wait = Millis(retry_after.0.min(WAIT_MAX.0));
            let not_before = now + wait + self.random.between(Millis::ZERO, Millis(wait.0 / 4));
            self.progress = Progress::Idle { not_before };
        }
    }

    pub(crate) fn on_grant(&mut self, granted: Nonce, life: Millis, now: Timestamp) {
        let Progress::Requesting {
            nonce,
            target,
            requested,
            ..
        } = &self.progress
        else {
            return;
        };
        if *nonce != granted {
            return;
        }
        let counted_from = if planted(Bug::GrantLifeFromReceipt) {
            now
        } else {
            *requested
        };
        let life_ends = counted_from + Millis(life.0.min(LIFE_MAX.0));
        if now >= life_ends || !self.may_begin() {
            // Never announced, so nothing is exposed: the server lets it run out.
            self.progress = Progress::Idle { not_before: now };
            return;
        }
        self.progress = Progress::Beginning {
            nonce: granted,
            target: target.clone(),
            life_ends,
            begun_asked: now,
            again: now + BEGIN_AGAIN,
        };
        self.out.send(ToServer::Begin(Begin { nonce: granted }));
    }

    pub(crate) fn on_begun(&mut self, begun: Nonce, now: Timestamp) {
        if planted(Bug::DoubleBegun) && !self.progress.is_switching() {
            self.begin_from_old_begun(begun, now);
            return;
        }
        let Progress::Beginning {
            nonce,
            target,
            begun_asked,
            ..
        } = &self.progress
        else {
            return;
        };
        if *nonce != begun || now.since(*begun_asked) > BEGUN_WITHIN {
            return;
        }
        let target = target.clone();
        if self.refuses(&target.want).is_some() {
            self.burn(NotSwitchedWhy::Superseded, now);
            return;
        }
        self.switch(begun, *target);
    }

    /// Writes down that the switch happens, then lets it happen.
    fn switch(&mut self, nonce: Nonce, target: Target) {
        let to = Installed {
            release: target.want.release,
            version: target.want.version.clone(),
        };
        // Without a boot in between, this one runs the release and has yet to prove itself.
        let this_boot = match target.boot_required {
            true => Vec::new(),
            false => vec![TrialBoot {
                boot: self.boot,
                healthy: false,
            }],
        };
        self.ledger.attempt = Some(Attempt {
            nonce,
            rollout: target.want.rollout,
            kind: target.want.kind,
            package: target.want.package.clone(),
            to: to.clone(),
            from: self.running(&target.want.package).cloned(),
            boot_required: target.boot_required,
            soak: target.soak,
            switched_in: self.boot,
            boots: this_boot,
            phase: AttemptPhase::Switching,
        });
        self.aside = None;
        self.trial = None;
        self.write_ledger();
        self.progress = Progress::Switching {
            probes: target.probes,
        };
        // Armed before the switch: a release that kills the host at once must find the guard ready.
        self.armed = Some(true);
        self.out.act(Effect::ArmGuard);
        self.out.act(Effect::Switch {
            package: target.want.package,
            to,
        });
    }

    pub(crate) fn on_switched(&mut self, outcome: Result<(), SwitchFailure>, now: Timestamp) {
        if self.reverting.is_some() {
            self.on_went_back(outcome, now);
            return;
        }
        let idle = Progress::Idle { not_before: now };
        let Progress::Switching { .. } = self.progress else {
            return;
        };
        let Progress::Switching { probes } = std::mem::replace(&mut self.progress, idle) else {
            return;
        };
        self.preparation.consumed();
        let Some(attempt) = self.ledger.attempt.as_mut() else {
            return;
        };
        match outcome {
            Ok(()) => {
                attempt.phase = AttemptPhase::Trial;
                self.slots
                    .insert(attempt.package.clone(), Some(attempt.to.clone()));
                self.begin_trial(Some(probes), now);
            }
            Err(failure) => {
                let nonce = attempt.nonce;
                attempt.phase = match failure {
                    SwitchFailure::Install => AttemptPhase::Failed(FailWhy::Install),
                    SwitchFailure::Disk => AttemptPhase::Failed(FailWhy::Disk),
                    SwitchFailure::Busy => AttemptPhase::NotSwitched(NotSwitchedWhy::Busy),
                };
                if failure == SwitchFailure::Busy {
                    self.remember_burned(nonce);
                }
                self.progress = Progress::Idle {
                    not_before: now + self.random.jitter(AFTER_BURN),
                };
            }
        }
        self.write_ledger();
    }

    /// The ledger write before a switch failed, so the switch was not carried out either.
    pub(crate) fn undo_unwritten_switch(&mut self, now: Timestamp) {
        if self.out.last().switch
            && let Some(attempt) = self.ledger.attempt.as_mut()
            && attempt.phase == AttemptPhase::Switching
        {
            attempt.phase = AttemptPhase::Failed(FailWhy::Disk);
            self.progress = Progress::Idle { not_before: now };
        }
    }

    pub(crate) fn on_begin_refused(&mut self, refused: Nonce, _why: BeginRefusal, now: Timestamp) {
        if let Progress::Beginning { nonce, .. } = self.progress
            && nonce == refused
        {
            self.burn(NotSwitchedWhy::BeginRefused, now);
        }
    }

    /// Lets go of what was asked for; what was announced is burned, because its `Begun` may be on
    /// the way.
    pub(crate) fn give_up_progress(&mut self, why: NotSwitchedWhy, now: Timestamp) {
        match self.progress {
            Progress::Requesting { .. } => self.progress = Progress::Idle { not_before: now },
            Progress::Beginning { .. } => self.burn(why, now),
            Progress::Idle { .. } | Progress::Switching { .. } => {}
        }
    }

    pub(crate) fn give_up_begin_after_suspend(&mut self, now: Timestamp) {
        if matches!(self.progress, Progress::Beginning { .. }) {
            self.burn(NotSwitchedWhy::Suspended, now);
        }
    }

    /// Makes sure that nothing about the announced nonce ever does anything, durably, and says so.
    fn burn(&mut self, why: NotSwitchedWhy, now: Timestamp) {
        let wait = self.random.jitter(AFTER_BURN);
        let idle = Progress::Idle {
            not_before: now + wait,
        };
        let Progress::Beginning { nonce, target, .. } = std::mem::replace(&mut self.progress, idle)
        else {
            return;
        };
        self.remember_burned(nonce);
        if self.open_attempt().is_some() || self.reverting.is_some() {
            // The trial must stay in the ledger: the guard lives by it.
            self.aside = Some(AttemptObserved {
                nonce,
                rollout: target.want.rollout,
                package: target.want.package,
                release: target.want.release,
                phase: PhaseObserved::NotSwitched(why),
            });
            self.told.aside = false;
        } else {
            self.ledger.attempt = Some(Attempt {
                nonce,
                rollout: target.want.rollout,
                kind: target.want.kind,
                from: self.running(&target.want.package).cloned(),
                package: target.want.package,
                to: Installed {
                    release: target.want.release,
                    version: target.want.version,
                },
                boot_required: target.boot_required,
                soak: target.soak,
                switched_in: self.boot,
                boots: Vec::new(),
                phase: AttemptPhase::NotSwitched(why),
            });
        }
        self.write_ledger();
    }

    pub(crate) fn remember_burned(&mut self, nonce: Nonce) {
        self.ledger.burned.push(nonce);
        let excess = self.ledger.burned.len().saturating_sub(BURNED_MAX);
        self.ledger.burned.drain(..excess);
    }

    /// A session is up again: what waits for an answer is said again at once.
    pub(crate) fn resume_progress(&mut self, now: Timestamp) {
        match &mut self.progress {
            Progress::Requesting { again, .. } | Progress::Beginning { again, .. } => *again = now,
            Progress::Idle { .. } | Progress::Switching { .. } => {}
        }
    }

    /// Expiry and resending.
    pub(crate) fn settle_progress(&mut self, now: Timestamp) {
        let up = self.link.is_up();
        match &mut self.progress {
            Progress::Idle { .. } | Progress::Switching { .. } => {}
            Progress::Requesting {
                nonce,
                target,
                requested,
                again,
            } => {
                if now.since(*requested) >= REQUEST_GIVEN_UP {
                    self.progress = Progress::Idle { not_before: now };
                } else if *again <= now && up {
                    *again = now + REQUEST_AGAIN;
                    let (nonce, target) = (*nonce, target.clone());
                    self.send_request(nonce, &target);
                }
            }
            Progress::Beginning {
                nonce,
                target,
                life_ends,
                begun_asked,
                again,
            } => {
                if now.since(*begun_asked) > BEGUN_WITHIN {
                    if planted(Bug::SwitchWithoutBegun) {
                        let (nonce, target) = (*nonce, target.clone());
                        self.switch(nonce, *target);
                    } else {
                        self.burn(NotSwitchedWhy::NoBegun, now);
                    }
                } else if now >= *life_ends {
                    *again = *life_ends; // said for the last time; `Begun` may still come
                } else if *again <= now && up {
                    *again = now + BEGIN_AGAIN;
                    let nonce = *nonce;
                    self.out.send(ToServer::Begin(Begin { nonce }));
                }
            }
        }
    }

    pub(crate) fn progress_wakeup(&self) -> Option<Timestamp> {
        let up = self.link.is_up();
        match &self.progress {
            Progress::Idle { not_before } => {
                (self.may_begin() && self.target_ready().is_some()).then_some(*not_before)
            }
            Progress::Requesting {
                requested, again, ..
            } => {
                let given_up = *requested + REQUEST_GIVEN_UP;
                Some(if up { given_up.min(*again) } else { given_up })
            }
            Progress::Beginning {
                life_ends,
                begun_asked,
                again,
                ..
            } => {
                // One past the bound: at the bound itself a `Begun` still permits.
                let burned = *begun_asked + BEGUN_WITHIN + Millis(1);
                Some(if up && *again < *life_ends {
                    burned.min(*again)
                } else {
                    burned
                })
            }
            Progress::Switching { .. } => None,
        }
    }

    /// The planted bug: any `Begun` switches whatever is ready.
    fn begin_from_old_begun(&mut self, begun: Nonce, _now: Timestamp) {
        let target = match &self.progress {
            Progress::Requesting { target, .. } | Progress::Beginning { target, .. } => {
                Some(target.as_ref().clone())
            }
            Progress::Idle { .. } | Progress::Switching { .. } => self.target_ready(),
        };
        if let Some(target) = target {
            self.switch(begun, target);
        }
    }
}
