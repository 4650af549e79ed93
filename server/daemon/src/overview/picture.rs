//! Rows of the fleet, each with the revision in which it changed last. Texts that recur are kept and
//! told once.

use crate::pki::random;
use ringward_domain::HostId;
use ringward_wire::pb::{FleetFeed, HostGlance};
use std::collections::{BTreeMap, BTreeSet};

/// Rows told in one message: about 400 KiB, and a browser takes them in without a hitch.
const ROWS_MAX: usize = 4_000;
/// Texts kept; with more the picture is painted anew. Fleets have a few thousand.
const TEXTS_MAX: usize = 300_000;
/// Bytes of a text told.
const TEXT_BYTES_MAX: usize = 512;
/// Hosts remembered as gone.
const GONE_MAX: usize = 10_000;

/// A host as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub hostname: String,
    /// How it looks.
    pub glance: HostGlance,
    /// OS and build.
    pub system: String,
    /// Labels.
    pub labels: String,
    /// Packages and versions.
    pub running: String,
    /// Why a person should look.
    pub attention: String,
    /// Its ring.
    pub ring: String,
    /// Heard of last on the fleet clock; 0 while it has a session.
    pub heard_ms: u64,
}

/// A row with its texts by number.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    hostname: Box<str>,
    glance: HostGlance,
    /// System, labels, running, attention, ring.
    texts: [u32; 5],
    heard_ms: u64,
}

/// All rows.
#[derive(Debug)]
pub struct Picture {
    id: u64,
    revision: u64,
    clock_ms: u64,
    is_changed: bool,
    rows: BTreeMap<HostId, (u64, Kept)>,
    /// The rows by the revision of their last change: ten readers that ask every other second would
    /// each walk all of 100,000 rows otherwise.
    changed: BTreeSet<(u64, HostId)>,
    gone: BTreeMap<HostId, u64>,
    texts: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Picture {
    /// Empty, with an id of its own.
    pub fn blank() -> Self {
        Self {
            // Zero means "none" on the wire.
            id: u64::from_be_bytes(random()).max(1),
            revision: 0,
            clock_ms: 0,
            is_changed: true,
            rows: BTreeMap::new(),
            changed: BTreeSet::new(),
            gone: BTreeMap::new(),
            texts: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// Whether it has to be painted anew.
    pub fn is_full(&self) -> bool {
        self.texts.len() > TEXTS_MAX || self.gone.len() > GONE_MAX
    }

    /// Takes a host over as it looks now; `None`: it is no longer there.
    pub fn put(&mut self, id: HostId, row: Option<Row>) {
        let revision = self.revision + 1;
        let Some(row) = row else {
            if let Some((before, _)) = self.rows.remove(&id) {
                self.changed.remove(&(before, id));
                self.is_changed = true;
                self.gone.insert(id, revision);
            }
            return;
        };
        let texts = [row.system, row.labels, row.running, row.attention, row.ring];
        let kept = Kept {
            texts: texts.map(|text| self.number(text)),
            hostname: row.hostname.into(),
            glance: row.glance,
            heard_ms: row.heard_ms,
        };
        self.gone.remove(&id);
        if self.rows.get(&id).is_none_or(|(_, old)| *old != kept) {
            self.is_changed = true;
            if let Some((before, _)) = self.rows.insert(id, (revision, kept)) {
                self.changed.remove(&(before, id));
            }
            self.changed.insert((revision, id));
        }
    }

    fn number(&mut self, mut text: String) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        if let Some(number) = self.numbers.get(&text) {
            return *number;
        }
        self.texts.push(text.clone());
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text, number);
        number
    }

    /// Ends a revision where anything changed; answers the newest one.
    pub fn seal(&mut self, clock_ms: u64) -> u64 {
        self.clock_ms = clock_ms;
        self.revision += u64::from(std::mem::take(&mut self.is_changed));
        self.revision
    }

    /// Everything that a reader with `picture`, `revision` and `texts` does not have yet, in parts.
    /// Nothing before the first revision is sealed.
    pub fn since(&self, picture: u64, revision: u64, texts: u32) -> Vec<FleetFeed> {
        if self.revision == 0 {
            return Vec::new();
        }
        let same = picture == self.id && revision <= self.revision;
        let (since, told) = if same {
            (revision, texts as usize)
        } else {
            (0, 0)
        };
        let mut parts = vec![self.part()];
        parts[0].texts = self.texts.get(told..).unwrap_or_default().to_vec();
        let gone = self.gone.iter().filter(|(_, at)| same && **at > since);
        parts[0].gone = gone.map(|(id, _)| id.0).collect();
        let mut rows = 0;
        let first = (since.saturating_add(1), HostId(0));
        for (_, id) in self.changed.range(first..) {
            let Some((_, row)) = self.rows.get(id) else {
                continue;
            };
            if rows == ROWS_MAX {
                parts.push(self.part());
                rows = 0;
            }
            rows += 1;
            if let Some(part) = parts.last_mut() {
                push(part, *id, row);
            }
        }
        if let Some(part) = parts.last_mut() {
            part.caught_up = true;
            part.revision = self.revision;
        }
        parts
    }

    /// A part without rows. Only the last one may be named as received: it completes the revision.
    fn part(&self) -> FleetFeed {
        FleetFeed {
            picture: self.id,
            fleet_clock_ms: self.clock_ms,
            ..FleetFeed::default()
        }
    }
}

fn push(part: &mut FleetFeed, id: HostId, row: &Kept) {
    let [system, labels, running, attention, ring] = row.texts;
    part.hosts.push(id.0);
    part.hostnames.push(row.hostname.to_string());
    part.glances.push(row.glance as i32);
    part.systems.push(system);
    part.labels.push(labels);
    part.running.push(running);
    part.attention.push(attention);
    part.rings.push(ring);
    part.heard_ms.push(row.heard_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, glance: HostGlance) -> Row {
        Row {
            hostname: name.to_owned(),
            glance,
            system: "Linux 12".to_owned(),
            labels: "site=ber".to_owned(),
            running: String::new(),
            attention: String::new(),
            ring: "canary".to_owned(),
            heard_ms: 0,
        }
    }

    #[test]
    fn a_new_reader_gets_everything_in_parts_and_later_only_what_changed() {
        let mut picture = Picture::blank();
        assert!(picture.since(0, 0, 0).is_empty());
        for host in 0..(ROWS_MAX as u64 * 2 + 1) {
            picture.put(HostId(host), Some(row("a", HostGlance::Well)));
        }
        picture.seal(5);
        let parts = picture.since(0, 0, 0);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0].texts, ["Linux 12", "site=ber", "canary"]);
        assert_eq!(
            parts.iter().map(|p| p.hosts.len()).sum::<usize>(),
            ROWS_MAX * 2 + 1
        );
        assert!(parts[2].caught_up && !parts[1].caught_up);

        let (id, revision) = (parts[2].picture, parts[2].revision);
        // The same again is no change.
        picture.put(HostId(1), Some(row("a", HostGlance::Well)));
        picture.put(HostId(2), Some(row("a", HostGlance::Attention)));
        picture.put(HostId(3), None);
        picture.seal(6);
        let parts = picture.since(id, revision, 3);
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].hosts, [2]);
        assert_eq!(parts[0].gone, [3]);
        assert!(parts[0].texts.is_empty());
    }

    #[test]
    fn a_reader_of_another_picture_begins_anew() {
        let mut picture = Picture::blank();
        picture.put(HostId(1), Some(row("a", HostGlance::Well)));
        picture.seal(1);
        assert_eq!(picture.since(77, 40, 12)[0].hosts, [1]);
        assert_eq!(picture.since(77, 40, 12)[0].texts.len(), 3);
    }

    #[test]
    fn a_text_of_any_length_is_cut_between_characters() {
        let mut picture = Picture::blank();
        let mut long = row("a", HostGlance::Attention);
        long.attention = "ä".repeat(1_000);
        picture.put(HostId(1), Some(long));
        picture.seal(1);
        assert!(
            picture.since(0, 0, 0)[0]
                .texts
                .iter()
                .all(|t| t.len() <= TEXT_BYTES_MAX)
        );
    }
}
