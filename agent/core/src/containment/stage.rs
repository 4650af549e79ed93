//! The stages of an isolation, and what leads from one to the next.

use super::policy::Act;
use super::record::{Ending, Isolation, Proof, Stage};
use super::{Asked, Containment, Deed, IsolateFailure, RETRY, remember};
use crate::planted::{Bug, planted};
use ringward_domain::order::{Containment as Wanted, OrderRefusal, Quarantine, UndoneWhy};
use ringward_domain::{Millis, OrderId};

/// Tries to reach the server through the closed net: at once, and again after this long each.
const TRY_EVERY: Millis = Millis::secs(20);
const TRIES_MAX: u32 = 3;
/// Of all processes together, where each died in its tries.
const TRIES_EVER_MAX: u32 = 6;
/// Rules that nobody can explain end after this long where no server says anything.
const STRAY_LIFE: Millis = Millis::hours(24);

/// What a restart makes of the stage on disk and the rules in the kernel.
pub(super) fn recovered(stage: Stage, stands: bool, powered: Millis) -> Stage {
    match stage {
        // No rules: whether the server is reachable with the net open can be found out anew.
        Stage::Closing {
            isolation, since, ..
        } if !stands => Stage::Closing {
            isolation,
            reachable: None,
            since,
        },
        // Rules whose record is lost: the host stays as it is until a server says what it should be.
        Stage::Open if stands => Stage::Closed {
            isolation: Isolation {
                order: OrderId(0),
                allow: Vec::new(),
                life: Some(STRAY_LIFE),
            },
            since: powered,
            proof: Proof::Unproven,
        },
        Stage::Settled { order, how } if stands => Stage::Opening {
            order,
            then: Some(how),
        },
        stage => stage,
    }
}

impl Containment {
    pub(super) fn settle_stage(&mut self, powered: Millis, link_up: bool, deeds: &mut Vec<Deed>) {
        match self.record.stage.clone() {
            Stage::Open => self.settle_open(None, powered, link_up),
            Stage::Settled { order, .. } => self.settle_open(Some(order), powered, link_up),
            Stage::Closing {
                isolation,
                reachable,
                since,
            } => self.settle_closing(isolation, reachable, since, powered, link_up, deeds),
            Stage::Closed {
                isolation,
                since,
                proof,
            } => self.settle_closed(isolation, since, proof, powered, link_up, deeds),
            Stage::Opening { .. } => self.settle_opening(powered, deeds),
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.record.stage = stage;
        self.applied = false;
        self.act_at = None;
        self.prove_at = None;
        self.tries = 0;
        self.touch();
    }

    fn wanted(&self) -> Option<&Wanted> {
        self.desired.as_ref().map(|desired| &desired.containment)
    }

    fn settle_open(&mut self, settled: Option<OrderId>, powered: Millis, link_up: bool) {
        match self.wanted().cloned() {
            Some(Wanted::Quarantined(quarantine)) if settled != Some(quarantine.order) => {
                match self.permitted(&quarantine, (true, true), powered) {
                    Err(why) => self.enter(Stage::Settled {
                        order: quarantine.order,
                        how: Ending::Refused(why),
                    }),
                    Ok(isolation) => {
                        self.obeys(isolation.order, true, powered);
                        self.close(isolation, None, link_up);
                    }
                }
            }
            Some(Wanted::Open) if settled.is_some() => self.enter(Stage::Open),
            _ => {}
        }
    }

    fn close(&mut self, isolation: Isolation, since: Option<Millis>, link_up: bool) {
        self.enter(Stage::Closing {
            isolation,
            // The order came over this session a moment ago, or it stands all the same.
            reachable: link_up.then_some(true),
            since,
        });
    }

    /// An isolation is begun: what the host's own policy counts.
    fn obeys(&mut self, order: OrderId, counts: bool, powered: Millis) {
        if counts {
            let rate = self.policy.quarantines;
            remember(&mut self.record.isolated_at, powered, rate);
        }
        self.spend(Act::Quarantine, order);
    }

    /// The isolation as this host makes it, if its own policy lets it.
    fn permitted(
        &self,
        quarantine: &Quarantine,
        (anew, counts): (bool, bool),
        powered: Millis,
    ) -> Result<Isolation, OrderRefusal> {
        if !self.able {
            return Err(OrderRefusal::Unsupported);
        }
        let vouch = self.vouched.get(&quarantine.order).cloned();
        let lately = counts.then_some(self.record.isolated_at.as_slice());
        self.policy
            .judge(Act::Quarantine, &vouch.unwrap_or_default(), lately, powered)?;
        self.policy.judge_allow(quarantine)?;
        if anew && self.is_spent(Act::Quarantine, quarantine.order) {
            return Err(OrderRefusal::Expired);
        }
        Ok(Isolation {
            order: quarantine.order,
            allow: quarantine.allow.clone(),
            life: self.policy.life(quarantine.life, &quarantine.warrant),
        })
    }

    /// Whether the server still wants this order, or says nothing of it.
    fn still_wanted(&self, order: OrderId) -> bool {
        match self.wanted() {
            None | Some(Wanted::Unsaid) => true,
            Some(Wanted::Open) => false,
            Some(Wanted::Quarantined(quarantine)) => quarantine.order == order,
        }
    }

    fn settle_closing(
        &mut self,
        isolation: Isolation,
        reachable: Option<bool>,
        since: Option<Millis>,
        powered: Millis,
        link_up: bool,
        deeds: &mut Vec<Deed>,
    ) {
        if self.acting {
            return;
        }
        let order = isolation.order;
        if !self.still_wanted(order) {
            return self.enter(Stage::Opening { order, then: None });
        }
        if self.write_failed {
            // It would not survive a reboot.
            let then = Some(Ending::Undone(UndoneWhy::Disk));
            return self.enter(Stage::Opening { order, then });
        }
        match reachable {
            None if link_up => self.enter(Stage::Closing {
                isolation,
                reachable: Some(true),
                since,
            }),
            None => self.prove(Asked::Before(order), deeds),
            Some(_) if self.durable() && self.act_at.is_none_or(|at| at <= powered) => {
                self.acting = true;
                deeds.push(Deed::Isolate(isolation.allow));
            }
            Some(_) => {}
        }
    }

    fn prove(&mut self, asked: Asked, deeds: &mut Vec<Deed>) {
        if self.proving.is_none() {
            self.proving = Some(asked);
            deeds.push(Deed::Prove);
        }
    }

    fn settle_closed(
        &mut self,
        isolation: Isolation,
        since: Millis,
        proof: Proof,
        powered: Millis,
        link_up: bool,
        deeds: &mut Vec<Deed>,
    ) {
        if self.acting {
            return;
        }
        let order = isolation.order;
        match self.wanted().cloned() {
            Some(Wanted::Open) => return self.enter(Stage::Opening { order, then: None }),
            Some(Wanted::Quarantined(quarantine)) => {
                if self.replaced(&isolation, since, &quarantine, powered, link_up) {
                    return;
                }
            }
            Some(Wanted::Unsaid) | None => {}
        }
        if isolation.life.is_some_and(|life| since + life <= powered) {
            let then = Some(Ending::Expired);
            return self.enter(Stage::Opening { order, then });
        }
        if !self.applied {
            let told = self.durable() || self.write_failed;
            if !told || self.act_at.is_some_and(|at| at > powered) {
                return;
            }
            self.acting = true;
            deeds.push(Deed::Isolate(isolation.allow));
            return;
        }
        if let Proof::Pending { reachable, tries } = proof {
            self.settle_proof(isolation, since, (reachable, tries), powered, deeds);
        }
    }

    /// Whether another isolation takes the place of the standing one. A refused one leaves it.
    fn replaced(
        &mut self,
        standing: &Isolation,
        since: Millis,
        quarantine: &Quarantine,
        powered: Millis,
        link_up: bool,
    ) -> bool {
        let same = quarantine.order == standing.order;
        let life = self.policy.life(quarantine.life, &quarantine.warrant);
        let refused = self
            .refused
            .is_some_and(|(order, _)| order == quarantine.order);
        if refused || same && quarantine.allow == standing.allow && life == standing.life {
            return false;
        }
        // The host is isolated already: one more order isolates nobody, and does not count; unless
        // lives are bounded here, for an order an hour would then isolate it for ever.
        let counts = !same && self.policy.life_max.is_some() && !planted(Bug::LifeAnewIsFree);
        match self.permitted(quarantine, (!same, counts), powered) {
            Ok(isolation) => {
                self.obeys(isolation.order, counts, powered);
                self.close(isolation, same.then_some(since), link_up);
                true
            }
            Err(why) => {
                self.refused = Some((quarantine.order, why));
                false
            }
        }
    }

    fn settle_proof(
        &mut self,
        isolation: Isolation,
        since: Millis,
        (reachable, tries): (bool, u32),
        powered: Millis,
        deeds: &mut Vec<Deed>,
    ) {
        if self.proving.is_some() || self.prove_at.is_some_and(|at| at > powered) {
            return;
        }
        let order = isolation.order;
        if self.tries >= TRIES_MAX || tries >= TRIES_EVER_MAX {
            if reachable {
                let then = Some(Ending::Undone(UndoneWhy::ServerUnreachable));
                return self.enter(Stage::Opening { order, then });
            }
            self.record.stage = Stage::Closed {
                isolation,
                since,
                proof: Proof::Unproven,
            };
            return self.touch();
        }
        self.tries += 1;
        self.prove_at = Some(powered + TRY_EVERY);
        self.record.stage = Stage::Closed {
            isolation,
            since,
            proof: Proof::Pending {
                reachable,
                tries: tries + 1,
            },
        };
        self.touch();
        self.prove(Asked::After(order), deeds);
    }

    fn settle_opening(&mut self, powered: Millis, deeds: &mut Vec<Deed>) {
        // A disk that takes no word must not keep the host isolated: the level opens it again.
        let told = self.durable() || self.write_failed;
        if !self.acting && told && self.act_at.is_none_or(|at| at <= powered) {
            self.acting = true;
            deeds.push(Deed::EndIsolation);
        }
    }

    /// The host was isolated, or not.
    pub(crate) fn on_isolated(
        &mut self,
        outcome: Result<Vec<String>, IsolateFailure>,
        awake: Millis,
    ) {
        let powered = self.powered(awake);
        if !std::mem::take(&mut self.acting) {
            return;
        }
        match (self.record.stage.clone(), outcome) {
            (
                Stage::Closing {
                    isolation,
                    reachable,
                    since,
                },
                Ok(escapes),
            ) => {
                self.keep_escapes(escapes);
                self.enter(Stage::Closed {
                    isolation,
                    since: since.unwrap_or(powered),
                    proof: Proof::Pending {
                        reachable: reachable.unwrap_or(false),
                        tries: 0,
                    },
                });
                self.applied = true;
            }
            (Stage::Closing { isolation, .. }, Err(why)) => self.enter(Stage::Opening {
                order: isolation.order,
                then: Some(why.ending()),
            }),
            (Stage::Closed { .. }, Ok(escapes)) => {
                self.keep_escapes(escapes);
                self.applied = true;
                self.act_at = None;
            }
            (Stage::Closed { .. }, Err(_)) => self.act_at = Some(powered + RETRY),
            (Stage::Open | Stage::Settled { .. } | Stage::Opening { .. }, _) => {}
        }
    }

    /// The host is open again, or not yet.
    pub(crate) fn on_isolation_ended(&mut self, ended: bool, awake: Millis) {
        if !std::mem::take(&mut self.acting) {
            return;
        }
        let Stage::Opening { order, then } = self.record.stage.clone() else {
            return;
        };
        if !ended {
            self.act_at = Some(self.powered(awake) + RETRY);
            return;
        }
        self.escapes.clear();
        self.enter(match then {
            None => Stage::Open,
            Some(how) => Stage::Settled { order, how },
        });
    }

    /// A try to reach the server ended.
    pub(crate) fn on_server_proved(&mut self, reached: bool) {
        match (self.proving.take(), self.record.stage.clone()) {
            (
                Some(Asked::Before(order)),
                Stage::Closing {
                    isolation,
                    reachable: None,
                    since,
                },
            ) if order == isolation.order => self.enter(Stage::Closing {
                isolation,
                reachable: Some(reached),
                since,
            }),
            (
                Some(Asked::After(order)),
                Stage::Closed {
                    isolation,
                    since,
                    proof: Proof::Pending { .. },
                },
            ) if order == isolation.order && reached => {
                self.record.stage = Stage::Closed {
                    isolation,
                    since,
                    proof: Proof::Proven,
                };
                self.prove_at = None;
                self.touch();
            }
            _ => {}
        }
    }
}
