//! What others do, by their published rules, on the same hosts.
//!
//! hawkBit: groups start each other once enough of the one before finished with success, and the
//! rollout stops once too many of a group *reported* an error ("Rollout Management",
//! <https://eclipse.dev/hawkbit/concepts/rollout-management>). A host that reports nothing is neither.
//! Groups of 1, 9 and 90 %; the next group starts at 50 % success, the stop is at 1 % errors, which is
//! strict, so that the comparison favours hawkBit. This is a model of the rule, not a run of hawkBit.
//!
//! Time waves: rings with a deferral in days each, as Windows update rings have it
//! (<https://learn.microsoft.com/en-us/graph/api/resources/windowsUpdates-qualityUpdateRing>):
//! 0, 1 and 6 days. Nothing stops them but a person.

use super::chance::Chance;
use super::outcome::Run;
use super::population;
use super::scenario::{Scenario, When};

/// Success of a group at which the next one starts.
const SUCCESS_SHARE: f64 = 0.5;
/// Reported errors of a group at which the rollout stops: the strict end of what people configure, so
/// that the comparison favours hawkBit.
const ERROR_SHARE: f64 = 0.01;
/// Deferrals of the waves, days.
const WAVE_DAYS: [f64; 3] = [0.0, 1.0, 6.0];
const SHARES: [f64; 3] = [0.01, 0.09, 0.9];
/// A device asks for work this often.
const POLL_MS: u64 = 300_000;

struct Group {
    /// When each host finished: time, and whether it could say that it failed.
    reports: Vec<(u64, bool)>,
    exposed: u64,
    failed: u64,
    lost: u64,
}

/// One group started at `start`; every host of it takes the release at its next poll.
fn group(
    scenario: &Scenario,
    kinds: &[population::Kind],
    start: u64,
    chance: &mut Chance,
) -> Group {
    let mut group = Group {
        reports: Vec::new(),
        exposed: 0,
        failed: 0,
        lost: 0,
    };
    for kind in kinds {
        let done = start + chance.below(POLL_MS) + chance.between(60_000, 600_000);
        group.exposed += 1;
        let harm = scenario.harm.as_ref().filter(|_| kind.harmed);
        let signalled = harm.is_some_and(|h| h.signalled);
        let base = chance.hits(scenario.base);
        if harm.is_some() || base {
            group.failed += 1;
            group.lost += u64::from(!signalled);
        }
        // A slow burn reports its success first.
        let succeeds_first = harm.is_none_or(|h| h.when == When::Later) && !base;
        if succeeds_first {
            group.reports.push((done, true));
        } else if signalled {
            group.reports.push((done, false));
        }
    }
    group.reports.sort_unstable();
    group
}

fn groups_of(kinds: &[population::Kind]) -> [&[population::Kind]; 3] {
    let cut = |share: f64| ((kinds.len() as f64 * share - 1e-9).ceil() as usize).min(kinds.len());
    let (first, second) = (cut(SHARES[0]), cut(SHARES[0] + SHARES[1]));
    [&kinds[..first], &kinds[first..second], &kinds[second..]]
}

/// hawkBit's rules.
pub(super) fn hawkbit(scenario: &Scenario, hosts: u32, seed: u64) -> Run {
    let kinds = population::draw(scenario, hosts, &mut Chance::new(seed, 1));
    let mut chance = Chance::new(seed, 3);
    let mut run = Run {
        seed,
        hosts,
        ..Run::default()
    };
    let mut start = 0;
    for part in groups_of(&kinds) {
        let group = group(scenario, part, start, &mut chance);
        let (mut good, mut bad) = (0.0, 0.0);
        let (mut next, mut stop) = (None, None);
        for (at, success) in &group.reports {
            if *success {
                good += 1.0
            } else {
                bad += 1.0
            }
            if good >= SUCCESS_SHARE * part.len() as f64 && next.is_none() {
                next = Some(*at);
            }
            if bad > ERROR_SHARE * part.len() as f64 {
                stop = Some(*at);
                break;
            }
        }
        run.exposed += group.exposed;
        run.failed += group.failed;
        run.lost += group.lost;
        run.resolved += group.reports.len() as u64;
        let last = group.reports.last().map_or(start, |(at, _)| *at);
        match (stop, next) {
            (Some(at), next) if next.is_none_or(|n| n > at) => {
                run.halted = true;
                run.t_halt_s = Some(at as f64 / 1e3);
                run.halt_reason = format!(
                    "more than {} % of a group reported an error",
                    ERROR_SHARE * 100.0
                );
                break;
            }
            (_, Some(at)) => start = at,
            // Neither enough successes nor enough errors: it waits for ever.
            (_, None) => break,
        }
        run.t_done_s = Some(last as f64 / 1e3);
    }
    if run.halted {
        run.t_done_s = None;
    }
    run.false_halt = run.halted && scenario.clean();
    run
}

/// Waves at fixed times.
pub(super) fn time_waves(scenario: &Scenario, hosts: u32, seed: u64) -> Run {
    let kinds = population::draw(scenario, hosts, &mut Chance::new(seed, 1));
    let mut chance = Chance::new(seed, 3);
    let mut run = Run {
        seed,
        hosts,
        ..Run::default()
    };
    for (part, days) in groups_of(&kinds).into_iter().zip(WAVE_DAYS) {
        let start = (days * 86_400_000.0) as u64;
        let group = group(scenario, part, start, &mut chance);
        run.exposed += group.exposed;
        run.resolved += group.reports.len() as u64;
        run.failed += group.failed;
        run.lost += group.lost;
        run.t_done_s = group.reports.last().map(|(at, _)| *at as f64 / 1e3);
    }
    run
}
