//! Hosts as people read them.

use super::{Width, table};
use crate::words::{clean, count, short, short_digest, signal};
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Labels, Os};
use ringward_domain::observed::{Observed, PackageObserved, PhaseObserved, PrepareState};
use ringward_domain::report::HostView;
use ringward_wire::host::HostPage;
use std::fmt::Write;

/// A listing, with what the filter kept back.
#[must_use]
pub fn list(page: &HostPage, width: Width) -> String {
    if page.hosts.is_empty() {
        return if page.filtered_out == 0 {
            "No host yet. `ringwardctl tokens create` makes the token that a new host joins by.\n"
                .to_owned()
        } else {
            format!(
                "No host meets the filter; {} of the fleet do not.\n",
                page.filtered_out
            )
        };
    }
    let mut header = vec!["HOST", "NAME", "STATE", "LINK", "RUNS", "SYSTEM", "LABELS"];
    if width == Width::Wide {
        header.extend(["KERNEL", "GUARD", "AGENT", "SEEN"]);
    }
    header.push("ATTENTION");
    let rows = page.hosts.iter().map(|host| row(host, width)).collect();
    let mut text = table(&header, rows);
    let shown = count(page.hosts.len() as u64, "host", "hosts");
    let _ = write!(text, "{shown}");
    if page.filtered_out > 0 {
        let _ = write!(
            text,
            "; {} of the fleet not shown: they do not meet the filter",
            page.filtered_out
        );
    }
    text.push('\n');
    text
}

fn row(host: &HostView, width: Width) -> Vec<String> {
    let facts = &host.facts;
    let mut cells = vec![
        host.id.to_string(),
        short(&facts.hostname, 32),
        state(host.state).to_owned(),
        link(host),
        runs(&host.observed),
        short(&facts.os_build, 24),
        labels(&host.labels),
    ];
    if width == Width::Wide {
        cells.extend([
            clean(&facts.kernel),
            guard(facts.guard_tier).to_owned(),
            clean(&host.agent_version),
            host.last_seen_ms.to_string(),
        ]);
    }
    let attention = host.attention.join("; ");
    cells.push(match width {
        Width::Table => short(&attention, 48),
        Width::Wide => clean(&attention),
    });
    cells
}

/// Where a host stands.
#[must_use]
pub fn state(state: HostState) -> &'static str {
    match state {
        HostState::Pending => "pending",
        HostState::Active => "active",
        HostState::Retired => "retired",
    }
}

fn link(host: &HostView) -> String {
    if host.connected {
        "up".to_owned()
    } else {
        format!("down {}", host.last_seen_ms)
    }
}

fn labels(labels: &Labels) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    clean(&pairs.join(","))
}

fn runs(observed: &Observed) -> String {
    if observed.packages.is_empty() {
        return "-".to_owned();
    }
    let packages: Vec<_> = observed.packages.iter().map(package).collect();
    packages.join(", ")
}

fn package(package: &PackageObserved) -> String {
    let version = match (&package.running_version, &package.running) {
        (Some(version), _) => version.to_string(),
        (None, Some(release)) => short_digest(&release.0),
        (None, None) => return format!("{} (nothing)", package.package),
    };
    let trial = if package.running == package.committed {
        ""
    } else {
        " (trial)"
    };
    format!("{} {version}{trial}", package.package)
}

fn guard(tier: GuardTier) -> &'static str {
    match tier {
        GuardTier::None => "none: cannot self-heal",
        GuardTier::Service => "service",
        GuardTier::Initramfs => "initramfs",
        GuardTier::BootLoader => "boot loader",
    }
}

fn system(facts: &Facts) -> String {
    let os = match facts.os {
        Os::Linux => "Linux",
        Os::Windows => "Windows",
    };
    let arch = match facts.arch {
        Arch::X86_64 => "x86-64",
        Arch::Aarch64 => "ARM64",
    };
    let os_build = clean(&facts.os_build);
    let kernel = clean(&facts.kernel);
    format!("{os_build} ({os} {arch}, kernel {kernel})")
}

/// One host in full.
#[must_use]
pub fn show(host: &HostView) -> String {
    let facts = &host.facts;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<10} {value}");
        }
    };
    line("host", host.id.to_string());
    line("name", clean(&facts.hostname));
    line("state", state(host.state).to_owned());
    line("link", link(host));
    line("system", system(facts));
    line(
        "hardware",
        format!(
            "{}{}, {} MiB",
            prefix(&clean(&facts.model)),
            count(u64::from(facts.cpus), "processor", "processors"),
            facts.memory_mib
        ),
    );
    line("guard", guard(facts.guard_tier).to_owned());
    line("agent", clean(&host.agent_version));
    line("labels", labels(&host.labels));
    line("runs", runs(&host.observed));
    line("prepares", preparing(&host.observed));
    line("attempt", attempt(&host.observed));
    let bars: Vec<_> = host
        .observed
        .bars
        .iter()
        .map(|r| short_digest(&r.0))
        .collect();
    line("bars", bars.join(", "));
    for reason in &host.attention {
        line("attention", clean(reason));
    }
    text.push_str(&signals(host));
    text
}

fn prefix(model: &str) -> String {
    if model.is_empty() {
        String::new()
    } else {
        format!("{model}, ")
    }
}

fn preparing(observed: &Observed) -> String {
    let Some(preparing) = &observed.preparing else {
        return String::new();
    };
    let state = match preparing.state {
        PrepareState::Working => "downloads and verifies".to_owned(),
        PrepareState::Ready => "ready to switch".to_owned(),
        PrepareState::Retrying(why) => format!("failed ({why:?}), tried again"),
        PrepareState::Refused(why) => format!("refused: {}", crate::words::refuse(why)),
    };
    let release = short_digest(&preparing.release.0);
    format!("{release} for {}: {state}", preparing.rollout)
}

fn attempt(observed: &Observed) -> String {
    let Some(attempt) = &observed.attempt else {
        return String::new();
    };
    let phase = match attempt.phase {
        PhaseObserved::Switching => "switching".to_owned(),
        PhaseObserved::Applied => "applied".to_owned(),
        PhaseObserved::Rebooting => "rebooting".to_owned(),
        PhaseObserved::Soaking { soaked } => format!("healthy for {soaked}"),
        PhaseObserved::Committed => "committed".to_owned(),
        PhaseObserved::Reverted(why) => format!("went back: {}", crate::words::revert(why)),
        PhaseObserved::Failed(why) => format!("failed: {}", crate::words::fail(why)),
        PhaseObserved::NotSwitched(why) => {
            format!("not switched: {}", crate::words::not_switched(why))
        }
    };
    let release = short_digest(&attempt.release.0);
    format!(
        "{} {release} for {}: {phase}",
        attempt.package, attempt.rollout
    )
}

fn signals(host: &HostView) -> String {
    if host.signals.is_empty() {
        return "\nNo signal of this host is stored.\n".to_owned();
    }
    let rows = host
        .signals
        .iter()
        .map(|s| {
            vec![
                s.seq.to_string(),
                signal(s.kind),
                s.release
                    .map_or_else(|| "-".to_owned(), |r| short_digest(&r.0)),
                short(&s.title, 80),
            ]
        })
        .collect();
    format!("\n{}", table(&["SIGNAL", "KIND", "TRIAL OF", "WHAT"], rows))
}
