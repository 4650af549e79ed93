//! Verbs of `audit`.

use clap::Subcommand;
use std::path::PathBuf;

/// Verbs of `audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the newest entries, oldest first
    List {
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        last: u64,
        /// From this entry on instead, counted from 0
        #[arg(long, value_name = "INDEX")]
        from: Option<u64>,
    },
    /// Read the whole log and check that nothing in it was changed since it was checked before
    Verify {
        /// File that remembers what was checked [default: beside the context file]
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// Check this export instead of asking the server
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Write the log as JSON Lines: index, leaf_hash and the entry as text, exactly as hashed
    Export {
        /// File to write; standard output where none is named
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// From this entry on, counted from 0
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        from: u64,
    },
}
