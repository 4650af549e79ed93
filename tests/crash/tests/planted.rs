//! Each fault planted on purpose is found by the replay.
#![allow(clippy::unwrap_used)]

use ringward_crash::replay::{Depth, Subject, run};
use std::path::Path;

fn is_found(subject: Subject, plant: &str) {
    let depth = Depth {
        steps: 34,
        random: 2,
        stride: 1,
        seed: 11,
        stop_at_first: true,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_ringward-crash"));
    match run(program, subject, Some(plant), &depth) {
        Ok(outcome) => assert_eq!(outcome.broken, 1, "{plant} was not found: {outcome:?}"),
        Err(why) if why.to_string().contains("cc") || !cfg!(target_env = "gnu") => {
            println!("skipped: {why:#}");
        }
        Err(why) => panic!("{why:#}"),
    }
}

#[test]
fn a_store_that_acknowledges_before_it_is_durable_is_found() {
    is_found(Subject::Store, "acknowledge-before-durable");
}

#[test]
fn a_store_that_takes_sync_file_range_for_a_sync_is_found() {
    is_found(Subject::Store, "relies-on-sync-file-range");
}

#[test]
fn a_store_that_does_not_sync_its_folder_is_found() {
    is_found(Subject::Store, "store-folder-not-synced");
}

#[test]
fn a_store_that_forgets_request_ids_does_things_twice_and_is_found() {
    is_found(Subject::Store, "request-ids-forgotten");
}

#[test]
fn a_ledger_renamed_before_its_bytes_are_synced_is_found() {
    is_found(Subject::Agent, "ledger-not-synced");
}

#[test]
fn a_ledger_whose_folder_is_not_synced_is_found() {
    is_found(Subject::Agent, "ledger-folder-not-synced");
}

#[test]
fn a_ledger_written_in_place_is_found() {
    is_found(Subject::Agent, "ledger-written-in-place");
}

#[test]
fn a_slot_whose_files_are_not_synced_is_found() {
    is_found(Subject::Agent, "slot-files-not-synced");
}

#[test]
fn a_slot_whose_tree_is_not_synced_is_found() {
    is_found(Subject::Agent, "slot-tree-not-synced");
}

#[test]
fn a_switch_whose_folder_is_not_synced_is_found() {
    is_found(Subject::Agent, "slot-folder-not-synced");
}

#[test]
fn a_switch_that_first_removes_the_old_link_is_found() {
    is_found(Subject::Agent, "slot-removed-before-switch");
}

#[test]
fn a_spool_that_appends_without_sync_is_found() {
    is_found(Subject::Agent, "spool-not-synced");
}

#[test]
fn a_spool_whose_folder_is_not_synced_is_found() {
    is_found(Subject::Agent, "spool-folder-not-synced");
}
