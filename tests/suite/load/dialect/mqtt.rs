//! MQTT 3.1.1 (OASIS standard): CONNECT, SUBSCRIBE and PUBLISH at QoS 0.

use super::{Dialect, Heard};
use anyhow::{Result, bail};

const TOPIC: &[u8] = b"told";
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
/// Bytes told to all: about what a desired state takes.
const TOLD_BYTES: usize = 64;

/// A subscriber that also publishes its heartbeats, which nobody listens to.
#[derive(Debug)]
pub struct Mqtt {
    name: String,
}

impl Mqtt {
    /// The client of agent number `index`.
    pub fn new(index: usize) -> Self {
        Self {
            name: format!("agent-{index}"),
        }
    }

    /// The first packet: protocol level 4, a clean session, no keepalive.
    pub fn connect(&self, out: &mut Vec<u8>) {
        let body = [text(b"MQTT"), vec![4, 2, 0, 0], text(self.name.as_bytes())].concat();
        packet(1 << 4, &body, out);
    }
}

fn packet(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    let mut left = body.len();
    loop {
        let more = left >= 128;
        out.push((left % 128) as u8 | if more { 128 } else { 0 });
        left /= 128;
        if !more {
            break;
        }
    }
    out.extend(body);
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// The bytes that tell everybody.
pub fn tell(out: &mut Vec<u8>) {
    packet(
        PUBLISH << 4,
        &[text(TOPIC), vec![b'x'; TOLD_BYTES]].concat(),
        out,
    );
}

impl Dialect for Mqtt {
    fn greeting(&mut self, out: &mut Vec<u8>) {
        self.connect(out);
        packet(
            8 << 4 | 2,
            &[vec![0, 1], text(TOPIC), vec![0]].concat(),
            out,
        );
    }

    fn beat(&mut self, out: &mut Vec<u8>) {
        packet(PUBLISH << 4, &[text(b"beat"), vec![b'x'; 16]].concat(), out);
    }

    fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        _out: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> Result<()> {
        let mut at = 0;
        while inbox.len() - at >= 2 {
            let (mut length, mut size) = (0, 0);
            let mut whole = false;
            for byte in inbox[at + 1..].iter().take(4) {
                length |= usize::from(byte & 127) << (7 * size);
                size += 1;
                whole = byte & 128 == 0;
                if whole {
                    break;
                }
            }
            if !whole || inbox.len() - at < 1 + size + length {
                break;
            }
            let body = &inbox[at + 1 + size..at + 1 + size + length];
            match inbox[at] >> 4 {
                CONNACK if body.get(1) != Some(&0) => bail!("the broker refuses: {body:?}"),
                SUBACK => heard.push(Heard::Ready),
                PUBLISH => heard.push(Heard::Told { stopped: true }),
                _ => {}
            }
            at += 1 + size + length;
        }
        inbox.drain(..at);
        Ok(())
    }
}
