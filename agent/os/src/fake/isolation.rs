//! The scripted machine's firewall: a file in its root that says what it lets through. It survives
//! boots, as rules loaded before the network do.

use super::ScriptedHost;
use super::script::Firewall;
use crate::host::HostError;
use crate::isolation::{IsolationError, Plan};
use crate::marker::write_durably;
use std::fmt::Write;

/// Name of the file in the host's root; there while the host is isolated.
pub const ISOLATION_FILE: &str = "isolation.txt";

pub(super) fn close(host: &ScriptedHost, plan: &Plan) -> Result<(), IsolationError> {
    match host.script().firewall {
        Firewall::Works => {}
        Firewall::Absent => {
            return Err(IsolationError::Unsupported {
                why: "its script has no firewall".to_owned(),
                next: "write another script",
            });
        }
        Firewall::Refuses => {
            return Err(IsolationError::Refused {
                why: "its script says so".to_owned(),
                next: "write another script",
            });
        }
    }
    let mut text = String::new();
    for permit in plan.permits() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {:?}", permit.reason, permit.traffic);
    }
    write_durably(&host.0.root.join(ISOLATION_FILE), text.as_bytes()).map_err(IsolationError::Disk)
}

pub(super) fn open(host: &ScriptedHost) -> Result<(), IsolationError> {
    let path = host.0.root.join(ISOLATION_FILE);
    match std::fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(IsolationError::Disk(HostError::File {
                doing: "removing",
                path: path.display().to_string(),
                next: "check that the folder is writable",
                source,
            }))
        }
        _ => Ok(()),
    }
}

pub(super) fn stands(host: &ScriptedHost) -> bool {
    host.0.root.join(ISOLATION_FILE).exists()
}
