//! Binary event logs.
//!
//! Chunks are walked here rather than by the file's header, which a dirty log leaves stale: it
//! may count chunks that were never written or miss the last ones. Each chunk stands alone, so
//! neither a bad chunk nor a bad record hides what follows it.

use std::sync::Arc;

use evtx::err::EvtxError;
use evtx::{EvtxChunkData, ParserSettings};

use super::detector::Detector;
use super::xml::{chain, parse_event};
use crate::finding::Item;

const FILE_HEADER_LEN: usize = 0x1000;
const CHUNK_LEN: usize = 0x10000;
/// A chunk's own header; its first record follows.
const CHUNK_HEADER_LEN: usize = 0x200;
const CHUNK_MAGIC: &[u8] = b"ElfChnk\0";
const RECORD_MAGIC: &[u8] = &[0x2a, 0x2a, 0, 0];
/// Unreadable places told of one log. A log of random bytes has one a chunk.
const ERRORS_MAX: usize = 100;

/// A chunk in the file, and the record id it starts with.
struct Chunk<'a> {
    first_record_id: u64,
    offset: usize,
    bytes: &'a [u8],
}

/// Feeds a whole log to a detector; returns what could not be read.
pub(super) fn feed(bytes: &[u8], detector: &mut Detector) -> Vec<Item> {
    let mut gaps = Gaps::default();
    let chunks = chunks(bytes, &mut gaps);
    let settings = Arc::new(ParserSettings::default().indent(false));
    let mut last_record_id = None;
    for chunk in &chunks {
        if last_record_id.is_some_and(|last: u64| chunk.first_record_id != last.wrapping_add(1)) {
            detector.records_lost();
        }
        last_record_id = read_chunk(chunk, &settings, detector, &mut gaps);
    }
    gaps.items
}

#[derive(Default)]
struct Gaps {
    items: Vec<Item>,
}

impl Gaps {
    fn tell(&mut self, error: &str, offset: usize) {
        if self.items.len() < ERRORS_MAX {
            self.items.push(Item::unreadable(error, offset as u64));
        }
    }
}

/// The log's chunks in the order of their records: a full log is a ring, whose newest chunk
/// stands anywhere.
fn chunks<'a>(bytes: &'a [u8], gaps: &mut Gaps) -> Vec<Chunk<'a>> {
    let start = if bytes.starts_with(CHUNK_MAGIC) {
        0
    } else {
        FILE_HEADER_LEN.min(bytes.len())
    };
    if start == bytes.len() {
        gaps.tell(
            "reading an event log: it ends before its first chunk",
            start,
        );
    }
    let mut chunks = Vec::new();
    for (index, chunk) in bytes[start..].chunks(CHUNK_LEN).enumerate() {
        let offset = start + index * CHUNK_LEN;
        if chunk.iter().all(|byte| *byte == 0) {
            continue; // allocated, never written
        }
        if !chunk.starts_with(CHUNK_MAGIC) {
            gaps.tell(
                "reading an event log: a chunk without its ElfChnk mark",
                offset,
            );
            continue;
        }
        if chunk.len() < CHUNK_LEN {
            let cut = "reading an event log: it ends inside a chunk; the records before are read";
            gaps.tell(cut, offset + chunk.len());
        }
        chunks.push(Chunk {
            first_record_id: first_record_id(chunk),
            offset,
            bytes: chunk,
        });
    }
    chunks.sort_by_key(|chunk| chunk.first_record_id);
    chunks
}

/// The id of a chunk's first record, from the record itself (a dirty chunk's header is stale),
/// else from the header.
fn first_record_id(chunk: &[u8]) -> u64 {
    let id_at = |offset: usize| {
        let id = chunk.get(offset..)?.first_chunk()?;
        Some(u64::from_le_bytes(*id))
    };
    let record = chunk.get(CHUNK_HEADER_LEN..).unwrap_or_default();
    let of_record = record
        .starts_with(RECORD_MAGIC)
        .then(|| id_at(CHUNK_HEADER_LEN + 8));
    of_record
        .flatten()
        .or_else(|| id_at(24))
        .unwrap_or_default()
}

/// Reads a chunk's records and returns the id of the last one.
fn read_chunk(
    chunk: &Chunk<'_>,
    settings: &Arc<ParserSettings>,
    detector: &mut Detector,
    gaps: &mut Gaps,
) -> Option<u64> {
    let mut lost = |error: &dyn std::error::Error, at: usize, detector: &mut Detector| {
        detector.records_lost();
        let told = format!("reading an event log: {}", chain(error));
        gaps.tell(&told, chunk.offset + at);
    };
    let mut data = match EvtxChunkData::new(chunk.bytes.to_vec(), false) {
        Ok(data) => data,
        Err(error) => {
            lost(&error, 0, detector);
            return None;
        }
    };
    let mut parsed = match data.parse(Arc::clone(settings)) {
        Ok(parsed) => parsed,
        Err(error) => {
            lost(&error, 0, detector);
            return None;
        }
    };
    let mut last_record_id = None;
    for record in parsed.iter() {
        let rendered = match record.and_then(|record| record.into_xml()) {
            Ok(rendered) => rendered,
            Err(error) => {
                lost(&error, offset_in_chunk(&error), detector);
                continue;
            }
        };
        last_record_id = Some(rendered.event_record_id);
        match parse_event(&rendered.data) {
            Ok(mut event) => {
                // The record's own header outranks what its template renders.
                event.record_id = rendered.event_record_id;
                detector.push(&event);
            }
            Err(error) => lost(&error, 0, detector),
        }
    }
    last_record_id
}

fn offset_in_chunk(error: &EvtxError) -> usize {
    match error {
        EvtxError::FailedToReadRecordAt { offset, .. } => usize::try_from(*offset).unwrap_or(0),
        _ => 0,
    }
}
