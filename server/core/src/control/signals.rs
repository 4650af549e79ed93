//! Signals: stored first, acknowledged when durable, weighed at once.

use super::Control;
use crate::rollout::SignalSeen;
use ringward_domain::ids::{BootId, SignalSeq};
use ringward_domain::limits::SIGNALS_PER_BATCH_MAX;
use ringward_domain::session::ToAgent;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{HostId, Timestamp};

/// Times that a batch must begin after a gap before the gap is believed.
const GAP_SEEN_MIN: u32 = 3;

impl Control {
    /// Takes in a batch. Every signal is stored (the store knows doubles by host and seq); what was
    /// acknowledged before is not weighed again.
    pub(super) fn signals(&mut self, id: HostId, signals: Vec<Signal>) {
        let (now, patience) = (self.now, self.policy.pace.heartbeat);
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let through = host.record.signals_through;
        let (Some(first), Some(session)) = (signals.first().map(|s| s.seq), host.session.as_mut())
        else {
            return;
        };
        let gap = first > through.next();
        let believed = gap && session.gap_believed(first, now, patience);
        let boots: Vec<BootId> = host.boots.iter().copied().collect();
        let mut reached = through;
        for signal in signals.into_iter().take(SIGNALS_PER_BATCH_MAX) {
            let contiguous = signal.seq <= reached.next() || believed;
            if signal.seq > reached {
                self.weigh_signal(id, &signal, &boots);
                if contiguous {
                    reached = signal.seq;
                    self.control_heard(id, &signal);
                }
                self.out.signal(id, signal);
            }
        }
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if let Some(session) = &mut host.session {
            session.next_signal = session.next_signal.max(reached.next());
        }
        if reached > through {
            host.record.signals_through = reached;
            self.out.hosts.insert(id);
        }
        self.out
            .send(id, ToAgent::SignalsDurable { through: reached });
    }

    fn fork_told(&mut self, id: HostId) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.record.fork_seen = Some(self.now);
            self.forks.insert(id, self.now);
            self.out.hosts.insert(id);
        }
    }

    fn weigh_signal(&mut self, id: HostId, signal: &Signal, boots: &[BootId]) {
        if signal.kind == SignalKind::AuditFork {
            self.fork_told(id);
        }
        self.suspects_weigh(id, signal);
        for rollout in self.rollouts_of(id) {
            self.quietly(rollout, |rollout, now| {
                rollout.signal(id, &SignalSeen { signal, boots }, now)
            });
        }
    }
}

impl crate::host::Session {
    /// A spool that lost a record to a damaged disk begins after a gap for ever; a message that was
    /// lost on the way is sent again without one. So the gap counts once the same batch came often
    /// enough and long enough.
    fn gap_believed(
        &mut self,
        first: SignalSeq,
        now: Timestamp,
        patience: ringward_domain::Millis,
    ) -> bool {
        let (times, since) = match self.signal_gap {
            Some((at, times, since)) if at == first => (times + 1, since),
            _ => (1, now),
        };
        self.signal_gap = Some((first, times, since));
        times >= GAP_SEEN_MIN && now.since(since) >= patience.times(2)
    }
}
