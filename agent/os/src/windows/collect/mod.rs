//! What a Windows machine tells of itself.

use crate::collect::{EVENTS_MAX, Place, Teller};
use crate::host::HostEvent;
use tokio::sync::mpsc;

/// Starts all collectors; they end when the receiver is dropped.
pub(super) fn start(place: Place) -> mpsc::Receiver<HostEvent> {
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let _teller = Teller {
        tell,
        boot: place.boot,
    };
    events
}
