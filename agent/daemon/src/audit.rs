//! What this host knows of its server's audit log: the newest head it was shown, and every time the
//! log contradicted an earlier one. A server cannot rewrite its log unseen by the hosts that kept a
//! head of it.

use crate::identity::{self, IdentityError};
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{AuditHead, AuditShown, BootId, Millis};
use ringward_wire::merkle::{Fork, verify_growth};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const FILE: &str = "audit-head.json";
/// Forks kept; a server that forks its log oftener than this has been told of enough.
const FORKS_MAX: usize = 16;

/// One time the log was not what it had been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// The head that this host had verified.
    pub known: AuditHead,
    /// The head that it was shown then.
    pub shown: AuditHead,
    /// Whether the signal of it has reached the spool.
    #[serde(default)]
    pub told: bool,
}

/// What is kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Newest head; none before the first session.
    #[serde(default)]
    pub head: Option<AuditHead>,
    /// Contradictions, oldest first, at most 16.
    #[serde(default)]
    pub forks: Vec<Forked>,
}

impl Kept {
    /// Reads what is kept in a state folder; nothing kept is a fresh start.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = state_dir.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                return Err(IdentityError::File {
                    doing: "reading",
                    path,
                    source,
                });
            }
        };
        serde_json::from_slice(&bytes).map_err(|error| IdentityError::Damaged {
            path,
            why: error.to_string(),
        })
    }
}

/// Checks every head against the one before.
#[derive(Debug)]
pub(crate) struct Witness {
    state_dir: PathBuf,
    kept: Kept,
}

impl Witness {
    /// Goes on from what is kept. A file that cannot be read is set aside by the first new head; that
    /// it was there at all is worth a warning, for with it goes the memory of earlier heads.
    pub(crate) fn open(state_dir: &Path) -> Self {
        let kept = Kept::load(state_dir).unwrap_or_else(|error| {
            tracing::warn!(
                error = crate::link::chain(&error),
                "the audit head known before is lost"
            );
            Kept::default()
        });
        Self {
            state_dir: state_dir.to_owned(),
            kept,
        }
    }

    /// Entries of the head kept; zero where there is none.
    pub(crate) fn known_size(&self) -> u64 {
        self.kept.head.map_or(0, |head| head.size)
    }

    /// Takes in a head. What is told of it comes back as signals: the fork just seen, and earlier
    /// ones that a crash kept from the spool.
    pub(crate) fn take(
        &mut self,
        shown: &AuditShown,
        boot: BootId,
        now: Millis,
    ) -> Vec<SignalDraft> {
        let before = self.kept.clone();
        for fork in &mut self.kept.forks {
            fork.told = true;
        }
        let known = self.kept.head.unwrap_or(AuditHead {
            size: 0,
            ..shown.head
        });
        let mut drafts = Vec::new();
        if let Err(fork) = verify_growth(&known, shown) {
            tracing::error!(%fork, "the server's audit log contradicts what this host was shown");
            drafts.push(draft(&known, &shown.head, &fork, boot, now));
            if self.kept.forks.len() == FORKS_MAX {
                // The first one tells most: it is when the rewriting began.
                self.kept.forks.remove(1);
            }
            self.kept.forks.push(Forked {
                known,
                shown: shown.head,
                told: false,
            });
        }
        // From here on the new log is watched: a second rewriting must not hide behind the first.
        self.kept.head = Some(shown.head);
        if self.kept != before {
            self.write();
        }
        drafts
    }

    /// Signals of forks that a crash kept from the spool; told again at a start.
    pub(crate) fn untold(&self, boot: BootId, now: Millis) -> Vec<SignalDraft> {
        let untold = self.kept.forks.iter().filter(|fork| !fork.told);
        untold
            .map(|fork| {
                let why = Fork::Rewritten {
                    before: fork.known.size,
                };
                draft(&fork.known, &fork.shown, &why, boot, now)
            })
            .collect()
    }

    fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.kept).unwrap_or_default();
        let path = self.state_dir.join(FILE);
        if let Err(error) = identity::write_private(&path, &text) {
            tracing::warn!(
                error = crate::link::chain(&error),
                "the audit head is not kept; the next one is"
            );
        }
    }
}

fn draft(
    known: &AuditHead,
    shown: &AuditHead,
    why: &Fork,
    boot: BootId,
    now: Millis,
) -> SignalDraft {
    let evidence = serde_json::json!({
        "known_size": known.size,
        "known_root": known.root,
        "shown_size": shown.size,
        "shown_root": shown.root,
    });
    let short: String = shown.root.to_string().chars().take(16).collect();
    SignalDraft {
        kind: SignalKind::AuditFork,
        key: format!("audit-fork:{}:{short}", known.size),
        boot,
        at_boottime: now,
        title: format!("{why}: the server was restored from a backup, or somebody rewrote it"),
        signature: String::new(),
        evidence: evidence.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_wire::merkle::{Tree, leaf};

    const BOOT: BootId = BootId([1; 16]);

    fn log(entries: u64, rewritten: Option<u64>) -> Tree {
        let mut tree = Tree::default();
        for i in 0..entries {
            let text = match rewritten == Some(i) {
                true => "nothing happened here".to_owned(),
                false => format!("entry {i}"),
            };
            tree.push(leaf(text.as_bytes()));
        }
        tree
    }

    fn shown(tree: &Tree, from: u64) -> AuditShown {
        // Small trees: everything is in the tail.
        tree.shown(from, &[]).unwrap()
    }

    #[test]
    fn a_log_that_grows_is_followed_over_restarts_without_a_word() {
        let state = tempfile::tempdir().unwrap();
        for size in [3, 3, 7, 20] {
            let mut witness = Witness::open(state.path());
            let known = witness.known_size();
            let head = shown(&log(size, None), known);
            assert!(witness.take(&head, BOOT, Millis(1)).is_empty());
            assert_eq!(witness.known_size(), size);
        }
        assert!(Kept::load(state.path()).unwrap().forks.is_empty());
    }

    #[test]
    fn a_rewritten_entry_is_told_once_and_told_again_where_a_crash_came_first() {
        let state = tempfile::tempdir().unwrap();
        let mut witness = Witness::open(state.path());
        witness.take(&shown(&log(5, None), 0), BOOT, Millis(1));
        let forged = log(9, Some(2));
        let told = witness.take(&shown(&forged, 5), BOOT, Millis(1));
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].kind, SignalKind::AuditFork);
        // A crash before the spool took it.
        let mut witness = Witness::open(state.path());
        assert_eq!(witness.untold(BOOT, Millis(2))[0].key, told[0].key);
        // The forged log is watched in turn.
        assert!(witness.take(&shown(&forged, 9), BOOT, Millis(1)).is_empty());
        assert!(
            Witness::open(state.path())
                .untold(BOOT, Millis(2))
                .is_empty()
        );
        let again = witness.take(&shown(&log(9, Some(3)), 9), BOOT, Millis(1));
        assert_eq!(again.len(), 1);
        assert_eq!(Kept::load(state.path()).unwrap().forks.len(), 2);
    }

    #[test]
    fn a_shorter_log_is_a_fork_and_the_list_of_forks_is_bounded() {
        let state = tempfile::tempdir().unwrap();
        let mut witness = Witness::open(state.path());
        witness.take(&shown(&log(9, None), 0), BOOT, Millis(1));
        let told = witness.take(&shown(&log(4, None), 9), BOOT, Millis(1));
        assert!(told[0].title.contains("had 9"), "{}", told[0].title);
        for i in 0..40 {
            let size = witness.known_size();
            let tree = log(4, Some(i % 4));
            witness.take(&shown(&tree, size), BOOT, Millis(1));
        }
        let kept = Kept::load(state.path()).unwrap();
        assert_eq!(kept.forks.len(), FORKS_MAX);
        assert_eq!(kept.forks[0].known.size, 9);
    }

    #[test]
    fn a_damaged_file_is_replaced_by_the_next_head() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), "{").unwrap();
        assert!(Kept::load(state.path()).is_err());
        let mut witness = Witness::open(state.path());
        witness.take(&shown(&log(4, None), 0), BOOT, Millis(1));
        assert_eq!(Kept::load(state.path()).unwrap().head.unwrap().size, 4);
    }
}
