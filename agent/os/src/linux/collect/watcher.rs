//! inotify, as far as the collectors need it: names that appear or change in a few folders.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Room for some hundred events of one reading.
const BUFFER_BYTES: usize = 16 * 1024;

/// Lets the runtime wait for a descriptor.
#[expect(unsafe_code)]
pub(in crate::linux) fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same open descriptor, and only dropping it closes it; the
    // `AsyncFd` owns it and takes it out of the runtime before that.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// Something happened to a name in a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touched {
    /// Number of the watch, as [`Watcher::add`] gave it.
    pub(super) watch: i32,
    /// The name; `None` where events were lost and anything may have happened.
    pub(super) name: Option<String>,
}

/// Watched folders.
#[derive(Debug)]
pub(super) struct Watcher(AsyncFd<OwnedFd>);

impl Watcher {
    pub(super) fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self(registered(fd)?))
    }

    /// Watches a folder for names that appear, are replaced, or were written to their end.
    pub(super) fn add(&self, folder: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(self.0.get_ref(), folder, flags)?)
    }

    /// What happened since the last call; at least one entry.
    pub(super) async fn next(&self) -> io::Result<Vec<Touched>> {
        loop {
            let mut ready = self.0.readable().await?;
            let touched = self.drain()?;
            // One reading took what fits; what is left makes it readable again at once.
            if touched.is_empty() {
                ready.clear_ready();
            } else {
                return Ok(touched);
            }
        }
    }

    fn drain(&self) -> io::Result<Vec<Touched>> {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(self.0.get_ref(), &mut buffer);
        let mut touched = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => touched.push(Touched {
                    watch: event.wd(),
                    name: match event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                        true => None,
                        false => event
                            .file_name()
                            .map(|name| name.to_string_lossy().into_owned()),
                    },
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(touched),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if reader.is_buffer_empty() {
                return Ok(touched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_replaced_link_and_a_written_file_are_seen_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new().unwrap();
        let watch = watcher.add(folder.path()).unwrap();
        std::os::unix::fs::symlink("one", folder.path().join(".new")).unwrap();
        std::fs::rename(folder.path().join(".new"), folder.path().join("unit")).unwrap();
        std::fs::write(folder.path().join("file"), b"x").unwrap();
        let mut names = Vec::new();
        while !names.contains(&"file".to_owned()) {
            for touched in watcher.next().await.unwrap() {
                assert_eq!(touched.watch, watch);
                names.extend(touched.name);
            }
        }
        assert!(names.contains(&"unit".to_owned()), "{names:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_an_error() {
        let watcher = Watcher::new().unwrap();
        assert!(watcher.add(Path::new("/nowhere/at/all")).is_err());
    }
}
