//! Collects the effects of one step in the order that makes them safe.

use crate::Effect;
use ringward_domain::ledger::Ledger;
use ringward_domain::observed::Observed;
use ringward_domain::session::ToServer;

/// Effects of the step under way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    free: Vec<Effect>,
    write_ledger: bool,
    sends: Vec<Effect>,
    observed: usize,
    acts: Vec<Effect>,
    last: Last,
}

/// What the list given out last did after its ledger write, and so did not do if that failed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) switch: bool,
    pub(crate) revert: bool,
}

impl Outbox {
    /// Something that rests on no ledger write.
    pub(crate) fn free(&mut self, effect: Effect) {
        self.free.push(effect);
    }

    /// The ledger changed: it is written once, as it stands at the end of the step.
    pub(crate) fn ledger(&mut self) {
        self.write_ledger = true;
    }

    pub(crate) fn send(&mut self, message: ToServer) {
        self.sends.push(Effect::Send(message));
    }

    /// The observed state, in the order told but before everything else of this step, so that a
    /// server never reads a request before the state that explains it.
    pub(crate) fn send_observed(&mut self, observed: Box<Observed>) {
        let message = Effect::Send(ToServer::Observed(observed));
        self.sends.insert(self.observed, message);
        self.observed += 1;
    }

    /// An act on the host.
    pub(crate) fn act(&mut self, effect: Effect) {
        self.acts.push(effect);
    }

    pub(crate) fn last(&self) -> Last {
        self.last
    }

    /// Hands the step's effects out.
    pub(crate) fn take(&mut self, ledger: &Ledger) -> Vec<Effect> {
        let mut all = std::mem::take(&mut self.free);
        if std::mem::take(&mut self.write_ledger) {
            all.push(Effect::WriteLedger(Box::new(ledger.clone())));
        }
        all.append(&mut self.sends);
        self.observed = 0;
        self.last = Last {
            switch: self
                .acts
                .iter()
                .any(|act| matches!(act, Effect::Switch { .. })),
            revert: self
                .acts
                .iter()
                .any(|act| matches!(act, Effect::Revert { .. })),
        };
        all.append(&mut self.acts);
        all
    }
}
