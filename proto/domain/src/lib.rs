//! The types that agent and server share: identities, time, releases, signals, session messages,
//! the host's ledger, and the reports people read.
//!
//! This crate is the bottom of the house: std, serde and thiserror only. It decides nothing and
//! knows no clock, no random source, no file and no network.

pub mod absence;
pub mod audit;
pub mod cause;
pub mod command;
pub mod desired;
pub mod host;
pub mod ids;
pub mod incident;
pub mod ledger;
pub mod limits;
pub mod manifest;
pub mod net;
pub mod observed;
pub mod order;
pub mod order_spec;
pub mod people;
pub mod report;
pub mod session;
pub mod signal;
pub mod time;
pub mod version;

pub use absence::Absence;
pub use audit::{AuditHead, AuditShown};
pub use desired::{Assignment, AssignmentKind, Desired};
pub use ids::{
    AgentStart, ApprovalId, BootId, Epoch, Generation, HostId, KeyId, Nonce, OrderId,
    ReleaseDigest, RequestId, RingName, RolloutId, Sha256, SignalSeq,
};
pub use time::{Millis, Timestamp};
pub use version::{PackageName, Version};
