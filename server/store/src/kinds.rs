//! Kinds read back from disk become `&'static str` again.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::StoreError;

/// Kinds are constants of the program; more distinct ones than this mean damaged rows.
const MAX_KINDS: usize = 256;

static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The one static copy of a kind. Leaks each distinct kind once, at most [`MAX_KINDS`] of them.
pub(crate) fn intern(kind: &[u8]) -> Result<&'static str, StoreError> {
    let damaged = |why: &str| StoreError::Damaged {
        what: "a stored kind".into(),
        why: why.into(),
    };
    let kind = std::str::from_utf8(kind).map_err(|_| damaged("it is not UTF-8"))?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(kind) {
        return Ok(found);
    }
    if known.len() >= MAX_KINDS {
        return Err(damaged("there are more kinds than the program knows"));
    }
    let kind: &'static str = Box::leak(kind.to_owned().into_boxed_str());
    known.insert(kind);
    Ok(kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_kind_is_the_same_static_string() {
        let first = intern(b"kinds-test").unwrap();
        assert!(std::ptr::eq(first, intern(b"kinds-test").unwrap()));
        assert!(intern(&[0xff]).is_err());
    }
}
