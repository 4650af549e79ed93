//! The command line: nouns and verbs.

mod audit;
mod incidents;
mod keys;
mod labels;
mod releases;
mod webhooks;

pub use audit::Audit;
pub use incidents::Incidents;
pub use keys::{Keys, Rotate};
pub use labels::Labels;
pub use releases::{OnRelease, Releases, Sign};
pub use webhooks::Webhooks;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ringward_domain::host::HostState;
use ringward_domain::{Millis, RingName, Version};
use ringward_wire::report::MemberKind;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  failed, or the server refused
  2  the command line makes no sense
  3  the rollout waited for halted or was aborted
  4  the server cannot be reached, or does not know you
  5  the command touches many hosts and nobody said yes
  6  the time given to wait ran out";

/// Watches and orders what a Ringward server does with a fleet.
#[derive(Debug, Parser)]
#[command(name = "ringwardctl", version, after_help = EXIT_CODES, infer_subcommands = false)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub noun: Noun,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Context file: which server, and as whom [default: ~/.config/ringward/context.toml]
    #[arg(
        long,
        global = true,
        env = "RINGWARD_CONTEXT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub context: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables that fit into a terminal.
    Table,
    /// Tables with every column.
    Wide,
    /// JSON.
    Json,
}

/// Options of every order.
#[derive(Debug, Clone, Args)]
pub struct Order {
    /// Why, for the audit log
    #[arg(long, short = 'm', default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Say what would happen, by the server's own code, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before touching many hosts
    #[arg(long, short)]
    pub yes: bool,
    /// Do it alone where a second person is needed: loud, bounded, marked
    #[arg(long)]
    pub break_glass: bool,
}

/// Options of orders that a rollout follows.
#[derive(Debug, Clone, Args)]
pub struct Follow {
    /// Return when the rollout is over: 0 if it completed, 3 if it halted or was aborted
    #[arg(long)]
    pub wait: bool,
    /// Wait, and show the rollout as it goes: a live tree on a terminal, lines elsewhere
    #[arg(long)]
    pub watch: bool,
    /// Wait at most so long, as in 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Millis>,
}

/// What to act on.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// The hosts of the fleet
    #[command(subcommand)]
    Hosts(Hosts),
    /// Enrolment tokens: the right of new hosts to join
    #[command(subcommand)]
    Tokens(Tokens),
    /// Release keys, which the server never holds
    #[command(subcommand)]
    Keys(Keys),
    /// Releases: signed manifests with their files
    #[command(subcommand)]
    Releases(Releases),
    /// The ring policy
    #[command(subcommand)]
    Rings(Rings),
    /// Releases on their way through the rings
    #[command(subcommand)]
    Rollouts(Rollouts),
    /// Failures that have something in common, with a rollout or without
    #[command(subcommand)]
    Incidents(Incidents),
    /// Who outside of the server is told of halts, holds, incidents and the like
    #[command(subcommand)]
    Webhooks(Webhooks),
    /// What failing hosts have in common now, most suspected first
    Suspects {
        /// At most so many, 1-100
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Isolate hosts: only the control servers and what is allowed stay reachable
    Quarantine(crate::order_args::Quarantine),
    /// End the isolation of hosts
    Release(crate::order_args::To),
    /// Orders to hosts, and how they stand
    #[command(subcommand)]
    Orders(crate::order_args::Orders),
    /// What waits for a second person
    #[command(subcommand)]
    Approvals(crate::order_args::Approvals),
    /// Who may do what
    #[command(subcommand)]
    People(crate::order_args::People),
    /// Pull the andon: pause every rollout but rollbacks, without a question
    StopAll(Order),
    /// Lift the andon
    ResumeAll(Order),
    /// The audit log: what people and the server did
    #[command(subcommand)]
    Audit(Audit),
    /// Which server, and as whom
    #[command(subcommand)]
    Context(ContextVerb),
    /// Print a completion script for a shell
    Completion {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Verbs of `hosts`.
#[derive(Debug, Subcommand)]
pub enum Hosts {
    /// List hosts
    List {
        /// Only hosts whose id or name starts so
        query: Option<String>,
        /// Only hosts in this state
        #[arg(long, value_parser = host_state, value_name = "pending|active|retired")]
        state: Vec<HostState>,
        /// Only hosts with this label
        #[arg(long, short = 'l', value_parser = label, value_name = "KEY=VALUE")]
        label: Vec<(String, String)>,
        /// Only hosts that a person should look at
        #[arg(long)]
        attention: bool,
    },
    /// Show one host with its newest signals
    Show {
        /// Id, unique start of an id, or host name
        host: String,
    },
    /// Set and remove labels: they decide ring, criticality, protection and site
    Label {
        /// Id, unique start of an id, or host name
        host: String,
        /// KEY=VALUE sets a label, KEY- removes it
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<String>,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Let a pending host take part
    Approve(OnHost),
    /// Take a host out of the fleet for good and revoke its certificate
    Retire(OnHost),
    /// Let a host take no changes
    Freeze(OnHost),
    /// Let a frozen host take changes again
    Unfreeze(OnHost),
    /// Let a host connect again whose identity two machines had used
    Unfence(OnHost),
    /// Say that a host is the machine that another was: it takes its labels, the other leaves
    Replace(OnHost),
    /// Labels of many hosts
    #[command(subcommand)]
    Labels(Labels),
}

/// An order for one host.
#[derive(Debug, Args)]
pub struct OnHost {
    /// Id, unique start of an id, or host name
    pub host: String,
    /// Options of every order.
    #[command(flatten)]
    pub order: Order,
}

/// Verbs of `tokens`.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// Make a token and print its text, which is shown only now
    Create {
        /// Hosts that may join by it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it lives, as in 30m, 24h
        #[arg(long, default_value = "24h", value_name = "TIME", value_parser = duration)]
        life: Millis,
        /// Label that each host gets
        #[arg(long, short = 'l', value_parser = label, value_name = "KEY=VALUE")]
        label: Vec<(String, String)>,
        /// Let hosts wait for a person's approval
        #[arg(long)]
        pending: bool,
        /// Let each host leave when nothing was heard of it for so long, as in 12h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        ephemeral: Option<Millis>,
        /// Only hosts that connect from this network, as in 10.2.0.0/16
        #[arg(long, value_name = "CIDR")]
        network: Vec<String>,
        /// Only hosts that say so of themselves, as in `os=linux,hostname in (till-1,till-2)`
        #[arg(long, value_name = "SELECTOR")]
        only: Option<String>,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// List tokens, without their secrets
    List,
    /// End a token; hosts that joined by it stay
    Revoke {
        /// Its id, or a unique start of it
        token: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
}

/// Verbs of `rings`.
#[derive(Debug, Subcommand)]
pub enum Rings {
    /// Say what a policy would mean, without putting it in force
    Check {
        /// The policy (TOML)
        file: PathBuf,
    },
    /// Put a policy in force for rollouts started from now on
    Apply {
        /// The policy (TOML)
        file: PathBuf,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// List the rings in force
    List {
        /// Print the policy as it was applied
        #[arg(long)]
        toml: bool,
    },
}

/// Verbs of `rollouts`.
#[derive(Debug, Subcommand)]
pub enum Rollouts {
    /// Start a rollout of a published release
    Start {
        /// PACKAGE@VERSION, or a unique start of the release's digest
        release: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
        /// Options of orders that a rollout follows.
        #[command(flatten)]
        follow: Follow,
    },
    /// List rollouts
    List {
        /// Only those that are not over
        #[arg(long)]
        active: bool,
    },
    /// Show one rollout with its evidence
    Show {
        /// Id, a unique start of one, or PACKAGE@VERSION; the newest where none is named
        rollout: Option<String>,
        /// List its hosts
        #[arg(long)]
        hosts: bool,
        /// List only hosts of this ring
        #[arg(long, requires = "hosts")]
        ring: Option<RingName>,
        /// List only hosts in this state
        #[arg(long, requires = "hosts", value_parser = member_kind)]
        state: Vec<MemberKind>,
    },
    /// Follow one rollout until it is over
    Watch {
        /// Id, a unique start of one, or PACKAGE@VERSION; the newest where none is named
        rollout: Option<String>,
        /// Follow at most so long, as in 90s, 15m, 2h
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Millis>,
    },
    /// Make no further grant; exposures under way go on. Never asks
    Pause(OnRollout),
    /// Lift a pause or a halt
    Resume {
        /// Id, a unique start of one, or PACKAGE@VERSION
        rollout: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
        /// Options of orders that a rollout follows.
        #[command(flatten)]
        follow: Follow,
    },
    /// End a rollout for good. Never asks
    Abort(OnRollout),
    /// Bring hosts back from a release to an earlier one
    Rollback {
        /// The release to leave (PACKAGE@VERSION or digest), or the rollout that brought it
        from: String,
        /// Version to go back to [default: the newest release in good standing]
        #[arg(long, value_name = "VERSION")]
        to: Option<Version>,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
        /// Options of orders that a rollout follows.
        #[command(flatten)]
        follow: Follow,
    },
}

/// An order for one rollout.
#[derive(Debug, Args)]
pub struct OnRollout {
    /// Id, a unique start of one, or PACKAGE@VERSION
    pub rollout: String,
    /// Options of every order.
    #[command(flatten)]
    pub order: Order,
}

/// Verbs of `context`.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// Show the context in use, and whether its server answers
    Show,
}

/// `90s`, `15m`, `24h`, `7d` or `500ms`.
pub(crate) fn duration(text: &str) -> Result<Millis, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| "use a number and ms, s, m, h or d, as in 15m".to_owned())?;
    match unit {
        "ms" => Ok(Millis(number)),
        "s" => Ok(Millis::secs(number)),
        "m" => Ok(Millis::mins(number)),
        "h" => Ok(Millis::hours(number)),
        "d" => Ok(Millis::hours(number.saturating_mul(24))),
        _ => Err("use a number and ms, s, m, h or d, as in 15m".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE".to_owned()),
    }
}

fn host_state(text: &str) -> Result<HostState, String> {
    match text {
        "pending" => Ok(HostState::Pending),
        "active" => Ok(HostState::Active),
        "retired" => Ok(HostState::Retired),
        _ => Err("use pending, active or retired".to_owned()),
    }
}

fn member_kind(text: &str) -> Result<MemberKind, String> {
    use MemberKind::*;
    let kinds = [
        ("waiting", Waiting),
        ("granted", Granted),
        ("begun", Begun),
        ("applied", Applied),
        ("rebooting", Rebooting),
        ("soaking", Soaking),
        ("confirmed", Confirmed),
        ("already-there", AlreadyThere),
        ("failed", Failed),
        ("reverted", Reverted),
        ("silent", Silent),
        ("refused", Refused),
        ("deferred", Deferred),
        ("away", Away),
    ];
    kinds
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, kind)| *kind)
        .ok_or_else(|| format!("use one of {}", kinds.map(|(name, _)| name).join(", ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_says_what_every_command_does() {
        let mut help = String::new();
        tell(Cli::command().term_width(100), "", &mut help);
        insta::assert_snapshot!(help);
    }

    fn tell(mut command: clap::Command, path: &str, help: &mut String) {
        let path = format!("{path} {}", command.get_name());
        if path.trim() == "ringwardctl" || command.get_subcommands().next().is_none() {
            help.push_str(&format!(
                "## {}\n{}\n",
                path.trim(),
                command.render_long_help()
            ));
        }
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            assert!(
                sub.get_about().is_some(),
                "{path} {} has no help",
                sub.get_name()
            );
            tell(sub.clone().term_width(100), &path, help);
        }
    }

    #[test]
    fn times_and_labels_read_as_written() {
        assert_eq!(duration("15m"), Ok(Millis::mins(15)));
        assert_eq!(duration("500ms"), Ok(Millis(500)));
        assert!(duration("15").is_err() && duration("m").is_err() && duration("-1s").is_err());
        assert_eq!(label("site=a=b"), Ok(("site".into(), "a=b".into())));
        assert!(label("=x").is_err() && label("x").is_err());
    }

    #[test]
    fn the_global_options_stand_anywhere() {
        let line = [
            "ringwardctl",
            "hosts",
            "list",
            "-o",
            "json",
            "--context",
            "c",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.common.output, Format::Json);
        assert_eq!(cli.common.context, Some("c".into()));
    }
}
