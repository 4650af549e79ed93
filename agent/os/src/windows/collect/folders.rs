//! Folders that tell when something in them changes, so that nobody has to look all the time.

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use windows_sys::Win32::Foundation::{
    HANDLE, INVALID_HANDLE_VALUE, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_NOTIFY_CHANGE_FILE_NAME, FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE,
    FindCloseChangeNotification, FindFirstChangeNotificationW, FindNextChangeNotification,
};
use windows_sys::Win32::System::Threading::WaitForMultipleObjects;

/// What one wait can wait for.
const FOLDERS_MAX: usize = 64;
/// Wakes up this often to see whether anybody listens still.
const WAIT_MS: u32 = 60_000;

/// A folder with all beneath it.
struct Notice(HANDLE);

impl Drop for Notice {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once.
        unsafe { FindCloseChangeNotification(self.0) };
    }
}

impl Notice {
    fn of(folder: &Path) -> Option<Self> {
        let name: Vec<u16> = OsStr::new(folder).encode_wide().chain([0]).collect();
        let what =
            FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_LAST_WRITE | FILE_NOTIFY_CHANGE_SIZE;
        // SAFETY: the name ends with a zero and outlives the call.
        let handle = unsafe { FindFirstChangeNotificationW(name.as_ptr(), 1, what) };
        (handle != INVALID_HANDLE_VALUE).then_some(Self(handle))
    }
}

/// Tells, without saying what, that something changed in one of these folders; many changes may be one
/// word. A folder that cannot be watched tells nothing. Closed where no thread is to be had.
pub(super) fn told(folders: Vec<PathBuf>) -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel(1);
    let started = std::thread::Builder::new()
        .name("folders".to_owned())
        .spawn(move || {
            let notices: Vec<Notice> = folders
                .iter()
                .take(FOLDERS_MAX)
                .filter_map(|folder| Notice::of(folder))
                .collect();
            follow(&notices, &tell);
        });
    if let Err(error) = started {
        tracing::warn!(%error, "folders are looked at from time to time only");
    }
    told
}

fn follow(notices: &[Notice], tell: &mpsc::Sender<()>) {
    let handles: Vec<HANDLE> = notices.iter().map(|notice| notice.0).collect();
    let count = u32::try_from(handles.len()).unwrap_or(0);
    while count > 0 && !tell.is_closed() {
        // SAFETY: so many handles are open for as long as `notices` lives; any one ends the wait.
        let ended = unsafe { WaitForMultipleObjects(count, handles.as_ptr(), 0, WAIT_MS) };
        match ended {
            WAIT_TIMEOUT => continue,
            WAIT_FAILED => return,
            _ => {}
        }
        // Full: somebody is about to look anyway.
        let _ = tell.try_send(());
        let which = usize::try_from(ended.wrapping_sub(WAIT_OBJECT_0)).ok();
        let Some(handle) = which.and_then(|which| handles.get(which)) else {
            return;
        };
        // SAFETY: the handle is open.
        if unsafe { FindNextChangeNotification(*handle) } == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Writes into a folder until a word comes.
    async fn hears(told: &mut mpsc::Receiver<()>, folder: &Path) -> bool {
        for n in 0..100 {
            // The thread may not watch yet when the first one is written.
            std::fs::write(folder.join(format!("C-{n}.sys")), b"0").unwrap();
            let wait = std::time::Duration::from_millis(200);
            if let Ok(word) = tokio::time::timeout(wait, told.recv()).await {
                return word == Some(());
            }
        }
        false
    }

    #[tokio::test]
    async fn a_file_that_appears_in_a_folder_or_beneath_it_is_told_at_once() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("vendor");
        std::fs::create_dir(&deep).unwrap();
        let mut told = told(vec![root.path().join("nowhere"), root.path().to_owned()]);
        assert!(hears(&mut told, root.path()).await);
        if windows_registry::CURRENT_USER
            .open(r"Software\Wine")
            .is_ok()
        {
            eprintln!("skipped: Wine 8 hears nothing of folders that were there before");
            return;
        }
        assert!(hears(&mut told, &deep).await);
    }
}
