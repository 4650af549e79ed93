//! The listeners: our own accept loop, so that every limit holds before a byte is parsed.

mod accept;
mod http;
mod limits;
mod tls;

pub use accept::{Listener, bind};
pub use http::{AdminPages, Answer, Gate, Serve};
pub use tls::{admin_tls, agent_tls};

use crate::pki::{AdminIdentity, HostIdentity};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Who is at the other end of a connection, read from the verified certificate. Handlers find it in
/// the request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Who it is.
    pub identity: Identity,
    /// Fires when the connection is to be closed in an orderly way: streams say goodbye and end.
    pub closing: CancellationToken,
    /// Fires when every connection is to be closed: the server stops.
    pub stop: CancellationToken,
    /// Fired once a call on a connection without certificate proved by token or session who calls.
    pub vouched: Option<CancellationToken>,
}

/// A peer's identity.
#[derive(Debug, Clone)]
pub enum Identity {
    /// No client certificate: a host may enrol, a person may show a token or sign in.
    None,
    /// A host.
    Host(Arc<HostIdentity>),
    /// A host whose certificate expired not long ago: may renew it, nothing else.
    Expired(Arc<HostIdentity>),
    /// A person.
    Admin(Arc<AdminIdentity>),
}
