//! Every state that a cut can leave, checked once each.

use crate::disk::{Cut, Disk};
use crate::record::{Call, record, shim};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// The server's store over sled.
    Store,
    /// The agent's ledger, slots and spool.
    Agent,
}

/// What the workload had been told when the cut came, as far as it said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// The newest step that was begun.
    pub begun: u64,
    /// The newest step that was answered as durable.
    pub done: u64,
}

/// What came of a replay.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// File calls recorded.
    pub calls: usize,
    /// Moments at which the power was cut.
    pub boundaries: usize,
    /// Distinct folders that the cuts left.
    pub states: usize,
    /// What was wrong with how many of them; the first ones in words.
    pub broken: usize,
    /// See `broken`.
    pub examples: Vec<String>,
}

/// How thoroughly.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Steps of the workload.
    pub steps: u64,
    /// Random cuts at each moment, beside the five that are always made.
    pub random: u64,
    /// Every so manieth moment only; 1 for each.
    pub stride: usize,
    /// Chooses workload and cuts.
    pub seed: u64,
    /// Stop at the first broken state.
    pub stop_at_first: bool,
}

/// Records a workload in `program`, this crate's own, and replays it.
///
/// # Errors
/// The workload cannot be recorded: on such a system nothing is proven, see [`record::shim`](shim).
pub fn run(
    program: &Path,
    subject: Subject,
    plant: Option<&str>,
    depth: &Depth,
) -> Result<Outcome> {
    let work = tempfile::tempdir().context("making a folder for the workload")?;
    let work = work.path().canonicalize()?;
    let (library, root) = (shim(&work)?, work.join("root"));
    std::fs::create_dir(&root)?;
    let name = match subject {
        Subject::Store => "store",
        Subject::Agent => "agent",
    };
    let mut command = Command::new(program);
    command.args(["workload", name, "--dir"]).arg(&root);
    command.args(["--steps", &depth.steps.to_string()]);
    command.args(["--seed", &depth.seed.to_string()]);
    if let Some(plant) = plant {
        command.args(["--plant", plant]);
    }
    let calls = record(&library, &root, &mut command)?;
    replay(subject, plant, &calls, depth)
}

fn replay(subject: Subject, plant: Option<&str>, calls: &[Call], depth: &Depth) -> Result<Outcome> {
    let mut outcome = Outcome {
        calls: calls.len(),
        ..Outcome::default()
    };
    let (mut disk, mut told, mut seen) = (Disk::default(), Told::default(), BTreeSet::new());
    for (index, call) in calls.iter().enumerate() {
        disk.carry_out(call);
        if let Call::Say(words) = call {
            hear(&mut told, words);
        }
        if index % depth.stride.max(1) != 0 && index + 1 != calls.len() {
            continue;
        }
        outcome.boundaries += 1;
        for cut in cuts(index as u64, depth) {
            let image = disk.after(cut);
            if !seen.insert((image.mark(), told.done)) {
                continue;
            }
            let left = tempfile::tempdir()?;
            image.lay_down(left.path())?;
            let checked = match subject {
                Subject::Store => crate::store::check(left.path(), depth.seed, told, plant),
                Subject::Agent => crate::agent::check(left.path(), depth.seed, told),
            };
            outcome.states += 1;
            if let Err(why) = checked {
                outcome.broken += 1;
                if outcome.examples.len() < 5 {
                    let example = format!("cut after call {index} ({cut:?}, {told:?}): {why}");
                    outcome.examples.push(example);
                }
                if depth.stop_at_first {
                    return Ok(outcome);
                }
            }
        }
    }
    Ok(outcome)
}

fn cuts(index: u64, depth: &Depth) -> Vec<Cut> {
    let seed = depth.seed.wrapping_mul(1_000_003) ^ (index << 16);
    let mut cuts = vec![
        Cut::Nothing,
        Cut::Everything,
        Cut::NamesOnly,
        Cut::BytesOnly,
        Cut::TornTail(seed),
    ];
    for n in 0..depth.random {
        cuts.push(match n % 2 {
            0 => Cut::Any(seed + n),
            _ => Cut::Scattered(seed + n),
        });
    }
    cuts
}

fn hear(told: &mut Told, words: &str) {
    for line in words.lines() {
        let mut parts = line.split_whitespace();
        let (what, step) = (parts.next(), parts.next().and_then(|n| n.parse().ok()));
        match (what, step) {
            (Some("begin"), Some(step)) => told.begun = step,
            (Some("done"), Some(step)) => told.done = step,
            _ => {}
        }
    }
}
