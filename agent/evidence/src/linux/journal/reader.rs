//! What the entries of a journal amount to: boots and how they ended, units that loop or failed,
//! core dumps, kernel reports.
//!
//! Boots are ordered by sequence number, never by the wall clock: on a machine without a battery
//! every boot begins at the same time of day.

use std::collections::BTreeMap;

use super::entry::{Entry, ids};
use crate::finding::{Finding, Item};
use crate::linux::klog::line::{Caller, Line};
use crate::linux::klog::{KernelLog, Origin};
use crate::linux::units::Unit;
use crate::text;

/// Most boots kept.
const BOOTS_MAX: usize = 512;
/// Most units kept over all boots.
const UNITS_MAX: usize = 20_000;
/// Most core dumps reported.
const COREDUMPS_MAX: usize = 1_000;
/// Kernel logs read side by side; a finished boot gives no further lines.
const KERNEL_LOGS_MAX: usize = 4;

#[derive(Debug, Default)]
struct Boot {
    sequence: String,
    seqnum_first: Option<u64>,
    appeared: usize,
    realtime_first_us: Option<u64>,
    realtime_last_us: Option<u64>,
    monotonic_last_us: Option<u64>,
    machine: Option<String>,
    entries: u64,
    by_system: bool,
    from_the_start: bool,
    stopped: bool,
    started_up: bool,
    mode: Option<&'static str>,
    shutting_down: bool,
    units: BTreeMap<String, Unit>,
}

/// Collects the entries of one journal (one machine's files, or one export of them).
#[derive(Debug, Default)]
pub struct Reader {
    boots: BTreeMap<String, Boot>,
    kernel: Vec<(String, KernelLog)>,
    items: Vec<Item>,
    units: usize,
    coredumps: usize,
    left_out: u64,
}

impl Reader {
    /// Reads one entry.
    pub fn push(&mut self, entry: &Entry) {
        if entry.boot_id.is_empty() {
            return;
        }
        if !self.boots.contains_key(&entry.boot_id) {
            if self.boots.len() == BOOTS_MAX {
                self.left_out += 1;
                return;
            }
            let appeared = self.boots.len();
            self.boots.insert(
                entry.boot_id.clone(),
                Boot {
                    appeared,
                    ..Boot::default()
                },
            );
        }
        if entry.get("_TRANSPORT") == Some("kernel") {
            self.kernel_line(entry);
        }
        let Some(boot) = self.boots.get_mut(&entry.boot_id) else {
            return;
        };
        note(boot, entry);
        let Some(id) = entry.get("MESSAGE_ID") else {
            // Exports reduced to some fields lose the message id.
            if entry.get("COREDUMP_PID").is_some() && entry.get("COREDUMP_SIGNAL").is_some() {
                self.coredump(entry);
            }
            return;
        };
        // Only PID 1 speaks for units; anybody may write an entry with its message ids.
        let by_manager = entry.get("_PID").is_none_or(|pid| pid == "1");
        match id {
            ids::COREDUMP => self.coredump(entry),
            ids::STARTED_UP if by_manager && entry.get("USER_UNIT").is_none() => {
                boot.started_up = true
            }
            ids::JOURNAL_STOPPED => boot.stopped = true,
            ids::JOURNAL_STARTED => {
                // The journal of the initrd stops when the real one starts.
                boot.stopped = false;
                boot.from_the_start = true;
            }
            ids::SHUTDOWN => boot.shutting_down = true,
            ids::UNIT_STARTED => reached(boot, entry.get("UNIT").unwrap_or("")),
            _ if by_manager => self.unit(entry, id),
            _ => {}
        }
    }

    fn unit(&mut self, entry: &Entry, id: &str) {
        // Units of a login session come and go with it.
        let Some(name) = entry.get("UNIT") else {
            return;
        };
        let Some(boot) = self.boots.get_mut(&entry.boot_id) else {
            return;
        };
        if !ids::ALL.contains(&id) {
            return;
        }
        let shutting_down = boot.shutting_down;
        if !boot.units.contains_key(name) {
            if self.units == UNITS_MAX {
                self.left_out += 1;
                return;
            }
            self.units += 1;
        }
        let unit = boot.units.entry(text::clean(name, 256)).or_default();
        if let Some(invocation) = entry.get("INVOCATION_ID") {
            unit.invocation = Some(text::clean(invocation, 64));
        }
        unit.during_shutdown |= shutting_down && id != ids::EXITED;
        match id {
            // What is restarted while the machine stops does not loop.
            ids::RESTART if shutting_down => {}
            ids::RESTART => {
                let count = entry.get("N_RESTARTS").and_then(|count| count.parse().ok());
                unit.restarts = unit.restarts.max(count.unwrap_or(unit.restarts + 1));
            }
            ids::FAILED => {
                unit.failed = true;
                // The first reason is the cause; after the start limit systemd repeats itself.
                if let Some(result) = entry.get("UNIT_RESULT") {
                    let limit = result.starts_with("start-limit");
                    unit.refused |= limit;
                    if !limit || unit.result.is_none() {
                        unit.result = Some(text::clean(result, 64));
                    }
                }
            }
            ids::EXITED => {
                let code = entry.get("EXIT_CODE").unwrap_or("exited");
                let status = entry.get("EXIT_STATUS").unwrap_or("?");
                unit.status = Some(text::clean(&format!("code={code}, status={status}"), 64));
            }
            ids::START_FAILED => unit.refused = true,
            ids::UNIT_OOM => unit.result = Some("oom-kill".to_owned()),
            _ => {}
        }
    }

    fn coredump(&mut self, entry: &Entry) {
        if self.coredumps == COREDUMPS_MAX {
            self.left_out += 1;
            return;
        }
        self.coredumps += 1;
        let pid = entry.get("COREDUMP_PID").unwrap_or("?");
        let exe = entry
            .get("COREDUMP_EXE")
            .or_else(|| entry.get("COREDUMP_COMM"))
            .unwrap_or("?");
        let stamp = entry.get("COREDUMP_TIMESTAMP").unwrap_or("?");
        let name = entry.get("COREDUMP_COMM").unwrap_or(exe);
        let signal = entry
            .get("COREDUMP_SIGNAL_NAME")
            .or_else(|| entry.get("COREDUMP_SIGNAL"))
            .unwrap_or("a signal");
        let finding = Finding::new(
            "coredump",
            &format!("coredump:{}:{pid}:{stamp}", entry.boot_id),
            &format!("{name} dumped core: {signal}"),
        )
        .with("boot_id", entry.boot_id.as_str())
        .with("exe", exe)
        .with("pid", pid)
        .with("signal", signal)
        .with_some("unit", entry.get("COREDUMP_UNIT"))
        .with_some("monotonic_us", entry.monotonic_us);
        self.items.push(finding.into());
    }

    fn kernel_line(&mut self, entry: &Entry) {
        let Some(message) = entry.get("MESSAGE") else {
            return;
        };
        let at = match self
            .kernel
            .iter()
            .position(|(boot, _)| *boot == entry.boot_id)
        {
            Some(at) => at,
            None => {
                if self.kernel.len() == KERNEL_LOGS_MAX {
                    let (_, mut oldest) = self.kernel.remove(0);
                    oldest.finish();
                    self.items.extend(oldest.take());
                }
                let facts = vec![("boot_id", entry.boot_id.as_str().into())];
                self.kernel
                    .push((entry.boot_id.clone(), KernelLog::new(Origin { facts })));
                self.kernel.len() - 1
            }
        };
        let monotonic_us = entry
            .get("_SOURCE_MONOTONIC_TIMESTAMP")
            .and_then(|us| us.parse().ok())
            .or(entry.monotonic_us);
        for text in message.lines().take(64) {
            self.kernel[at].1.push_line(&Line {
                caller: Caller::Kernel,
                monotonic_us,
                text,
            });
        }
    }

    /// Boot ids in order, oldest first.
    #[must_use]
    pub fn boot_order(&self) -> Vec<String> {
        let mut order: Vec<(&String, &Boot)> = self.boots.iter().collect();
        // Numbers of different sequences cannot be compared. Their last times can, as far as any
        // clock can: by then it was set from the network where there is no battery.
        let mut last_of: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, boot) in &order {
            let last = last_of.entry(boot.sequence.as_str()).or_insert(0);
            *last = (*last).max(boot.realtime_last_us.unwrap_or(0));
        }
        order.sort_by_key(|(_, boot)| {
            let sequence = last_of.get(boot.sequence.as_str()).copied().unwrap_or(0);
            (
                sequence,
                boot.sequence.as_str(),
                boot.seqnum_first.unwrap_or(0),
                boot.appeared,
            )
        });
        order.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Ends the journal: kernel reports, core dumps, then each boot with its units.
    #[must_use]
    pub fn finish(mut self) -> Vec<Item> {
        let mut items = std::mem::take(&mut self.items);
        for (_, mut log) in std::mem::take(&mut self.kernel) {
            log.finish();
            items.extend(log.take());
        }
        let order = self.boot_order();
        let last = order.len().saturating_sub(1);
        for (index, id) in order.iter().enumerate() {
            let Some(boot) = self.boots.get(id) else {
                continue;
            };
            items.push(boot_finding(id, boot, index, index == last).into());
            items.extend(mode_finding(id, boot).map(Item::from));
            for (name, unit) in &boot.units {
                items.extend(unit_finding(id, name, unit).map(Item::from));
            }
        }
        if self.left_out > 0 {
            let error = format!(
                "journal: {} entries of further boots, units or core dumps left out",
                self.left_out
            );
            items.push(Item::unreadable(&error, 0));
        }
        items
    }
}

fn note(boot: &mut Boot, entry: &Entry) {
    boot.entries += 1;
    if boot.sequence.is_empty() {
        boot.sequence.clone_from(&entry.sequence);
    }
    if let Some(seqnum) = entry.seqnum {
        boot.seqnum_first = Some(boot.seqnum_first.map_or(seqnum, |first| first.min(seqnum)));
    }
    if let Some(us) = entry.realtime_us {
        boot.realtime_first_us = Some(boot.realtime_first_us.map_or(us, |first| first.min(us)));
        boot.realtime_last_us = Some(boot.realtime_last_us.map_or(us, |last| last.max(us)));
    }
    if let Some(us) = entry.monotonic_us {
        boot.monotonic_last_us = Some(boot.monotonic_last_us.map_or(us, |last| last.max(us)));
    }
    // The initrd has a machine id of its own: the last one is the machine's.
    if let Some(machine) = entry.get("_MACHINE_ID")
        && boot.machine.as_deref() != Some(machine)
    {
        boot.machine = Some(text::clean(machine, 32));
    }
    let kernel = entry.get("_TRANSPORT") == Some("kernel");
    boot.by_system |= kernel;
    boot.from_the_start |= kernel
        && entry
            .get("MESSAGE")
            .is_some_and(|text| text.starts_with("Linux version "));
}

fn reached(boot: &mut Boot, unit: &str) {
    match unit {
        "emergency.target" | "emergency.service" => boot.mode = Some("emergency"),
        "rescue.target" | "rescue.service" => boot.mode = boot.mode.or(Some("rescue")),
        "shutdown.target" | "umount.target" | "final.target" | "reboot.target"
        | "poweroff.target" | "halt.target" | "kexec.target" => boot.shutting_down = true,
        _ => {}
    }
}

fn boot_finding(id: &str, boot: &Boot, index: usize, newest: bool) -> Finding {
    // An excerpt without the boot's own beginning proves nothing about its end.
    let whole = boot.by_system && boot.from_the_start;
    let clean = boot.stopped || boot.shutting_down;
    let end = match (clean, newest, whole) {
        (true, _, _) => "shutdown",
        (false, true, _) => "current",
        (false, false, true) => "unclean",
        (false, false, false) => "unknown",
    };
    let (kind, title) = if end == "unclean" {
        (
            "unclean-stop",
            format!("boot {id} ended without a shutdown"),
        )
    } else {
        ("boot", format!("boot {id}"))
    };
    Finding::new(kind, &format!("boot:{id}"), &title)
        .with("boot_id", id)
        .with("boot_index", index)
        .with("end", end)
        .with("started_up", boot.started_up)
        .with("entries", boot.entries)
        .with_some("machine_id", boot.machine.as_deref())
        .with_some("seqnum_first", boot.seqnum_first)
        .with_some("realtime_first_us", boot.realtime_first_us)
        .with_some("realtime_last_us", boot.realtime_last_us)
        .with_some("monotonic_last_us", boot.monotonic_last_us)
}

fn mode_finding(id: &str, boot: &Boot) -> Option<Finding> {
    let mode = boot.mode?;
    Some(
        Finding::new(
            "degraded-boot",
            &format!("degraded-boot:{id}"),
            &format!("boot {id} ended in {mode} mode"),
        )
        .with("boot_id", id)
        .with("mode", mode)
        .with("started_up", boot.started_up),
    )
}

fn unit_finding(boot_id: &str, name: &str, unit: &Unit) -> Option<Finding> {
    let mut finding = unit.finding(name)?.with("boot_id", boot_id);
    // Each restart has another invocation: the loop is one fact of the boot.
    finding.key = text::evidence(&format!("unit:{name}:{boot_id}"));
    Some(finding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(boot: &str, seqnum: u64, fields: &[(&str, &str)]) -> Entry {
        let mut entry = Entry {
            sequence: "s".to_owned(),
            seqnum: Some(seqnum),
            boot_id: boot.to_owned(),
            realtime_us: Some(1_000_000 - seqnum),
            ..Entry::default()
        };
        for (name, value) in fields {
            entry.set(name, value.as_bytes());
        }
        entry
    }

    fn ends(reader: Reader) -> Vec<(String, String)> {
        reader
            .finish()
            .iter()
            .filter_map(Item::finding)
            .filter(|finding| finding.key.starts_with("boot:"))
            .map(|f| {
                (
                    f.key.clone(),
                    f.evidence["end"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn boots_are_ordered_by_sequence_whatever_the_clock_says() {
        let mut reader = Reader::default();
        reader.push(&entry("b2", 20, &[]));
        reader.push(&entry("b1", 10, &[]));
        assert_eq!(reader.boot_order(), ["b1", "b2"]);
    }

    #[test]
    fn only_a_boot_seen_from_its_start_can_be_called_unclean() {
        let mut reader = Reader::default();
        reader.push(&entry(
            "a",
            1,
            &[("_TRANSPORT", "kernel"), ("MESSAGE", "Linux version 6.1 x")],
        ));
        reader.push(&entry(
            "b",
            2,
            &[("_TRANSPORT", "kernel"), ("MESSAGE", "usb 1-1: new device")],
        ));
        reader.push(&entry("c", 3, &[]));
        let ends = ends(reader);
        assert_eq!(
            ends.iter().map(|(_, end)| end.as_str()).collect::<Vec<_>>(),
            ["unclean", "unknown", "current"]
        );
    }

    #[test]
    fn restarts_during_a_shutdown_do_not_count() {
        let mut reader = Reader::default();
        reader.push(&entry("a", 1, &[("MESSAGE_ID", ids::SHUTDOWN)]));
        reader.push(&entry(
            "a",
            2,
            &[
                ("MESSAGE_ID", ids::RESTART),
                ("UNIT", "x.service"),
                ("N_RESTARTS", "9"),
            ],
        ));
        assert!(
            !reader
                .finish()
                .iter()
                .any(|item| item.finding().is_some_and(|f| f.kind == "unit-crash-loop"))
        );
    }

    #[test]
    fn entries_of_other_processes_cannot_speak_for_units() {
        let mut reader = Reader::default();
        let forged = [
            ("MESSAGE_ID", ids::RESTART),
            ("UNIT", "x.service"),
            ("N_RESTARTS", "9"),
            ("_PID", "4711"),
        ];
        reader.push(&entry("a", 1, &forged));
        assert!(
            !reader
                .finish()
                .iter()
                .any(|item| item.finding().is_some_and(|f| f.kind == "unit-crash-loop"))
        );
    }
}
