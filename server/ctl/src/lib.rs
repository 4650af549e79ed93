//! The admin command line, and the typed client of the admin API under it.
//!
//! [`Client`] speaks domain types: tests and tools drive a server with it without parsing text.
//! [`signing`] and [`keys`] make signed releases. The binary is [`args`] → [`run`], what people read
//! comes from [`views`].

pub mod args;
pub mod bundle;
pub mod client;
mod client_people;
pub mod context;
pub mod error;
pub mod follow;
pub mod keys;
pub mod order_args;
pub mod resolve;
pub mod root;
pub mod run;
pub mod signing;
pub mod ui;
pub mod views;
pub mod words;

mod files;
mod upload;

pub use client::{Client, CreatedToken, Published, ServerStatus, Watch, act};
pub use context::Context;
pub use error::Error;
