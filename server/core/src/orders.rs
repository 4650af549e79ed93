//! Orders as the server keeps them: what stands, for whom, and how far it got. What a host should be
//! follows from here and nowhere else.

use crate::named::Named;
use crate::slips::{Slip, slipped};
use ringward_domain::manifest::Signature;
use ringward_domain::order::{
    Containment, ContainmentObserved, Once, Order, OrderState, OrdersDesired, OrdersObserved,
    Origin, Quarantine, Warrant, statement,
};
use ringward_domain::order_spec::{
    NotDone, OrderKind, OrderSpec, OrderTargets, Progress, not_after_unix_ms,
};
use ringward_domain::{HostId, OrderId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Orders kept; older ones that are over and stand no more go.
pub const ORDERS_KEPT: usize = 256;

/// One order as written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Its id.
    pub id: OrderId,
    /// Orders orders by when they were given.
    pub number: u64,
    /// What; its targets are the exact hosts.
    pub spec: OrderSpec,
    /// By whom.
    pub author: String,
    /// Why.
    pub reason: String,
    /// By whose word.
    pub origin: Origin,
    /// Who approved it.
    #[serde(default)]
    pub approved_by: String,
    /// Fleet clock when it was given.
    pub issued_at: Timestamp,
    /// Wall clock when it was given, for display.
    pub issued_unix_ms: u64,
    /// Goes beyond the caps: a second person said so.
    #[serde(default)]
    pub beyond_caps: bool,
    /// Signatures of people over its statement, for hosts that ask for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Signature>,
}

impl OrderRecord {
    /// When its life ends, on the fleet clock.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.issued_at + self.spec.life
    }
}

/// One host of an order as written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderHostRecord {
    /// The order.
    pub order: OrderId,
    /// The host.
    pub host: HostId,
    /// How it stands.
    pub part: Part,
}

/// One host's part in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How it stands.
    pub progress: Progress,
    /// When it was let past the caps; counts towards them for an hour, whatever comes of it.
    pub admitted: Option<Timestamp>,
    /// What it ordered is wanted of the host now. A host without a session is let in when it is back,
    /// so that the caps count what happens and not what was asked for.
    pub stands: bool,
    /// The rollout that carries it out (rollbacks).
    #[serde(default)]
    pub rollout: Option<RolloutId>,
}

#[derive(Debug, Clone)]
struct Standing {
    record: OrderRecord,
    parts: BTreeMap<HostId, Part>,
    /// Hosts whose part is not over: each tick asks for these, of orders to whole fleets too.
    open: BTreeSet<HostId>,
    /// Whom it names, where it is to be endorsed.
    named: Option<Named>,
}

/// All orders.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    all: BTreeMap<OrderId, Standing>,
    by_number: BTreeMap<u64, OrderId>,
    /// Orders of a host that are not over, or whose state stands.
    by_host: BTreeMap<HostId, BTreeSet<OrderId>>,
    next_number: u64,
    changed: BTreeSet<(OrderId, HostId)>,
}

/// What a host is known to have taken in.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// The newest desired state sent to it was accepted.
    pub accepted: bool,
    /// What it reports.
    pub observed: &'a OrdersObserved,
}

impl Orders {
    /// Takes in an order of an earlier run.
    pub fn restore(&mut self, record: OrderRecord) {
        self.next_number = self.next_number.max(record.number + 1);
        self.by_number.insert(record.number, record.id);
        let standing = Standing {
            parts: BTreeMap::new(),
            open: BTreeSet::new(),
            named: named(&record),
            record,
        };
        self.all.insert(standing.record.id, standing);
    }

    /// Takes in a host's part; its order must be there already.
    pub fn restore_part(&mut self, mut record: OrderHostRecord) {
        let Some(standing) = self.all.get_mut(&record.order) else {
            return;
        };
        if slipped(Slip::CapsForgottenAfterRestart) && !record.part.stands {
            record.part.admitted = None;
        }
        standing.parts.insert(record.host, record.part);
        self.index(record.order, record.host);
    }

    /// Number of the next order.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Gives an order: each host's part as decided.
    pub fn give(&mut self, record: OrderRecord, parts: Vec<(HostId, Part)>) {
        let id = record.id;
        self.restore(record);
        for (host, part) in parts {
            self.changed.insert((id, host));
            self.restore_part(OrderHostRecord {
                order: id,
                host,
                part,
            });
        }
    }

    fn index(&mut self, order: OrderId, host: HostId) {
        let part = self.part(order, host);
        let counts = part.is_some_and(|part| part.stands || !part.progress.is_over());
        let open = part.is_some_and(|part| !part.progress.is_over());
        if let Some(standing) = self.all.get_mut(&order) {
            match open {
                true => standing.open.insert(host),
                false => standing.open.remove(&host),
            };
        }
        if counts {
            self.by_host.entry(host).or_default().insert(order);
        } else if let Some(of) = self.by_host.get_mut(&host) {
            of.remove(&order);
            if of.is_empty() {
                self.by_host.remove(&host);
            }
        }
    }

    /// An order.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Option<&OrderRecord> {
        self.all.get(&id).map(|standing| &standing.record)
    }

    /// A host's part in an order.
    #[must_use]
    pub fn part(&self, order: OrderId, host: HostId) -> Option<&Part> {
        self.all.get(&order)?.parts.get(&host)
    }

    /// Every host's part in an order, by host.
    pub fn parts(&self, order: OrderId) -> impl Iterator<Item = (HostId, &Part)> {
        let standing = self.all.get(&order);
        standing
            .into_iter()
            .flat_map(|standing| standing.parts.iter().map(|(host, part)| (*host, part)))
    }

    /// Hosts whose part in an order is not over.
    pub fn open(&self, order: OrderId) -> impl Iterator<Item = HostId> + '_ {
        let standing = self.all.get(&order);
        standing.into_iter().flat_map(|s| s.open.iter().copied())
    }

    /// Every order, newest first.
    pub fn newest(&self) -> impl Iterator<Item = &OrderRecord> {
        let ids = self.by_number.values().rev();
        ids.filter_map(|id| self.order(*id))
    }

    /// Orders of a host that are not over, or whose state stands, oldest first.
    #[must_use]
    pub fn of_host(&self, host: HostId) -> Vec<OrderId> {
        let mut ids: Vec<OrderId> = self
            .by_host
            .get(&host)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        ids.sort_by_key(|id| self.order(*id).map(|record| record.number));
        ids
    }

    /// Changes a host's part.
    pub fn change(&mut self, order: OrderId, host: HostId, change: impl FnOnce(&mut Part)) {
        let Some(part) = self
            .all
            .get_mut(&order)
            .and_then(|standing| standing.parts.get_mut(&host))
        else {
            return;
        };
        let before = part.clone();
        change(part);
        if *part != before {
            self.changed.insert((order, host));
            self.index(order, host);
        }
    }

    /// Parts that changed since this was asked last.
    pub fn take_changed(&mut self) -> Vec<OrderHostRecord> {
        let changed = std::mem::take(&mut self.changed);
        let record = |(order, host): (OrderId, HostId)| {
            Some(OrderHostRecord {
                order,
                host,
                part: self.part(order, host)?.clone(),
            })
        };
        changed.into_iter().filter_map(record).collect()
    }

    /// Drops the oldest orders that are over beyond what is kept; answers them with their hosts. What
    /// still counts towards a cap stays.
    pub fn forget(&mut self, now: Timestamp) -> Vec<(OrderId, Vec<HostId>)> {
        let surplus = self.all.len().saturating_sub(ORDERS_KEPT);
        let counts = |part: &Part| {
            part.stands
                || !part.progress.is_over()
                || part
                    .admitted
                    .is_some_and(|at| now.since(at) < crate::brakes::HOUR)
        };
        let gone: Vec<(u64, OrderId)> = self
            .by_number
            .iter()
            .filter(|(_, id)| !self.parts(**id).any(|(_, part)| counts(part)))
            .take(surplus)
            .map(|(number, id)| (*number, *id))
            .collect();
        gone.into_iter()
            .filter_map(|(number, id)| {
                self.by_number.remove(&number);
                let standing = self.all.remove(&id)?;
                Some((id, standing.parts.into_keys().collect()))
            })
            .collect()
    }

    /// The order that isolates a host, if one does.
    #[must_use]
    pub fn isolates(&self, host: HostId) -> Option<OrderId> {
        let of = self.by_host.get(&host)?;
        of.iter().copied().find(|id| {
            let stands = self.part(*id, host).is_some_and(|part| part.stands);
            stands
                && self
                    .order(*id)
                    .is_some_and(|o| matches!(o.spec.kind, OrderKind::Quarantine { .. }))
        })
    }

    /// Whether an order isolates a host, or waits to.
    #[must_use]
    pub fn concerns_isolation(&self, host: HostId) -> bool {
        self.of_host(host).into_iter().any(|id| {
            self.order(id)
                .is_some_and(|o| matches!(o.spec.kind, OrderKind::Quarantine { .. }))
        })
    }

    /// Hosts isolated by orders.
    pub fn isolated(&self) -> impl Iterator<Item = HostId> + '_ {
        let hosts = self.by_host.keys().copied();
        hosts.filter(|host| self.isolates(*host).is_some())
    }

    /// Hosts let past the caps, and when.
    pub fn admitted(&self) -> impl Iterator<Item = (HostId, Timestamp)> + '_ {
        self.all
            .values()
            .filter(|standing| standing.record.spec.kind.disrupts())
            .flat_map(|standing| standing.parts.iter())
            .filter_map(|(host, part)| Some((*host, part.admitted?)))
    }

    /// Parts that wait to be let in, in the order in which they were given.
    #[must_use]
    pub fn waiting(&self) -> Vec<(OrderId, HostId)> {
        let over = |part: &Part| match part.progress {
            Progress::OverCap(_) => true,
            Progress::Pending => !part.stands,
            _ => false,
        };
        self.by_number
            .values()
            .flat_map(|id| self.open(*id).map(|host| (*id, host)))
            .filter(|(id, host)| self.part(*id, *host).is_some_and(over))
            .collect()
    }

    /// Orders of which hosts wait under a cap, and how many, newest first.
    pub fn over_cap(&self) -> impl Iterator<Item = (&OrderRecord, usize)> {
        let waits = |id: OrderId, host: HostId| {
            let part = self.part(id, host);
            part.is_some_and(|part| matches!(part.progress, Progress::OverCap(_)))
        };
        self.newest().filter_map(move |order| {
            let waiting = self.open(order.id).filter(|host| waits(order.id, *host));
            let waiting = waiting.count();
            (waiting > 0).then_some((order, waiting))
        })
    }

    /// What is wanted of a host.
    #[must_use]
    pub fn desired(&self, host: HostId, frozen: bool) -> OrdersDesired {
        let mut desired = OrdersDesired {
            containment: Containment::Open,
            frozen,
            ..OrdersDesired::default()
        };
        for id in self.of_host(host) {
            let (Some(record), Some(part)) = (self.order(id), self.part(id, host)) else {
                continue;
            };
            let open =
                part.stands && matches!(part.progress, Progress::Pending | Progress::Delivered);
            match &record.spec.kind {
                OrderKind::Quarantine { allow, life } if part.stands => {
                    desired.containment = Containment::Quarantined(Box::new(Quarantine {
                        order: id,
                        allow: allow.clone(),
                        life: *life,
                        warrant: self.warrant(record, host),
                    }));
                }
                OrderKind::Pin(path) if part.stands => desired.pins.push(path.clone()),
                OrderKind::Reboot if open => {
                    desired.once.push(self.once(record, host, Once::Reboot))
                }
                OrderKind::Collect if open => {
                    desired.once.push(self.once(record, host, Once::Collect))
                }
                _ => {}
            }
        }
        desired.pins.truncate(ringward_domain::limits::PINS_MAX);
        // The oldest first: the rest follows when these are done.
        desired.once.truncate(ringward_domain::limits::ORDERS_MAX);
        desired
    }

    /// A host's session ended, or this server just started: what it may not have heard is let in anew
    /// when it is back.
    pub fn unheard(&mut self, host: HostId) {
        for id in self.of_host(host) {
            let disrupts = self.order(id).is_some_and(|o| o.spec.kind.disrupts());
            self.change(id, host, |part| {
                let keeps = part.rollout.is_some() || slipped(Slip::UnheardKeepsItsPlace);
                if disrupts && part.progress == Progress::Pending && !keeps {
                    part.stands = false;
                }
            });
        }
    }

    /// Hosts with parts that are not over, or whose state stands.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.by_host.keys().copied().collect()
    }

    /// Takes in what a host says: how each of its orders stands now. The same word twice, or an old
    /// one, changes nothing.
    pub fn settle(&mut self, host: HostId, heard: Heard<'_>) {
        for id in self.of_host(host) {
            let Some(kind) = self.order(id).map(|record| record.spec.kind.clone()) else {
                continue;
            };
            let Some(part) = self.part(id, host).cloned() else {
                continue;
            };
            let mut next = part.clone();
            settle_part(id, &kind, &mut next, heard);
            let lasts = matches!(kind, OrderKind::Quarantine { .. } | OrderKind::Pin(_));
            if next.progress.is_over() && !lasts {
                next.stands = false;
            }
            if next != part {
                self.change(id, host, |part| *part = next);
            }
        }
    }
}

fn named(record: &OrderRecord) -> Option<Named> {
    match &record.spec.targets {
        OrderTargets::Hosts(hosts) if record.spec.endorsers > 0 => Some(Named::new(hosts.clone())),
        _ => None,
    }
}

impl Orders {
    /// What endorsements of an order sign; `None` where it takes none.
    #[must_use]
    pub fn statement(&self, id: OrderId) -> Option<Vec<u8>> {
        let standing = self.all.get(&id)?;
        let (record, named) = (&standing.record, standing.named.as_ref()?);
        Some(statement(
            id,
            record.spec.kind.endorsed()?,
            not_after_unix_ms(record.issued_unix_ms, record.spec.life),
            named.count(),
            &named.root(),
        ))
    }

    /// Whether an order carries as many endorsements as it waits for.
    #[must_use]
    pub fn is_endorsed(&self, id: OrderId) -> bool {
        self.order(id)
            .is_some_and(|order| order.endorsements.len() >= order.spec.endorsers as usize)
    }

    /// Adds an endorsement; answers the order as it is to be written.
    pub fn endorse(&mut self, id: OrderId, signature: Signature) -> Option<OrderRecord> {
        let record = &mut self.all.get_mut(&id)?.record;
        record.endorsements.push(signature);
        Some(record.clone())
    }

    fn warrant(&self, record: &OrderRecord, host: HostId) -> Warrant {
        let named = self.all.get(&record.id).and_then(|s| s.named.as_ref());
        Warrant {
            origin: record.origin,
            not_after_unix_ms: not_after_unix_ms(record.issued_unix_ms, record.spec.life),
            targets: named.and_then(|named| named.targets(host)),
            endorsements: record.endorsements.clone(),
        }
    }

    fn once(&self, record: &OrderRecord, host: HostId, act: Once) -> Order {
        Order {
            id: record.id,
            act,
            warrant: self.warrant(record, host),
        }
    }
}

fn settle_part(id: OrderId, kind: &OrderKind, part: &mut Part, heard: Heard<'_>) {
    if part.progress == Progress::Pending && part.stands && heard.accepted {
        part.progress = Progress::Delivered;
    }
    match kind {
        OrderKind::Quarantine { .. } => settle_quarantine(id, part, heard.observed),
        OrderKind::Release => {
            let closed = matches!(
                heard.observed.containment,
                ContainmentObserved::Closed { .. } | ContainmentObserved::Closing(_)
            );
            if part.progress == Progress::Delivered && !closed {
                part.progress = Progress::Done;
            }
        }
        OrderKind::Freeze | OrderKind::Unfreeze | OrderKind::Pin(_) | OrderKind::Unpin(_) => {
            if part.progress == Progress::Delivered {
                part.progress = Progress::Done;
            }
        }
        OrderKind::Reboot | OrderKind::Collect => {
            let told = heard.observed.once.iter().find(|told| told.order == id);
            let open = matches!(part.progress, Progress::Pending | Progress::Delivered);
            if let Some(told) = told.filter(|_| open) {
                part.progress = match told.state {
                    OrderState::Taken | OrderState::Running => Progress::Delivered,
                    OrderState::Done => Progress::Done,
                    OrderState::Failed(why) => Progress::Failed(NotDone::Failed(why)),
                    OrderState::Refused(why) => Progress::Failed(NotDone::Refused(why)),
                };
            }
        }
        // Followed in the rollout that carries it out.
        OrderKind::Rollback { .. } => {}
    }
}

fn settle_quarantine(id: OrderId, part: &mut Part, observed: &OrdersObserved) {
    let open = matches!(part.progress, Progress::Pending | Progress::Delivered);
    match observed.containment {
        // It stands there, whatever a lost session made of its place: no cap frees who is isolated.
        ContainmentObserved::Closing(order) if order == id && open => {
            part.progress = Progress::Delivered;
            part.stands = true;
        }
        ContainmentObserved::Closed { order, .. } if order == id && open => {
            part.progress = Progress::Done;
            part.stands = true;
        }
        ContainmentObserved::Expired(order) if order == id => {
            part.stands = false;
            if open {
                part.progress = Progress::Done;
            }
        }
        ContainmentObserved::Undone(order, why) if order == id => {
            part.stands = false;
            part.progress = Progress::Failed(NotDone::Undone(why));
        }
        ContainmentObserved::Refused(order, why) if order == id => {
            part.stands = false;
            part.progress = Progress::Failed(NotDone::Refused(why));
        }
        _ => {}
    }
}
