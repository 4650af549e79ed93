//! How often passwords may be tried. Attempts are counted before a password is looked at, so that
//! parallel ones count too.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// For so long an attempt counts.
pub(super) const COUNTED_FOR: Duration = Duration::from_secs(15 * 60);
/// Counters at once; beyond them nobody new may try.
const COUNTERS_MAX: usize = 4_000;

/// Whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// On one name from one address: whoever guesses from afar does not lock the person out.
    NameFrom(String, IpAddr),
    /// On one name from anywhere: 2,880 guesses a day at most.
    Name(String),
    /// From one address on any name.
    Address(IpAddr),
}

impl Of {
    const fn limit(&self) -> usize {
        match self {
            Self::NameFrom(..) => 5,
            Self::Name(_) => 30,
            Self::Address(_) => 20,
        }
    }

    fn all(name: &str, from: IpAddr) -> [Self; 3] {
        [
            Self::NameFrom(name.to_owned(), from),
            Self::Name(name.to_owned()),
            Self::Address(from),
        ]
    }
}

/// Attempts of the last quarter of an hour.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<Of, VecDeque<Instant>>);

/// An attempt that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    /// No further one on this name from this address.
    pub last: bool,
}

impl Attempts {
    /// Counts an attempt; `None` where it must not be looked at.
    pub(super) fn take(&mut self, name: &str, from: IpAddr, now: Instant) -> Option<Attempt> {
        self.0.retain(|_, times| {
            times.retain(|at| now.duration_since(*at) < COUNTED_FOR);
            !times.is_empty()
        });
        let all = Of::all(name, from);
        let made = |of: &Of| self.0.get(of).map_or(0, VecDeque::len);
        if self.0.len() + all.len() > COUNTERS_MAX || all.iter().any(|of| made(of) >= of.limit()) {
            return None;
        }
        let last = made(&all[0]) + 1 == all[0].limit();
        for of in all {
            self.0.entry(of).or_default().push_back(now);
        }
        Some(Attempt { last })
    }

    /// An attempt was right: it counts no more, nor do those before it on this name from there.
    pub(super) fn forgive(&mut self, name: &str, from: IpAddr) {
        let [name_from, name, address] = Of::all(name, from);
        self.0.remove(&name_from);
        for of in [name, address] {
            if let Some(times) = self.0.get_mut(&of) {
                times.pop_back();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_stranger_locks_out_nobody_but_themselves() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 1..=5 {
            let attempt = attempts.take("bea", ip(1), now).unwrap();
            assert_eq!(attempt.last, n == 5);
        }
        assert_eq!(attempts.take("bea", ip(1), now), None);
        assert!(attempts.take("bea", ip(2), now).is_some());
        let later = now + COUNTED_FOR;
        assert!(attempts.take("bea", ip(1), later).is_some());
    }

    #[test]
    fn guesses_from_many_addresses_and_on_many_names_run_out() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let tried = (0..100).filter(|n| attempts.take("bea", ip(*n), now).is_some());
        assert_eq!(tried.count(), 30);
        let mut attempts = Attempts::default();
        let tried = (0..100).filter(|n| attempts.take(&format!("p{n}"), ip(1), now).is_some());
        assert_eq!(tried.count(), 20);
    }

    #[test]
    fn those_who_know_their_password_are_not_counted() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..100 {
            let name = format!("p{}", n % 10);
            assert!(attempts.take(&name, ip(1), now).is_some(), "{n}");
            attempts.forgive(&name, ip(1));
        }
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..10_000u32 {
            let from = IpAddr::from(n.to_be_bytes());
            attempts.take(&n.to_string(), from, now);
        }
        assert!(attempts.0.len() <= COUNTERS_MAX);
        assert!(attempts.take("bea", ip(1), now + COUNTED_FOR).is_some());
    }
}
