//! Where the control servers are: their names as addresses, remembered on disk, so that an isolated
//! host that starts without a resolver still lets through where they were last.

use ringward_agent_os::marker::{read_small, write_durably};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::timeout;

const FILE: &str = "server-addresses.json";
/// A resolver that answers at all answers within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 16;

/// The servers' addresses as known now; clones share it.
#[derive(Debug, Clone)]
pub struct Servers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Vec<String>,
    file: PathBuf,
    known: Mutex<BTreeMap<String, BTreeSet<SocketAddr>>>,
}

impl Servers {
    /// These servers (`host:port`), with what is remembered of them.
    #[must_use]
    pub fn new(names: Vec<String>, state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let mut known: BTreeMap<String, BTreeSet<SocketAddr>> = read_small(&file)
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        known.retain(|name, _| names.contains(name));
        for name in &names {
            if let Ok(address) = name.parse() {
                known.insert(name.clone(), [address].into());
            }
        }
        Self(Arc::new(Inner {
            names,
            file,
            known: Mutex::new(known),
        }))
    }

    /// As configured.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Whether any is known by name.
    #[must_use]
    pub fn named(&self) -> bool {
        let is_name = |name: &String| name.parse::<SocketAddr>().is_err();
        self.0.names.iter().any(is_name)
    }

    /// All addresses known.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<(IpAddr, u16)> {
        let known = self.known();
        let all = known.values().flatten();
        all.map(|at| (at.ip().to_canonical(), at.port())).collect()
    }

    /// Whether something is known of each.
    #[must_use]
    pub fn all_known(&self) -> bool {
        let known = self.known();
        let known = |name: &String| known.get(name).is_some_and(|at| !at.is_empty());
        self.0.names.iter().all(known)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<SocketAddr>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolve anew. A name that does not resolve keeps what was known of it. Answers whether every
    /// name did.
    pub async fn resolve(&self) -> bool {
        let before = self.known().clone();
        let mut all = true;
        for name in &self.0.names {
            if name.parse::<SocketAddr>().is_ok() {
                continue;
            }
            let found = match timeout(PATIENCE, lookup_host(name)).await {
                Ok(Ok(found)) => found.take(ADDRESSES_MAX).collect::<BTreeSet<_>>(),
                Ok(Err(_)) | Err(_) => BTreeSet::new(),
            };
            match found.is_empty() {
                true => all = false,
                false => drop(self.known().insert(name.clone(), found)),
            }
        }
        let now = self.known().clone();
        if now != before {
            self.remember(&now);
        }
        all
    }

    fn remember(&self, known: &BTreeMap<String, BTreeSet<SocketAddr>>) {
        let text = serde_json::to_vec(known).expect("names and addresses always serialise");
        if let Err(error) = write_durably(&self.0.file, &text) {
            tracing::warn!(%error, "the servers' addresses are not remembered");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_was_resolved_once_is_known_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let names = vec!["localhost:7443".to_owned(), "192.0.2.1:7443".to_owned()];
        let servers = Servers::new(names.clone(), folder.path());
        assert!(servers.named() && !servers.all_known());
        assert!(servers.resolve().await);
        let again = Servers::new(names, folder.path());
        assert!(again.all_known());
        assert_eq!(again.addresses(), servers.addresses());
    }

    #[tokio::test]
    async fn a_name_that_no_longer_resolves_keeps_its_last_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let name = "control.invalid:7443".to_owned();
        let kept = format!("{{\"{name}\":[\"192.0.2.7:7443\"]}}");
        std::fs::write(folder.path().join(FILE), kept).unwrap();
        let servers = Servers::new(vec![name], folder.path());
        assert!(!servers.resolve().await);
        assert_eq!(servers.addresses().len(), 1);
    }

    #[test]
    fn addresses_of_servers_no_longer_configured_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(FILE),
            "{\"old.example:1\":[\"192.0.2.7:1\"]}",
        )
        .unwrap();
        let servers = Servers::new(vec!["192.0.2.1:7443".to_owned()], folder.path());
        assert!(!servers.named());
        assert_eq!(servers.addresses().len(), 1);
    }
}
