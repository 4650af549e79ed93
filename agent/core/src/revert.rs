//! Going back alone: decided, written down, then done, and done again until it worked.

use crate::event::SwitchFailure;
use crate::{Effect, Machine};
use ringward_domain::ledger::{AttemptPhase, NotSwitchedWhy, RevertWhy};
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{Millis, Timestamp};

/// A switch back that failed is tried again.
const REVERT_AGAIN: Millis = Millis::secs(30);
/// A switch back without an answer is asked for again: it is idempotent, and nothing matters more.
const REVERT_LOST: Millis = Millis::mins(5);

/// The way back under way.
#[derive(Debug)]
pub(crate) enum Reverting {
    /// To be asked for at this time.
    Due { at: Timestamp },
    /// `Effect::Revert` is out since then.
    Asked { at: Timestamp },
}

impl Machine {
    /// Takes the host back from its trial and bars the release on it.
    pub(crate) fn revert(&mut self, why: RevertWhy, now: Timestamp) {
        self.give_up_progress(NotSwitchedWhy::Superseded, now);
        let Some(attempt) = self.ledger.attempt.as_mut() else {
            return;
        };
        if attempt.phase != AttemptPhase::Trial {
            return;
        }
        attempt.phase = AttemptPhase::Reverted(why);
        let release = attempt.to.release;
        let draft = SignalDraft {
            kind: SignalKind::SelfReverted,
            key: format!("self-reverted:{}", attempt.nonce),
            boot: self.boot,
            at_boottime: now.since(Timestamp::default()),
            title: format!("went back from {} {}", attempt.package, attempt.to.version),
            signature: String::new(),
            evidence: "{}".to_owned(),
        };
        self.ledger.bars.insert(release);
        self.trial = None;
        self.reverting = Some(Reverting::Due { at: now });
        self.write_ledger();
        self.signal(draft, Some(release));
    }

    pub(crate) fn settle_revert(&mut self, now: Timestamp) {
        let at = match self.reverting {
            Some(Reverting::Due { at }) => at,
            Some(Reverting::Asked { at }) => at + REVERT_LOST,
            None => return,
        };
        if at > now || self.ledger_retry.is_some() {
            return;
        }
        if let Some(attempt) = self.ledger.attempt.as_ref() {
            self.reverting = Some(Reverting::Asked { at: now });
            self.out.act(Effect::Revert {
                package: attempt.package.clone(),
                to: attempt.from.clone(),
            });
        }
    }

    /// `Effect::Revert` was answered.
    pub(crate) fn on_went_back(&mut self, outcome: Result<(), SwitchFailure>, now: Timestamp) {
        if outcome.is_err() {
            self.reverting = Some(Reverting::Due {
                at: now + REVERT_AGAIN,
            });
            return;
        }
        self.reverting = None;
        let Some(attempt) = self.ledger.attempt.as_ref() else {
            return;
        };
        self.slots
            .insert(attempt.package.clone(), attempt.from.clone());
        if attempt.boot_required && attempt.switched_in != self.boot {
            // What took effect with a boot goes with a boot. The guard has nothing left to do.
            self.tell();
            self.settle_guard();
            self.out.act(Effect::Reboot);
        }
    }

    /// The ledger write before a revert failed, so the revert was not carried out either.
    pub(crate) fn undo_unwritten_revert(&mut self) {
        if let Some(at) = self.ledger_retry
            && self.out.last().revert
        {
            self.reverting = Some(Reverting::Due { at });
        }
    }

    pub(crate) fn revert_wakeup(&self) -> Option<Timestamp> {
        let at = match self.reverting {
            Some(Reverting::Due { at }) => at,
            Some(Reverting::Asked { at }) => at + REVERT_LOST,
            None => return None,
        };
        Some(self.ledger_retry.map_or(at, |retry| retry.max(at)))
    }
}
