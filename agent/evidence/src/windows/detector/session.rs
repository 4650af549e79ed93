//! One boot session: what a log says between two starts, and what follows from it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ToldDump;
use super::report::{KernelPower, Reported, minidump_name};
use crate::finding::Finding;
use crate::windows::bugcheck::Bugcheck;
use crate::windows::dump::Dump;
use crate::windows::event::{EventRecord, EventTime, number};

/// Stops kept of one session. More than one is told where a machine died again before the
/// report of the first was written.
const CRASHES_MAX: usize = 64;
/// Records named as a stop's evidence.
const SEEN_MAX: usize = 16;
/// Boots that left no log, from which on they are told without any other sign: a feature
/// update's own phases leave one on healthy machines.
const UNLOGGED_MIN: u64 = 2;

/// How the session before ended, as far as its log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Ending {
    /// EventLog 6006.
    pub log_stopped: bool,
    /// Kernel-General 13, which is flushed by the boot that follows.
    pub kernel_stopped: bool,
}

impl Ending {
    pub(super) fn is_clean(self) -> bool {
        self.log_stopped && self.kernel_stopped
    }
}

/// A boot session being gathered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Session {
    /// The record that opened it, and its time: an identity that survives reading again.
    record_id: u64,
    opened_at: Option<EventTime>,
    computer: String,
    /// Some record belongs to it.
    pub touched: bool,
    /// EventLog 6009 / 6005.
    pub version_told: bool,
    pub log_started: bool,
    /// Kernel-General 12.
    pub kernel_started: bool,
    /// A shutdown is under way.
    pub stopping: bool,
    pub ending: Ending,
    /// Records are missing from it, so its end may be among them.
    pub lost_records: bool,
    /// The ending of the session before; `None` where that is not in the log.
    pub before: Option<Ending>,
    kernel_power: Option<KernelPower>,
    /// EventLog 6008, with the last sign of life where it could be read.
    unexpected: Option<Option<String>>,
    crashes: Vec<Crash>,
    dump_write_failed: bool,
    no_minidump: bool,
    pub facts: BootFacts,
    seen: Vec<String>,
    dirty: bool,
}

/// What Kernel-Boot says of a boot and of the one before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct BootFacts {
    pub last_boot_id: Option<u64>,
    pub last_boot_good: Option<bool>,
    pub last_shutdown_good: Option<bool>,
    pub unlogged_boots: u64,
    pub fast_startups: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Crash {
    bugcheck: Bugcheck,
    by_kernel_power: bool,
    dump_path: Option<String>,
    minidump: Option<String>,
    guid: Option<String>,
    dump: Option<DumpVerdict>,
}

/// What a dump adds to a stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DumpVerdict {
    pub bugcheck: Bugcheck,
    pub file: String,
    /// Key and title of the finding it is where its stop is not in the log.
    pub key: String,
    pub title: String,
    pub module: Option<String>,
    pub evidence: Map<String, Value>,
}

impl DumpVerdict {
    pub(super) fn of(dump: &Dump, file: &str) -> Self {
        let finding = dump.finding(file);
        Self {
            bugcheck: dump.bugcheck(),
            file: file.to_owned(),
            key: finding.key,
            title: finding.title,
            module: finding.module,
            evidence: finding.evidence,
        }
    }

    /// What another process told of a dump; `None` where that names no code.
    pub(super) fn of_finding(told: ToldDump) -> Option<Self> {
        let text = |value: &Value| value.as_str().and_then(number);
        let code = u32::try_from(text(told.evidence.get("code")?)?).ok()?;
        let params = told.evidence.get("params").and_then(Value::as_array);
        let params: Option<Vec<u64>> = params.and_then(|params| params.iter().map(text).collect());
        let file = told.evidence.get("file").and_then(Value::as_str)?;
        Some(Self {
            bugcheck: Bugcheck {
                code,
                params: params.and_then(|params| params.try_into().ok()),
            },
            file: file.to_owned(),
            key: told.key,
            title: told.title,
            module: told.module,
            evidence: told.evidence,
        })
    }

    /// The dump alone.
    pub(super) fn into_finding(self) -> Finding {
        let mut finding = Finding::new("bugcheck", &self.key, &self.title);
        finding.module = self.module;
        finding.evidence = self.evidence;
        finding
    }

    fn is_of_same_stop(&self, other: &Self) -> bool {
        let at = |dump: &Self| dump.evidence.get("system_time").cloned();
        at(self).is_some() && at(self) == at(other)
    }
}

impl Crash {
    fn new(bugcheck: Bugcheck) -> Self {
        Self {
            bugcheck,
            by_kernel_power: false,
            dump_path: None,
            minidump: None,
            guid: None,
            dump: None,
        }
    }

    /// Whether a report is of this stop: same code and parameters, and no identity differs.
    fn is_of(&self, reported: &Reported) -> bool {
        let differ = |ours: &Option<String>, theirs: &Option<String>| matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs);
        self.bugcheck.agrees(reported.bugcheck)
            && !differ(&self.minidump, &reported.minidump)
            && !differ(&self.guid, &reported.guid)
    }

    fn absorb(&mut self, reported: &Reported) {
        if self.bugcheck.params.is_none_or(|params| params == [0; 4]) {
            self.bugcheck.params = reported.bugcheck.params.or(self.bugcheck.params);
        }
        let fill = |ours: &mut Option<String>, theirs: &Option<String>| {
            if ours.is_none() {
                ours.clone_from(theirs);
            }
        };
        fill(&mut self.dump_path, &reported.dump_path);
        fill(&mut self.minidump, &reported.minidump);
        fill(&mut self.guid, &reported.guid);
    }

    fn shares(&self, reported: &Reported) -> bool {
        let same =
            |ours: &Option<String>, theirs: &Option<String>| ours.is_some() && ours == theirs;
        same(&self.minidump, &reported.minidump) || same(&self.guid, &reported.guid)
    }

    fn is_reported(&self) -> bool {
        self.dump_path.is_some() || self.minidump.is_some() || self.guid.is_some()
    }
}

/// Why a machine's last stop is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Bugcheck,
    PowerButton,
    PowerLoss,
    Unexplained,
    DumpFailed,
    UnloggedBoots,
}

impl Session {
    /// A session opened by `event`, after one that ended as `before`.
    pub(super) fn opened_by(event: &EventRecord, before: Option<Ending>) -> Self {
        Self {
            record_id: event.record_id,
            opened_at: event.time,
            computer: event.computer.clone(),
            before,
            ..Self::default()
        }
    }

    /// Names the session after its first record, if nothing has.
    pub(super) fn touch(&mut self, event: &EventRecord) {
        if !self.touched && self.record_id == 0 {
            self.record_id = event.record_id;
            self.opened_at = event.time;
            self.computer.clone_from(&event.computer);
        }
        self.touched = true;
    }

    /// The key of the machine: every finding's key begins with it.
    pub(super) fn machine_key(&self) -> String {
        format!("windows/{}", self.computer.to_lowercase())
    }

    /// The key of the session. The opening record's second keeps apart what a cleared log,
    /// whose ids start again, would make one.
    pub(super) fn key(&self) -> String {
        let second = self
            .opened_at
            .map_or(0, |time| time.0.div_euclid(1_000_000));
        format!("{}/boot-{}-{second:x}", self.machine_key(), self.record_id)
    }

    pub(super) fn opened_at(&self) -> Option<EventTime> {
        self.opened_at
    }

    /// The ending this session hands to the next; `None` where it cannot be known.
    pub(super) fn known_ending(&self) -> Option<Ending> {
        (self.touched && !self.lost_records).then_some(self.ending)
    }

    /// Whether none of its starts was seen: the tail of a session that began before the log.
    pub(super) fn is_tail(&self) -> bool {
        let started = self.log_started || self.kernel_started || self.version_told;
        !started && self.unexpected.is_none()
    }

    pub(super) fn has_kernel_power(&self) -> bool {
        self.kernel_power.is_some()
    }

    pub(super) fn has_unexpected(&self) -> bool {
        self.unexpected.is_some()
    }

    pub(super) fn take_kernel_power(&mut self, event: &EventRecord) {
        let power = KernelPower::of(event);
        self.kernel_power = Some(power);
        if let Some(bugcheck) = power.bugcheck {
            let known = self
                .crashes
                .iter_mut()
                .find(|crash| crash.bugcheck.agrees(bugcheck));
            match known {
                Some(crash) => {
                    crash.by_kernel_power = true;
                    let params = crash.bugcheck.params.filter(|params| *params != [0; 4]);
                    crash.bugcheck.params = params.or(bugcheck.params);
                }
                None => self.add_crash(Crash {
                    by_kernel_power: true,
                    ..Crash::new(bugcheck)
                }),
            }
        }
        self.note(event);
    }

    pub(super) fn take_unexpected(&mut self, event: &EventRecord, last_alive: Option<String>) {
        self.unexpected = Some(last_alive);
        self.note(event);
    }

    /// Adds a report to the stop it is of, if there is one. With `unreported_only`, a stop that
    /// has its report already is left alone unless the two share an identity.
    pub(super) fn enrich(
        &mut self,
        event: &EventRecord,
        reported: &Reported,
        unreported_only: bool,
    ) -> bool {
        let of = |crash: &&mut Crash| {
            let wanted = !unreported_only || !crash.is_reported() || crash.shares(reported);
            crash.is_of(reported) && wanted
        };
        let Some(crash) = self.crashes.iter_mut().find(of) else {
            return false;
        };
        crash.absorb(reported);
        self.note(event);
        true
    }

    /// Adds a stop that a report is the first to tell of.
    pub(super) fn add_reported(&mut self, event: &EventRecord, reported: &Reported) {
        let mut crash = Crash::new(reported.bugcheck);
        crash.absorb(reported);
        self.add_crash(crash);
        self.note(event);
    }

    /// Adds a dump to the stop it is of (with `by_name`, only to the one whose report names it);
    /// hands it back when there is none.
    pub(super) fn take_dump(&mut self, verdict: DumpVerdict, by_name: bool) -> Option<DumpVerdict> {
        let bugcheck = verdict.bugcheck;
        let minidump = minidump_name(&verdict.file);
        let fits = |crash: &&mut Crash| {
            let named = minidump.is_some() && crash.minidump == minidump;
            let other = minidump.is_some() && crash.minidump.is_some() && !named;
            let free = crash
                .dump
                .as_ref()
                .is_none_or(|dump| dump.is_of_same_stop(&verdict));
            crash.bugcheck.agrees(bugcheck) && free && !other && (named || !by_name)
        };
        let Some(crash) = self.crashes.iter_mut().find(fits) else {
            return Some(verdict);
        };
        crash.bugcheck = bugcheck;
        // A minidump names the driver; the complete dump of the same stop does not.
        if verdict.module.is_some() || crash.dump.is_none() {
            crash.dump = Some(verdict);
        }
        self.dirty = true;
        None
    }

    /// Whether no further stop can be kept.
    pub(super) fn is_full(&self) -> bool {
        self.crashes.len() == CRASHES_MAX
    }

    pub(super) fn dump_write_failed(&mut self, event: &EventRecord) {
        self.dump_write_failed = true;
        self.note(event);
    }

    pub(super) fn no_minidump(&mut self, event: &EventRecord) {
        self.no_minidump = true;
        self.note(event);
    }

    pub(super) fn unlogged(&mut self, event: &EventRecord, boots: u64) {
        self.facts.unlogged_boots = boots;
        if boots >= UNLOGGED_MIN {
            self.note(event);
        }
    }

    fn add_crash(&mut self, crash: Crash) {
        if self.crashes.len() < CRASHES_MAX {
            self.crashes.push(crash);
        }
    }

    fn note(&mut self, event: &EventRecord) {
        self.dirty = true;
        if self.seen.len() < SEEN_MAX {
            let time = event
                .time
                .map(|time| format!(" at {time}"))
                .unwrap_or_default();
            let (provider, id, record) = (&event.provider, event.event_id, event.record_id);
            self.seen
                .push(format!("{provider} {id}, record {record}{time}"));
        }
    }

    /// An "unclean" stop that the log contradicts: the session before ended properly, and only
    /// the kernel's flag, which a restored snapshot brings back, says otherwise.
    pub(super) fn is_doubtful(&self) -> bool {
        let flag_only = self.kernel_power.is_some_and(|power| !power.power_button)
            && self.crashes.is_empty()
            && self.unexpected.is_none()
            && !self.dump_write_failed
            && !self.no_minidump;
        flag_only && self.before.is_some_and(Ending::is_clean)
    }

    fn verdict(&self) -> Option<Verdict> {
        let stopped = self.kernel_power.is_some() || self.unexpected.is_some();
        // A dump that was attempted, or a full one without its minidump, proves a bugcheck.
        let proven = self.no_minidump || (self.dump_write_failed && stopped);
        if !self.crashes.is_empty() || proven {
            Some(Verdict::Bugcheck)
        } else if self.kernel_power.is_some_and(|power| power.power_button) {
            Some(Verdict::PowerButton)
        } else if self.kernel_power.is_some() && !self.is_doubtful() {
            Some(Verdict::PowerLoss)
        } else if self.unexpected.is_some() {
            Some(Verdict::Unexplained)
        } else if self.dump_write_failed {
            Some(Verdict::DumpFailed)
        } else if self.facts.unlogged_boots >= UNLOGGED_MIN {
            Some(Verdict::UnloggedBoots)
        } else {
            None
        }
    }

    /// Whether a later report or dump could still add to this session.
    pub(super) fn is_told(&self) -> bool {
        self.verdict().is_some()
    }

    /// The findings of this session, if anything changed since they were last taken.
    pub(super) fn drain(&mut self) -> Vec<Finding> {
        if !std::mem::take(&mut self.dirty) {
            return Vec::new();
        }
        let Some(verdict) = self.verdict() else {
            return Vec::new();
        };
        if self.crashes.is_empty() {
            return vec![self.finding(verdict, &self.key())];
        }
        let crashes = self.crashes.iter().enumerate();
        let findings = crashes.map(|(index, crash)| self.crash_finding(index, crash));
        findings.collect()
    }

    fn finding(&self, verdict: Verdict, key: &str) -> Finding {
        let boots = self.facts.unlogged_boots;
        let (kind, title) = match verdict {
            Verdict::Bugcheck => ("bugcheck", "bugcheck of unknown code".to_owned()),
            Verdict::PowerButton => {
                let title = "the power button was held until the machine went off";
                ("power-button-hold", title.to_owned())
            }
            Verdict::PowerLoss => {
                let title = "stopped without shutdown or bugcheck: power loss or hang";
                ("power-loss", title.to_owned())
            }
            Verdict::Unexplained => {
                let title = "stopped without shutdown; only the event log noticed";
                ("unclean-stop", title.to_owned())
            }
            Verdict::DumpFailed => {
                let title = "a crash dump could not be written";
                ("dump-write-failed", title.to_owned())
            }
            Verdict::UnloggedBoots => (
                "boots-without-log",
                format!("{boots} boots before this one left no log"),
            ),
        };
        let power = self.kernel_power;
        let last_alive = self.unexpected.as_ref().and_then(Option::as_deref);
        let unlogged = (boots > 0).then_some(boots);
        Finding::new(kind, key, &title)
            .with("computer", self.computer.as_str())
            .with("boot_session", self.key())
            .with_some("power_button", power.map(|power| power.power_button))
            .with_some(
                "sleep_in_progress",
                power.map(|power| power.sleep_in_progress),
            )
            .with_some("last_alive", last_alive)
            .with_some("boots_without_log", unlogged)
            .with_some("last_shutdown_good", self.facts.last_shutdown_good)
            .with_some("last_boot_good", self.facts.last_boot_good)
            .with_some("dump_write_failed", self.dump_write_failed.then_some(true))
            .with_some("no_minidump", self.no_minidump.then_some(true))
            .with("events", self.seen.clone())
    }

    fn crash_finding(&self, index: usize, crash: &Crash) -> Finding {
        let key = match index {
            0 => self.key(),
            _ => format!("{}/{}", self.key(), index + 1),
        };
        let mut finding = self.finding(Verdict::Bugcheck, &key);
        let module = crash.dump.as_ref().and_then(|dump| dump.module.clone());
        let blamed = module
            .as_ref()
            .map(|module| format!(" in {module}"))
            .unwrap_or_default();
        let label = crash.bugcheck.label();
        finding.title = crate::text::title(&format!("bugcheck {label}{blamed}"));
        finding.module = module;
        let params = crash.bugcheck.params.map(super::hex_params);
        finding = finding
            .with("code", format!("{:#x}", crash.bugcheck.code))
            .with_some("name", crash.bugcheck.name())
            .with_some("params", params)
            .with_some("dump_path", crash.dump_path.as_deref())
            .with_some("minidump", crash.minidump.as_deref())
            .with_some("report_id", crash.guid.as_deref());
        if let Some(dump) = &crash.dump {
            finding = finding
                .with("dump", json!(dump.evidence))
                .with("dump_file", dump.file.as_str());
        }
        finding
    }
}
