//! Orders for people, and what an order as written must keep to.

use super::Control;
use super::orders::invalid;
use crate::orders::Part;
use ringward_domain::command::Refusal;
use ringward_domain::limits::{ALLOW_MAX, ENDORSEMENTS_MAX, LABEL_BYTES_MAX};
use ringward_domain::order_spec::{
    ORDER_LIFE_MAX, OrderHostView, OrderKind, OrderSpec, OrderView, Progress, TICKET_BYTES_MAX,
};
use ringward_domain::{HostId, Millis, OrderId};

impl Control {
    /// One order for people.
    #[must_use]
    pub fn order_view(&self, id: OrderId) -> Option<OrderView> {
        let order = self.orders.order(id)?;
        let mut counts = [0; 7];
        for (_, part) in self.orders.parts(id) {
            counts[slot(part.progress)] += 1;
        }
        Some(OrderView {
            id,
            spec: order.spec.clone(),
            author: order.author.clone(),
            reason: order.reason.clone(),
            origin: order.origin,
            approved_by: order.approved_by.clone(),
            issued_unix_ms: order.issued_unix_ms,
            counts,
            left: order.ends_at().since(self.now),
            endorsed_by: order.endorsements.iter().map(|s| s.key).collect(),
        })
    }

    /// What endorsements of an order sign; `None` where it takes none.
    #[must_use]
    pub fn order_statement(&self, id: OrderId) -> Option<Vec<u8>> {
        self.orders.statement(id)
    }

    /// Every order, newest first.
    #[must_use]
    pub fn order_views(&self) -> Vec<OrderView> {
        let ids: Vec<OrderId> = self.orders.newest().map(|order| order.id).collect();
        ids.into_iter()
            .filter_map(|id| self.order_view(id))
            .collect()
    }

    /// The hosts of an order after `after`, at most `limit`.
    #[must_use]
    pub fn order_hosts(
        &self,
        id: OrderId,
        after: Option<HostId>,
        limit: usize,
    ) -> Option<Vec<OrderHostView>> {
        self.orders.order(id)?;
        let parts = self.orders.parts(id);
        let parts = parts.filter(|(host, _)| after.is_none_or(|after| *host > after));
        let view = |(host, part): (HostId, &Part)| OrderHostView {
            host,
            hostname: self
                .hosts
                .get(&host)
                .map_or_else(String::new, |h| h.record.facts.hostname.clone()),
            progress: part.progress,
        };
        Some(parts.take(limit).map(view).collect())
    }
}

fn slot(progress: Progress) -> usize {
    match progress {
        Progress::OverCap(_) => 0,
        Progress::Pending => 1,
        Progress::Delivered => 2,
        Progress::Done => 3,
        Progress::Failed(_) => 4,
        Progress::Expired => 5,
        Progress::Cancelled => 6,
    }
}

/// Checks an order as written.
pub(super) fn check_spec(spec: &OrderSpec) -> Result<(), Refusal> {
    if spec.life == Millis::ZERO {
        return invalid(
            "life",
            "it has ended before it begins; name a time in the future",
        );
    }
    if spec.endorsers as usize > ENDORSEMENTS_MAX {
        return invalid("endorsers", format!("at most {ENDORSEMENTS_MAX} do"));
    }
    if spec.endorsers > 0 && spec.kind.endorsed().is_none() {
        return invalid(
            "endorsers",
            format!("no host asks for them of a {}", spec.kind.verb()),
        );
    }
    if spec.life > ORDER_LIFE_MAX {
        return invalid("life", format!("at most {ORDER_LIFE_MAX} do"));
    }
    if spec.ticket.len() > TICKET_BYTES_MAX || spec.ticket.chars().any(char::is_control) {
        return invalid(
            "ticket",
            format!("use at most {TICKET_BYTES_MAX} bytes without control characters"),
        );
    }
    match &spec.kind {
        OrderKind::Quarantine { allow, life } => {
            if allow.len() > ALLOW_MAX {
                return invalid(
                    "allow",
                    format!("{} entries; at most {ALLOW_MAX} do", allow.len()),
                );
            }
            if *life == Some(Millis::ZERO) {
                return invalid("quarantine.life", "it has ended before it begins");
            }
        }
        OrderKind::Pin(path) | OrderKind::Unpin(path) => {
            let fits = (1..=LABEL_BYTES_MAX).contains(&path.len())
                && !path.chars().any(char::is_control)
                && (path.starts_with('/') || path.as_bytes().get(1) == Some(&b':'));
            if !fits {
                return invalid(
                    "path",
                    format!("use an absolute path of at most {LABEL_BYTES_MAX} bytes"),
                );
            }
        }
        _ => {}
    }
    Ok(())
}
