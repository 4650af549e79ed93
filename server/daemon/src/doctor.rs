//! `ringward-server doctor`: looks a data directory over and says what is wrong and what to do.

use crate::clock::unix_ms;
use crate::config::{Config, Engine};
use crate::data_dir::{check_private, read_bounded};
use crate::error::{ServerError, chain};
use crate::init::server_names;
use crate::pki::{Pki, Which, certificate_validity};
use crate::release_check::load_root;
use ringward_domain::AuditHead;
use ringward_store::{AnyStore, Store as _};
use ringward_wire::merkle::{Tree, leaf};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Days before the end of a certificate at which it is worth a word.
const SOON_DAYS: u64 = 60;
/// Entries of the audit log read in one page.
const AUDIT_PAGE: usize = 512;
/// Bytes of a file that keeps a head.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    good: Vec<String>,
    problems: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.problems.is_empty()
    }

    fn note(&mut self, what: &str, result: Result<String, ServerError>) {
        match result {
            Ok(said) => self.good.push(format!("{what}: {said}")),
            Err(error) => self.problems.push(format!("{what}: {}", chain(&error))),
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.good {
            writeln!(f, "ok       {line}")?;
        }
        for line in &self.problems {
            writeln!(f, "PROBLEM  {line}")?;
        }
        match self.problems.len() {
            0 => f.write_str("nothing wrong"),
            n => write!(f, "{n} to look after"),
        }
    }
}

/// Looks over what `config` names. Opens the store, so the server must not be running. The audit log must
/// add to every head that the files `heads` keep.
pub fn doctor(config: &Config, heads: &[PathBuf]) -> Findings {
    let mut findings = Findings::default();
    let root = config.data.root();
    findings.note(
        "data directory",
        check_private(root).map(|()| format!("{} is private", root.display())),
    );
    match Pki::load(&config.data.pki()) {
        Ok(pki) => check_pki(&pki, config, &mut findings),
        Err(error) => findings.note("certificates", Err(error)),
    }
    findings.note(
        "release root",
        load_root(&config.data).map(|root| match root {
            Some(root) => format!(
                "version {}, {} of {} keys must sign",
                root.version,
                root.threshold,
                root.keys.len()
            ),
            None => "none yet: nothing can be published".to_owned(),
        }),
    );
    if config.engine == Engine::Sled {
        check_store(config, &mut findings);
        if findings.is_healthy() && config.data.store().exists() {
            check_audit(config, heads, &mut findings);
        }
    }
    findings
}

fn check_pki(pki: &Pki, config: &Config, findings: &mut Findings) {
    findings.note(
        "root certificate",
        pki.root_der().and_then(|der| remaining(&der)),
    );
    for (which, address) in [
        (Which::Agents, &config.agents.address),
        (Which::Admins, &config.admins.address),
    ] {
        findings.note(
            &format!("{} intermediate", which.name()),
            pki.intermediate_der(which).and_then(|der| remaining(&der)),
        );
        let server = server_names(address)
            .and_then(|names| pki.server_certificate(which, &names))
            .and_then(|(chain, _)| match chain.first() {
                Some(leaf) => remaining(leaf),
                None => Err(ServerError::refused(
                    "it is empty",
                    "restore the pki folder",
                )),
            });
        findings.note(&format!("{} server certificate", which.name()), server);
    }
}

fn remaining(der: &[u8]) -> Result<String, ServerError> {
    let restore = "restore the pki folder from a backup";
    let (_, end) = certificate_validity(der)
        .ok_or_else(|| ServerError::refused("it cannot be parsed", restore))?;
    let days = end.saturating_sub(unix_ms() / 1000) / 86_400;
    if days < SOON_DAYS {
        return Err(ServerError::refused(
            format!("it ends in {days} days"),
            "server certificates renew at the next start; others need a new authority",
        ));
    }
    Ok(format!("valid for {days} more days"))
}

fn check_store(config: &Config, findings: &mut Findings) {
    let path = config.data.store();
    if !path.exists() {
        findings
            .good
            .push("store: none yet, made at the first start".to_owned());
        return;
    }
    match ringward_store::doctor(&path) {
        Ok(report) => {
            let lines = if report.healthy() {
                &mut findings.good
            } else {
                &mut findings.problems
            };
            lines.push(report.to_string());
        }
        Err(source) => findings.note(
            "store",
            Err(ServerError::Store {
                doing: "looking the store over",
                source,
            }),
        ),
    }
}

/// The audit log's tree, grown from the entries themselves, against the heads that others kept.
fn check_audit(config: &Config, heads: &[PathBuf], findings: &mut Findings) {
    let mut known = Vec::new();
    for path in heads {
        match read_head(path) {
            Ok(head) => known.push((path, head)),
            Err(error) => findings.note("audit head", Err(error)),
        }
    }
    let mut tree = Tree::default();
    let mut roots = BTreeMap::from([(0, tree.head().root)]);
    let wanted: BTreeSet<u64> = known.iter().map(|(_, head)| head.size).collect();
    let grown = each_entry(config, |entry| {
        tree.push(leaf(entry));
        if wanted.contains(&tree.size()) {
            roots.insert(tree.size(), tree.head().root);
        }
    });
    let head = tree.head();
    findings.note(
        "audit log",
        grown.map(|()| format!("{} entries, root {}", head.size, head.root)),
    );
    for (path, known) in known {
        let refused = |why: String| {
            ServerError::refused(
                format!("{}: {why}", path.display()),
                "find out who changed the store, or restored an older one, before you start it",
            )
        };
        let checked = match roots.get(&known.size) {
            Some(root) if *root == known.root => Ok(format!(
                "the log adds to the {} entries known to {}",
                known.size,
                path.display()
            )),
            Some(_) => Err(refused(format!(
                "the first {} entries of the log are not those known there",
                known.size
            ))),
            None => Err(refused(format!(
                "{} entries are known there, the log has {}",
                known.size, head.size
            ))),
        };
        findings.note("audit head", checked);
    }
}

fn each_entry(config: &Config, mut take: impl FnMut(&[u8]) + Send) -> Result<(), ServerError> {
    let failed = |source| ServerError::Store {
        doing: "reading the audit log",
        source,
    };
    let store = AnyStore::sled(&config.data.store(), ringward_store::Options::default());
    let store = store.map_err(failed)?;
    let read = async {
        let mut next = 0;
        loop {
            let page = store.audit(next, AUDIT_PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            next = last.index + 1;
            page.iter().for_each(|stored| take(&stored.entry));
        }
    };
    let reader = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(ServerError::file(
                "starting a reader of",
                &config.data.store(),
            ))?;
        runtime.block_on(read)
    };
    // On a thread of its own: whoever asks may be inside a runtime already, where none can block.
    std::thread::scope(|scope| {
        scope.spawn(reader).join().unwrap_or_else(|_| {
            Err(ServerError::Inconsistent {
                what: "reading the audit log ended in a panic".to_owned(),
            })
        })
    })
}

/// A head as a host (`audit-head.json`) or `ringwardctl audit verify` keeps it.
fn read_head(path: &Path) -> Result<AuditHead, ServerError> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Inside { head: AuditHead },
        Itself(AuditHead),
    }
    match serde_json::from_slice(&read_bounded(path, HEAD_BYTES_MAX)?) {
        Ok(Kept::Inside { head } | Kept::Itself(head)) => Ok(head),
        Err(_) => Err(ServerError::refused(
            format!("{} keeps no head of an audit log", path.display()),
            "name a host's audit-head.json, or the file that `ringwardctl audit verify` keeps",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::init::{InitOptions, init};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_fresh_directory_is_healthy_and_an_open_key_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(&InitOptions {
            data: dir.path().join("data"),
            agent_address: "127.0.0.1:0".to_owned(),
            admin_address: "127.0.0.1:0".to_owned(),
            admin: "ada".to_owned(),
            rings: None,
            release_root: None,
        })
        .unwrap();
        let config = Config::load(made.data.clone()).unwrap();
        let fresh = doctor(&config, &[]);
        assert!(fresh.is_healthy(), "{fresh}");
        let key = made.data.pki().join("admins.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let found = doctor(&config, &[]).to_string();
        assert!(
            found.contains("PROBLEM") && found.contains("chmod"),
            "{found}"
        );
    }

    #[test]
    fn an_audit_log_that_does_not_add_to_a_kept_head_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(&InitOptions {
            data: dir.path().join("data"),
            agent_address: "127.0.0.1:0".to_owned(),
            admin_address: "127.0.0.1:0".to_owned(),
            admin: "ada".to_owned(),
            rings: None,
            release_root: None,
        })
        .unwrap();
        let config = Config::load(made.data.clone()).unwrap();
        let entries: Vec<Vec<u8>> = (0..40).map(|n| format!("entry {n}").into_bytes()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let store = AnyStore::sled(&config.data.store(), Default::default()).unwrap();
            let batch = ringward_store::Batch {
                request_id: [1; 16],
                audit: entries.clone(),
                ..Default::default()
            };
            store.commit(batch).await.unwrap();
        });
        let head = |entries: &[Vec<u8>]| {
            let mut tree = Tree::default();
            entries.iter().for_each(|entry| tree.push(leaf(entry)));
            tree.head()
        };
        let file = dir.path().join("audit-head.json");
        let look = |kept: serde_json::Value| {
            std::fs::write(&file, kept.to_string()).unwrap();
            doctor(&config, std::slice::from_ref(&file))
        };
        for size in [0, 1, 33, 40] {
            let kept = look(serde_json::json!({ "head": head(&entries[..size]), "forks": [] }));
            assert!(kept.is_healthy(), "{kept}");
        }
        let mut other = entries.clone();
        other[3] = b"another".to_vec();
        let found = look(serde_json::json!(head(&other[..20])));
        assert!(found.to_string().contains("not those known"), "{found}");
        let mut longer = entries.clone();
        longer.push(b"one more".to_vec());
        let found = look(serde_json::json!(head(&longer)));
        assert!(
            found.to_string().contains("41 entries are known"),
            "{found}"
        );
        let found = look(serde_json::json!({"size": 1}));
        assert!(!found.is_healthy());
    }
}
