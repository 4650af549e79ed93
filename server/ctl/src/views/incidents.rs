//! Incidents and suspects as people read them.

use super::table;
use crate::client::SuspectsNow;
use crate::words::{clean, short, time};
use ringward_domain::HostId;
use ringward_domain::incident::{IncidentView, SuspectView};
use std::fmt::Write;

/// Hosts that a view names before it counts.
const NAMED_MAX: usize = 20;

/// A listing, newest first.
#[must_use]
pub fn list(incidents: &[IncidentView], all: bool) -> String {
    if incidents.is_empty() {
        return match all {
            true => "No incident so far.\n".to_owned(),
            false => "No open incident. `--all` lists those that are over.\n".to_owned(),
        };
    }
    let rows = incidents.iter().map(|incident| {
        let suspect = incident.suspects.first();
        vec![
            incident.number.to_string(),
            state(incident).to_owned(),
            time(incident.opened_unix_ms),
            incident.failed.to_string(),
            incident.at_risk_count.to_string(),
            suspect.map_or_else(|| "-".to_owned(), |s| short(&words(s), 40)),
            short(&incident.cause, 60),
        ]
    });
    let header = [
        "INCIDENT", "STATE", "OPENED", "FAILED", "AT RISK", "SUSPECT", "CAUSE",
    ];
    table(&header, rows.collect())
}

fn state(incident: &IncidentView) -> &'static str {
    if incident.closed { "over" } else { "open" }
}

/// What a suspect is, without its counts.
fn words(suspect: &SuspectView) -> String {
    let first = suspect.changes.first().map_or("", String::as_str);
    match suspect.changes.len() as u64 + suspect.more {
        0 | 1 => first.to_owned(),
        n => format!("{first} or {} with it", n - 1),
    }
}

/// One incident in full.
#[must_use]
pub fn show(incident: &IncidentView) -> String {
    let mut text = format!(
        "incident   {} ({}, opened {})\ncause      {}\n",
        incident.number,
        state(incident),
        time(incident.opened_unix_ms),
        clean(&incident.cause)
    );
    if !incident.proposal.is_empty() {
        let _ = writeln!(text, "next       {}", clean(&incident.proposal));
    }
    text.push('\n');
    text.push_str(&suspects(&incident.suspects));
    text.push_str(&hosts("failed", &incident.failed_hosts, incident.failed));
    text.push_str(&hosts("at risk", &incident.at_risk, incident.at_risk_count));
    text
}

/// Suspects, most suspected first, with the counts that a person can check.
#[must_use]
pub fn suspects(suspects: &[SuspectView]) -> String {
    if suspects.is_empty() {
        return "Failing hosts have no change in common.\n".to_owned();
    }
    let rows = suspects.iter().map(|s| {
        vec![
            if s.named { "named" } else { "" }.to_owned(),
            short(&words(s), 60),
            format!("{} of {}", s.failed, s.exposed),
            format!("{} of {}", s.others_failed, s.others),
            format!("{:.1e}", s.chance),
        ]
    });
    let header = ["", "CHANGE", "FAILED WITH IT", "WITHOUT IT", "CHANCE"];
    table(&header, rows.collect())
}

/// What failing hosts have in common now, and how much was looked at.
#[must_use]
pub fn suspects_now(seen: &SuspectsNow) -> String {
    let mut text = format!(
        "{} of {} hosts failed within the attribution time.\n",
        seen.failed, seen.hosts
    );
    if seen.untold > 0 {
        let _ = writeln!(
            text,
            "Not counted: {} changes, because too many are followed already.",
            seen.untold
        );
    }
    text.push_str(&suspects(&seen.suspects));
    text
}

fn hosts(name: &str, hosts: &[HostId], all: u64) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = hosts
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = all.saturating_sub(shown.len() as u64);
    let rest = match more {
        0 => String::new(),
        n => format!(" and {n} more (-o json lists up to 1,000)"),
    };
    format!("{name} ({all}): {}{rest}\n", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect() -> SuspectView {
        SuspectView {
            changes: vec!["C-291.sys sha256 9f".into(), "companion".into()],
            more: 0,
            exposed: 430,
            failed: 412,
            others: 99_570,
            others_failed: 3,
            chance: 1e-300,
            named: true,
            sentence: String::new(),
        }
    }

    fn incident() -> IncidentView {
        IncidentView {
            number: 3,
            opened_unix_ms: 1_700_000_000_000,
            closed: false,
            cause: "412 hosts failed within an hour where 0.21 are usual".into(),
            failed: 412,
            failed_hosts: (0..100).map(HostId).collect(),
            suspects: vec![suspect()],
            at_risk: vec![HostId(7)],
            at_risk_count: 18,
            proposal: "ringwardctl rollouts rollback demo@1.1 --to 1.0".into(),
        }
    }

    #[test]
    fn an_incident_says_who_failed_who_is_suspected_who_is_at_risk_and_what_is_next() {
        let text = show(&incident());
        for told in [
            "412 of 430",
            "3 of 99570",
            "C-291.sys",
            "at risk (18)",
            "and 392 more",
            "next       ringwardctl rollouts rollback",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        let listed = list(&[incident()], false);
        assert!(
            listed.contains("open") && listed.contains("or 1 with it"),
            "{listed}"
        );
    }

    #[test]
    fn nothing_to_show_is_said_in_words() {
        assert!(list(&[], false).contains("--all"));
        assert!(suspects(&[]).contains("no change in common"));
    }
}
