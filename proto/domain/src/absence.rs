//! Announced absence: the only silence that is not failure (DESIGN §2.1).

use serde::{Deserialize, Serialize};

/// Why a host says, before it takes effect, that it will be away. A reboot, or a shutdown whose kind
/// is unknown, is never announced as absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// The machine goes to sleep.
    Suspend,
    /// The machine is switched off in an orderly way.
    PowerOff,
    /// A person stopped the agent's service.
    UserStop,
}
