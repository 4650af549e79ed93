//! Power cuts, at every file call of a real process.
//!
//! A workload runs in a process of its own with a small library loaded before libc, which writes down
//! every file call. From that record come the folders that a cut at any moment can leave: synced bytes
//! are there, unsynced ones may be, in whole, in part or not at all, and so with names. Each is laid
//! down and opened, and what the workload was told is durable must be in it.

pub mod agent;
pub mod disk;
pub mod record;
pub mod replay;
pub mod store;
