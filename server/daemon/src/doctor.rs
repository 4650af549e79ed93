//! `ringward-server doctor`: looks a data directory over and says what is wrong and what to do.

use crate::clock::unix_ms;
use crate::config::{Config, Engine};
use crate::data_dir::check_private;
use crate::error::{ServerError, chain};
use crate::init::server_names;
use crate::pki::{Pki, Which, certificate_validity};
use crate::release_check::load_root;
use std::fmt;

/// Days before the end of a certificate at which it is worth a word.
const SOON_DAYS: u64 = 60;

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

/// Looks over what `config` names. Opens the store, so the server must not be running.
pub fn doctor(config: &Config) -> Findings {
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
        let fresh = doctor(&config);
        assert!(fresh.is_healthy(), "{fresh}");
        let key = made.data.pki().join("admins.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let found = doctor(&config).to_string();
        assert!(
            found.contains("PROBLEM") && found.contains("chmod"),
            "{found}"
        );
    }
}
