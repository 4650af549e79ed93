//! Many seeded runs of a fleet in a storm: nothing bends, and every run ends once the storm is over.
#![allow(clippy::unwrap_used)]

use ringward_sim::{Scenario, World, run};

/// Seeds of one test run; `RINGWARD_SEEDS=n` runs more.
const SEEDS: u64 = 300;

fn seeds() -> u64 {
    std::env::var("RINGWARD_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS)
}

#[test]
fn nothing_bends_in_any_storm_and_every_run_ends() {
    let seeds = seeds();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let halves: Vec<_> = (0..2)
            .map(|half| {
                scope.spawn(move || {
                    let own = (0..seeds).filter(|seed| seed % 2 == half);
                    own.map(|seed| run(Scenario::of(seed))).collect::<Vec<_>>()
                })
            })
            .collect();
        halves
            .into_iter()
            .flat_map(|half| half.join().unwrap())
            .collect()
    });
    let bent: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    for what in &bent {
        println!("{}", what.lines().next().unwrap_or_default());
    }
    assert!(
        bent.is_empty(),
        "{} of {seeds} runs bent; the first:\n{}",
        bent.len(),
        bent[0]
    );
    let reports: Vec<_> = outcomes.into_iter().flatten().collect();
    let sum = |of: fn(&ringward_sim::Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} runs: {} steps, {} switches, {} server starts, {} agent starts, {} commands",
        reports.len(),
        sum(|r| r.steps),
        sum(|r| r.switches),
        sum(|r| r.server_starts),
        sum(|r| r.agent_starts),
        sum(|r| r.interventions)
    );
    assert!(
        sum(|r| r.switches) > seeds,
        "too little happens to prove anything"
    );
    assert!(
        sum(|r| r.server_starts) > seeds,
        "the server hardly ever crashed"
    );
}

/// `RINGWARD_SEED=n` runs one seed and prints what happens.
#[test]
fn replay() {
    let Some(seed) = std::env::var("RINGWARD_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
    else {
        println!("skipped: RINGWARD_SEED is not set");
        return;
    };
    let scenario = Scenario::of(seed);
    println!("{scenario:#?}");
    let mut world = World::new(scenario);
    world.trace = true;
    let report = world.run().unwrap();
    println!("{report:?}");
}
