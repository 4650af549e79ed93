//! One event as lines of text: `provider | EventID n | Channel c | time | EventRecordID n | host`,
//! a line that ends in `:`, then the data, one a line. People paste events so where the XML is
//! not at hand.

use super::detector::Detector;
use super::event::{DATA_MAX, Datum, EventRecord, VALUE_LEN_MAX, clip};
use super::xml;
use crate::finding::Item;

const ID: &str = "EventID ";

/// Whether the first line is such a header.
pub(super) fn looks_like_event(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|line| header(line).is_some())
}

/// Feeds the one event of the text to a detector.
pub(super) fn feed(bytes: &[u8], detector: &mut Detector) -> Vec<Item> {
    let text = xml::decode(bytes);
    let mut lines = text.lines();
    let Some(mut event) = lines.next().and_then(header) else {
        return vec![Item::unreadable(
            "reading an event's text: the first line is no event header \
             (provider | EventID n | ...)",
            0,
        )];
    };
    let lines = lines.filter(|line| !line.trim_end().ends_with(':'));
    event.data = lines
        .take(DATA_MAX)
        .map(|line| Datum {
            name: String::new(),
            value: clip(line.trim(), VALUE_LEN_MAX).to_owned(),
        })
        .collect();
    detector.push(&event);
    Vec::new()
}

fn header(line: &str) -> Option<EventRecord> {
    let mut fields = clip(line, VALUE_LEN_MAX).split('|').map(str::trim);
    let mut event = EventRecord {
        provider: fields.next()?.to_owned(),
        event_id: fields.next()?.strip_prefix(ID)?.parse().ok()?,
        ..EventRecord::default()
    };
    for field in fields {
        if let Some(channel) = field.strip_prefix("Channel ") {
            event.channel = channel.to_owned();
        } else if let Some(id) = field.strip_prefix("EventRecordID ") {
            event.record_id = id.parse().unwrap_or_default();
        } else if let Ok(time) = field.parse() {
            event.time = Some(time);
        } else {
            event.computer = field.to_owned();
        }
    }
    Some(event)
}
