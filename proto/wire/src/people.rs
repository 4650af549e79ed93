//! Orders as people give them, approvals and people, on the wire.

use crate::code::Coded;
use crate::command::Act;
use crate::error::DecodeError;
use crate::field::{
    Result, clip, id, list, maybe_parse, message, messages, parse, size, text, texts,
};
use crate::observed::{UNIT, unknown_body};
use crate::page::SIZE_MAX;
use crate::pb;
use crate::report::NOTES_MAX;
use pb::approval_view::State;
use pb::order_host_view::Progress as P;
use pb::order_spec::Kind;
use pb::order_to::To;
use ringward_domain::command::{Action, Command};
use ringward_domain::limits::{ALLOW_MAX, ENDORSEMENTS_MAX, LABEL_BYTES_MAX, REASON_BYTES_MAX};
use ringward_domain::order::{OrderFailure, OrderRefusal, Origin, UndoneWhy};
use ringward_domain::order_spec::{
    ApprovalState, ApprovalView, CapKind, NotDone, ORDER_HOSTS_MAX, OrderHostView, OrderKind,
    OrderSpec, OrderTargets, OrderView, Progress, TICKET_BYTES_MAX,
};
use ringward_domain::people::{GRANTS_MAX, Grant, Role};
use ringward_domain::{ApprovalId, HostId, Millis, OrderId};
use serde::Serialize;

/// Bytes of a selector.
const SELECTOR_BYTES_MAX: usize = 1024;
/// Approvals in one answer.
const APPROVALS_MAX: usize = 1000;
/// People in one answer.
const PEOPLE_MAX: usize = 1000;

impl From<OrderSpec> for pb::OrderSpec {
    fn from(spec: OrderSpec) -> Self {
        let kind = match spec.kind {
            OrderKind::Quarantine { allow, life } => Kind::Quarantine(pb::QuarantineOrder {
                allow: allow.into_iter().map(Into::into).collect(),
                life_ms: life.map(|life| life.0),
            }),
            OrderKind::Release => Kind::Release(UNIT),
            OrderKind::Rollback { package, to } => Kind::Rollback(pb::RollbackOrder {
                package: package.into(),
                to: to.map(Into::into),
            }),
            OrderKind::Freeze => Kind::Freeze(UNIT),
            OrderKind::Unfreeze => Kind::Unfreeze(UNIT),
            OrderKind::Pin(path) => Kind::Pin(path),
            OrderKind::Unpin(path) => Kind::Unpin(path),
            OrderKind::Reboot => Kind::Reboot(UNIT),
            OrderKind::Collect => Kind::Collect(UNIT),
        };
        let to = match spec.targets {
            OrderTargets::Hosts(hosts) => To::Hosts(pb::HostList {
                hosts: hosts.into_iter().map(|host| host.0).collect(),
            }),
            OrderTargets::Selector(text) => To::Selector(text),
            OrderTargets::Ring(name) => To::Ring(name.into()),
            OrderTargets::Release(release) => To::Release(release.0.to_vec()),
            OrderTargets::Everything => To::Everything(UNIT),
        };
        Self {
            kind: Some(kind),
            to: Some(pb::OrderTo { to: Some(to) }),
            ticket: spec.ticket,
            life_ms: spec.life.0,
            include_protected: spec.protected,
            over_cap: spec.over_cap,
            endorsers: spec.endorsers,
        }
    }
}

impl TryFrom<pb::OrderSpec> for OrderSpec {
    type Error = DecodeError;
    fn try_from(spec: pb::OrderSpec) -> Result<Self> {
        let path = |field, path| text(field, path, LABEL_BYTES_MAX);
        let kind = match spec.kind.ok_or_else(unknown_body)? {
            Kind::Quarantine(order) => OrderKind::Quarantine {
                allow: list("quarantine.allow", order.allow, ALLOW_MAX, |text| {
                    parse("", &text)
                })?,
                life: order.life_ms.map(Millis),
            },
            Kind::Release(pb::Unit {}) => OrderKind::Release,
            Kind::Rollback(order) => OrderKind::Rollback {
                package: parse("rollback.package", &order.package)?,
                to: maybe_parse("rollback.to", order.to.as_deref())?,
            },
            Kind::Freeze(pb::Unit {}) => OrderKind::Freeze,
            Kind::Unfreeze(pb::Unit {}) => OrderKind::Unfreeze,
            Kind::Pin(at) => OrderKind::Pin(path("pin", at)?),
            Kind::Unpin(at) => OrderKind::Unpin(path("unpin", at)?),
            Kind::Reboot(pb::Unit {}) => OrderKind::Reboot,
            Kind::Collect(pb::Unit {}) => OrderKind::Collect,
        };
        Ok(Self {
            kind,
            targets: message("to", spec.to)?,
            ticket: text("ticket", spec.ticket, TICKET_BYTES_MAX)?,
            life: Millis(spec.life_ms),
            protected: spec.include_protected,
            over_cap: spec.over_cap,
            endorsers: spec.endorsers,
        })
    }
}

impl TryFrom<pb::OrderTo> for OrderTargets {
    type Error = DecodeError;
    fn try_from(to: pb::OrderTo) -> Result<Self> {
        Ok(match to.to.ok_or_else(unknown_body)? {
            To::Hosts(hosts) => {
                size("hosts", hosts.hosts.len(), ORDER_HOSTS_MAX, "elements")?;
                Self::Hosts(hosts.hosts.into_iter().map(HostId).collect())
            }
            To::Selector(selector) => {
                Self::Selector(text("selector", selector, SELECTOR_BYTES_MAX)?)
            }
            To::Ring(name) => Self::Ring(parse("ring", &name)?),
            To::Release(release) => Self::Release(id("release", &release)?),
            To::Everything(pb::Unit {}) => Self::Everything,
        })
    }
}

/// Reads an order; `actor` is who was verified to call, here and below.
///
/// # Errors
/// Each field that cannot be what it is, here and below.
pub fn place(request: pb::PlaceOrderRequest, actor: &str) -> Result<Command> {
    let spec = message("spec", request.spec)?;
    Ok(Act::decode(request.act)?.command(actor, Action::Order(Box::new(spec))))
}

/// Reads a signature that an order is to carry, and the key that it is said to be of.
///
/// # Errors
/// See [`place`].
pub fn endorse(request: pb::EndorseRequest, actor: &str) -> Result<(Command, [u8; 32])> {
    let signature = message("signature", request.signature)?;
    let key: [u8; 32] = request
        .public_key
        .try_into()
        .map_err(|_| crate::field::malformed("public_key", "needs 32 bytes"))?;
    let action = Action::Endorse(OrderId(request.order), signature);
    Ok((Act::decode(request.act)?.command(actor, action), key))
}

/// Reads the end of an order.
///
/// # Errors
/// See [`place`].
pub fn cancel(request: pb::OrderCommand, actor: &str) -> Result<Command> {
    let action = Action::CancelOrder(OrderId(request.order));
    Ok(Act::decode(request.act)?.command(actor, action))
}

/// Reads a yes.
///
/// # Errors
/// See [`place`].
pub fn approve(request: pb::ApproveRequest, actor: &str) -> Result<Command> {
    let digest = id("digest", &request.digest)?;
    let action = Action::Approve(ApprovalId(request.approval), digest);
    Ok(Act::decode(request.act)?.command(actor, action))
}

/// Reads a no.
///
/// # Errors
/// See [`place`].
pub fn deny(request: pb::ApprovalCommand, actor: &str) -> Result<Command> {
    let action = Action::Deny(ApprovalId(request.approval));
    Ok(Act::decode(request.act)?.command(actor, action))
}

/// Reads grants.
///
/// # Errors
/// See [`place`].
pub fn grant(request: pb::GrantRequest, actor: &str) -> Result<Command> {
    let person = text("person", request.person, LABEL_BYTES_MAX)?;
    let grants = messages("grants", request.grants, GRANTS_MAX)?;
    Ok(Act::decode(request.act)?.command(actor, Action::Grant(person, grants)))
}

impl From<Grant> for pb::RoleGrant {
    fn from(grant: Grant) -> Self {
        Self {
            role: grant.role.code(),
            selector: grant.selector,
            held_ms: 0,
        }
    }
}

impl TryFrom<pb::RoleGrant> for Grant {
    type Error = DecodeError;
    fn try_from(grant: pb::RoleGrant) -> Result<Self> {
        let selector = grant
            .selector
            .map(|selector| text("selector", selector, SELECTOR_BYTES_MAX));
        Ok(Self {
            role: Role::decode("role", grant.role)?,
            selector: selector.transpose()?,
        })
    }
}

impl From<OrderView> for pb::OrderView {
    fn from(view: OrderView) -> Self {
        Self {
            id: view.id.0,
            spec: Some(view.spec.into()),
            author: clip(view.author, LABEL_BYTES_MAX),
            reason: clip(view.reason, REASON_BYTES_MAX),
            origin: view.origin.code(),
            approved_by: clip(view.approved_by, LABEL_BYTES_MAX),
            issued_unix_ms: view.issued_unix_ms,
            counts: view.counts.to_vec(),
            left_ms: view.left.0,
            endorsed_by: view.endorsed_by.iter().map(|key| key.0.to_vec()).collect(),
        }
    }
}

impl TryFrom<pb::OrderView> for OrderView {
    type Error = DecodeError;
    fn try_from(view: pb::OrderView) -> Result<Self> {
        let counts = view.counts.try_into();
        Ok(Self {
            id: OrderId(view.id),
            spec: message("spec", view.spec)?,
            author: text("author", view.author, LABEL_BYTES_MAX)?,
            reason: text("reason", view.reason, REASON_BYTES_MAX)?,
            origin: Origin::decode("origin", view.origin)?,
            approved_by: text("approved_by", view.approved_by, LABEL_BYTES_MAX)?,
            issued_unix_ms: view.issued_unix_ms,
            counts: counts.map_err(|_| crate::field::malformed("counts", "needs 7 numbers"))?,
            left: Millis(view.left_ms),
            endorsed_by: list("endorsed_by", view.endorsed_by, ENDORSEMENTS_MAX, |key| {
                id("", &key)
            })?,
        })
    }
}

impl From<OrderHostView> for pb::OrderHostView {
    fn from(view: OrderHostView) -> Self {
        let progress = match view.progress {
            Progress::OverCap(cap) => P::OverCap(cap.code()),
            Progress::Pending => P::Pending(UNIT),
            Progress::Delivered => P::Delivered(UNIT),
            Progress::Done => P::Done(UNIT),
            Progress::Failed(NotDone::Refused(why)) => P::Refused(why.code()),
            Progress::Failed(NotDone::Failed(why)) => P::Failed(why.code()),
            Progress::Failed(NotDone::Undone(why)) => P::Undone(why.code()),
            Progress::Failed(NotDone::Superseded(by)) => P::Superseded(by.0),
            Progress::Failed(NotDone::Retired) => P::Retired(UNIT),
            Progress::Expired => P::Expired(UNIT),
            Progress::Cancelled => P::Cancelled(UNIT),
        };
        Self {
            host: view.host.0,
            hostname: clip(view.hostname, LABEL_BYTES_MAX),
            progress: Some(progress),
        }
    }
}

impl TryFrom<pb::OrderHostView> for OrderHostView {
    type Error = DecodeError;
    fn try_from(view: pb::OrderHostView) -> Result<Self> {
        let failed = Progress::Failed;
        let progress = match view.progress.ok_or_else(unknown_body)? {
            P::OverCap(code) => Progress::OverCap(CapKind::decode("over_cap", code)?),
            P::Pending(pb::Unit {}) => Progress::Pending,
            P::Delivered(pb::Unit {}) => Progress::Delivered,
            P::Done(pb::Unit {}) => Progress::Done,
            P::Refused(code) => failed(NotDone::Refused(OrderRefusal::decode("refused", code)?)),
            P::Failed(code) => failed(NotDone::Failed(OrderFailure::decode("failed", code)?)),
            P::Undone(code) => failed(NotDone::Undone(UndoneWhy::decode("undone", code)?)),
            P::Superseded(by) => failed(NotDone::Superseded(OrderId(by))),
            P::Retired(pb::Unit {}) => failed(NotDone::Retired),
            P::Expired(pb::Unit {}) => Progress::Expired,
            P::Cancelled(pb::Unit {}) => Progress::Cancelled,
        };
        Ok(Self {
            host: HostId(view.host),
            hostname: text("hostname", view.hostname, LABEL_BYTES_MAX)?,
            progress,
        })
    }
}

impl From<ApprovalView> for pb::ApprovalView {
    fn from(view: ApprovalView) -> Self {
        let state = match view.state {
            ApprovalState::Waiting => State::Waiting(UNIT),
            ApprovalState::Approved(by) => State::Approved(clip(by, LABEL_BYTES_MAX)),
            ApprovalState::Denied(by) => State::Denied(clip(by, LABEL_BYTES_MAX)),
            ApprovalState::Expired => State::Expired(UNIT),
        };
        Self {
            id: view.id.0,
            digest: view.digest.0.to_vec(),
            summary: clip(view.summary, REASON_BYTES_MAX),
            needs: view
                .needs
                .into_iter()
                .take(NOTES_MAX)
                .map(|need| clip(need, REASON_BYTES_MAX))
                .collect(),
            author: clip(view.author, LABEL_BYTES_MAX),
            reason: clip(view.reason, REASON_BYTES_MAX),
            state: Some(state),
            left_ms: view.left.0,
            hosts: view.hosts.into_iter().take(SIZE_MAX).map(|h| h.0).collect(),
        }
    }
}

impl TryFrom<pb::ApprovalView> for ApprovalView {
    type Error = DecodeError;
    fn try_from(view: pb::ApprovalView) -> Result<Self> {
        let name = |field, by| text(field, by, LABEL_BYTES_MAX);
        size("hosts", view.hosts.len(), SIZE_MAX, "elements")?;
        Ok(Self {
            id: ApprovalId(view.id),
            digest: id("digest", &view.digest)?,
            summary: text("summary", view.summary, REASON_BYTES_MAX)?,
            needs: texts("needs", view.needs, NOTES_MAX, REASON_BYTES_MAX)?,
            author: name("author", view.author)?,
            reason: text("reason", view.reason, REASON_BYTES_MAX)?,
            state: match view.state.ok_or_else(unknown_body)? {
                State::Waiting(pb::Unit {}) => ApprovalState::Waiting,
                State::Approved(by) => ApprovalState::Approved(name("approved", by)?),
                State::Denied(by) => ApprovalState::Denied(name("denied", by)?),
                State::Expired(pb::Unit {}) => ApprovalState::Expired,
            },
            left: Millis(view.left_ms),
            hosts: view.hosts.into_iter().map(HostId).collect(),
        })
    }
}

/// Every approval of an answer.
///
/// # Errors
/// The first that cannot be read.
pub fn approvals(answer: pb::ListApprovalsResponse) -> Result<Vec<ApprovalView>> {
    messages("approvals", answer.approvals, APPROVALS_MAX)
}

/// A person as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonView {
    /// The name.
    pub name: String,
    /// Each role, and for how long it has been held.
    pub grants: Vec<(Grant, Millis)>,
    /// Signs in with a password.
    pub has_password: bool,
}

impl From<PersonView> for pb::PersonView {
    fn from(view: PersonView) -> Self {
        Self {
            name: clip(view.name, LABEL_BYTES_MAX),
            grants: view
                .grants
                .into_iter()
                .map(|(grant, held)| pb::RoleGrant {
                    held_ms: held.0,
                    ..grant.into()
                })
                .collect(),
            has_password: view.has_password,
        }
    }
}

impl TryFrom<pb::PersonView> for PersonView {
    type Error = DecodeError;
    fn try_from(view: pb::PersonView) -> Result<Self> {
        Ok(Self {
            name: text("name", view.name, LABEL_BYTES_MAX)?,
            grants: list("grants", view.grants, GRANTS_MAX, |grant| {
                let held = Millis(grant.held_ms);
                Ok((Grant::try_from(grant)?, held))
            })?,
            has_password: view.has_password,
        })
    }
}

/// Everybody of an answer.
///
/// # Errors
/// The first that cannot be read.
pub fn people(answer: pb::ListPeopleResponse) -> Result<Vec<PersonView>> {
    messages("people", answer.people, PEOPLE_MAX)
}
