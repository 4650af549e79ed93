//! Release keys: Ed25519 (RFC 8032), in files that only their owner can read. The server never holds
//! them.

use crate::error::Error;
use crate::files;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ringward_domain::KeyId;
use ringward_domain::manifest::{ROOT_CONTEXT, ReleaseRoot, SIGNING_CONTEXT, Signature};
use ringward_wire::token::sha256;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};

/// Keys of one release root.
pub const KEYS_MAX: usize = 16;
/// Name of the file that hosts and server pin.
pub const ROOT_FILE: &str = "release-root.json";

/// A key that signs releases.
pub struct ReleaseKey {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReleaseKey({})", self.id())
    }
}

impl ReleaseKey {
    /// Draws a key and writes it to `path` (PKCS #8 PEM, mode 0600), which must not exist.
    ///
    /// # Errors
    /// A file that exists or cannot be written, no random bytes.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let no_key = || {
            Error::file("drawing a key for", path)(std::io::Error::other(
                "the operating system gives no random bytes",
            ))
        };
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| no_key())?;
        let pem = pem("PRIVATE KEY", document.as_ref());
        files::create_private(path, pem.as_bytes())?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| no_key())?;
        Ok(Self { pair })
    }

    /// Reads a key that [`create`](Self::create) wrote.
    ///
    /// # Errors
    /// A file that is missing, readable by others, or no such key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        files::check_private(path)?;
        let bad = |why: &str| {
            Error::usage(
                format!("{} is no release key: {why}", path.display()),
                "name a key file that `ringwardctl keys init` wrote",
            )
        };
        let text = files::read(path, 16 * 1024)?;
        let PrivateKeyDer::Pkcs8(der) =
            PrivateKeyDer::from_pem_slice(&text).map_err(|e| bad(&e.to_string()))?
        else {
            return Err(bad("it is not PKCS #8"));
        };
        let der: PrivatePkcs8KeyDer<'_> = der;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| bad("it is not an Ed25519 key"))?;
        Ok(Self { pair })
    }

    /// SHA-256 of the public key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(sha256(self.pair.public_key().as_ref()).0)
    }

    /// The public key as a release root lists it: 32 bytes, lower-case hexadecimal.
    #[must_use]
    pub fn public_hex(&self) -> String {
        hex(self.pair.public_key().as_ref())
    }

    /// Signs a manifest's bytes.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> Signature {
        Signature {
            key: self.id(),
            signature: self.pair.sign(&signed_bytes(payload)).as_ref().to_vec(),
        }
    }
}

impl ReleaseKey {
    /// Signs a release root's bytes.
    #[must_use]
    pub fn sign_root(&self, payload: &[u8]) -> Signature {
        let message = [ROOT_CONTEXT, payload].concat();
        Signature {
            key: self.id(),
            signature: self.pair.sign(&message).as_ref().to_vec(),
        }
    }
}

impl ReleaseKey {
    /// Signs what an order says to its hosts (`order::statement`).
    #[must_use]
    pub fn endorse(&self, statement: &[u8]) -> Signature {
        Signature {
            key: self.id(),
            signature: self.pair.sign(statement).as_ref().to_vec(),
        }
    }

    /// The public key: 32 bytes.
    ///
    /// # Panics
    /// Never: an Ed25519 key has 32 bytes.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let public = self.pair.public_key().as_ref();
        public
            .try_into()
            .expect("a public key of Ed25519 has 32 bytes")
    }
}

fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [SIGNING_CONTEXT, payload].concat()
}

/// How many distinct keys of the root signed the manifest's bytes rightly.
#[must_use]
pub fn valid_signatures(root: &ReleaseRoot, payload: &[u8], signatures: &[Signature]) -> usize {
    let message = signed_bytes(payload);
    let signed_by = |public: &&String| {
        public.parse::<KeyId>().is_ok_and(|public| {
            let id = KeyId(sha256(&public.0).0);
            signatures.iter().any(|signature| {
                signature.key == id
                    && UnparsedPublicKey::new(&ED25519, public.0)
                        .verify(&message, &signature.signature)
                        .is_ok()
            })
        })
    };
    root.keys.iter().filter(signed_by).count()
}

/// What `keys init` made.
#[derive(Debug)]
pub struct Made {
    /// The key files, 0600.
    pub keys: Vec<PathBuf>,
    /// The root file, for server and hosts.
    pub root_file: PathBuf,
    /// What the root file holds.
    pub root: ReleaseRoot,
}

/// Makes `count` keys and the release root that asks for `threshold` of them, in `dir`.
///
/// # Errors
/// Numbers that make no sense, files that exist or cannot be written.
pub fn init(dir: &Path, count: usize, threshold: u32) -> Result<Made, Error> {
    if !(1..=KEYS_MAX).contains(&count) || threshold == 0 || threshold as usize > count {
        return Err(Error::usage(
            format!("{threshold} of {count} keys is not possible"),
            "use --keys 1-16 and --threshold 1 up to that number",
        ));
    }
    files::create_private_dir(dir)?;
    let root_file = dir.join(ROOT_FILE);
    if root_file.exists() {
        return Err(Error::usage(
            format!("{} exists already", root_file.display()),
            "name another folder with --dir; hosts trust only the root they were enrolled with",
        ));
    }
    let mut keys = Vec::new();
    let mut root = ReleaseRoot {
        version: 1,
        threshold,
        keys: Vec::new(),
    };
    for n in 1..=count {
        let path = dir.join(format!("release-{n}.key"));
        root.keys.push(ReleaseKey::create(&path)?.public_hex());
        keys.push(path);
    }
    let text = serde_json::to_vec_pretty(&root).map_err(|e| Error::File {
        doing: "writing",
        path: root_file.clone(),
        source: e.into(),
    })?;
    files::create(&root_file, &text)?;
    Ok(Made {
        keys,
        root_file,
        root,
    })
}

fn hex(raw: &[u8]) -> String {
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_signs_what_its_root_verifies_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(&dir.path().join("keys"), 3, 2).unwrap();
        let keys: Vec<_> = made
            .keys
            .iter()
            .map(|path| ReleaseKey::read(path).unwrap())
            .collect();
        let mut signatures = vec![keys[0].sign(b"payload"), keys[0].sign(b"payload")];
        assert_eq!(valid_signatures(&made.root, b"payload", &signatures), 1);
        signatures.push(keys[2].sign(b"payload"));
        assert_eq!(valid_signatures(&made.root, b"payload", &signatures), 2);
        assert_eq!(valid_signatures(&made.root, b"another", &signatures), 0);
        let stranger = ReleaseKey::create(&dir.path().join("stranger")).unwrap();
        let foreign = [stranger.sign(b"payload")];
        assert_eq!(valid_signatures(&made.root, b"payload", &foreign), 0);
    }

    #[cfg(unix)]
    #[test]
    fn key_files_are_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let made = init(dir.path(), 1, 1).unwrap();
        let mode = std::fs::metadata(&made.keys[0])
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(init(dir.path(), 1, 1).is_err());
        assert!(ReleaseKey::create(&made.keys[0]).is_err());
        std::fs::set_permissions(&made.keys[0], std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = ReleaseKey::read(&made.keys[0]).unwrap_err().render();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn impossible_thresholds_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (count, threshold) in [(0, 1), (1, 0), (1, 2), (17, 1)] {
            assert!(init(dir.path(), count, threshold).is_err());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
