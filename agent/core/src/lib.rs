//! The agent's decisions, without IO: `Machine::step(event, now) -> effects`.
//!
//! `now` is the host's boot-time clock. The daemon (and the simulator) carries out the effects in
//! the order given and reports back by events; a failed effect ends the list it stands in.

pub mod effect;
pub mod event;

pub use effect::Effect;
pub use event::Event;
