//! What systemd is told: ready, alive, stopping. Silent where nobody listens.

use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Tells the service manager; one process has at most one that speaks.
#[derive(Debug)]
pub struct Notifier {
    speaks: bool,
    /// Pings are due this often: half of what the manager allows.
    every: Option<Duration>,
    last: Instant,
}

impl Notifier {
    /// For the one agent of a service's process. Takes the watchdog's time from the environment.
    #[must_use]
    pub fn of_service() -> Self {
        Self {
            speaks: true,
            every: sd_notify::watchdog_enabled().map(|timeout| timeout / 2),
            last: Instant::now(),
        }
    }

    /// Says nothing: for agents that share a process.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            speaks: false,
            every: None,
            last: Instant::now(),
        }
    }

    fn tell(&self, state: NotifyState<'_>) {
        if self.speaks
            && let Err(error) = sd_notify::notify(&[state])
        {
            tracing::debug!(%error, "the service manager does not listen");
        }
    }

    /// The agent works.
    pub fn ready(&self) {
        self.tell(NotifyState::Ready);
    }

    /// The agent says its last words.
    pub fn stopping(&self) {
        self.tell(NotifyState::Stopping);
    }

    /// Time until the next ping is due.
    #[must_use]
    pub fn next_ping(&self) -> Duration {
        self.every.map_or(Duration::MAX, |every| {
            every.saturating_sub(self.last.elapsed())
        })
    }

    /// Called from the loop alone, so that a loop that hangs is noticed.
    pub fn ping(&mut self) {
        if self.every.is_some() && self.next_ping().is_zero() {
            self.last = Instant::now();
            self.tell(NotifyState::Watchdog);
        }
    }
}
