//! Summaries of many runs.

use super::outcome::Run;
use super::scenario::{Oracle, Scenario};
use ringward_server_core::stats;
use serde::{Deserialize, Serialize};

/// Median and 95th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the runs are at most this.
    pub median: f64,
    /// 95 % of the runs are at most this.
    pub p95: f64,
    /// None is more.
    pub max: f64,
}

/// A share with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Runs it happened in.
    pub count: u64,
    /// Of so many.
    pub of: u64,
    /// 95 % interval by Clopper & Pearson (1934).
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Many runs in few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Scenario.
    pub scenario: String,
    /// Policy.
    pub policy: String,
    /// First seed; the others follow without gaps.
    pub first_seed: u64,
    /// Runs.
    pub runs: u64,
    /// Hosts of each fleet (of the first, where they differ).
    pub hosts: u32,
    /// Failed exposures.
    pub failed: Spread,
    /// Hosts lost.
    pub lost: Spread,
    /// Exposed at the halt, or at the end.
    pub exposed: Spread,
    /// Resolved at the halt, or at the end.
    pub resolved: Spread,
    /// Hours to the halt, of runs that halted.
    pub t_halt_h: Option<Spread>,
    /// Hours to the end, of runs that completed.
    pub t_done_h: Option<Spread>,
    /// Runs that halted.
    pub halted: Share,
    /// Halts and holds over 30 min although nothing is wrong.
    pub false_halts_and_holds: Share,
    /// Best possible.
    pub oracle: Option<Oracle>,
    /// Median exposed over the oracle's.
    pub exposed_ratio: Option<f64>,
    /// Median resolved over the oracle's.
    pub resolved_ratio: Option<f64>,
    /// Runs in which the guilty change was ranked first.
    pub ranked_first: Option<Share>,
    /// Runs in which nothing was named.
    pub none_named: Option<Share>,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Every run.
    pub runs: Vec<Run>,
    /// All of them.
    pub summary: Summary,
}

/// Figures of many runs.
#[must_use]
pub fn summarise(scenario: &Scenario, policy: &str, first_seed: u64, runs: &[Run]) -> Summary {
    let all = |f: fn(&Run) -> f64| {
        spread(runs.iter().map(f).collect()).unwrap_or(Spread {
            median: 0.0,
            p95: 0.0,
            max: 0.0,
        })
    };
    let hours = |f: fn(&Run) -> Option<f64>| {
        spread(runs.iter().filter_map(f).map(|s| s / 3600.0).collect())
    };
    let count = |f: fn(&Run) -> bool| {
        share(
            runs.iter().filter(|r| f(r)).count() as u64,
            runs.len() as u64,
        )
    };
    let oracle = scenario.oracle(1e-3);
    let (exposed, resolved) = (all(|r| r.exposed as f64), all(|r| r.resolved as f64));
    let vendor = scenario.vendor.is_some();
    Summary {
        scenario: scenario.name.clone(),
        policy: policy.to_owned(),
        first_seed,
        runs: runs.len() as u64,
        hosts: runs.first().map_or(0, |r| r.hosts),
        failed: all(|r| r.failed as f64),
        lost: all(|r| r.lost as f64),
        exposed,
        resolved,
        t_halt_h: hours(|r| r.t_halt_s),
        t_done_h: hours(|r| r.t_done_s),
        halted: count(|r| r.halted),
        false_halts_and_holds: count(|r| r.false_halt || r.holds_over_30min > 0),
        exposed_ratio: oracle.map(|o| exposed.median / o.exposures),
        resolved_ratio: oracle.map(|o| resolved.median / o.exposures),
        oracle,
        ranked_first: vendor.then(|| count(|r| r.guilty_rank == Some(1))),
        none_named: vendor.then(|| count(|r| r.named == Some(0))),
    }
}

/// Nearest-rank quantiles; `None` of nothing.
#[must_use]
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| {
        values
            .get(((values.len() as f64 * q).ceil() as usize).saturating_sub(1))
            .copied()
    };
    Some(Spread {
        median: at(0.5)?,
        p95: at(0.95)?,
        max: at(1.0)?,
    })
}

/// A share with its two-sided 95 % interval.
#[must_use]
pub fn share(count: u64, of: u64) -> Share {
    let high = stats::upper_bound(count, of, 0.975);
    // The lower bound is the upper one of what did not happen.
    let low = if count == 0 {
        0.0
    } else {
        1.0 - stats::upper_bound(of - count, of, 0.975)
    };
    Share {
        count,
        of,
        low: if count == of && of > 0 {
            0.025f64.powf(1.0 / of as f64)
        } else {
            low
        },
        high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let s = spread((1..=100).map(f64::from).collect()).unwrap_or(Spread {
            median: 0.0,
            p95: 0.0,
            max: 0.0,
        });
        assert_eq!((s.median, s.p95, s.max), (50.0, 95.0, 100.0));
        assert_eq!(spread(Vec::new()), None);
    }

    #[test]
    fn intervals_agree_with_the_published_table() {
        // 4 of 10,000: 1.090e-4 to 1.024e-3.
        let s = share(4, 10_000);
        assert!(
            (s.low - 1.090e-4).abs() < 1e-6 && (s.high - 1.0239e-3).abs() < 1e-6,
            "{s:?}"
        );
        assert!(share(0, 10).low.abs() < 1e-12 && (share(10, 10).high - 1.0).abs() < 1e-12);
    }
}
