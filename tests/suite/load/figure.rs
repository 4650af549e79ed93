//! Figures with how often and how far apart they were seen.

use serde::Serialize;

/// A figure: the median of what was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Median.
    pub value: f64,
    /// How often it was measured.
    pub n: usize,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Figure {
    /// Of what was seen; at least one.
    pub fn of(seen: &[f64]) -> Self {
        let mut sorted = seen.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            value: percentile(&sorted, 0.5),
            n: sorted.len(),
            min: sorted.first().copied().unwrap_or(f64::NAN),
            max: sorted.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// The value below which `share` of the sorted ones lie.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
