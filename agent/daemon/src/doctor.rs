//! What stands in the way of this agent, found without changing anything.

use crate::audit::Kept;
use crate::config::{Adapter, Settings};
use crate::identity::{self, HostFile, Identity};
use crate::link::chain;
use crate::spool::{DiskFiles, Spool};
use ringward_agent_os::machine;
use ringward_domain::host::GuardTier;
use ringward_domain::observed::PackageObserved;
use ringward_guard::{LedgerStore, Slots, SystemFiles};
use ringward_wire::client;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// Whether it is as it should be, and in words how it is.
    pub outcome: Result<String, String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(words) => write!(f, "ok    {}: {words}", self.what),
            Err(words) => write!(f, "BAD   {}: {words}", self.what),
        }
    }
}

fn finding<T, E: std::error::Error>(
    what: impl Into<String>,
    outcome: Result<T, E>,
    words: impl FnOnce(T) -> String,
) -> Finding {
    Finding {
        what: what.into(),
        outcome: outcome.map(words).map_err(|error| chain(&error)),
    }
}

/// Look at everything that can be looked at.
pub async fn examine(settings: &Settings) -> Vec<Finding> {
    let state_dir = &settings.state_dir;
    let mut findings = vec![
        finding("state folder", std::fs::read_dir(state_dir), |_| {
            state_dir.display().to_string()
        }),
        finding("identity", HostFile::load(state_dir), |host| {
            host.host.to_string()
        }),
        certificate(state_dir),
        release_root(state_dir),
        finding(
            "ledger",
            LedgerStore::new(SystemFiles, state_dir).read(),
            |file| match file.and_then(|file| file.ledger.attempt) {
                Some(attempt) => format!("newest attempt {:?}", attempt.phase),
                None => "no attempt".to_owned(),
            },
        ),
        slots(state_dir),
        spool(state_dir),
        audit(state_dir),
        guard(settings.adapter),
        quarantine(settings).await,
    ];
    findings.extend(image());
    findings.extend(servers(settings).await);
    findings
}

fn certificate(state_dir: &Path) -> Finding {
    let what = "certificate".to_owned();
    let outcome = match identity::validity(state_dir) {
        Err(error) => Err(chain(&error)),
        Ok((from, until)) => match SystemTime::now() {
            now if now < from => Err("it is not valid yet: check the clock".to_owned()),
            now if now >= until => Err("it has expired: enrol the host again".to_owned()),
            now => {
                let left = until.duration_since(now).unwrap_or_default();
                Ok(format!("valid for {} days", left.as_secs() / 86_400))
            }
        },
    };
    Finding { what, outcome }
}

/// Said only where it matters: packages cannot be installed there.
fn image() -> Option<Finding> {
    let words = machine::packages::read_only_usr(Path::new("/"))?;
    Some(Finding {
        what: "the system's own packages".to_owned(),
        outcome: Ok(words),
    })
}

fn release_root(state_dir: &Path) -> Finding {
    let outcome = match identity::release_root(state_dir) {
        Ok(Some(root)) => Ok(format!(
            "{} of {} keys must sign",
            root.threshold,
            root.keys.len()
        )),
        Ok(None) => {
            Err("none: every release will be refused; enrol with a server that has one".to_owned())
        }
        Err(error) => Err(chain(&error)),
    };
    Finding {
        what: "release root".to_owned(),
        outcome,
    }
}

fn audit(state_dir: &Path) -> Finding {
    let outcome = match Kept::load(state_dir) {
        Ok(kept) if kept.forks.is_empty() => Ok(kept.head.map_or_else(
            || "no head shown yet".to_owned(),
            |head| format!("{} entries followed", head.size),
        )),
        Ok(kept) => Err(format!(
            "contradicted itself {} times, first after {} entries: ask the server's admins whether \
             it was restored from a backup",
            kept.forks.len(),
            kept.forks[0].known.size
        )),
        Err(error) => Err(chain(&error)),
    };
    Finding {
        what: "the server's audit log".to_owned(),
        outcome,
    }
}

fn slots(state_dir: &Path) -> Finding {
    let ledger = LedgerStore::new(SystemFiles, state_dir).read();
    let ledger = ledger.ok().flatten().unwrap_or_default().ledger;
    let slots = Slots::new(SystemFiles, state_dir);
    let found = slots.inspect(&ledger);
    finding("slots", found, |packages| {
        let is_file = |package: &PackageObserved| slots.current(&package.package).is_file();
        match packages.iter().any(is_file) {
            // What uses a release has to read the name there: a path through it leads nowhere.
            true => format!(
                "{} packages; this volume has no links: `current` is a file that names the release",
                packages.len()
            ),
            false => format!("{} packages", packages.len()),
        }
    })
}

fn spool(state_dir: &Path) -> Finding {
    let folder = state_dir.join("spool");
    if !folder.is_dir() {
        return Finding {
            what: "spool".to_owned(),
            outcome: Ok("not made yet".to_owned()),
        };
    }
    let opened = DiskFiles::new(&folder)
        .map_err(|error| error.to_string())
        .and_then(|files| Spool::open(files, u64::MAX).map_err(|error| chain(&error)));
    let outcome = opened.and_then(|spool| match (spool.losses().damaged, spool.range()) {
        (0, (from, next)) => Ok(format!("{} signals wait", next.0 - from.0)),
        (places, _) => Err(format!("{places} damaged places; what is whole is kept")),
    });
    Finding {
        what: "spool".to_owned(),
        outcome,
    }
}

fn guard(adapter: Adapter) -> Finding {
    let outcome = match adapter {
        Adapter::Scripted => Ok("asked at each scripted boot".to_owned()),
        Adapter::Machine => match machine::guard_tier() {
            GuardTier::None => Err(
                "no place in this machine's boot: a release that keeps the machine \
                                    from booting is not taken back by itself; enable \
                                    ringward-guard.service"
                    .to_owned(),
            ),
            GuardTier::Service => Ok(
                "tier c: a unit before those of any release. What kills the \
                                      kernel before sysinit.target, as a module may, is not healed"
                    .to_owned(),
            ),
            GuardTier::Initramfs => Ok(format!(
                "tier b: in the initramfs, proven in this boot{}",
                if machine::loader_counts() {
                    "; tier a too: the boot loader counts entries that a release brings"
                } else {
                    ""
                }
            )),
            GuardTier::BootLoader => Ok("tier a: the boot loader started this boot and counts \
                                         entries that a release brings. What else kills the \
                                         kernel before sysinit.target is not healed"
                .to_owned()),
        },
    };
    Finding {
        what: "guard".to_owned(),
        outcome,
    }
}

async fn quarantine(settings: &Settings) -> Finding {
    let outcome = match settings.adapter {
        Adapter::Scripted => Ok("scripted".to_owned()),
        Adapter::Machine => match machine::isolation_means(settings.orders.nft.as_deref()).await {
            Ok(means) => Ok(format!("by {means}")),
            Err(error) => Err(chain(&error)),
        },
    };
    Finding {
        what: "quarantine".to_owned(),
        outcome,
    }
}

async fn servers(settings: &Settings) -> Vec<Finding> {
    let Ok(identity) = Identity::load(&settings.state_dir) else {
        return Vec::new();
    };
    let addresses = match settings.servers.is_empty() {
        true => identity.host.servers,
        false => settings.servers.clone(),
    };
    let mut findings = Vec::new();
    for address in addresses {
        let reached = client::channel(&address, Arc::clone(&identity.tls)).await;
        findings.push(finding(format!("server {address}"), reached, |_| {
            "reached, and it is ours".to_owned()
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_host_that_was_never_enrolled_is_told_what_it_lacks() {
        let root = tempfile::tempdir().unwrap();
        let findings = examine(&Settings::scripted(root.path()).unwrap()).await;
        let bad: Vec<&str> = findings
            .iter()
            .filter(|finding| finding.outcome.is_err())
            .map(|finding| finding.what.as_str())
            .collect();
        assert_eq!(bad, ["identity", "certificate", "release root"]);
    }
}
