//! Ringward's real processes, driven as a person would: the demo, and what the tests over real
//! processes share.

pub mod demo;
pub mod process;
pub mod slots;
