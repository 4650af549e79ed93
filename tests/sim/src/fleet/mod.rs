//! The verdict on trial: whole rollouts over fleets of up to millions of hosts in discrete events.
//!
//! The machine that decides is the server's own [`Rollout`](ringward_server_core::rollout::Rollout):
//! grants, `Begin`, silence deadlines, window, verdict, rings. Only the hosts are modelled: how long
//! they apply and boot, when they die, sleep, lie or lose their network. One seed replays all.

pub mod chance;
pub mod outcome;
pub mod policy;
pub mod population;
pub mod results;
pub mod scenario;
pub mod tables;
pub mod vendor;

mod control;
mod engine;
mod hosts;
mod others;

use outcome::Run;
use policy::PolicyName;
use scenario::Scenario;

/// Runs one seed of a scenario to its end.
#[must_use]
pub fn run(scenario: &Scenario, hosts: u32, seed: u64, policy: PolicyName) -> Run {
    let hosts = scenario.fleet_of(hosts, seed);
    if scenario.vendor.is_some() {
        return vendor::run(scenario, hosts, seed);
    }
    match policy {
        PolicyName::Ringward => engine::Engine::new(scenario, hosts, seed).run(),
        PolicyName::HawkbitThreshold => others::hawkbit(scenario, hosts, seed),
        PolicyName::TimeWaves => others::time_waves(scenario, hosts, seed),
    }
}

/// Runs seeds without gaps, on several threads; the order is that of the seeds.
#[must_use]
pub fn run_seeds(
    scenario: &Scenario,
    hosts: u32,
    first: u64,
    seeds: u64,
    policy: PolicyName,
    jobs: u64,
) -> Vec<Run> {
    let jobs = jobs.clamp(1, 64);
    let mut runs: Vec<Run> = std::thread::scope(|scope| {
        let one = |job: u64| {
            (first..first + seeds)
                .filter(move |seed| seed % jobs == job)
                .map(|seed| run(scenario, hosts, seed, policy))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..jobs).map(|job| scope.spawn(move || one(job))).collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().expect("a run does not panic"))
            .collect()
    });
    runs.sort_by_key(|run| run.seed);
    runs
}
