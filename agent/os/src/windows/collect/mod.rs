//! What a Windows machine tells of itself: its event log, dumps and other evidence left behind, changes
//! made by others, and what the agent lacks.

mod changes;
mod dumps;
mod events;
mod folders;
mod state;

use crate::collect::{EVENTS_MAX, EventFeed, Place, Teller};
use crate::host::HostEvent;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Log and dumps meet here: both tell of the same stops.
type SharedFeed = Arc<Mutex<EventFeed>>;

fn locked(feed: &SharedFeed) -> MutexGuard<'_, EventFeed> {
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts all collectors; they end when the receiver is dropped.
pub(super) fn start(place: Place, watched: Vec<PathBuf>) -> mpsc::Receiver<HostEvent> {
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let teller = Teller {
        tell,
        boot: place.boot,
    };
    let feed: SharedFeed = Arc::new(Mutex::new(EventFeed::open(place.clone())));
    events::follow(Arc::clone(&feed), teller.clone());
    tokio::spawn(dumps::watch(place.clone(), feed, teller.clone()));
    tokio::spawn(changes::watch(place.clone(), watched, teller.clone()));
    tokio::spawn(state::watch(place, teller));
    events
}
