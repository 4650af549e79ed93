//! Authorities that follow one another: by which roots hosts know their servers, changed only by a
//! bundle that a root of before and a root of after have signed. Pure.

use crate::tls::spki_sha256;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use ringward_domain::KeyId;
use ringward_domain::limits::SIGNATURES_MAX;
use ringward_domain::manifest::Envelope;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

/// What every signature of a bundle starts with, so that it can stand for nothing else.
pub const BUNDLE_CONTEXT: &[u8] = b"ringward authority bundle v1\n";
/// Bytes of a bundle.
pub const BUNDLE_BYTES_MAX: usize = 32 * 1024;
/// Roots of one bundle: the one that goes, the one that comes, and room.
pub const ROOTS_MAX: usize = 4;
/// Bundles that one answer carries; an agent asks again for more.
pub const BUNDLES_MAX: usize = 16;
/// What stands before the point in the SubjectPublicKeyInfo of a P-256 key (RFC 5480): ours are all of
/// that kind.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The roots by which hosts know their servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityBundle {
    /// Grows by one with each change; the roots of an enrolment before any change are version 1.
    pub version: u64,
    /// X.509, DER.
    pub roots: Vec<HexBytes>,
}

/// Bytes that are written as lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl Serialize for HexBytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        to.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(from)?;
        let wrong = || serde::de::Error::custom("it is not written in pairs of hexadecimal digits");
        if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let pairs = (0..digits.len()).step_by(2);
        pairs
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Why a bundle is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle at all.
    #[error("it is no bundle of authorities: {0}")]
    Unreadable(String),
    /// Not the next one.
    #[error("it is version {given}, but version {wanted} comes next")]
    Version {
        /// Its version.
        given: u64,
        /// The version that would follow.
        wanted: u64,
    },
    /// No root of before signed it.
    #[error("no authority of before signed it")]
    Before,
    /// No root of its own signed it.
    #[error("none of its own authorities signed it")]
    After,
}

/// How a root's key is named in a signature: as tokens name it.
///
/// # Errors
/// Not an X.509 certificate.
pub fn key_id(root: &[u8]) -> Result<KeyId, BundleError> {
    spki_sha256(&CertificateDer::from(root))
        .map(|hash| KeyId(hash.0))
        .map_err(|error| BundleError::Unreadable(error.to_string()))
}

/// What is signed.
#[must_use]
pub fn message(payload: &[u8]) -> Vec<u8> {
    [BUNDLE_CONTEXT, payload].concat()
}

fn signed_by(root: &[u8], signed: &Envelope) -> bool {
    let certificate = CertificateDer::from(root);
    let (Ok(parsed), Ok(id)) = (ParsedCertificate::try_from(&certificate), key_id(root)) else {
        return false;
    };
    let spki = parsed.subject_public_key_info();
    let Some(point) = spki.as_ref().strip_prefix(&P256_SPKI) else {
        return false;
    };
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let message = message(&signed.payload);
    let named = signed.signatures.iter().take(SIGNATURES_MAX);
    named
        .filter(|signature| signature.key == id)
        .any(|signature| key.verify(&message, &signature.signature).is_ok())
}

/// Reads what a signed bundle says, without believing it.
///
/// # Errors
/// It is no bundle.
pub fn read(signed: &Envelope) -> Result<AuthorityBundle, BundleError> {
    let unreadable = |why: &str| BundleError::Unreadable(why.to_owned());
    if signed.payload.len() > BUNDLE_BYTES_MAX {
        return Err(unreadable("it is too large"));
    }
    let bundle: AuthorityBundle = serde_json::from_slice(&signed.payload)
        .map_err(|error| BundleError::Unreadable(error.to_string()))?;
    if !(1..=ROOTS_MAX).contains(&bundle.roots.len()) {
        return Err(unreadable("it holds no authority, or too many"));
    }
    for root in &bundle.roots {
        key_id(&root.0)?;
    }
    Ok(bundle)
}

/// The bundle after the one in force: the next version, signed by an authority of before, so that nobody
/// else changes whom hosts believe, and by one of its own, so that nobody hands over to a key that
/// nobody has.
///
/// # Errors
/// Why it is not followed; the roots known so far stay in force.
pub fn follow(
    version: u64,
    roots: &[HexBytes],
    signed: &Envelope,
) -> Result<AuthorityBundle, BundleError> {
    let next = read(signed)?;
    let wanted = version.saturating_add(1);
    if next.version != wanted {
        return Err(BundleError::Version {
            given: next.version,
            wanted,
        });
    }
    if !roots.iter().any(|root| signed_by(&root.0, signed)) {
        return Err(BundleError::Before);
    }
    if !next.roots.iter().any(|root| signed_by(&root.0, signed)) {
        return Err(BundleError::After);
    }
    Ok(next)
}

/// Follows one bundle after the other; what was followed before one that is not stays followed.
#[must_use]
pub fn follow_all(
    known: &AuthorityBundle,
    chain: &[Envelope],
) -> (AuthorityBundle, Option<BundleError>) {
    let mut bundle = known.clone();
    for signed in chain {
        // A chain may begin before what is known already.
        if read(signed).is_ok_and(|given| given.version <= bundle.version) {
            continue;
        }
        match follow(bundle.version, &bundle.roots, signed) {
            Ok(next) => bundle = next,
            Err(error) => return (bundle, Some(error)),
        }
    }
    (bundle, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use ringward_domain::manifest::Signature;

    struct Root {
        der: Vec<u8>,
        key: KeyPair,
    }

    fn root() -> Root {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Root { der, key }
    }

    fn bundle(version: u64, roots: &[&Root]) -> AuthorityBundle {
        let roots = roots.iter().map(|root| HexBytes(root.der.clone()));
        AuthorityBundle {
            version,
            roots: roots.collect(),
        }
    }

    fn signed_as(context: &[u8], bundle: &AuthorityBundle, by: &[&Root]) -> Envelope {
        let payload = serde_json::to_vec(bundle).unwrap();
        let message = [context, &payload].concat();
        let sign = |root: &&Root| {
            let random = SystemRandom::new();
            let pkcs8 = root.key.serialize_der();
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random)
                .unwrap();
            Signature {
                key: key_id(&root.der).unwrap(),
                signature: key.sign(&random, &message).unwrap().as_ref().to_vec(),
            }
        };
        Envelope {
            signatures: by.iter().map(sign).collect(),
            payload,
        }
    }

    fn signed(bundle: &AuthorityBundle, by: &[&Root]) -> Envelope {
        signed_as(BUNDLE_CONTEXT, bundle, by)
    }

    #[test]
    fn a_host_follows_from_one_authority_over_both_to_the_other() {
        let (old, new) = (root(), root());
        let both = bundle(2, &[&new, &old]);
        let chain = [
            signed(&both, &[&old, &new]),
            signed(&bundle(3, &[&new]), &[&new]),
        ];
        let (overlap, error) = follow_all(&bundle(1, &[&old]), &chain[..1]);
        assert_eq!((overlap, error), (both, None));
        let (after, error) = follow_all(&bundle(1, &[&old]), &chain);
        assert_eq!((after.clone(), error), (bundle(3, &[&new]), None));
        assert_eq!(follow_all(&after, &chain), (after, None));
    }

    #[test]
    fn nobody_else_changes_whom_a_host_believes() {
        let (old, new, foreign) = (root(), root(), root());
        let known = bundle(1, &[&old]);
        let theirs = bundle(2, &[&foreign, &old]);
        let refused = |envelope: &Envelope| follow_all(&known, std::slice::from_ref(envelope)).1;
        assert_eq!(
            refused(&signed(&theirs, &[&foreign])),
            Some(BundleError::Before)
        );
        // A signature by the right key over something else, or under the name of another key.
        let other = signed_as(b"ringward release v1\n", &theirs, &[&old, &foreign]);
        assert_eq!(refused(&other), Some(BundleError::Before));
        let mut renamed = signed(&theirs, &[&foreign]);
        renamed.signatures[0].key = key_id(&old.der).unwrap();
        assert_eq!(refused(&renamed), Some(BundleError::Before));
        // A root that leaves, handing over to a key that nobody has shown to have.
        let handed = signed(&bundle(2, &[&new]), &[&old]);
        assert_eq!(refused(&handed), Some(BundleError::After));
    }

    #[test]
    fn no_version_is_left_out_or_taken_twice() {
        let (old, new) = (root(), root());
        let known = bundle(5, &[&old]);
        let far = signed(&bundle(7, &[&new, &old]), &[&old, &new]);
        let why = BundleError::Version {
            given: 7,
            wanted: 6,
        };
        assert_eq!(follow_all(&known, &[far]), (known.clone(), Some(why)));
        let back = signed(&bundle(4, &[&new, &old]), &[&old, &new]);
        assert_eq!(follow_all(&known, &[back]), (known, None));
    }

    #[test]
    fn a_flipped_bit_anywhere_makes_nobody_follow() {
        let (old, new) = (root(), root());
        let known = bundle(1, &[&old]);
        let good = signed(&bundle(2, &[&old, &new]), &[&old]);
        assert_eq!(follow_all(&known, std::slice::from_ref(&good)).1, None);
        for at in 0..good.payload.len() {
            let mut bad = good.clone();
            bad.payload[at] ^= 1;
            assert_eq!(follow_all(&known, &[bad]).0, known, "byte {at}");
        }
    }

    #[test]
    fn nonsense_is_no_bundle() {
        let old = root();
        for payload in [
            &b"{}"[..],
            br#"{"version":2,"roots":[]}"#,
            br#"{"version":2,"roots":["zz"]}"#,
            br#"{"version":2,"roots":["00"]}"#,
            br#"{"version":2,"roots":[],"more":1}"#,
        ] {
            let envelope = Envelope {
                payload: payload.to_vec(),
                signatures: Vec::new(),
            };
            assert!(matches!(
                follow(1, &[HexBytes(old.der.clone())], &envelope),
                Err(BundleError::Unreadable(_))
            ));
        }
    }
}
