//! Orders that are done once: taken up on disk before they begin, told until they are withdrawn.

use super::policy::Act;
use super::record::OnceRecord;
use super::{Containment, Deed, remember};
use ringward_domain::limits::ORDERS_MAX;
use ringward_domain::order::{Once, Order, OrderFailure, OrderObserved, OrderRefusal, OrderState};
use ringward_domain::{Millis, OrderId};

/// A reboot that did not come within this time failed.
const REBOOT_PATIENCE: Millis = Millis::mins(5);

impl Containment {
    pub(super) fn settle_once(&mut self, powered: Millis, deeds: &mut Vec<Deed>) {
        if let Some(desired) = &self.desired {
            let wanted = desired.once.clone();
            self.withdraw(&wanted);
            wanted.iter().for_each(|order| self.take_up(order, powered));
        }
        self.give_up_unwritten_reboot();
        self.rebooted(powered);
        self.begin(powered, deeds);
    }

    fn withdraw(&mut self, wanted: &[Order]) {
        let before = self.record.once.len();
        self.record
            .once
            .retain(|known| wanted.iter().any(|order| order.id == known.order));
        if self.record.once.len() != before {
            self.touch();
        }
    }

    fn lately(&self, once: Once) -> &[Millis] {
        match once {
            Once::Reboot => &self.record.rebooted_at,
            Once::Collect => &self.record.collected_at,
        }
    }

    fn take_up(&mut self, order: &Order, powered: Millis) {
        let known = self.record.once.iter().any(|known| known.order == order.id);
        if known || self.record.once.len() >= ORDERS_MAX {
            return;
        }
        let vouch = self.vouched.get(&order.id).cloned().unwrap_or_default();
        let act = Act::from(order.act);
        let judged = self
            .policy
            .judge(act, &vouch, Some(self.lately(order.act)), powered);
        let state = match judged {
            Ok(()) if self.is_spent(act, order.id) => OrderState::Refused(OrderRefusal::Expired),
            Ok(()) => OrderState::Taken,
            Err(why) => OrderState::Refused(why),
        };
        if state == OrderState::Taken {
            let (rate, at) = match order.act {
                Once::Reboot => (self.policy.reboots, &mut self.record.rebooted_at),
                Once::Collect => (self.policy.collections, &mut self.record.collected_at),
            };
            remember(at, powered, rate);
            self.spend(act, order.id);
        }
        self.record.once.push(OnceRecord {
            order: order.id,
            act: order.act,
            state,
            boot: self.boot,
        });
        self.touch();
    }

    /// A reboot is done when another boot sees it, and failed when it did not come.
    fn rebooted(&mut self, powered: Millis) {
        let (boot, asked) = (self.boot, self.rebooting_at);
        let mut changed = false;
        for known in &mut self.record.once {
            if known.act != Once::Reboot || known.state != OrderState::Running {
                continue;
            }
            let overdue = asked.is_some_and(|at| (powered - at).0 >= REBOOT_PATIENCE.0);
            known.state = match known.boot != boot {
                true => OrderState::Done,
                false if overdue => OrderState::Failed(OrderFailure::System),
                false => continue,
            };
            changed = true;
        }
        if changed {
            self.rebooting_at = None;
            self.touch();
        }
        let running = self.running(Once::Reboot);
        if running.is_some() && self.rebooting_at.is_none() && self.durable() {
            // Asked for by a process that is gone: it may be under way.
            self.rebooting_at = Some(powered);
        }
    }

    /// A reboot that no disk remembers would be made again after it.
    fn give_up_unwritten_reboot(&mut self) {
        if !(self.reboot_when_written && self.write_failed) {
            return;
        }
        self.reboot_when_written = false;
        self.rebooting_at = None;
        let running = |known: &&mut OnceRecord| {
            known.act == Once::Reboot && known.state == OrderState::Running
        };
        if let Some(known) = self.record.once.iter_mut().find(running) {
            known.state = OrderState::Failed(OrderFailure::Disk);
            self.touch();
        }
    }

    fn running(&self, act: Once) -> Option<OrderId> {
        let running = |known: &&OnceRecord| known.act == act && known.state == OrderState::Running;
        self.record
            .once
            .iter()
            .find(running)
            .map(|known| known.order)
    }

    /// Begins the next one, in two steps: `Running` on disk, then the act.
    fn begin(&mut self, powered: Millis, deeds: &mut Vec<Deed>) {
        if let Some(order) = self.running(Once::Collect) {
            if self.durable() && self.collecting.is_none() {
                self.collecting = Some(order);
                deeds.push(Deed::Collect);
            }
            return;
        }
        if self.running(Once::Reboot).is_some() {
            return;
        }
        let taken = |known: &&mut OnceRecord| known.state == OrderState::Taken;
        if let Some(next) = self.record.once.iter_mut().find(taken) {
            next.state = OrderState::Running;
            next.boot = self.boot;
            let reboot = next.act == Once::Reboot;
            self.touch();
            if reboot {
                self.reboot_when_written = true;
                self.rebooting_at = Some(powered);
            }
        }
    }

    /// The reboot whose word is on disk now.
    pub(super) fn reboot_due(&mut self) -> bool {
        let due = self.reboot_when_written && self.durable();
        if due {
            self.reboot_when_written = false;
        }
        due && self.running(Once::Reboot).is_some()
    }

    /// Evidence was looked for, or could not be.
    pub(crate) fn on_collected(&mut self, outcome: bool) {
        let Some(order) = self.collecting.take() else {
            return;
        };
        let state = match outcome {
            true => OrderState::Done,
            false => OrderState::Failed(OrderFailure::System),
        };
        if let Some(known) = self
            .record
            .once
            .iter_mut()
            .find(|known| known.order == order)
        {
            known.state = state;
            self.touch();
        }
    }

    pub(super) fn once_observed(&self) -> Vec<OrderObserved> {
        let known = self.record.once.iter().map(|known| OrderObserved {
            order: known.order,
            state: known.state,
        });
        let refused = self.refused.iter().map(|(order, why)| OrderObserved {
            order: *order,
            state: OrderState::Refused(*why),
        });
        refused.chain(known).take(ORDERS_MAX).collect()
    }

    pub(super) fn once_wakeup(&self) -> Option<Millis> {
        self.running(Once::Reboot)?;
        self.rebooting_at.map(|at| at + REBOOT_PATIENCE)
    }
}
