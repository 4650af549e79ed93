//! The few distributions the verdict stands on. Every function is total: no NaN, no panic, for any
//! input; rates are clamped to 0..=1 and counts saturate.

use statrs::function::beta::checked_beta_reg;
use statrs::function::gamma::checked_gamma_lr;

/// One-sided upper confidence bound of a rate after `failures` in `trials` (Clopper & Pearson 1934):
/// the largest rate at which so few failures still have probability `1 - confidence`. 1 where
/// nothing was tried or everything failed.
#[must_use]
pub fn upper_bound(failures: u64, trials: u64, confidence: f64) -> f64 {
    let failures = failures.min(trials);
    if failures == trials {
        return 1.0;
    }
    let miss = if confidence.is_nan() {
        0.0
    } else {
        1.0 - confidence.clamp(0.0, 1.0)
    };
    if failures == 0 {
        return 1.0 - miss.powf(1.0 / trials as f64);
    }
    // Bisection: 60 halvings of 0..1 reach 1e-18, below what the window can tell apart.
    let (mut low, mut high) = (failures as f64 / trials as f64, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(failures, trials, middle) > miss {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// P(Binomial(trials, rate) <= count).
#[must_use]
pub fn at_most(count: u64, trials: u64, rate: f64) -> f64 {
    if count >= trials || rate <= 0.0 || rate.is_nan() {
        return 1.0;
    }
    if rate >= 1.0 {
        return 0.0;
    }
    let (a, b) = (count as f64 + 1.0, (trials - count) as f64);
    1.0 - checked_beta_reg(a, b, rate).unwrap_or(1.0)
}

/// P(Binomial(trials, rate) >= count).
#[must_use]
pub fn at_least(count: u64, trials: u64, rate: f64) -> f64 {
    match count {
        0 => 1.0,
        _ => 1.0 - at_most(count - 1, trials, rate),
    }
}

/// P(Poisson(mean) > count).
#[must_use]
pub fn poisson_above(mean: f64, count: u64) -> f64 {
    if mean <= 0.0 || mean.is_nan() {
        return 0.0;
    }
    let shape = count as f64 + 1.0;
    if mean > 1e5 || shape > 1e5 {
        return 1.0 - normal_below(cube_root_score(mean, shape));
    }
    // P(Poisson(m) > k) = P(Gamma(k + 1) <= m).
    checked_gamma_lr(shape, mean).unwrap_or(1.0).clamp(0.0, 1.0)
}

/// Wilson & Hilferty (1931): the cube root of a gamma variate is nearly normal. Used where the
/// series would need more than a thousand terms; its error there is below 1e-4 of a probability.
fn cube_root_score(mean: f64, shape: f64) -> f64 {
    let spread = 1.0 / (9.0 * shape);
    (1.0 - spread - (mean / shape).cbrt()) / spread.sqrt()
}

fn normal_below(score: f64) -> f64 {
    0.5 * statrs::function::erf::erfc(-score / std::f64::consts::SQRT_2)
}

/// The smallest count that Poisson(mean) exceeds with probability at most `risk`.
#[must_use]
pub fn poisson_limit(mean: f64, risk: f64) -> u64 {
    let enough = |k: u64| poisson_above(mean, k) <= risk.max(1e-300);
    // The answer lies within mean + 40 standard deviations + 40 for every risk a double can hold.
    let mut high = (mean.max(0.0) + 40.0 * mean.max(1.0).sqrt() + 40.0).min(1e15) as u64;
    let mut low = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle
        } else {
            low = middle + 1
        }
    }
    low
}

/// Logarithm of the mixture likelihood ratio of `failed` against `survived` trials, against the null
/// that their failure rate is at most `p0`. Late failures count in part.
///
/// Each component bets on a rate `q > p0`; its expected factor a trial is at most 1 under the null,
/// so the mixture is a test supermartingale and `P(ever >= 1/a) <= a` (Ville 1939; Shafer 2021
/// "Testing by betting"; Grünwald, de Heide & Koolen 2024 "Safe testing"). A power of at most 1 of a
/// factor keeps this (Jensen), so failures may be weighed down. The rates lie evenly in the logarithm
/// between three times the null and 0.6, so that none is wasted below what can be told apart.
#[must_use]
pub fn log_e_value(failed: f64, survived: f64, p0: f64) -> f64 {
    let count = |x: f64| if x.is_nan() { 0.0 } else { x.clamp(0.0, 1e18) };
    let p0 = if p0.is_nan() { 1.0 } else { p0 }.clamp(1e-9, 1.0 - 1e-9);
    let (k, m) = (count(failed), count(survived));
    let (log_p, log_rest) = (p0.ln(), (-p0).ln_1p());
    let term = |q: f64, weight: f64| {
        let q = q.max(p0);
        weight.ln() + k * (q.ln() - log_p) + m * ((-q).ln_1p() - log_rest)
    };
    let mut terms = [0.0; COMPONENTS + 1];
    terms[COMPONENTS] = term(LETHAL_RATE, LETHAL_WEIGHT);
    let (low, high) = ((3.0 * p0).min(0.6).ln(), 0.6f64.ln());
    for (j, slot) in terms.iter_mut().take(COMPONENTS).enumerate() {
        let q = (low + (high - low) * j as f64 / (COMPONENTS - 1) as f64).exp();
        *slot = term(q, (1.0 - LETHAL_WEIGHT) / COMPONENTS as f64);
    }
    let top = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + terms.iter().map(|t| (t - top).exp()).sum::<f64>().ln()
}

/// Rates below the lethal one: at the floor of 10⁻⁴ neighbours differ by the factor 2.2, so the worst
/// place between two of them loses a tenth of the divergence.
const COMPONENTS: usize = 10;
const LETHAL_RATE: f64 = 0.999;
const LETHAL_WEIGHT: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_tried_or_all_failed_bounds_the_rate_by_one() {
        assert!((upper_bound(0, 0, 0.95) - 1.0).abs() < 1e-12);
        assert!((upper_bound(7, 7, 0.95) - 1.0).abs() < 1e-12);
        assert!((upper_bound(9, 7, 0.95) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bounds_agree_with_the_published_table() {
        // Exact values: 1 - 0.05^(1/59) = 4.951 %; 1 of 20: 21.61 %; 2 of 100: 6.162 %.
        for (k, n, bound) in [(0, 59, 0.049_508), (1, 20, 0.216_106), (2, 100, 0.061_619)] {
            assert!(
                (upper_bound(k, n, 0.95) - bound).abs() < 1e-5,
                "{k} of {n}: {}",
                upper_bound(k, n, 0.95)
            );
        }
    }

    #[test]
    fn poisson_tails_agree_with_direct_sums() {
        // 1 - e^-0.02 (1 + 0.02) = 1.9736e-4
        assert!((poisson_above(0.02, 1) - 1.973_6e-4).abs() < 1e-7);
        assert_eq!(poisson_limit(0.02, 1e-4), 2);
        assert_eq!(poisson_limit(0.0, 1e-4), 0);
        assert_eq!(poisson_limit(10.0, 1e-4), 24);
    }

    #[test]
    fn two_of_two_failures_cross_the_halt_even_against_the_ceiling() {
        assert!(log_e_value(2.0, 0.0, 0.01).exp() > 1.0 / 0.0007);
        assert!(log_e_value(1.0, 0.0, 0.01).exp() < 1.0 / 0.0007);
    }

    #[test]
    fn the_mixture_expects_no_gain_when_nothing_is_wrong() {
        // Exact expectation over Binomial(30, p0) at one time must not exceed 1.
        let (n, p0): (u64, f64) = (30, 0.02);
        let mut expectation = 0.0;
        let mut probability = (1.0 - p0).powi(30);
        for k in 0..=n {
            expectation += probability * log_e_value(k as f64, (n - k) as f64, p0).exp();
            probability *= (n - k) as f64 / (k + 1) as f64 * p0 / (1.0 - p0);
        }
        assert!(expectation <= 1.0 + 1e-9, "{expectation}");
        assert!(expectation > 0.9, "{expectation}");
    }

    proptest! {
        #[test]
        fn no_input_gives_nan(k in any::<u64>(), n in any::<u64>(), p in prop::num::f64::ANY, r in prop::num::f64::ANY) {
            prop_assert!(!upper_bound(k, n, p).is_nan());
            prop_assert!(!at_most(k, n, p).is_nan());
            prop_assert!(!at_least(k, n, p).is_nan());
            prop_assert!(!poisson_above(p, k).is_nan());
            let _ = poisson_limit(p, r);
            prop_assert!(!log_e_value(r, p, p).is_nan());
        }

        #[test]
        fn more_failures_never_look_safer(k in 0u64..50, n in 50u64..2000) {
            prop_assert!(upper_bound(k + 1, n, 0.95) >= upper_bound(k, n, 0.95));
            prop_assert!(log_e_value(k as f64 + 1.0, (n - k) as f64, 1e-3) >= log_e_value(k as f64, (n - k) as f64, 1e-3));
        }
    }
}
