//! How the demo ended, and whether that is what Ringward promises.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// The whole outcome; the shape of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Hosts in the fleet.
    pub hosts: u64,
    /// The good release.
    pub good: Good,
    /// The lethal one.
    pub bad: Bad,
    /// The way back.
    pub rollback: Rollback,
    /// Signals.
    pub events: Events,
    /// What chaos did; absent where it was not let loose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chaos: Option<super::chaos::Report>,
}

/// The good release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Good {
    /// Hosts confirmed, by the server and in their own slots.
    pub confirmed: u64,
    /// Whether it was halted (it must not be).
    pub halted: bool,
}

/// The lethal release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// Hosts whose `Begin` was recorded.
    pub exposed: u64,
    /// Failed, reverted and silent exposures.
    pub failed: u64,
    /// Exposed hosts that were scripted to go dark and are named as silent.
    pub silent_named: u64,
    /// Exposed hosts that were scripted to go dark.
    #[serde(skip)]
    pub silent_scripted: u64,
    /// The window with which its first ring began.
    #[serde(skip)]
    pub first_window: u64,
    /// Whether it halted by itself.
    pub halted: bool,
    /// Why, with counts.
    pub reason: String,
    /// What the evidence weighed against where it halts.
    #[serde(skip)]
    pub evidence: String,
    /// Whom the server suspects, in its words; empty where nobody is named.
    #[serde(skip)]
    pub suspect: String,
    /// Whether that is the lethal release.
    #[serde(skip)]
    pub suspect_is_release: bool,
    /// What the server proposes to do.
    #[serde(skip)]
    pub proposal: String,
    /// Deciding event received to halt durable and sent.
    pub ms_from_evidence_to_halt: Option<u64>,
}

/// The way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rollback {
    /// Hosts whose own slots hold the good release at the end.
    pub back_on_good: u64,
}

/// Signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Counted by the agents before they spool.
    pub sent: u64,
    /// Distinct keys in the store after the drain.
    pub stored: u64,
}

impl Outcome {
    /// Every promise that was not kept; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let promises = [
            (
                self.good.confirmed == self.hosts,
                format!(
                    "{} of {} hosts confirmed 1.0",
                    self.good.confirmed, self.hosts
                ),
            ),
            (!self.good.halted, "the good release was halted".to_owned()),
            (
                self.bad.halted,
                "the lethal release was not halted".to_owned(),
            ),
            (
                self.bad.failed <= self.bad.first_window + 2,
                format!(
                    "{} hosts failed; at most the first window ({}) and 2 may",
                    self.bad.failed, self.bad.first_window
                ),
            ),
            (
                self.bad.silent_named == self.bad.silent_scripted,
                format!(
                    "{} of {} dark hosts were named",
                    self.bad.silent_named, self.bad.silent_scripted
                ),
            ),
            (
                self.bad.silent_named >= 1,
                "no host that went dark was exposed and named".to_owned(),
            ),
            (
                self.bad.suspect_is_release,
                format!(
                    "the lethal release is not the first suspect: {:?}",
                    self.bad.suspect
                ),
            ),
            (
                self.bad.ms_from_evidence_to_halt.is_some(),
                "the time from evidence to halt was not measured".to_owned(),
            ),
            (
                self.rollback.back_on_good == self.hosts,
                format!(
                    "{} of {} hosts are back on 1.0",
                    self.rollback.back_on_good, self.hosts
                ),
            ),
            (
                self.events.stored == self.events.sent,
                format!(
                    "{} signals sent, {} stored",
                    self.events.sent, self.events.stored
                ),
            ),
        ];
        let broken = promises
            .into_iter()
            .filter(|(kept, _)| !kept)
            .map(|(_, fault)| fault);
        broken
            .chain(self.chaos.iter().flat_map(super::chaos::Report::faults))
            .collect()
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(100);
        let took = self
            .bad
            .ms_from_evidence_to_halt
            .map_or("not measured".to_owned(), |ms| format!("{ms} ms"));
        let rows = [
            ("hosts", self.hosts.to_string()),
            (
                "1.0 confirmed",
                format!("{} of {}", self.good.confirmed, self.hosts),
            ),
            ("1.1 exposed", self.bad.exposed.to_string()),
            (
                "1.1 failed",
                format!(
                    "{} ({} of them silent, each named)",
                    self.bad.failed, self.bad.silent_named
                ),
            ),
            (
                "1.1 halted by itself",
                if self.bad.halted { "yes" } else { "NO" }.to_owned(),
            ),
            ("because", self.bad.reason.clone()),
            ("evidence", self.bad.evidence.clone()),
            ("suspect", self.bad.suspect.clone()),
            ("proposed", self.bad.proposal.clone()),
            ("deciding event to halt durable and sent", took),
            (
                "back on 1.0",
                format!("{} of {}", self.rollback.back_on_good, self.hosts),
            ),
            (
                "signals sent / stored",
                format!("{} / {}", self.events.sent, self.events.stored),
            ),
        ];
        for (what, figure) in rows {
            table.add_row([what.to_owned(), figure]);
        }
        if let Some(chaos) = &self.chaos {
            table.add_row(["chaos".to_owned(), chaos.to_string()]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_promised() -> Outcome {
        Outcome {
            hosts: 203,
            good: Good {
                confirmed: 203,
                halted: false,
            },
            bad: Bad {
                exposed: 2,
                failed: 2,
                silent_named: 1,
                silent_scripted: 1,
                first_window: 1,
                halted: true,
                reason: "2 of 2".into(),
                evidence: "e-value 4900 of 1000".into(),
                suspect: "release demo-app 1.1".into(),
                suspect_is_release: true,
                proposal: "ringwardctl rollback demo-app@1.1".into(),
                ms_from_evidence_to_halt: Some(3),
            },
            rollback: Rollback { back_on_good: 203 },
            events: Events { sent: 7, stored: 7 },
            chaos: None,
        }
    }

    #[test]
    fn every_broken_promise_is_found() {
        assert_eq!(as_promised().faults(), Vec::<String>::new());
        let breaks: [fn(&mut Outcome); 9] = [
            |o| o.good.confirmed -= 1,
            |o| o.good.halted = true,
            |o| o.bad.halted = false,
            |o| o.bad.failed = 4,
            |o| o.bad.silent_scripted = 2,
            |o| o.bad.suspect_is_release = false,
            |o| o.bad.ms_from_evidence_to_halt = None,
            |o| o.rollback.back_on_good -= 1,
            |o| o.events.stored -= 1,
        ];
        for (i, break_it) in breaks.into_iter().enumerate() {
            let mut outcome = as_promised();
            break_it(&mut outcome);
            assert_eq!(outcome.faults().len(), 1, "break {i}");
        }
        let mut nobody_dark = as_promised();
        (
            nobody_dark.bad.silent_named,
            nobody_dark.bad.silent_scripted,
        ) = (0, 0);
        assert_eq!(nobody_dark.faults().len(), 1);
    }
}
