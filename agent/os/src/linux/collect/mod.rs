//! What a Linux machine tells of itself: units that loop, kernel reports, evidence left by a boot
//! that died, changes made by others, and what the agent itself lacks.
//!
//! Every collector waits for the kernel to wake it and polls nothing while nothing happens: an idle
//! agent costs no CPU. Each runs on its own, so that one that lacks something takes no other along.

mod artefacts;
mod changes;
mod coredumps;
mod kmsg;
mod power;
mod state;
mod units;
mod watcher;

pub(super) use watcher::registered;

use crate::collect::{EVENTS_MAX, Place, Teller};
use crate::host::HostEvent;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Starts all collectors, `watched` being the paths that the settings name; they end when the receiver is dropped.
pub(super) fn start(place: Place, watched: Vec<PathBuf>) -> mpsc::Receiver<HostEvent> {
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let teller = Teller {
        tell,
        boot: place.boot,
    };
    tokio::spawn(units::watch(teller.clone()));
    tokio::spawn(coredumps::watch(teller.clone()));
    tokio::spawn(power::watch(teller.clone()));
    tokio::spawn(kmsg::follow(place.clone(), teller.clone()));
    tokio::spawn(artefacts::watch(place.clone(), teller.clone()));
    tokio::spawn(changes::watch(place.clone(), watched, teller.clone()));
    tokio::spawn(state::watch(place, teller));
    events
}
