//! Services that crash, leave with an error, or do not start, within one boot session.
//!
//! A crash alone is a fact of little weight: shutdown, logoff and a service's own update all
//! produce one. It is told when nothing of the kind explains it; a loop is told as growth.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::windows::event::{EventRecord, EventTime, clip};

/// Services followed at once; a machine has some hundreds.
const SERVICES_MAX: usize = 4096;
/// Growth must happen within this time to be a loop: the SCM's own counters span weeks.
const LOOP_S: i64 = 3600;
/// Crashes within [`LOOP_S`] that make a loop; the SCM's defaults give up after two restarts.
const CRASHES_LOOP: u64 = 3;
/// Exits with an error, or failed starts, within [`LOOP_S`] that make a loop. Healthy machines
/// show up to two of one service in a boot.
const FAILURES_LOOP: u64 = 5;
/// Failed starts within [`LOOP_S`], of whatever services, that are a storm.
const STORM: u64 = 20;
/// A crash is believed when nothing explained it this long after the restart that was due.
const SETTLE_S: i64 = 60;
/// Counter samples kept a series: more than any loop or storm needs.
const SAMPLES_MAX: usize = 32;
/// ERROR_SERVICE_ALREADY_RUNNING: the SCM found the service restarted by somebody else, which is
/// what an updater does.
const ALREADY_RUNNING: &str = "%%1056";

/// The services of one boot session.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct ServiceWatch {
    services: BTreeMap<String, Service>,
    /// Crashes not yet believed, by service.
    unsettled: BTreeMap<String, Unsettled>,
    /// Failed starts of all services, by event: 7000 and 7009.
    starts: Series,
    timeouts: Series,
    storm_told: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Service {
    /// The name shown to people, localised; compared with other events, never parsed.
    display_name: String,
    crashes: Series,
    believed: u64,
    exits: Series,
    starts: Series,
    timeouts: Series,
    last_error: Option<String>,
    first_record: u64,
    last_record: u64,
    dirty: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Unsettled {
    at: Option<EventTime>,
    restart_s: i64,
}

/// Something that should not go on happening.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Series {
    times: VecDeque<Option<EventTime>>,
    /// The writer's own counter, since it was last set back. It shows what happened between
    /// records that are missing, but stays at 1 where the SCM forgets failures at once.
    counts: VecDeque<(Option<EventTime>, u64)>,
    total: u64,
    looped: bool,
}

impl Series {
    /// Adds one occurrence.
    fn add(&mut self, at: Option<EventTime>, loop_from: u64) {
        self.total += 1;
        push_bounded(&mut self.times, at);
        let recent = self.times.iter().filter(|then| is_recent(at, **then));
        self.looped |= recent.count() as u64 >= loop_from;
    }

    /// Takes the writer's counter for the occurrence at `at`.
    fn count(&mut self, at: Option<EventTime>, count: u64, loop_from: u64) {
        if self.counts.back().is_some_and(|last| count <= last.1) {
            self.counts.clear();
        }
        push_bounded(&mut self.counts, (at, count));
        let oldest = self.counts.iter().find(|then| is_recent(at, then.0));
        let growth = oldest.map_or(0, |oldest| count.saturating_sub(oldest.1));
        self.looped |= growth.saturating_add(1) >= loop_from;
    }

    /// Takes the newest occurrence back.
    fn retract(&mut self) {
        self.times.pop_back();
        self.counts.pop_back();
        self.total = self.total.saturating_sub(1);
    }
}

fn push_bounded<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == SAMPLES_MAX {
        samples.pop_front();
    }
    samples.push_back(sample);
}

/// Whether `then` lies within [`LOOP_S`] before `now`; a clock that went back is no time passed.
fn is_recent(now: Option<EventTime>, then: Option<EventTime>) -> bool {
    match (now, then) {
        (Some(now), Some(then)) => now.seconds_since(then) <= LOOP_S,
        _ => true,
    }
}

impl ServiceWatch {
    /// Service Control Manager 7031 and 7034: ended unexpectedly.
    pub(super) fn crashed(&mut self, event: &EventRecord) {
        let key = service_key(event, 0);
        let per_user = is_per_user(&key);
        // 7031 adds the delay before its restart; 7034 restarts nothing.
        let restart_ms = event.at(2).and_then(|ms| ms.parse::<i64>().ok());
        let unsettled = Unsettled {
            at: event.time,
            restart_s: restart_ms.unwrap_or_default().clamp(0, 3_600_000) / 1000,
        };
        let Some(service) = self.service(key.clone(), event, 0) else {
            return;
        };
        // Logons come and go: of a per-user service only its instance's own counter tells.
        let loop_from = if per_user { u64::MAX } else { CRASHES_LOOP };
        service.crashes.add(event.time, loop_from);
        if let Some(count) = event.at(1).and_then(|count| count.parse().ok()) {
            service.crashes.count(event.time, count, CRASHES_LOOP);
        }
        if !per_user && self.unsettled.insert(key.clone(), unsettled).is_some() {
            self.believe(&key);
        }
    }

    fn believe(&mut self, key: &str) {
        if let Some(service) = self.services.get_mut(key) {
            service.believed += 1;
            service.dirty = true;
        }
    }

    /// 7032: the SCM could not restart a service.
    pub(super) fn restart_refused(&mut self, event: &EventRecord) {
        if event.at(3) != Some(ALREADY_RUNNING) {
            return;
        }
        let display = event.at(2).unwrap_or_default();
        let named = |service: &Service| service.display_name == display;
        let mut services = self.services.iter_mut();
        if let Some((key, service)) = services.find(|(_, service)| named(service))
            && self.unsettled.remove(key).is_some()
        {
            service.crashes.retract();
        }
    }

    /// 7023 and 7024: ended with an error.
    pub(super) fn failed(&mut self, event: &EventRecord) {
        let key = service_key(event, 0);
        if let Some(service) = self.service(key, event, 0) {
            service.exits.add(event.time, FAILURES_LOOP);
            service.last_error = event.at(1).map(|error| clip(error, 64).to_owned());
        }
    }

    /// 7000 (name first): could not be started.
    pub(super) fn start_failed(&mut self, event: &EventRecord) {
        self.starts.add(event.time, STORM);
        let key = service_key(event, 0);
        if let Some(service) = self.service(key, event, 0) {
            service.starts.add(event.time, FAILURES_LOOP);
            service.last_error = event.at(1).map(|error| clip(error, 64).to_owned());
        }
    }

    /// 7009 (time-out first): did not answer in time. Often beside a 7000 of the same start, so
    /// the two are counted apart.
    pub(super) fn start_timed_out(&mut self, event: &EventRecord) {
        self.timeouts.add(event.time, STORM);
        let key = service_key(event, 1);
        if let Some(service) = self.service(key, event, 1) {
            service.timeouts.add(event.time, FAILURES_LOOP);
        }
    }

    /// The machine is going down: crashes not yet believed are explained by it.
    pub(super) fn stopping(&mut self) {
        self.unsettled.clear();
    }

    /// Believes the crashes that `now`, a later event's time, lets stand.
    pub(super) fn settle(&mut self, now: Option<EventTime>) {
        let Some(now) = now else { return };
        let stands = |crash: &Unsettled| {
            let age_s = crash.at.map(|at| now.seconds_since(at));
            age_s.is_none_or(|age_s| age_s > crash.restart_s + SETTLE_S)
        };
        self.believe_all(stands);
    }

    fn believe_all(&mut self, stands: impl Fn(&Unsettled) -> bool) {
        let believed = self.unsettled.extract_if(.., |_, crash| stands(crash));
        for (key, _) in believed.collect::<Vec<_>>() {
            self.believe(&key);
        }
    }

    /// What changed since the last call. `last` believes everything still open.
    pub(super) fn drain(&mut self, boot_key: &str, last: bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if last {
            self.believe_all(|_| true);
        }
        for (key, service) in &mut self.services {
            if std::mem::take(&mut service.dirty) {
                findings.extend(service.findings(boot_key, key));
            }
        }
        let storm = self.starts.looped || self.timeouts.looped;
        let failures = self.starts.total.max(self.timeouts.total);
        if storm && failures > self.storm_told {
            self.storm_told = failures;
            findings.push(self.storm(boot_key, failures));
        }
        findings
    }

    fn storm(&self, boot_key: &str, count: u64) -> Finding {
        let title = format!("{count} service starts failed in one boot");
        let key = format!("{boot_key}/service-start-storm");
        Finding::new("service-start-storm", &key, &title)
            .with("count", count)
            .with("services", self.services.len())
    }

    /// The service an event speaks of, if it is followed or there is room.
    fn service(
        &mut self,
        key: String,
        event: &EventRecord,
        name_at: usize,
    ) -> Option<&mut Service> {
        if self.services.len() == SERVICES_MAX && !self.services.contains_key(&key) {
            return None;
        }
        let service = self.services.entry(key).or_default();
        if service.display_name.is_empty() {
            service.display_name = event.at(name_at).unwrap_or_default().to_owned();
            service.first_record = event.record_id;
        }
        service.last_record = event.record_id;
        service.dirty = true;
        Some(service)
    }
}

impl Service {
    fn findings(&self, boot_key: &str, key: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut tell = |kind: &'static str, what: &str, series: &Series| {
            let title = format!("service {key} {what}");
            let finding = Finding::new(kind, &format!("{boot_key}/service/{key}/{what}"), &title)
                .with("service", key)
                .with("display_name", self.display_name.as_str())
                .with("count", series.total)
                .with_some("counter", series.counts.back().map(|sample| sample.1))
                .with_some("error", self.last_error.as_deref())
                .with("first_record", self.first_record)
                .with("last_record", self.last_record);
            findings.push(finding);
        };
        if self.crashes.looped {
            tell("service-crash-loop", "crashed", &self.crashes);
        } else if self.believed > 0 {
            tell("service-crash", "crashed", &self.crashes);
        }
        if self.exits.looped {
            tell("service-exit-loop", "exits with an error", &self.exits);
        }
        if self.starts.looped || self.timeouts.looped {
            let longer = std::cmp::max_by_key(&self.starts, &self.timeouts, |series| series.total);
            tell("service-start-loop", "cannot be started", longer);
        }
        findings
    }
}

/// The service's key: Windows 8.1 and later attach it, older versions leave the shown name.
fn service_key(event: &EventRecord, name_at: usize) -> String {
    let shown = || event.at(name_at).unwrap_or_default().to_owned();
    let key = event.binary_text().unwrap_or_else(shown);
    clip(&key, 256).to_owned()
}

/// Whether a key is an instance for one logon (`OneSyncSvc_4a3f2`, `OneSyncSvc_Session2`): they
/// end with the logon, and the SCM calls that a crash.
fn is_per_user(key: &str) -> bool {
    let Some((_, instance)) = key.rsplit_once('_') else {
        return false;
    };
    let session = instance.strip_prefix("Session");
    let luid =
        (5..=16).contains(&instance.len()) && instance.bytes().all(|b| b.is_ascii_hexdigit());
    luid || session.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_for_a_logon_is_known_by_its_ending() {
        for key in [
            "OneSyncSvc_Session2",
            "OneSyncSvc_4a3f2",
            "CDPUserSvc_1f5e34a",
        ] {
            assert!(is_per_user(key), "{key}");
        }
        for key in [
            "Spooler",
            "clr_optimization_v4.0.30319_32",
            "svc_",
            "a_Session",
            "x_update",
        ] {
            assert!(!is_per_user(key), "{key}");
        }
    }

    #[test]
    fn a_counter_set_back_is_no_growth() {
        let mut series = Series::default();
        for count in [7, 1, 2] {
            series.count(None, count, CRASHES_LOOP);
        }
        assert!(!series.looped);
        series.count(None, 3, CRASHES_LOOP);
        assert!(series.looped);
    }
}
