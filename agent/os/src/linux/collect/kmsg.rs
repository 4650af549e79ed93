//! The running kernel's log: oopses, warnings, lockups, kills for memory, as they happen.

use super::watcher::registered;
use crate::collect::{Found, Place, Seen, Teller};
use crate::linux::boottime;
use ringward_domain::Millis;
use ringward_domain::signal::SignalKind;
use ringward_evidence::finding::Item;
use ringward_evidence::linux::klog::{KernelLog, Origin};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

const KMSG: &str = "/dev/kmsg";
/// One record; the kernel writes none longer.
const RECORD_BYTES_MAX: usize = 8192;
/// A report whose lines stopped coming for this long is complete.
const QUIET: Duration = Duration::from_millis(1500);
/// Taint bits that tell of something that happened, and what.
const TAINTS: [(u32, &str); 2] = [(7, "it died once (oops or BUG)"), (14, "a CPU locked up")];

/// The sequence number of a record (`level,sequence,microseconds,flags;text`).
fn sequence(record: &[u8]) -> Option<u64> {
    let mut fields = record.split(|&b| b == b',');
    let number = fields.nth(1)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Follows the log, and tells what is told nowhere else: a taint without its report.
pub(super) async fn follow(place: Place, teller: Teller) {
    let opened = open(Path::new(KMSG));
    if opened.is_err() && !tell_taint(Path::new("/proc/sys/kernel/tainted"), &teller).await {
        return;
    }
    match opened {
        Ok(log) => read_on(&log, &place, &teller).await,
        Err(error) => {
            let why = format!("{KMSG}: {error}");
            teller.lacks("sight of the kernel's log", &why).await;
        }
    }
}

fn open(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    registered(file.into())
}

async fn tell_taint(path: &Path, teller: &Teller) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let taint: u64 = text.trim().parse().unwrap_or(0);
    for (bit, what) in TAINTS {
        if taint >> bit & 1 == 1 {
            let key = format!("taint:{bit}:{}", teller.boot);
            let title = format!("the kernel is tainted: {what}");
            let draft = teller.draft(SignalKind::KernelOops, key, title);
            if !teller.tell(draft).await {
                return false;
            }
        }
    }
    true
}

async fn read_on(file: &AsyncFd<OwnedFd>, place: &Place, teller: &Teller) {
    // What was told before a restart of the agent in this boot is not told again.
    let mut seen = Seen::open(&place.root, "kmsg-seen");
    let mut told = Told::of(&seen, &place.boot.to_string());
    let mut log = KernelLog::new(Origin::default());
    let mut record = vec![0; RECORD_BYTES_MAX];
    let mut open = false;
    loop {
        let patience = if open { QUIET } else { Duration::MAX };
        let ready = timeout(patience, file.readable()).await;
        let mut ready = match ready {
            Ok(Ok(ready)) => ready,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the kernel's log is not followed any more");
                return;
            }
            Err(_) => {
                open = false;
                log.finish();
                if !tell(log.take(), teller).await {
                    return;
                }
                told.settle();
                seen.keep([told.line()].into());
                continue;
            }
        };
        // A log that floods is read in turns, so that the agent's other work goes on.
        for _ in 0..256 {
            match rustix::io::read(file.get_ref(), &mut record).map_err(io::Error::from) {
                Ok(0) => return,
                Ok(length) => {
                    let record = &record[..length];
                    if told.is_new(sequence(record)) {
                        let end = record.iter().position(|&b| b == b'\n').unwrap_or(length);
                        log.push(&record[..end]);
                        open = true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                // Records that were overwritten before they were read, and interruptions.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "the kernel's log is not followed any more");
                    return;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// How far the log was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    boot: String,
    through: Option<u64>,
    latest: Option<u64>,
}

impl Told {
    fn of(seen: &Seen, boot: &str) -> Self {
        let prefix = format!("{boot} ");
        let through = seen
            .first_with(&prefix)
            .and_then(|line| line.strip_prefix(&prefix)?.parse().ok());
        Self {
            boot: boot.to_owned(),
            through,
            latest: through,
        }
    }

    fn is_new(&mut self, sequence: Option<u64>) -> bool {
        let Some(sequence) = sequence else {
            return true;
        };
        self.latest = self.latest.max(Some(sequence));
        self.through.is_none_or(|through| sequence > through)
    }

    fn settle(&mut self) {
        self.through = self.latest;
    }

    fn line(&self) -> String {
        format!("{} {}", self.boot, self.through.unwrap_or(0))
    }
}

async fn tell(items: Vec<Item>, teller: &Teller) -> bool {
    for item in items {
        let Item::Finding(finding) = item else {
            continue;
        };
        let monotonic_us = finding
            .evidence
            .get("monotonic_us")
            .and_then(|n| n.as_u64());
        let at = monotonic_us.map_or(Millis(boottime().0), |us| Millis(us / 1000));
        if let Some(draft) = Found::from(finding).draft(teller.boot, at)
            && !teller.tell(draft).await
        {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_restart_of_the_agent_begins_where_it_stopped_and_a_boot_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let mut seen = Seen::open(root.path(), "kmsg-seen");
        let mut told = Told::of(&seen, "b1");
        assert!(told.is_new(Some(0)) && told.is_new(Some(7)));
        told.settle();
        seen.keep([told.line()].into());
        let seen = Seen::open(root.path(), "kmsg-seen");
        let mut again = Told::of(&seen, "b1");
        assert!(!again.is_new(Some(7)) && again.is_new(Some(8)));
        assert!(Told::of(&seen, "b2").is_new(Some(0)));
    }

    #[test]
    fn a_record_has_its_number_in_front() {
        assert_eq!(sequence(b"6,339,5140900,-;NET: Registered"), Some(339));
        assert_eq!(sequence(b"nonsense"), None);
    }
}
