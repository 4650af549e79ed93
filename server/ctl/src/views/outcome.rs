//! What a command did or would do.

use crate::words::{clean, count};
use ringward_domain::command::Outcome;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Hosts named of each ring.
const NAMED_MAX: usize = 8;

/// In words: what, whom, and whom not and why.
#[must_use]
pub fn show(outcome: &Outcome, dry_run: bool) -> String {
    let mut text = String::new();
    if dry_run {
        text.push_str("dry run, nothing was done: ");
    }
    let _ = writeln!(text, "{}", clean(&outcome.summary));
    if let Some(rollout) = outcome.rollout {
        let _ = writeln!(text, "rollout {rollout}");
    }
    if let Some(order) = outcome.order {
        let _ = writeln!(text, "order {order}");
    }
    if let Some((approval, _)) = outcome.approval {
        let _ = writeln!(
            text,
            "nothing was done yet; a second person: ringwardctl approvals approve {approval}"
        );
    }
    for (ring, hosts) in &outcome.hosts {
        let mut names: Vec<_> = hosts
            .iter()
            .take(NAMED_MAX)
            .map(ToString::to_string)
            .collect();
        if hosts.len() > NAMED_MAX {
            names.push(format!("and {} more", hosts.len() - NAMED_MAX));
        }
        let _ = writeln!(
            text,
            "  {}: {}{}{}",
            clean(ring),
            count(hosts.len() as u64, "host", "hosts"),
            if names.is_empty() { "" } else { ": " },
            names.join(", ")
        );
    }
    text.push_str(&left_out(outcome));
    for warning in &outcome.warnings {
        let _ = writeln!(text, "warning: {}", clean(warning));
    }
    text
}

/// Who was not counted, by reason, most first.
fn left_out(outcome: &Outcome) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (host, why) in &outcome.left_out {
        by_reason.entry(why).or_default().push(host.to_string());
    }
    let mut by_reason: Vec<_> = by_reason.into_iter().collect();
    by_reason.sort_by_key(|(_, hosts)| std::cmp::Reverse(hosts.len()));
    let mut text = String::new();
    for (why, hosts) in by_reason {
        let more = if hosts.len() > NAMED_MAX { ", …" } else { "" };
        let _ = writeln!(
            text,
            "  not counted: {}, {}: {}{more}",
            count(hosts.len() as u64, "host", "hosts"),
            clean(why),
            hosts[..hosts.len().min(NAMED_MAX)].join(", ")
        );
    }
    text
}

/// How many hosts are concerned.
#[must_use]
pub fn hosts(outcome: &Outcome) -> usize {
    outcome.hosts.iter().map(|(_, hosts)| hosts.len()).sum()
}
