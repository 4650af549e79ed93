//! Orders to this host: isolation as a level, and what is done once. Pure: it holds what the server
//! wants, what the host is, and answers with [`Deed`]s.
//!
//! Close → prove the server reachable → keep or undo. Undone only where the server was reachable
//! just before: whoever can drop packets at closing time could drop them before too, and frees
//! nobody by it. Once proven, a loss of the server undoes nothing. Every stage is durable before its
//! act, so a process that dies anywhere goes on where it was.

mod once;
pub mod policy;
pub mod record;
mod stage;
#[cfg(test)]
mod tests;

use crate::planted::{Bug, planted};
use policy::{Act, OrderPolicy, Vouched};
use record::{Ending, OrdersRecord, Proof, SPENT_MAX, Stage};
use ringward_domain::limits::ESCAPES_MAX;
use ringward_domain::net::Allowed;
use ringward_domain::order::{
    Containment as Wanted, ContainmentObserved, OrderRefusal, OrdersDesired, OrdersObserved,
    UndoneWhy,
};
use ringward_domain::{BootId, Epoch, Generation, Millis, OrderId};

/// What the daemon found of orders when it started.
#[derive(Debug, Clone, Default)]
pub struct OrdersStarted {
    /// As read from disk; `None` where there is none or it is damaged.
    pub record: Option<OrdersRecord>,
    /// Whether rules of ours isolate the host now.
    pub stands: bool,
    /// Whether this host can be isolated.
    pub able: bool,
    /// The host's own policy.
    pub policy: OrderPolicy,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Write(Box<OrdersRecord>),
    Isolate(Vec<Allowed>),
    EndIsolation,
    Prove,
    Reboot,
    Collect,
}

/// Why the host was not isolated. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolateFailure {
    /// Nothing on this host could do it.
    Unsupported,
    /// The firewall refused.
    Firewall,
    /// The rules would not survive a reboot.
    Disk,
}

/// A failed write, release or rule set is tried again after this long.
const RETRY: Millis = Millis::secs(5);
/// How often the powered-on clock is written while something runs on it. A power cut makes an
/// isolation longer by at most this.
const CLOCK_EVERY: Millis = Millis::mins(5);

/// For which question a try to reach the server is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Before(OrderId),
    After(OrderId),
}

/// Orders, and how the host stands with them.
#[derive(Debug)]
pub(crate) struct Containment {
    policy: OrderPolicy,
    able: bool,
    boot: BootId,
    /// Powered-on time before this boot (or process) began to count.
    powered_base: Millis,
    record: OrdersRecord,
    /// Grows with each change of the record; and how far the disk has it.
    version: u64,
    written: u64,
    writing: Option<u64>,
    write_failed: bool,
    retry_write_at: Option<Millis>,
    wrote_at: Millis,
    desired: Option<OrdersDesired>,
    /// Of `desired`, and of no other state: an id alone proves nothing.
    vouched: Vouched,
    /// Of the state that is told next.
    vouched_next: Vouched,
    /// Whether this process has made or confirmed the rules that the stage asks for.
    applied: bool,
    /// `Isolate` or `EndIsolation` is under way.
    acting: bool,
    act_at: Option<Millis>,
    proving: Option<Asked>,
    prove_at: Option<Millis>,
    /// Begun tries of this process.
    tries: u32,
    collecting: Option<OrderId>,
    rebooting_at: Option<Millis>,
    /// A reboot waits for its word to be on disk.
    reboot_when_written: bool,
    escapes: Vec<String>,
    /// A newer isolation that was refused while an older one stands.
    refused: Option<(OrderId, OrderRefusal)>,
}

impl Containment {
    /// `awake` is time awake of this boot.
    pub(crate) fn start(started: OrdersStarted, boot: BootId, awake: Millis) -> Self {
        let mut record = started.record.unwrap_or_else(|| OrdersRecord::new(boot));
        if planted(Bug::ObeyedForgottenAfterRestart) {
            record.isolated_at.clear();
            record.rebooted_at.clear();
        }
        let powered_base = match record.boot == boot {
            true => record.powered - record.awake,
            false => record.powered,
        };
        let powered = powered_base + awake;
        let found = record.stage.clone();
        record.stage = stage::recovered(found.clone(), started.stands, powered);
        // What the disk does not say yet is written before it is acted on.
        let written = u64::from(record.stage == found);
        Self {
            policy: started.policy,
            able: started.able,
            boot,
            powered_base,
            record,
            version: 1,
            written,
            writing: None,
            write_failed: false,
            retry_write_at: None,
            wrote_at: powered,
            desired: None,
            vouched: Vouched::new(),
            vouched_next: Vouched::new(),
            applied: false,
            acting: false,
            act_at: None,
            proving: None,
            prove_at: None,
            tries: 0,
            collecting: None,
            rebooting_at: None,
            reboot_when_written: false,
            escapes: Vec::new(),
            refused: None,
        }
    }

    fn powered(&self, awake: Millis) -> Millis {
        self.powered_base + awake
    }

    /// Whether this host can be isolated.
    pub(crate) fn is_able(&self) -> bool {
        self.able
    }

    pub(crate) fn on_vouched(&mut self, vouched: Vouched) {
        if planted(Bug::VouchOfAnotherState) {
            self.vouched.clone_from(&vouched);
        }
        self.vouched_next = vouched;
    }

    /// A desired state that is not older than the newest accepted one.
    pub(crate) fn on_desired(&mut self, order: (Epoch, Generation), mut wanted: OrdersDesired) {
        let vouched = std::mem::take(&mut self.vouched_next);
        if order < self.record.accepted {
            return;
        }
        self.vouched = vouched;
        wanted.once.truncate(ringward_domain::limits::ORDERS_MAX);
        if let Wanted::Quarantined(quarantine) = &mut wanted.containment {
            quarantine
                .allow
                .truncate(ringward_domain::limits::ALLOW_MAX);
        }
        if self.desired.as_ref() != Some(&wanted) {
            self.record.accepted = order;
            self.refused = None;
        }
        self.desired = Some(wanted);
    }

    /// Everything that time or a changed level brings about.
    pub(crate) fn settle(&mut self, awake: Millis, link_up: bool) -> Vec<Deed> {
        let powered = self.powered(awake);
        let mut deeds = Vec::new();
        // Each turn changes the stage at most once; a chain of changes is shorter than this.
        for _ in 0..8 {
            let before = self.version;
            self.settle_stage(powered, link_up, &mut deeds);
            if self.version == before {
                break;
            }
        }
        self.settle_once(powered, &mut deeds);
        if self.reboot_due() {
            deeds.push(Deed::Reboot);
        }
        self.settle_write(powered, awake, &mut deeds);
        deeds
    }

    fn settle_write(&mut self, powered: Millis, awake: Millis, deeds: &mut Vec<Deed>) {
        if self.clock_matters() && (powered - self.wrote_at).0 >= CLOCK_EVERY.0 {
            self.touch();
        }
        let due = self.retry_write_at.is_none_or(|at| at <= powered);
        if self.written == self.version || self.writing.is_some() || !due {
            return;
        }
        self.retry_write_at = None;
        self.wrote_at = powered;
        self.record.powered = powered;
        self.record.boot = self.boot;
        self.record.awake = awake;
        self.writing = Some(self.version);
        deeds.push(Deed::Write(Box::new(self.record.clone())));
    }

    /// Whether anything on disk waits for powered-on time to pass.
    fn clock_matters(&self) -> bool {
        let ends = matches!(&self.record.stage, Stage::Closed { isolation, .. } if isolation.life.is_some());
        let counted = [
            &self.record.isolated_at,
            &self.record.rebooted_at,
            &self.record.collected_at,
        ];
        ends || counted.iter().any(|at| !at.is_empty())
    }

    /// The record changed.
    fn touch(&mut self) {
        self.version += 1;
        self.write_failed = false;
    }

    fn durable(&self) -> bool {
        self.written == self.version
    }

    pub(crate) fn on_written(&mut self, written: bool, awake: Millis) {
        let Some(version) = self.writing.take() else {
            return;
        };
        match written {
            true => self.written = version,
            false => {
                self.write_failed = true;
                self.retry_write_at = Some(self.powered(awake) + RETRY);
            }
        }
    }

    /// When `settle` is next wanted, in time awake of this boot.
    pub(crate) fn wakeup(&self) -> Option<Millis> {
        let ends = match &self.record.stage {
            Stage::Closed {
                isolation, since, ..
            } => isolation.life.map(|life| *since + life),
            _ => None,
        };
        let clock = self.clock_matters().then(|| self.wrote_at + CLOCK_EVERY);
        // What waits for the record to be written is woken by that.
        let told = self.durable() || self.write_failed;
        let act = self.act_at.filter(|_| !self.acting && told);
        let prove = self.prove_at.filter(|_| self.proving.is_none());
        let write = self.retry_write_at.filter(|_| self.writing.is_none());
        [ends, clock, act, prove, write, self.once_wakeup()]
            .into_iter()
            .flatten()
            .min()
            .map(|powered| powered - self.powered_base)
    }

    pub(crate) fn observed(&self, awake: Millis) -> OrdersObserved {
        let powered = self.powered(awake);
        let containment = match &self.record.stage {
            Stage::Open => ContainmentObserved::Open,
            Stage::Settled { order, how } => match how {
                Ending::Expired => ContainmentObserved::Expired(*order),
                Ending::Undone(why) => ContainmentObserved::Undone(*order, *why),
                Ending::Refused(why) => ContainmentObserved::Refused(*order, *why),
            },
            Stage::Closing { isolation, .. } => ContainmentObserved::Closing(isolation.order),
            Stage::Closed {
                isolation,
                since,
                proof,
            } => match proof {
                Proof::Pending { .. } => ContainmentObserved::Closing(isolation.order),
                Proof::Proven | Proof::Unproven => ContainmentObserved::Closed {
                    order: isolation.order,
                    left: isolation.life.map(|life| *since + life - powered),
                },
            },
            // Closed still, until the rules are gone.
            Stage::Opening { order, .. } => ContainmentObserved::Closed {
                order: *order,
                left: Some(Millis::ZERO),
            },
        };
        OrdersObserved {
            containment,
            escapes: self.escapes.clone(),
            once: self.once_observed(),
        }
    }

    /// Whether an order's endorsement brought about its act before. Whoever holds the server could
    /// withdraw an endorsed order and want it again, for as long as its time runs.
    fn is_spent(&self, act: Act, order: OrderId) -> bool {
        self.policy.needs_quorum(act)
            && self.record.spent.contains(&order)
            && !planted(Bug::EndorsementSpentAgain)
    }

    fn spend(&mut self, act: Act, order: OrderId) {
        if self.policy.needs_quorum(act) && !self.record.spent.contains(&order) {
            let over = (self.record.spent.len() + 1).saturating_sub(SPENT_MAX);
            self.record.spent.drain(..over);
            self.record.spent.push(order);
        }
    }

    /// Whether the host takes no changes.
    pub(crate) fn frozen(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.frozen)
    }

    fn keep_escapes(&mut self, mut escapes: Vec<String>) {
        escapes.truncate(ESCAPES_MAX);
        self.escapes = escapes;
    }
}

impl IsolateFailure {
    fn ending(self) -> Ending {
        match self {
            Self::Unsupported => Ending::Refused(OrderRefusal::Unsupported),
            Self::Firewall => Ending::Undone(UndoneWhy::Firewall),
            Self::Disk => Ending::Undone(UndoneWhy::Disk),
        }
    }
}

/// Drops what no window reaches any more, so that no list grows.
fn remember(at: &mut Vec<Millis>, powered: Millis, rate: policy::Rate) {
    at.retain(|at| (powered - *at).0 < rate.within.0);
    at.push(powered);
}
