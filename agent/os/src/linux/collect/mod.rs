//! What a Linux machine tells of itself: units that loop, kernel reports, evidence left by a boot
//! that died, changes made by others, and what the agent itself lacks.
//!
//! Every collector waits for the kernel to wake it and polls nothing while nothing happens: an idle
//! agent costs no CPU. Each runs on its own, so that one that lacks something takes no other along.

mod artefacts;
mod changes;
mod draft;
mod kmsg;
mod seen;
mod state;
mod units;
mod watcher;

pub(super) use draft::Found;
pub(super) use watcher::registered;

use super::boottime;
use crate::host::HostEvent;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{BootId, Millis};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Facts that wait for the daemon; a collector that is faster waits too.
const EVENTS_MAX: usize = 64;

/// Where the collectors run.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The agent's state folder.
    pub(super) root: PathBuf,
    /// The running boot.
    pub(super) boot: BootId,
    /// The boot before it, where it was seen.
    pub(super) boot_before: Option<BootId>,
}

/// Starts all collectors; they end when the receiver is dropped.
pub(super) fn start(place: Place) -> mpsc::Receiver<HostEvent> {
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let teller = Teller {
        tell,
        boot: place.boot,
    };
    tokio::spawn(units::watch(teller.clone()));
    tokio::spawn(kmsg::follow(place.clone(), teller.clone()));
    tokio::spawn(artefacts::watch(place.clone(), teller.clone()));
    tokio::spawn(changes::watch(place.clone(), teller.clone()));
    tokio::spawn(state::watch(place, teller));
    events
}

/// A collector's way to the daemon.
#[derive(Debug, Clone)]
struct Teller {
    tell: mpsc::Sender<HostEvent>,
    boot: BootId,
}

impl Teller {
    /// Tells; `false` when nobody listens any more, which ends the collector.
    async fn tell(&self, draft: SignalDraft) -> bool {
        self.tell.send(HostEvent::Signal(draft)).await.is_ok()
    }

    /// Tells that the agent lacks something.
    async fn lacks(&self, what: &str, why: &str) -> bool {
        tracing::warn!(why, "the agent lacks {what}");
        self.tell(self.draft(
            SignalKind::AgentDegraded,
            format!("lacks:{what}:{}", self.boot),
            format!("the agent lacks {what}: {why}"),
        ))
        .await
    }

    /// A fact of this boot and moment.
    fn draft(&self, kind: SignalKind, key: String, title: String) -> SignalDraft {
        SignalDraft {
            kind,
            key,
            boot: self.boot,
            at_boottime: Millis(boottime().0),
            title,
            signature: String::new(),
            evidence: "{}".to_owned(),
        }
    }
}
