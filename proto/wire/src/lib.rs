//! The `ringward.v1` protocol: generated code, its conversions from and to domain types, and the way
//! both sides reach each other (TLS, channels, enrolment tokens). No other crate sees both worlds.
//!
//! Entry points: [`session`] for the frames of an agent's session, [`command`] for what admins order,
//! [`report`] for what they read, [`status`] for refusals on the wire, [`tls`] and [`client`] to
//! connect. Encoding (`From<domain> for pb`) clips texts to their limits and cannot fail; decoding
//! (`TryFrom<pb> for domain`) enforces [`limits`](ringward_domain::limits) and names the field.

pub mod authority;
mod cause;
pub mod client;
pub mod command;
pub mod desired;
pub mod enrolment;
pub mod error;
pub mod host;
pub mod incident;
pub mod merkle;
pub mod observed;
mod order;
pub mod page;
pub mod people;
pub mod permission;
pub mod policy;
pub mod release;
pub mod report;
pub mod roots;
pub mod session;
pub mod signal;
pub mod status;
pub mod tls;
pub mod token;
pub mod watch;

mod code;
pub mod codec;
mod field;

/// Generated from `ringward/v1/*.proto`; the field comments there hold units and meaning.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod pb {
    tonic::include_proto!("ringward.v1");
}

pub use error::DecodeError;
