//! Orders in the machine: what the server wants goes in, deeds come out as effects.

use crate::containment::Deed;
use crate::{Effect, Machine};
use ringward_domain::order::{CAPABILITY_ORDERS, CAPABILITY_QUARANTINE, OrdersDesired};
use ringward_domain::{Epoch, Generation, Millis, Timestamp};

pub use crate::containment::policy::{Act, OrderPolicy, Rate, Vouch, Vouched};
pub use crate::containment::record::{
    Ending, FORMAT, Isolation, OnceRecord, OrdersRecord, Proof, Stage,
};
pub use crate::containment::{IsolateFailure, OrdersStarted};

impl Machine {
    pub(crate) fn awake(&self, now: Timestamp) -> Millis {
        self.clock.awake(now).since(Timestamp::default())
    }

    pub(crate) fn take_orders(&mut self, order: (Epoch, Generation), wanted: OrdersDesired) {
        self.containment.on_desired(order, wanted);
    }

    /// What this agent can do beside what every agent can.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let mut able = vec![CAPABILITY_ORDERS.to_owned()];
        if self.containment.is_able() {
            able.push(CAPABILITY_QUARANTINE.to_owned());
        }
        able
    }

    pub(crate) fn settle_orders(&mut self, now: Timestamp) {
        let awake = self.awake(now);
        for deed in self.containment.settle(awake, self.link.is_up()) {
            match deed {
                // None of these rests on the ledger.
                Deed::Write(record) => self.out.free(Effect::WriteOrders(record)),
                Deed::Isolate(allow) => self.out.free(Effect::Isolate { allow }),
                Deed::EndIsolation => self.out.free(Effect::EndIsolation),
                Deed::Prove => self.out.free(Effect::ProveServer),
                Deed::Collect => self.out.free(Effect::Collect),
                Deed::Reboot => {
                    self.out.act(Effect::ArmGuard);
                    self.out.act(Effect::Reboot);
                }
            }
        }
    }

    pub(crate) fn orders_wakeup(&self) -> Option<Timestamp> {
        let awake = self.containment.wakeup()?;
        Some(self.clock.to_boottime(Timestamp::default() + awake))
    }
}
