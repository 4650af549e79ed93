//! Clocks and the reboot.

use crate::host::HostError;
use ringward_domain::{Millis, Timestamp};
use std::io;
use windows_sys::Win32::Foundation::{CloseHandle, LUID};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED,
    SE_SHUTDOWN_NAME, TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES, TOKEN_QUERY,
};
use windows_sys::Win32::System::Shutdown::{
    InitiateSystemShutdownExW, SHTDN_REASON_FLAG_PLANNED, SHTDN_REASON_MAJOR_APPLICATION,
    SHTDN_REASON_MINOR_UPGRADE,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

/// Milliseconds since boot, time asleep included. A start from Fast Startup's hibernated kernel goes
/// on counting: it is no boot.
#[must_use]
pub fn boottime() -> Timestamp {
    // SAFETY: takes and writes nothing.
    Timestamp(unsafe { GetTickCount64() })
}

/// Milliseconds since boot, time asleep left out.
#[must_use]
pub fn awake() -> Millis {
    let mut units_100ns = 0;
    // SAFETY: the out value outlives the call.
    match unsafe { QueryUnbiasedInterruptTime(&mut units_100ns) } {
        0 => Millis(boottime().0),
        // The two clocks tick apart by some milliseconds: never ahead of the one with sleep.
        _ => Millis((units_100ns / 10_000).min(boottime().0)),
    }
}

/// Reboots the machine, closing what is open by force: nobody may be there to answer.
pub(super) fn reboot() -> Result<(), HostError> {
    let failed = |source: io::Error| HostError::Command {
        command: "InitiateSystemShutdownEx".to_owned(),
        why: source.to_string(),
        next: "run the agent as a service under LocalSystem",
    };
    may_shut_down().map_err(failed)?;
    let message: Vec<u16> = "Ringward reboots this machine to prove an update.\0"
        .encode_utf16()
        .collect();
    let reason =
        SHTDN_REASON_MAJOR_APPLICATION | SHTDN_REASON_MINOR_UPGRADE | SHTDN_REASON_FLAG_PLANNED;
    // SAFETY: this machine (null); the message ends with a zero and outlives the call.
    let begun =
        unsafe { InitiateSystemShutdownExW(std::ptr::null(), message.as_ptr(), 0, 1, 1, reason) };
    match begun {
        0 => Err(failed(io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// The privilege is held by LocalSystem and administrators, but switched off.
fn may_shut_down() -> io::Result<()> {
    let mut token = std::ptr::null_mut();
    let mut luid = LUID::default();
    // SAFETY: `token` is closed after its last use; all structures outlive the calls; the one
    // privilege that is named stands in the array of one.
    unsafe {
        if LookupPrivilegeValueW(std::ptr::null(), SE_SHUTDOWN_NAME, &mut luid) == 0
            || OpenProcessToken(
                GetCurrentProcess(),
                TOKEN_ADJUST_PRIVILEGES | TOKEN_QUERY,
                &mut token,
            ) == 0
        {
            return Err(io::Error::last_os_error());
        }
        let wanted = TOKEN_PRIVILEGES {
            PrivilegeCount: 1,
            Privileges: [LUID_AND_ATTRIBUTES {
                Luid: luid,
                Attributes: SE_PRIVILEGE_ENABLED,
            }],
        };
        let set = AdjustTokenPrivileges(
            token,
            0,
            &wanted,
            0,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
        // "Not all assigned" is told as a success with this error.
        let error = io::Error::last_os_error();
        CloseHandle(token);
        match (set, error.raw_os_error()) {
            (0, _) => Err(error),
            (_, Some(0)) | (_, None) => Ok(()),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_with_sleep_is_never_behind_the_one_without() {
        let awake_first = awake();
        assert!(boottime().0 >= awake_first.0);
    }
}
