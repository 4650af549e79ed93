//! Release roots that follow one another: which keys may sign releases, changed only by those who
//! could sign before and by those who can sign after. Pure.

use ring::signature::{ED25519, UnparsedPublicKey};
use ringward_domain::KeyId;
use ringward_domain::limits::SIGNATURES_MAX;
use ringward_domain::manifest::{Envelope, ROOT_CONTEXT, ReleaseRoot};
use std::collections::BTreeSet;

/// Bytes of a release root.
pub const ROOT_BYTES_MAX: usize = 16 * 1024;
/// Keys of one root.
pub const KEYS_MAX: usize = 16;
/// Roots that one answer carries; an agent asks again for more.
pub const ROOTS_MAX: usize = 16;

/// Why a root is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// Not a root at all.
    #[error("it is no release root: {0}")]
    Unreadable(String),
    /// A root that nobody or anybody could meet.
    #[error("{0}")]
    Rule(String),
    /// Not the next one.
    #[error("it is version {given}, but version {wanted} comes next")]
    Version {
        /// Its version.
        given: u64,
        /// The version that would follow.
        wanted: u64,
    },
    /// Too few of those who could sign before.
    #[error("{signed} of {needed} keys of the root before signed it")]
    Before {
        /// How many did.
        signed: usize,
        /// How many must.
        needed: usize,
    },
    /// Too few of those who can sign after.
    #[error("{signed} of {needed} of its own keys signed it")]
    After {
        /// How many did.
        signed: usize,
        /// How many must.
        needed: usize,
    },
}

/// Checks a root by itself and answers its keys.
///
/// # Errors
/// What is wrong with it.
pub fn keys(root: &ReleaseRoot) -> Result<Vec<[u8; 32]>, RootError> {
    let rule = |why: &str| Err(RootError::Rule(why.to_owned()));
    if !(1..=KEYS_MAX).contains(&root.keys.len()) {
        return rule("a release root has 1-16 keys");
    }
    let mut keys = Vec::new();
    for text in &root.keys {
        // A public key and a digest are written alike: 64 lower-case hexadecimal digits.
        match text.parse::<KeyId>() {
            Ok(key) => keys.push(key.0),
            Err(_) => return rule("a key of it is not 64 lower-case hexadecimal digits"),
        }
    }
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        return rule("a key of it is there twice");
    }
    if root.threshold == 0 || root.threshold as usize > keys.len() {
        return rule("its threshold is zero or above the number of its keys");
    }
    Ok(keys)
}

/// Distinct keys of a root with a valid signature over a signed root.
///
/// # Errors
/// The root itself breaks a rule.
pub fn signers(root: &ReleaseRoot, signed: &Envelope) -> Result<usize, RootError> {
    let message = [ROOT_CONTEXT, &signed.payload].concat();
    let by = |key: &&[u8; 32]| {
        let id = KeyId(crate::token::sha256(*key).0);
        let named = signed.signatures.iter().take(SIGNATURES_MAX);
        named
            .filter(|signature| signature.key == id)
            .any(|signature| {
                UnparsedPublicKey::new(&ED25519, **key)
                    .verify(&message, &signature.signature)
                    .is_ok()
            })
    };
    Ok(keys(root)?.iter().filter(by).count())
}

/// Reads what a signed root says, without believing it.
///
/// # Errors
/// It is no root.
pub fn read(signed: &Envelope) -> Result<ReleaseRoot, RootError> {
    if signed.payload.len() > ROOT_BYTES_MAX || signed.signatures.len() > SIGNATURES_MAX {
        return Err(RootError::Unreadable("it is too large".to_owned()));
    }
    let root: ReleaseRoot = serde_json::from_slice(&signed.payload)
        .map_err(|error| RootError::Unreadable(error.to_string()))?;
    keys(&root)?;
    Ok(root)
}

/// The root after `current`: the next version, signed by as many as the root before asks for, and by
/// as many as it asks for itself, so that nobody hands over to keys that nobody has.
///
/// # Errors
/// Why it is not followed; `current` stays in force.
pub fn follow(current: &ReleaseRoot, signed: &Envelope) -> Result<ReleaseRoot, RootError> {
    let next = read(signed)?;
    let wanted = current.version.saturating_add(1);
    if next.version != wanted {
        return Err(RootError::Version {
            given: next.version,
            wanted,
        });
    }
    let needed = current.threshold as usize;
    let by_current = signers(current, signed)?;
    if by_current < needed {
        return Err(RootError::Before {
            signed: by_current,
            needed,
        });
    }
    let needed = next.threshold as usize;
    let by_next = signers(&next, signed)?;
    if by_next < needed {
        return Err(RootError::After {
            signed: by_next,
            needed,
        });
    }
    Ok(next)
}

/// Follows one root after the other; what was followed before one that is not stays followed.
pub fn follow_all(current: &ReleaseRoot, chain: &[Envelope]) -> (ReleaseRoot, Option<RootError>) {
    let mut root = current.clone();
    for signed in chain {
        // A chain may begin before what is known already.
        if read(signed).is_ok_and(|given| given.version <= root.version) {
            continue;
        }
        match follow(&root, signed) {
            Ok(next) => root = next,
            Err(error) => return (root, Some(error)),
        }
    }
    (root, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use ringward_domain::Sha256;
    use ringward_domain::manifest::{SIGNING_CONTEXT, Signature};

    fn pair(n: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[n; 32]).unwrap()
    }

    fn public(n: u8) -> [u8; 32] {
        pair(n).public_key().as_ref().try_into().unwrap()
    }

    fn root(version: u64, threshold: u32, keys: &[u8]) -> ReleaseRoot {
        ReleaseRoot {
            version,
            threshold,
            keys: keys
                .iter()
                .map(|n| Sha256(public(*n)).to_string())
                .collect(),
        }
    }

    fn signed_as(context: &[u8], root: &ReleaseRoot, by: &[u8]) -> Envelope {
        let payload = serde_json::to_vec(root).unwrap();
        let message = [context, &payload].concat();
        let signature = |n: &u8| Signature {
            key: KeyId(crate::token::sha256(&public(*n)).0),
            signature: pair(*n).sign(&message).as_ref().to_vec(),
        };
        Envelope {
            signatures: by.iter().map(signature).collect(),
            payload,
        }
    }

    fn signed(root: &ReleaseRoot, by: &[u8]) -> Envelope {
        signed_as(ROOT_CONTEXT, root, by)
    }

    #[test]
    fn a_root_signed_by_enough_of_before_and_after_is_followed() {
        let first = root(1, 2, &[1, 2, 3]);
        let second = root(2, 2, &[2, 3, 4]);
        assert_eq!(
            follow(&first, &signed(&second, &[2, 3])),
            Ok(second.clone())
        );
        assert_eq!(
            follow(&first, &signed(&second, &[1, 2, 4])),
            Ok(second.clone())
        );
        let third = root(3, 1, &[4]);
        let chain = [signed(&second, &[2, 3]), signed(&third, &[3, 4])];
        assert_eq!(follow_all(&first, &chain), (third.clone(), None));
        assert_eq!(follow_all(&second, &chain), (third, None));
    }

    #[test]
    fn a_revoked_key_signs_nothing_any_more() {
        let (first, second) = (root(1, 1, &[1, 2]), root(2, 1, &[2]));
        let now = follow(&first, &signed(&second, &[1, 2])).unwrap();
        let back = root(3, 1, &[1, 2]);
        assert_eq!(
            follow(&now, &signed(&back, &[1])),
            Err(RootError::Before {
                signed: 0,
                needed: 1
            })
        );
    }

    #[test]
    fn neither_side_alone_is_enough() {
        let (first, second) = (root(1, 2, &[1, 2]), root(2, 2, &[3, 4]));
        assert!(matches!(
            follow(&first, &signed(&second, &[1, 3, 4])),
            Err(RootError::Before { signed: 1, .. })
        ));
        assert!(matches!(
            follow(&first, &signed(&second, &[1, 2, 3])),
            Err(RootError::After { signed: 1, .. })
        ));
        assert!(matches!(
            follow(&first, &signed(&second, &[1, 1, 3, 4])),
            Err(RootError::Before { signed: 1, .. })
        ));
    }

    #[test]
    fn versions_go_up_by_one_and_a_release_signature_is_none_here() {
        let first = root(5, 1, &[1]);
        for version in [0, 4, 5, 7] {
            let other = root(version, 1, &[1]);
            assert!(matches!(
                follow(&first, &signed(&other, &[1])),
                Err(RootError::Version { wanted: 6, .. })
            ));
        }
        let next = root(6, 1, &[1]);
        let misused = signed_as(SIGNING_CONTEXT, &next, &[1]);
        assert!(follow(&first, &misused).is_err());
        let mut changed = signed(&next, &[1]);
        for at in 0..changed.payload.len() {
            changed.payload[at] ^= 1;
            assert!(follow(&first, &changed).is_err(), "byte {at}");
            changed.payload[at] ^= 1;
        }
        assert!(follow(&first, &changed).is_ok());
    }

    #[test]
    fn a_root_that_nobody_or_anybody_could_meet_is_never_followed() {
        let first = root(1, 1, &[1]);
        let mut twice = root(2, 1, &[1]);
        twice.keys.push(twice.keys[0].clone());
        for bad in [root(2, 0, &[1]), root(2, 2, &[1]), root(2, 1, &[]), twice] {
            assert!(matches!(
                follow(&first, &signed(&bad, &[1])),
                Err(RootError::Rule(_))
            ));
        }
    }

    #[test]
    fn what_was_followed_before_a_bad_root_stays() {
        let (first, second, third) = (root(1, 1, &[1]), root(2, 1, &[2]), root(3, 1, &[3]));
        let chain = [signed(&second, &[1, 2]), signed(&third, &[3])];
        let (now, error) = follow_all(&first, &chain);
        assert_eq!(now, second);
        assert!(matches!(error, Some(RootError::Before { .. })));
    }
}
