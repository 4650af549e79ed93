//! Another authority in place of the present one, while hosts go on working: for a time both vouch, and
//! hosts follow by a bundle that the present root has signed.
//!
//! During the overlap everything new is issued by the new authority, whose root the old one has signed
//! too (the bridge), so that hosts of before believe it; clients of both are let in. The old authority's
//! keys are gone from the beginning of the overlap on.

use super::authority::{Authority, ServerNames, numbered};
use super::files::{
    BRIDGE, LEAVING_ADMINS, LEAVING_AGENTS, LEAVING_ROOT, Pki, Which, certificate_file, key_file,
    parse_certificates, read_text, write_pair,
};
use crate::data_dir::{create_private_dir, read_bounded, write_whole};
use crate::error::ServerError;
use crate::storage::to_json;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use ringward_domain::manifest::{Envelope, Signature};
use ringward_wire::authority::{AuthorityBundle, HexBytes, follow, key_id, message};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};

/// Bundles that hosts follow, in order.
const BUNDLES: &str = "bundles.json";
/// The bundle that ends the overlap, signed when it began.
const LAST_BUNDLE: &str = "last-bundle.json";
/// As whom the server holds its lease: stays when the root changes.
const HOLDER: &str = "holder";
/// Bytes of each of those.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Version of the bundle that hosts are told from the next start on.
    pub version: u64,
    /// SHA-256 of the new root's key, as tokens name it.
    pub root: String,
}

/// Bundles that hosts follow, in order; none before the first change.
pub(super) fn read_bundles(folder: &Path) -> Result<Vec<Envelope>, ServerError> {
    let path = folder.join(BUNDLES);
    match path.exists() {
        true => read_json(&path),
        false => Ok(Vec::new()),
    }
}

/// As whom the server holds its lease: the hash of its first root's key.
///
/// # Errors
/// Where it cannot be read.
pub fn holder(pki: &Pki) -> Result<String, ServerError> {
    let path = pki.folder().join(HOLDER);
    match path.exists() {
        true => read_text(&path),
        false => Ok(pki.root_key_hash()?.to_string()),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ServerError> {
    serde_json::from_slice(&read_bounded(path, FILE_BYTES_MAX)?).map_err(|error| {
        ServerError::refused(
            format!("{} is damaged: {error}", path.display()),
            "restore it from a backup: without it hosts do not follow to another authority",
        )
    })
}

/// Begins the overlap. The root's key is read from `root_key` where it is kept elsewhere.
///
/// # Errors
/// Where one is under way, the root's key is not there or another's, or a file cannot be written.
pub fn begin_rotation(
    folder: &Path,
    root_key: Option<&Path>,
    agent_names: &ServerNames,
    admin_names: &ServerNames,
) -> Result<Rotated, ServerError> {
    let pki = Pki::load(folder)?;
    if pki.is_changing() {
        return Err(ServerError::refused(
            "the authority is changing already",
            "end that first: `ringward-server rotate-authority --finish`",
        ));
    }
    let kept = key_file(folder, "root");
    let path = root_key.unwrap_or(&kept);
    if !path.exists() {
        return Err(ServerError::refused(
            format!("the root's key is not in {}", path.display()),
            "name the file with --root-key",
        ));
    }
    let old_key = read_text(path)?;
    let old = Authority::from_pem(pki.root_pem().to_owned(), &old_key)?;
    let known = pki.bundle_version();
    let (version, last_version) = (known + 1, known + 2);
    let (new, new_key) = Authority::new_root(version)?;
    let next = next_folder(folder)?;
    write_pair(&next, "root", new.certificate_pem(), &new_key)?;
    for which in [Which::Agents, Which::Admins] {
        let name = numbered(&format!("Ringward {}", which.name()), version);
        let (authority, key) = new.new_intermediate(&name)?;
        write_pair(&next, which.name(), authority.certificate_pem(), &key)?;
    }
    for (from, to) in [
        ("root", LEAVING_ROOT),
        (Which::Agents.name(), LEAVING_AGENTS),
        (Which::Admins.name(), LEAVING_ADMINS),
    ] {
        let pem = read_text(&certificate_file(folder, from))?;
        write_whole(&certificate_file(&next, to), pem.as_bytes(), 0o644)?;
    }
    let bridge = new.bridge_from(&old, version)?;
    write_whole(&certificate_file(&next, BRIDGE), bridge.as_bytes(), 0o644)?;
    let (old_der, new_der) = (pki.root_der()?, der(new.certificate_pem())?);
    let signers = [(&old_der, old_key.as_str()), (&new_der, new_key.as_str())];
    let both = signed(version, &[&new_der, &old_der], &signers)?;
    let last = signed(last_version, &[&new_der], &signers[1..])?;
    let chain: Vec<Envelope> = pki.bundles().iter().cloned().chain([both]).collect();
    write_whole(&next.join(BUNDLES), &to_json(&chain), 0o644)?;
    write_whole(&next.join(LAST_BUNDLE), &to_json(&last), 0o644)?;
    write_whole(&next.join(HOLDER), holder(&pki)?.as_bytes(), 0o644)?;
    let pki = Pki::load(&next)?;
    // A key that does not fit the root would have signed a bridge that nobody follows.
    if signers_fit(&chain, &old_der, known).is_err() {
        return Err(ServerError::refused(
            format!("{} is not the key of this server's root", path.display()),
            "name the right file with --root-key",
        ));
    }
    pki.write_server_certificates(agent_names, admin_names)?;
    put_in_place(folder, &next)?;
    Ok(Rotated {
        version,
        root: pki.root_key_hash()?.to_string(),
    })
}

/// Ends the overlap: from the next start on only the new authority vouches.
///
/// # Errors
/// Where none is under way, or a file cannot be written.
pub fn finish_rotation(
    folder: &Path,
    agent_names: &ServerNames,
    admin_names: &ServerNames,
) -> Result<Rotated, ServerError> {
    let pki = Pki::load(folder)?;
    if !pki.is_changing() {
        return Err(ServerError::refused(
            "no authority is changing",
            "begin with `ringward-server rotate-authority`",
        ));
    }
    let last: Envelope = read_json(&folder.join(LAST_BUNDLE))?;
    let chain: Vec<Envelope> = pki.bundles().iter().cloned().chain([last]).collect();
    let next = next_folder(folder)?;
    for name in ["root", Which::Agents.name(), Which::Admins.name()] {
        let certificate = read_text(&certificate_file(folder, name))?;
        let key = key_file(folder, name);
        if name == "root" && !key.exists() {
            write_whole(
                &certificate_file(&next, name),
                certificate.as_bytes(),
                0o644,
            )?;
            continue;
        }
        write_pair(&next, name, &certificate, &read_text(&key)?)?;
    }
    write_whole(&next.join(BUNDLES), &to_json(&chain), 0o644)?;
    write_whole(&next.join(HOLDER), holder(&pki)?.as_bytes(), 0o644)?;
    let pki = Pki::load(&next)?;
    pki.write_server_certificates(agent_names, admin_names)?;
    put_in_place(folder, &next)?;
    Ok(Rotated {
        version: pki.bundle_version(),
        root: pki.root_key_hash()?.to_string(),
    })
}

fn next_folder(folder: &Path) -> Result<PathBuf, ServerError> {
    let next = folder.with_extension("next");
    if next.exists() {
        // What an earlier try left, or the authority before.
        std::fs::remove_dir_all(&next).map_err(ServerError::file("removing", &next))?;
    }
    create_private_dir(&next)?;
    Ok(next)
}

/// The whole folder changes in one step; what was there before is removed, its keys with it.
fn put_in_place(folder: &Path, next: &Path) -> Result<(), ServerError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let swapped = renameat_with(CWD, next, CWD, folder, RenameFlags::EXCHANGE);
    let swapped = swapped.map_err(std::io::Error::from);
    swapped.map_err(ServerError::file(
        "putting the new authority in place of",
        folder,
    ))?;
    let parent = folder.parent().unwrap_or(Path::new("."));
    let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(ServerError::file("syncing", parent))?;
    std::fs::remove_dir_all(next).map_err(ServerError::file("removing", next))
}

fn der(pem: &str) -> Result<CertificateDer<'static>, ServerError> {
    let certificates = parse_certificates(pem, Path::new("root.crt"))?;
    certificates
        .into_iter()
        .next()
        .ok_or_else(|| ServerError::refused("a root certificate is empty", "restore pki"))
}

fn signers_fit(chain: &[Envelope], old: &CertificateDer<'_>, known: u64) -> Result<(), ()> {
    let roots = [HexBytes(old.to_vec())];
    let newest = chain.last().ok_or(())?;
    follow(known, &roots, newest).map(drop).map_err(drop)
}

fn signed(
    version: u64,
    roots: &[&CertificateDer<'_>],
    by: &[(&CertificateDer<'_>, &str)],
) -> Result<Envelope, ServerError> {
    let roots = roots.iter().map(|root| HexBytes(root.to_vec())).collect();
    let payload = to_json(&AuthorityBundle { version, roots });
    let text = message(&payload);
    let random = SystemRandom::new();
    let failed = |why: String| ServerError::refused(why, "give the key that `init` made");
    let mut signatures = Vec::new();
    for (root, key_pem) in by {
        let key = PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| failed(format!("the root's key cannot be read: {error}")))?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            key.secret_pkcs8_der(),
            &random,
        )
        .map_err(|error| failed(format!("the root's key cannot be used: {error}")))?;
        let signature = key.sign(&random, &text);
        let signature =
            signature.map_err(|_| failed("the system gives no random numbers".into()))?;
        signatures.push(Signature {
            key: key_id(root).map_err(|error| failed(error.to_string()))?,
            signature: signature.as_ref().to_vec(),
        });
    }
    Ok(Envelope {
        payload,
        signatures,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data_dir::check_private;
    use crate::pki::create;
    use ringward_wire::authority::follow_all;

    fn names() -> ServerNames {
        ServerNames { given: Vec::new() }
    }

    #[test]
    fn hosts_of_before_follow_over_both_to_the_new_authority_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        let pki = create(&folder, &names(), &names()).unwrap();
        let first = AuthorityBundle {
            version: 1,
            roots: vec![HexBytes(pki.root_der().unwrap().to_vec())],
        };
        let holder_before = holder(&pki).unwrap();
        for round in 0..2 {
            begin_rotation(&folder, None, &names(), &names()).unwrap();
            let pki = Pki::load(&folder).unwrap();
            assert_eq!(pki.client_anchors(Which::Agents).unwrap().len(), 2);
            let (overlap, refused) = follow_all(&first, pki.bundles());
            assert_eq!((overlap.version, refused), (2 + 2 * round, None));
            let roots: Vec<_> = pki
                .roots_der()
                .unwrap()
                .iter()
                .map(|r| r.to_vec())
                .collect();
            assert_eq!(
                overlap.roots,
                roots.into_iter().map(HexBytes).collect::<Vec<_>>()
            );
            finish_rotation(&folder, &names(), &names()).unwrap();
            let pki = Pki::load(&folder).unwrap();
            assert!(!pki.is_changing());
            assert_eq!(pki.client_anchors(Which::Agents).unwrap().len(), 1);
            let (after, refused) = follow_all(&first, pki.bundles());
            assert_eq!((after.version, refused), (3 + 2 * round, None));
            assert_eq!(after.version, pki.bundle_version());
            assert_eq!(after.roots, [HexBytes(pki.root_der().unwrap().to_vec())]);
            assert_eq!(holder(&pki).unwrap(), holder_before);
        }
    }

    #[test]
    fn the_keys_of_the_authority_that_goes_are_gone_and_the_others_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        create(&folder, &names(), &names()).unwrap();
        let old: Vec<String> = ["root", "agents", "admins"]
            .map(|name| read_text(&key_file(&folder, name)).unwrap())
            .to_vec();
        begin_rotation(&folder, None, &names(), &names()).unwrap();
        let mut found = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!old.contains(&text), "{}", path.display());
            if path.extension().is_some_and(|name| name == "key") {
                check_private(&path).unwrap();
                found += 1;
            }
        }
        assert_eq!(found, 5);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_key_a_missing_key_and_a_second_change_are_refused_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("pki"), dir.path().join("other"));
        create(&folder, &names(), &names()).unwrap();
        create(&other, &names(), &names()).unwrap();
        let root = key_file(&folder, "root");
        let offline = dir.path().join("offline.key");
        std::fs::rename(&root, &offline).unwrap();
        let foreign = key_file(&other, "root");
        for (key, said) in [
            (None, "--root-key"),
            (Some(foreign.as_path()), "--root-key"),
        ] {
            let refused = begin_rotation(&folder, key, &names(), &names()).unwrap_err();
            assert!(crate::error::chain(&refused).contains(said), "{refused}");
            assert!(!Pki::load(&folder).unwrap().is_changing());
        }
        assert!(finish_rotation(&folder, &names(), &names()).is_err());
        begin_rotation(&folder, Some(&offline), &names(), &names()).unwrap();
        let refused = begin_rotation(&folder, None, &names(), &names()).unwrap_err();
        assert!(
            crate::error::chain(&refused).contains("--finish"),
            "{refused}"
        );
    }
}
