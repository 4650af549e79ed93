//! From events to findings: one per boot session that tells of a crash, one per service and
//! program that does.
//!
//! Events of the System and Application logs come in the order of their records, live or from a
//! file, and every source of one stop (Kernel-Power 41, WER 1001, EventLog 6008, the dump) adds
//! to the same finding in whatever order they come. Clocks order nothing: the kernel's events are
//! flushed after the boot with stamps from before it, and machines boot with wrong clocks.
//!
//! What is *not* told, because healthy machines show it: a Kernel-Power 41 after a proper
//! shutdown with nothing beside it (restored snapshots; [`Boot::doubtful_stop`] counts it), live
//! kernel events, per-user services that end with their logon, services that end in a shutdown
//! or are restarted by their own updater, single failed starts.

mod application;
mod report;
mod service;
mod session;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::dump::Dump;
use super::event::{EventRecord, EventTime};
use crate::finding::Finding;
use application::Applications;
use report::{Reported, last_alive};
use service::ServiceWatch;
use session::{DumpVerdict, Session};

/// Closed sessions kept because a late report or dump may add to them.
const RECENT_MAX: usize = 64;
/// Dumps kept for a stop that is not told of yet; Windows keeps up to 50 minidumps.
const DUMPS_MAX: usize = 64;
/// Boots kept for [`Detector::boots`].
const BOOTS_MAX: usize = 256;
/// Records remembered so that one delivered twice counts once: a bookmark is saved after its
/// batch was handled, so a restart repeats at most a batch.
const REPEATS_MAX: usize = 256;
/// More unlogged boots than this between two logged ones are another installation's counter.
const UNLOGGED_MAX: u64 = 10_000;

/// Gathers events of one machine and tells what they mean.
///
/// Live: [`push`](Self::push) a batch, [`drain`](Self::drain), save the detector beside the
/// bookmark. A finding is given again under its key when more became known. Memory is bounded
/// by constants of this module as long as it is drained.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Detector {
    current: Session,
    recent: VecDeque<Session>,
    services: ServiceWatch,
    applications: Applications,
    /// The id of the last boot whose Kernel-Boot 20 was seen, and the sessions opened since.
    boot_counter: Option<(u64, u64)>,
    dump_unavailable: Option<u64>,
    dump_unavailable_told: bool,
    repeats: VecDeque<(u64, u32, Option<EventTime>)>,
    boots: VecDeque<Boot>,
    /// Dumps whose stop was not told of yet.
    dumps: Vec<DumpVerdict>,
    #[serde(skip)]
    ready: Vec<Finding>,
}

/// A dump's finding as another process told it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldDump {
    /// See [`Finding::key`].
    pub key: String,
    /// See [`Finding::title`].
    pub title: String,
    /// See [`Finding::module`].
    pub module: Option<String>,
    /// See [`Finding::evidence`].
    pub evidence: serde_json::Map<String, serde_json::Value>,
}

/// One boot session in summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The session's key, as in its findings.
    pub key: String,
    /// The time of the record that opened it.
    pub opened_at: Option<EventTime>,
    /// Whether its event log was stopped in order; `None` for the session still open.
    pub clean_end: Option<bool>,
    /// It began with a claim of an unclean stop that the log contradicts.
    pub doubtful_stop: bool,
    /// Boots directly before it that left no log.
    pub boots_without_log: u64,
    /// Resumes (from fast startup or hibernation) within it: not boots.
    pub fast_startups: u32,
}

/// The events that matter, by provider and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    LogVersion,
    LogStarted,
    LogStopped,
    UnexpectedStop,
    KernelStarted,
    KernelStopped,
    ShutdownAsked,
    ShutdownAborted,
    KernelPower,
    BootStatus,
    BootType,
    DumpInitFailed,
    DumpWriteFailed,
    BugcheckReport,
    NoMinidump,
    ErrorReport,
    ApplicationError,
    ServiceCrashed,
    ServiceRestartRefused,
    ServiceFailed,
    ServiceStartFailed,
    ServiceStartTimedOut,
    ServiceStopHung,
}

impl Signal {
    fn of(event: &EventRecord) -> Option<Self> {
        Some(match (event.provider.as_str(), event.event_id) {
            ("EventLog", 6005) => Self::LogStarted,
            ("EventLog", 6006) => Self::LogStopped,
            ("EventLog", 6008) => Self::UnexpectedStop,
            ("EventLog", 6009) => Self::LogVersion,
            ("Microsoft-Windows-Kernel-General", 12) => Self::KernelStarted,
            ("Microsoft-Windows-Kernel-General", 13) => Self::KernelStopped,
            ("Microsoft-Windows-Kernel-Power", 41) => Self::KernelPower,
            ("Microsoft-Windows-Kernel-Power", 109) => Self::ShutdownAsked,
            ("Microsoft-Windows-Kernel-Boot", 20) => Self::BootStatus,
            ("Microsoft-Windows-Kernel-Boot", 27) => Self::BootType,
            ("User32" | "USER32", 1074) => Self::ShutdownAsked,
            ("User32" | "USER32", 1075) => Self::ShutdownAborted,
            ("volmgr", 46) => Self::DumpInitFailed,
            ("volmgr", 161) => Self::DumpWriteFailed,
            ("Microsoft-Windows-WER-SystemErrorReporting" | "BugCheck", 1001) => {
                Self::BugcheckReport
            }
            ("Microsoft-Windows-WER-SystemErrorReporting" | "BugCheck", 1005) => Self::NoMinidump,
            ("Windows Error Reporting", 1001) => Self::ErrorReport,
            ("Application Error", 1000) => Self::ApplicationError,
            ("Service Control Manager", id) => return Self::of_service(id),
            _ => return None,
        })
    }

    fn of_service(id: u32) -> Option<Self> {
        Some(match id {
            7031 | 7034 => Self::ServiceCrashed,
            7032 => Self::ServiceRestartRefused,
            7023 | 7024 => Self::ServiceFailed,
            7000 => Self::ServiceStartFailed,
            7009 => Self::ServiceStartTimedOut,
            7043 => Self::ServiceStopHung,
            _ => return None,
        })
    }
}

impl Detector {
    /// Whether an event can matter; a reader need not keep the others.
    pub fn wants(event: &EventRecord) -> bool {
        Signal::of(event).is_some()
    }

    /// Takes the next event of the machine's System or Application log. Events that do not
    /// matter, and events taken before, change nothing.
    pub fn push(&mut self, event: &EventRecord) {
        self.services.settle(event.time);
        let Some(signal) = Signal::of(event) else {
            return;
        };
        if self.is_repeat(event) {
            return;
        }
        if self.opens_session(signal) {
            self.open_session(event);
        }
        if signal != Signal::ErrorReport {
            self.current.touch(event);
        }
        match signal {
            Signal::LogVersion
            | Signal::LogStarted
            | Signal::LogStopped
            | Signal::KernelStarted
            | Signal::KernelStopped
            | Signal::ShutdownAsked
            | Signal::ShutdownAborted
            | Signal::BootStatus
            | Signal::BootType => self.take_course(signal, event),
            Signal::UnexpectedStop
            | Signal::KernelPower
            | Signal::BugcheckReport
            | Signal::NoMinidump
            | Signal::ErrorReport
            | Signal::DumpInitFailed
            | Signal::DumpWriteFailed => self.take_stop(signal, event),
            Signal::ServiceCrashed
            | Signal::ServiceRestartRefused
            | Signal::ServiceFailed
            | Signal::ServiceStartFailed
            | Signal::ServiceStartTimedOut
            | Signal::ServiceStopHung => self.take_service(signal, event),
            Signal::ApplicationError => self.applications.crashed(event),
        }
    }

    /// Adds a dump's verdict to the stop it is of, before or after the log tells of that. A dump
    /// whose stop is not told of until the next [`drain`](Self::drain) is a finding of its own.
    /// `file` is the dump's file name.
    pub fn push_dump(&mut self, dump: &Dump, file: &str) {
        if let Some(verdict) = self.place_dump(DumpVerdict::of(dump, file)) {
            if self.dumps.len() == DUMPS_MAX {
                let oldest = self.dumps.remove(0);
                self.ready.push(oldest.into_finding());
            }
            self.dumps.push(verdict);
        }
    }

    /// As [`push_dump`](Self::push_dump), of a dump that another process read: `told` is the finding
    /// it made of it. What is no finding of a dump is left alone, and `false`.
    pub fn push_dump_finding(&mut self, told: ToldDump) -> bool {
        let Some(verdict) = DumpVerdict::of_finding(told) else {
            return false;
        };
        if let Some(verdict) = self.place_dump(verdict) {
            if self.dumps.len() == DUMPS_MAX {
                let oldest = self.dumps.remove(0);
                self.ready.push(oldest.into_finding());
            }
            self.dumps.push(verdict);
        }
        true
    }

    /// Hands a dump to its stop, or back.
    fn place_dump(&mut self, mut verdict: DumpVerdict) -> Option<DumpVerdict> {
        // The stop that names this dump, wherever it stands, before one that only agrees with it.
        for by_name in [true, false] {
            let recent = self.recent.iter_mut().rev();
            for session in std::iter::once(&mut self.current).chain(recent) {
                verdict = session.take_dump(verdict, by_name)?;
            }
        }
        Some(verdict)
    }

    /// Records are missing at this place of the log: what was assumed of the last shutdown and
    /// of the boot counter no longer holds.
    pub fn records_lost(&mut self) {
        self.current.lost_records = true;
        self.boot_counter = None;
    }

    /// What is new or more fully known since the last call.
    pub fn drain(&mut self) -> Vec<Finding> {
        self.collect(false)
    }

    /// What is left when the log ends here.
    pub fn finish(mut self) -> Vec<Finding> {
        self.collect(true)
    }

    /// The boot sessions seen, oldest first, at most the last 256.
    pub fn boots(&self) -> Vec<Boot> {
        let open = self.current.touched.then(|| summary(&self.current, None));
        self.boots.iter().cloned().chain(open).collect()
    }

    fn collect(&mut self, last: bool) -> Vec<Finding> {
        let dumps = std::mem::take(&mut self.dumps);
        let unplaced = dumps.into_iter().filter_map(|dump| self.place_dump(dump));
        let unplaced: Vec<_> = unplaced.map(DumpVerdict::into_finding).collect();
        let mut findings = std::mem::take(&mut self.ready);
        findings.extend(unplaced);
        for session in &mut self.recent {
            findings.extend(session.drain());
        }
        findings.extend(self.current.drain());
        findings.extend(self.services.drain(&self.current.key(), last));
        let machine = self.current.machine_key();
        findings.extend(self.applications.drain(&machine));
        if let Some(record) = self.dump_unavailable
            && !std::mem::replace(&mut self.dump_unavailable_told, true)
        {
            let title = "crash dumps could not be set up: a bugcheck would leave none";
            let key = format!("{machine}/crash-dump-unavailable");
            findings
                .push(Finding::new("crash-dump-unavailable", &key, title).with("record", record));
        }
        findings
    }

    fn is_repeat(&mut self, event: &EventRecord) -> bool {
        let mark = (event.record_id, event.event_id, event.time);
        if event.record_id == 0 {
            return false; // no id to tell repeats by
        }
        if self.repeats.contains(&mark) {
            return true;
        }
        if self.repeats.len() == REPEATS_MAX {
            self.repeats.pop_front();
        }
        self.repeats.push_back(mark);
        false
    }

    /// Whether an event cannot belong to the session gathered so far.
    fn opens_session(&self, signal: Signal) -> bool {
        let session = &self.current;
        if !session.touched {
            return false;
        }
        let tail = session.is_tail();
        let over = session.ending.log_stopped;
        match signal {
            Signal::LogVersion => session.log_started || session.version_told || over || tail,
            Signal::LogStarted => session.log_started || over || tail,
            Signal::UnexpectedStop => {
                let other = tail && !session.has_kernel_power();
                session.log_started || session.has_unexpected() || over || other
            }
            Signal::KernelStarted => session.kernel_started || over || tail,
            Signal::KernelPower => session.has_kernel_power() || over,
            _ => false,
        }
    }

    fn open_session(&mut self, event: &EventRecord) {
        let before = self.current.known_ending();
        let closed = std::mem::replace(&mut self.current, Session::opened_by(event, before));
        let clean = closed.ending.log_stopped;
        let mut services = std::mem::take(&mut self.services);
        self.ready.extend(services.drain(&closed.key(), true));
        if let Some((_, sessions)) = &mut self.boot_counter {
            *sessions += 1;
        }
        if self.boots.len() == BOOTS_MAX {
            self.boots.pop_front();
        }
        self.boots.push_back(summary(&closed, Some(clean)));
        if closed.is_told() {
            if self.recent.len() == RECENT_MAX
                && let Some(mut oldest) = self.recent.pop_front()
            {
                self.ready.extend(oldest.drain());
            }
            self.recent.push_back(closed);
        }
    }

    /// Starts, stops and what Kernel-Boot says.
    fn take_course(&mut self, signal: Signal, event: &EventRecord) {
        match signal {
            Signal::LogVersion => self.current.version_told = true,
            Signal::LogStarted => self.current.log_started = true,
            Signal::KernelStarted => self.current.kernel_started = true,
            Signal::LogStopped => {
                self.current.ending.log_stopped = true;
                self.shutting_down();
            }
            // Flushed by the next boot: until that boot's own kernel start, they speak of the
            // session before.
            Signal::KernelStopped if self.is_flushing() => {
                if let Some(before) = &mut self.current.before {
                    before.kernel_stopped = true;
                }
            }
            Signal::KernelStopped => {
                self.current.ending.kernel_stopped = true;
                self.shutting_down();
            }
            Signal::ShutdownAsked if self.is_flushing() => {}
            Signal::ShutdownAsked => self.shutting_down(),
            Signal::ShutdownAborted => self.current.stopping = false,
            Signal::BootType => {
                let resumed = event.number("BootType").is_some_and(|kind| kind != 0);
                self.current.facts.fast_startups += u32::from(resumed);
            }
            Signal::BootStatus => self.take_boot_status(event),
            _ => {}
        }
    }

    fn is_flushing(&self) -> bool {
        let started = self.current.log_started || self.current.version_told;
        started && !self.current.kernel_started
    }

    fn shutting_down(&mut self) {
        self.current.stopping = true;
        self.services.stopping();
    }

    /// Kernel-Boot 20: the loader's counter shows boots that died before they could log.
    fn take_boot_status(&mut self, event: &EventRecord) {
        let facts = &mut self.current.facts;
        if facts.last_boot_id.is_some() {
            return;
        }
        facts.last_shutdown_good = event.flag("LastShutdownGood");
        facts.last_boot_good = event.flag("LastBootGood");
        facts.last_boot_id = event.number("LastBootId");
        let Some(last) = facts.last_boot_id else {
            return;
        };
        if let Some((counted, sessions)) = self.boot_counter {
            // The boot before this one, had every boot been logged.
            let expected = counted.saturating_add(sessions.saturating_sub(1));
            let unlogged = last.saturating_sub(expected);
            if (1..=UNLOGGED_MAX).contains(&unlogged) {
                self.current.unlogged(event, unlogged);
            }
        }
        self.boot_counter = Some((last.saturating_add(1), 0));
    }

    fn take_stop(&mut self, signal: Signal, event: &EventRecord) {
        match signal {
            Signal::UnexpectedStop => self.current.take_unexpected(event, last_alive(event)),
            Signal::KernelPower => self.current.take_kernel_power(event),
            Signal::BugcheckReport | Signal::NoMinidump => {
                if let Some(reported) = Reported::of_system_error(event) {
                    self.take_report(event, &reported);
                }
                if signal == Signal::NoMinidump {
                    self.current.no_minidump(event);
                }
            }
            Signal::ErrorReport => {
                if let Some(reported) = Reported::of_blue_screen(event) {
                    self.take_report(event, &reported);
                }
            }
            Signal::DumpWriteFailed => self.current.dump_write_failed(event),
            Signal::DumpInitFailed => {
                self.dump_unavailable.get_or_insert(event.record_id);
            }
            _ => {}
        }
    }

    /// A report belongs to this session's stop, else to a recent one's that has none yet, else
    /// it is the first word of a stop: of this session where its start is known, of one named
    /// after the report where it is not (the Application log has no starts).
    fn take_report(&mut self, event: &EventRecord, reported: &Reported) {
        let mut recent = self.recent.iter_mut().rev();
        if self.current.enrich(event, reported, false)
            || recent.any(|session| session.enrich(event, reported, true))
        {
            return;
        }
        if self.current.is_full() || (self.current.touched && self.current.is_tail()) {
            self.open_session(event);
        }
        self.current.touch(event);
        self.current.add_reported(event, reported);
    }

    fn take_service(&mut self, signal: Signal, event: &EventRecord) {
        if signal == Signal::ServiceStopHung {
            return self.shutting_down(); // only a service asked to stop can be late with it
        }
        if self.current.stopping {
            return;
        }
        match signal {
            Signal::ServiceCrashed => self.services.crashed(event),
            Signal::ServiceRestartRefused => self.services.restart_refused(event),
            Signal::ServiceFailed => self.services.failed(event),
            Signal::ServiceStartFailed => self.services.start_failed(event),
            Signal::ServiceStartTimedOut => self.services.start_timed_out(event),
            _ => {}
        }
    }
}

fn summary(session: &Session, clean_end: Option<bool>) -> Boot {
    Boot {
        key: session.key(),
        opened_at: session.opened_at(),
        clean_end,
        doubtful_stop: session.is_doubtful(),
        boots_without_log: session.facts.unlogged_boots,
        fast_startups: session.facts.fast_startups,
    }
}

/// The four parameters as they are written everywhere: hexadecimal.
pub(super) fn hex_params(params: [u64; 4]) -> Vec<String> {
    params.iter().map(|param| format!("{param:#x}")).collect()
}
