//! What people find in the Event Viewer: the agent's starts, stops and failures.

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, RegisterEventSourceW,
    ReportEventW,
};

/// Registered by the installer, with the system's own file of messages that say what they are given.
const SOURCE: &str = "Ringward";
/// The one message of that file that is plain text.
const MESSAGE: u32 = 1;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Information,
    Error,
}

/// Writes one entry of the Application log. Where that fails there is nobody to tell.
pub(super) fn say(level: Level, text: &str) {
    let wide = |text: &str| -> Vec<u16> { OsStr::new(text).encode_wide().chain([0]).collect() };
    let (source, text) = (wide(SOURCE), wide(text));
    let kind = match level {
        Level::Information => EVENTLOG_INFORMATION_TYPE,
        Level::Error => EVENTLOG_ERROR_TYPE,
    };
    let strings = [text.as_ptr()];
    // SAFETY: both texts end with a zero and outlive the calls; one string is given and counted; the
    // handle is closed after its one use.
    unsafe {
        let log = RegisterEventSourceW(std::ptr::null(), source.as_ptr());
        if log.is_null() {
            return;
        }
        ReportEventW(
            log,
            kind,
            0,
            MESSAGE,
            std::ptr::null_mut(),
            1,
            0,
            strings.as_ptr(),
            std::ptr::null(),
        );
        DeregisterEventSource(log);
    }
}
