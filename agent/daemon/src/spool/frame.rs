//! One record of the spool: `magic | kind | length | seq | CRC-32 | payload`, little-endian.
//!
//! The magic holds bytes that never occur in UTF-8, and payloads are JSON: whoever writes the text
//! of a signal cannot forge a record inside it.

use ringward_domain::SignalSeq;

const MAGIC: [u8; 4] = [0xf5, 0x52, 0x57, 0xfe];
/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 4 + 1 + 4 + 8 + 4;
/// Longest payload. A signal has at most 256 + 4,096 bytes of text, JSON escapes take at most six
/// bytes for one; the rest is small.
pub(super) const PAYLOAD_BYTES_MAX: usize = 32 * 1024;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A signal; its payload is JSON.
    Signal,
    /// Everything up to and with this seq is durable at the server.
    Acknowledged,
    /// No seq below this one is free.
    Next,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Signal => 1,
            Self::Acknowledged => 2,
            Self::Next => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Signal),
            2 => Some(Self::Acknowledged),
            3 => Some(Self::Next),
            _ => None,
        }
    }
}

/// A whole record as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) seq: SignalSeq,
    pub(super) payload: &'a [u8],
}

/// What could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Damage {
    /// Runs of bytes that are no record.
    pub(super) places: u64,
    /// Bytes in them.
    pub(super) bytes: u64,
}

fn checksum(kind: u8, len: [u8; 4], seq: [u8; 8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(&len);
    crc.update(&seq);
    crc.update(payload);
    crc.finalize()
}

/// The bytes of a record; the payload has at most [`PAYLOAD_BYTES_MAX`].
pub(super) fn encode(kind: Kind, seq: SignalSeq, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let seq = seq.0.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend(MAGIC);
    bytes.push(kind.to_byte());
    bytes.extend(len);
    bytes.extend(seq);
    bytes.extend(checksum(kind.to_byte(), len, seq, payload).to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The record that starts at the first byte, if one does.
fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    if array::<4>(bytes, 0)? != MAGIC {
        return None;
    }
    let kind = *bytes.get(4)?;
    let (len, seq) = (array::<4>(bytes, 5)?, array::<8>(bytes, 9)?);
    let size = usize::try_from(u32::from_le_bytes(len)).ok()?;
    if size > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + size)?;
    let stored = u32::from_le_bytes(array::<4>(bytes, 17)?);
    (stored == checksum(kind, len, seq, payload)).then_some(())?;
    Some(Frame {
        kind: Kind::from_byte(kind)?,
        seq: SignalSeq(u64::from_le_bytes(seq)),
        payload,
    })
}

/// Visit every whole record in order, going on behind whatever is damaged.
pub(super) fn scan<'a>(bytes: &'a [u8], mut visit: impl FnMut(Frame<'a>)) -> Damage {
    let mut damage = Damage::default();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some(frame) = decode(rest) {
            at += HEADER_BYTES + frame.payload.len();
            visit(frame);
            continue;
        }
        let skip = rest
            .windows(MAGIC.len())
            .skip(1)
            .position(|window| window == MAGIC)
            .map_or(rest.len(), |position| position + 1);
        damage.places += 1;
        damage.bytes += skip as u64;
        at += skip;
    }
    damage
}
