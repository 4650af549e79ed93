//! What is said on a connection: Ringward's session, the same over a bare echo, and the protocols of
//! the anchors. Bytes in, bytes out; no connection is touched here.

mod grpc;
pub mod mqtt;
pub mod nats;
pub mod raw;

pub use grpc::Grpc;
pub use mqtt::Mqtt;
pub use nats::Nats;
pub use raw::Raw;

use anyhow::Result;

/// Something the other side said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The session stands.
    Ready,
    /// What is told to everybody at once.
    Told {
        /// Whether it says that everything is paused.
        stopped: bool,
    },
    /// Signals up to this seq are durable.
    Durable(u64),
    /// An echo.
    Echo,
    /// The whole answer of a call lies in [`Grpc::answer`].
    Answer,
    /// The session is over.
    Ended,
}

/// One side of a conversation.
pub trait Dialect: Send + 'static {
    /// First bytes after TLS.
    fn greeting(&mut self, out: &mut Vec<u8>);
    /// One heartbeat, or what comes closest.
    fn beat(&mut self, out: &mut Vec<u8>);
    /// A batch of `count` signals from `first` on; only our own server takes them.
    fn signals(&mut self, _first: u64, _count: u64, _out: &mut Vec<u8>) {}
    /// Bytes that the other side takes now without further leave.
    fn credit(&self) -> i64 {
        i64::MAX
    }
    /// Takes whole messages from the front of `inbox`; answers what has to be said at once.
    ///
    /// # Errors
    /// Bytes that are not of this dialect.
    fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        out: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> Result<()>;
}
