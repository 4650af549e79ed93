//! What a run came to.

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Hosts of the fleet.
    pub hosts: u32,
    /// `Begin`s recorded.
    pub exposed: u64,
    /// Exposures resolved with credit or failure when it ended.
    pub resolved: u64,
    /// Failed exposures in the end, those in flight at the halt included.
    pub failed: u64,
    /// Of them dead and not back.
    pub lost: u64,
    /// Whether it halted.
    pub halted: bool,
    /// In words.
    pub halt_reason: String,
    /// Holds of more than 30 min.
    pub holds_over_30min: u32,
    /// First failed exposure known, seconds from the start.
    pub t_first_evidence_s: Option<f64>,
    /// Halt, seconds from the start.
    pub t_halt_s: Option<f64>,
    /// Last ring complete, seconds from the start.
    pub t_done_s: Option<f64>,
    /// Halted although nothing is wrong with the release.
    pub false_halt: bool,
    /// Rank of the guilty change among the suspects, 1 the first; `vendor` scenarios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guilty_rank: Option<u64>,
    /// Suspects named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<u64>,
}
