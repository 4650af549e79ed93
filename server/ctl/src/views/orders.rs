//! Orders, approvals and people as people read them.

use super::table;
use crate::words::{clean, count, short, time};
use ringward_domain::order_spec::{
    ApprovalState, ApprovalView, NotDone, OrderHostView, OrderKind, OrderView, Progress,
};
use ringward_wire::pb;
use ringward_wire::people::PersonView;
use serde_json::{Value, json};
use std::fmt::Write;

/// What the counts of an order count.
const COUNTED: [&str; 7] = [
    "over a cap",
    "pending",
    "delivered",
    "done",
    "failed",
    "expired",
    "cancelled",
];

/// How many hosts stand how, in words.
#[must_use]
pub fn counts(order: &OrderView) -> String {
    let parts: Vec<String> = COUNTED
        .iter()
        .zip(order.counts)
        .filter(|(_, n)| *n > 0)
        .map(|(what, n)| format!("{n} {what}"))
        .collect();
    parts.join(", ")
}

/// A listing.
#[must_use]
pub fn list(orders: &[OrderView]) -> String {
    if orders.is_empty() {
        return "No order was given.\n".to_owned();
    }
    let rows = orders.iter().map(|order| {
        vec![
            order.id.to_string(),
            order.spec.kind.verb().to_owned(),
            counts(order),
            short(&order.author, 24),
            time(order.issued_unix_ms),
            short(&order.spec.ticket, 20),
            short(&order.reason, 40),
        ]
    });
    table(
        &["ORDER", "WHAT", "HOSTS", "BY", "GIVEN", "TICKET", "REASON"],
        rows.collect(),
    )
}

/// One order, host by host.
#[must_use]
pub fn show(order: &OrderView, hosts: &[OrderHostView]) -> String {
    let mut text = format!(
        "{} {}: {}\nby {}{}, {}\n",
        order.id,
        order.spec.kind.verb(),
        counts(order),
        clean(&order.author),
        match order.approved_by.as_str() {
            "" => String::new(),
            by => format!(", approved by {}", clean(by)),
        },
        time(order.issued_unix_ms),
    );
    if let OrderKind::Quarantine { allow, life } = &order.spec.kind {
        let life = life.map_or("until released".to_owned(), |life| format!("for {life}"));
        let _ = writeln!(text, "{life}");
        for allowed in allow {
            let _ = writeln!(text, "allows {allowed}");
        }
    }
    if order.origin == ringward_domain::order::Origin::BreakGlass {
        text.push_str("BREAK-GLASS: given alone where two people are needed\n");
    }
    for (name, value) in [("reason", &order.reason), ("ticket", &order.spec.ticket)] {
        if !value.is_empty() {
            let _ = writeln!(text, "{name}: {}", clean(value));
        }
    }
    let rows = hosts.iter().map(|host| {
        vec![
            host.host.to_string(),
            short(&host.hostname, 40),
            progress(host.progress),
        ]
    });
    text.push_str(&table(&["HOST", "NAME", "STANDS"], rows.collect()));
    text
}

/// How a host stands, in words.
#[must_use]
pub fn progress(progress: Progress) -> String {
    match progress {
        Progress::OverCap(cap) => format!("waits: {cap}"),
        Progress::Pending => "pending".to_owned(),
        Progress::Delivered => "delivered".to_owned(),
        Progress::Done => "done".to_owned(),
        Progress::Expired => "expired".to_owned(),
        Progress::Cancelled => "cancelled".to_owned(),
        Progress::Failed(NotDone::Refused(why)) => format!("refused: {why:?}"),
        Progress::Failed(NotDone::Failed(why)) => format!("failed: {why:?}"),
        Progress::Failed(NotDone::Undone(why)) => format!("undone: {why:?}"),
        Progress::Failed(NotDone::Superseded(by)) => format!("superseded by {by}"),
        Progress::Failed(NotDone::Retired) => "left the fleet".to_owned(),
    }
}

/// An order as JSON.
#[must_use]
pub fn json(order: &OrderView) -> Value {
    let counts: serde_json::Map<String, Value> = COUNTED
        .iter()
        .zip(order.counts)
        .map(|(what, n)| (what.replace(' ', "_"), n.into()))
        .collect();
    json!({
        "id": order.id,
        "kind": order.spec.kind,
        "author": order.author,
        "approved_by": order.approved_by,
        "origin": order.origin,
        "reason": order.reason,
        "ticket": order.spec.ticket,
        "issued_unix_ms": order.issued_unix_ms,
        "left_ms": order.left,
        "hosts": counts,
    })
}

/// An order with its hosts as JSON.
#[must_use]
pub fn json_with_hosts(order: &OrderView, hosts: &[OrderHostView]) -> Value {
    let hosts: Vec<Value> = hosts
        .iter()
        .map(|h| json!({ "host": h.host, "hostname": h.hostname, "progress": h.progress }))
        .collect();
    json!({ "order": json(order), "hosts": hosts })
}

/// What waits for a second person.
#[must_use]
pub fn approvals(approvals: &[ApprovalView]) -> String {
    if approvals.is_empty() {
        return "Nothing waits for a second person.\n".to_owned();
    }
    let mut text = String::new();
    for approval in approvals {
        let state = match &approval.state {
            ApprovalState::Waiting => format!("waits, {} left", approval.left),
            ApprovalState::Approved(by) => format!("approved by {}", clean(by)),
            ApprovalState::Denied(by) => format!("denied by {}", clean(by)),
            ApprovalState::Expired => "expired".to_owned(),
        };
        let _ = writeln!(
            text,
            "{} {state}\n  {} asks: {}\n  reason: {}\n  exactly: {}",
            approval.id,
            clean(&approval.author),
            clean(&approval.summary),
            clean(&approval.reason),
            approval.digest,
        );
        for need in &approval.needs {
            let _ = writeln!(text, "  because {}", clean(need));
        }
        if !approval.hosts.is_empty() {
            let named: Vec<String> = approval
                .hosts
                .iter()
                .take(8)
                .map(|h| h.to_string())
                .collect();
            let n = count(approval.hosts.len() as u64, "host", "hosts");
            let _ = writeln!(text, "  {n}: {}", named.join(", "));
        }
    }
    text
}

/// Something that waits as JSON.
#[must_use]
pub fn approval_json(approval: &ApprovalView) -> Value {
    json!({
        "id": approval.id,
        "digest": approval.digest,
        "summary": approval.summary,
        "needs": approval.needs,
        "author": approval.author,
        "reason": approval.reason,
        "state": approval.state,
        "left_ms": approval.left,
        "hosts": approval.hosts,
    })
}

/// Who may do what.
#[must_use]
pub fn people(people: &[PersonView]) -> String {
    let rows = people.iter().map(|person| {
        let grants: Vec<String> = person
            .grants
            .iter()
            .map(|(grant, _)| match &grant.selector {
                None => grant.role.to_string(),
                Some(selector) => format!("{}:{}", grant.role, clean(selector)),
            })
            .collect();
        let password = if person.has_password { "yes" } else { "no" };
        vec![clean(&person.name), grants.join(" "), password.to_owned()]
    });
    table(&["PERSON", "ROLES", "PASSWORD"], rows.collect())
}

/// API tokens.
#[must_use]
pub fn api_tokens(tokens: &[pb::ApiTokenView]) -> String {
    let rows = tokens.iter().map(|token| {
        let state = if token.live { "live" } else { "over" };
        vec![
            clean(&token.id),
            clean(&token.owner),
            short(&token.label, 32),
            state.to_owned(),
            time(token.expires_unix_ms),
        ]
    });
    table(
        &["TOKEN", "OWNER", "FOR", "STATE", "EXPIRES"],
        rows.collect(),
    )
}

/// An API token as JSON.
#[must_use]
pub fn token_json(token: &pb::ApiTokenView) -> Value {
    json!({
        "id": token.id,
        "owner": token.owner,
        "label": token.label,
        "live": token.live,
        "expires_unix_ms": token.expires_unix_ms,
    })
}
