//! NATS' client protocol: <https://docs.nats.io/reference/reference-protocols/nats-protocol>.

use super::{Dialect, Heard};
use anyhow::Result;

/// Subject on which everybody is told.
pub const TOLD: &str = "told";
/// Bytes told to all: about what a desired state takes.
pub const TOLD_BYTES: usize = 64;
const BEAT: &str = "PUB beat 16\r\n0123456789abcdef\r\n";

/// A subscriber that also publishes its heartbeats, which nobody listens to.
#[derive(Debug, Default)]
pub struct Nats {
    /// Bytes of a message's payload still to come.
    payload: usize,
}

/// The bytes that tell everybody.
pub fn tell(out: &mut Vec<u8>) {
    out.extend(format!("PUB {TOLD} {TOLD_BYTES}\r\n").bytes());
    out.extend([b'x'; TOLD_BYTES]);
    out.extend(b"\r\n");
}

impl Dialect for Nats {
    fn greeting(&mut self, out: &mut Vec<u8>) {
        out.extend(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true}\r\n");
        out.extend(format!("SUB {TOLD} 1\r\nPING\r\n").bytes());
    }

    fn beat(&mut self, out: &mut Vec<u8>) {
        out.extend(BEAT.bytes());
    }

    fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        out: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> Result<()> {
        let mut at = 0;
        loop {
            if self.payload > 0 {
                if inbox.len() - at < self.payload {
                    break;
                }
                at += std::mem::take(&mut self.payload);
                heard.push(Heard::Told { stopped: true });
            }
            let Some(end) = inbox[at..].iter().position(|b| *b == b'\n') else {
                break;
            };
            let line = String::from_utf8_lossy(&inbox[at..at + end]).into_owned();
            at += end + 1;
            let mut words = line.split_whitespace();
            match words.next() {
                Some("PING") => out.extend(b"PONG\r\n"),
                Some("PONG") => heard.push(Heard::Ready),
                Some("MSG") => {
                    let bytes: usize = words.next_back().unwrap_or_default().parse()?;
                    self.payload = bytes + 2;
                }
                Some("-ERR") => heard.push(Heard::Ended),
                _ => {}
            }
        }
        inbox.drain(..at);
        Ok(())
    }
}
