//! Sessions of hosts and what they say in them.

use super::Control;
use crate::event::Notice;
use crate::host::{Host, Session};
use crate::rollout::AttemptSeen;
use ringward_domain::absence::Absence;
use ringward_domain::host::HostState;
use ringward_domain::ids::RolloutId;
use ringward_domain::observed::{Observed, PhaseObserved};
use ringward_domain::session::{Heartbeat, Hello, PROTOCOL, PROTOCOL_MIN, ToAgent, ToServer};
use ringward_domain::{HostId, Millis};

impl Control {
    /// A host opened a session; an older one of the same host is over.
    pub(super) fn connected(&mut self, id: HostId, hello: Hello) {
        let now = self.now;
        let speaks = hello.protocol_min <= PROTOCOL && hello.protocol_max >= PROTOCOL_MIN;
        let known = self
            .hosts
            .get(&id)
            .is_some_and(|host| host.record.state != HostState::Retired && !host.record.fenced);
        if !known || !speaks {
            self.out.close(id);
            return;
        }
        self.note_generation(id, &hello);
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let replaced = host.session.is_some();
        let rebooted = host.saw_boot(hello.boot);
        let silent_since = host.last_heard.filter(|_| host.record.absent.is_none());
        host.session = Some(Session {
            boot: hello.boot,
            agent_start: hello.agent_start,
            boottime: (hello.boottime, now),
            next_signal: hello.next_signal,
            opened_at: hello.boottime,
            accepted: hello.accepted,
            sent: None,
            signal_gap: None,
        });
        host.last_heard = Some(now);
        if host.record.absent.take().is_some() {
            self.out.hosts.insert(id);
        }
        if host.record.facts != hello.facts || host.record.agent_version != hello.agent_version {
            host.record.facts = hello.facts;
            host.record.agent_version = hello.agent_version;
            self.out.hosts.insert(id);
        }
        self.out.send(
            id,
            ToAgent::Welcome {
                protocol: PROTOCOL.min(hello.protocol_max),
            },
        );
        self.control_returned(id, rebooted.then_some(silent_since).flatten(), rebooted);
        self.suspects_watch(id);
        for rollout in self.rollouts_of(id) {
            self.with(rollout, |rollout, now| {
                rollout.heard(id, now);
                rollout.back(id, now);
            });
        }
        if replaced {
            // A session that dies half-open ends by the next one: what was on its way is unheard too.
            self.orders.unheard(id);
        }
        self.take_observed(id, hello.observed, true);
        // What it did before it could say so needs no room under a cap any more.
        self.orders_heard(id);
        self.let_in_waiting(Some(id));
        self.join_late(id);
        self.out.readiness.insert(id);
        self.out.desired.insert(id, true);
    }

    /// The agent must not have accepted a newer order than this server gives.
    fn note_generation(&mut self, id: HostId, hello: &Hello) {
        let (epoch, generation) = hello.accepted;
        if epoch == self.epoch && generation >= self.generation {
            self.generation = generation.next();
            self.reserve_generations();
        } else if epoch > self.epoch {
            let line = format!(
                "host {id} follows epoch {epoch}, this server is at {}: it was restored from an older state; raise the epoch",
                self.epoch
            );
            self.out.notice(Notice::Line(line));
        }
    }

    /// A message within a session.
    pub(super) fn message(&mut self, id: HostId, message: ToServer) {
        let now = self.now;
        let Some(host) = self
            .hosts
            .get_mut(&id)
            .filter(|host| host.session.is_some())
        else {
            return;
        };
        host.last_heard = Some(now);
        let wakes =
            host.record.absent == Some(Absence::Suspend) && !matches!(message, ToServer::Absent(_));
        if wakes {
            host.record.absent = None;
            self.out.hosts.insert(id);
            self.out.readiness.insert(id);
        }
        for rollout in self.rollouts_of(id) {
            self.quietly(rollout, |rollout, now| {
                rollout.heard(id, now);
                if wakes {
                    rollout.back(id, now);
                }
            });
        }
        match message {
            // Both are dealt with at the edge.
            ToServer::Hello(_) | ToServer::AuditKnown { .. } => {}
            ToServer::Heartbeat(beat) => {
                self.heartbeat(id, beat);
                self.orders_heard(id);
            }
            ToServer::Signals(signals) => self.signals(id, signals),
            ToServer::Observed(observed) => {
                self.take_observed(id, *observed, false);
                self.orders_heard(id);
                self.out.readiness.insert(id);
                self.out.desired.entry(id).or_insert(false);
            }
            ToServer::RequestGrant(request) => self.request_grant(id, request),
            ToServer::Begin(begin) => self.begin(id, begin.nonce),
            ToServer::Absent(absence) => self.absent(id, absence),
        }
    }

    fn heartbeat(&mut self, id: HostId, beat: Heartbeat) {
        let (now, heartbeat) = (self.now, self.policy.pace.heartbeat);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.incarnations.heard(beat.boottime);
        }
        let Some(session) = self
            .hosts
            .get_mut(&id)
            .and_then(|host| host.session.as_mut())
        else {
            return;
        };
        session.boottime = (beat.boottime, now);
        session.accepted = session.accepted.max(beat.accepted);
        if let Some((desired, sent_at)) = &mut session.sent
            && beat.accepted < (desired.epoch, desired.generation)
            && now.since(*sent_at) >= heartbeat
        {
            *sent_at = now;
            let again = desired.clone();
            self.out.send(id, ToAgent::Desired(Box::new(again)));
        }
        let Some((nonce, _)) = beat.soaked else {
            return;
        };
        for rollout in self.rollouts_of(id) {
            self.quietly(rollout, |rollout, now| rollout.soaking(id, nonce, now));
        }
    }

    fn absent(&mut self, id: HostId, absence: Absence) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.record.absent = Some(absence);
            self.out.hosts.insert(id);
        }
        for rollout in self.rollouts_of(id) {
            self.with(rollout, |rollout, now| rollout.absent(id, absence, now));
        }
        self.out.readiness.insert(id);
    }

    /// A session ended. Silence runs on; an announced absence goes on.
    pub(super) fn disconnected(&mut self, id: HostId) {
        let Some(host) = self
            .hosts
            .get_mut(&id)
            .filter(|host| host.session.is_some())
        else {
            return;
        };
        host.session = None;
        host.observed.preparing = None;
        self.orders.unheard(id);
        self.control_gone(id);
        self.out.readiness.insert(id);
    }

    /// Takes in what a host says of itself.
    fn take_observed(&mut self, id: HostId, observed: Observed, hello: bool) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if host.record.packages != observed.packages {
            host.record.packages.clone_from(&observed.packages);
            self.out.hosts.insert(id);
        }
        self.note_bars(id, &observed);
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let Some(session) = &host.session else {
            return;
        };
        let (boot, agent_start) = (session.boot, session.agent_start);
        let (next_signal, boottime) = (session.next_signal, host.boottime(self.now));
        host.observed = observed;
        let observed = host.observed.clone();
        for rollout in self.rollouts_of(id) {
            self.with(rollout, |rollout, now| {
                let package = observed
                    .packages
                    .iter()
                    .find(|p| p.package == rollout.spec.package);
                let seen = AttemptSeen {
                    attempt: observed.attempt.as_ref(),
                    running: package.and_then(|p| p.running),
                    boot,
                    agent_start,
                    hello,
                    next_signal,
                    boottime,
                };
                rollout.observed(id, &seen, now);
                let blank =
                    observed.attempt.is_none() && package.and_then(|p| p.committed).is_none();
                if hello && blank {
                    rollout.reimaged(id, now);
                }
            });
        }
    }

    /// The host's own bars, and those that follow from what it says of its attempt.
    fn note_bars(&mut self, id: HostId, observed: &Observed) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let before = (host.record.bars.clone(), host.record.lifted.clone());
        let fresh = |host: &Host| host.observed.attempt != observed.attempt;
        if let Some(attempt) = &observed.attempt
            && matches!(attempt.phase, PhaseObserved::Reverted(why) if why != ringward_domain::ledger::RevertWhy::Ordered)
            && fresh(host)
            && observed.bars.contains(&attempt.release)
            && !host.record.lifted.contains(&attempt.release)
        {
            host.record.bars.insert(attempt.release);
        }
        host.record
            .lifted
            .retain(|release| observed.bars.contains(release));
        for release in observed.bars.iter().take(ringward_domain::limits::BARS_MAX) {
            let room = host.record.bars.len() < ringward_domain::limits::BARS_MAX;
            if room && !host.record.lifted.contains(release) {
                host.record.bars.insert(*release);
            }
        }
        if before != (host.record.bars.clone(), host.record.lifted.clone()) {
            self.out.hosts.insert(id);
        }
    }

    pub(super) fn rollouts_of(&self, id: HostId) -> Vec<RolloutId> {
        self.hosts
            .get(&id)
            .map(|host| host.rollouts.clone())
            .unwrap_or_default()
    }

    /// Acts on a rollout and looks at its changes afterwards.
    pub(super) fn with<T>(
        &mut self,
        id: RolloutId,
        act: impl FnOnce(&mut crate::rollout::Rollout, ringward_domain::Timestamp) -> T,
    ) -> Option<T> {
        let now = self.now;
        let done = self.rollouts.get_mut(&id).map(|rollout| act(rollout, now));
        self.touch(id);
        done
    }

    /// The same for what mostly changes nothing (heartbeats): planning is wanted only if it did.
    pub(super) fn quietly(
        &mut self,
        id: RolloutId,
        act: impl FnOnce(&mut crate::rollout::Rollout, ringward_domain::Timestamp),
    ) {
        let now = self.now;
        let Some(rollout) = self.rollouts.get_mut(&id) else {
            return;
        };
        act(rollout, now);
        if rollout.changed() {
            self.touch(id);
        }
    }

    /// How long an agent waits before it asks again.
    pub(super) fn retry_after(&self) -> Millis {
        self.policy.pace.heartbeat.times(3)
    }
}
