//! Whose rules decide.

use serde::{Deserialize, Serialize};

/// Whose rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The server's own rollout machine.
    Ringward,
    /// Groups that start each other on success and stop on reported errors.
    HawkbitThreshold,
    /// Groups that start at fixed times.
    TimeWaves,
}

impl std::str::FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ringward" => Ok(Self::Ringward),
            "hawkbit-threshold" => Ok(Self::HawkbitThreshold),
            "time-waves" => Ok(Self::TimeWaves),
            _ => Err(format!(
                "no policy `{text}`; there are ringward, hawkbit-threshold, time-waves"
            )),
        }
    }
}

impl PolicyName {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ringward => "ringward",
            Self::HawkbitThreshold => "hawkbit-threshold",
            Self::TimeWaves => "time-waves",
        }
    }
}
