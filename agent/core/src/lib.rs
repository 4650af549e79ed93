//! The agent's decisions, without IO: `Machine::step(event, now) -> effects`.
//!
//! `now` is the host's boot-time clock. The daemon (and the simulator) carries out the effects in
//! the order given and reports back by events; a failed ledger write ends the list it stands in.
//! Each list is ordered so that what needs no ledger comes first, then at most one ledger write,
//! then what is told to the server, then acts on the host: nothing is told or done before what it
//! rests on is durable.

mod attempt;
mod containment;
mod desired;
pub mod effect;
pub mod event;
mod link;
mod machine;
mod observe;
pub mod orders;
mod outbox;
mod planted;
mod prepare;
mod random;
mod recover;
mod revert;
mod signals;
mod soak;
mod trial;

pub use effect::Effect;
pub use event::Event;
pub use machine::Machine;
#[cfg(feature = "planted-bugs")]
pub use planted::{Bug, plant};
