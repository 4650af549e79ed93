//! Signals on their way into the spool and from there to the server.

use crate::{Effect, Machine};
use ringward_domain::ids::SignalSeq;
use ringward_domain::limits::{EVIDENCE_BYTES_MAX, SIGNALS_PER_BATCH_MAX, TITLE_BYTES_MAX};
use ringward_domain::signal::{Signal, SignalDraft};
use ringward_domain::{Millis, ReleaseDigest, Timestamp};
use std::collections::VecDeque;

/// Signals waiting in memory for the spool to take them; beyond that the oldest goes.
const PENDING_MAX: usize = 256;
/// A spool that failed is tried again after this long.
const SPOOL_RETRY: Millis = Millis::secs(5);
/// A batch without acknowledgement is sent again after this long.
const RESEND_AFTER: Millis = Millis::secs(30);

/// Where the spool stands.
#[derive(Debug)]
pub(crate) struct Signals {
    /// First seq not known to be durable at the server.
    unacked: SignalSeq,
    /// Next free seq.
    next: SignalSeq,
    /// Observed, not in the spool yet.
    pending: VecDeque<(SignalDraft, Option<ReleaseDigest>)>,
    /// Handed to the spool in the last step; comes back if that failed.
    handed: Option<(SignalDraft, Option<ReleaseDigest>)>,
    retry_at: Option<Timestamp>,
    /// Last seq of the batch under way, and when it was sent.
    sent: Option<(SignalSeq, Timestamp)>,
}

impl Signals {
    pub(crate) fn new((unacked, next): (SignalSeq, SignalSeq)) -> Self {
        let next = next.max(SignalSeq(1));
        Self {
            unacked: unacked.max(SignalSeq(1)).min(next),
            next,
            pending: VecDeque::new(),
            handed: None,
            retry_at: None,
            sent: None,
        }
    }

    pub(crate) fn next_seq(&self) -> SignalSeq {
        self.next
    }

    pub(crate) fn session_lost(&mut self) {
        self.sent = None;
    }

    pub(crate) fn failed(&mut self, seq: SignalSeq, now: Timestamp) {
        if let Some(entry) = self.handed.take()
            && seq.next() == self.next
        {
            self.next = seq;
            self.pending.push_front(entry);
            self.retry_at = Some(now + SPOOL_RETRY);
            // A batch that reached up to the failed seq is asked for again once there is one.
            self.sent = None;
        }
    }

    fn push(&mut self, draft: SignalDraft, release: Option<ReleaseDigest>) {
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back((draft, release));
    }

    pub(crate) fn wakeup(&self, up: bool, ledger_retry: Option<Timestamp>) -> Option<Timestamp> {
        let spool = (!self.pending.is_empty()).then(|| {
            self.retry_at
                .unwrap_or_default()
                .max(ledger_retry.unwrap_or_default())
        });
        let resend = self
            .sent
            .filter(|_| up)
            .map(|(_, sent_at)| sent_at + RESEND_AFTER);
        spool.into_iter().chain(resend).min()
    }
}

impl Machine {
    /// Queues a signal; `release` is the release it tells against.
    pub(crate) fn signal(&mut self, mut draft: SignalDraft, release: Option<ReleaseDigest>) {
        let mut end = draft.title.len().min(TITLE_BYTES_MAX);
        while !draft.title.is_char_boundary(end) {
            end -= 1;
        }
        draft.title.truncate(end);
        if draft.evidence.len() > EVIDENCE_BYTES_MAX {
            "{\"cut\":true}".clone_into(&mut draft.evidence);
        }
        self.signals.push(draft, release);
    }

    pub(crate) fn on_signals_durable(&mut self, through: SignalSeq) {
        if through < self.signals.unacked || through >= self.signals.next {
            return; // a repetition, or an acknowledgement of what was never written here
        }
        self.signals.unacked = through.next();
        self.signals.sent = None;
        self.out.free(Effect::TrimSpool { through });
    }

    /// One append a step, so that a failure names exactly one signal.
    pub(crate) fn settle_signals(&mut self, now: Timestamp) {
        // With a ledger that cannot be written the spool waits too: it is the same disk.
        if self.ledger_retry.is_none()
            && self.signals.retry_at.is_none_or(|at| at <= now)
            && let Some((draft, release)) = self.signals.pending.pop_front()
        {
            self.signals.retry_at = None;
            self.signals.handed = Some((draft.clone(), release));
            let seq = self.signals.next;
            self.signals.next = seq.next();
            self.out.free(Effect::Spool(numbered(draft, seq, release)));
        }
        let resend = self
            .signals
            .sent
            .is_some_and(|(_, at)| now.since(at) >= RESEND_AFTER);
        if self.link.is_up()
            && (self.signals.sent.is_none() || resend)
            && self.signals.unacked < self.signals.next
        {
            let from = self.signals.unacked;
            let last =
                SignalSeq((from.0 + SIGNALS_PER_BATCH_MAX as u64 - 1).min(self.signals.next.0 - 1));
            self.signals.sent = Some((last, now));
            self.out.free(Effect::SendSignals { from });
        }
    }

    /// What a collector saw. A failure in trial is told with the release it may be blamed on.
    pub(crate) fn on_signal(&mut self, draft: SignalDraft, now: Timestamp) {
        let trial = self.trial_release(&draft);
        let revert = trial.is_some() && self.reverts_on(draft.kind);
        self.signal(draft, trial);
        if revert {
            self.revert(ringward_domain::ledger::RevertWhy::CrashLoop, now);
        }
    }
}

fn numbered(draft: SignalDraft, seq: SignalSeq, release: Option<ReleaseDigest>) -> Signal {
    Signal {
        seq,
        kind: draft.kind,
        key: draft.key,
        boot: draft.boot,
        at_boottime: draft.at_boottime,
        release,
        title: draft.title,
        signature: draft.signature,
        evidence: draft.evidence,
    }
}
