//! The person: starts the rollout, looks once in a while, resumes what the storm halted, rolls back
//! what is bad, and says when the run has come to its end.

use crate::scenario;
use crate::world::{Occurrence, World};
use ringward_domain::command::{Action, Command};
use ringward_domain::ledger::AttemptPhase;
use ringward_domain::report::RolloutState;
use ringward_domain::{AssignmentKind, RequestId, RolloutId};
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
                if rollback.state == RolloutState::Completed && self.left_behind() =>
            {
                self.roll_back();
            }
            (Some(_), Some(rollback)) => self.tend(rollback),
        }
        if self.healed {
            self.ended = self.has_ended();
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

    /// Once all is quiet, hosts still on the release that was rolled back.
    fn left_behind(&self) -> bool {
        let quiet = self.seen().iter().all(|s| s.in_flight == 0);
        self.healed
            && quiet
            && self
                .hosts
                .iter()
                .any(|host| host.running() == scenario::NEW)
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
            let ledger = host.ledger();
            let barred = ledger.bars.contains(&scenario::digest(wanted));
            // A switch that failed is not tried again within a rollout.
            let failed = wanted == scenario::NEW
                && ledger
                    .attempt
                    .is_some_and(|attempt| matches!(attempt.phase, AttemptPhase::Failed(_)));
            let there = host.running() == wanted || barred || failed;
            host.on && !host.asleep && there && host.spool.is_empty()
        });
        complete && quiet && settled
    }
}
