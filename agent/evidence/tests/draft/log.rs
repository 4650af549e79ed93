//! A writer of binary event logs, for every test that needs one: records whose values go through
//! templates, as Windows writes them.

/// One event to be written.
#[derive(Clone)]
pub struct Record {
    pub provider: &'static str,
    pub event_id: u16,
    /// Its number in the log.
    pub id: u64,
    /// When, in units of 100 ns since 1601.
    pub filetime: u64,
    pub data: Vec<(&'static str, String)>,
}

const CHUNK_LEN: usize = 0x1_0000;
const CHUNK_HEADER_LEN: usize = 0x200;
const STRING: u8 = 0x01;
const U16: u8 = 0x06;
const U64: u8 = 0x0a;
const FILETIME: u8 = 0x11;

/// A log of these records; a new chunk begins where the last is full.
pub fn log(records: &[Record]) -> Vec<u8> {
    let mut log = b"ElfFile\0".to_vec();
    log.resize(0x1000, 0);
    let mut rest = records;
    while !rest.is_empty() {
        let (mut chunk, taken) = chunk(rest);
        chunk.resize(CHUNK_LEN, 0);
        log.append(&mut chunk);
        rest = &rest[taken..];
    }
    log
}

/// As many records as go into one chunk, and how many those are; not filled up.
pub fn chunk(records: &[Record]) -> (Vec<u8>, usize) {
    let mut chunk = b"ElfChnk\0".to_vec();
    chunk.resize(CHUNK_HEADER_LEN, 0);
    let mut taken = 0;
    for record in records {
        let before = chunk.len();
        write(&mut chunk, record);
        if chunk.len() > CHUNK_LEN {
            assert!(taken > 0, "a record larger than a chunk");
            chunk.truncate(before);
            break;
        }
        taken += 1;
    }
    let ids = [records[0].id, records[taken - 1].id];
    for (at, id) in [8, 16, 24, 32].into_iter().zip(ids.into_iter().cycle()) {
        chunk[at..at + 8].copy_from_slice(&id.to_le_bytes());
    }
    let free = chunk.len() as u32;
    chunk[40..44].copy_from_slice(&128_u32.to_le_bytes());
    chunk[48..52].copy_from_slice(&free.to_le_bytes());
    (chunk, taken)
}

fn write(chunk: &mut Vec<u8>, record: &Record) {
    let start = chunk.len();
    chunk.extend([0x2a, 0x2a, 0, 0, 0, 0, 0, 0]);
    chunk.extend(record.id.to_le_bytes());
    chunk.extend(record.filetime.to_le_bytes());
    // A fragment, in it an instance of the template that is defined right here.
    chunk.extend([0x0f, 1, 1, 0, 0x0c, 1]);
    chunk.extend(u32::from(record.event_id).to_le_bytes());
    let definition = chunk.len() as u32 + 4;
    chunk.extend(definition.to_le_bytes());
    chunk.extend([0; 20]);
    let size_at = chunk.len();
    chunk.extend([0; 4]);
    chunk.extend([0x0f, 1, 1, 0]);
    event(chunk, record);
    chunk.push(0);
    let size = (chunk.len() - size_at - 4) as u32;
    chunk[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
    values(chunk, record);
    chunk.push(0);
    let size = (chunk.len() - start + 4) as u32;
    chunk.extend(size.to_le_bytes());
    chunk[start + 4..start + 8].copy_from_slice(&size.to_le_bytes());
}

/// The template's text: `Event` with `System` and `EventData`, its values by their numbers.
fn event(chunk: &mut Vec<u8>, record: &Record) {
    open(chunk, "Event", None);
    open(chunk, "System", None);
    open(chunk, "Provider", Some(("Name", record.provider)));
    chunk.push(0x04);
    for (index, (name, kind)) in [("EventID", U16), ("EventRecordID", U64)]
        .into_iter()
        .enumerate()
    {
        open(chunk, name, None);
        substitute(chunk, index as u16, kind);
        chunk.push(0x04);
    }
    name_start(chunk, 0x41, "TimeCreated");
    chunk.extend([0; 4]);
    chunk.push(0x06);
    name(chunk, "SystemTime");
    substitute(chunk, 2, FILETIME);
    chunk.extend([0x02, 0x04]);
    for (element, said) in [("Channel", "System"), ("Computer", "HOST")] {
        open(chunk, element, None);
        text(chunk, said);
        chunk.push(0x04);
    }
    chunk.push(0x04);
    open(chunk, "EventData", None);
    for (index, (name, _)) in record.data.iter().enumerate() {
        open(chunk, "Data", Some(("Name", name)));
        substitute(chunk, index as u16 + 3, STRING);
        chunk.push(0x04);
    }
    chunk.extend([0x04, 0x04]);
}

fn values(chunk: &mut Vec<u8>, record: &Record) {
    let mut values: Vec<(u8, Vec<u8>)> = vec![
        (U16, record.event_id.to_le_bytes().to_vec()),
        (U64, record.id.to_le_bytes().to_vec()),
        (FILETIME, record.filetime.to_le_bytes().to_vec()),
    ];
    let wide = |said: &str| said.encode_utf16().flat_map(u16::to_le_bytes).collect();
    values.extend(record.data.iter().map(|(_, said)| (STRING, wide(said))));
    chunk.extend((values.len() as u32).to_le_bytes());
    for (kind, bytes) in &values {
        chunk.extend((bytes.len() as u16).to_le_bytes());
        chunk.extend([*kind, 0]);
    }
    chunk.extend(values.into_iter().flat_map(|(_, bytes)| bytes));
}

/// Opens an element, with at most one attribute.
fn open(chunk: &mut Vec<u8>, element: &str, attribute: Option<(&str, &str)>) {
    let Some((key, value)) = attribute else {
        name_start(chunk, 0x01, element);
        chunk.push(0x02);
        return;
    };
    name_start(chunk, 0x41, element);
    chunk.extend([0; 4]);
    chunk.push(0x06);
    name(chunk, key);
    text(chunk, value);
    chunk.push(0x02);
}

/// An element's token and name; its size is of no use to a reader that goes through it.
fn name_start(chunk: &mut Vec<u8>, token: u8, element: &str) {
    chunk.push(token);
    chunk.extend([0xff, 0xff, 0, 0, 0, 0]);
    name(chunk, element);
}

/// A name that stands where it is asked for.
fn name(chunk: &mut Vec<u8>, name: &str) {
    let here = chunk.len() as u32 + 4;
    chunk.extend(here.to_le_bytes());
    chunk.extend([0; 6]);
    counted(chunk, name);
    chunk.extend([0, 0]);
}

fn text(chunk: &mut Vec<u8>, said: &str) {
    chunk.extend([0x05, STRING]);
    counted(chunk, said);
}

fn counted(chunk: &mut Vec<u8>, said: &str) {
    let units: Vec<u16> = said.encode_utf16().collect();
    chunk.extend((units.len() as u16).to_le_bytes());
    chunk.extend(units.into_iter().flat_map(u16::to_le_bytes));
}

fn substitute(chunk: &mut Vec<u8>, index: u16, kind: u8) {
    chunk.push(0x0d);
    chunk.extend(index.to_le_bytes());
    chunk.push(kind);
}
