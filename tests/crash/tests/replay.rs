//! A short replay in every test run; `cargo xtask crash-test` makes the long one.
#![allow(clippy::unwrap_used)]

use ringward_crash::replay::{Depth, Subject, run};
use std::path::Path;

fn holds(subject: Subject, steps: u64, stride: usize) {
    let depth = Depth {
        steps,
        random: 2,
        stride,
        seed: 11,
        stop_at_first: false,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_ringward-crash"));
    match run(program, subject, None, &depth) {
        Ok(outcome) => {
            assert_eq!(outcome.broken, 0, "{:#?}", outcome.examples);
            assert!(outcome.states >= 100, "{outcome:?}");
        }
        Err(why) if why.to_string().contains("cc") || !cfg!(target_env = "gnu") => {
            println!("skipped: {why:#}");
        }
        Err(why) => panic!("{why:#}"),
    }
}

#[test]
fn the_store_outlives_a_power_cut_at_any_file_call() {
    holds(Subject::Store, 40, 2);
}

#[test]
fn ledger_slots_and_spool_outlive_a_power_cut_at_any_file_call() {
    holds(Subject::Agent, 34, 2);
}
