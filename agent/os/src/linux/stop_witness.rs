//! What others on this host say of how the boot before this one ended: the journal and the login
//! records. Asked once a boot, and only where our own marker leaves a doubt.

use crate::marker::{Said, Witnesses};
use ringward_domain::BootId;
use ringward_evidence::linux::wtmp;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const JOURNALCTL: &str = "/usr/bin/journalctl";
/// A journal on a slow disk; the agent's start waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// "Journal stopped": the journal's own last word in a shutdown.
const JOURNAL_STOPPED: &str = "MESSAGE_ID=d93fb3c9c24d451a97cea615ce59c00b";
/// "Unit started", of the target that follows the end of every service.
const UNIT_STARTED: &str = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf";
const SHUTDOWN_TARGET: &str = "UNIT=shutdown.target";
/// Whole records of either size: 384 x 25 and 400 x 24.
const CHUNK_BYTES: u64 = 9600;
const CHUNKS_MAX: u64 = 20;
/// The record of this very boot lies this near to its start; another one's does not.
const SAME_BOOT_S: i64 = 600;

/// Asks both.
pub(super) fn ask(before: BootId, up: Duration) -> Witnesses {
    Witnesses {
        journal: journal(before),
        logins: logins(Path::new("/var/log/wtmp"), up),
    }
}

fn journal(before: BootId) -> Said {
    // A volatile journal knows nothing of other boots.
    match entries(&before, &[]) {
        Some(true) => {}
        Some(false) | None => return Said::Nothing,
    }
    let last_words = [JOURNAL_STOPPED, "+", UNIT_STARTED, SHUTDOWN_TARGET];
    match entries(&before, &last_words) {
        Some(true) => Said::Clean,
        Some(false) => Said::Unclean,
        None => Said::Nothing,
    }
}

/// Whether that boot has an entry of this kind; `None` where the journal does not answer.
fn entries(boot: &BootId, matches: &[&str]) -> Option<bool> {
    let child = Command::new(JOURNALCTL)
        .args(["-q", "-o", "cat", "-n", "1", "--no-pager", "-b"])
        .arg(boot.to_string())
        .args(matches)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let output = ended(child.ok()?)?;
    // It fails for a boot that it does not know, and for matches without an entry.
    Some(!output.is_empty())
}

fn ended(mut child: Child) -> Option<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            // One line at most: it fits into the pipe.
            Ok(Some(_)) => return child.wait_with_output().ok().map(|output| output.stdout),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK_AGAIN),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

fn logins(path: &Path, up: Duration) -> Said {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let begun = now.unwrap_or_default().saturating_sub(up).as_secs();
    match tail(path) {
        Some(bytes) => before_this_boot(&bytes, i64::try_from(begun).unwrap_or(0)),
        None => Said::Nothing,
    }
}

fn tail(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let from = (size / CHUNK_BYTES).saturating_sub(CHUNKS_MAX) * CHUNK_BYTES;
    let length = usize::try_from(size - from).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from).ok()?;
    Some(bytes)
}

/// What stands before the record of the boot that began then.
fn before_this_boot(bytes: &[u8], begun_s: i64) -> Said {
    let (records, _) = wtmp::records(bytes);
    let mut turns = records
        .iter()
        .rev()
        .filter(|record| record.is_boot() || record.is_shutdown());
    let this = turns.next();
    let is_this = this
        .is_some_and(|record| record.is_boot() && (record.time_s - begun_s).abs() <= SAME_BOOT_S);
    match turns.next() {
        _ if !is_this => Said::Nothing,
        Some(record) if record.is_shutdown() => Said::Clean,
        Some(_) => Said::Unclean,
        None => Said::Nothing,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(kind: u16, user: &str, time_s: i32) -> Vec<u8> {
        let mut bytes = vec![0; 384];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[44..44 + user.len()].copy_from_slice(user.as_bytes());
        bytes[340..344].copy_from_slice(&time_s.to_le_bytes());
        bytes
    }

    #[test]
    fn login_records_tell_how_the_boot_before_ended() {
        let (t, hour) = (1_700_000_000, 3600);
        let boot = |at| record(2, "reboot", at);
        let off = |at| record(1, "shutdown", at);
        let login = |at| record(7, "anna", at);
        let said = |parts: &[Vec<u8>]| before_this_boot(&parts.concat(), i64::from(t));
        assert_eq!(
            said(&[boot(t - hour), login(t - 60), boot(t)]),
            Said::Unclean
        );
        assert_eq!(
            said(&[boot(t - hour), off(t - 60), boot(t), login(t + 9)]),
            Said::Clean
        );
        assert_eq!(said(&[boot(t)]), Said::Nothing, "the file begins here");
        assert_eq!(
            said(&[boot(t - 9 * hour), off(t - 8 * hour), boot(t - hour)]),
            Said::Nothing,
            "nobody wrote this boot down"
        );
        assert_eq!(said(&[]), Said::Nothing);
    }

    #[test]
    fn only_the_end_of_a_long_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wtmp");
        let mut bytes = record(7, "anna", 1_600_000_000).repeat(2000);
        bytes.extend(record(2, "reboot", 1_700_000_000));
        std::fs::write(&path, &bytes).unwrap();
        let read = tail(&path).unwrap();
        assert!(read.len() as u64 <= (CHUNKS_MAX + 1) * CHUNK_BYTES);
        assert!(bytes.ends_with(&read));
        assert_eq!(tail(&folder.path().join("none")), None);
    }
}
