//! Releases as people read them.

use super::{Width, table};
use crate::words::{bytes, clean, count, short_digest, time};
use ringward_domain::manifest::{BootNeed, Manifest, Probe, RevertClass};
use ringward_domain::report::{ReleaseView, Standing};
use ringward_wire::release::ReleaseDetail;
use std::fmt::Write;

/// A listing.
#[must_use]
pub fn list(releases: &[ReleaseView], width: Width) -> String {
    if releases.is_empty() {
        return "No release yet. `ringwardctl keys init`, then `ringwardctl releases sign` and \
                `releases publish`.\n"
            .to_owned();
    }
    let mut header = vec!["RELEASE", "PACKAGE", "VERSION", "STANDING", "HOSTS", "SIZE"];
    if width == Width::Wide {
        header.extend(["PUBLISHED", "SIGNED BY", "DIGEST"]);
    }
    let rows = releases
        .iter()
        .map(|release| {
            let mut cells = vec![
                short_digest(&release.release.0),
                release.package.to_string(),
                release.version.to_string(),
                standing(release.standing).to_owned(),
                release.hosts_running.to_string(),
                bytes(release.bytes),
            ];
            if width == Width::Wide {
                cells.extend([
                    time(release.published_unix_ms),
                    clean(&release.signed_by.join(",")),
                    release.release.to_string(),
                ]);
            }
            cells
        })
        .collect();
    table(&header, rows)
}

/// How the fleet thinks of a release.
#[must_use]
pub fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Unproven => "unproven",
        Standing::Good => "good",
        Standing::Bad => "bad (barred)",
    }
}

/// One release in full.
#[must_use]
pub fn show(detail: &ReleaseDetail) -> String {
    let view = &detail.view;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("release", view.release.to_string());
    line("package", format!("{} {}", view.package, view.version));
    line("standing", standing(view.standing).to_owned());
    line("published", time(view.published_unix_ms));
    line("signed by", clean(&view.signed_by.join(", ")));
    line("runs on", count(view.hosts_running, "host", "hosts"));
    match serde_json::from_slice::<Manifest>(&detail.envelope.payload) {
        Ok(manifest) => text.push_str(&contents(&manifest)),
        Err(error) => line("manifest", clean(&format!("cannot be read: {error}"))),
    }
    text
}

fn contents(manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    if let Some(floor) = &manifest.security_floor {
        line("floor", format!("no host goes below {floor} again"));
    }
    if let Some(expires) = manifest.expires_unix_s {
        line("expires", time(expires.saturating_mul(1000)));
    }
    let boot = match manifest.boot {
        BootNeed::None => "not needed",
        BootNeed::Required => "needed to take effect",
    };
    line("boot", boot.to_owned());
    let back = match manifest.revert_class {
        RevertClass::Atomic => "one switch to the complete tree before",
        RevertClass::Staged => "in stages, from the vault",
        RevertClass::Irreversible => "none: two people must say so",
    };
    line("way back", back.to_owned());
    for probe in &manifest.probes {
        let probe = match probe {
            Probe::Unit { name } => format!("unit {name} is active"),
            Probe::Tcp { port, timeout_ms } => format!("tcp {port} accepts in {timeout_ms}"),
            Probe::Http {
                port,
                path,
                timeout_ms,
            } => format!("http {port}{path} answers 2xx in {timeout_ms}"),
        };
        line("probe", clean(&probe));
    }
    for artefact in &manifest.artefacts {
        let arch = artefact.arch.map_or_else(
            || "any".to_owned(),
            |arch| format!("{arch:?}").to_lowercase(),
        );
        let os = format!("{:?}", artefact.os).to_lowercase();
        let size = bytes(artefact.size);
        line(
            "artefact",
            format!("{os}/{arch} {size} sha256 {}", artefact.sha256),
        );
    }
    text
}
