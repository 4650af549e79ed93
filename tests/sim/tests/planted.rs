//! Bugs planted in the cores: each must be found by the same runs that pass without it.
//! `cargo test -p ringward-sim --features planted-bugs --test planted`
#![cfg(feature = "planted-bugs")]

use ringward_agent_core::{Bug as AgentBug, plant as plant_in_agent};
use ringward_server_core::planted::{Bug as ServerBug, plant as plant_in_server};
use ringward_sim::{Scenario, run};

/// Runs within which each bug must be found.
const SEEDS: u64 = 300;

/// The first run that finds the planted bug, and what bent.
fn first_found(agent: Option<AgentBug>, server: Option<ServerBug>) -> Option<(u64, String)> {
    plant_in_agent(agent);
    plant_in_server(server);
    let found = (0..SEEDS).find_map(|seed| run(Scenario::of(seed)).err().map(|what| (seed, what)));
    plant_in_agent(None);
    plant_in_server(None);
    found
}

fn assert_found(agent: Option<AgentBug>, server: Option<ServerBug>, by: &str) {
    let Some((seed, what)) = first_found(agent, server) else {
        panic!("{agent:?} {server:?} was not found in {SEEDS} runs");
    };
    let line = what.lines().next().unwrap_or_default();
    println!("{agent:?} {server:?}: {line}");
    assert!(
        what.contains(by),
        "seed {seed} bent, but not by {by:?}: {what}"
    );
}

fn agent(bug: AgentBug, by: &str) {
    assert_found(Some(bug), None, by);
}

fn server(bug: ServerBug, by: &str) {
    assert_found(None, Some(bug), by);
}

#[test]
fn without_a_bug_nothing_is_found() {
    assert_eq!(first_found(None, None), None);
}

#[test]
fn acknowledge_before_durable_is_found() {
    server(ServerBug::AcknowledgeBeforeDurable, "before it was durable");
}

#[test]
fn grant_life_from_receipt_is_found() {
    agent(
        AgentBug::GrantLifeFromReceipt,
        "after the life of its grant",
    );
}

#[test]
fn window_from_confirmed_only_is_found() {
    server(ServerBug::WindowFromConfirmedOnly, "the window is");
}

#[test]
fn silence_not_counted_is_found() {
    server(ServerBug::SilenceNotCounted, "are counted");
}

#[test]
fn bar_forgotten_after_restart_is_found() {
    server(ServerBug::BarForgottenAfterRestart, "was rolled back");
}

#[test]
fn own_bar_forgotten_is_found() {
    agent(AgentBug::OwnBarForgotten, "forgot a bar");
}

#[test]
fn older_generation_accepted_is_found() {
    agent(AgentBug::OlderGenerationAccepted, "accepted");
}

#[test]
fn double_begun_is_found_in_the_agent() {
    agent(AgentBug::DoubleBegun, "Begun");
}

#[test]
fn double_begun_is_found_in_the_server() {
    server(ServerBug::DoubleBegun, "for a dead nonce");
}

#[test]
fn switch_without_begun_is_found() {
    agent(AgentBug::SwitchWithoutBegun, "without Begun");
}

#[test]
fn soak_clock_running_in_suspend_is_found() {
    agent(AgentBug::SoakClockRunsInSuspend, "awake of");
}

#[test]
fn evidence_dropped_after_resolution_is_found() {
    server(
        ServerBug::EvidenceDroppedAfterResolution,
        "after it was confirmed",
    );
}

#[test]
fn halt_only_in_the_planner_is_found() {
    server(ServerBug::HaltOnlyInPlanner, "runs on although");
}
