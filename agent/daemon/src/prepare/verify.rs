//! Whether a release may be believed and fits this host. Pure: bytes in, manifest out.

use ring::{digest, signature};
use ringward_domain::host::{Arch, Os};
use ringward_domain::ids::KeyId;
use ringward_domain::limits::{BUNDLE_BYTES_MAX, MANIFEST_BYTES_MAX, SIGNATURES_MAX};
use ringward_domain::manifest::{
    Artefact, Envelope, Installer, Manifest, ReleaseRoot, RevertClass, SIGNING_CONTEXT,
};
use ringward_domain::observed::RefuseWhy;
use ringward_domain::{AssignmentKind, PackageName, ReleaseDigest, Version};
use std::collections::BTreeSet;

/// Artefacts and probes of one manifest.
const ARTEFACTS_MAX: usize = 16;
const PROBES_MAX: usize = 16;

/// What this host was told to prepare, and what it is.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The package.
    pub package: PackageName,
    /// Digest of the manifest's bytes.
    pub release: ReleaseDigest,
    /// The version.
    pub version: Version,
    /// Install or rollback.
    pub kind: AssignmentKind,
    /// The host's operating system.
    pub os: Os,
    /// The host's architecture.
    pub arch: Arch,
    /// No version below this one, by a manifest this host installed.
    pub floor: Option<Version>,
    /// Wall clock in Unix seconds, for the expiry alone.
    pub now_unix_s: u64,
}

/// Why a release is refused, with words for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the release is refused: {detail}")]
pub struct Refused {
    /// As told to the server.
    pub why: RefuseWhy,
    /// In words.
    pub detail: String,
}

fn refused(why: RefuseWhy, detail: impl Into<String>) -> Refused {
    Refused {
        why,
        detail: detail.into(),
    }
}

/// The manifest, if enough keys of the root signed exactly these bytes and everything in it can be
/// done on this host.
///
/// # Errors
/// Final for this release on this host.
pub fn verify(
    envelope: &Envelope,
    root: &ReleaseRoot,
    wanted: &Wanted,
) -> Result<Manifest, Refused> {
    let digest = digest::digest(&digest::SHA256, &envelope.payload);
    if envelope.payload.len() > MANIFEST_BYTES_MAX || digest.as_ref() != wanted.release.0 {
        return Err(refused(
            RefuseWhy::Manifest,
            "its manifest is not the one that was ordered",
        ));
    }
    check_signatures(envelope, root)?;
    let manifest: Manifest = serde_json::from_slice(&envelope.payload)
        .map_err(|error| refused(RefuseWhy::Manifest, format!("its manifest: {error}")))?;
    check_manifest(&manifest, wanted)?;
    artefact(&manifest, wanted)?;
    Ok(manifest)
}

/// The artefact for this host.
///
/// # Errors
/// There is none.
pub fn artefact<'a>(manifest: &'a Manifest, wanted: &Wanted) -> Result<&'a Artefact, Refused> {
    let fits = |artefact: &&Artefact| {
        artefact.os == wanted.os && artefact.arch.is_none_or(|arch| arch == wanted.arch)
    };
    manifest.artefacts.iter().find(fits).ok_or_else(|| {
        refused(
            RefuseWhy::Platform,
            format!("no artefact for {:?} on {:?}", wanted.os, wanted.arch),
        )
    })
}

fn check_signatures(envelope: &Envelope, root: &ReleaseRoot) -> Result<(), Refused> {
    if envelope.signatures.len() > SIGNATURES_MAX {
        return Err(refused(RefuseWhy::Signature, "too many signatures"));
    }
    let message = [SIGNING_CONTEXT, &envelope.payload].concat();
    let mut signers: BTreeSet<[u8; 32]> = BTreeSet::new();
    for key in root.keys.iter().filter_map(|key| key_bytes(key)) {
        let id = key_id(&key);
        let signed = envelope
            .signatures
            .iter()
            .filter(|signature| signature.key == id)
            .any(|signature| {
                signature::UnparsedPublicKey::new(&signature::ED25519, key)
                    .verify(&message, &signature.signature)
                    .is_ok()
            });
        if signed {
            signers.insert(key);
        }
    }
    let needed = usize::try_from(root.threshold.max(1)).unwrap_or(usize::MAX);
    if signers.len() < needed {
        return Err(refused(
            RefuseWhy::Signature,
            format!(
                "{} of the release root's keys signed it, {needed} have to",
                signers.len()
            ),
        ));
    }
    Ok(())
}

fn key_bytes(hex: &str) -> Option<[u8; 32]> {
    // A key and a SHA-256 are written alike: 64 lower-case hexadecimal digits.
    hex.parse::<ringward_domain::Sha256>().ok().map(|raw| raw.0)
}

/// SHA-256 of a public key.
#[must_use]
pub fn key_id(key: &[u8; 32]) -> KeyId {
    let mut id = [0; 32];
    id.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
    KeyId(id)
}

fn check_manifest(manifest: &Manifest, wanted: &Wanted) -> Result<(), Refused> {
    let bad = |detail: &str| Err(refused(RefuseWhy::Manifest, detail));
    if manifest.format != 1 {
        return bad("its manifest has a format this agent does not know; update the agent");
    }
    if manifest.package != wanted.package || manifest.version != wanted.version {
        return bad("its manifest names another package or version than was ordered");
    }
    if manifest.artefacts.len() > ARTEFACTS_MAX || manifest.probes.len() > PROBES_MAX {
        return bad("its manifest holds too many artefacts or probes");
    }
    if manifest
        .artefacts
        .iter()
        .any(|artefact| artefact.size > BUNDLE_BYTES_MAX)
    {
        return bad("an artefact is too large");
    }
    match (manifest.installer, manifest.revert_class) {
        (Installer::Bundle, RevertClass::Atomic) => {}
        (Installer::Bundle, RevertClass::Staged | RevertClass::Irreversible) => {
            return bad("a bundle goes back by one switch: its revert class is atomic");
        }
        (Installer::Deb | Installer::Rpm | Installer::Msi, RevertClass::Staged) => {}
        (
            Installer::Deb | Installer::Rpm | Installer::Msi,
            RevertClass::Atomic | RevertClass::Irreversible,
        ) => {
            return bad("a deb, rpm or msi goes back from the vault: its revert class is staged");
        }
    }
    let expired = manifest
        .expires_unix_s
        .is_some_and(|at| at <= wanted.now_unix_s);
    if expired && wanted.kind == AssignmentKind::Install {
        return Err(refused(RefuseWhy::Expired, "its manifest has expired"));
    }
    check_floor(manifest, wanted)
}

/// No way below the security floor of what this host runs.
pub(super) fn check_floor(manifest: &Manifest, wanted: &Wanted) -> Result<(), Refused> {
    match wanted
        .floor
        .as_ref()
        .filter(|floor| manifest.version < **floor)
    {
        None => Ok(()),
        Some(floor) => Err(refused(
            RefuseWhy::SecurityFloor,
            format!(
                "version {} is below the security floor {floor}",
                manifest.version
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use ringward_domain::Sha256;
    use ringward_domain::manifest::{BootNeed, Signature};

    fn pair(n: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap()
    }

    fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
        pair.public_key().as_ref().try_into().unwrap()
    }

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            package: "demo".parse().unwrap(),
            version: "1.0".parse().unwrap(),
            security_floor: None,
            expires_unix_s: None,
            artefacts: vec![Artefact {
                os: Os::Linux,
                arch: None,
                sha256: Sha256([1; 32]),
                size: 10,
            }],
            installer: Installer::Bundle,
            revert_class: RevertClass::Atomic,
            boot: BootNeed::None,
            probes: Vec::new(),
        }
    }

    fn signed(manifest: &Manifest, keys: &[u8], context: &[u8]) -> (Envelope, Wanted) {
        let payload = serde_json::to_vec(manifest).unwrap();
        let message = [context, &payload].concat();
        let signatures = keys
            .iter()
            .map(|n| Signature {
                key: key_id(&public(&pair(*n))),
                signature: pair(*n).sign(&message).as_ref().to_vec(),
            })
            .collect();
        let mut release = [0; 32];
        release.copy_from_slice(digest::digest(&digest::SHA256, &payload).as_ref());
        let wanted = Wanted {
            package: "demo".parse().unwrap(),
            release: ReleaseDigest(release),
            version: "1.0".parse().unwrap(),
            kind: AssignmentKind::Install,
            os: Os::Linux,
            arch: Arch::X86_64,
            floor: None,
            now_unix_s: 1_800_000_000,
        };
        (
            Envelope {
                payload,
                signatures,
            },
            wanted,
        )
    }

    fn root(threshold: u32, keys: &[u8]) -> ReleaseRoot {
        ReleaseRoot {
            version: 1,
            threshold,
            keys: keys
                .iter()
                .map(|n| Sha256(public(&pair(*n))).to_string())
                .collect(),
        }
    }

    fn why(outcome: Result<Manifest, Refused>) -> RefuseWhy {
        outcome.unwrap_err().why
    }

    #[test]
    fn two_of_three_keys_suffice_and_one_does_not() {
        let (envelope, wanted) = signed(&manifest(), &[1, 3], SIGNING_CONTEXT);
        assert_eq!(
            verify(&envelope, &root(2, &[1, 2, 3]), &wanted).unwrap(),
            manifest()
        );
        assert_eq!(
            why(verify(&envelope, &root(3, &[1, 2, 3]), &wanted)),
            RefuseWhy::Signature
        );
        assert_eq!(
            why(verify(&envelope, &root(1, &[2]), &wanted)),
            RefuseWhy::Signature
        );
    }

    #[test]
    fn one_key_counts_once_however_often_it_signs_or_is_listed() {
        let (mut envelope, wanted) = signed(&manifest(), &[1, 1], SIGNING_CONTEXT);
        assert_eq!(
            why(verify(&envelope, &root(2, &[1, 1]), &wanted)),
            RefuseWhy::Signature
        );
        // The same signature under another key's name proves nothing.
        envelope.signatures[1].key = key_id(&public(&pair(2)));
        assert_eq!(
            why(verify(&envelope, &root(2, &[1, 2]), &wanted)),
            RefuseWhy::Signature
        );
    }

    #[test]
    fn no_threshold_is_still_one_key() {
        let (mut envelope, wanted) = signed(&manifest(), &[1], SIGNING_CONTEXT);
        envelope.signatures.clear();
        assert_eq!(
            why(verify(&envelope, &root(0, &[1]), &wanted)),
            RefuseWhy::Signature
        );
    }

    #[test]
    fn a_signature_made_for_something_else_is_none() {
        let (envelope, wanted) = signed(&manifest(), &[1], b"another context\n");
        assert_eq!(
            why(verify(&envelope, &root(1, &[1]), &wanted)),
            RefuseWhy::Signature
        );
    }

    #[test]
    fn every_byte_of_the_manifest_is_covered() {
        let (envelope, wanted) = signed(&manifest(), &[1], SIGNING_CONTEXT);
        for at in 0..envelope.payload.len() {
            let mut changed = envelope.clone();
            changed.payload[at] ^= 1;
            assert_eq!(
                why(verify(&changed, &root(1, &[1]), &wanted)),
                RefuseWhy::Manifest
            );
        }
    }

    #[test]
    fn what_this_host_cannot_or_must_not_run_is_refused() {
        let check = |change: fn(&mut Manifest, &mut Wanted)| {
            let mut changed = manifest();
            let (_, mut context) = signed(&changed, &[1], SIGNING_CONTEXT);
            change(&mut changed, &mut context);
            let (envelope, wanted) = signed(&changed, &[1], SIGNING_CONTEXT);
            context.release = wanted.release;
            verify(&envelope, &root(1, &[1]), &context)
        };
        assert_eq!(
            why(check(|m, _| m.artefacts[0].os = Os::Windows)),
            RefuseWhy::Platform
        );
        assert_eq!(
            why(check(|m, _| m.artefacts[0].arch = Some(Arch::Aarch64))),
            RefuseWhy::Platform
        );
        assert_eq!(why(check(|m, _| m.format = 2)), RefuseWhy::Manifest);
        assert_eq!(
            why(check(|m, _| m.version = "1.1".parse().unwrap())),
            RefuseWhy::Manifest
        );
        assert_eq!(
            why(check(|m, _| m.revert_class = RevertClass::Staged)),
            RefuseWhy::Manifest
        );
        assert_eq!(
            why(check(|m, _| m.artefacts[0].size = u64::MAX)),
            RefuseWhy::Manifest
        );
        assert_eq!(
            why(check(|m, w| m.expires_unix_s = Some(w.now_unix_s))),
            RefuseWhy::Expired
        );
        assert_eq!(
            why(check(|_, w| w.floor = Some("1.0.1".parse().unwrap()))),
            RefuseWhy::SecurityFloor
        );
        let back = check(|m, w| {
            m.expires_unix_s = Some(1);
            w.kind = AssignmentKind::Rollback;
        });
        assert!(back.is_ok(), "an expired release may still be gone back to");
    }
}
