//! Verbs of `keys`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Verbs of `keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make release keys and the release root that server and hosts pin
    Init {
        /// Folder to write to
        #[arg(long, default_value = "release-keys")]
        dir: PathBuf,
        /// How many keys
        #[arg(long, default_value_t = 1)]
        keys: usize,
        /// How many of them must sign a release
        #[arg(long, default_value_t = 1)]
        threshold: u32,
    },
    /// Make one key of a person's own, to endorse orders with
    Create {
        /// File to write; its owner alone can read it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make the root that follows the one in force: add keys, revoke keys, change the threshold
    ///
    /// It counts once enough keys of the root before and enough of its own signed it. Others add
    /// theirs with `keys sign-root`; then `ringward-server trust-root` puts it in force, and hosts
    /// follow by themselves.
    Rotate(Rotate),
    /// Add signatures to a root that somebody else made
    SignRoot {
        /// The root in force
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        /// The signed root to add to
        file: PathBuf,
        /// Key file to sign with; may be named several times
        #[arg(long = "key", short, required = true, value_name = "FILE")]
        keys: Vec<PathBuf>,
    },
}

/// What `keys rotate` takes.
#[derive(Debug, Args)]
pub struct Rotate {
    /// The root in force
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
    /// Key file to sign with; may be named several times
    #[arg(long = "key", short, value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Key file whose key joins; drawn and written where it is absent
    #[arg(long, value_name = "FILE")]
    pub add: Vec<PathBuf>,
    /// Start of a public key that is revoked
    #[arg(long, value_name = "HEX")]
    pub remove: Vec<String>,
    /// How many must sign from now on [default: as before]
    #[arg(long)]
    pub threshold: Option<u32>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
