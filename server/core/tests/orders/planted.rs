//! The random histories find each bug planted in orders, brakes and approvals.

use super::history;
use ringward_server_core::slips::{Slip, plant};

/// Histories in which each must be found; the slowest, an approver of less than a day, is found by the 237th.
const HISTORIES: u64 = 400;

#[test]
fn every_planted_slip_is_found_by_the_random_histories() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut found = Vec::new();
    for slip in Slip::ALL {
        plant(Some(slip));
        let at = (0..HISTORIES).find(|seed| std::panic::catch_unwind(|| history(*seed)).is_err());
        found.push((slip, at));
    }
    plant(None);
    std::panic::set_hook(told);
    println!("{found:?}");
    let missed: Vec<_> = found.iter().filter(|(_, at)| at.is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
