//! Records of a fixed size over bare TLS: what any protocol would at least cost.

use super::{Dialect, Heard};
use anyhow::Result;

/// Bytes of a record: a heartbeat in its gRPC and HTTP/2 frames takes about as many.
pub const RECORD: usize = 32;
/// First byte of a record that is told to all; any other is an echo.
pub const TOLD: u8 = b'T';

/// A connection.
#[derive(Debug, Default)]
pub struct Raw {
    is_ready: bool,
}

impl Dialect for Raw {
    fn greeting(&mut self, out: &mut Vec<u8>) {
        out.extend([b'H'; RECORD]);
    }

    fn beat(&mut self, out: &mut Vec<u8>) {
        out.extend([b'B'; RECORD]);
    }

    fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        _out: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> Result<()> {
        let whole = inbox.len() / RECORD * RECORD;
        for record in inbox[..whole].chunks_exact(RECORD) {
            heard.push(match record[0] {
                TOLD => Heard::Told { stopped: true },
                _ if !self.is_ready => {
                    self.is_ready = true;
                    Heard::Ready
                }
                _ => Heard::Echo,
            });
        }
        inbox.drain(..whole);
        Ok(())
    }
}
