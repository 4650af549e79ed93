//! The server's decisions, without IO: hosts, rollouts, windows, verdicts.
//!
//! [`Control`](control::Control) is the whole: `handle(event, now) -> effects`. `now` is the fleet
//! clock. Everything a list of effects puts must be durable before anything it sends is sent.
//! [`Rollout`](rollout::Rollout) is the machine of one rollout and can be driven alone.

pub mod baseline;
pub mod brakes;
pub mod control;
pub mod event;
pub mod evidence;
pub mod flaws;
pub mod host;
pub mod maintenance;
mod named;
pub mod orders;
pub mod people;
pub mod planted;
pub mod policy;
pub mod record;
pub mod release;
mod returns;
pub mod rollout;
pub mod salt;
pub mod second;
pub mod selector;
pub mod slips;
pub mod stats;
pub mod strata;
pub mod suspects;
pub mod verdict;
pub mod webhooks;
pub mod window;
