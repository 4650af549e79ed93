//! The Ringward agent: a small daemon around the pure core of `ringward-agent-core`.
//!
//! Entry points: [`daemon::run`] runs one agent on a host; [`scripted::run`] runs it on a scripted
//! machine, boots and all; [`fleet`] runs many of those in one process; [`enroll::enroll`] gives a
//! host its identity; [`status`] and [`doctor`] look without touching; [`inspect`] reads evidence and
//! [`rescue`] takes a host back, both without a running agent.

pub mod audit;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod doctor;
pub mod enroll;
pub mod fleet;
pub mod generalize;
pub mod identity;
pub mod inspect;
mod link;
pub mod order_policy;
pub mod parse_child;
pub mod prepare;
pub mod rescue;
pub mod scripted;
pub mod servers;
pub mod spool;
pub mod status;
pub mod vouch;

/// Version of this agent, as it reports it.
pub const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// An error with everything beneath it, in one line.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    link::chain(error)
}
