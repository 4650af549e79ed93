//! `ringwardctl incidents`.

use clap::Subcommand;

/// Verbs of `incidents`.
#[derive(Debug, Subcommand)]
pub enum Incidents {
    /// List open incidents
    List {
        /// Those that are over too
        #[arg(long)]
        all: bool,
    },
    /// Show one with its suspects, its failed hosts and the hosts at risk
    Show {
        /// Its number
        incident: u64,
    },
}
