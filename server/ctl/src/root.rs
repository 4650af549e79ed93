//! Changing which keys may sign releases: a new root, signed by those before and those after.

use crate::error::Error;
use crate::files;
use crate::keys::ReleaseKey;
use ringward_domain::manifest::{Envelope, ReleaseRoot};
use ringward_wire::roots;
use std::path::{Path, PathBuf};

/// What a rotation is made of.
#[derive(Debug, Default)]
pub struct Rotation {
    /// Keys that join; drawn where the file is absent.
    pub add: Vec<PathBuf>,
    /// Starts of public keys that leave.
    pub remove: Vec<String>,
    /// How many must sign from now on; as before where absent.
    pub threshold: Option<u32>,
}

/// A new root on its way, and how far its signatures are.
#[derive(Debug)]
pub struct Pending {
    /// The root.
    pub root: ReleaseRoot,
    /// As it is handed on.
    pub signed: Envelope,
    /// Signatures of the root before, and how many it needs.
    pub before: (usize, usize),
    /// Signatures of its own keys, and how many it needs.
    pub after: (usize, usize),
}

impl Pending {
    /// Whether server and hosts will follow it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.before.0 >= self.before.1 && self.after.0 >= self.after.1
    }
}

fn bad(path: &Path, why: &str) -> Error {
    Error::usage(
        format!("{} is no release root: {why}", path.display()),
        "name the release-root.json in force, or a signed root that follows it",
    )
}

/// Reads a root, signed or not.
///
/// # Errors
/// A file that cannot be read or holds no root.
pub fn read(path: &Path) -> Result<(ReleaseRoot, Option<Envelope>), Error> {
    let bytes = files::read(path, 256 * 1024)?;
    if let Ok(signed) = serde_json::from_slice::<Envelope>(&bytes) {
        let root = roots::read(&signed).map_err(|error| bad(path, &error.to_string()))?;
        return Ok((root, Some(signed)));
    }
    let root: ReleaseRoot =
        serde_json::from_slice(&bytes).map_err(|error| bad(path, &error.to_string()))?;
    roots::keys(&root).map_err(|error| bad(path, &error.to_string()))?;
    Ok((root, None))
}

/// Makes the root that follows `current`, signed by `signers` and by the keys that join.
///
/// # Errors
/// A rotation that makes no sense, keys that cannot be read or drawn.
pub fn rotate(
    current: &ReleaseRoot,
    rotation: &Rotation,
    signers: &[PathBuf],
) -> Result<Pending, Error> {
    let mut keys = current.keys.clone();
    for start in &rotation.remove {
        let named: Vec<_> = keys.iter().filter(|key| key.starts_with(start)).collect();
        if start.is_empty() || named.len() != 1 {
            return Err(Error::usage(
                format!("{start:?} names {} keys of the root", named.len()),
                format!("name the start of one of: {}", current.keys.join(", ")),
            ));
        }
        keys.retain(|key| !key.starts_with(start));
    }
    let mut signing = Vec::new();
    for path in &rotation.add {
        let key = match path.exists() {
            true => ReleaseKey::read(path)?,
            false => ReleaseKey::create(path)?,
        };
        keys.push(key.public_hex());
        signing.push(key);
    }
    for path in signers {
        signing.push(ReleaseKey::read(path)?);
    }
    let root = ReleaseRoot {
        version: current.version.saturating_add(1),
        threshold: rotation.threshold.unwrap_or(current.threshold),
        keys,
    };
    roots::keys(&root).map_err(|error| {
        Error::usage(
            format!("the new root makes no sense: {error}"),
            "choose other keys or another --threshold",
        )
    })?;
    let payload = serde_json::to_vec(&root).unwrap_or_default();
    let signed = Envelope {
        payload,
        signatures: Vec::new(),
    };
    sign(current, signed, &signing)
}

/// Adds signatures to a root that follows `current`.
///
/// # Errors
/// Keys that cannot be read, or a root that does not follow.
pub fn add_signatures(
    current: &ReleaseRoot,
    signed: Envelope,
    signers: &[PathBuf],
) -> Result<Pending, Error> {
    let keys: Vec<_> = signers
        .iter()
        .map(|path| ReleaseKey::read(path))
        .collect::<Result<_, _>>()?;
    sign(current, signed, &keys)
}

fn sign(
    current: &ReleaseRoot,
    mut signed: Envelope,
    keys: &[ReleaseKey],
) -> Result<Pending, Error> {
    let wrong = |error: roots::RootError| {
        Error::usage(
            format!("the new root cannot be signed: {error}"),
            "make it anew with `ringwardctl keys rotate`",
        )
    };
    for key in keys {
        if signed.signatures.iter().all(|s| s.key != key.id()) {
            signed.signatures.push(key.sign_root(&signed.payload));
        }
    }
    let root = roots::read(&signed).map_err(wrong)?;
    let before = roots::signers(current, &signed).map_err(wrong)?;
    let after = roots::signers(&root, &signed).map_err(wrong)?;
    Ok(Pending {
        before: (before, current.threshold as usize),
        after: (after, root.threshold as usize),
        root,
        signed,
    })
}

/// Writes a signed root beside the file and over it.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, signed: &Envelope) -> Result<(), Error> {
    let text = serde_json::to_vec(signed).unwrap_or_default();
    files::replace(path, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys;

    #[test]
    fn a_rotation_collects_signatures_until_it_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let made = keys::init(&dir.path().join("keys"), 3, 2).unwrap();
        let new = dir.path().join("new.key");
        let rotation = Rotation {
            add: vec![new.clone()],
            remove: vec![made.root.keys[0].clone()],
            threshold: None,
        };
        let pending = rotate(&made.root, &rotation, &made.keys[..1]).unwrap();
        assert_eq!((pending.before, pending.after), ((1, 2), (1, 2)));
        assert!(!pending.is_complete());
        assert!(roots::follow(&made.root, &pending.signed).is_err());
        let file = dir.path().join("release-root-2.json");
        write(&file, &pending.signed).unwrap();
        let (_, signed) = read(&file).unwrap();
        let whole = add_signatures(&made.root, signed.unwrap(), &made.keys[1..2]).unwrap();
        assert!(whole.is_complete(), "{whole:?}");
        let next = roots::follow(&made.root, &whole.signed).unwrap();
        assert_eq!(next.version, 2);
        assert!(!next.keys.contains(&made.root.keys[0]));
        assert!(
            next.keys
                .contains(&ReleaseKey::read(&new).unwrap().public_hex())
        );
    }

    #[test]
    fn a_rotation_that_makes_no_sense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let made = keys::init(&dir.path().join("keys"), 2, 2).unwrap();
        let refused = |rotation: Rotation| rotate(&made.root, &rotation, &made.keys).is_err();
        assert!(refused(Rotation {
            remove: vec!["zz".into()],
            ..Rotation::default()
        }));
        assert!(refused(Rotation {
            remove: vec![made.root.keys[0].clone()],
            ..Rotation::default()
        }));
        assert!(refused(Rotation {
            threshold: Some(3),
            ..Rotation::default()
        }));
        assert!(refused(Rotation {
            add: vec![made.keys[0].clone()],
            ..Rotation::default()
        }));
    }
}
