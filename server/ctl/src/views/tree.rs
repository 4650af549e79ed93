//! A rollout while it runs: a small tree for a terminal, one line for a log.

use super::rollouts::{arrived, failed, members, ring_state, title, wait_list};
use crate::words::{clean, member_why, short};
use ringward_domain::report::{MemberView, RingState, RingView, RolloutView};

/// Hosts named under a tree.
const NAMED_MAX: usize = 6;
const BAR: usize = 24;

/// The rollout as lines of at most `width` characters.
#[must_use]
pub fn tree(rollout: &RolloutView, width: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}: {}, {} of {} hosts there, {} failed",
        rollout.id,
        title(rollout),
        rollout.state,
        arrived(rollout),
        members(rollout),
        failed(rollout)
    )];
    if !rollout.state_reason.is_empty() {
        lines.push(format!("│ {}", clean(&rollout.state_reason)));
    }
    lines.push(format!("│ {}", clean(&rollout.verdict.sentence)));
    let names = rollout.rings.iter().map(|r| r.name.as_str().len()).max();
    let last = rollout.rings.len().saturating_sub(1);
    for (i, ring) in rollout.rings.iter().enumerate() {
        let (branch, below) = if i == last {
            ("└─", "  ")
        } else {
            ("├─", "│ ")
        };
        lines.push(format!("{branch} {}", ring_line(ring, names.unwrap_or(0))));
        if ring.state == RingState::Open && !ring.waits.is_empty() {
            lines.push(format!("{below}   waits: {}", wait_list(&ring.waits)));
        }
    }
    lines.extend(named("silent", &rollout.silent_hosts));
    lines.extend(named("failed", &rollout.failed_hosts));
    lines.iter().map(|line| short(line, width)).collect()
}

fn ring_line(ring: &RingView, name_width: usize) -> String {
    let there = ring.confirmed + ring.already_there;
    let lost = ring.failed + ring.reverted + ring.silent;
    let mut line = format!(
        "{:<name_width$} {:<8} {} {there}/{}",
        ring.name.as_str(),
        ring_state(ring.state),
        bar(ring),
        ring.members
    );
    if ring.state == RingState::Open {
        line.push_str(&format!(
            ", {} in flight of {}",
            ring.in_flight, ring.window
        ));
    }
    let rest = [
        (ring.soaking, "soaking"),
        (lost, "failed"),
        (ring.stragglers, "stragglers"),
    ];
    for (n, what) in rest.into_iter().filter(|(n, _)| *n > 0) {
        line.push_str(&format!(", {n} {what}"));
    }
    line
}

/// Confirmed, failed and in flight as shares of the ring; whatever is there shows at least one cell.
fn bar(ring: &RingView) -> String {
    let lost = ring.failed + ring.reverted + ring.silent;
    let parts = [
        (ring.confirmed + ring.already_there, '█'),
        (lost, 'x'),
        (ring.in_flight, '▒'),
    ];
    let mut bar = String::new();
    let mut left = BAR;
    for (n, mark) in parts {
        let share = n as f64 / ring.members.max(1) as f64 * BAR as f64;
        let cells = if n == 0 { 0 } else { (share as usize).max(1) }.min(left);
        left -= cells;
        bar.extend(std::iter::repeat_n(mark, cells));
    }
    bar.extend(std::iter::repeat_n('·', left));
    bar
}

fn named(what: &str, hosts: &[MemberView]) -> Option<String> {
    let first = hosts.first()?;
    let mut names: Vec<_> = hosts
        .iter()
        .take(NAMED_MAX)
        .map(|member| clean(&member.hostname))
        .collect();
    if hosts.len() > NAMED_MAX {
        names.push(format!("and {} more", hosts.len() - NAMED_MAX));
    }
    Some(format!(
        "{what}: {} ({})",
        names.join(", "),
        member_why(&first.state)
    ))
}

/// The rollout as one line, for logs and pipes.
#[must_use]
pub fn line(rollout: &RolloutView) -> String {
    let open = rollout.rings.iter().find(|r| r.state == RingState::Open);
    let ring = open.map_or_else(String::new, |ring| {
        format!(
            ", ring {} {}/{} (in flight {} of {})",
            ring.name,
            ring.confirmed + ring.already_there,
            ring.members,
            ring.in_flight,
            ring.window
        )
    });
    let why = if rollout.state_reason.is_empty() {
        String::new()
    } else {
        format!(": {}", clean(&rollout.state_reason))
    };
    format!(
        "{} {} {}{why}; {} of {} hosts there{ring}, {} failed",
        rollout.id,
        title(rollout),
        rollout.state,
        arrived(rollout),
        members(rollout),
        failed(rollout)
    )
}
