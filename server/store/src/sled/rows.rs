//! Keys and values of the one tree. A prefix byte names the table; numbers are big-endian, so that
//! they sort. Format 1.

use crate::lease::Lease;
use crate::{Key, StoreError, kinds};

/// Bytes of a value kept in its own row; the rest of a longer one goes into overflow rows of this
/// size. sled writes pages over a quarter of a segment into side files it never syncs; 17 rows of
/// 4 KiB, its largest leaf, stay far below.
pub(super) const CHUNK_BYTES: usize = 4096;

/// Version of this layout.
pub(super) const FORMAT: u64 = 1;

pub(super) const VALUE: u8 = b'k';
pub(super) const SIGNAL: u8 = b's';
pub(super) const AUDIT: u8 = b'a';
pub(super) const CHANGE: u8 = b'c';
pub(super) const REQUEST: u8 = b'q';
pub(super) const LEASE: u8 = b'l';
pub(super) const OVERFLOW: u8 = b'o';
pub(super) const META: u8 = b'm';

/// Row of the layout's version.
pub(super) const FORMAT_ROW: &[u8] = b"mformat";
/// Row of the counters.
pub(super) const COUNTERS_ROW: &[u8] = b"mcounters";

/// First row after a table.
pub(super) fn table_end(table: u8) -> Vec<u8> {
    vec![table + 1]
}

pub(super) fn value_row(kind: &str, id: &[u8]) -> Vec<u8> {
    let mut row = vec![VALUE];
    row.extend_from_slice(kind.as_bytes());
    row.push(0);
    row.extend_from_slice(id);
    row
}

/// First row after a kind.
pub(super) fn kind_end(kind: &str) -> Vec<u8> {
    let mut row = vec![VALUE];
    row.extend_from_slice(kind.as_bytes());
    row.push(1);
    row
}

/// The key written as `kind NUL id`.
pub(super) fn key_bytes(key: &Key) -> Vec<u8> {
    value_row(key.kind, &key.id).split_off(1)
}

/// Reads `kind NUL id`.
pub(super) fn key_from(bytes: &[u8]) -> Result<Key, StoreError> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| damaged("a key", "its kind has no end"))?;
    Ok(Key {
        kind: kinds::intern(&bytes[..end])?,
        id: bytes[end + 1..].to_vec(),
    })
}

/// A row of a table ordered by one number.
pub(super) fn number_row(table: u8, number: u64) -> Vec<u8> {
    let mut row = vec![table];
    row.extend_from_slice(&number.to_be_bytes());
    row
}

/// A row of a table ordered by two numbers.
pub(super) fn pair_row(table: u8, first: u64, second: u64) -> Vec<u8> {
    let mut row = number_row(table, first);
    row.extend_from_slice(&second.to_be_bytes());
    row
}

pub(super) fn lease_row(name: &str) -> Vec<u8> {
    let mut row = vec![LEASE];
    row.extend_from_slice(name.as_bytes());
    row
}

/// The number at `at` of a row or value.
pub(super) fn number(bytes: &[u8], at: usize, what: &str) -> Result<u64, StoreError> {
    let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
    bytes
        .map(u64::from_be_bytes)
        .ok_or_else(|| damaged(what, "it is too short"))
}

pub(super) fn lease_bytes(lease: &Lease) -> Vec<u8> {
    let mut bytes = lease.token.to_be_bytes().to_vec();
    bytes.extend_from_slice(&lease.until_ms.to_be_bytes());
    bytes.extend_from_slice(lease.holder.as_bytes());
    bytes
}

pub(super) fn lease_from(bytes: &[u8]) -> Result<Lease, StoreError> {
    let (token, until_ms) = (number(bytes, 0, "a lease")?, number(bytes, 8, "a lease")?);
    let holder = String::from_utf8(bytes[16..].to_vec())
        .map_err(|_| damaged("a lease", "its holder is not UTF-8"))?;
    Ok(Lease {
        holder,
        token,
        until_ms,
    })
}

/// Where the bytes of a value are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// In the row itself.
    Inline(&'a [u8]),
    /// The first chunk in the row, the rest in overflow rows `(id, 0..)`.
    Split {
        first: &'a [u8],
        id: u64,
        len: usize,
    },
}

impl<'a> Payload<'a> {
    /// Reads what follows the head of a row's value.
    pub fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        match bytes.split_first() {
            Some((0, inline)) => Ok(Self::Inline(inline)),
            Some((1, rest)) => Ok(Self::Split {
                id: number(rest, 0, "a long value")?,
                len: usize::try_from(number(rest, 8, "a long value")?)
                    .map_err(|_| damaged("a long value", "its length is impossible"))?,
                first: &rest[16..],
            }),
            _ => Err(damaged("a value", "its form is not known")),
        }
    }

    /// Rows of its overflow.
    pub fn overflow(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Inline(_) => Vec::new(),
            Self::Split { first, id, len } => {
                let chunks = len.saturating_sub(first.len()).div_ceil(CHUNK_BYTES);
                (0..chunks as u64)
                    .map(|chunk| pair_row(OVERFLOW, *id, chunk))
                    .collect()
            }
        }
    }
}

/// Rows of an overflow with their chunks.
pub(super) type Overflow = Vec<(Vec<u8>, Vec<u8>)>;

/// The value of a row, and its overflow rows (none for a short value; `id` names them).
pub(super) fn payload(head: &[u8], value: &[u8], id: u64) -> (Vec<u8>, Overflow) {
    let mut row = head.to_vec();
    if value.len() <= CHUNK_BYTES {
        row.push(0);
        row.extend_from_slice(value);
        return (row, Vec::new());
    }
    let (first, rest) = value.split_at(CHUNK_BYTES);
    row.push(1);
    row.extend_from_slice(&id.to_be_bytes());
    row.extend_from_slice(&(value.len() as u64).to_be_bytes());
    row.extend_from_slice(first);
    let chunks = rest.chunks(CHUNK_BYTES).zip(0..);
    let overflow = chunks.map(|(chunk, at)| (pair_row(OVERFLOW, id, at), chunk.to_vec()));
    (row, overflow.collect())
}

/// Length of what stands before the payload in a row of the table.
pub(super) fn head_len(table: u8) -> Option<usize> {
    match table {
        VALUE | SIGNAL => Some(8),
        AUDIT => Some(32),
        _ => None,
    }
}

pub(super) fn damaged(what: &str, why: &str) -> StoreError {
    StoreError::Damaged {
        what: what.into(),
        why: why.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_of_any_length_is_split_into_rows_no_longer_than_a_chunk() {
        for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
            let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let (row, overflow) = payload(b"headhead", &value, 7);
            let read = Payload::read(&row[8..]).unwrap();
            let names: Vec<_> = overflow.iter().map(|(row, _)| row.clone()).collect();
            assert_eq!(read.overflow(), names);
            let mut bytes = match read {
                Payload::Inline(bytes) | Payload::Split { first: bytes, .. } => bytes.to_vec(),
            };
            for (_, chunk) in overflow {
                assert!(chunk.len() <= CHUNK_BYTES);
                bytes.extend(chunk);
            }
            assert_eq!(bytes, value);
        }
    }

    #[test]
    fn kinds_that_begin_alike_stay_apart() {
        assert!(value_row("host", &[255; 9]) < kind_end("host"));
        assert!(value_row("hosts", b"") > kind_end("host"));
    }
}
