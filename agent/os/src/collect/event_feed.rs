//! A machine's event log and dumps on their way to signals: what was understood so far, and the place
//! in the log up to which. Kept over restarts, so that a stop is told once, however late its parts come.

use super::{Found, Place};
use crate::marker::{read_small, write_durably};
use ringward_domain::Millis;
use ringward_domain::signal::SignalDraft;
use ringward_evidence::finding::Finding;
use ringward_evidence::windows::detector::ToldDump;
use ringward_evidence::windows::{Detector, parse_event};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// File of the state folder.
const FILE: &str = "event-log.json";
/// A state of another format is begun anew.
const FORMAT: u32 = 1;

/// As kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// The place in the log as the log itself writes it; none before the first event.
    bookmark: Option<String>,
    detector: Detector,
}

/// Events and dumps in, signals out.
#[derive(Debug)]
pub(crate) struct EventFeed {
    path: PathBuf,
    place: Place,
    kept: Kept,
    /// What lay in the log before the agent came tells nothing of what happens under it.
    is_history: bool,
    unreadable: u64,
}

impl EventFeed {
    /// What was kept; unreadable counts as nothing.
    pub(crate) fn open(place: Place) -> Self {
        let path = place.root.join(FILE);
        let text = read_small(&path).ok().flatten();
        let kept = text.and_then(|text| serde_json::from_str::<Kept>(&text).ok());
        let kept = kept.filter(|kept| kept.format == FORMAT);
        Self {
            is_history: kept.is_none(),
            kept: kept.unwrap_or_default(),
            path,
            place,
            unreadable: 0,
        }
    }

    /// The place in the log to go on from.
    pub(crate) fn bookmark(&self) -> Option<&str> {
        self.kept.bookmark.as_deref()
    }

    /// The log does not know the bookmark any more: it was cleared or wrapped around, and records are
    /// missing between what was read and what is there.
    pub(crate) fn lost(&mut self) {
        self.kept.bookmark = None;
        self.kept.detector.records_lost();
    }

    /// The next event, rendered.
    pub(crate) fn event(&mut self, xml: &str) {
        match parse_event(xml) {
            Ok(event) => self.kept.detector.push(&event),
            Err(error) => {
                self.unreadable += 1;
                // Told for the first and then ever more rarely: one bad provider must not fill the log.
                if self.unreadable.is_power_of_two() {
                    tracing::warn!(%error, count = self.unreadable, "an event is not read");
                }
            }
        }
    }

    /// Something that was found in a file left behind: a dump joins its stop, the rest is told as it is.
    pub(crate) fn found(&mut self, found: Found) -> Option<SignalDraft> {
        let is_dump = found.kind == "bugcheck" && found.evidence.contains_key("file");
        if is_dump {
            let told = ToldDump {
                key: found.key.clone(),
                title: found.title.clone(),
                module: found.module.clone(),
                evidence: found.evidence.clone(),
            };
            if self.kept.detector.push_dump_finding(told) {
                return None;
            }
        }
        self.draft(found)
    }

    /// What is new or more fully known.
    pub(crate) fn drain(&mut self) -> Vec<SignalDraft> {
        let findings: Vec<Finding> = self.kept.detector.drain();
        if self.is_history {
            return Vec::new();
        }
        let drafts = findings.into_iter().map(Found::from);
        drafts.filter_map(|found| self.draft(found)).collect()
    }

    /// The end of what was in the log; whether that was for the first time. Then even an empty log has
    /// to be kept, or the next start would take everything for history.
    pub(crate) fn caught_up(&mut self) -> bool {
        std::mem::take(&mut self.is_history)
    }

    fn draft(&self, found: Found) -> Option<SignalDraft> {
        let boot = match found.is_of_a_boot_that_died() {
            true => self.place.boot_before.unwrap_or(self.place.boot),
            false => self.place.boot,
        };
        found.draft(boot, Millis::ZERO)
    }

    /// Keeps what was understood, and the place up to which. What was told is told again after a cut
    /// before this, under the same keys.
    pub(crate) fn keep(&mut self, bookmark: Option<String>) {
        self.kept.format = FORMAT;
        self.kept.bookmark = bookmark.or(self.kept.bookmark.take());
        let text = serde_json::to_string(&self.kept);
        let written = text
            .map_err(|error| error.to_string())
            .and_then(|text| write_durably(&self.path, text.as_bytes()).map_err(|e| e.to_string()));
        if let Err(error) = written {
            tracing::warn!(
                error,
                "the place in the event log is not kept; events are read again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::BootId;
    use ringward_domain::signal::SignalKind;
    use serde_json::json;

    fn event(id: u64, provider: &str, event_id: u32, data: &str) -> String {
        format!(
            "<Event><System><Provider Name='{provider}'/><EventID>{event_id}</EventID>\
             <TimeCreated SystemTime='2026-11-23T10:00:{id:02}.000Z'/>\
             <EventRecordID>{id}</EventRecordID><Channel>System</Channel>\
             <Computer>pc</Computer></System><EventData>{data}</EventData></Event>"
        )
    }

    fn bugcheck(id: u64) -> [String; 3] {
        let power = "<Data Name='BugcheckCode'>126</Data>\
            <Data Name='BugcheckParameter1'>0xffffffffc0000005</Data>\
            <Data Name='BugcheckParameter2'>0x2</Data><Data Name='BugcheckParameter3'>0x3</Data>\
            <Data Name='BugcheckParameter4'>0x4</Data><Data Name='SleepInProgress'>0</Data>\
            <Data Name='PowerButtonTimestamp'>0</Data>";
        [
            event(id, "EventLog", 6009, ""),
            event(id + 1, "EventLog", 6005, ""),
            event(id + 2, "Microsoft-Windows-Kernel-Power", 41, power),
        ]
    }

    fn dump() -> Found {
        serde_json::from_value(json!({
            "kind": "bugcheck", "key": "windows/dump/x", "title": "a dump", "module": "bad.sys",
            "evidence": {"file": "112326-1.dmp", "code": "0x1000007e",
                "params": ["0xffffffffc0000005", "0x2", "0x3", "0x4"]},
        }))
        .unwrap()
    }

    fn place(root: &std::path::Path) -> Place {
        Place {
            root: root.to_owned(),
            boot: BootId([2; 16]),
            boot_before: Some(BootId([1; 16])),
        }
    }

    #[test]
    fn what_was_in_the_log_before_the_agent_is_understood_and_not_told() {
        let root = tempfile::tempdir().unwrap();
        let mut feed = EventFeed::open(place(root.path()));
        bugcheck(1).iter().for_each(|event| feed.event(event));
        assert!(feed.drain().is_empty());
        feed.caught_up();
        bugcheck(10).iter().for_each(|event| feed.event(event));
        let told = feed.drain();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].kind, SignalKind::Bugcheck);
        assert_eq!(told[0].boot, BootId([1; 16]));
    }

    #[test]
    fn a_log_that_was_empty_at_the_first_start_hides_nothing_of_the_next_boot() {
        let root = tempfile::tempdir().unwrap();
        let mut feed = EventFeed::open(place(root.path()));
        assert!(feed.caught_up(), "the first time");
        feed.keep(None);
        let mut feed = EventFeed::open(place(root.path()));
        bugcheck(1).iter().for_each(|event| feed.event(event));
        assert_eq!(feed.drain().len(), 1);
        assert!(!feed.caught_up());
    }

    #[test]
    fn a_dump_joins_its_stop_whichever_comes_first_and_over_a_restart() {
        for dump_first in [true, false] {
            let root = tempfile::tempdir().unwrap();
            let mut feed = EventFeed::open(place(root.path()));
            feed.caught_up();
            if dump_first {
                assert_eq!(feed.found(dump()), None);
                bugcheck(10).iter().for_each(|event| feed.event(event));
            } else {
                bugcheck(10).iter().for_each(|event| feed.event(event));
                let without = feed.drain();
                assert_eq!(without[0].signature, "bugcheck:0x7e:nobody");
                feed.keep(Some("<BookmarkList/>".to_owned()));
                feed = EventFeed::open(place(root.path()));
                assert_eq!(feed.bookmark(), Some("<BookmarkList/>"));
                assert_eq!(feed.found(dump()), None);
            }
            let told = feed.drain();
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].signature.ends_with(":bad.sys"), "{told:?}");
            assert!(told[0].title.contains("bad.sys"), "{told:?}");
        }
    }

    #[test]
    fn an_event_that_makes_no_sense_hides_none() {
        let root = tempfile::tempdir().unwrap();
        let mut feed = EventFeed::open(place(root.path()));
        feed.caught_up();
        feed.event("<Event><System>");
        feed.event("");
        bugcheck(10).iter().for_each(|event| feed.event(event));
        assert_eq!(feed.drain().len(), 1);
    }
}
