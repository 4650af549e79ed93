//! Bounded, harmless text out of hostile bytes.

/// Longest title in characters: one line of a terminal or a table cell, never a page.
pub const TITLE_CHARS_MAX: usize = 200;
/// Longest evidence string in characters.
pub const EVIDENCE_CHARS_MAX: usize = 512;

/// One line safe to show: control characters (NUL, newline, ANSI escapes), bidirectional overrides
/// and the replacement character become `?`; at most `chars_max` characters.
///
/// ```
/// assert_eq!(ringward_evidence::text::clean("a\u{1b}[31m\nb\0", 80), "a?[31m?b?");
/// ```
#[must_use]
pub fn clean(raw: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(raw.len().min(chars_max));
    for (count, c) in raw.chars().enumerate() {
        if count == chars_max {
            out.push('…');
            break;
        }
        out.push(if is_harmless(c) { c } else { '?' });
    }
    out
}

/// [`clean`] with the bound of a title.
#[must_use]
pub fn title(raw: &str) -> String {
    clean(raw, TITLE_CHARS_MAX)
}

/// [`clean`] with the bound of an evidence string.
#[must_use]
pub fn evidence(raw: &str) -> String {
    clean(raw, EVIDENCE_CHARS_MAX)
}

/// A line without the sequences that colour it on a terminal (ECMA-48 control sequences).
///
/// ```
/// use ringward_evidence::text::without_colour;
/// assert_eq!(without_colour("\u{1b}[32m[ 1.0] \u{1b}[0;1mBUG\u{1b}[0m"), "[ 1.0] BUG");
/// ```
#[must_use]
pub fn without_colour(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        // Parameters and intermediates, then the one letter that ends it.
        let mut tail = after
            .trim_start_matches(|c: char| matches!(c, ' '..='?'))
            .chars();
        tail.next();
        rest = tail.as_str();
    }
    out.push_str(rest);
    out
}

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffd}' | '\u{feff}')
}

/// Text from a fixed-size field: up to the first NUL, lossily decoded, cleaned.
#[must_use]
pub fn from_padded(field: &[u8], chars_max: usize) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    clean(&String::from_utf8_lossy(&field[..end]), chars_max)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// First 16 hexadecimal digits of the SHA-256 over the parts, each ended by a newline.
///
/// 64 bits: among a million different crashes two collide with a probability of 3 in 10⁸.
#[must_use]
pub fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update(b"\n");
    }
    hex(&hasher.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_overrides_never_pass() {
        let out = clean("x\0\r\n\u{1b}[2J\u{202e}y", 80);
        assert_eq!(out, "x????[2J?y");
    }

    #[test]
    fn long_text_is_cut_at_a_character_boundary() {
        assert_eq!(clean("äöü", 2), "äö…");
    }

    #[test]
    fn padded_field_ends_at_the_first_nul() {
        assert_eq!(from_padded(b"tty1\0garbage", 32), "tty1");
    }

    #[test]
    fn hash_is_stable_across_releases() {
        assert_eq!(short_hash(["a"]), "87428fc522803d31");
    }
}
