//! The clean-stop marker: our own fsynced word that the agent was stopped in good order, and why.
//!
//! Two small files in the state folder. `clean-stop` is written at a stop and consumed at the next
//! start. `last-stop` keeps the answer for the running boot, so that a second start of the agent in
//! the same boot does not take the missing marker for an unclean boot.
//!
//! The marker is about the agent. It says nothing of a host that ran on without it: stopped by a person
//! long before the power went, or killed long before a shutdown in good order. There others are asked.

use crate::host::{HostError, StopReason};
use ringward_domain::BootId;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

const MARKER: &str = "clean-stop";
const ANSWER: &str = "last-stop";
const NEXT: &str = "check that the state folder is on a writable disk with space left";

/// The marker's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    boot: BootId,
    reason: StopReason,
}

/// What was found at a boot's first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    boot: BootId,
    /// Absent where it could not be known.
    clean: Option<bool>,
    /// The boot that was seen before this one.
    #[serde(default)]
    before: Option<BootId>,
}

/// What somebody else on the host says of how a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Said {
    /// Shut down in good order.
    Clean,
    /// It ended without a last word.
    Unclean,
    /// It is not there, or knows nothing of that boot.
    #[default]
    Nothing,
}

/// Who else is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Witnesses {
    /// The system's journal.
    pub journal: Said,
    /// The login records.
    pub logins: Said,
}

/// How the stop before a boot is judged where our marker alone would leave a doubt.
fn judge(marker: Option<StopReason>, others: Witnesses) -> bool {
    let said = [others.journal, others.logins];
    let any = |word| said.contains(&word);
    match marker {
        // Written when the system was going down already.
        Some(StopReason::AgentReboot | StopReason::SystemShutdown) => true,
        // The host ran on without us; one witness of a crash is enough where nobody denies it.
        Some(StopReason::UserStop) => !any(Said::Unclean) || any(Said::Clean),
        // The agent died before. The journal writes its last word when nothing runs any more; a login
        // record stands at the begin of a shutdown, in which the host may still have died.
        None => others.journal == Said::Clean && others.logins != Said::Unclean,
    }
}

/// Write a small file so that it is wholly there or wholly not: temporary file, fsync, rename, fsync
/// of the folder.
///
/// # Errors
/// With the path, when any of the steps failed.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), HostError> {
    let failed = |source| HostError::File {
        doing: "writing",
        path: path.display().to_string(),
        next: NEXT,
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    ringward_guard::sync_folder(folder).map_err(failed)
}

/// Read a small file; `None` where there is none.
///
/// # Errors
/// With the path, when it exists and cannot be read as text.
pub fn read_small(path: &Path) -> Result<Option<String>, HostError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HostError::File {
            doing: "reading",
            path: path.display().to_string(),
            next: NEXT,
            source,
        }),
    }
}

/// Write the marker of this boot.
///
/// # Errors
/// The marker is not durable.
pub fn write(root: &Path, boot: BootId, reason: StopReason) -> Result<(), HostError> {
    write_durably(
        &root.join(MARKER),
        to_toml(&Marker { boot, reason }).as_bytes(),
    )
}

/// Consume the marker at the start of the agent and tell whether the stop before this *boot* was
/// clean. `None` at the very first start and where the files cannot be read.
///
/// # Errors
/// The answer could not be kept for further starts in this boot.
pub fn consume(root: &Path, boot: BootId) -> Result<Option<bool>, HostError> {
    consume_with(root, boot, |_| Witnesses::default())
}

/// [`consume`], asking others where the marker leaves a doubt; `ask` is given the boot before.
///
/// # Errors
/// As [`consume`].
pub fn consume_with(
    root: &Path,
    boot: BootId,
    ask: impl FnOnce(BootId) -> Witnesses,
) -> Result<Option<bool>, HostError> {
    let (marker_path, answer_path) = (root.join(MARKER), root.join(ANSWER));
    let before: Option<Answer> = parse(&answer_path);
    let marker: Option<Marker> = parse(&marker_path);
    let boot_before = before
        .as_ref()
        .and_then(|answer| match answer.boot == boot {
            true => answer.before,
            false => Some(answer.boot),
        });
    let clean = match before {
        Some(answer) if answer.boot == boot => answer.clean,
        // The marker must tell of the boot that we saw last: an older one proves nothing.
        Some(answer) => {
            let marker = marker.filter(|marker| marker.boot == answer.boot);
            let reason = marker.map(|marker| marker.reason);
            let others = match reason {
                Some(StopReason::AgentReboot | StopReason::SystemShutdown) => Witnesses::default(),
                Some(StopReason::UserStop) | None => ask(answer.boot),
            };
            tracing::info!(marker = ?reason, journal = ?others.journal, logins = ?others.logins, "the stop before this boot");
            Some(judge(reason, others))
        }
        None => marker.map(|_| true),
    };
    write_durably(
        &answer_path,
        to_toml(&Answer {
            boot,
            clean,
            before: boot_before,
        })
        .as_bytes(),
    )?;
    match std::fs::remove_file(&marker_path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(HostError::File {
            doing: "removing",
            path: marker_path.display().to_string(),
            next: NEXT,
            source: error,
        }),
        _ => Ok(clean),
    }
}

/// The boot that was seen before the running one, as [`consume`] found it.
#[must_use]
pub fn boot_before(root: &Path) -> Option<BootId> {
    parse::<Answer>(&root.join(ANSWER))?.before
}

/// Unreadable or damaged counts as absent: a marker is proof only when it is whole.
fn parse<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    toml::from_str(&read_small(path).ok()??).ok()
}

fn to_toml<T: Serialize>(value: &T) -> String {
    toml::to_string(value).expect("plain structs of ids and names always serialise")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn boot(n: u8) -> BootId {
        BootId([n; 16])
    }

    #[test]
    fn a_first_start_knows_nothing_of_the_stop_before() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(consume(root.path(), boot(1)).unwrap(), None);
    }

    #[test]
    fn a_boot_after_a_marker_is_clean_and_after_none_unclean() {
        let root = tempfile::tempdir().unwrap();
        consume(root.path(), boot(1)).unwrap();
        write(root.path(), boot(1), StopReason::AgentReboot).unwrap();
        assert_eq!(consume(root.path(), boot(2)).unwrap(), Some(true));
        assert_eq!(boot_before(root.path()), Some(boot(1)));
        assert_eq!(consume(root.path(), boot(3)).unwrap(), Some(false));
        assert_eq!(consume(root.path(), boot(3)).unwrap(), Some(false));
        assert_eq!(boot_before(root.path()), Some(boot(2)));
    }

    #[test]
    fn a_second_start_in_one_boot_repeats_the_first_answer() {
        let root = tempfile::tempdir().unwrap();
        consume(root.path(), boot(1)).unwrap();
        write(root.path(), boot(1), StopReason::SystemShutdown).unwrap();
        assert_eq!(consume(root.path(), boot(2)).unwrap(), Some(true));
        assert_eq!(consume(root.path(), boot(2)).unwrap(), Some(true));
    }

    #[test]
    fn a_stop_in_the_same_boot_does_not_make_a_later_crash_clean() {
        let root = tempfile::tempdir().unwrap();
        consume(root.path(), boot(1)).unwrap();
        write(root.path(), boot(1), StopReason::UserStop).unwrap();
        consume(root.path(), boot(1)).unwrap();
        assert_eq!(consume(root.path(), boot(2)).unwrap(), Some(false));
    }

    #[test]
    fn others_are_asked_where_the_marker_leaves_a_doubt() {
        use Said::{Clean, Nothing, Unclean};
        let stopped_with = |reason: Option<StopReason>, journal, logins| {
            let root = tempfile::tempdir().unwrap();
            consume(root.path(), boot(1)).unwrap();
            if let Some(reason) = reason {
                write(root.path(), boot(1), reason).unwrap();
            }
            let ask = |before| {
                assert_eq!(before, boot(1));
                Witnesses { journal, logins }
            };
            let clean = consume_with(root.path(), boot(2), ask).unwrap();
            let again = consume_with(root.path(), boot(2), |_| panic!("asked once a boot"));
            assert_eq!(again.unwrap(), clean);
            clean.unwrap()
        };
        // A person stopped the agent; later the host died, or not.
        assert!(!stopped_with(Some(StopReason::UserStop), Unclean, Nothing));
        assert!(!stopped_with(Some(StopReason::UserStop), Nothing, Unclean));
        assert!(stopped_with(Some(StopReason::UserStop), Clean, Unclean));
        assert!(stopped_with(Some(StopReason::UserStop), Nothing, Nothing));
        // The agent died; later the host was shut down in good order, or not.
        assert!(stopped_with(None, Clean, Nothing));
        assert!(!stopped_with(None, Clean, Unclean));
        assert!(
            !stopped_with(None, Nothing, Clean),
            "it may die on the way down"
        );
        assert!(!stopped_with(None, Nothing, Nothing));
        // Nobody needs to be asked.
        assert!(stopped_with(
            Some(StopReason::AgentReboot),
            Unclean,
            Unclean
        ));
    }

    #[test]
    fn a_torn_marker_proves_nothing() {
        let root = tempfile::tempdir().unwrap();
        consume(root.path(), boot(1)).unwrap();
        std::fs::write(root.path().join(MARKER), b"boot = \"01").unwrap();
        assert_eq!(consume(root.path(), boot(2)).unwrap(), Some(false));
    }
}
