//! Orders: decided by the same code for a dry run, given, let past the caps, followed to their end.

use super::Control;
use super::command::{Act, Decided, conflict, not_found, said};
use super::order_views::check_spec;
use crate::event::Notice;
use crate::host::Host;
use crate::orders::{Heard, OrderHostRecord, OrderRecord, Part};
use crate::people::Scope;
use crate::record::{Record, RecordKey};
use crate::salt::derived_id;
use crate::selector::Selector;
use crate::slips::{Slip, slipped};
use ringward_domain::command::{Command, Outcome, Refusal};
use ringward_domain::host::HostState;
use ringward_domain::limits::{ENDORSEMENTS_MAX, PINS_MAX};
use ringward_domain::manifest::Signature;
use ringward_domain::order::Origin;
use ringward_domain::order_spec::{
    NotDone, ORDER_HOSTS_MAX, OrderKind, OrderSpec, OrderTargets, Progress,
};
use ringward_domain::{HostId, OrderId, RequestId};
use std::collections::BTreeSet;

/// Hosts listed of one kind.
const LISTED_MAX: usize = 1000;
/// The label that protects a host.
pub(super) const PROTECTED: &str = "protected";

/// How freely an order may be given.
#[derive(Debug, Clone)]
pub(super) struct Leave {
    /// Only to these hosts.
    pub scope: (Scope, Scope),
    /// By whose word.
    pub origin: Origin,
    /// Who approved it.
    pub approved_by: String,
}

impl Leave {
    /// Given by the program itself.
    pub fn trusted() -> Self {
        Self {
            scope: (Scope::All, Scope::All),
            origin: Origin::Person,
            approved_by: String::new(),
        }
    }
}

/// An order decided and not given yet.
#[derive(Debug)]
pub(super) struct Decision {
    pub record: OrderRecord,
    pub parts: Vec<(HostId, Part)>,
    /// Protected hosts among them.
    pub protected: usize,
    /// Hosts that would go beyond a cap.
    pub beyond: usize,
}

pub(super) fn invalid<T>(field: &str, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid {
        field: field.to_owned(),
        why: why.into(),
    })
}

/// The id of the order that this request gives: a repeated request names the same.
pub(super) fn order_id(request: RequestId) -> OrderId {
    OrderId(derived_id("ringward order v1\n", &request.0))
}

impl Control {
    pub(super) fn decide_order(
        &self,
        spec: &OrderSpec,
        command: &Command,
        leave: &Leave,
    ) -> Decided {
        check_spec(spec)?;
        let mut left_out = Vec::new();
        let (mut chosen, mut protected) = (Vec::new(), 0);
        for host in self.targets(spec)? {
            let id = host.record.id;
            let labels = &host.record.labels;
            if let Some(why) = self.takes_no_part(host, spec) {
                left_out.push((id, why));
            } else if !leave.scope.0.covers_both(&leave.scope.1, labels) {
                left_out.push((id, "outside your grants".to_owned()));
            } else if let Some(why) = self.protection(host).filter(|_| spec.kind.disrupts()) {
                if spec.protected {
                    protected += 1;
                    chosen.push(id);
                } else {
                    left_out.push((id, format!("protected: {why}")));
                }
            } else {
                chosen.push(id);
            }
        }
        if chosen.len() > ORDER_HOSTS_MAX {
            return invalid(
                "targets",
                format!(
                    "{} hosts; at most {ORDER_HOSTS_MAX} do: order ring by ring",
                    chosen.len()
                ),
            );
        }
        let what = format!("ordering a {}", spec.kind.verb());
        if chosen.is_empty() {
            let why = match left_out.first() {
                Some((_, why)) => format!("none of {} hosts is left: {why}", left_out.len()),
                None => "no host is meant".to_owned(),
            };
            return Err(conflict(what, why, "look at what it names with --dry-run"));
        }
        let (parts, beyond) = self.let_in(spec, &chosen, leave.origin);
        let decision = Decision {
            record: self.order_record(spec, command, leave, &chosen),
            parts,
            protected,
            beyond,
        };
        let outcome = self.order_outcome(&decision, left_out);
        Ok((outcome, Act::Order(Box::new(decision))))
    }

    fn order_record(
        &self,
        spec: &OrderSpec,
        command: &Command,
        leave: &Leave,
        chosen: &[HostId],
    ) -> OrderRecord {
        // Breaking the glass raises the caps, also for hosts that come back later; it lifts none.
        let glass = leave.origin == Origin::BreakGlass && slipped(Slip::GlassLiftsCaps);
        let beyond = spec.over_cap && (leave.origin == Origin::TwoPersons || glass);
        OrderRecord {
            id: order_id(command.request),
            number: self.orders.next_number(),
            spec: OrderSpec {
                targets: OrderTargets::Hosts(chosen.to_vec()),
                ..spec.clone()
            },
            author: command.actor.clone(),
            reason: command.reason.clone(),
            origin: leave.origin,
            approved_by: leave.approved_by.clone(),
            issued_at: self.now,
            issued_unix_ms: self.wall_unix_ms,
            beyond_caps: beyond,
            endorsements: Vec::new(),
        }
    }

    /// Which hosts an order names.
    fn targets(&self, spec: &OrderSpec) -> Result<Vec<&Host>, Refusal> {
        let active = || {
            self.hosts
                .values()
                .filter(|host| host.record.state != HostState::Retired)
        };
        Ok(match &spec.targets {
            OrderTargets::Hosts(ids) => {
                let ids: BTreeSet<HostId> = ids.iter().copied().collect();
                let found = ids.iter().map(|id| self.known_host(*id));
                found.collect::<Result<_, _>>()?
            }
            OrderTargets::Selector(text) if text.trim().is_empty() => {
                return invalid(
                    "targets.selector",
                    "an empty selector names nobody; to mean the whole fleet say --everything",
                );
            }
            OrderTargets::Selector(text) => {
                let selector: Selector = match text.parse() {
                    Ok(selector) => selector,
                    Err(error) => return invalid("targets.selector", format!("{error}")),
                };
                let matches = |host: &&Host| selector.matches(&host.record.labels);
                active().filter(matches).collect()
            }
            OrderTargets::Ring(name) => {
                let ring = self.policy.rings.iter().position(|ring| ring.name == *name);
                let Some(ring) = ring else {
                    return Err(not_found(
                        "ring",
                        name,
                        "read them with `ringwardctl rings get`",
                    ));
                };
                if self.policy.rings[ring].percent.is_some() {
                    return invalid(
                        "targets.ring",
                        format!(
                            "{name} is a share of the fleet drawn anew for each release; use a selector"
                        ),
                    );
                }
                active()
                    .filter(|host| self.place(host).ring == ring)
                    .collect()
            }
            OrderTargets::Release(release) => {
                if !self.releases.contains_key(release) {
                    let next = "list them with `ringwardctl releases list`";
                    return Err(not_found("release", release, next));
                }
                let on = |host: &&Host| super::start::runs(host, Some(*release));
                active().filter(on).collect()
            }
            OrderTargets::Everything => active().collect(),
        })
    }

    /// Why a host cannot be meant by this order, however it was named.
    fn takes_no_part(&self, host: &Host, spec: &OrderSpec) -> Option<String> {
        let id = host.record.id;
        if host.record.state == HostState::Pending {
            return Some("waits for approval".to_owned());
        }
        match &spec.kind {
            OrderKind::Release if !self.orders.concerns_isolation(id) => {
                Some("is not in quarantine".to_owned())
            }
            OrderKind::Freeze if host.record.frozen => Some("is frozen already".to_owned()),
            OrderKind::Unfreeze if !host.record.frozen => Some("is not frozen".to_owned()),
            OrderKind::Pin(path) => {
                let pins = self.orders.desired(id, false).pins;
                if pins.contains(path) {
                    Some("keeps it already".to_owned())
                } else if pins.len() >= PINS_MAX {
                    Some(format!("keeps {PINS_MAX} paths already"))
                } else {
                    None
                }
            }
            OrderKind::Unpin(path) => (!self.orders.desired(id, false).pins.contains(path))
                .then(|| "does not keep it".to_owned()),
            OrderKind::Rollback { package, .. } => host
                .package(package)
                .is_none_or(|seen| seen.running.is_none())
                .then(|| format!("does not run {package}")),
            _ => None,
        }
    }

    /// Why a host is protected.
    pub(super) fn protection(&self, host: &Host) -> Option<String> {
        if self.is_own(host) {
            return Some("this server runs on it".to_owned());
        }
        let label = host.record.labels.get(PROTECTED)?;
        (label != "no" && label != "false").then(|| match label.is_empty() {
            true => "by its label".to_owned(),
            false => label.clone(),
        })
    }

    /// Whether the server runs on this host, by its name; a name that several hosts carry proves
    /// nothing.
    fn is_own(&self, host: &Host) -> bool {
        let named = |host: &&Host| host.record.facts.hostname == self.own_hostname;
        !self.own_hostname.is_empty()
            && named(&host)
            && self.hosts.values().filter(named).take(2).count() == 1
    }

    fn order_outcome(&self, decision: &Decision, left_out: Vec<(HostId, String)>) -> Outcome {
        let spec = &decision.record.spec;
        let (mut now, mut later, mut away) = (Vec::new(), Vec::new(), Vec::new());
        for (id, part) in &decision.parts {
            match part.progress {
                Progress::OverCap(_) => later.push(*id),
                _ if !self.has_session(*id) => away.push(*id),
                _ => now.push(*id),
            }
        }
        let mut outcome = said(format!(
            "{} of {} hosts",
            spec.kind.verb(),
            now.len() + away.len()
        ));
        if !later.is_empty() {
            outcome.summary += &format!("; {} more wait for room under a cap", later.len());
        }
        outcome.order = Some(decision.record.id);
        if !away.is_empty() {
            let n = away.len();
            outcome.warnings.push(format!(
                "{n} have no session now; they are told when they are back, within {}",
                spec.life
            ));
        }
        if let OrderKind::Quarantine { allow, life } = &spec.kind {
            if life.is_none() {
                outcome
                    .warnings
                    .push("without an end: it lasts until somebody releases it".to_owned());
            }
            for wide in allow.iter().filter(|allowed| allowed.is_wide()) {
                outcome.warnings.push(format!(
                    "allowing {wide} leaves much open: this isolates little"
                ));
            }
        }
        for (name, mut hosts) in [
            ("at once", now),
            ("over a cap", later),
            ("unreachable", away),
        ] {
            hosts.truncate(LISTED_MAX);
            if !hosts.is_empty() {
                outcome.hosts.push((name.to_owned(), hosts));
            }
        }
        if spec.endorsers > 0 {
            outcome.warnings.push(format!(
                "nobody is told before {} people endorsed it: `ringwardctl orders endorse {}`",
                spec.endorsers, decision.record.id
            ));
        }
        outcome.left_out = left_out;
        outcome
    }

    /// Gives a decided order.
    pub(super) fn give_order(&mut self, decision: Decision) {
        let record = decision.record;
        let id = record.id;
        self.out.put(Record::Order(Box::new(record.clone())));
        let hosts: Vec<(HostId, bool)> = decision
            .parts
            .iter()
            .map(|(host, part)| (*host, part.stands))
            .collect();
        let kind = record.spec.kind.clone();
        self.orders.give(record, decision.parts);
        // What waits no longer makes sense beside the newer order; what stands does until that is in.
        for (host, _) in &hosts {
            self.supersede(id, &kind, *host, true);
        }
        let admitted: Vec<HostId> = hosts.iter().filter(|h| h.1).map(|h| h.0).collect();
        self.take_effect(id, &admitted);
        for (gone, hosts) in self.orders.forget(self.now) {
            self.out.delete(RecordKey::Order(gone));
            for host in hosts {
                self.out.delete(RecordKey::OrderHost(gone, host));
            }
        }
    }

    /// Hosts let in: what was ordered becomes what is wanted of them.
    pub(super) fn take_effect(&mut self, id: OrderId, hosts: &[HostId]) {
        let Some(kind) = self.orders.order(id).map(|o| o.spec.kind.clone()) else {
            return;
        };
        for host in hosts {
            self.supersede(id, &kind, *host, false);
            match kind {
                OrderKind::Freeze => self.freeze(*host, true),
                OrderKind::Unfreeze => self.freeze(*host, false),
                _ => {}
            }
            self.out.desired.insert(*host, true);
        }
        if let OrderKind::Rollback { package, to } = &kind {
            self.roll_back_hosts(id, package, to.as_ref(), hosts);
        }
    }

    /// Earlier orders about the same thing end; of those given later none is touched. `waiting_only`:
    /// only those that were not let in yet.
    fn supersede(&mut self, id: OrderId, kind: &OrderKind, host: HostId, waiting_only: bool) {
        let number = self.orders.order(id).map(|order| order.number);
        for other in self.orders.of_host(host) {
            let Some(before) = self.orders.order(other).filter(|_| other != id) else {
                continue;
            };
            if !replaces(kind, &before.spec.kind) || Some(before.number) > number {
                continue;
            }
            self.orders.change(other, host, |part| {
                if waiting_only && part.stands {
                    return;
                }
                part.stands = false;
                if !part.progress.is_over() {
                    part.progress = Progress::Failed(NotDone::Superseded(id));
                }
            });
        }
    }

    pub(super) fn decide_cancel(&self, id: OrderId) -> Decided {
        let order = self.orders.order(id).ok_or_else(|| no_order(id))?;
        let (mut open, mut done) = (Vec::new(), 0u64);
        for (host, part) in self.orders.parts(id) {
            match part.progress.is_over() {
                false => open.push(host),
                true => done += u64::from(part.progress == Progress::Done),
            }
        }
        let what = format!("cancelling {id}");
        if open.is_empty() {
            return Err(conflict(
                what,
                format!("nothing of it is open; {done} hosts did it"),
                undo_hint(&order.spec.kind),
            ));
        }
        let mut outcome = said(format!(
            "{} hosts are left in peace; {done} did it already",
            open.len()
        ));
        outcome.order = Some(id);
        if done > 0 {
            outcome.warnings.push(format!(
                "what was done stays: {}",
                undo_hint(&order.spec.kind)
            ));
        }
        outcome
            .warnings
            .push("a host that has begun and cannot tell us now may still finish".to_owned());
        open.truncate(LISTED_MAX);
        outcome.hosts = vec![("cancelled".to_owned(), open)];
        Ok((outcome, Act::CancelOrder(id)))
    }

    pub(super) fn decide_endorse(&self, id: OrderId, signature: &Signature) -> Decided {
        let order = self.orders.order(id).ok_or_else(|| no_order(id))?;
        let what = format!("endorsing {id}");
        let had = &order.endorsements;
        let why = if order.spec.endorsers == 0 {
            "it was given to be told at once: hosts that ask for endorsements refused it"
        } else if had.iter().any(|known| known.key == signature.key) {
            "this key endorsed it already"
        } else if had.len() >= ENDORSEMENTS_MAX {
            "it carries as many endorsements as a host reads"
        } else if self.orders.open(id).next().is_none() {
            "nothing of it is open"
        } else {
            let left = (order.spec.endorsers as usize).saturating_sub(had.len() + 1);
            let mut outcome = said(match left {
                0 => format!("{id} is endorsed: it goes out"),
                left => format!("{id} waits for {left} more"),
            });
            outcome.order = Some(id);
            return Ok((outcome, Act::Endorse(id, Box::new(signature.clone()))));
        };
        Err(conflict(
            what,
            why,
            "look at it with `ringwardctl orders show`",
        ))
    }

    pub(super) fn endorse_order(&mut self, id: OrderId, signature: Signature) {
        if let Some(record) = self.orders.endorse(id, signature) {
            self.out.put(Record::Order(Box::new(record)));
            self.let_in_waiting(None);
        }
    }

    pub(super) fn cancel_order(&mut self, id: OrderId) {
        self.end_open(id, Progress::Cancelled);
    }

    pub(super) fn end_open(&mut self, id: OrderId, progress: Progress) {
        let open: Vec<HostId> = self.orders.open(id).collect();
        for host in open {
            self.orders.change(id, host, |part| {
                part.progress = progress;
                part.stands = part.stands && slipped(Slip::CancelledStands);
            });
            self.out.desired.entry(host).or_insert(false);
        }
    }

    /// Takes in what a host says of its orders.
    pub(super) fn orders_heard(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let Some(session) = &host.session else {
            return;
        };
        let accepted = session
            .sent
            .as_ref()
            .is_some_and(|(sent, _)| session.accepted >= (sent.epoch, sent.generation));
        let before = self.orders.of_host(id);
        if before.is_empty() {
            return;
        }
        self.rollbacks_heard(id);
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let heard = Heard {
            accepted,
            observed: &host.observed.orders,
        };
        self.orders.settle(id, heard);
        self.out.desired.entry(id).or_insert(false);
    }

    /// A host left the fleet.
    pub(super) fn orders_retired(&mut self, id: HostId) {
        for order in self.orders.of_host(id) {
            self.orders.change(order, id, |part| {
                part.stands = false;
                if !part.progress.is_over() {
                    part.progress = Progress::Failed(NotDone::Retired);
                }
            });
        }
    }

    /// Writes the parts that changed.
    pub(super) fn put_orders(&mut self) {
        for record in self.orders.take_changed() {
            self.tell_order(&record);
            self.out.put(Record::OrderHost(Box::new(record)));
        }
    }

    fn tell_order(&mut self, record: &OrderHostRecord) {
        if let Progress::Failed(why) = record.part.progress
            && !matches!(why, NotDone::Superseded(_))
        {
            let line = format!(
                "order {}: {} did not do it: {why:?}",
                record.order, record.host
            );
            self.out.notice(Notice::Line(line));
        }
    }
}

/// Whether a newer order is about the same thing as an older one.
fn replaces(newer: &OrderKind, older: &OrderKind) -> bool {
    use OrderKind::{Freeze, Pin, Quarantine, Reboot, Release, Unfreeze, Unpin};
    match (newer, older) {
        (Quarantine { .. } | Release, Quarantine { .. } | Release)
        | (Freeze | Unfreeze, Freeze | Unfreeze)
        | (Reboot, Reboot) => true,
        (Pin(a) | Unpin(a), Pin(b) | Unpin(b)) => a == b,
        _ => false,
    }
}

fn undo_hint(kind: &OrderKind) -> &'static str {
    match kind {
        OrderKind::Quarantine { .. } => "undo it with `ringwardctl release`",
        OrderKind::Freeze => "undo it with `ringwardctl orders unfreeze`",
        OrderKind::Pin(_) => "undo it with `ringwardctl orders unpin`",
        _ => "there is nothing to undo",
    }
}

pub(super) fn no_order(id: OrderId) -> Refusal {
    not_found("order", id, "list them with `ringwardctl orders list`")
}
