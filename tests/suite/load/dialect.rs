//! What is said on a connection: Ringward's session, the same over a bare echo, and the protocols of
//! the anchors. Bytes in, bytes out; no connection is touched here.

mod canary;
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
    /// This host says right now that the release failed on it.
    Fails,
    /// An echo.
    Echo,
    /// A message of a call's answer lies in [`Grpc::answers`].
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the pieces in which bytes arrive, the same is heard.
    fn hears(mut dialect: impl Dialect, bytes: &[u8], expected: &[Heard]) {
        for cut in 0..=bytes.len() {
            let (mut inbox, mut out, mut heard) = (Vec::new(), Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                inbox.extend(part);
                let taken = dialect.take(&mut inbox, &mut out, &mut heard);
                assert!(taken.is_ok(), "{taken:?}");
            }
            assert!(inbox.is_empty());
            assert_eq!(heard, expected, "cut at {cut}");
        }
    }

    #[test]
    fn nats_is_heard_in_any_pieces() {
        let bytes = b"PONG\r\nMSG told 1 5\r\nhello\r\nPING\r\n";
        hears(
            Nats::default(),
            bytes,
            &[Heard::Ready, Heard::Told { stopped: true }],
        );
    }

    #[test]
    fn mqtt_is_heard_in_any_pieces() {
        let mut bytes = vec![0x20, 2, 0, 0, 0x90, 3, 0, 1, 0];
        mqtt::tell(&mut bytes);
        hears(
            Mqtt::new(1),
            &bytes,
            &[Heard::Ready, Heard::Told { stopped: true }],
        );
    }

    #[test]
    fn grpc_is_heard_in_any_pieces() {
        use prost::Message;
        use ringward_domain::session::ToAgent;
        use ringward_suite::hostile::h2::{END_STREAM, frame, kind, message};
        let say = |said: ToAgent| {
            let body = ringward_wire::pb::ServerFrame::from(said).encode_to_vec();
            frame(kind::DATA, 0, 1, &message(&body))
        };
        let through = ringward_domain::SignalSeq(7);
        let bytes = [
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
            say(ToAgent::Welcome { protocol: 1 }),
            say(ToAgent::SignalsDurable { through }),
            frame(kind::DATA, END_STREAM, 1, &[]),
        ]
        .concat();
        hears(
            Grpc::session(usize::MAX, 1),
            &bytes,
            &[Heard::Ready, Heard::Durable(7), Heard::Ended],
        );
    }
}
