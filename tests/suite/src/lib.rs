//! Ringward's real processes, driven as a person would: the demo, and what the tests over real
//! processes share.

pub mod account;
pub mod chatter;
pub mod clock;
pub mod control;
pub mod demo;
pub mod fuzz;
pub mod hostile;
pub mod hosts;
pub mod kills;
pub mod lab;
pub mod process;
pub mod race;
pub mod slots;
pub mod told;
pub mod trial;
pub mod wait;
