//! What people watch: rollouts as they change, at most five times a second, and notices at once.

use super::Seen;
use crate::metrics::Metrics;
use ringward_domain::report::{RolloutState, RolloutView};
use ringward_domain::{Millis, RolloutId};
use ringward_wire::watch::{Andon, WatchEvent};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// Events that a slow watcher may lag behind before it starts anew from the present state.
const QUEUE: usize = 256;
/// Shortest time between two rounds.
const ROUND: Duration = Duration::from_millis(200);
/// Every so many rounds hosts are counted, and rollouts that are over are looked at too.
const SLOW: u64 = 10;

/// Where watchers listen.
#[derive(Debug, Clone)]
pub struct WatchHub {
    events: broadcast::Sender<WatchEvent>,
}

impl Default for WatchHub {
    fn default() -> Self {
        Self {
            events: broadcast::Sender::new(QUEUE),
        }
    }
}

impl WatchHub {
    /// Everything from now on.
    pub fn listen(&self) -> broadcast::Receiver<WatchEvent> {
        self.events.subscribe()
    }

    /// Without watchers nobody hears it; the log has it.
    pub(super) fn notice(&self, line: String, rollout: Option<RolloutId>) {
        let _ = self.events.send(WatchEvent::Notice { line, rollout });
    }
}

/// What watchers were told last.
#[derive(Debug)]
pub struct Feed {
    told: BTreeMap<RolloutId, RolloutView>,
    andon: Option<Andon>,
    at: Instant,
    rounds: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            told: BTreeMap::new(),
            andon: None,
            at: Instant::now(),
            rounds: 0,
        }
    }
}

impl Feed {
    pub(super) fn is_due(&self) -> bool {
        self.at.elapsed() >= ROUND
    }

    /// Tells every watcher what changed since the last round.
    pub(super) fn tell(&mut self, hub: &WatchHub, seen: &Seen<'_>, metrics: &Metrics) {
        self.at = Instant::now();
        let slow = self.rounds.is_multiple_of(SLOW);
        self.rounds += 1;
        if slow {
            metrics.hosts.set(seen.control.host_counts().0);
        }
        let running = |(_, state): &(RolloutId, RolloutState)| *state == RolloutState::Running;
        let running = seen
            .control
            .rollouts()
            .iter()
            .filter(|r| running(r))
            .count();
        metrics.rollouts_running.set(running as u64);
        if hub.events.receiver_count() == 0 {
            self.told.clear();
            return;
        }
        let andon = seen.andon();
        if andon != self.andon {
            self.andon.clone_from(&andon);
            let _ = hub.events.send(WatchEvent::Andon(andon));
        }
        for (id, state) in seen.control.rollouts().into_iter().rev() {
            let told = self.told.get(&id);
            let rests = is_over(state) && told.is_some_and(|old| is_over(old.state));
            if rests && !slow {
                continue;
            }
            let Some(view) = seen.rollout(id) else {
                continue;
            };
            if told.is_some_and(|old| same(old, &view)) {
                continue;
            }
            let _ = hub.events.send(WatchEvent::Rollout(Box::new(view.clone())));
            self.told.insert(view.id, view);
        }
    }
}

/// Whether nothing but the passing of time tells two views apart.
fn same(old: &RolloutView, new: &RolloutView) -> bool {
    let timeless = |view: &RolloutView| {
        let mut view = view.clone();
        for member in view.silent_hosts.iter_mut().chain(&mut view.failed_hosts) {
            member.for_ms = Millis::ZERO;
        }
        view
    };
    timeless(old) == timeless(new)
}

/// Whether a rollout is not over.
pub(crate) fn is_active(view: &RolloutView) -> bool {
    !is_over(view.state)
}

fn is_over(state: RolloutState) -> bool {
    matches!(state, RolloutState::Completed | RolloutState::Aborted)
}
