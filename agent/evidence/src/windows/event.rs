//! One event of a Windows log, however it was stored.

use std::fmt;
use std::str::FromStr;

use evtx::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest value kept of one datum, in bytes. The longest the detector reads is a list of file
/// paths; 4 KiB hold a dozen.
pub const VALUE_LEN_MAX: usize = 4096;
/// Most data kept of one event: Windows Error Reporting writes 22, nothing we read more.
pub const DATA_MAX: usize = 64;

/// A moment of the writer's clock: microseconds since 1970 UTC. Shown as RFC 3339.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct EventTime(pub i64);

impl EventTime {
    /// From a FILETIME: 100 ns units since 1601 UTC. `None` for zero and beyond the calendar.
    pub fn from_filetime(ticks: u64) -> Option<Self> {
        const US_FROM_1601_TO_1970: i64 = 11_644_473_600_000_000;
        let us = i64::try_from(ticks / 10)
            .ok()?
            .checked_sub(US_FROM_1601_TO_1970)?;
        (ticks != 0 && Timestamp::from_microsecond(us).is_ok()).then_some(Self(us))
    }

    /// Whole seconds from `earlier` to this; negative where the clock went back.
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

impl FromStr for EventTime {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let time: Timestamp = text.parse().map_err(|_| ())?;
        Ok(Self(time.as_microsecond()))
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => f.write_str("?"),
        }
    }
}

/// One datum of an event: named by newer templates, positional in older ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Datum {
    /// The template's name for it; empty where the template has none.
    pub name: String,
    /// Its text as rendered, cut at [`VALUE_LEN_MAX`].
    pub value: String,
}

/// One event, as far as the detector needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventRecord {
    /// The publisher. An id means nothing without it: 12, 20, 41 and 1001 collide.
    pub provider: String,
    /// The event id within its provider.
    pub event_id: u32,
    /// The template's version; 0 where none is written.
    pub version: u8,
    /// Position in its log: the only order relied upon.
    pub record_id: u64,
    /// The writer's clock, for people and as a tag; never for order across boots.
    pub time: Option<EventTime>,
    /// The log it was written to (`System`, `Application`).
    pub channel: String,
    /// The computer's name when it was written.
    pub computer: String,
    /// The event's data in order, at most [`DATA_MAX`].
    pub data: Vec<Datum>,
    /// The `<Binary>` attachment, cut at [`VALUE_LEN_MAX`] bytes.
    pub binary: Vec<u8>,
}

impl EventRecord {
    /// The value of a named datum.
    pub fn named(&self, name: &str) -> Option<&str> {
        let datum = self.data.iter().find(|datum| datum.name == name)?;
        Some(datum.value.as_str())
    }

    /// The value at a position, whether named or not.
    pub fn at(&self, position: usize) -> Option<&str> {
        Some(self.data.get(position)?.value.as_str())
    }

    /// A named number, decimal or `0x` hexadecimal.
    pub fn number(&self, name: &str) -> Option<u64> {
        number(self.named(name)?)
    }

    /// A named truth value; templates write it as a word or as an integer.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.named(name)?.trim() {
            "true" => Some(true),
            "false" => Some(false),
            other => number(other).map(|value| value != 0),
        }
    }

    /// The `<Binary>` attachment as UTF-16LE text up to its first NUL; `None` when it is empty
    /// or no such text.
    pub fn binary_text(&self) -> Option<String> {
        let units = self.binary.as_chunks::<2>().0.iter();
        let units: Vec<u16> = units
            .map(|unit| u16::from_le_bytes(*unit))
            .take_while(|unit| *unit != 0)
            .collect();
        let text = String::from_utf16(&units).ok()?;
        let printable = !text.is_empty() && !text.chars().any(char::is_control);
        printable.then_some(text)
    }
}

/// A number as events render it: decimal, or hexadecimal after `0x`.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Cuts `text` to at most `len_max` bytes on a character's boundary.
pub(super) fn clip(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(name: &str, value: &str) -> EventRecord {
        let data = vec![Datum {
            name: name.into(),
            value: value.into(),
        }];
        EventRecord {
            data,
            ..EventRecord::default()
        }
    }

    #[test]
    fn a_flag_is_a_word_in_old_templates_and_a_number_in_new_ones() {
        assert_eq!(with("A", "false").flag("A"), Some(false));
        assert_eq!(with("A", "6").flag("A"), Some(true));
        assert_eq!(with("A", "0").flag("A"), Some(false));
        assert_eq!(with("A", "vielleicht").flag("A"), None);
    }

    #[test]
    fn numbers_are_decimal_unless_prefixed() {
        assert_eq!(number("26"), Some(26));
        assert_eq!(number("0x1A"), Some(26));
        assert_eq!(number("1A"), None);
        assert_eq!(number("0xffffffffffffffffff"), None);
    }

    #[test]
    fn a_service_key_is_read_from_the_binary_attachment() {
        let mut event = EventRecord {
            binary: b"S\0p\0o\0o\0l\0e\0r\0\0\0".to_vec(),
            ..EventRecord::default()
        };
        assert_eq!(event.binary_text().unwrap(), "Spooler");
        event.binary = vec![0, 0];
        assert_eq!(event.binary_text(), None);
        event.binary = vec![1, 0, 0, 0];
        assert_eq!(event.binary_text(), None, "a control character is no name");
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip("aé", 2), "a");
        assert_eq!(clip("aé", 3), "aé");
    }
}
