//! Processes that dumped core, as systemd-coredump tells the journal. Nothing follows the journal: the
//! folder in which the cores come to lie says when to ask.

use super::watcher::Watcher;
use crate::collect::Teller;
use crate::linux::boottime;
use crate::parse;
use ringward_domain::Millis;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

const CORES: &str = "/var/lib/systemd/coredump";
/// systemd's own number of "a process dumped core".
const MESSAGE_ID: &str = "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1";
/// The entry is written after the core.
const SETTLE: Duration = Duration::from_secs(2);
const SETTLE_TURNS_MAX: usize = 30;
const JOURNALCTL_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries of one look; a process that dumps in a loop is told by its unit.
const ENTRIES_MAX: &str = "-n20";
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The newest entries of this boot, as the journal exports them. The core itself is not among the
/// fields of an entry but where someone configured it so: those bytes are cut off.
async fn entries() -> io::Result<Vec<u8>> {
    let mut child = Command::new("/usr/bin/journalctl")
        .args(["-b", "-o", "json", "--no-pager", ENTRIES_MAX])
        .arg("--output-fields=MESSAGE_ID,COREDUMP_UNIT,COREDUMP_EXE,COREDUMP_COMM,COREDUMP_SIGNAL,COREDUMP_PID,COREDUMP_SIGNAL_NAME,MESSAGE")
        .arg(MESSAGE_ID)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut bytes = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

pub(super) async fn watch(teller: Teller) {
    let watcher = Watcher::new().and_then(|watcher| {
        watcher.add(Path::new(CORES))?;
        Ok(watcher)
    });
    // No systemd-coredump on this machine: its crashes are told by their units.
    let Ok(watcher) = watcher else { return };
    let mut before = BTreeSet::new();
    while watcher.next().await.is_ok() {
        for _ in 0..SETTLE_TURNS_MAX {
            if timeout(SETTLE, watcher.next()).await.is_err() {
                break;
            }
        }
        let Ok(Ok(bytes)) = timeout(JOURNALCTL_TIMEOUT, entries()).await else {
            if !teller
                .lacks("journalctl's answers", "no answer in time")
                .await
            {
                return;
            }
            continue;
        };
        let files = vec![("journal.json".to_owned(), bytes)];
        let Ok(told) = parse::in_child(files).await else {
            continue;
        };
        let dumps = told.into_iter().filter(|found| found.kind == "coredump");
        // The same entries come again with the next core.
        let (known, new): (Vec<_>, Vec<_>) = dumps.partition(|found| before.contains(&found.key));
        before = known
            .iter()
            .chain(&new)
            .map(|found| found.key.clone())
            .collect();
        for found in new {
            let draft = found.draft(teller.boot, Millis(boottime().0));
            if let Some(draft) = draft
                && !teller.tell(draft).await
            {
                return;
            }
        }
    }
}
