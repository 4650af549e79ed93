//! What the service manager is told: running, stopping.

use super::service;
use std::time::Duration;

/// Tells the service manager; one process has at most one that speaks.
#[derive(Debug)]
pub struct Notifier {
    speaks: bool,
}

impl Notifier {
    /// For the one agent of a service's process.
    #[must_use]
    pub fn of_service() -> Self {
        Self { speaks: true }
    }

    /// Says nothing: for agents that share a process.
    #[must_use]
    pub fn silent() -> Self {
        Self { speaks: false }
    }

    /// The agent works.
    pub fn ready(&self) {
        if self.speaks {
            service::running();
        }
    }

    /// The agent says its last words.
    pub fn stopping(&self) {
        if self.speaks {
            service::stopping();
        }
    }

    /// Time until the next ping is due: this service manager asks for none.
    #[must_use]
    pub fn next_ping(&self) -> Duration {
        Duration::MAX
    }

    /// A service that hangs is not noticed here; its process is restarted when it ends.
    pub fn ping(&mut self) {}
}
