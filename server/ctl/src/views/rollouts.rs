//! Rollouts as people read them.

use super::{Width, table};
use crate::words::{self, clean, count, percent, short, short_digest, time};
use ringward_domain::incident::ForecastView;
use ringward_domain::report::{
    MemberView, RingState, RingView, RolloutView, VerdictReport, WaitWhy,
};
use ringward_wire::watch::Andon;
use std::fmt::Write;

/// Hosts that a view names before it counts.
const NAMED_MAX: usize = 20;
/// Strata of the verdict shown.
const STRATA_SHOWN_MAX: usize = 3;

/// A listing, under the andon where it is pulled.
#[must_use]
pub fn list(rollouts: &[RolloutView], andon: Option<&Andon>, width: Width) -> String {
    let mut text = andon.map(stopped).unwrap_or_default();
    if rollouts.is_empty() {
        text.push_str("No rollout. `ringwardctl rollouts start PACKAGE@VERSION` starts one.\n");
        return text;
    }
    let mut header = vec![
        "ROLLOUT",
        "PACKAGE",
        "VERSION",
        "KIND",
        "STATE",
        "CONFIRMED",
        "FAILED",
        "RING",
    ];
    if width == Width::Wide {
        header.extend(["STARTED", "BY", "REASON"]);
    }
    header.push("WHY");
    let rows = rollouts.iter().map(|rollout| row(rollout, width)).collect();
    text.push_str(&table(&header, rows));
    text
}

/// That the andon is pulled, by whom and why.
#[must_use]
pub fn stopped(andon: &Andon) -> String {
    format!(
        "ALL STOPPED by {} at {}: {}. `ringwardctl resume-all` lifts it.\n",
        clean(&andon.actor),
        time(andon.since_unix_ms),
        clean(&andon.reason)
    )
}

fn row(rollout: &RolloutView, width: Width) -> Vec<String> {
    let mut cells = vec![
        rollout.id.to_string(),
        rollout.package.to_string(),
        rollout.version.to_string(),
        words::kind(rollout.kind).to_owned(),
        rollout.state.to_string(),
        format!("{}/{}", arrived(rollout), members(rollout)),
        failed(rollout).to_string(),
        open_ring(rollout).map_or_else(|| "-".to_owned(), |ring| ring.name.to_string()),
    ];
    if width == Width::Wide {
        cells.extend([
            time(rollout.started_unix_ms),
            clean(&rollout.started_by),
            clean(&rollout.reason),
        ]);
    }
    cells.push(match width {
        Width::Table => short(&rollout.state_reason, 60),
        Width::Wide => clean(&rollout.state_reason),
    });
    cells
}

/// Hosts on the release for good: confirmed, or there before.
#[must_use]
pub fn arrived(rollout: &RolloutView) -> u64 {
    let of = |ring: &RingView| ring.confirmed + ring.already_there;
    rollout.rings.iter().map(of).sum()
}

/// Members of all rings.
#[must_use]
pub fn members(rollout: &RolloutView) -> u64 {
    rollout.rings.iter().map(|ring| ring.members).sum()
}

/// Failed exposures: failed, reverted or silent.
#[must_use]
pub fn failed(rollout: &RolloutView) -> u64 {
    let of = |ring: &RingView| ring.failed + ring.reverted + ring.silent;
    rollout.rings.iter().map(of).sum()
}

fn open_ring(rollout: &RolloutView) -> Option<&RingView> {
    rollout.rings.iter().find(|r| r.state == RingState::Open)
}

/// How a ring stands.
#[must_use]
pub fn ring_state(state: RingState) -> &'static str {
    match state {
        RingState::Waiting => "waiting",
        RingState::Open => "open",
        RingState::Complete => "complete",
    }
}

/// What a rollout is, in one line.
#[must_use]
pub fn title(rollout: &RolloutView) -> String {
    let leaves = rollout
        .leaves
        .as_ref()
        .map(|version| format!(" from {version}"))
        .unwrap_or_default();
    format!(
        "{} {} {}{leaves}",
        words::kind(rollout.kind),
        rollout.package,
        rollout.version
    )
}

/// One rollout in full.
#[must_use]
pub fn show(rollout: &RolloutView) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<10} {value}");
        }
    };
    line("rollout", rollout.id.to_string());
    line("brings", title(rollout));
    line("release", short_digest(&rollout.release.0));
    line("state", rollout.state.to_string());
    line("why", clean(&rollout.state_reason));
    line(
        "started",
        format!(
            "{} by {}",
            time(rollout.started_unix_ms),
            clean(&rollout.started_by)
        ),
    );
    line("reason", clean(&rollout.reason));
    line("verdict", clean(&rollout.verdict.sentence));
    for told in &rollout.causes {
        let hosts = count(told.hosts, "host", "hosts");
        line("cause", format!("{} ({hosts})", clean(&told.cause.title)));
    }
    if let Some(suspect) = rollout.suspects.first() {
        line("suspect", clean(&suspect.sentence));
    }
    line("next", clean(&rollout.proposal));
    if let Some(forecast) = &rollout.forecast {
        line("through", through(forecast));
    }
    if let Some(ms) = rollout.evidence_to_halt_ms {
        line("halted", format!("{ms} ms after the deciding evidence"));
    }
    for note in &rollout.notes {
        line("note", clean(note));
    }
    text.push('\n');
    text.push_str(&rings(&rollout.rings));
    text.push_str(&waits(&rollout.rings));
    text.push('\n');
    text.push_str(&evidence(&rollout.verdict));
    text.push_str(&named("went silent", &rollout.silent_hosts));
    text.push_str(&named("failed or went back", &rollout.failed_hosts));
    text
}

/// When it will be through, what limits it, and whom that leaves out.
#[must_use]
pub fn through(forecast: &ForecastView) -> String {
    let when = match forecast.remaining_ms {
        Some(left) => format!("in about {left} if nothing fails"),
        None => "cannot be told".to_owned(),
    };
    let left_out = match forecast.not_counted {
        0 => String::new(),
        n => format!("; not counted: {}", count(n, "host", "hosts")),
    };
    format!(
        "{when}; limited by {}{left_out}",
        clean(&forecast.limited_by)
    )
}

fn rings(rings: &[RingView]) -> String {
    let rows = rings
        .iter()
        .map(|ring| {
            let mut cells = vec![ring.name.to_string(), ring_state(ring.state).to_owned()];
            cells.extend(
                [
                    ring.members,
                    ring.confirmed,
                    ring.already_there,
                    ring.in_flight,
                    ring.window,
                    ring.soaking,
                    ring.waiting,
                    ring.failed,
                    ring.reverted,
                    ring.silent,
                    ring.deferred + ring.refused + ring.away,
                    ring.stragglers,
                ]
                .map(|n| n.to_string()),
            );
            cells
        })
        .collect();
    table(
        &[
            "RING",
            "STATE",
            "HOSTS",
            "CONFIRMED",
            "THERE",
            "FLIGHT",
            "WINDOW",
            "SOAKING",
            "WAITING",
            "FAILED",
            "REVERTED",
            "SILENT",
            "OTHER",
            "STRAGGLERS",
        ],
        rows,
    )
}

fn waits(rings: &[RingView]) -> String {
    let mut text = String::new();
    for ring in rings.iter().filter(|ring| !ring.waits.is_empty()) {
        let _ = writeln!(text, "{} waits: {}", ring.name, wait_list(&ring.waits));
    }
    text
}

/// Why hosts wait, most first.
#[must_use]
pub fn wait_list(waits: &[(WaitWhy, u64)]) -> String {
    let parts: Vec<_> = waits
        .iter()
        .map(|(why, hosts)| format!("{hosts} × {why}"))
        .collect();
    parts.join("; ")
}

fn evidence(verdict: &VerdictReport) -> String {
    let detectable = verdict.smallest_detectable_rate.map_or_else(
        || "even a release that kills every host could pass unseen".to_owned(),
        |rate| format!("a failure rate of {} or more would halt it", percent(rate)),
    );
    let assumed = if verdict.assumed {
        " (assumed: too little control)"
    } else {
        ""
    };
    let mut text = format!(
        "evidence   {} failed, {} confirmed, {} censored; control {} in {:.1}\n\
         rate       at most {} here (95 %), {} without the release{assumed}\n\
         e-process  {:.3} of {:.0}; {} may fail in this ring, {} more in a row would halt\n\
         detects    {detectable}\n",
        verdict.failed,
        verdict.confirmed,
        verdict.censored,
        count(verdict.control_failures, "failure", "failures"),
        verdict.control_units,
        percent(verdict.upper_bound),
        percent(verdict.p0),
        verdict.e_value,
        verdict.e_threshold,
        verdict.max_failed,
        verdict.failures_to_halt,
    );
    for s in verdict.strata.iter().take(STRATA_SHOWN_MAX) {
        let _ = writeln!(
            text,
            "stratum    {} {}: {} of {} failed, evidence {:.2}",
            clean(&s.dimension),
            clean(&s.value),
            s.failed,
            s.trials,
            s.e_value
        );
    }
    text
}

fn named(what: &str, hosts: &[MemberView]) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{} {what}:\n", count(hosts.len() as u64, "host", "hosts"));
    text.push_str(&members_table(&hosts[..hosts.len().min(NAMED_MAX)]));
    if hosts.len() > NAMED_MAX {
        let _ = writeln!(
            text,
            "and {} more: `ringwardctl rollouts show --hosts`",
            hosts.len() - NAMED_MAX
        );
    }
    text
}

/// Why a host stands as it does; where it failed, what it told of that.
fn because(member: &MemberView) -> String {
    match &member.cause {
        Some(cause) => clean(&cause.title),
        None => words::member_why(&member.state),
    }
}

/// Hosts of a rollout.
#[must_use]
pub fn members_table(hosts: &[MemberView]) -> String {
    if hosts.is_empty() {
        return "No host of the rollout meets the filter.\n".to_owned();
    }
    let rows = hosts
        .iter()
        .map(|member| {
            let late = if member.late { " (late)" } else { "" };
            vec![
                member.host.to_string(),
                short(&member.hostname, 32),
                format!("{}{late}", words::member(&member.state)),
                member.for_ms.to_string(),
                because(member),
            ]
        })
        .collect();
    table(&["HOST", "NAME", "STATE", "FOR", "WHY"], rows)
}
