//! What a release must be before it is published: signed n-of-m under the release root, and whole.

use crate::data_dir::{DataDir, read_bounded, write_whole};
use crate::error::ServerError;
use crate::pki::sha256;
use ring::signature::{ED25519, UnparsedPublicKey};
use ringward_domain::manifest::{Envelope, Manifest, ReleaseRoot, SIGNING_CONTEXT};
use ringward_domain::{KeyId, ReleaseDigest, limits};
use ringward_wire::roots::{self, RootError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes of a release root file.
const ROOT_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of the list of signed roots: a thousand of them.
const CHAIN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Keys of a release root.
const KEYS_MAX: usize = 16;
/// Artefacts and probes of one manifest.
const ITEMS_MAX: usize = 16;
/// The manifest format this server reads.
const FORMAT: u32 = 1;

/// A release that passed every check.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its digest.
    pub release: ReleaseDigest,
    /// What was signed.
    pub manifest: Manifest,
    /// Keys with a valid signature.
    pub signed_by: Vec<KeyId>,
}

/// Why a release is refused; the field is named as the admin's request names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ReleaseError {
    /// Where.
    pub field: &'static str,
    /// What is wrong, and what would do.
    pub why: String,
}

fn refuse(field: &'static str, why: impl Into<String>) -> ReleaseError {
    ReleaseError {
        field,
        why: why.into(),
    }
}

/// Checks an envelope against the root: at least `threshold` distinct keys of the root signed it, and
/// the manifest keeps the rules.
///
/// # Errors
/// Where it does not; nothing of it may be used then.
pub fn check(
    root: &ReleaseRoot,
    envelope: &Envelope,
    now_unix_s: u64,
) -> Result<Checked, ReleaseError> {
    if envelope.payload.len() > limits::MANIFEST_BYTES_MAX {
        return Err(refuse("envelope.payload", "is larger than 16 KiB"));
    }
    let signed_by = signers(root, envelope)?;
    let threshold = root.threshold as usize;
    if signed_by.len() < threshold {
        return Err(refuse(
            "envelope.signatures",
            format!(
                "{} of {threshold} needed signatures are by keys of the release root (version {}) \
                 and valid; sign with `ringwardctl releases sign`",
                signed_by.len(),
                root.version
            ),
        ));
    }
    let manifest: Manifest = serde_json::from_slice(&envelope.payload)
        .map_err(|error| refuse("envelope.payload", format!("is no manifest: {error}")))?;
    check_manifest(&manifest, now_unix_s)?;
    Ok(Checked {
        release: ReleaseDigest(sha256(&envelope.payload).0),
        manifest,
        signed_by,
    })
}

fn signers(root: &ReleaseRoot, envelope: &Envelope) -> Result<Vec<KeyId>, ReleaseError> {
    if envelope.signatures.len() > limits::SIGNATURES_MAX {
        return Err(refuse("envelope.signatures", "are more than 16"));
    }
    let keys = root_keys(root).map_err(|why| refuse("release root", why))?;
    let mut message = SIGNING_CONTEXT.to_vec();
    message.extend_from_slice(&envelope.payload);
    let mut signed_by = BTreeSet::new();
    for signature in &envelope.signatures {
        let Some(key) = keys.get(&signature.key) else {
            continue;
        };
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&message, &signature.signature)
            .map_err(|_| {
                refuse(
                    "envelope.signatures",
                    format!("the signature of key {} is wrong", signature.key),
                )
            })?;
        signed_by.insert(signature.key);
    }
    Ok(signed_by.into_iter().collect())
}

fn root_keys(root: &ReleaseRoot) -> Result<BTreeMap<KeyId, [u8; 32]>, String> {
    let mut keys = BTreeMap::new();
    for text in &root.keys {
        let key = text
            .parse::<KeyId>()
            .map_err(|_| format!("key {text:?} is not 64 lower-case hexadecimal digits"))?
            .0;
        keys.insert(KeyId(sha256(&key).0), key);
    }
    if keys.len() != root.keys.len() || keys.len() > KEYS_MAX {
        return Err("names a key twice, or more than 16".to_owned());
    }
    if root.threshold == 0 || root.threshold as usize > keys.len() {
        return Err(format!(
            "asks for {} signatures but holds {} keys",
            root.threshold,
            keys.len()
        ));
    }
    Ok(keys)
}

fn check_manifest(manifest: &Manifest, now_unix_s: u64) -> Result<(), ReleaseError> {
    if manifest.format != FORMAT {
        return Err(refuse(
            "manifest.format",
            format!("is {}; this server reads {FORMAT}", manifest.format),
        ));
    }
    if manifest.expires_unix_s.is_some_and(|end| end <= now_unix_s) {
        return Err(refuse(
            "manifest.expires_unix_s",
            "has passed; sign a manifest with a later expiry",
        ));
    }
    if manifest
        .security_floor
        .as_ref()
        .is_some_and(|floor| *floor > manifest.version)
    {
        return Err(refuse(
            "manifest.security_floor",
            "is above the release's own version",
        ));
    }
    if !(1..=ITEMS_MAX).contains(&manifest.artefacts.len()) {
        return Err(refuse("manifest.artefacts", "must be 1 to 16"));
    }
    if manifest.probes.len() > ITEMS_MAX {
        return Err(refuse("manifest.probes", "must be 16 at most"));
    }
    let mut platforms = BTreeSet::new();
    for artefact in &manifest.artefacts {
        if !platforms.insert((artefact.os, artefact.arch)) {
            return Err(refuse(
                "manifest.artefacts",
                "name the same OS and architecture twice",
            ));
        }
        if !(1..=limits::BUNDLE_BYTES_MAX).contains(&artefact.size) {
            return Err(refuse("manifest.artefacts.size", "must be 1 byte to 2 GiB"));
        }
    }
    Ok(())
}

/// The release root of a data directory; `None` where none was set yet.
///
/// # Errors
/// Where the file cannot be read or breaks a rule.
pub fn load_root(data: &DataDir) -> Result<Option<ReleaseRoot>, ServerError> {
    let path = data.release_root();
    if path.exists() {
        read_root(&path).map(Some)
    } else {
        Ok(None)
    }
}

fn read_root(path: &Path) -> Result<ReleaseRoot, ServerError> {
    let next = "write it with `ringwardctl keys init`";
    let named = |why: String| ServerError::refused(format!("{} {why}", path.display()), next);
    let root: ReleaseRoot = serde_json::from_slice(&read_bounded(path, ROOT_BYTES_MAX)?)
        .map_err(|error| named(format!("is no release root: {error}")))?;
    root_keys(&root).map_err(named)?;
    Ok(root)
}

/// The signed roots that led to the one in force from the first one, in order.
///
/// # Errors
/// Where the file cannot be read.
pub fn load_chain(data: &DataDir) -> Result<Vec<Envelope>, ServerError> {
    let path = data.release_roots();
    if !path.exists() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(&read_bounded(&path, CHAIN_BYTES_MAX)?).map_err(|error| {
        ServerError::refused(
            format!("{} is no list of signed roots: {error}", path.display()),
            "restore it from a backup: without it hosts do not follow to newer keys",
        )
    })
}

/// Takes a release root from a file into the data directory. It holds public keys only. The first one
/// is taken as it is; each later one must be signed by enough keys of the one before and of its own
/// (`ringwardctl keys rotate`), so neither a stolen admin certificate nor the server's machine alone
/// changes who signs.
///
/// # Errors
/// Where the file breaks a rule, or does not follow the root in force.
pub fn trust_root(data: &DataDir, file: &Path) -> Result<ReleaseRoot, ServerError> {
    let bytes = read_bounded(file, ROOT_BYTES_MAX * 16)?;
    let (root, signed) = match serde_json::from_slice::<Envelope>(&bytes) {
        Ok(signed) => (follow(data, &signed, file)?, Some(signed)),
        Err(_) => (read_root(file)?, None),
    };
    match (load_root(data)?, signed) {
        (Some(current), _) if current == root => return Ok(root),
        (None, _) => {}
        (Some(_), Some(signed)) => {
            // First the way to it, then the root itself: hosts that ask in between find both.
            let mut chain = load_chain(data)?;
            chain.retain(|known| known.payload != signed.payload);
            chain.push(signed);
            write_json(&data.release_roots(), &chain)?;
        }
        (Some(current), None) => {
            return Err(ServerError::refused(
                format!(
                    "{} is not signed, and version {} is in force",
                    file.display(),
                    current.version
                ),
                "make the change with `ringwardctl keys rotate`: hosts follow only what enough of \
                 the keys before signed",
            ));
        }
    }
    write_json(&data.release_root(), &root)?;
    Ok(root)
}

fn follow(data: &DataDir, signed: &Envelope, file: &Path) -> Result<ReleaseRoot, ServerError> {
    let named = |error: RootError| {
        ServerError::refused(
            format!("{}: {error}", file.display()),
            "collect signatures with `ringwardctl keys sign-root`, one version after the other",
        )
    };
    match load_root(data)? {
        None => roots::read(signed).map_err(named),
        Some(current) => match roots::read(signed).map_err(named)? {
            same if same == current => Ok(same),
            _ => roots::follow(&current, signed).map_err(named),
        },
    }
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), ServerError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| ServerError::Inconsistent {
        what: format!("{} cannot be written as JSON: {error}", path.display()),
    })?;
    write_whole(path, &text, 0o644)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use ringward_domain::manifest::Signature;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn public_hex(key: &Ed25519KeyPair) -> String {
        KeyId::try_from(key.public_key().as_ref())
            .unwrap()
            .to_string()
    }

    fn root(threshold: u32, keys: &[&Ed25519KeyPair]) -> ReleaseRoot {
        ReleaseRoot {
            version: 1,
            threshold,
            keys: keys.iter().map(|k| public_hex(k)).collect(),
        }
    }

    fn manifest() -> serde_json::Value {
        serde_json::json!({
            "format": 1, "package": "demo", "version": "1.0",
            "artefacts": [{"os": "linux", "sha256": "00".repeat(32), "size": 10}],
            "installer": "bundle", "revert_class": "atomic",
        })
    }

    fn sign(payload: &serde_json::Value, keys: &[&Ed25519KeyPair]) -> Envelope {
        let payload = serde_json::to_vec(payload).unwrap();
        let mut message = SIGNING_CONTEXT.to_vec();
        message.extend_from_slice(&payload);
        let signatures = keys
            .iter()
            .map(|key| Signature {
                key: KeyId(sha256(key.public_key().as_ref()).0),
                signature: key.sign(&message).as_ref().to_vec(),
            })
            .collect();
        Envelope {
            payload,
            signatures,
        }
    }

    #[test]
    fn two_of_three_keys_are_enough_and_one_key_twice_is_not() {
        let (a, b, c) = (key(1), key(2), key(3));
        let root = root(2, &[&a, &b, &c]);
        let checked = check(&root, &sign(&manifest(), &[&a, &c]), 0).unwrap();
        assert_eq!(checked.signed_by.len(), 2);
        let error = check(&root, &sign(&manifest(), &[&a, &a]), 0).unwrap_err();
        assert!(error.why.contains("1 of 2"), "{error}");
    }

    #[test]
    fn a_signature_of_a_stranger_counts_nothing_and_a_wrong_one_refuses() {
        let (a, stranger) = (key(1), key(9));
        let root = root(1, &[&a]);
        assert!(check(&root, &sign(&manifest(), &[&stranger]), 0).is_err());
        let mut forged = sign(&manifest(), &[&a]);
        forged.payload.push(b' ');
        let error = check(&root, &forged, 0).unwrap_err();
        assert!(error.why.contains("wrong"), "{error}");
    }

    #[test]
    fn a_manifest_that_breaks_a_rule_is_refused_by_field() {
        let a = key(1);
        let root = root(1, &[&a]);
        for (field, value, named) in [
            ("format", serde_json::json!(2), "manifest.format"),
            ("artefacts", serde_json::json!([]), "manifest.artefacts"),
            (
                "expires_unix_s",
                serde_json::json!(99),
                "manifest.expires_unix_s",
            ),
            (
                "security_floor",
                serde_json::json!("2.0"),
                "manifest.security_floor",
            ),
            ("surprise", serde_json::json!(1), "envelope.payload"),
            ("package", serde_json::json!("../x"), "envelope.payload"),
        ] {
            let mut changed = manifest();
            changed[field] = value;
            let error = check(&root, &sign(&changed, &[&a]), 100).unwrap_err();
            assert_eq!(error.field, named);
        }
    }

    fn sign_root(root: &ReleaseRoot, keys: &[&Ed25519KeyPair]) -> Envelope {
        let payload = serde_json::to_vec(root).unwrap();
        let message = [ringward_domain::manifest::ROOT_CONTEXT, &payload].concat();
        let signature = |key: &&Ed25519KeyPair| Signature {
            key: KeyId(sha256(key.public_key().as_ref()).0),
            signature: key.sign(&message).as_ref().to_vec(),
        };
        Envelope {
            signatures: keys.iter().map(signature).collect(),
            payload,
        }
    }

    #[test]
    fn a_root_is_replaced_only_by_the_next_one_signed_by_both() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let file = dir.path().join("given.json");
        let give = |text: Vec<u8>| {
            std::fs::write(&file, text).unwrap();
            trust_root(&data, &file)
        };
        let (a, b) = (key(1), key(2));
        assert!(load_root(&data).unwrap().is_none());
        let first = root(1, &[&a]);
        give(serde_json::to_vec(&first).unwrap()).unwrap();
        let second = ReleaseRoot {
            version: 2,
            ..root(1, &[&b])
        };
        let unsigned = give(serde_json::to_vec(&second).unwrap()).unwrap_err();
        assert!(unsigned.to_string().contains("keys rotate"), "{unsigned}");
        for by in [&[&a][..], &[&b][..], &[][..]] {
            let signed = sign_root(&second, by);
            assert!(give(serde_json::to_vec(&signed).unwrap()).is_err());
        }
        assert_eq!(load_root(&data).unwrap(), Some(first));
        let signed = serde_json::to_vec(&sign_root(&second, &[&a, &b])).unwrap();
        give(signed.clone()).unwrap();
        give(signed).unwrap();
        assert_eq!(load_root(&data).unwrap(), Some(second));
        assert_eq!(load_chain(&data).unwrap().len(), 1);
    }

    #[test]
    fn a_root_that_nobody_or_anybody_could_meet_is_refused() {
        let a = key(1);
        for bad in [root(0, &[&a]), root(2, &[&a]), root(1, &[&a, &a])] {
            assert!(check(&bad, &sign(&manifest(), &[&a]), 0).is_err());
        }
    }
}
