//! Orders of a host, and what it reports of them, on the wire.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{Result, clip, ids, list, maybe, message, messages, parse, texts};
use crate::observed::{UNIT, unknown_body};
use crate::pb;
use crate::pb::containment::Wanted;
use crate::pb::containment_observed::State as Contained;
use crate::pb::order_observed::State;
use ringward_domain::limits::{
    ALLOW_MAX, ENDORSEMENTS_MAX, ESCAPES_MAX, LABEL_BYTES_MAX, ORDERS_MAX, PINS_MAX,
    TARGET_PROOF_MAX,
};
use ringward_domain::manifest::Signature;
use ringward_domain::order::{
    Containment, ContainmentObserved, Once, Order, OrderFailure, OrderObserved, OrderRefusal,
    OrderState, OrdersDesired, OrdersObserved, Origin, Quarantine, Targets, UndoneWhy, Warrant,
};
use ringward_domain::{Millis, OrderId};

/// Nothing to say is said by silence, so that the bytes stay those of the versions before.
pub(crate) fn desired_to_wire(orders: OrdersDesired) -> Option<pb::OrdersDesired> {
    (orders != OrdersDesired::default()).then(|| pb::OrdersDesired {
        containment: containment_to_wire(orders.containment),
        frozen: orders.frozen,
        pins: orders.pins,
        once: orders.once.into_iter().map(Into::into).collect(),
    })
}

pub(crate) fn desired_from_wire(orders: Option<pb::OrdersDesired>) -> Result<OrdersDesired> {
    let Some(orders) = orders else {
        return Ok(OrdersDesired::default());
    };
    let containment: Option<Containment> = maybe("orders.containment", orders.containment)?;
    Ok(OrdersDesired {
        containment: containment.unwrap_or_default(),
        frozen: orders.frozen,
        pins: texts("orders.pins", orders.pins, PINS_MAX, LABEL_BYTES_MAX)?,
        once: messages("orders.once", orders.once, ORDERS_MAX)?,
    })
}

fn containment_to_wire(containment: Containment) -> Option<pb::Containment> {
    let wanted = match containment {
        Containment::Unsaid => return None,
        Containment::Open => Wanted::Open(UNIT),
        Containment::Quarantined(quarantine) => Wanted::Quarantined((*quarantine).into()),
    };
    Some(pb::Containment {
        wanted: Some(wanted),
    })
}

impl TryFrom<pb::Containment> for Containment {
    type Error = DecodeError;
    fn try_from(containment: pb::Containment) -> Result<Self> {
        match containment.wanted.ok_or_else(unknown_body)? {
            Wanted::Open(pb::Unit {}) => Ok(Self::Open),
            Wanted::Quarantined(quarantine) => Quarantine::try_from(quarantine)
                .map(|quarantine| Self::Quarantined(Box::new(quarantine)))
                .map_err(|e| e.within("quarantined")),
        }
    }
}

impl From<Quarantine> for pb::Quarantine {
    fn from(quarantine: Quarantine) -> Self {
        Self {
            order: quarantine.order.0,
            allow: quarantine.allow.into_iter().map(Into::into).collect(),
            life_ms: quarantine.life.map(|life| life.0),
            warrant: Some(quarantine.warrant.into()),
        }
    }
}

impl TryFrom<pb::Quarantine> for Quarantine {
    type Error = DecodeError;
    fn try_from(quarantine: pb::Quarantine) -> Result<Self> {
        Ok(Self {
            order: OrderId(quarantine.order),
            allow: list("allow", quarantine.allow, ALLOW_MAX, |text| {
                parse("", &text)
            })?,
            life: quarantine.life_ms.map(Millis),
            warrant: message("warrant", quarantine.warrant)?,
        })
    }
}

impl From<Order> for pb::Order {
    fn from(order: Order) -> Self {
        Self {
            id: order.id.0,
            act: order.act.code(),
            warrant: Some(order.warrant.into()),
        }
    }
}

impl TryFrom<pb::Order> for Order {
    type Error = DecodeError;
    fn try_from(order: pb::Order) -> Result<Self> {
        Ok(Self {
            id: OrderId(order.id),
            act: Once::decode("act", order.act)?,
            warrant: message("warrant", order.warrant)?,
        })
    }
}

impl From<Warrant> for pb::Warrant {
    fn from(warrant: Warrant) -> Self {
        Self {
            origin: warrant.origin.code(),
            not_after_unix_ms: warrant.not_after_unix_ms,
            targets: warrant.targets.map(|targets| pb::OrderTargets {
                count: targets.count,
                root: targets.root.0.to_vec(),
                index: targets.index,
                proof: targets.proof.iter().map(|hash| hash.0.to_vec()).collect(),
            }),
            endorsements: warrant.endorsements.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Signature> for pb::Signature {
    fn from(signature: Signature) -> Self {
        Self {
            key: signature.key.0.to_vec(),
            signature: signature.signature,
        }
    }
}

impl TryFrom<pb::Warrant> for Warrant {
    type Error = DecodeError;
    fn try_from(warrant: pb::Warrant) -> Result<Self> {
        Ok(Self {
            origin: Origin::decode("origin", warrant.origin)?,
            not_after_unix_ms: warrant.not_after_unix_ms,
            targets: maybe("targets", warrant.targets)?,
            endorsements: messages("endorsements", warrant.endorsements, ENDORSEMENTS_MAX)?,
        })
    }
}

impl TryFrom<pb::OrderTargets> for Targets {
    type Error = DecodeError;
    fn try_from(targets: pb::OrderTargets) -> Result<Self> {
        Ok(Self {
            count: targets.count,
            root: crate::field::id("root", &targets.root)?,
            index: targets.index,
            proof: ids("proof", targets.proof, TARGET_PROOF_MAX)?,
        })
    }
}

pub(crate) fn observed_to_wire(orders: OrdersObserved) -> Option<pb::OrdersObserved> {
    (orders != OrdersObserved::default()).then(|| pb::OrdersObserved {
        containment: Some(orders.containment.into()),
        escapes: orders
            .escapes
            .into_iter()
            .take(ESCAPES_MAX)
            .map(|escape| clip(escape, LABEL_BYTES_MAX))
            .collect(),
        once: orders.once.into_iter().map(Into::into).collect(),
    })
}

pub(crate) fn observed_from_wire(orders: Option<pb::OrdersObserved>) -> Result<OrdersObserved> {
    let Some(orders) = orders else {
        return Ok(OrdersObserved::default());
    };
    let containment: Option<ContainmentObserved> = maybe("orders.containment", orders.containment)?;
    Ok(OrdersObserved {
        containment: containment.unwrap_or_default(),
        escapes: texts(
            "orders.escapes",
            orders.escapes,
            ESCAPES_MAX,
            LABEL_BYTES_MAX,
        )?,
        once: messages("orders.once", orders.once, ORDERS_MAX)?,
    })
}

impl From<ContainmentObserved> for pb::ContainmentObserved {
    fn from(observed: ContainmentObserved) -> Self {
        let state = match observed {
            ContainmentObserved::Open => Contained::Open(UNIT),
            ContainmentObserved::Closing(order) => Contained::Closing(order.0),
            ContainmentObserved::Closed { order, left } => {
                Contained::Closed(pb::ContainmentClosed {
                    order: order.0,
                    left_ms: left.map(|left| left.0),
                })
            }
            ContainmentObserved::Expired(order) => Contained::Expired(order.0),
            ContainmentObserved::Undone(order, why) => Contained::Undone(pb::ContainmentUndone {
                order: order.0,
                why: why.code(),
            }),
            ContainmentObserved::Refused(order, why) => {
                Contained::Refused(pb::ContainmentRefused {
                    order: order.0,
                    why: why.code(),
                })
            }
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<pb::ContainmentObserved> for ContainmentObserved {
    type Error = DecodeError;
    fn try_from(observed: pb::ContainmentObserved) -> Result<Self> {
        Ok(match observed.state.ok_or_else(unknown_body)? {
            Contained::Open(pb::Unit {}) => Self::Open,
            Contained::Closing(order) => Self::Closing(OrderId(order)),
            Contained::Closed(closed) => Self::Closed {
                order: OrderId(closed.order),
                left: closed.left_ms.map(Millis),
            },
            Contained::Expired(order) => Self::Expired(OrderId(order)),
            Contained::Undone(undone) => Self::Undone(
                OrderId(undone.order),
                UndoneWhy::decode("undone.why", undone.why)?,
            ),
            Contained::Refused(refused) => Self::Refused(
                OrderId(refused.order),
                OrderRefusal::decode("refused.why", refused.why)?,
            ),
        })
    }
}

impl From<OrderObserved> for pb::OrderObserved {
    fn from(observed: OrderObserved) -> Self {
        Self {
            order: observed.order.0,
            state: Some(match observed.state {
                OrderState::Taken => State::Taken(UNIT),
                OrderState::Running => State::Running(UNIT),
                OrderState::Done => State::Done(UNIT),
                OrderState::Failed(why) => State::Failed(why.code()),
                OrderState::Refused(why) => State::Refused(why.code()),
            }),
        }
    }
}

impl TryFrom<pb::OrderObserved> for OrderObserved {
    type Error = DecodeError;
    fn try_from(observed: pb::OrderObserved) -> Result<Self> {
        Ok(Self {
            order: OrderId(observed.order),
            state: match observed.state.ok_or_else(unknown_body)? {
                State::Taken(pb::Unit {}) => OrderState::Taken,
                State::Running(pb::Unit {}) => OrderState::Running,
                State::Done(pb::Unit {}) => OrderState::Done,
                State::Failed(code) => OrderState::Failed(OrderFailure::decode("failed", code)?),
                State::Refused(code) => OrderState::Refused(OrderRefusal::decode("refused", code)?),
            },
        })
    }
}
