//! Units that restart again and again.
//!
//! systemd replaces a link in `/run/systemd/units` at every start of a unit. The kernel tells of
//! that, so an idle machine costs nothing; systemd is asked only about units that start often. A
//! bus client would tell the same at some 1-2 MiB of memory, polling `systemctl` at 10-30 ms of CPU
//! each time.

use super::watcher::Watcher;
use crate::collect::{Found, Teller};
use crate::linux::{ask_systemd, boottime};
use ringward_domain::Millis;
use ringward_evidence::linux::units::{LOOP_RESTARTS, read_show};
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

const LINKS: &str = "/run/systemd/units";
const PREFIX: &str = "invocation:";
/// Starts within this are one loop: with the usual delays three restarts take seconds, with backoff
/// minutes.
const LOOP_WITHIN: Millis = Millis::secs(600);
/// A suspect is asked about this long after its start, so that its counter has settled.
const SETTLE: Millis = Millis::secs(1);
/// A unit that was told is asked about again no sooner.
const AGAIN: Millis = Millis::secs(30);
/// Units remembered; beyond that the one that started longest ago goes.
const UNITS_MAX: usize = 512;
/// Units asked about at once.
const ASKED_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 256;

/// What is known of the starts of one unit.
#[derive(Debug, Default)]
struct Starts {
    /// The last few, oldest first.
    at: VecDeque<Millis>,
    /// When to ask about it.
    due: Option<Millis>,
    /// Restarts told last, and when.
    told: Option<(u64, Millis)>,
}

/// Which units start often.
#[derive(Debug, Default)]
struct Suspects {
    units: BTreeMap<String, Starts>,
}

impl Suspects {
    /// A unit started.
    fn started(&mut self, unit: &str, now: Millis) {
        if !is_of_interest(unit) {
            return;
        }
        if self.units.len() >= UNITS_MAX && !self.units.contains_key(unit) {
            let oldest = self
                .units
                .iter()
                .min_by_key(|(_, starts)| starts.at.back().copied())
                .map(|(name, _)| name.clone());
            if let Some(name) = oldest {
                self.units.remove(&name);
            }
        }
        let starts = self.units.entry(unit.to_owned()).or_default();
        starts.at.push_back(now);
        if starts.at.len() as u64 > LOOP_RESTARTS {
            starts.at.pop_front();
        }
        let often = starts.at.len() as u64 == LOOP_RESTARTS
            && starts
                .at
                .front()
                .is_some_and(|&first| now - first <= LOOP_WITHIN);
        if often && starts.due.is_none() {
            let earliest = starts.told.map_or(Millis::ZERO, |(_, at)| at + AGAIN);
            starts.due = Some((now + SETTLE).max(earliest));
        }
    }

    /// Units to ask about now.
    fn due(&mut self, now: Millis) -> Vec<String> {
        let mut due = Vec::new();
        for (name, starts) in &mut self.units {
            if due.len() < ASKED_MAX && starts.due.is_some_and(|at| at <= now) {
                starts.due = None;
                due.push(name.clone());
            }
        }
        due
    }

    fn next_due(&self) -> Option<Millis> {
        self.units.values().filter_map(|starts| starts.due).min()
    }

    /// Whether a counter is worth telling: the first time, again when it has grown fourfold, and
    /// when it began anew.
    fn is_news(&mut self, unit: &str, restarts: u64, now: Millis) -> bool {
        let Some(starts) = self.units.get_mut(unit) else {
            return false;
        };
        let news = match starts.told {
            None => true,
            Some((told, _)) => restarts >= told.saturating_mul(4) || restarts < told,
        };
        if news {
            starts.told = Some((restarts, now));
        }
        news
    }
}

/// Services of the machine; not those of logins, which end with them, nor the agent's own, whose
/// restarts are updates.
fn is_of_interest(unit: &str) -> bool {
    let named = unit.len() <= NAME_BYTES_MAX
        && unit.ends_with(".service")
        && !unit.starts_with('-')
        && unit.bytes().all(|b| b.is_ascii_graphic());
    let of_login = ["user@", "user-runtime-dir@"];
    named
        && !of_login.iter().any(|prefix| unit.starts_with(prefix))
        && unit != "ringward-agent.service"
}

/// The loops in an answer of `systemctl show`.
fn loops(answer: &str) -> Vec<Found> {
    let items = read_show(answer.as_bytes());
    let found = items.into_iter().filter_map(|item| match item {
        ringward_evidence::finding::Item::Finding(finding) => Some(Found::from(finding)),
        ringward_evidence::finding::Item::Unreadable(_) => None,
    });
    found
        .filter(|found| found.kind == "unit-crash-loop")
        .collect()
}

pub(super) async fn watch(teller: Teller) {
    let watcher = Watcher::new().and_then(|watcher| {
        watcher.add(Path::new(LINKS))?;
        Ok(watcher)
    });
    let watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            teller
                .lacks("sight of crash loops", &format!("{LINKS}: {error}"))
                .await;
            return;
        }
    };
    let mut suspects = Suspects::default();
    loop {
        let now = Millis(boottime().0);
        let pause = suspects
            .next_due()
            .map(|at| Duration::from_millis((at - now).0));
        match timeout(pause.unwrap_or(Duration::MAX), watcher.next()).await {
            Ok(Ok(touched)) => {
                let names = touched.iter().filter_map(|touched| touched.name.as_deref());
                for unit in names.filter_map(|name| name.strip_prefix(PREFIX)) {
                    suspects.started(unit, Millis(boottime().0));
                }
            }
            Ok(Err(error)) => {
                teller
                    .lacks("sight of crash loops", &error.to_string())
                    .await;
                return;
            }
            Err(_) => {}
        }
        let due = suspects.due(Millis(boottime().0));
        if !due.is_empty() && !ask(&due, &mut suspects, &teller).await {
            return;
        }
    }
}

/// Asks systemd and tells what loops; `false` when nobody listens.
async fn ask(units: &[String], suspects: &mut Suspects, teller: &Teller) -> bool {
    let mut arguments = vec![
        "show",
        "-p",
        "Id,NRestarts,ActiveState,SubState,Result,InvocationID,ExecMainStatus",
        "--",
    ];
    arguments.extend(units.iter().map(String::as_str));
    let answer = match ask_systemd(&arguments).await {
        Ok(answer) => answer,
        Err(error) => {
            return teller.lacks("systemd's answers", &error.to_string()).await;
        }
    };
    for mut found in loops(&answer) {
        let text = |name: &str| found.evidence.get(name).and_then(|value| value.as_str());
        let unit = text("unit").unwrap_or_default().to_owned();
        let restarts = found.evidence.get("restarts").and_then(|n| n.as_u64());
        let now = Millis(boottime().0);
        if !suspects.is_news(&unit, restarts.unwrap_or(0), now) {
            continue;
        }
        // Each start has another invocation: the loop of this boot is one fact.
        found.key = format!("crash-loop:{unit}:{}", teller.boot);
        if let Some(draft) = found.draft(teller.boot, now)
            && !teller.tell(draft).await
        {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: u64) -> Millis {
        Millis::secs(seconds)
    }

    #[test]
    fn systemd_is_asked_about_units_that_start_often_and_no_others() {
        let mut suspects = Suspects::default();
        suspects.started("once.service", at(1));
        suspects.started("user@1000.service", at(1));
        for second in [1, 2, 3] {
            suspects.started("loop.service", at(second));
            suspects.started("hourly.service", at(second * 3600));
        }
        assert_eq!(suspects.next_due(), Some(at(4)));
        assert!(suspects.due(at(3)).is_empty());
        assert_eq!(suspects.due(at(4)), ["loop.service"]);
        assert_eq!(suspects.next_due(), None);
    }

    #[test]
    fn a_loop_of_ten_thousand_restarts_is_told_a_few_times() {
        let mut suspects = Suspects::default();
        let (mut asked, mut told) = (0, 0);
        for n in 0..10_000_u64 {
            let now = Millis(n * 100);
            suspects.started("loop.service", now);
            for unit in suspects.due(now) {
                asked += 1;
                told += u64::from(suspects.is_news(&unit, n, now));
            }
        }
        assert!((2..=10).contains(&told), "{told}");
        assert!(asked <= 10_000 * 100 / 1000 + 1, "{asked}");
    }

    #[test]
    fn a_counter_that_began_anew_is_news() {
        let mut suspects = Suspects::default();
        suspects.started("a.service", at(1));
        assert!(suspects.is_news("a.service", 5, at(1)));
        assert!(!suspects.is_news("a.service", 6, at(2)));
        assert!(suspects.is_news("a.service", 3, at(3)));
    }

    #[test]
    fn units_remembered_are_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..UNITS_MAX as u64 * 2 {
            suspects.started(&format!("u{n}.service"), Millis(n));
        }
        assert_eq!(suspects.units.len(), UNITS_MAX);
    }

    #[test]
    fn an_answer_names_what_loops() {
        let answer = "Id=a.service\nNRestarts=3\nActiveState=activating\nResult=core-dump\n\n\
                      Id=b.service\nNRestarts=1\nActiveState=active\nResult=success\n";
        let found = loops(answer);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "a.service restarted 3 times");
    }
}
