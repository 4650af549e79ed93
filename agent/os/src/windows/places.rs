//! Where things are on this OS.

use std::path::PathBuf;
use windows_registry::LOCAL_MACHINE;

/// Settings of the agent, beneath the root of the system's volume.
pub const SETTINGS_IN_ROOT: &str = "ProgramData/Ringward/agent.toml";

/// Where the system itself has written down where that folder is.
const PROFILES: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\ProfileList";

/// From the registry: an environment is whatever the caller made of it, and not the same for services
/// and people everywhere.
fn program_data() -> PathBuf {
    let told = LOCAL_MACHINE.open(PROFILES).ok();
    let told = told.and_then(|key| key.get_string("ProgramData").ok());
    let told = told.unwrap_or_else(|| r"%SystemDrive%\ProgramData".to_owned());
    match strip_prefix_ignoring_case(&told, "%SystemDrive%") {
        Some(rest) => PathBuf::from(system_drive() + rest),
        None => PathBuf::from(told),
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// `C:`.
fn system_drive() -> String {
    let windows = windows();
    let drive = windows.components().next();
    drive.map_or_else(
        || "C:".to_owned(),
        |drive| drive.as_os_str().to_string_lossy().into_owned(),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_folder_is_where_the_system_keeps_such_data_whatever_the_environment_says() {
        let state = state_dir();
        assert!(state.is_absolute(), "{state:?}");
        assert!(state.ends_with(r"ProgramData\Ringward\state"), "{state:?}");
    }

    #[test]
    fn a_prefix_is_found_in_any_case_and_never_inside_a_character() {
        assert_eq!(
            strip_prefix_ignoring_case(r"%systemdrive%\x", "%SystemDrive%"),
            Some(r"\x")
        );
        assert_eq!(strip_prefix_ignoring_case("ä", "%"), None);
    }
}
