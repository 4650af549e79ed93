//! What boot loaders keep about attempts: GRUB's environment block and counters in entry names.

use std::collections::BTreeMap;

use crate::finding::{Finding, Item};
use crate::text;

/// First line of GRUB's environment block.
pub const GRUBENV_MAGIC: &[u8] = b"# GRUB Environment Block\n";
/// The size GRUB insists on.
const GRUBENV_BYTES: usize = 1024;

/// Variables of a GRUB environment block (1024 bytes, padded with `#`).
///
/// # Errors
/// What makes it no environment block, and the offset.
pub fn grubenv(bytes: &[u8]) -> Result<BTreeMap<String, String>, (String, u64)> {
    if !bytes.starts_with(GRUBENV_MAGIC) {
        return Err((
            "GRUB environment: the first line is not that of an environment block".to_owned(),
            0,
        ));
    }
    let bytes = &bytes[..bytes.len().min(GRUBENV_BYTES)];
    let mut variables = BTreeMap::new();
    for line in bytes.split(|&b| b == b'\n') {
        if line.starts_with(b"#") {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        // GRUB writes a backslash before a line end inside a value; nobody puts one there.
        if let Some((name, value)) = line.split_once('=') {
            variables.insert(text::clean(name, 64), text::evidence(value));
        }
    }
    Ok(variables)
}

/// Reads a GRUB environment block.
#[must_use]
pub fn read_grubenv(bytes: &[u8]) -> Vec<Item> {
    let variables = match grubenv(bytes) {
        Ok(variables) => variables,
        Err((error, offset)) => return vec![Item::unreadable(&error, offset)],
    };
    let mut items = Vec::new();
    if bytes.len() != GRUBENV_BYTES {
        let error = format!(
            "GRUB environment: {} bytes instead of {GRUBENV_BYTES}, GRUB refuses it",
            bytes.len()
        );
        items.push(Item::unreadable(
            &error,
            bytes.len().min(GRUBENV_BYTES) as u64,
        ));
    }
    let number = |name: &str| {
        variables
            .get(name)
            .and_then(|value| value.trim().parse::<i64>().ok())
    };
    let success = number("boot_success");
    let counter = number("boot_counter");
    let entry = variables
        .get("saved_entry")
        .or_else(|| variables.get("next_entry"));
    let (kind, title) = match (success, counter) {
        (_, Some(left)) if left < 0 => {
            ("boot-fallback", "GRUB fell back: the boot counter ran out")
        }
        (Some(0), Some(_)) => (
            "boot-unproven",
            "the entry is on trial and has not booted well yet",
        ),
        _ => ("boot-loader", "GRUB environment"),
    };
    let key = format!("grubenv:{}", entry.map_or("", String::as_str));
    let finding = Finding::new(kind, &key, title)
        .with_some("boot_success", success)
        .with_some("boot_counter", counter)
        .with_some("boot_indeterminate", number("boot_indeterminate"))
        .with_some("entry", entry.map(String::as_str))
        .with("variables", variables.len());
    items.push(finding.into());
    items
}

/// An entry name with a boot counter: `name+LEFT-DONE.conf`, `name+LEFT.efi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The entry without counter and ending.
    pub entry: String,
    /// Attempts left; 0 = the loader takes another entry.
    pub left: u32,
    /// Attempts done.
    pub done: u32,
}

/// Splits the counter off an entry's file name; `None` where the entry is not counted (any more).
///
/// ```
/// use ringward_evidence::linux::bootloader::boot_count;
/// let counted = boot_count("debian-6.1+2-1.conf").unwrap();
/// assert_eq!((counted.entry.as_str(), counted.left, counted.done), ("debian-6.1", 2, 1));
/// assert!(boot_count("debian-6.1.conf").is_none());
/// ```
#[must_use]
pub fn boot_count(file: &str) -> Option<Counted> {
    let stem = file
        .strip_suffix(".conf")
        .or_else(|| file.strip_suffix(".efi"))?;
    let (entry, counter) = stem.rsplit_once('+')?;
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    let number = |digits: &str| {
        let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| digits.parse().ok()).flatten()
    };
    Some(Counted {
        entry: text::evidence(entry),
        left: number(left)?,
        done: number(done)?,
    })
}

/// The finding of a counted entry name.
#[must_use]
pub fn read_boot_count(file: &str) -> Option<Finding> {
    let counted = boot_count(file)?;
    let (kind, title) = if counted.left == 0 {
        (
            "boot-fallback",
            format!("boot entry {} has no attempt left", counted.entry),
        )
    } else if counted.done > 0 {
        (
            "boot-unproven",
            format!(
                "boot entry {} failed to boot well {} times",
                counted.entry, counted.done
            ),
        )
    } else {
        (
            "boot-loader",
            format!("boot entry {} is on trial", counted.entry),
        )
    };
    Some(
        Finding::new(kind, &format!("boot-entry:{}", counted.entry), &title)
            .with("entry", counted.entry.as_str())
            .with("attempts_left", counted.left)
            .with("attempts_done", counted.done),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(variables: &str) -> Vec<u8> {
        let mut bytes = GRUBENV_MAGIC.to_vec();
        bytes.extend_from_slice(variables.as_bytes());
        bytes.resize(GRUBENV_BYTES, b'#');
        bytes
    }

    #[test]
    fn a_trial_and_a_fallback_are_told_apart() {
        let kind = |variables: &str| read_grubenv(&block(variables))[0].finding().unwrap().kind;
        assert_eq!(kind("boot_success=1\n"), "boot-loader");
        assert_eq!(kind("boot_success=0\nboot_counter=2\n"), "boot-unproven");
        assert_eq!(kind("boot_success=0\nboot_counter=-1\n"), "boot-fallback");
    }

    #[test]
    fn counters_that_are_no_numbers_are_none() {
        for file in [
            "a+.conf",
            "a+x-1.conf",
            "a+1-.conf",
            "a+99999999999-1.conf",
            "a+1",
        ] {
            assert!(boot_count(file).is_none(), "{file}");
        }
    }
}
