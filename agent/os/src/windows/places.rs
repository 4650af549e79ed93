//! Where things are on this OS.

use std::path::PathBuf;

/// Settings of the agent, beneath the root of the system's volume.
pub const SETTINGS_IN_ROOT: &str = "ProgramData/Ringward/agent.toml";

fn program_data() -> PathBuf {
    std::env::var_os("ProgramData").map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from)
}

/// Where the settings are looked for without `--config`.
#[must_use]
pub fn settings() -> PathBuf {
    program_data().join(r"Ringward\agent.toml")
}

/// Where ledger, slots, spool and identity live without settings.
#[must_use]
pub fn state_dir() -> PathBuf {
    program_data().join(r"Ringward\state")
}

/// The system's folder.
pub(super) fn windows() -> PathBuf {
    std::env::var_os("SystemRoot").map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from)
}
