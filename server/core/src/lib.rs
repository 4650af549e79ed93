//! The server's decisions, without IO: hosts, rollouts, windows, verdicts.
//!
//! [`Control`](control::Control) is the whole: `handle(event, now) -> effects`. `now` is the fleet
//! clock. Everything a list of effects puts must be durable before anything it sends is sent.

pub mod event;
pub mod record;
