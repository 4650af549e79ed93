//! Suspects: which change, ours or somebody else's, do the failing hosts have in common?
//!
//! For every change the counts stand ready: how many hosts took it, how many of these failed, against
//! all others. An event costs one step for each change of its host; nothing is searched until a person
//! or an incident asks. The ranking is the likelihood ratio of "hosts with it fail at their own rate"
//! against "all fail alike"; a suspect is named only where chance, over all candidates, cannot explain
//! it (Bonferroni). Changes that the same hosts failed with cannot be told apart and stand as one.

use crate::flaws::{Flaw, flawed};
use crate::stats;
use ringward_domain::HostId;
use ringward_domain::ids::Sha256;
use ringward_domain::incident::SuspectView;
use std::collections::BTreeMap;

/// Changes followed at a time; a further one is counted as untold.
pub const CHANGES_MAX: usize = 10_000;
/// Changes of one host followed; further ones are counted as untold.
pub const HOST_CHANGES_MAX: usize = 5_000;
/// Probability with which a day without a bad change names one, over all candidates.
const ALPHA: f64 = 1e-5;
/// Changes of one suspect shown by their words.
const WORDS_SHOWN_MAX: usize = 20;
/// Fewer failed hosts name nobody: two broken disks have a thousand changes in common.
const FAILED_MIN: u64 = 3;
/// A surge: so many failures are chance only this often. It is asked on each failure, some hundred
/// times a day in a large fleet.
const SURGE: f64 = 1e-6;

/// One change: what it is and who has it.
#[derive(Debug, Clone, Default)]
struct Change {
    words: String,
    exposed: u64,
    failed: u64,
    /// Sums over the hosts that failed with it: equal sums are the same hosts, but for a chance of
    /// 2⁻⁶⁴.
    failed_hosts: u64,
}

/// Log-likelihood ratio, fingerprint and place of a change.
type Candidate = (f64, Sha256, u32);

#[derive(Debug, Clone, Default)]
struct HostPart {
    /// In order.
    changes: Vec<u32>,
    failed: bool,
}

/// All changes and hosts under watch.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    changes: Vec<Change>,
    index: BTreeMap<Sha256, u32>,
    hosts: BTreeMap<HostId, HostPart>,
    failed: u64,
    untold: u64,
}

/// Changes that the same hosts failed with, and what speaks against them.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// Their fingerprints, that with the fewest unharmed takers first.
    pub changes: Vec<Sha256>,
    /// What they are, in words.
    pub words: Vec<String>,
    /// Hosts that took the first.
    pub exposed: u64,
    /// Of them failed.
    pub failed: u64,
    /// Hosts without it.
    pub others: u64,
    /// Of them failed.
    pub others_failed: u64,
    /// Logarithm of the likelihood ratio.
    pub log_ratio: f64,
    /// Probability that chance alone ranks any candidate as high.
    pub chance: f64,
    /// Chance cannot explain it: say its name.
    pub named: bool,
}

impl Suspects {
    /// A host is under watch.
    pub fn host(&mut self, host: HostId) {
        self.hosts.entry(host).or_default();
    }

    /// A host took a change; taking it again changes nothing, and what a failed host takes has no
    /// part in its failure.
    pub fn took(&mut self, host: HostId, fingerprint: Sha256, words: &str) {
        let place = match self.index.get(&fingerprint) {
            Some(place) => *place,
            None if self.changes.len() >= CHANGES_MAX => {
                self.untold = self.untold.saturating_add(1);
                return;
            }
            None => {
                let place = self.changes.len() as u32;
                self.changes.push(Change {
                    words: words.to_owned(),
                    ..Change::default()
                });
                self.index.insert(fingerprint, place);
                place
            }
        };
        let part = self.hosts.entry(host).or_default();
        if part.failed && !flawed(Flaw::BlamedAfterwards) {
            return;
        }
        if let Err(at) = part.changes.binary_search(&place) {
            if part.changes.len() >= HOST_CHANGES_MAX {
                self.untold = self.untold.saturating_add(1);
                return;
            }
            part.changes.insert(at, place);
            let change = &mut self.changes[place as usize];
            change.exposed = change.exposed.saturating_add(1);
        }
    }

    /// A host failed: every change it has is blamed, once. `false` if it had failed before.
    pub fn failed(&mut self, host: HostId) -> bool {
        let part = self.hosts.entry(host).or_default();
        if std::mem::replace(&mut part.failed, true) {
            return false;
        }
        self.failed = self.failed.saturating_add(1);
        for place in &part.changes {
            let change = &mut self.changes[*place as usize];
            change.failed = change.failed.saturating_add(1);
            change.failed_hosts = change.failed_hosts.wrapping_add(scattered(host));
        }
        true
    }

    /// A host is no longer looked at: retired, or its failure is older than the attribution time.
    pub fn forget(&mut self, host: HostId) {
        let Some(part) = self.hosts.remove(&host) else {
            return;
        };
        self.failed = self.failed.saturating_sub(u64::from(part.failed));
        for place in part.changes {
            let change = &mut self.changes[place as usize];
            change.exposed = change.exposed.saturating_sub(1);
            if part.failed {
                change.failed = change.failed.saturating_sub(1);
                change.failed_hosts = change.failed_hosts.wrapping_sub(scattered(host));
            }
        }
    }

    /// Hosts under watch and hosts failed.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.hosts.len() as u64, self.failed)
    }

    /// Changes not followed, because there were too many.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// Hosts with a change that did not fail, at most `max`: pin or repair these.
    #[must_use]
    pub fn at_risk(&self, fingerprint: &Sha256, max: usize) -> Vec<HostId> {
        let Some(place) = self.index.get(fingerprint) else {
            return Vec::new();
        };
        let takers = self
            .hosts
            .iter()
            .filter(|(_, part)| !part.failed && part.changes.binary_search(place).is_ok());
        takers.map(|(host, _)| *host).take(max).collect()
    }

    /// How many hosts with a change did not fail.
    #[must_use]
    pub fn at_risk_count(&self, fingerprint: &Sha256) -> u64 {
        self.index.get(fingerprint).map_or(0, |place| {
            let change = &self.changes[*place as usize];
            change.exposed.saturating_sub(change.failed)
        })
    }

    /// The changes that speak most against themselves, most first, at most `max` groups.
    #[must_use]
    pub fn ranking(&self, max: usize) -> Vec<Suspect> {
        let candidates = self.changes.iter().filter(|c| c.exposed > 0).count().max(1) as f64;
        let mut groups: BTreeMap<(u64, u64), Vec<Candidate>> = BTreeMap::new();
        for (fingerprint, place) in &self.index {
            let change = &self.changes[*place as usize];
            if change.failed > 0 {
                let ratio = self.log_ratio(change);
                groups
                    .entry((change.failed, change.failed_hosts))
                    .or_default()
                    .push((ratio, *fingerprint, *place));
            }
        }
        let mut ranked: Vec<Suspect> = groups
            .into_values()
            .filter_map(|group| self.suspect(group, candidates))
            .collect();
        ranked.sort_by(|a, b| b.log_ratio.total_cmp(&a.log_ratio));
        ranked.truncate(max);
        ranked
    }

    fn suspect(&self, mut group: Vec<Candidate>, candidates: f64) -> Option<Suspect> {
        group.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let (log_ratio, _, place) = *group.first()?;
        // Others of the same failed hosts that far more hosts took without harm are acquitted.
        group.retain(|(ratio, ..)| log_ratio - ratio < 3.0);
        let first = &self.changes[place as usize];
        let (hosts, failed) = self.totals();
        let share = first.exposed as f64 / hosts.max(1) as f64;
        let chance = (stats::at_least(first.failed, failed, share)
            * if flawed(Flaw::CandidatesNotCorrected) {
                1.0
            } else {
                candidates
            })
        .min(1.0);
        let worse = log_ratio > 0.0 && first.failed >= FAILED_MIN;
        Some(Suspect {
            changes: group
                .iter()
                .map(|(_, fingerprint, _)| *fingerprint)
                .collect(),
            words: group
                .iter()
                .map(|(.., place)| self.changes[*place as usize].words.clone())
                .collect(),
            exposed: first.exposed,
            failed: first.failed,
            others: hosts.saturating_sub(first.exposed),
            others_failed: failed.saturating_sub(first.failed),
            log_ratio,
            chance,
            named: worse && chance <= ALPHA,
        })
    }

    /// Log-likelihood ratio of two rates against one; 0 where hosts with the change fail less.
    fn log_ratio(&self, change: &Change) -> f64 {
        let (hosts, failed) = self.totals();
        let (e, f) = (change.exposed.max(change.failed), change.failed);
        let (others, others_failed) = (hosts.saturating_sub(e), failed.saturating_sub(f));
        let rate = |k: u64, n: u64| if n == 0 { 0.0 } else { k as f64 / n as f64 };
        if rate(f, e) <= rate(others_failed, others) {
            return 0.0;
        }
        let log = |k: u64, n: u64| {
            let (k, n) = (k.min(n) as f64, n as f64);
            let term = |part: f64| {
                if part > 0.0 {
                    part * (part / n).ln()
                } else {
                    0.0
                }
            };
            term(k) + term(n - k)
        };
        (log(f, e) + log(others_failed, others) - log(failed, hosts)).max(0.0)
    }
}

/// Whether more hosts failed than chance explains where so many are expected to.
#[must_use]
pub fn is_surge(failed: u64, expected: f64) -> bool {
    failed >= FAILED_MIN && stats::poisson_above(expected, failed - 1) <= SURGE
}

impl Suspect {
    /// For people.
    #[must_use]
    pub fn view(&self) -> SuspectView {
        let more = self.words.len().saturating_sub(WORDS_SHOWN_MAX) as u64;
        SuspectView {
            changes: self.words.iter().take(WORDS_SHOWN_MAX).cloned().collect(),
            more,
            exposed: self.exposed,
            failed: self.failed,
            others: self.others,
            others_failed: self.others_failed,
            chance: self.chance,
            named: self.named,
            sentence: self.sentence(),
        }
    }

    /// In words, with counts a person can check.
    #[must_use]
    pub fn sentence(&self) -> String {
        let also = match self.words.len() {
            0 | 1 => String::new(),
            n => format!(" (or one of {} changes that came with it)", n - 1),
        };
        let name = self.words.first().map_or("", String::as_str);
        format!(
            "{name}{also}: {} of {} hosts with it failed; {} of {} without it",
            self.failed, self.exposed, self.others_failed, self.others
        )
    }
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014).
fn scattered(host: HostId) -> u64 {
    let mut z = host.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(i: u32) -> Sha256 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&i.to_be_bytes());
        Sha256(bytes)
    }

    /// 1,000 hosts, each tenth with change 0, which kills; change 1 on every third; change 2 on the
    /// takers of 0 only; change 3 on them and as many others.
    fn bad_day() -> Suspects {
        let mut suspects = Suspects::default();
        for i in 0..1000u64 {
            suspects.host(HostId(i));
            let takes = [i % 10 == 0, i % 3 == 0, i % 10 == 0, i % 5 == 0];
            for (c, _) in takes.iter().enumerate().filter(|(_, takes)| **takes) {
                suspects.took(HostId(i), change(c as u32), &format!("change {c}"));
            }
            if i % 10 == 0 && i % 7 != 0 || i == 501 {
                suspects.failed(HostId(i));
            }
        }
        suspects
    }

    #[test]
    fn the_guilty_is_first_and_what_cannot_be_told_apart_stands_with_it() {
        let ranking = bad_day().ranking(10);
        let first = &ranking[0];
        assert_eq!(first.changes, [change(0), change(2)]);
        assert!(first.named && first.chance < 1e-9, "{first:?}");
        assert_eq!(
            (
                first.exposed,
                first.failed,
                first.others,
                first.others_failed
            ),
            (100, 85, 900, 1)
        );
        assert!(
            first
                .sentence()
                .contains("85 of 100 hosts with it failed; 1 of 900 without it")
        );
        assert!(ranking[1..].iter().all(|s| !s.changes.contains(&change(0))));
    }

    #[test]
    fn those_who_took_it_and_live_are_listed_as_at_risk() {
        let suspects = bad_day();
        let at_risk = suspects.at_risk(&change(0), 100);
        assert_eq!(at_risk.len(), 15);
        assert!(at_risk.iter().all(|h| h.0 % 70 == 0));
        assert_eq!(suspects.at_risk(&change(0), 3).len(), 3);
        assert!(suspects.at_risk(&change(99), 3).is_empty());
    }

    #[test]
    fn a_change_taken_after_the_failure_is_not_blamed_and_forgetting_leaves_no_trace() {
        let mut suspects = Suspects::default();
        for i in 0..10 {
            suspects.host(HostId(i));
        }
        suspects.failed(HostId(1));
        suspects.failed(HostId(1));
        suspects.took(HostId(1), change(0), "late");
        assert_eq!(suspects.totals(), (10, 1));
        assert!(suspects.ranking(5).is_empty());
        suspects.forget(HostId(1));
        suspects.forget(HostId(1));
        assert_eq!(suspects.totals(), (9, 0));
    }

    #[test]
    fn few_failures_name_nobody() {
        let mut suspects = Suspects::default();
        for i in 0..100_000 {
            suspects.host(HostId(i));
        }
        for i in 0..2 {
            suspects.took(HostId(i), change(0), "both have it");
            suspects.failed(HostId(i));
        }
        assert!(!suspects.ranking(1)[0].named);
        assert!(!is_surge(2, 0.0) && !is_surge(12, 5.0) && is_surge(3, 0.01));
        assert!(!is_surge(u64::MAX, f64::NAN) || is_surge(u64::MAX, 0.0));
    }

    #[test]
    fn more_changes_than_are_followed_are_counted_as_untold() {
        let mut suspects = Suspects::default();
        for i in 0..CHANGES_MAX as u32 + 50 {
            suspects.took(HostId(u64::from(i % 7)), change(i), "c");
        }
        assert_eq!(suspects.untold(), 50);
        for i in 0..HOST_CHANGES_MAX as u32 + 9 {
            suspects.took(HostId(1000), change(i), "c");
        }
        assert_eq!(suspects.untold(), 59);
        suspects.failed(HostId(1000));
        assert!(suspects.ranking(3).len() <= 3);
    }

    proptest! {
        #[test]
        fn any_order_of_events_gives_figures(events in prop::collection::vec((0u8..4, 0u64..20, 0u32..10), 0..200), expected in prop::num::f64::ANY) {
            let mut suspects = Suspects::default();
            for (what, host, c) in events {
                match what {
                    0 => suspects.host(HostId(host)),
                    1 => suspects.took(HostId(host), change(c), "c"),
                    2 => { suspects.failed(HostId(host)); }
                    _ => suspects.forget(HostId(host)),
                }
            }
            let _ = is_surge(suspects.totals().1, expected);
            for s in suspects.ranking(100) {
                prop_assert!(s.log_ratio.is_finite() && (0.0..=1.0).contains(&s.chance));
                prop_assert!(s.failed <= s.exposed && s.others_failed <= s.others);
            }
        }
    }
}
