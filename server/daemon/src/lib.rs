//! The Ringward control server: configuration, authority, listeners, and the one task that owns the
//! decisions of `ringward-server-core`.
//!
//! Entry points: [`init`](init::init) makes a data directory, [`run`](run::run) serves it,
//! [`doctor`](doctor::doctor) looks it over. What the server decides is decided in
//! `ringward_server_core`; this crate carries it out: nothing is sent before it is durable.

pub mod accounts;
pub mod actor;
pub mod api;
pub mod artefacts;
pub mod audit;
pub mod backup;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod doctor;
pub mod error;
pub mod init;
pub mod listener;
pub mod metrics;
pub mod overview;
pub mod pki;
pub mod release_check;
pub mod retention;
pub mod run;
pub mod storage;
pub mod tokens;
pub mod web;
pub mod webhooks;

pub use config::Config;
pub use data_dir::DataDir;
pub use doctor::{Findings, doctor};
pub use error::{ServerError, chain};
pub use init::{InitOptions, Initialised, admin_context, init, new_admin, rotate_authority};
pub use release_check::trust_root;
pub use run::{Addresses, Running, run, start, start_on};
pub use web::{LoginWord, new_login_word};
