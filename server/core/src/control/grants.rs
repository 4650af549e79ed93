//! Grant requests and `Begin`s of hosts.

use super::Control;
use crate::rollout::{Ask, BeginAnswer, GrantAnswer};
use ringward_domain::ids::{Nonce, RolloutId};
use ringward_domain::report::WaitWhy;
use ringward_domain::session::{BeginRefusal, RequestGrant, ToAgent};
use ringward_domain::{AssignmentKind, HostId};

impl Control {
    /// A host is ready and asks.
    pub(super) fn request_grant(&mut self, id: HostId, request: RequestGrant) {
        let answer = match self.ask(id, request.nonce, Some(request.rollout)) {
            Some(ask) if self.is_assigned(id, &request) => self
                .with(request.rollout, |rollout, now| {
                    rollout.request(id, &ask, now)
                }),
            _ => None,
        };
        // A host that asks for something else than it is meant to do has missed an order.
        let answer = answer.unwrap_or_else(|| {
            self.out.desired.insert(id, true);
            GrantAnswer::Wait(WaitWhy::NotItsTurn)
        });
        let message = match answer {
            GrantAnswer::Grant(life) => {
                self.withdraw_others(id, request.rollout);
                ToAgent::Grant {
                    nonce: request.nonce,
                    life,
                }
            }
            GrantAnswer::Wait(why) => ToAgent::Wait {
                nonce: request.nonce,
                why,
                retry_after: self.retry_after(),
            },
        };
        self.out.send(id, message);
    }

    fn is_assigned(&self, id: HostId, request: &RequestGrant) -> bool {
        let Some(rollout) = self
            .rollouts
            .get(&request.rollout)
            .filter(|r| r.spec.release == request.release)
        else {
            return false;
        };
        let newest = self
            .hosts
            .get(&id)
            .and_then(|host| self.assigned(host, &rollout.spec.package));
        newest.is_some_and(|newest| newest.id == request.rollout)
    }

    /// A rollback is granted while its host still holds a grant to go on: that grant is dead.
    fn withdraw_others(&mut self, id: HostId, granted: RolloutId) {
        for other in self
            .rollouts_of(id)
            .into_iter()
            .filter(|other| *other != granted)
        {
            self.with(other, |rollout, now| rollout.withdraw(id, now));
        }
    }

    fn ask(&self, id: HostId, nonce: Nonce, rollout: Option<RolloutId>) -> Option<Ask> {
        let host = self.hosts.get(&id)?;
        let session = host.session.as_ref()?;
        let rollout = rollout.and_then(|rollout| self.rollouts.get(&rollout));
        Some(Ask {
            nonce,
            boot: session.boot,
            agent_start: session.agent_start,
            blocked: rollout.and_then(|rollout| self.blocked_or_closed(host, rollout)),
            next_signal: session.next_signal,
            boottime: host.boottime(self.now),
        })
    }

    /// A host is about to switch.
    pub(super) fn begin(&mut self, id: HostId, nonce: Nonce) {
        let Some(ask) = self.ask(id, nonce, None) else {
            return;
        };
        let mut answer = BeginAnswer::Unknown;
        for rollout in self.rollouts_of(id).into_iter().rev() {
            let refusal = self
                .hosts
                .get(&id)
                .zip(self.rollouts.get(&rollout))
                .and_then(|(host, rollout)| self.refusal(host, rollout));
            answer = self
                .with(rollout, |rollout, now| {
                    rollout.begin(id, &ask, refusal, now)
                })
                .unwrap_or(BeginAnswer::Unknown);
            if answer != BeginAnswer::Unknown {
                self.begun(id, rollout, answer);
                break;
            }
        }
        let message = match answer {
            BeginAnswer::Begun => ToAgent::Begun { nonce },
            BeginAnswer::Refused(why) => ToAgent::BeginRefused { nonce, why },
            BeginAnswer::Unknown => ToAgent::BeginRefused {
                nonce,
                why: BeginRefusal::NoGrant,
            },
        };
        self.out.send(id, message);
    }

    /// The host is exposed; what a rollback takes it off ends.
    fn begun(&mut self, id: HostId, rollout: RolloutId, answer: BeginAnswer) {
        let Some(rollout) = self
            .rollouts
            .get(&rollout)
            .filter(|_| answer == BeginAnswer::Begun)
        else {
            return;
        };
        let until = self.now + rollout.pace.attribution;
        let leaves = rollout.spec.leaves.as_ref().map(|(release, _)| *release);
        let (own, rollback) = (rollout.id, rollout.spec.kind == AssignmentKind::Rollback);
        let patience = self.patience_with(id);
        let newcomer = self
            .hosts
            .get(&id)
            .is_some_and(|host| self.is_newcomer(host));
        self.suspects_took_release(id, own);
        self.with(own, |rollout, now| {
            rollout.slow_to_return(id, patience, now);
            if newcomer {
                rollout.newcomer(id, now);
            }
        });
        self.control_exposed(id, until);
        for other in self
            .rollouts_of(id)
            .into_iter()
            .filter(|other| rollback && *other != own)
        {
            if self
                .rollouts
                .get(&other)
                .is_some_and(|other| Some(other.spec.release) == leaves)
            {
                self.with(other, |rollout, now| rollout.rolled_back(id, now));
            }
        }
    }
}
