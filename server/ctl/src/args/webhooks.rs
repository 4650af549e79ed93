//! Verbs of `webhooks`.

use super::Order;
use clap::Subcommand;

/// Verbs of `webhooks`.
#[derive(Debug, Subcommand)]
pub enum Webhooks {
    /// List the webhooks of server.toml, and how they do
    List,
    /// Send one message, to try the way
    Test {
        /// Name of the webhook
        name: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
    /// List messages that could not be delivered, newest first
    Dead,
    /// Send such messages again
    Replay {
        /// Id of one message [default: all]
        #[arg(default_value = "", hide_default_value = true)]
        id: String,
        /// Options of every order.
        #[command(flatten)]
        order: Order,
    },
}
