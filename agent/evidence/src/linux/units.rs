//! Facts of systemd units from the text of `systemctl show`, `systemctl status` and the journal.
//!
//! These messages are never translated, so their words may be matched.

use std::collections::BTreeMap;

use crate::finding::{Finding, Item};
use crate::text;

/// Restarts in one life of a unit from which on it loops; the default start limit is 5 in 10 s.
pub const LOOP_RESTARTS: u64 = 3;
/// Most units of one text.
const UNITS_MAX: usize = 10_000;

/// What is known of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Automatic restarts (`NRestarts`, "restart counter is at").
    pub restarts: u64,
    /// `Result`: success, exit-code, core-dump, start-limit-hit, ... Stays exit-code after the limit.
    pub result: Option<String>,
    /// `ActiveState`.
    pub active: Option<String>,
    /// `SubState`.
    pub sub: Option<String>,
    /// `InvocationID`.
    pub invocation: Option<String>,
    /// The main process's exit code or signal.
    pub status: Option<String>,
    /// Whether systemd refused a further start.
    pub refused: bool,
    /// Whether systemd said it failed.
    pub failed: bool,
    /// Whether this was told while the machine was shutting down.
    pub during_shutdown: bool,
}

impl Unit {
    /// Whether anything is wrong with it.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let bad_result = self
            .result
            .as_deref()
            .is_some_and(|result| result != "success");
        self.restarts > 0
            || bad_result
            || self.failed
            || self.refused
            || self.active.as_deref() == Some("failed")
    }

    /// The finding, where something is wrong.
    #[must_use]
    pub fn finding(&self, name: &str) -> Option<Finding> {
        if !self.is_bad() {
            return None;
        }
        let name = text::clean(name, 256);
        let (kind, title) = if self.restarts >= LOOP_RESTARTS {
            (
                "unit-crash-loop",
                format!("{name} restarted {} times", self.restarts),
            )
        } else if self.failed || self.refused || self.active.as_deref() == Some("failed") {
            let why = self.result.as_deref().unwrap_or("unknown");
            ("unit-failed", format!("{name} failed: {why}"))
        } else {
            (
                "unit-restart",
                format!("{name} restarted {} times", self.restarts),
            )
        };
        let key = match self.invocation.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => format!("unit:{name}:{id}"),
            None => format!("unit:{name}"),
        };
        Some(
            Finding::new(kind, &key, &title)
                .with("unit", name)
                .with("restarts", self.restarts)
                .with("start_refused", self.refused)
                .with("during_shutdown", self.during_shutdown)
                .with_some("result", self.result.as_deref())
                .with_some("active_state", self.active.as_deref())
                .with_some("sub_state", self.sub.as_deref())
                .with_some("status", self.status.as_deref())
                .with_some("invocation_id", self.invocation.as_deref()),
        )
    }
}

/// Reads the output of `systemctl show`, one block a unit, blocks parted by an empty line.
#[must_use]
pub fn read_show(bytes: &[u8]) -> Vec<Item> {
    let text = String::from_utf8_lossy(bytes);
    let mut items = Vec::new();
    for block in text.split("\n\n").take(UNITS_MAX) {
        let (name, unit) = show_block(block);
        items.extend(unit.finding(&name).map(Item::from));
    }
    items
}

fn show_block(block: &str) -> (String, Unit) {
    let mut unit = Unit::default();
    let mut name = String::new();
    for line in block.lines() {
        let Some((property, value)) = line.split_once('=') else {
            continue;
        };
        let some = || Some(text::clean(value, 128));
        match property {
            "Id" => name = value.to_owned(),
            "NRestarts" => unit.restarts = value.trim().parse().unwrap_or(0),
            "Result" => unit.result = some(),
            "ActiveState" => unit.active = some(),
            "SubState" => unit.sub = some(),
            "InvocationID" => unit.invocation = some(),
            "ExecMainStatus" => unit.status = some(),
            _ => {}
        }
    }
    (name, unit)
}

/// Whether text looks like `systemctl show`.
#[must_use]
pub fn is_show(head: &str) -> bool {
    [
        "Type=",
        "ActiveState=",
        "Restart=",
        "NRestarts=",
        "LoadState=",
        "Id=",
    ]
    .iter()
    .filter(|property| head.lines().any(|line| line.starts_with(**property)))
    .count()
        >= 2
}

/// Units told by lines of `systemctl status` or `journalctl -u`.
#[derive(Debug, Default)]
pub struct Text {
    units: BTreeMap<String, Unit>,
    current: Option<String>,
}

impl Text {
    /// Reads one line.
    pub fn push(&mut self, line: &str) {
        if let Some(name) = status_heading(line) {
            self.current = Some(name.to_owned());
        }
        if let Some(result) = between(line, "(Result: ", ")")
            && let Some(name) = self.current.clone()
        {
            let unit = self.unit(&name);
            unit.failed |= line.contains("failed");
            unit.refused |= result.starts_with("start-limit");
            unit.result = Some(text::clean(result, 64));
        }
        let Some((name, message)) = unit_message(line) else {
            return;
        };
        let name = name.to_owned();
        if let Some(count) = message.strip_prefix("Scheduled restart job, restart counter is at ") {
            let count = count.trim_end_matches('.').trim().parse().unwrap_or(0);
            let unit = self.unit(&name);
            unit.restarts = unit.restarts.max(count);
        } else if message.starts_with("Start request repeated too quickly") {
            self.unit(&name).refused = true;
        } else if let Some(result) = between(message, "Failed with result '", "'") {
            let unit = self.unit(&name);
            unit.failed = true;
            unit.result = Some(text::clean(result, 64));
        } else if let Some(status) = message.strip_prefix("Main process exited, ") {
            self.unit(&name).status = Some(text::clean(status, 64));
        }
    }

    fn unit(&mut self, name: &str) -> &mut Unit {
        let name = if self.units.len() < UNITS_MAX || self.units.contains_key(name) {
            name
        } else {
            "(others)"
        };
        self.units.entry(name.to_owned()).or_default()
    }

    /// The findings of all units seen.
    #[must_use]
    pub fn finish(self) -> Vec<Item> {
        self.units
            .iter()
            .filter_map(|(name, unit)| unit.finding(name).map(Item::from))
            .collect()
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let rest = text.split_once(open)?.1;
    let (inside, _) = rest.split_once(close)?;
    Some(inside)
}

/// `● name.service - Description`: dot, cross or circle by state.
fn status_heading(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix(['●', '×', '○', '*', '↻'])?;
    let name = rest.split_whitespace().next()?;
    is_unit(name).then_some(name)
}

/// `... systemd[1]: name.service: message`.
fn unit_message(line: &str) -> Option<(&str, &str)> {
    let rest = line.split_once("systemd[")?.1.split_once("]: ")?.1;
    let (name, message) = rest.split_once(": ")?;
    is_unit(name).then_some((name, message))
}

fn is_unit(name: &str) -> bool {
    const TYPES: [&str; 11] = [
        ".service",
        ".socket",
        ".target",
        ".mount",
        ".automount",
        ".swap",
        ".timer",
        ".path",
        ".slice",
        ".scope",
        ".device",
    ];
    name.len() <= 256 && TYPES.iter().any(|kind| name.ends_with(kind))
}

/// Whether a line is one this reader learns from.
#[must_use]
pub fn is_text(head: &str) -> bool {
    head.lines().any(|line| {
        status_heading(line).is_some()
            || unit_message(line).is_some()
            || line.contains("systemd[1]: ")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_counter_decides_not_the_result() {
        let items = read_show(b"Id=a.service\nNRestarts=5\nResult=exit-code\nActiveState=failed\n\nId=b.service\nNRestarts=0\nResult=success\n");
        assert_eq!(items.len(), 1);
        let finding = items[0].finding().unwrap();
        assert_eq!(
            (finding.kind, finding.evidence["restarts"].as_u64()),
            ("unit-crash-loop", Some(5))
        );
    }

    #[test]
    fn ten_thousand_restarts_are_one_finding() {
        let mut text = Text::default();
        for count in 1..=10_000 {
            text.push(&format!("Nov 1 00:00:00 h systemd[1]: a.service: Scheduled restart job, restart counter is at {count}."));
        }
        let items = text.finish();
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].finding().unwrap().evidence["restarts"], 10_000);
    }

    #[test]
    fn old_and_new_names_of_the_limit_are_known() {
        for result in ["start-limit", "start-limit-hit"] {
            let mut text = Text::default();
            text.push("● a.service - A");
            text.push(&format!("   Active: failed (Result: {result}) since Mon"));
            let items = text.finish();
            assert_eq!(items[0].finding().unwrap().evidence["start_refused"], true);
        }
    }
}
