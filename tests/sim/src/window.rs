//! The window of DESIGN §4, computed a second time and from its definition only.

use ringward_domain::Timestamp;
use ringward_server_core::rollout::Rollout;
use ringward_server_core::rollout::member::{Ending, Stage};

/// Where the design leaves a choice (the start of later rings) the larger value.
pub(crate) fn window_at_most(rollout: &Rollout, ring: usize, clock: Timestamp) -> u64 {
    let report = rollout.verdict(clock);
    let size = rollout.members().iter().filter(|m| m.ring == ring).count() as f64;
    let confirmed = rollout
        .members()
        .iter()
        .filter(|m| m.ring == ring && matches!(m.stage, Stage::Ended(Ending::Confirmed, _)));
    let confirmed = confirmed.count() as f64;
    let first = (rollout.pace.start_share * size).ceil().min(2.0);
    let cap = first.max(rollout.pace.cap_share * size);
    let start = if ring == 0 { first } else { cap };
    let bound = upper_bound(report.failed, report.confirmed);
    // The control's rate, zero without control.
    let p0 = match report.control_units {
        units if units < 1.0 => 0.0,
        units => report.control_failures as f64 / units,
    };
    let risk = 3.0 / (bound - p0).max(1e-9);
    let window = risk.min(start + confirmed).min(cap).floor();
    window.max(1.0) as u64
}

/// One-sided 95 % upper bound of a rate (Clopper and Pearson, 1934), by bisection.
fn upper_bound(failed: u64, confirmed: u64) -> f64 {
    let n = failed + confirmed;
    if n == 0 || confirmed == 0 {
        return 1.0;
    }
    let at_most = |p: f64| {
        let mut term = (1.0 - p).powf(n as f64);
        let mut sum = term;
        for k in 0..failed {
            term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if at_most(middle) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::upper_bound;

    #[test]
    fn the_bound_without_failures_is_the_known_one() {
        for n in [1, 5, 59, 300] {
            let exact = 1.0 - 0.05f64.powf(1.0 / n as f64);
            assert!((upper_bound(0, n) - exact).abs() < 1e-9, "{n}");
        }
        assert!((upper_bound(3, 0) - 1.0).abs() < f64::EPSILON);
    }
}
