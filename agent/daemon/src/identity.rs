//! Who this host is: key, certificates, host id and servers, in files only root reads.

use ringward_agent_os::machine::folders;
use ringward_domain::HostId;
use ringward_domain::manifest::ReleaseRoot;
use ringward_wire::authority::{AuthorityBundle, HexBytes};
use ringward_wire::enrolment::Certificates;
use ringward_wire::tls;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const KEY: &str = "key.pem";
const CHAIN: &str = "cert.pem";
const ROOTS: &str = "ca.pem";
/// The same with its version, since there are any; `ca.pem` is for people and older agents then.
const AUTHORITY: &str = "authority.json";
const HOST: &str = "host.toml";
const RELEASE_ROOT: &str = "release-root.json";

/// Why an identity could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// This host was never enrolled.
    #[error("this host has no identity in {folder}; run `ringward-agent enroll` first")]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A file failed.
    #[error("{doing} {path}; check the state folder's owner, mode and free space")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file holds not what it should.
    #[error("{path} is damaged: {why}; enrol the host again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificates and key do not fit.
    #[error("the identity in {folder} cannot be used; enrol the host again")]
    Tls {
        /// Where it is.
        folder: PathBuf,
        /// Why.
        #[source]
        source: tls::TlsError,
    },
}

/// What the enrolment left beside key and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    /// The id that the server issued.
    pub host: HostId,
    /// The server's addresses, tried in turn.
    pub servers: Vec<String>,
}

/// Everything needed to speak to the server as this host.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Id and servers.
    pub host: HostFile,
    /// TLS with this host's certificate.
    pub tls: Arc<ClientConfig>,
}

fn folder_of(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => IdentityError::Missing {
            folder: path.parent().unwrap_or(path).to_owned(),
        },
        _ => IdentityError::File {
            doing: "reading",
            path: path.to_owned(),
            source,
        },
    })
}

/// Write durably, readable by the owner alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::File {
        doing: "writing",
        path: path.to_owned(),
        source,
    };
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = folders::new_private_file(&temporary).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    ringward_guard::sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(failed)
}

fn make_folder(path: &Path, is_private: bool) -> Result<(), IdentityError> {
    folders::make(path, is_private).map_err(|source| IdentityError::File {
        doing: "making the folder",
        path: path.to_owned(),
        source,
    })
}

/// Make the state folder. Others may enter it, for the slots hold what they run; what they must not
/// read lies in folders and files of its own.
///
/// # Errors
/// It is missing and cannot be made.
pub fn state_folder(path: &Path) -> Result<(), IdentityError> {
    make_folder(path, false)
}

/// Make a folder that only its owner enters.
///
/// # Errors
/// It is missing and cannot be made.
pub fn private_folder(path: &Path) -> Result<(), IdentityError> {
    make_folder(path, true)
}

/// Whether this host was enrolled.
#[must_use]
pub fn exists(state_dir: &Path) -> bool {
    folder_of(state_dir).join(HOST).exists()
}

impl Identity {
    /// Read the identity.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(state_dir: &Path) -> Result<Self, IdentityError> {
        let folder = folder_of(state_dir);
        let host = HostFile::load(state_dir)?;
        let (chain, key) = (read(&folder.join(CHAIN))?, read(&folder.join(KEY))?);
        let roots = authority(state_dir)?.roots.into_iter();
        let roots: Vec<_> = roots.map(|root| CertificateDer::from(root.0)).collect();
        let tls = tls::Identity::from_pem(&chain, &key)
            .and_then(|identity| tls::client_config(&roots, identity))
            .map_err(|source| IdentityError::Tls { folder, source })?;
        Ok(Self {
            host,
            tls: Arc::new(tls),
        })
    }
}

impl HostFile {
    /// Read id and servers alone.
    ///
    /// # Errors
    /// The host was never enrolled, or the file is damaged.
    pub fn load(state_dir: &Path) -> Result<Self, IdentityError> {
        let path = folder_of(state_dir).join(HOST);
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        toml::from_str(&text).map_err(|error| IdentityError::Damaged {
            path,
            why: error.to_string(),
        })
    }
}

/// Keep a new identity. `host.toml` comes last: without it there is no identity.
///
/// # Errors
/// A file could not be made durable.
pub fn keep(
    state_dir: &Path,
    host: &HostFile,
    certificates: &Certificates,
    authority_version: u64,
    key_pem: &str,
) -> Result<(), IdentityError> {
    state_folder(state_dir)?;
    let folder = folder_of(state_dir);
    private_folder(&folder)?;
    write_private(&folder.join(KEY), key_pem.as_bytes())?;
    write_private(
        &folder.join(CHAIN),
        pem_of(&certificates.chain_der).as_bytes(),
    )?;
    let roots = certificates.roots_der.iter().cloned().map(HexBytes);
    let authority = AuthorityBundle {
        version: authority_version,
        roots: roots.collect(),
    };
    keep_authority(state_dir, &authority)?;
    let text = toml::to_string(host).expect("ids and addresses always serialise");
    write_private(&folder.join(HOST), text.as_bytes())
}

/// Keep a renewed certificate of the same key. The roots that come with it are not believed: those
/// change by signed bundles alone.
///
/// # Errors
/// A file could not be made durable.
pub fn keep_renewed(state_dir: &Path, certificates: &Certificates) -> Result<(), IdentityError> {
    write_private(
        &folder_of(state_dir).join(CHAIN),
        pem_of(&certificates.chain_der).as_bytes(),
    )
}

/// Keep the roots by which this host knows its servers.
///
/// # Errors
/// A file could not be made durable.
pub fn keep_authority(state_dir: &Path, bundle: &AuthorityBundle) -> Result<(), IdentityError> {
    let folder = folder_of(state_dir);
    let text = serde_json::to_vec_pretty(bundle).expect("numbers and texts always serialise");
    write_private(&folder.join(AUTHORITY), &text)?;
    let roots: Vec<Vec<u8>> = bundle.roots.iter().map(|root| root.0.clone()).collect();
    write_private(&folder.join(ROOTS), pem_of(&roots).as_bytes())
}

/// The roots by which this host knows its servers. Where an earlier agent enrolled, version 1.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn authority(state_dir: &Path) -> Result<AuthorityBundle, IdentityError> {
    let folder = folder_of(state_dir);
    let path = folder.join(AUTHORITY);
    match read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| IdentityError::Damaged {
            path,
            why: error.to_string(),
        }),
        Err(IdentityError::Missing { .. }) => {
            let roots = tls::certificates("the server's roots", &read(&folder.join(ROOTS))?);
            let roots = roots.map_err(|source| IdentityError::Tls { folder, source })?;
            Ok(AuthorityBundle {
                version: 1,
                roots: roots.iter().map(|root| HexBytes(root.to_vec())).collect(),
            })
        }
        Err(error) => Err(error),
    }
}

/// The host's private key (PEM); it leaves this process only into a signature.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) fn key_pem(state_dir: &Path) -> Result<String, IdentityError> {
    let path = folder_of(state_dir).join(KEY);
    String::from_utf8(read(&path)?).map_err(|_| IdentityError::Damaged {
        path,
        why: "it is no text".to_owned(),
    })
}

/// From when until when the host's certificate is valid.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn validity(state_dir: &Path) -> Result<(SystemTime, SystemTime), IdentityError> {
    let path = folder_of(state_dir).join(CHAIN);
    let damaged = |why: String| IdentityError::Damaged {
        path: path.clone(),
        why,
    };
    let chain = tls::certificates("the host's certificate", &read(&path)?)
        .map_err(|error| damaged(error.to_string()))?;
    let leaf = chain
        .first()
        .ok_or_else(|| damaged("it is empty".to_owned()))?;
    let (_, leaf) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| damaged(error.to_string()))?;
    let at = |unix_s: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or(0));
    let validity = leaf.validity();
    Ok((
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    ))
}

/// Keep the keys that may sign releases.
///
/// # Errors
/// The file could not be made durable.
pub fn keep_release_root(state_dir: &Path, root: &ReleaseRoot) -> Result<(), IdentityError> {
    let text = serde_json::to_vec_pretty(root).expect("numbers and texts always serialise");
    write_private(&state_dir.join(RELEASE_ROOT), &text)
}

/// The keys that may sign releases; `None` where the server was set up without.
///
/// # Errors
/// The file is there and cannot be read.
pub fn release_root(state_dir: &Path) -> Result<Option<ReleaseRoot>, IdentityError> {
    let path = state_dir.join(RELEASE_ROOT);
    match read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| IdentityError::Damaged {
                    path,
                    why: error.to_string(),
                })
        }
        Err(IdentityError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn pem_of(certificates: &[Vec<u8>]) -> String {
    let blocks: Vec<pem::Pem> = certificates
        .iter()
        .map(|der| pem::Pem::new("CERTIFICATE", der.clone()))
        .collect();
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&blocks, config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn certificates() -> (Certificates, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["test".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let certificates = Certificates {
            chain_der: vec![der.clone()],
            roots_der: vec![der],
        };
        (certificates, key.serialize_pem())
    }

    #[test]
    fn an_identity_reads_back_and_nobody_else_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        let host = HostFile {
            host: HostId(7),
            servers: vec!["127.0.0.1:1".to_owned()],
        };
        let (certificates, key) = certificates();
        assert!(!exists(&state));
        keep(&state, &host, &certificates, 3, &key).unwrap();
        assert!(exists(&state));
        let known = authority(&state).unwrap();
        assert_eq!((known.version, known.roots.len()), (3, 1));
        // What an earlier agent left is the first version.
        std::fs::remove_file(state.join("identity/authority.json")).unwrap();
        let roots = known.roots;
        assert_eq!(
            authority(&state).unwrap(),
            AuthorityBundle { version: 1, roots }
        );
        assert_eq!(Identity::load(&state).unwrap().host, host);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.join("identity")), 0o700);
        assert_eq!(mode(&state.join("identity/key.pem")), 0o600);
    }

    #[test]
    fn without_an_identity_the_error_says_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let error = Identity::load(root.path()).unwrap_err().to_string();
        assert!(error.contains("ringward-agent enroll"), "{error}");
        assert_eq!(release_root(root.path()).unwrap(), None);
    }
}
