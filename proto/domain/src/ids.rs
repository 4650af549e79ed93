//! Identities. Each is a newtype, so that a nonce can never stand where a host id is meant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not an identity of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reading {what} from {text:?}: {why}")]
pub struct IdError {
    /// The kind of identity that was wanted.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl IdError {
    pub(crate) fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self {
            what,
            text: text.chars().take(80).collect(),
            why,
        }
    }
}

fn hex_decode(what: &'static str, text: &str, out: &mut [u8]) -> Result<(), IdError> {
    let bytes = text.as_bytes();
    if bytes.len() != out.len() * 2 {
        return Err(IdError::new(what, text, "wrong length"));
    }
    for (i, byte) in out.iter_mut().enumerate() {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(IdError::new(what, text, "not lower-case hexadecimal")),
        };
        *byte = digit(bytes[2 * i])? << 4 | digit(bytes[2 * i + 1])?;
    }
    Ok(())
}

macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{:016x}"), self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let hex = text
                    .strip_prefix(concat!($prefix, "-"))
                    .ok_or_else(|| IdError::new(stringify!($name), text, concat!("does not start with ", $prefix, "-")))?;
                let mut raw = [0; 8];
                hex_decode(stringify!($name), hex, &mut raw)?;
                Ok(Self(u64::from_be_bytes(raw)))
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut raw = [0; $len];
                hex_decode(stringify!($name), text, &mut raw)?;
                Ok(Self(raw))
            }
        }
        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(raw: &[u8]) -> Result<Self, IdError> {
                raw.try_into()
                    .map(Self)
                    .map_err(|_| IdError::new(stringify!($name), "", concat!("needs exactly ", $len, " bytes")))
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

short_id!(
    /// One endpoint; issued by the server at enrolment, written `h-` and 16 hex digits.
    HostId, "h"
);
short_id!(
    /// One release walking the rings (a rollback is one too), written `r-` and 16 hex digits.
    RolloutId, "r"
);
short_id!(
    /// One order of people (or of the server itself) to hosts, written `o-` and 16 hex digits.
    OrderId, "o"
);
short_id!(
    /// Something that waits for a second person, written `a-` and 16 hex digits.
    ApprovalId, "a"
);
bytes_id!(
    /// One kernel lifetime. Linux: the kernel's `boot_id`; Windows: derived from the loader's
    /// BootId and a random id in a volatile registry key. Never derived from a wall clock.
    BootId, 16
);
bytes_id!(
    /// One lifetime of the agent process: random, drawn at its start.
    AgentStart, 16
);
bytes_id!(
    /// Names one attempt to switch a host: drawn by the agent for each grant request.
    Nonce, 16
);
bytes_id!(
    /// Makes an admin's command idempotent: the same id again answers what the first did.
    RequestId, 16
);
bytes_id!(
    /// SHA-256 of some content.
    Sha256, 32
);
bytes_id!(
    /// A release: SHA-256 of the signed manifest bytes, so equal digests are the same release.
    ReleaseDigest, 32
);
bytes_id!(
    /// A signing key: SHA-256 of its 32 public bytes.
    KeyId, 32
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The next one; stays at the top instead of wrapping.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter!(
    /// Raised by a person's restore of the server; orders of an older epoch are refused.
    Epoch
);
counter!(
    /// Orders the desired states of one host within an epoch.
    Generation
);
counter!(
    /// Position of a signal in its host's spool; consecutive, never reused. The first is 1.
    SignalSeq
);

/// Name of a ring: 1-40 of `a-z 0-9 -`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RingName(String);

impl RingName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RingName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(
                "ring name",
                text,
                "use 1-40 of a-z, 0-9 and -, starting with a letter",
            ))
        }
    }
}
impl TryFrom<String> for RingName {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}
impl From<RingName> for String {
    fn from(name: RingName) -> Self {
        name.0
    }
}
impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ids_read_back_what_they_print() {
        let host = HostId(0x0123_4567_89ab_cdef);
        assert_eq!(host.to_string(), "h-0123456789abcdef");
        assert_eq!(host.to_string().parse::<HostId>().unwrap(), host);
        let nonce = Nonce([0xa5; 16]);
        assert_eq!(nonce.to_string().parse::<Nonce>().unwrap(), nonce);
    }

    #[test]
    fn an_id_of_another_kind_is_refused_by_its_prefix() {
        let error = "r-0123456789abcdef".parse::<HostId>().unwrap_err();
        assert!(
            error.to_string().contains("does not start with h-"),
            "{error}"
        );
        assert!("h-0123456789ABCDEF".parse::<HostId>().is_err());
        assert!("h-01".parse::<HostId>().is_err());
    }

    #[test]
    fn ring_names_hold_no_shell_or_path_characters() {
        for bad in ["", "Canary", "a/b", "a b", "-a", "ä", &"a".repeat(41)] {
            assert!(bad.parse::<RingName>().is_err(), "{bad:?}");
        }
        assert!("ring-0".parse::<RingName>().is_ok());
    }
}
