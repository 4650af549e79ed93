//! What the collectors of every OS share: a way to the daemon, a memory of what was told, and the step
//! from what a parser found to a signal of this host.

mod draft;
#[cfg(any(windows, test))]
#[cfg_attr(not(windows), allow(dead_code, reason = "the live log is Windows's"))]
mod event_feed;
pub(crate) mod room;
mod seen;

pub(crate) use draft::Found;
#[cfg(windows)]
pub(crate) use event_feed::EventFeed;
pub(crate) use seen::Seen;

use crate::host::HostEvent;
use crate::machine::boottime;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{BootId, Millis};
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Facts that wait for the daemon; a collector that is faster waits too.
pub(crate) const EVENTS_MAX: usize = 64;

/// Where the collectors run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The agent's state folder.
    pub(crate) root: PathBuf,
    /// The running boot.
    pub(crate) boot: BootId,
    /// The boot before it, where it was seen.
    pub(crate) boot_before: Option<BootId>,
}

/// A collector's way to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) tell: mpsc::Sender<HostEvent>,
    pub(crate) boot: BootId,
}

impl Teller {
    /// Tells; `false` when nobody listens any more, which ends the collector.
    pub(crate) async fn tell(&self, draft: SignalDraft) -> bool {
        self.tell.send(HostEvent::Signal(draft)).await.is_ok()
    }

    /// Tells that the agent lacks something.
    pub(crate) async fn lacks(&self, what: &str, why: &str) -> bool {
        self.tell(self.draft_lack(what, why)).await
    }

    /// That the agent lacks something.
    pub(crate) fn draft_lack(&self, what: &str, why: &str) -> SignalDraft {
        tracing::warn!(why, "the agent lacks {what}");
        self.draft(
            SignalKind::AgentDegraded,
            format!("lacks:{what}:{}", self.boot),
            format!("the agent lacks {what}: {why}"),
        )
    }

    /// A fact of this boot and moment.
    pub(crate) fn draft(&self, kind: SignalKind, key: String, title: String) -> SignalDraft {
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
