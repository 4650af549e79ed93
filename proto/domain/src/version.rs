//! Package names and versions.

use crate::ids::IdError;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Name of a package: 1-100 of `a-z 0-9 . + -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

impl PackageName {
    /// The name as text; safe as one path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for PackageName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=100).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".+-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(
                "package name",
                text,
                "use 1-100 of a-z, 0-9, '.', '+' and '-', starting with a letter or digit",
            ))
        }
    }
}
impl TryFrom<String> for PackageName {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}
impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.0
    }
}
impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Version of a package: 1-100 of `A-Z a-z 0-9 . _ + - : ~`, no spaces, safe as one path component
/// (never `.` or `..`).
///
/// Ordered as Debian Policy §5.6.12 orders version strings: runs of digits by value, `~` before the
/// end, letters before other characters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl FromStr for Version {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (1..=100).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._+-:~".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::new(
                "version",
                text,
                "use 1-100 letters, digits and '._+-:~', starting with a letter or digit",
            ))
        }
    }
}
impl TryFrom<String> for Version {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}
impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sort weight of one character of a non-digit run; 0 stands for the end of the run.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.0.as_bytes(), other.0.as_bytes());
        while !a.is_empty() || !b.is_empty() {
            while a.first().is_some_and(|c| !c.is_ascii_digit())
                || b.first().is_some_and(|c| !c.is_ascii_digit())
            {
                let order = weight(a.first().copied()).cmp(&weight(b.first().copied()));
                if order.is_ne() {
                    return order;
                }
                a = a.get(1..).unwrap_or_default();
                b = b.get(1..).unwrap_or_default();
            }
            let run = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
            let ((x, rest_a), (y, rest_b)) = (a.split_at(run(a)), b.split_at(run(b)));
            let trim = |s: &[u8]| {
                s.iter()
                    .skip_while(|c| **c == b'0')
                    .copied()
                    .collect::<Vec<_>>()
            };
            let (x, y) = (trim(x), trim(y));
            let order = x.len().cmp(&y.len()).then_with(|| x.cmp(&y));
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        }
        Ordering::Equal
    }
}
impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Version {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn v(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_order_by_number_and_tilde_comes_first() {
        let ordered = [
            "0.9", "1.0~rc1", "1.0", "1.0-1", "1.0.1", "1.1", "1.2", "1.10", "2.0a",
        ];
        for pair in ordered.windows(2) {
            assert!(v(pair[0]) < v(pair[1]), "{pair:?}");
        }
        assert_eq!(v("1.01"), v("1.1"));
    }

    #[test]
    fn names_that_could_leave_a_folder_are_refused() {
        for bad in ["..", ".", "../x", "a/b", "", "a b", "-x"] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad:?}");
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
