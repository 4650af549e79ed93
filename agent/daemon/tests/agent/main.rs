//! The agent as library and as program, against a server over loopback with mutual TLS.

#![allow(clippy::unwrap_used)]

mod audit;
mod daemon;
mod golden;
mod mirror;
mod offline;
mod orders;
mod program;
mod recorded;
mod support;
