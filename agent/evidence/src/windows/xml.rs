//! Rendered event XML: what `EvtRender` and the Event Viewer write, and what the `evtx` crate
//! makes of a binary record, so that every event reaches the detector through one reader.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use thiserror::Error;

use super::detector::Detector;
use super::event::{DATA_MAX, Datum, EventRecord, VALUE_LEN_MAX, clip};
use crate::finding::Item;

/// Longest single event read: a record cannot outgrow its 64 KiB chunk, and rendering may
/// escape each of its bytes.
const EVENT_LEN_MAX: usize = 1 << 20;
/// Deepest nesting followed; Windows writes four levels.
const DEPTH_MAX: usize = 32;
/// Attributes looked at in one tag; Windows writes up to three.
const ATTRIBUTES_MAX: usize = 16;
/// Events kept of one text before the rest is refused; a log of the default 20 MB has some
/// hundreds that matter.
const EVENTS_MAX: usize = 50_000;
/// Unreadable events told of one text.
const ERRORS_MAX: usize = 100;

/// Why the text is not one rendered event.
#[derive(Debug, Error)]
pub enum XmlError {
    /// Longer than any event Windows writes.
    #[error("reading an event: {0} bytes are more than any event has (1 MiB)")]
    TooLong(usize),
    /// Nested deeper than any event Windows writes.
    #[error("reading an event: elements are nested deeper than 32")]
    TooDeep,
    /// Not well-formed.
    #[error("reading an event: the XML is broken")]
    Broken(#[source] quick_xml::Error),
    /// Cut short, or without an id.
    #[error("reading an event: it has no {0}")]
    Lacks(&'static str),
}

/// Text from bytes: UTF-16 by its byte order mark (or by the NUL beside the first `<`), else
/// UTF-8 with what is not UTF-8 replaced.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|pair| unit(*pair));
        let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        Cow::Owned(text.collect())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [b'<', 0, ..] => utf16(bytes, u16::from_le_bytes),
        [0, b'<', ..] => utf16(bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Whether text starts as events do: with one, or with a document or list that holds some.
pub(super) fn looks_like_events(text: &str) -> bool {
    let text = text.trim_start();
    let wrapped = text.starts_with("<?xml") || text.starts_with("<Events");
    next_event(text, 0).is_some_and(|at| at == 0 || wrapped)
}

/// Reads every `<Event>` of a text, taking each computer's events for a machine's.
pub(super) fn read(bytes: &[u8]) -> Vec<Item> {
    let (events, mut items) = events(bytes);
    let mut computers: BTreeMap<String, Detector> = BTreeMap::new();
    for event in &events {
        let detector = computers.entry(event.computer.clone()).or_default();
        detector.push(event);
    }
    for detector in computers.into_values() {
        items.extend(detector.finish().into_iter().map(Item::from));
    }
    items
}

/// Feeds every `<Event>` of a text to one machine's detector.
pub(super) fn feed(bytes: &[u8], detector: &mut Detector) -> Vec<Item> {
    let (events, items) = events(bytes);
    for event in &events {
        detector.push(event);
    }
    items
}

/// The events of a text that matter, and what could not be read. Exports list the newest first,
/// so events are put in the order of their record ids, the System log before the others, whose
/// reports add to its stops.
fn events(bytes: &[u8]) -> (Vec<EventRecord>, Vec<Item>) {
    let text = decode(bytes);
    let mut items = Vec::new();
    let mut events = Vec::new();
    for (offset, piece) in pieces(&text) {
        let error = match piece.and_then(parse_event) {
            Ok(event) if !Detector::wants(&event) => continue,
            Ok(event) if events.len() < EVENTS_MAX => {
                events.push(event);
                continue;
            }
            Ok(_) => {
                let told = "reading events: more than 50,000 matter, the rest is not read";
                items.push(Item::unreadable(told, offset as u64));
                break;
            }
            Err(error) => error,
        };
        if items.len() < ERRORS_MAX {
            items.push(Item::unreadable(&chain(&error), offset as u64));
        }
    }
    events.sort_by(|a, b| order(a).cmp(&order(b)));
    (events, items)
}

fn order(event: &EventRecord) -> (bool, &str, u64) {
    (event.channel != "System", &event.channel, event.record_id)
}

/// The `<Event ...>...</Event>` pieces of a text with their offsets. A piece that does not end
/// before the next one begins is an error of its own.
fn pieces(text: &str) -> impl Iterator<Item = (usize, Result<&str, XmlError>)> {
    const END: &str = "</Event>";
    let mut from = next_event(text, 0);
    std::iter::from_fn(move || {
        let start = from?;
        let next = next_event(text, start + 1);
        from = next;
        let piece = &text[start..next.unwrap_or(text.len())];
        let piece = match piece.find(END) {
            Some(end) => &piece[..end + END.len()],
            None => return Some((start, Err(XmlError::Lacks("end")))),
        };
        Some((start, Ok(piece)))
    })
}

/// Where the next `<Event>` or `<Event ...>` tag starts; `<EventID>` and the like are none.
fn next_event(text: &str, from: usize) -> Option<usize> {
    const START: &str = "<Event";
    let mut from = from;
    loop {
        let at = from + text.get(from..)?.find(START)?;
        match text.as_bytes().get(at + START.len()) {
            // The end of the text may have cut the tag.
            None | Some(b'>' | b'/' | b' ' | b'\t' | b'\r' | b'\n') => return Some(at),
            _ => from = at + START.len(),
        }
    }
}

/// Reads one rendered event: the `<Event>` element, with or without an XML declaration.
///
/// # Errors
/// When it is not well-formed, too long, too deep, or has no id. An event without a provider is
/// one that nothing matches; Windows writes such, too.
pub fn parse_event(xml: &str) -> Result<EventRecord, XmlError> {
    if xml.len() > EVENT_LEN_MAX {
        return Err(XmlError::TooLong(xml.len()));
    }
    let mut reader = Reader::from_str(xml);
    let mut walk = Walk::default();
    loop {
        match reader.read_event().map_err(XmlError::Broken)? {
            Event::Start(tag) => walk.open(&tag)?,
            Event::Empty(tag) => {
                walk.open(&tag)?;
                walk.close();
            }
            Event::End(_) => walk.close(),
            Event::Text(text) => walk.text(&text),
            Event::CData(text) => walk.text(&text),
            Event::GeneralRef(entity) => walk.entity(&entity),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if !walk.has_id {
        return Err(XmlError::Lacks("event id"));
    }
    Ok(walk.event)
}

/// The open elements that matter, and the record as read so far.
#[derive(Default)]
struct Walk {
    path: Vec<Element>,
    text: String,
    event: EventRecord,
    has_id: bool,
    datum_fits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    System,
    EventId,
    Version,
    RecordId,
    Channel,
    Computer,
    Payload,
    Data,
    Binary,
    Other,
}

impl Walk {
    fn open(&mut self, tag: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.path.len() == DEPTH_MAX {
            return Err(XmlError::TooDeep);
        }
        let name = tag.local_name();
        let element = self.element(name.as_ref());
        self.text.clear();
        match (element, name.as_ref()) {
            (Element::Data, _) => self.open_datum(tag),
            (Element::Other, "Provider") if self.inside(Element::System) => {
                self.event.provider = attribute(tag, "Name").unwrap_or_default();
            }
            (Element::Other, "TimeCreated") if self.inside(Element::System) => {
                let time = attribute(tag, "SystemTime");
                self.event.time = time.and_then(|time| time.parse().ok());
            }
            _ => {}
        }
        self.path.push(element);
        Ok(())
    }

    fn open_datum(&mut self, tag: &BytesStart<'_>) {
        self.datum_fits = self.event.data.len() < DATA_MAX;
        if self.datum_fits {
            let name = attribute(tag, "Name").unwrap_or_default();
            let value = String::new();
            self.event.data.push(Datum { name, value });
        }
    }

    fn inside(&self, element: Element) -> bool {
        self.path.last() == Some(&element)
    }

    /// What an element is, by its name and by where it stands.
    fn element(&self, name: &str) -> Element {
        let parent = self.path.last().copied();
        match (parent, name) {
            (Some(Element::Other), "System") if self.path.len() == 1 => Element::System,
            (Some(Element::Other), "EventData") if self.path.len() == 1 => Element::Payload,
            (Some(Element::System), "EventID") => Element::EventId,
            (Some(Element::System), "Version") => Element::Version,
            (Some(Element::System), "EventRecordID") => Element::RecordId,
            (Some(Element::System), "Channel") => Element::Channel,
            (Some(Element::System), "Computer") => Element::Computer,
            (Some(Element::Payload), "Binary") => Element::Binary,
            (Some(Element::Payload), "Data") => Element::Data,
            _ => Element::Other,
        }
    }

    fn text(&mut self, text: &str) {
        let room = match self.path.last() {
            Some(Element::Binary) => (2 * VALUE_LEN_MAX).saturating_sub(self.text.len()),
            _ => VALUE_LEN_MAX.saturating_sub(self.text.len()),
        };
        self.text.push_str(clip(text, room));
    }

    fn entity(&mut self, entity: &BytesRef<'_>) {
        match entity.resolve_char_ref() {
            Ok(Some(character)) => self.text(character.encode_utf8(&mut [0; 4])),
            Ok(None) => self.text(resolve_xml_entity(entity).unwrap_or_default()),
            // A reference to no character, such as the NUL that old drivers leave in a name.
            Err(_) => {}
        }
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.text);
        let value = text.trim();
        match self.path.pop() {
            Some(Element::EventId) => {
                if let Ok(id) = value.parse() {
                    self.event.event_id = id;
                    self.has_id = true;
                }
            }
            Some(Element::Version) => self.event.version = value.parse().unwrap_or_default(),
            Some(Element::RecordId) => self.event.record_id = value.parse().unwrap_or_default(),
            Some(Element::Channel) => self.event.channel = value.to_owned(),
            Some(Element::Computer) => self.event.computer = value.to_owned(),
            Some(Element::Data) => {
                if let Some(datum) = self.event.data.last_mut().filter(|_| self.datum_fits) {
                    datum.value = text;
                }
            }
            Some(Element::Binary) => self.event.binary = bytes_of_hex(value),
            _ => {}
        }
    }
}

/// An attribute's value, clipped, with its references resolved.
fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    // Unchecked and few: the reader's search for duplicates is quadratic in their number.
    let mut attributes = tag.attributes();
    let mut attributes = attributes.with_checks(false).flatten().take(ATTRIBUTES_MAX);
    let attribute = attributes.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
    Some(clip(&value, VALUE_LEN_MAX).to_owned())
}

/// The bytes of a hexadecimal string, up to where it stops being one.
fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().as_chunks::<2>().0.iter();
    let bytes = pairs.map_while(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
    bytes.take(VALUE_LEN_MAX).collect()
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    // An error's causes are a handful; the bound is against one that names itself.
    for _ in 0..8 {
        let Some(cause) = source else { break };
        told.push_str(": ");
        told.push_str(&cause.to_string());
        source = cause.source();
    }
    clip(&told, 500).to_owned()
}
