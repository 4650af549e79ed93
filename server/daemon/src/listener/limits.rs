//! How many connections without identity one address gets at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets so many connections of one address be unauthenticated at once, and so many more wait.
///
/// Waiting instead of closing lets a whole site behind one address come back after a power cut
/// without every host backing off; what is bounded is the work done for strangers.
#[derive(Debug)]
pub(super) struct AddressGate {
    at_once: usize,
    waiting: usize,
    addresses: Mutex<HashMap<IpAddr, Entry>>,
}

#[derive(Debug)]
struct Entry {
    slots: Arc<Semaphore>,
    tickets: usize,
}

/// A connection's place with the gate; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<AddressGate>,
    address: IpAddr,
    slots: Arc<Semaphore>,
    slot: Option<OwnedSemaphorePermit>,
}

impl AddressGate {
    pub(super) fn new(at_once: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self {
            at_once,
            waiting,
            addresses: Mutex::new(HashMap::new()),
        })
    }

    /// A place in the queue of this address; `None` where that is full.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Ticket> {
        let address = counted_as(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(|e| e.into_inner());
        let entry = addresses.entry(address).or_insert_with(|| Entry {
            slots: Arc::new(Semaphore::new(self.at_once)),
            tickets: 0,
        });
        if entry.tickets >= self.at_once + self.waiting {
            return None;
        }
        entry.tickets += 1;
        Some(Ticket {
            gate: Arc::clone(self),
            address,
            slots: Arc::clone(&entry.slots),
            slot: None,
        })
    }
}

impl Ticket {
    /// Waits for its turn.
    pub(super) async fn admit(&mut self) {
        self.slot = Arc::clone(&self.slots).acquire_owned().await.ok();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot = None;
        let mut addresses = self
            .gate
            .addresses
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        if let Some(entry) = addresses.get_mut(&self.address) {
            entry.tickets -= 1;
            if entry.tickets == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// One household has a whole /64 of IPv6 addresses: they count as one.
fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let mut octets = v6.octets();
                octets[8..].fill(0);
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_first_get_in_the_next_wait_and_the_rest_is_turned_away() {
        let gate = AddressGate::new(2, 1);
        let address = "192.0.2.1".parse().unwrap();
        let mut a = gate.enter(address).unwrap();
        let mut b = gate.enter(address).unwrap();
        let mut c = gate.enter(address).unwrap();
        assert!(gate.enter(address).is_none());
        assert!(gate.enter("192.0.2.2".parse().unwrap()).is_some());
        a.admit().await;
        b.admit().await;
        let mut third = Box::pin(c.admit());
        tokio::select! {
            biased;
            () = &mut third => panic!("admitted past the limit"),
            () = std::future::ready(()) => {}
        }
        drop(a);
        third.await;
    }

    #[test]
    fn nothing_is_kept_of_addresses_that_left() {
        let gate = AddressGate::new(1, 1);
        drop(gate.enter("2001:db8::1".parse().unwrap()));
        assert!(gate.addresses.lock().unwrap().is_empty());
    }

    #[test]
    fn a_whole_ipv6_network_counts_as_one_address() {
        let gate = AddressGate::new(1, 0);
        let _held = gate.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(gate.enter("2001:db8::2".parse().unwrap()).is_none());
        assert!(gate.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
