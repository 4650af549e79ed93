//! What this host lets itself be ordered, whatever the server says: the server may be stolen.

use crate::planted::{Bug, planted};
use ringward_domain::ids::KeyId;
use ringward_domain::order::{Once, OrderRefusal, Origin, Quarantine, Warrant};
use ringward_domain::{Millis, OrderId};
use std::collections::{BTreeMap, BTreeSet};

/// What an order does to the host, as policies count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Isolates it.
    Quarantine,
    /// Reboots it.
    Reboot,
    /// Looks for evidence on it.
    Collect,
}

impl From<Once> for Act {
    fn from(once: Once) -> Self {
        match once {
            Once::Reboot => Self::Reboot,
            Once::Collect => Self::Collect,
        }
    }
}

/// So many in so much powered-on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At most so many; 0 forbids.
    pub max: usize,
    /// In any window of this length.
    pub within: Millis,
}

/// The host's own policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPolicy {
    /// Isolations begun; changing what a standing one lets through does not count.
    pub quarantines: Rate,
    /// Reboots by order.
    pub reboots: Rate,
    /// Collections by order.
    pub collections: Rate,
    /// Longest life of an isolation; longer ones are cut. `None`: any, and until-released too.
    pub life_max: Option<Millis>,
    /// Whether one person, or the server alone, may leave very wide networks open.
    pub wide_allow: bool,
    /// Distinct pinned keys that must endorse; 0: none.
    pub endorsers: usize,
    /// What needs endorsements, where any are needed.
    pub endorsed: BTreeSet<Act>,
}

/// Life of an isolation that the server ordered by itself and gave none (DESIGN §2.7).
pub const AUTOMATIC_LIFE: Millis = Millis::hours(24);

impl Default for OrderPolicy {
    fn default() -> Self {
        let a_day = |max| Rate {
            max,
            within: Millis::hours(24),
        };
        Self {
            quarantines: a_day(4),
            reboots: a_day(4),
            collections: a_day(24),
            life_max: None,
            wide_allow: false,
            endorsers: 0,
            endorsed: [Act::Quarantine, Act::Reboot].into(),
        }
    }
}

/// What the daemon found out about an order's warrant: signatures and clocks are its part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vouch {
    /// Pinned keys with a valid signature over exactly this order.
    pub endorsers: BTreeSet<KeyId>,
    /// Whether the endorsed hosts are proved to hold this one.
    pub named: bool,
    /// Whether its time has passed by the host's wall clock.
    pub expired: bool,
}

/// Vouched for, by order; what is not here has nobody.
pub type Vouched = BTreeMap<OrderId, Vouch>;

impl OrderPolicy {
    fn rate(&self, act: Act) -> Rate {
        match act {
            Act::Quarantine => self.quarantines,
            Act::Reboot => self.reboots,
            Act::Collect => self.collections,
        }
    }

    /// Whether acts of this kind need endorsements here.
    #[must_use]
    pub fn needs_quorum(&self, act: Act) -> bool {
        self.endorsers > 0 && self.endorsed.contains(&act)
    }

    /// Whether an order of this kind may be obeyed. `lately`: when such were obeyed, in powered-on
    /// time; `None` where this one does not count.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(
        &self,
        act: Act,
        vouch: &Vouch,
        lately: Option<&[Millis]>,
        powered: Millis,
    ) -> Result<(), OrderRefusal> {
        let rate = self.rate(act);
        if rate.max == 0 {
            return Err(OrderRefusal::LocalPolicy);
        }
        if vouch.expired {
            return Err(OrderRefusal::Expired);
        }
        if self.needs_quorum(act) {
            let enough = match planted(Bug::QuorumOfOne) {
                true => 1,
                false => self.endorsers,
            };
            if vouch.endorsers.len() < enough {
                return Err(OrderRefusal::Quorum);
            }
            if !vouch.named && !planted(Bug::UnnamedHostObeys) {
                return Err(OrderRefusal::NotNamed);
            }
        }
        let counted = lately.map_or(0, |lately| {
            let recent = |at: &&Millis| (powered - **at).0 < rate.within.0;
            lately.iter().filter(recent).count()
        });
        match counted < rate.max {
            true => Ok(()),
            false => Err(OrderRefusal::RateLimit),
        }
    }

    /// Whether this allow list may stand.
    ///
    /// # Errors
    /// It is wider than permitted.
    pub fn judge_allow(&self, quarantine: &Quarantine) -> Result<(), OrderRefusal> {
        let wide = quarantine.allow.iter().any(|allowed| allowed.is_wide());
        let alone = matches!(
            quarantine.warrant.origin,
            Origin::Automatic | Origin::Person
        );
        match wide && alone && !self.wide_allow {
            true => Err(OrderRefusal::AllowTooWide),
            false => Ok(()),
        }
    }

    /// The life that an isolation gets here.
    #[must_use]
    pub fn life(&self, asked: Option<Millis>, warrant: &Warrant) -> Option<Millis> {
        let asked = match warrant.origin {
            Origin::Automatic => Some(asked.unwrap_or(AUTOMATIC_LIFE)),
            Origin::Person | Origin::TwoPersons | Origin::BreakGlass => asked,
        };
        match (asked, self.life_max) {
            (Some(asked), Some(max)) => Some(Millis(asked.0.min(max.0))),
            (None, max) => max,
            (asked, None) => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warrant(origin: Origin) -> Warrant {
        Warrant {
            origin,
            not_after_unix_ms: 0,
            targets: None,
            endorsements: Vec::new(),
        }
    }

    #[test]
    fn an_automatic_isolation_always_ends_by_itself() {
        let policy = OrderPolicy::default();
        assert_eq!(
            policy.life(None, &warrant(Origin::Automatic)),
            Some(AUTOMATIC_LIFE)
        );
        assert_eq!(policy.life(None, &warrant(Origin::Person)), None);
    }

    #[test]
    fn a_local_bound_cuts_every_life() {
        let policy = OrderPolicy {
            life_max: Some(Millis::hours(1)),
            ..OrderPolicy::default()
        };
        for asked in [None, Some(Millis::hours(9))] {
            let life = policy.life(asked, &warrant(Origin::TwoPersons));
            assert_eq!(life, Some(Millis::hours(1)));
        }
    }

    #[test]
    fn the_oldest_order_leaves_the_window_and_makes_room() {
        let policy = OrderPolicy {
            reboots: Rate {
                max: 2,
                within: Millis(100),
            },
            ..OrderPolicy::default()
        };
        let at = [Millis(0), Millis(50)];
        let judge = |now| policy.judge(Act::Reboot, &Vouch::default(), Some(&at), Millis(now));
        assert_eq!(judge(99), Err(OrderRefusal::RateLimit));
        assert_eq!(judge(100), Ok(()));
    }

    #[test]
    fn a_quorum_needs_distinct_keys_and_this_hosts_name() {
        let policy = OrderPolicy {
            endorsers: 2,
            ..OrderPolicy::default()
        };
        let mut vouch = Vouch {
            endorsers: [KeyId([1; 32])].into(),
            named: true,
            expired: false,
        };
        let judge = |vouch: &Vouch| policy.judge(Act::Quarantine, vouch, None, Millis(0));
        assert_eq!(judge(&vouch), Err(OrderRefusal::Quorum));
        vouch.endorsers.insert(KeyId([2; 32]));
        assert_eq!(judge(&vouch), Ok(()));
        vouch.named = false;
        assert_eq!(judge(&vouch), Err(OrderRefusal::NotNamed));
    }
}
