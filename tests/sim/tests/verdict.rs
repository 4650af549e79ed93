//! The verdict's promises on a few seeds; `cargo xtask sim --results` proves them on many.
#![allow(missing_docs, clippy::unwrap_used)]

use ringward_sim::fleet::policy::PolicyName;
use ringward_sim::fleet::results::scenario_path;
use ringward_sim::fleet::scenario::Scenario;
use ringward_sim::fleet::{run, run_seeds};

fn scenario(name: &str) -> Scenario {
    Scenario::parse(&std::fs::read_to_string(scenario_path(name)).unwrap()).unwrap()
}

#[test]
fn every_scenario_in_the_folder_reads() {
    let folder = scenario_path("clean").parent().unwrap().to_owned();
    let mut read = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario = Scenario::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(
            Some(scenario.name.as_str()),
            path.file_stem().and_then(|s| s.to_str())
        );
        read += 1;
    }
    assert!(read >= 17, "{read}");
}

#[test]
fn one_seed_replays_all() {
    let scenario = scenario("lethal-10pct");
    let again = || run(&scenario, 2000, 7, PolicyName::Ringward);
    assert_eq!(again(), again());
}

#[test]
fn a_release_that_kills_every_host_costs_two() {
    for run in run_seeds(&scenario("lethal-all"), 2000, 0, 5, PolicyName::Ringward, 1) {
        assert!(run.halted && run.failed <= 2, "{run:?}");
    }
}

#[test]
fn a_clean_release_completes_and_a_site_without_network_halts_nothing() {
    for name in ["clean", "site-outage-during-clean-update"] {
        for run in run_seeds(&scenario(name), 1000, 0, 3, PolicyName::Ringward, 1) {
            assert!(!run.halted && run.t_done_s.is_some(), "{name} {run:?}");
        }
    }
}

#[test]
fn a_policy_that_waits_for_reports_does_not_see_silent_hosts() {
    let scenario = scenario("lethal-10pct");
    let theirs = run(&scenario, 10_000, 0, PolicyName::HawkbitThreshold);
    let ours = run(&scenario, 10_000, 0, PolicyName::Ringward);
    assert!(
        !theirs.halted && theirs.failed > 100 * ours.failed,
        "{theirs:?} {ours:?}"
    );
}
