//! What hosts say of their attempts: a level, so that lost, doubled and reordered words change
//! nothing. What cannot be explained counts against the release.

use super::Rollout;
use super::grant::Ask;
use super::member::{Ending, Member, Phase, Stage};
use ringward_domain::ids::{AgentStart, BootId, ReleaseDigest, SignalSeq};
use ringward_domain::ledger::{NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::{AttemptObserved, PhaseObserved};
use ringward_domain::report::FailureWhy;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{HostId, Millis, Nonce, Timestamp};

/// A host's own account, as far as one package is concerned.
#[derive(Debug, Clone, Copy)]
pub struct AttemptSeen<'a> {
    /// The newest attempt, of whatever rollout.
    pub attempt: Option<&'a AttemptObserved>,
    /// The release its current slot holds.
    pub running: Option<ReleaseDigest>,
    /// The running boot.
    pub boot: BootId,
    /// The running agent process.
    pub agent_start: AgentStart,
    /// First word of a session: it tells all that the host knows.
    pub hello: bool,
    /// First signal not spooled yet, as far as known.
    pub next_signal: SignalSeq,
    /// Boot-time clock of the host.
    pub boottime: Millis,
}

/// A signal with what is needed to tell whether it is older than an exposure.
#[derive(Debug, Clone, Copy)]
pub struct SignalSeen<'a> {
    /// The signal.
    pub signal: &'a Signal,
    /// Boots of the host as far as known, oldest first.
    pub boots: &'a [BootId],
}

impl Rollout {
    /// Takes in a host's account.
    pub fn observed(&mut self, host: HostId, seen: &AttemptSeen<'_>, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        match seen.attempt.filter(|attempt| attempt.rollout == self.id) {
            Some(attempt) => self.attempt_observed(i, attempt, seen, now),
            None => self.no_attempt_observed(i, seen, now),
        }
    }

    fn attempt_observed(
        &mut self,
        i: usize,
        attempt: &AttemptObserved,
        seen: &AttemptSeen<'_>,
        now: Timestamp,
    ) {
        let ours = self.members[i].nonce() == Some(attempt.nonce);
        match (&self.members[i].stage, ours) {
            (Stage::Exposed(_), true) => self.phase_observed(i, attempt.phase, now),
            (Stage::Ended(ending, _), true) => {
                let ending = *ending;
                self.phase_after_end(i, ending, attempt.phase, now);
            }
            (Stage::Granted(_), true) if on_release(attempt.phase) => {
                self.adopt(i, attempt, seen, now)
            }
            (Stage::Granted(_), true) => {
                if let PhaseObserved::NotSwitched(why) = attempt.phase {
                    self.defer(i, why, now);
                }
            }
            // It switched by a nonce that the server holds for dead or never knew.
            (Stage::Waiting | Stage::Deferred(_), _)
                if on_release(attempt.phase) && seen.running == Some(self.spec.release) =>
            {
                self.adopt(i, attempt, seen, now);
            }
            _ => {
                if !ours && matches!(attempt.phase, PhaseObserved::NotSwitched(_)) {
                    self.bury(i, attempt.nonce);
                }
                // An older attempt than ours: of ours the host knows nothing.
                self.no_attempt_observed(i, seen, now);
            }
        }
    }

    fn bury(&mut self, i: usize, nonce: Nonce) {
        if !self.members[i].dead.contains(&nonce) {
            self.members[i].bury(nonce);
            self.dirty.insert(i);
        }
    }

    /// A host is on the release without a recorded `Begin`: it counts as exposed from now on.
    fn adopt(
        &mut self,
        i: usize,
        attempt: &AttemptObserved,
        seen: &AttemptSeen<'_>,
        now: Timestamp,
    ) {
        let ask = Ask {
            nonce: attempt.nonce,
            boot: seen.boot,
            agent_start: seen.agent_start,
            blocked: None,
            next_signal: seen.next_signal,
            boottime: seen.boottime,
        };
        self.expose(i, &ask, now);
        self.phase_observed(i, attempt.phase, now);
    }

    fn phase_observed(&mut self, i: usize, phase: PhaseObserved, now: Timestamp) {
        match phase {
            PhaseObserved::Switching => {}
            PhaseObserved::Applied => self.set_phase(i, Phase::Applied, false, now),
            PhaseObserved::Rebooting => self.set_phase(i, Phase::Rebooting, false, now),
            PhaseObserved::Soaking { .. } => self.set_phase(i, Phase::Soaking, false, now),
            PhaseObserved::Committed => self.set_phase(i, Phase::Soaking, true, now),
            PhaseObserved::Reverted(RevertWhy::Ordered) => {
                self.resolve(i, Ending::RolledBack, None, now)
            }
            PhaseObserved::Reverted(why) => {
                self.resolve(i, Ending::Reverted(why), Self::signature_of(why), now)
            }
            PhaseObserved::Failed(why) => {
                self.resolve(i, Ending::Failed(FailureWhy::Install(why)), None, now)
            }
            PhaseObserved::NotSwitched(why) => self.defer(i, why, now),
        }
    }

    fn phase_after_end(&mut self, i: usize, ending: Ending, phase: PhaseObserved, now: Timestamp) {
        match (ending, phase) {
            (_, PhaseObserved::Reverted(RevertWhy::Ordered)) => {}
            (Ending::Confirmed, PhaseObserved::Reverted(why)) => {
                self.fail_after_end(
                    i,
                    Ending::Reverted(why),
                    Self::signature_of(why).as_deref(),
                    now,
                );
            }
            // Counted already; people see that the host is back on its old release.
            (Ending::Failed(FailureWhy::Signal(_)), PhaseObserved::Reverted(why)) => {
                self.change(i, now, |member| member.reworded(Ending::Reverted(why)));
                self.dirty.insert(i);
                self.fail_after_end(
                    i,
                    Ending::Reverted(why),
                    Self::signature_of(why).as_deref(),
                    now,
                );
            }
            _ => {}
        }
    }

    /// The host knows of no attempt of this rollout.
    fn no_attempt_observed(&mut self, i: usize, seen: &AttemptSeen<'_>, now: Timestamp) {
        let there = seen.running == Some(self.spec.release);
        match &self.members[i].stage {
            Stage::Exposed(exposure) if there && exposure.applied_at.is_none() => {
                self.set_phase(i, Phase::Applied, false, now);
            }
            // A process never uses the `Begun` of an older one: without a word in its ledger it
            // did not switch.
            Stage::Exposed(exposure)
                if seen.hello && !there && exposure.agent_start != seen.agent_start =>
            {
                match exposure.applied_at {
                    None => self.defer(i, NotSwitchedWhy::Restarted, now),
                    Some(_) => self.resolve(i, Ending::Failed(FailureWhy::WrongRelease), None, now),
                }
            }
            Stage::Granted(grant) if seen.hello && grant.agent_start != seen.agent_start => {
                self.defer(i, NotSwitchedWhy::Restarted, now);
            }
            _ => {}
        }
    }

    /// A host that runs the release no longer, without an attempt of its own: installed anew. It
    /// waits again, as a straggler.
    pub fn reimaged(&mut self, host: HostId, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        let nonce = self.members[i].nonce();
        if matches!(
            self.members[i].stage,
            Stage::AlreadyThere | Stage::Ended(Ending::Confirmed, _)
        ) {
            if let Some(nonce) = nonce {
                self.members[i].bury(nonce);
            }
            self.enter(i, now, Stage::Waiting);
        }
    }

    /// The host soaks, says its heartbeat.
    pub fn soaking(&mut self, host: HostId, nonce: Nonce, now: Timestamp) {
        if let Some(i) = self.member_index(host)
            && matches!(&self.members[i].stage, Stage::Exposed(e) if e.nonce == nonce && e.phase != Phase::Soaking)
        {
            self.set_phase(i, Phase::Soaking, false, now);
        }
    }

    /// Takes in a signal: a failure within the attribution time counts against the release,
    /// whatever happened to the exposure since.
    pub fn signal(&mut self, host: HostId, seen: &SignalSeen<'_>, now: Timestamp) {
        let Some(i) = self.member_index(host) else {
            return;
        };
        let signal = seen.signal;
        if !signal.kind.is_failure() || !self.attributable(&self.members[i], seen, now) {
            return;
        }
        let signature = Some(signal.signature.clone())
            .filter(|s| !s.is_empty())
            .or_else(|| default_signature(signal.kind));
        self.note_cause(i, signal, now);
        let ending = Ending::Failed(FailureWhy::Signal(signal.kind));
        match &self.members[i].stage {
            Stage::Exposed(_) => self.resolve(i, ending, signature, now),
            Stage::Ended(..) => self.fail_after_end(i, ending, signature.as_deref(), now),
            _ => {}
        }
    }

    fn attributable(&self, member: &Member, seen: &SignalSeen<'_>, now: Timestamp) -> bool {
        let Some(exposure) = member.exposure() else {
            return false;
        };
        let signal = seen.signal;
        let spooled_after = signal.seq >= exposure.first_signal;
        let in_time = now <= exposure.begun_at + self.pace.attribution;
        let in_soak = matches!(member.stage, Stage::Exposed(_));
        if !spooled_after || !(in_time || in_soak) {
            return false;
        }
        if signal.release == Some(self.spec.release) {
            return true;
        }
        let place = |boot| seen.boots.iter().position(|b| *b == boot);
        let older_boot = match (place(signal.boot), place(exposure.boot)) {
            (Some(of_signal), Some(of_begin)) => of_signal < of_begin,
            _ => false,
        };
        let earlier = signal.boot == exposure.boot
            && signal.at_boottime > Millis::ZERO
            && signal.at_boottime < exposure.boottime;
        !older_boot && !earlier
    }
}

impl Member {
    fn reworded(&mut self, ending: Ending) {
        if let Stage::Ended(before, _) = &mut self.stage {
            *before = ending;
        }
    }
}

/// The host runs the release of the attempt, or did so and says what became of it.
fn on_release(phase: PhaseObserved) -> bool {
    match phase {
        PhaseObserved::Applied
        | PhaseObserved::Rebooting
        | PhaseObserved::Soaking { .. }
        | PhaseObserved::Committed => true,
        PhaseObserved::Reverted(_)
        | PhaseObserved::Switching
        | PhaseObserved::Failed(_)
        | PhaseObserved::NotSwitched(_) => false,
    }
}

fn default_signature(kind: SignalKind) -> Option<String> {
    (kind == SignalKind::GuardReverted).then(|| "boot loop".to_owned())
}
