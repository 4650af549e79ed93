//! The agent's adapters to the operating system: everything a host can be asked or told, behind one
//! trait, so that the daemon is the same on a real machine and on a scripted one.
//!
//! [`linux`] is a real Linux machine; [`fake`] is the *scripted* host of the demo and the tests,
//! which boots, crashes, vanishes and is healed by the real guard, inside one process.

pub mod fake;
pub mod host;
pub mod isolation;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod marker;
mod probe;

pub use host::{Host, HostError, HostEvent, StopReason};
pub use isolation::IsolationError;
