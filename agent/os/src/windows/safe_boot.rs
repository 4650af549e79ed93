//! How the machine comes back: by itself after a bugcheck, and in which mode it is now.

use windows_registry::LOCAL_MACHINE;

const CRASH_CONTROL: &str = r"SYSTEM\CurrentControlSet\Control\CrashControl";
const AUTO_REBOOT: &str = "AutoReboot";
const OPTION: &str = r"SYSTEM\CurrentControlSet\Control\SafeBoot\Option";

/// Whether the machine reboots after a bugcheck; `None` where it does not say (then it does).
pub(super) fn reboots_by_itself() -> Option<bool> {
    let key = LOCAL_MACHINE.open(CRASH_CONTROL).ok()?;
    Some(key.get_u32(AUTO_REBOOT).ok()? != 0)
}

/// Makes it reboot by itself, or not.
///
/// # Errors
/// In words, why the registry is not written.
pub(super) fn set_reboots_by_itself(reboots: bool) -> Result<(), String> {
    let mut options = LOCAL_MACHINE.options();
    let key = options.read().write().create().open(CRASH_CONTROL);
    let key = key.map_err(|error| error.to_string())?;
    key.set_u32(AUTO_REBOOT, u32::from(reboots))
        .map_err(|error| error.to_string())
}

/// In words, the mode in which only a few services run: `None` in a usual boot.
pub(super) fn safe_mode() -> Option<&'static str> {
    let key = LOCAL_MACHINE.open(OPTION).ok()?;
    match key.get_u32("OptionValue").ok()? {
        1 => Some("Safe Mode"),
        2 => Some("Safe Mode with Networking"),
        _ => Some("a safe mode"),
    }
}

/// Which dumps the machine writes at a bugcheck; `Some(0)` is none.
pub(super) fn dumps_enabled() -> Option<u32> {
    let key = LOCAL_MACHINE.open(CRASH_CONTROL).ok()?;
    key.get_u32("CrashDumpEnabled").ok()
}

/// Where small dumps are written, as the registry says.
pub(super) fn minidump_dir() -> Option<String> {
    let key = LOCAL_MACHINE.open(CRASH_CONTROL).ok()?;
    key.get_string("MinidumpDir").ok()
}
