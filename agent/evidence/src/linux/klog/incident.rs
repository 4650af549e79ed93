//! Reports collected out of a stream of lines, and the findings they become.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use super::blame::Body;
use super::frame::Row;
use super::header::{self, Lead};
use super::line::{self, Caller, Line};
use super::{ROW_BYTES_MAX, describe, facts};
use crate::finding::{Finding, Item};
use crate::linux::oom;
use crate::text;

/// Most reports collected side by side: as many as CPUs that plausibly crash at once.
pub const OPEN_MAX: usize = 8;
/// Most rows of one report. The longest seen (lock chains, overflown stacks) have about 1,500.
pub const ROWS_MAX: usize = 2_500;
/// Most bytes of one report.
pub const REPORT_BYTES_MAX: usize = 512 * 1024;
/// Keys remembered, so that a report printed twice is told once.
const KEYS_MAX: usize = 2_000;
/// Most findings between two calls of [`KernelLog::finish`]; a loop that warns for ever must not fill
/// the spool.
pub const FINDINGS_MAX: usize = 1_000;
/// Rows after which a panic message no longer adds a stack of its own worth reading.
const ROWS_COMPLETE: usize = 22;
/// A panic this long after a report without an end mark is a fault of its own.
const SAME_FAULT_US: u64 = 5_000_000;
/// A stamp this far behind the latest one belongs to another boot.
const CLOCK_BACK_US: u64 = 2_000_000;

/// What is known of a log beside its text.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Facts added to every finding (boot id, pstore record, ...).
    pub facts: Vec<(&'static str, Value)>,
}

/// A report being collected.
#[derive(Debug)]
pub(super) struct Incident {
    pub(super) lead: Lead,
    caller: Caller,
    pub(super) monotonic_us: Option<u64>,
    latest_us: Option<u64>,
    /// The boot it belongs to has ended.
    over: bool,
    pub(super) rows: Vec<Body>,
    bytes: usize,
    rows_of_any_cpu: bool,
    collecting: bool,
    pub(super) panic: Option<String>,
    opened_at: u64,
}

impl Incident {
    fn has_stack(&self) -> bool {
        let traced = self.rows.iter().position(|row| row.row == Row::Trace);
        traced.is_some_and(|at| {
            self.rows[at..]
                .iter()
                .any(|row| matches!(row.row, Row::Frames(_)))
        })
    }

    /// A console or a rotated log goes on with the next boot, whose clock begins again. Single lines
    /// of a caller arrive late by milliseconds, never by seconds.
    fn watch_clock(&mut self, line: &Line<'_>) {
        if self.caller != line.caller {
            return;
        }
        let (Some(latest), Some(now)) = (self.latest_us, line.monotonic_us) else {
            return;
        };
        if now.saturating_add(CLOCK_BACK_US) < latest {
            self.collecting = false;
            self.over = true;
        }
        self.latest_us = Some(latest.max(now));
    }

    /// Mailers and web forms wrap the long list of modules.
    fn wrapped_modules(&mut self, text: &str) {
        if self.collecting
            && self.bytes < REPORT_BYTES_MAX
            && let Some(last) = self.rows.last_mut()
            && last.text.trim_start().starts_with("Modules linked in:")
        {
            last.text.push(' ');
            last.text.push_str(text);
            self.bytes += text.len();
        }
    }

    fn takes(&self, caller: Caller) -> bool {
        self.collecting
            && (self.caller == caller || (self.rows_of_any_cpu && matches!(caller, Caller::Cpu(_))))
    }
}

/// A kernel log read line by line.
#[derive(Debug, Default)]
pub struct KernelLog {
    origin: Origin,
    open: VecDeque<Incident>,
    oom: oom::Reader,
    found: Vec<Item>,
    keys: BTreeSet<String>,
    keys_in_order: VecDeque<String>,
    emitted: usize,
    left_out: u64,
    release: Option<String>,
    lines: u64,
    stamped: bool,
    shutting_down: bool,
}

impl KernelLog {
    /// An empty log.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            ..Self::default()
        }
    }

    /// Reads one line (with or without its line end); longer lines are cut at [`ROW_BYTES_MAX`].
    pub fn push(&mut self, raw: &[u8]) {
        let cut = &raw[..raw.len().min(ROW_BYTES_MAX)];
        let decoded = String::from_utf8_lossy(cut);
        match decoded.contains('\u{1b}') {
            true => self.push_line(&line::parse(&text::without_colour(&decoded))),
            false => self.push_line(&line::parse(&decoded)),
        }
    }

    /// Reads one line whose prefix is already split off (journal entries).
    pub fn push_line(&mut self, line: &Line<'_>) {
        self.lines += 1;
        if line.text.contains("replaying previous printk message") {
            // The line above is printed again in full: what it began was a torn copy.
            if self
                .open
                .back()
                .is_some_and(|last| last.opened_at + 1 == self.lines)
            {
                self.open.pop_back();
            }
            return;
        }
        for open in &mut self.open {
            open.watch_clock(line);
        }
        self.note(line);
        if let Some(kill) = self.oom.push(line) {
            self.emit(kill);
        }
        match header::lead(line) {
            Some(Lead::Reboot) if !self.stamped || self.shutting_down => {}
            Some(lead) => self.header(lead, line),
            None => self.row(line),
        }
    }

    fn close_all(&mut self) {
        while let Some(incident) = self.open.pop_front() {
            self.close(incident);
        }
    }

    /// Reports what is still open as far as it goes. Call it at the end, or whenever a live log has
    /// gone quiet: reading may go on afterwards.
    pub fn finish(&mut self) {
        self.close_all();

        if self.left_out > 0 {
            let error = format!(
                "kernel log: {} further findings left out, only the first {FINDINGS_MAX} are reported",
                self.left_out
            );
            self.found.push(Item::unreadable(&error, 0));
            self.left_out = 0;
        }
        self.emitted = 0;
    }

    /// The findings so far, in the order their reports ended.
    pub fn take(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.found)
    }

    fn note(&mut self, line: &Line<'_>) {
        if let Some(release) = facts::banner_release(line.text) {
            self.release = Some(text::clean(release, 64));
            self.shutting_down = false;
        }
        if line.monotonic_us.is_some_and(|us| us > 0) {
            self.stamped = true;
        }
        if [
            "reboot: ",
            "Restarting system",
            "Power down",
            "Rebooting in ",
            "Kernel panic",
        ]
        .iter()
        .any(|word| line.text.contains(word))
        {
            self.shutting_down = true;
        }
    }

    fn header(&mut self, lead: Lead, line: &Line<'_>) {
        if lead == Lead::Panic {
            let reason = header::panic_reason(line.text).unwrap_or("");
            if self.attach_panic(reason, line) {
                return;
            }
        } else if self
            .open
            .iter()
            .any(|open| open.collecting && open.caller == line.caller && lead.continues(open.lead))
        {
            self.row(line);
            return;
        }
        for open in &mut self.open {
            if !open.takes(line.caller) {
                continue;
            }
            // Another fault of the same caller. Without caller ids what follows may belong to
            // either; with them, a report still without its stack goes on below the new header.
            let ambiguous = matches!(line.caller, Caller::Bare | Caller::Kernel);
            if ambiguous || open.has_stack() {
                open.collecting = false;
            } else {
                push_row(open, line.text);
            }
        }
        if self.open.len() == OPEN_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            self.close(oldest);
        }
        self.open.push_back(Incident {
            lead,
            caller: line.caller,
            monotonic_us: line.monotonic_us,
            latest_us: line.monotonic_us,
            over: false,
            rows: vec![Body::new(line.text)],
            bytes: line.text.len(),
            rows_of_any_cpu: false,
            collecting: true,
            panic: (lead == Lead::Panic)
                .then(|| header::panic_reason(line.text).unwrap_or("").to_owned()),
            opened_at: self.lines,
        });
    }

    /// A panic ends the fault before it, or is one of its own.
    fn attach_panic(&mut self, reason: &str, line: &Line<'_>) -> bool {
        let same_caller = self
            .open
            .iter()
            .rposition(|open| open.caller == line.caller);
        let consequence = header::is_consequence(reason);
        let at = match same_caller {
            Some(at) => Some(at),
            None if consequence => self.open.len().checked_sub(1),
            None => None,
        };
        let Some(open) = at.and_then(|at| self.open.get_mut(at)) else {
            return false;
        };
        if open.over {
            return false;
        }
        if open.lead == Lead::UnknownNmi {
            // A stray NMI is news of its own, and the panic over one is more than that.
            return false;
        }
        let near = match (open.monotonic_us, line.monotonic_us) {
            (Some(then), Some(now)) => (then..=then.saturating_add(SAME_FAULT_US)).contains(&now),
            _ => true,
        };
        // A machine panics once: a second one without a break is the next boot's.
        if open.panic.is_some() && !(open.collecting && near) {
            return false;
        }
        if !(consequence || (open.collecting && near)) {
            return false;
        }
        if open.panic.is_none() {
            open.panic = Some(reason.to_owned());
        }
        if open.rows.len() > ROWS_COMPLETE && open.has_stack() {
            open.collecting = false;
        } else {
            self.row(line);
        }
        true
    }

    fn row(&mut self, line: &Line<'_>) {
        for open in &mut self.open {
            if line.caller == Caller::Bare && open.caller != Caller::Bare {
                open.wrapped_modules(line.text);
            } else if open.takes(line.caller) {
                push_row(open, line.text);
            }
        }
    }

    fn close(&mut self, incident: Incident) {
        let finding = describe::describe(&incident, self.release.as_deref());
        self.emit(finding);
    }

    fn emit(&mut self, mut finding: Finding) {
        // Cleaned like every other fact: where a log came from is as hostile as what it says.
        for (name, value) in &self.origin.facts {
            if !finding.evidence.contains_key(*name) {
                finding = finding.with(name, value.clone());
            }
        }
        if self.keys.contains(&finding.key) {
            return;
        }
        if self.emitted == FINDINGS_MAX {
            self.left_out += 1;
            return;
        }
        if self.keys_in_order.len() == KEYS_MAX
            && let Some(oldest) = self.keys_in_order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        self.emitted += 1;
        self.keys.insert(finding.key.clone());
        self.keys_in_order.push_back(finding.key.clone());
        self.found.push(finding.into());
    }
}

fn push_row(open: &mut Incident, text: &str) {
    if header::ends(text) || open.rows.len() >= ROWS_MAX || open.bytes >= REPORT_BYTES_MAX {
        open.collecting = false;
        return;
    }
    if text.contains("Sending NMI from CPU") {
        open.rows_of_any_cpu = true;
    }
    open.bytes += text.len();
    open.rows.push(Body::new(text));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Vec<Finding> {
        let items = crate::linux::klog::read(text.as_bytes());
        items.iter().filter_map(Item::finding).cloned().collect()
    }

    const TWO_AT_ONCE: &str = "\
[ 1.000001][ T10] BUG: KASAN: use-after-free in one+0x1/0x2
[ 1.000002][ T20] WARNING: CPU: 1 PID: 20 at a.c:1 two+0x1/0x2
[ 1.000003][ T10] Read of size 8 at addr ffff88002a05 by task a/10
[ 1.000004][ T20] RIP: 0010:two+0x1/0x2 [second]
[ 1.000005][ T10] Call Trace:
[ 1.000006][ T20] Call Trace:
[ 1.000007][ T10]  one+0x1/0x2 [first]
[ 1.000008][ T20]  two_caller+0x1/0x2
";

    #[test]
    fn interleaved_reports_are_parted_by_their_caller() {
        let found = read(TWO_AT_ONCE);
        let seen: Vec<_> = found
            .iter()
            .map(|f| (f.title.as_str(), f.module.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("KASAN: use-after-free Read in one", Some("first")),
                ("WARNING in two", Some("second"))
            ]
        );
    }

    #[test]
    fn a_panic_belongs_to_the_fault_that_caused_it() {
        let found = read(
            "[ 1.000001] kernel BUG at a.c:1!\n[ 1.000002] invalid opcode: 0000 [#1] SMP\n\
             [ 1.000003] RIP: 0010:foo+0x1/0x2\n[ 1.000004] ---[ end trace 1 ]---\n\
             [ 9.000000] Kernel panic - not syncing: Fatal exception\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "kernel BUG in foo");
        assert_eq!(found[0].evidence["panic"], "Fatal exception");
    }

    #[test]
    fn a_panic_long_after_a_warning_is_a_fault_of_its_own() {
        let found = read(
            "[ 1.000001] WARNING: CPU: 1 PID: 2 at a.c:1 foo+0x1/0x2\n\
             [ 99.000000] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
        );
        let kinds: Vec<&str> = found.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, ["kernel-warning", "kernel-panic"]);
        assert_eq!(found[0].evidence["panicked"], false);
    }

    #[test]
    fn each_boot_of_a_console_panics_for_itself() {
        let found = read(
            "[ 9.500000] Kernel panic - not syncing: x\n[ 9.500001] ---[ end Kernel panic - not syncing: x ]---\n\
             [ 9.400000] Kernel panic - not syncing: x\n",
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_torn_copy_of_a_message_is_no_report() {
        let found = read(
            "[ 1.000000] BUG: unable to ha\n** replaying previous printk message **\n[ 1.000000] all well\n",
        );
        assert_eq!(found, []);
    }

    #[test]
    fn the_key_is_the_same_through_every_prefix() {
        let forms = [
            "[   12.000345] BUG: x y\n[   12.000346] Call Trace:\n[   12.000347]  foo+0x1/0x2\n",
            "<4>[   12.000345] BUG: x y\n<4>[   12.000346] Call Trace:\n<4>[   12.000347]  foo+0x1/0x2\n",
            "4,7,12000345,-;BUG: x y\n4,8,12000346,-;Call Trace:\n4,9,12000347,-; foo+0x1/0x2\n",
            "Nov 23 05:33:11 h kernel: [   12.000345] BUG: x y\nNov 23 05:33:11 h kernel: [   12.000346] Call Trace:\n\
             Nov 23 05:33:11 h kernel: [   12.000347]  foo+0x1/0x2\n",
        ];
        let keys: BTreeSet<String> = forms.iter().map(|text| read(text)[0].key.clone()).collect();
        assert_eq!(keys.len(), 1);
        assert_eq!(read(forms[0])[0].function.as_deref(), Some("foo"));
    }

    #[test]
    fn the_hash_ignores_offsets_and_compiler_suffixes() {
        let report = |frame: &str| {
            read(&format!("BUG: x y\nCall Trace:\n {frame}\n"))[0].evidence["hash"].clone()
        };
        assert_eq!(
            report("foo.isra.3+0x10/0x20"),
            report("foo.constprop.0.cold+0x99/0xaa")
        );
        assert_ne!(report("foo+0x10/0x20"), report("bar+0x10/0x20"));
    }
}
