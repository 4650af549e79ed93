//! Where things are on this OS.

use std::path::PathBuf;

/// Settings of the agent, beneath the root.
pub const SETTINGS_IN_ROOT: &str = "etc/ringward/agent.toml";

/// Where the settings are looked for without `--config`.
#[must_use]
pub fn settings() -> PathBuf {
    PathBuf::from("/").join(SETTINGS_IN_ROOT)
}

/// Where ledger, slots, spool and identity live without settings.
#[must_use]
pub fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/ringward-agent")
}
