//! Isolation by nftables: one table of our own, made and removed in one transaction each.
//!
//! Other tables are never touched; a drop of ours is final whatever they accept. The text stands in
//! the state folder too: a unit loads it before the network comes up (`deploy/agent`). While the
//! host is isolated a watcher puts back what others remove.

mod escapes;
mod nft;
mod rules;
mod watch;

use crate::host::{HostError, HostEvent};
use crate::isolation::{IsolationError, Plan};
use crate::marker::write_durably;
use nft::Nft;
use ringward_domain::BootId;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

pub(super) use escapes::find as escapes;

/// The transaction as the next boot loads it.
const RULES_FILE: &str = "isolation.nft";
/// What the watcher tells and nobody has taken yet.
const EVENTS_MAX: usize = 4;

/// The firewall's part of this host.
#[derive(Debug)]
pub(super) struct Isolation {
    shared: Arc<Shared>,
    told: Mutex<mpsc::Receiver<HostEvent>>,
}

#[derive(Debug)]
struct Shared {
    rules: PathBuf,
    /// Configured place of `nft`.
    program: Option<PathBuf>,
    boot: BootId,
    state: Mutex<State>,
    tell: mpsc::Sender<HostEvent>,
}

#[derive(Debug, Default)]
struct State {
    nft: Option<Nft>,
    standing: Option<Standing>,
    watcher: Option<AbortHandle>,
}

/// Tries to see the same table twice.
const MADE_MAX: usize = 3;

/// What we made.
#[derive(Debug, Clone)]
struct Standing {
    text: String,
    /// As nft listed it right after; anything else is somebody's doing.
    listing: Option<String>,
}

impl Drop for Isolation {
    fn drop(&mut self) {
        // The rules stay: only the process that watched them is gone.
        if let Ok(mut state) = self.shared.state.try_lock()
            && let Some(watcher) = state.watcher.take()
        {
            watcher.abort();
        }
    }
}

impl Isolation {
    pub(super) fn new(root: &Path, program: Option<PathBuf>, boot: BootId) -> Self {
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        Self {
            shared: Arc::new(Shared {
                rules: root.join(RULES_FILE),
                program,
                boot,
                state: Mutex::default(),
                tell,
            }),
            told: Mutex::new(told),
        }
    }

    /// What the watcher tells; never, while it tells nothing.
    pub(super) async fn next_event(&self) -> HostEvent {
        match self.told.lock().await.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Close, or change what stays open; for the next boots too.
    pub(super) async fn close(&self, plan: &Plan) -> Result<(), IsolationError> {
        let mut state = self.shared.state.lock().await;
        let nft = state.nft(self.shared.program.as_deref()).await?;
        let text = rules::text(plan);
        let unchanged = state
            .standing
            .as_ref()
            .is_some_and(|standing| standing.text == text);
        if unchanged && state.undisturbed(&nft).await {
            return Ok(());
        }
        write_durably(&self.shared.rules, text.as_bytes()).map_err(IsolationError::Disk)?;
        let listing = match make(&nft, &text).await {
            Ok(listing) => listing,
            Err(why) => {
                self.shared.forget(state.standing.as_ref())?;
                return Err(IsolationError::Refused {
                    why,
                    next: "try `nft -f` with the file isolation.nft of the state folder by hand",
                });
            }
        };
        state.standing = Some(Standing { text, listing });
        if state.watcher.as_ref().is_none_or(AbortHandle::is_finished) {
            let watcher = tokio::spawn(watch::run(Arc::clone(&self.shared)));
            state.watcher = Some(watcher.abort_handle());
        }
        Ok(())
    }

    /// Open again: the table goes, for the next boots too. Nothing else is touched.
    pub(super) async fn open(&self) -> Result<(), IsolationError> {
        let mut state = self.shared.state.lock().await;
        if let Some(watcher) = state.watcher.take() {
            watcher.abort();
        }
        // The file first: where the process dies in between, the next start removes the table.
        let removed = remove(&self.shared.rules);
        let nft = state.nft(self.shared.program.as_deref()).await?;
        if nft.listing(rules::TABLE).await.is_some() {
            nft.apply(rules::REMOVE)
                .await
                .map_err(|why| IsolationError::Refused {
                    why,
                    next: "run `nft delete table inet ringward` by hand",
                })?;
        }
        state.standing = None;
        removed.map_err(IsolationError::Disk)
    }

    /// Whether there is a usable `nft`; said in the log where there is none.
    pub(super) async fn able(&self) -> bool {
        let mut state = self.shared.state.lock().await;
        match state.nft(self.shared.program.as_deref()).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "no isolation on this host");
                false
            }
        }
    }

    /// Whether our table stands, whoever loaded it.
    pub(super) async fn stands(&self) -> bool {
        let mut state = self.shared.state.lock().await;
        match state.nft(self.shared.program.as_deref()).await {
            Ok(nft) => nft.listing(rules::TABLE).await.is_some(),
            Err(_) => false,
        }
    }
}

/// By what a machine is isolated.
pub(super) async fn means(program: Option<&Path>) -> Result<&'static str, IsolationError> {
    Nft::find(program).await.map(|_| "nftables")
}

/// Makes the table, and learns how nft lists it. Somebody may change it between the two: believed is
/// what two transactions in a row come to.
async fn make(nft: &Nft, text: &str) -> Result<Option<String>, String> {
    nft.apply(text).await?;
    let mut listing = nft.listing(rules::TABLE).await;
    for _ in 0..MADE_MAX {
        nft.apply(text).await?;
        let again = nft.listing(rules::TABLE).await;
        if again.is_some() && again == listing {
            break;
        }
        listing = again;
    }
    Ok(listing)
}

impl State {
    async fn nft(&mut self, program: Option<&Path>) -> Result<Nft, IsolationError> {
        if self.nft.is_none() {
            self.nft = Some(Nft::find(program).await?);
        }
        Ok(self.nft.clone().expect("it was found or returned above"))
    }

    /// Whether the table is as we made it.
    async fn undisturbed(&self, nft: &Nft) -> bool {
        match &self.standing {
            Some(standing) => {
                standing.listing.is_some() && nft.listing(rules::TABLE).await == standing.listing
            }
            None => true,
        }
    }
}

impl Shared {
    /// The file as it was before an attempt that failed.
    fn forget(&self, standing: Option<&Standing>) -> Result<(), IsolationError> {
        match standing {
            Some(standing) => write_durably(&self.rules, standing.text.as_bytes()),
            None => remove(&self.rules),
        }
        .map_err(IsolationError::Disk)
    }
}

fn remove(path: &Path) -> Result<(), HostError> {
    let failed = |source| HostError::File {
        doing: "removing",
        path: path.display().to_string(),
        next: "check that the state folder is writable",
        source,
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(failed)?,
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// The resolvers that this host is configured with; behind a local stub, those of the stub.
pub(super) fn resolvers(top: &Path) -> std::collections::BTreeSet<std::net::IpAddr> {
    ["etc/resolv.conf", "run/systemd/resolve/resolv.conf"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(top.join(path)).ok())
        .flat_map(|text| nameservers(&text))
        .collect()
}

fn nameservers(text: &str) -> Vec<std::net::IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            // A zone (`fe80::1%eth0`) is no part of the address.
            words.next()?.split('%').next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn resolvers_are_read_as_resolv_conf_has_them() {
        let text = "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.53\n\
            nameserver\tfe80::1%eth0\nnameserver nonsense\noptions edns0\n";
        let expected: Vec<std::net::IpAddr> = ["192.0.2.53", "fe80::1"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        assert_eq!(nameservers(text), expected);
    }

    #[tokio::test]
    async fn a_host_without_nft_says_so_and_keeps_no_rules() {
        let root = tempfile::tempdir().unwrap();
        let absent = Some(root.path().join("no-nft"));
        let isolation = Isolation::new(root.path(), absent, BootId([1; 16]));
        let error = isolation.close(&Plan::default()).await.unwrap_err();
        assert!(
            matches!(error, IsolationError::Unsupported { .. }),
            "{error}"
        );
        assert!(!root.path().join(RULES_FILE).exists());
    }

    #[tokio::test]
    async fn refused_rules_are_not_left_for_the_next_boot() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("nft");
        let says = "#!/bin/sh\n[ $1 = --version ] && echo 'nftables v1.0.6' && exit\nexit 1\n";
        std::fs::write(&program, says).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let isolation = Isolation::new(root.path(), Some(program), BootId([1; 16]));
        let error = isolation.close(&Plan::default()).await.unwrap_err();
        assert!(matches!(error, IsolationError::Refused { .. }), "{error}");
        assert!(!root.path().join(RULES_FILE).exists());
    }
}
