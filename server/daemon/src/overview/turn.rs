//! How much is asked at a time of the one task that decides. Between two turns whatever waits for it is
//! done, a batch of events and its commit included: with pages of 500 a fleet of 100,000 was 200 turns,
//! and a page that was loaded while a thousand agents worked took seconds.

use ringward_domain::HostId;
use std::time::{Duration, Instant};

/// A turn: as long as a batch of events takes.
const TURN: Duration = Duration::from_millis(8);

/// When a turn is over.
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() >= TURN
    }
}

/// Takes page after page, each after the last host of the one before, until it `is_over`: at least one.
/// Answers after which host to go on, or nothing at the end: a page was shorter than `full`.
pub(super) fn take<T>(
    mut after: Option<HostId>,
    full: usize,
    is_over: impl Fn() -> bool,
    page: impl Fn(Option<HostId>) -> Vec<(HostId, T)>,
) -> (Vec<(HostId, T)>, Option<HostId>) {
    let mut taken = Vec::new();
    loop {
        let rows = page(after);
        let more = rows.len() >= full;
        after = rows.last().map(|(id, _)| *id).or(after);
        taken.extend(rows);
        if !more {
            return (taken, None);
        }
        if is_over() {
            return (taken, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Pages of `full` of the hosts 1 to `hosts`.
    fn page(hosts: u64, full: usize) -> impl Fn(Option<HostId>) -> Vec<(HostId, ())> {
        move |after| {
            let ids = after.map_or(1, |id| id.0 + 1)..=hosts;
            ids.take(full).map(|id| (HostId(id), ())).collect()
        }
    }

    #[test]
    fn a_turn_that_is_not_over_takes_the_whole_fleet_at_once() {
        let (taken, next) = take(None, 10, || false, page(95, 10));
        assert_eq!((taken.len(), next), (95, None));
    }

    #[test]
    fn a_turn_that_is_over_at_once_takes_one_page_and_says_where_to_go_on() {
        let (taken, next) = take(Some(HostId(5)), 10, || true, page(95, 10));
        assert_eq!(taken.first(), Some(&(HostId(6), ())));
        assert_eq!((taken.len(), next), (10, Some(HostId(15))));
    }

    fn turns(hosts: u64, full: usize, pages: usize) -> Vec<u64> {
        let (mut all, mut after) = (Vec::new(), None);
        for _ in 0..=hosts {
            let left = Cell::new(pages);
            let is_over = || {
                left.set(left.get() - 1);
                left.get() == 0
            };
            let (taken, next) = take(after, full, is_over, page(hosts, full));
            all.extend(taken.into_iter().map(|(id, ())| id.0));
            after = next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(after, None);
        all
    }

    #[test]
    fn turns_of_any_length_take_each_host_once_and_end() {
        for (hosts, full, pages) in (0..40).flat_map(|hosts| {
            (1..8).flat_map(move |full| (1..4).map(move |pages| (hosts, full, pages)))
        }) {
            let all: Vec<u64> = (1..=hosts).collect();
            assert_eq!(turns(hosts, full, pages), all);
        }
    }
}
