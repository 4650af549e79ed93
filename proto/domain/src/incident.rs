//! What people read of evidence: strata, suspects, incidents, forecasts.

use crate::ids::HostId;
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// Hosts listed of an incident at most.
pub const INCIDENT_HOSTS_MAX: usize = 1000;

/// Hosts alike in one way, and how the release fares on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StratumView {
    /// In which way alike: "OS build", "model", "kernel and drivers", "site", "signature".
    pub dimension: String,
    /// Its value.
    pub value: String,
    /// Exposures of it that failed.
    pub failed: u64,
    /// Exposures of it that came back or failed, with later reboots.
    pub trials: u64,
    /// Its weighted part of the e-value.
    pub e_value: f64,
}

/// Changes that failing hosts have in common; those that the same hosts failed with stand as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspectView {
    /// What they are, in words, the likeliest first; at most 20.
    pub changes: Vec<String>,
    /// How many further changes came with them.
    pub more: u64,
    /// Hosts with the first.
    pub exposed: u64,
    /// Of them failed.
    pub failed: u64,
    /// Hosts without it.
    pub others: u64,
    /// Of them failed.
    pub others_failed: u64,
    /// Probability (0..1) that chance alone ranks any change as high.
    pub chance: f64,
    /// Chance cannot explain it.
    pub named: bool,
    /// All of it in one sentence.
    pub sentence: String,
}

/// A surge of failures, with a rollout or without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Its number, from 1.
    pub number: u64,
    /// When it was opened, Unix milliseconds, for display only.
    pub opened_unix_ms: u64,
    /// Over: no further failure for a day.
    pub closed: bool,
    /// What opened it, in words.
    pub cause: String,
    /// Hosts that failed since it was opened, and before in the same surge.
    pub failed: u64,
    /// They by name, newest first, at most 1,000.
    pub failed_hosts: Vec<HostId>,
    /// Who is suspected, most first; at most 10.
    pub suspects: Vec<SuspectView>,
    /// Hosts with the first suspect that did not fail, at most 1,000.
    pub at_risk: Vec<HostId>,
    /// How many they are.
    pub at_risk_count: u64,
    /// What a person should do next, as a command where there is one; empty if nothing is proposed.
    pub proposal: String,
}

/// When a rollout will be through, if no further host fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastView {
    /// From now; `None` where that cannot be told.
    pub remaining_ms: Option<Millis>,
    /// What limits it most, in words.
    pub limited_by: String,
    /// Hosts that it does not count, because they cannot be exposed now.
    pub not_counted: u64,
}
