//! The command line.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// The Ringward control server.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Make a data directory: authority, settings, ring policy, first admin.
    Init {
        /// Directory to make; must not exist or be empty.
        #[arg(long)]
        data: PathBuf,
        /// Address at which hosts reach this server.
        #[arg(long, value_name = "HOST:PORT")]
        agent_address: String,
        /// Address at which admins reach this server.
        #[arg(long, value_name = "HOST:PORT")]
        admin_address: String,
        /// Name of the first admin.
        #[arg(long, default_value = "admin")]
        admin: String,
        /// Ring policy to begin with (TOML).
        #[arg(long)]
        rings: Option<PathBuf>,
        /// Release root to trust from the start (`ringwardctl keys init` writes one).
        #[arg(long)]
        release_root: Option<PathBuf>,
    },
    /// Serve a data directory until SIGTERM or SIGINT.
    Run {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
    },
    /// Print a one-time link into the dashboard, good for two minutes.
    Login {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// As which admin.
        #[arg(long, default_value = "admin")]
        admin: String,
    },
    /// Make a certificate for another person; what they may do is granted apart.
    Admin {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// Their name, as in `ringwardctl people grant`.
        #[arg(long)]
        name: String,
    },
    /// Trust these release keys from now on (a running server takes them at once).
    TrustRoot {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// The release root (JSON, public keys only).
        file: PathBuf,
    },
    /// Put another authority in place of the present one, while hosts go on working.
    ///
    /// After this and a restart both vouch; hosts follow and renew their certificates by themselves
    /// within an hour of being connected. `--finish` and a restart end it: hosts that were not connected
    /// meanwhile enrol again, as do admins, and tokens of before are dead.
    RotateAuthority {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// The root's key (PEM), where it is kept elsewhere than in `pki/root.key`.
        #[arg(long, conflicts_with = "finish")]
        root_key: Option<PathBuf>,
        /// End it.
        #[arg(long)]
        finish: bool,
    },
    /// Make another context file for an admin.
    AdminContext {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// The admin's name.
        #[arg(long, default_value = "admin")]
        admin: String,
    },
    /// Write everything this server is to one file, while it runs or stands still.
    ///
    /// The file holds the authority's private keys: keep it as you would keep those.
    Backup {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// File to write; must not exist.
        #[arg(long)]
        to: PathBuf,
    },
    /// Make a data directory from a backup: paused, under a raised epoch, every token dead.
    ///
    /// Hosts that were enrolled after the backup are not known any more and enrol again. Hosts whose
    /// audit head is newer than the backup report that the log was taken back, as they should.
    Restore {
        /// Directory to make; must not exist or be empty.
        #[arg(long)]
        data: PathBuf,
        /// The backup.
        #[arg(long)]
        from: PathBuf,
    },
    /// Look a data directory over; the server must not be running.
    Doctor {
        /// The data directory.
        #[arg(long)]
        data: PathBuf,
        /// A head of the audit log that somebody kept: a host's audit-head.json, or the file of
        /// `ringwardctl audit verify`. The log must add to it.
        #[arg(long, value_name = "FILE")]
        audit_head: Vec<PathBuf>,
    },
}
