//! The command line of orders, approvals and people.

use crate::args::{Order, duration};
use clap::{Args, Subcommand};
use ringward_domain::net::Allowed;
use ringward_domain::people::{Grant, Role};
use ringward_domain::{Millis, PackageName, RingName, Version};
use std::path::PathBuf;

/// To whom an order goes, and how freely.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("to").required(true).multiple(false)))]
pub struct To {
    /// Hosts: ids, unique starts of one, or names
    #[arg(group = "to")]
    pub hosts: Vec<String>,
    /// All hosts whose labels match, as in `site=berlin,!critical`
    #[arg(long, short = 'l', group = "to", value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// All hosts that fall into this ring
    #[arg(long, group = "to")]
    pub ring: Option<RingName>,
    /// All hosts that run this release: PACKAGE@VERSION or digest
    #[arg(long, group = "to", value_name = "RELEASE")]
    pub on_release: Option<String>,
    /// Hosts from a file, one a line; `-` reads standard input
    #[arg(long, group = "to", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The whole fleet
    #[arg(long, group = "to")]
    pub everything: bool,
    /// Ticket elsewhere that this belongs to
    #[arg(long, default_value = "", hide_default_value = true)]
    pub ticket: String,
    /// Leave hosts in peace that did not begin by then
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub expires_in: Millis,
    /// Protected hosts too: needs a second person
    #[arg(long)]
    pub include_protected: bool,
    /// All at once, beyond the hourly caps: needs a second person
    #[arg(long)]
    pub over_cap: bool,
    /// Tell nobody before so many people endorsed it with their keys (`orders endorse`)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub endorsers: u32,
    /// Options of every order.
    #[command(flatten)]
    pub order: Order,
}

/// Isolates hosts.
#[derive(Debug, Args)]
pub struct Quarantine {
    /// What stays reachable beside the control servers, as in 10.1.2.3, 10.0.0.0/24, tcp/443@10.1.2.3
    #[arg(long, value_name = "NETWORK")]
    pub allow: Vec<Allowed>,
    /// End by itself after so much powered-on time
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "24h")]
    pub life: Millis,
    /// Last until somebody releases it
    #[arg(long, conflicts_with = "life")]
    pub until_released: bool,
    /// To whom.
    #[command(flatten)]
    pub to: To,
}

/// Verbs of `orders`.
#[derive(Debug, Subcommand)]
pub enum Orders {
    /// List orders, newest first
    List,
    /// Show one order, host by host
    Show {
        /// Id, or a unique start of one
        order: String,
    },
    /// Follow one order until every host is done with it
    Watch {
        /// Id, or a unique start of one
        order: String,
        /// Follow at most so long
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Millis>,
    },
    /// End an order: what is not done yet is not done. Never asks
    Cancel {
        /// Id, or a unique start of one
        order_id: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Sign what an order says with a key of your own, for hosts that ask for it
    Endorse {
        /// Id, or a unique start of one
        order_id: String,
        /// Key file, as `keys create` writes it; its public key stands in the hosts' agent.toml
        #[arg(long, short, value_name = "FILE")]
        key: PathBuf,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Reboot hosts, guard armed first
    Reboot(To),
    /// Look through the hosts' crash evidence anew
    Collect(To),
    /// Let hosts take no changes
    Freeze(To),
    /// Let hosts take changes again
    Unfreeze(To),
    /// Bring hosts back to an earlier release at once, within the hourly caps
    Rollback {
        /// Package to go back with
        #[arg(long)]
        package: PackageName,
        /// Version to go back to [default: the newest release in good standing]
        #[arg(long, value_name = "VERSION")]
        version: Option<Version>,
        /// To whom.
        #[command(flatten)]
        to: To,
    },
    /// Keep a path of others at its good copy
    Pin {
        /// Absolute path on the hosts
        #[arg(long)]
        path: String,
        /// To whom.
        #[command(flatten)]
        to: To,
    },
    /// Let a pinned path change again
    Unpin {
        /// Absolute path on the hosts
        #[arg(long)]
        path: String,
        /// To whom.
        #[command(flatten)]
        to: To,
    },
}

/// Verbs of `approvals`.
#[derive(Debug, Subcommand)]
pub enum Approvals {
    /// List what waits for a second person
    List {
        /// What is over too
        #[arg(long)]
        all: bool,
    },
    /// Say yes, as the second person, to exactly what is shown
    Approve {
        /// Id, or a unique start of one
        approval: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Say no. Never asks
    Deny {
        /// Id, or a unique start of one
        approval: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
}

/// Verbs of `people`.
#[derive(Debug, Subcommand)]
pub enum People {
    /// List who may do what
    List,
    /// Show who you are here
    Whoami,
    /// Replace all roles of a person; without any, the person may do nothing
    Grant {
        /// Name, as the certificate or the account carries it
        person: String,
        /// Role, on the whole fleet or as ROLE:SELECTOR on part of it
        #[arg(long = "role", value_name = "ROLE[:SELECTOR]", value_parser = grant)]
        roles: Vec<Grant>,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Set a dashboard password, read from standard input; an empty line takes it away
    Password {
        /// Whose
        person: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// Make an API token of your own; its text is printed once
    Token {
        /// What it is for
        label: String,
        /// Role, as in `grant`; never more than your own
        #[arg(long = "role", value_name = "ROLE[:SELECTOR]", value_parser = grant, required = true)]
        roles: Vec<Grant>,
        /// Life of the token
        #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "30d")]
        life: Millis,
        /// Write a context file with it, for `--context`, instead of printing it
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// List API tokens
    Tokens,
    /// End an API token for good. Never asks
    RevokeToken {
        /// Its id
        token: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
}

fn grant(text: &str) -> Result<Grant, String> {
    let (role, selector) = match text.split_once(':') {
        None => (text, None),
        Some((_, "")) => return Err("write a selector after the colon, or no colon".to_owned()),
        Some((role, selector)) => (role, Some(selector.to_owned())),
    };
    let role = Role::ALL.into_iter().find(|known| known.name() == role);
    let role = role.ok_or("use viewer, operator, responder, approver or admin")?;
    Ok(Grant { role, selector })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_as_written() {
        let whole = grant("viewer").map(|g| (g.role, g.selector));
        assert_eq!(whole, Ok((Role::Viewer, None)));
        let part = grant("responder:site=a,!x").map(|g| g.selector);
        assert_eq!(part, Ok(Some("site=a,!x".to_owned())));
        assert!(grant("root").is_err() && grant("viewer:").is_err());
    }
}
