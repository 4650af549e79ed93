//! The person: starts the rollout, looks once in a while, resumes what the storm halted, rolls back
//! what is bad, and says when the run has come to its end.

use crate::scenario;
use crate::world::{Occurrence, World};
use ringward_domain::command::{Action, Command};
use ringward_domain::report::RolloutState;
use ringward_domain::{AssignmentKind, HostId, RequestId, RolloutId};
use ringward_server_core::rollout::member::Stage;

/// After the storm a release that harms, and was not caught, is rolled back anyway.
const PATIENCE_MS: u64 = 20 * 60_000;

/// What the person sees of a rollout.
struct Seen {
    id: RolloutId,
    kind: AssignmentKind,
    state: RolloutState,
    in_flight: u64,
}

impl World {
    pub(crate) fn operator(&mut self) {
        let next = self.random.between(15_000, 60_000);
        self.after(next, Occurrence::Operator);
        if !self.server.is_up() {
            return;
        }
        let seen = self.seen();
        let install = seen.iter().find(|s| s.kind == AssignmentKind::Install);
        let rollback = seen
            .iter()
            .rev()
            .find(|s| s.kind == AssignmentKind::Rollback);
        match (install, rollback) {
            (None, _) => self.command(Action::StartRollout {
                release: scenario::digest(scenario::NEW),
            }),
            (Some(install), None) => self.tend_install(install),
            // A host on which the way back failed needs another try.
            (Some(_), Some(rollback))
                if rollback.state == RolloutState::Completed && self.left_behind(rollback.id) =>
            {
                self.roll_back();
            }
            // A person who does not know better starts the bad release again, or resumes it.
            (Some(install), Some(_)) if !self.healed && self.random.permille(100) => {
                let again = match self.random.permille(700) {
                    true => Action::StartRollout {
                        release: scenario::digest(scenario::NEW),
                    },
                    false => {
                        self.oracle.resumed(install.id);
                        Action::Resume(install.id)
                    }
                };
                self.command(again);
            }
            (Some(_), Some(rollback)) => self.tend(rollback),
        }
        if self.healed {
            self.ended = self.has_ended();
            let install = self
                .seen()
                .into_iter()
                .find(|s| s.kind == AssignmentKind::Install);
            let running = self.server.running.as_ref();
            if let Some(rollout) = running
                .zip(install)
                .and_then(|(r, s)| r.control.rollout(s.id))
                && self.ended
            {
                self.oracle.accounts(rollout, &self.hosts);
            }
        }
    }

    fn seen(&self) -> Vec<Seen> {
        let Some(running) = self.server.running.as_ref() else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (id, state) in running.control.rollouts() {
            if let Some(rollout) = running.control.rollout(id) {
                let members = rollout.members().iter();
                let open = members
                    .filter(|m| matches!(m.stage, Stage::Granted(_) | Stage::Exposed(_)))
                    .count();
                all.push(Seen {
                    id,
                    kind: rollout.spec.kind,
                    state,
                    in_flight: open as u64,
                });
            }
        }
        all
    }

    fn tend_install(&mut self, install: &Seen) {
        let bad = self.scenario.harmful();
        let halted = install.state == RolloutState::Halted;
        let long_enough = self.healed && self.now > self.scenario.heals_at_ms + PATIENCE_MS;
        if bad && (halted || long_enough) {
            self.roll_back();
        } else {
            self.tend(install);
        }
    }

    /// After the storm, a host shown on the bad release for which this rollback does nothing more.
    fn left_behind(&self, rollback: RolloutId) -> bool {
        let Some(running) = self.server.running.as_ref().filter(|_| self.healed) else {
            return false;
        };
        let bad = Some(scenario::digest(scenario::NEW));
        let shown = running.control.hosts(None, false, None, self.hosts.len());
        shown.iter().any(|host| {
            let rollout = running.control.rollout(rollback);
            let comes = rollout.and_then(|r| r.member(host.id)).is_some_and(|m| {
                m.grantable() || matches!(m.stage, Stage::Granted(_) | Stage::Exposed(_))
            });
            let packages = &host.observed.packages;
            packages.iter().any(|package| package.running == bad) && !comes
        })
    }

    fn roll_back(&mut self) {
        self.command(Action::Rollback {
            leave: scenario::digest(scenario::NEW),
            to: Some(scenario::installed(scenario::OLD).version),
        });
    }

    /// Lifts what stopped it; sometimes stops it for a while.
    fn tend(&mut self, rollout: &Seen) {
        let andon = self
            .server
            .running
            .as_ref()
            .is_some_and(|r| r.control.andon());
        let whim = !self.healed && self.random.permille(80);
        if andon {
            self.command(Action::ResumeAll);
        } else if matches!(rollout.state, RolloutState::Halted | RolloutState::Paused) {
            if rollout.state == RolloutState::Halted {
                self.oracle.resumed(rollout.id);
            }
            self.command(Action::Resume(rollout.id));
        } else if whim && self.random.permille(500) {
            self.command(Action::StopAll);
        } else if whim && rollout.state == RolloutState::Running {
            self.command(Action::Pause(rollout.id));
        }
    }

    fn command(&mut self, action: Action) {
        let clock = self.server.clock(self.now);
        let mut request = [0; 16];
        request.copy_from_slice(&self.random.bytes()[..16]);
        let command = Command {
            request: RequestId(request),
            actor: "person".to_owned(),
            reason: "as the run needs".to_owned(),
            dry_run: false,
            action,
        };
        let again = self.random.permille(200);
        let Some(running) = self.server.running.as_mut() else {
            return;
        };
        match running.control.command(&command, clock) {
            Ok((outcome, effects)) => {
                self.report.interventions += 1;
                if self.trace {
                    eprintln!("{:>9} {:?}: {outcome:?}", self.now, command.action);
                }
                if again {
                    let twice = running.control.command(&command, clock);
                    let same =
                        matches!(&twice, Ok((o, effects)) if *o == outcome && effects.is_empty());
                    self.oracle
                        .require(same, || format!("a command twice: {twice:?}"));
                }
                self.take(effects);
            }
            Err(refusal) => {
                if self.trace {
                    eprintln!("{:>9} refused: {refusal}", self.now);
                }
            }
        }
    }

    /// Nothing is in flight, every ring is complete, every host is where it should be, and every
    /// signal is stored.
    fn has_ended(&self) -> bool {
        let seen = self.seen();
        let complete = seen
            .last()
            .is_some_and(|newest| newest.state == RolloutState::Completed);
        let quiet = seen.iter().all(|s| s.in_flight == 0);
        let wanted = match seen.last().map(|s| s.kind) {
            Some(AssignmentKind::Rollback) => scenario::OLD,
            _ => scenario::NEW,
        };
        let settled = self.hosts.iter().all(|host| {
            let there = host.running() == wanted || self.resolved(host.id, wanted);
            host.on && !host.asleep && there && host.spool.is_empty()
        });
        complete && quiet && settled
    }

    /// Whether the host had its try with the new release: within a rollout there is no second one.
    fn resolved(&self, host: HostId, wanted: u8) -> bool {
        let install = self
            .seen()
            .into_iter()
            .find(|s| s.kind == AssignmentKind::Install);
        let running = self.server.running.as_ref();
        let rollout = running
            .zip(install)
            .and_then(|(r, s)| r.control.rollout(s.id));
        let member = rollout.and_then(|rollout| rollout.member(host));
        wanted == scenario::NEW && member.is_some_and(|m| matches!(m.stage, Stage::Ended(..)))
    }
}
