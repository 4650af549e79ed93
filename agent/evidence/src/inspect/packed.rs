//! Artefacts packed by a common program: rotated logs, pstore records, stored journals.

use std::io::{self, Read};

use super::{Open, sniff};
use crate::linux::journal::file::{ZSTD_WINDOW_BYTES_MAX, zstd_window_bytes};
use crate::source::Source;

/// What was in it.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Its first bytes, as many as were allowed.
    pub(super) bytes: Vec<u8>,
    /// Why it is not all; `None` where it is.
    pub(super) cut: Option<String>,
}

/// Unpacks at most `bytes_max` bytes. What comes before damage is kept.
pub(super) fn unpack(with: &str, packed: &[u8], bytes_max: usize) -> Result<Unpacked, String> {
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    let outcome = match with {
        "gzip" => flate2::bufread::MultiGzDecoder::new(packed)
            .take(limit)
            .read_to_end(&mut bytes)
            .map(drop),
        "zstd" => unzstd(packed, bytes_max, &mut bytes),
        _ => return Err(format!("packed with {with}: unpack it first")),
    };
    let cut = match outcome {
        Err(error) if bytes.is_empty() => {
            return Err(format!("unpacking {with} failed: {error}"));
        }
        Err(error) => Some(format!("unpacking {with} ended early: {error}")),
        Ok(()) if bytes.len() > bytes_max => Some(format!(
            "only the first {bytes_max} of the unpacked bytes are read"
        )),
        Ok(()) => None,
    };
    bytes.truncate(bytes_max);
    Ok(Unpacked { bytes, cut })
}

fn unzstd(packed: &[u8], bytes_max: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    use ruzstd::decoding::StreamingDecoder;
    use ruzstd::io::Read as _;
    if zstd_window_bytes(packed).is_none_or(|bytes| bytes > ZSTD_WINDOW_BYTES_MAX) {
        return Err(io::Error::other("it asks for more than 8 MiB of memory"));
    }
    let mut decoder = StreamingDecoder::new(packed).map_err(told)?;
    let mut part = [0; 16 * 1024];
    while bytes.len() <= bytes_max {
        match decoder.read(&mut part).map_err(told)? {
            0 => break,
            read => bytes.extend_from_slice(&part[..read]),
        }
    }
    Ok(())
}

fn told(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Whether unpacked bytes are packed again.
pub(super) fn is_packed(bytes: &[u8]) -> bool {
    matches!(
        sniff("", &bytes[..bytes.len().min(16)], bytes.len() as u64),
        super::Kind::Packed(_)
    )
}

/// The name of what is in it: `kern.log.2.gz` holds `kern.log.2`.
pub(super) fn inner_path(path: &str) -> &str {
    [".gz", ".zst"]
        .iter()
        .find_map(|suffix| path.strip_suffix(suffix))
        .unwrap_or(path)
}

/// The one artefact of the inner listing.
pub(super) struct InMemory<'a>(pub(super) &'a [u8]);

impl Open for InMemory<'_> {
    fn open(&mut self, _index: usize) -> io::Result<Box<dyn Source + '_>> {
        Ok(Box::new(self.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_read_as_far_as_memory_allows() {
        let bomb = gzip(&vec![b'a'; 1 << 20]);
        let out = unpack("gzip", &bomb, 1000).unwrap();
        assert_eq!(out.bytes.len(), 1000);
        assert!(out.cut.unwrap().contains("first 1000"));
    }

    #[test]
    fn what_comes_before_a_cut_is_read() {
        let whole: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&whole);
        let out = unpack("gzip", &packed[..packed.len() / 2], usize::MAX >> 1).unwrap();
        assert!(!out.bytes.is_empty() && whole.starts_with(&out.bytes));
        assert!(out.cut.unwrap().contains("ended early"));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        assert!(
            unpack("gzip", b"\x1f\x8bxxxx", 10)
                .unwrap_err()
                .contains("gzip")
        );
        assert!(
            unpack("zstd", b"\x28\xb5\x2f\xfd", 10)
                .unwrap_err()
                .contains("zstd")
        );
        assert!(
            unpack("xz", b"", 10)
                .unwrap_err()
                .contains("unpack it first")
        );
    }
}
