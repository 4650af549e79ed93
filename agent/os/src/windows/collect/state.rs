//! The state of the machine as a whole: a boot into a safe mode, a machine that would stay down after a
//! bugcheck or leave no dump, a volume without junctions, a disk that leaves the agent no room.

use crate::collect::{Place, Teller, room};
use crate::windows::safe_boot;
use ringward_domain::signal::{SignalDraft, SignalKind};
use std::ffi::OsStr;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use windows_sys::Win32::Storage::FileSystem::GetDiskFreeSpaceExW;

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let name: Vec<u16> = OsStr::new(folder).encode_wide().chain([0]).collect();
    let mut free = 0;
    // SAFETY: the name ends with a zero; the out value outlives the call, the others are not asked for.
    let told = unsafe {
        GetDiskFreeSpaceExW(
            name.as_ptr(),
            &mut free,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    match told {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(free),
    }
}

/// What the agent lacks of its disk, in words.
fn disk(root: &Path) -> Option<String> {
    match free_bytes(root) {
        Ok(free) => room::too_little(root, free),
        Err(error) => Some(format!("{}: {error}", root.display())),
    }
}

fn safe_mode(mode: &str, teller: &Teller) -> SignalDraft {
    let key = format!("degraded-boot:{}", teller.boot);
    teller.draft(
        SignalKind::DegradedBoot,
        key,
        format!("the boot is in {mode}"),
    )
}

pub(super) async fn watch(place: Place, teller: Teller) {
    if let Some(mode) = safe_boot::safe_mode()
        && !teller.tell(safe_mode(mode, &teller)).await
    {
        return;
    }
    let stays_down = safe_boot::reboots_by_itself() == Some(false);
    let leaves_none = safe_boot::dumps_enabled() == Some(0);
    for (is_so, what, why) in [
        (
            stays_down,
            "a machine that heals itself",
            "AutoReboot is off: after a bugcheck it waits for a person (set while a release is on trial)",
        ),
        (
            leaves_none,
            "dumps of bugchecks",
            "CrashDumpEnabled is 0: the driver of a bugcheck will not be known",
        ),
    ] {
        if is_so && !teller.lacks(what, why).await {
            return;
        }
    }
    room::watch(&place.root, &teller, disk).await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_disk_with_room_lacks_nothing_and_one_that_is_not_there_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(disk(root.path()), None);
        assert!(disk(Path::new(r"Q:\nowhere")).is_some());
    }
}
