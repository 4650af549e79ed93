//! gRPC over just enough of HTTP/2 (RFC 9113): one stream, no header is read. A real client costs the
//! machine as much as the server that is measured.

use super::canary::Canary;
use super::{Dialect, Heard};
use crate::host;
use anyhow::{Result, bail};
use prost::Message;
use ringward_domain::session::ToServer;
use ringward_suite::hostile::h2::{END_HEADERS, END_STREAM, PREFACE, frame, head, kind, message};
use ringward_suite::hosts;
use ringward_wire::pb;
use ringward_wire::pb::server_frame::Body;
use std::collections::VecDeque;

const ACK: u8 = 1;
const STREAM: u32 = 1;
/// Bytes of our frames' heads and of a message's.
const FRAME_HEAD: usize = 9;
const MESSAGE_HEAD: usize = 5;
/// Received bytes after which more are asked for; the window of both sides begins at 65,535.
const REFILL: u32 = 16 * 1024;
const FRAME_BYTES_MAX: usize = 64 * 1024;
const INITIAL_WINDOW: i64 = 65_535;
const SETTINGS_INITIAL_WINDOW: u16 = 4;

/// A call.
#[derive(Debug)]
pub struct Grpc {
    head: Vec<u8>,
    first: Vec<u8>,
    unary: bool,
    /// Messages of the answer that nobody has taken yet, where the call is no session.
    pub answers: VecDeque<Vec<u8>>,
    /// Newest desired state accepted: told in heartbeats, as an agent does.
    accepted: pb::Accepted,
    canary: Option<Canary>,
    body: Vec<u8>,
    received: u32,
    stream_window: i64,
    connection_window: i64,
    initial_window: i64,
}

impl Grpc {
    /// A session of host number `index`, whose next signal has this seq.
    pub fn session(index: usize, next_signal: u64) -> Self {
        let hello = host::hello(index, next_signal);
        let frame: pb::AgentFrame = ToServer::Hello(Box::new(hello)).into();
        Self {
            canary: Canary::new(index),
            ..Self::call("Session", frame.encode_to_vec(), false)
        }
    }

    /// A call with one message.
    pub fn unary(method: &str, request: &impl Message) -> Self {
        Self::call(method, request.encode_to_vec(), true)
    }

    fn call(method: &str, first: Vec<u8>, unary: bool) -> Self {
        Self {
            head: head(method),
            first,
            unary,
            answers: VecDeque::new(),
            accepted: pb::Accepted::default(),
            canary: None,
            body: Vec::new(),
            received: 0,
            stream_window: INITIAL_WINDOW,
            connection_window: INITIAL_WINDOW,
            initial_window: INITIAL_WINDOW,
        }
    }

    fn data(&mut self, bytes: &[u8], flags: u8, out: &mut Vec<u8>) {
        let payload = message(bytes);
        self.stream_window -= payload.len() as i64;
        self.connection_window -= payload.len() as i64;
        out.extend(frame(kind::DATA, flags, STREAM, &payload));
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            if id == SETTINGS_INITIAL_WINDOW {
                self.stream_window += i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
            }
        }
    }

    fn window_update(&mut self, stream: u32, payload: &[u8]) {
        let Ok(bytes) = payload.try_into().map(u32::from_be_bytes) else {
            return;
        };
        match stream {
            0 => self.connection_window += i64::from(bytes),
            _ => self.stream_window += i64::from(bytes),
        }
    }

    fn refill(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.received += bytes as u32;
        if self.received >= REFILL {
            let room = self.received.to_be_bytes();
            for stream in [0, STREAM] {
                out.extend(frame(kind::WINDOW_UPDATE, 0, stream, &room));
            }
            self.received = 0;
        }
    }

    fn say(&mut self, message: ToServer, out: &mut Vec<u8>) {
        let frame: pb::AgentFrame = message.into();
        self.data(&frame.encode_to_vec(), 0, out);
    }

    fn messages(&mut self, out: &mut Vec<u8>, heard: &mut Vec<Heard>) -> Result<()> {
        let mut at = 0;
        while let Some(length) = self.body.get(at + 1..at + MESSAGE_HEAD) {
            let length = length.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            let Some(bytes) = self.body.get(at + MESSAGE_HEAD..at + MESSAGE_HEAD + length) else {
                break;
            };
            at += MESSAGE_HEAD + length;
            if self.unary {
                self.answers.push_back(bytes.to_vec());
                heard.push(Heard::Answer);
                continue;
            }
            let frame = pb::ServerFrame::decode(bytes)?;
            if let Some(canary) = &mut self.canary {
                let said = canary.hears(&frame, heard);
                self.body.drain(..std::mem::take(&mut at));
                for message in said {
                    self.say(message, out);
                }
            }
            heard.extend(match frame.body {
                Some(Body::Welcome(_)) => Some(Heard::Ready),
                Some(Body::Desired(desired)) => {
                    self.accepted = pb::Accepted {
                        epoch: desired.epoch,
                        generation: desired.generation,
                    };
                    Some(Heard::Told {
                        stopped: desired.stopped,
                    })
                }
                Some(Body::SignalsDurable(durable)) => Some(Heard::Durable(durable.through)),
                Some(Body::ComeBack(_)) => Some(Heard::Ended),
                _ => None,
            });
        }
        self.body.drain(..at);
        Ok(())
    }
}

impl Dialect for Grpc {
    fn greeting(&mut self, out: &mut Vec<u8>) {
        out.extend(PREFACE);
        out.extend(frame(kind::SETTINGS, 0, 0, &[]));
        out.extend(frame(kind::HEADERS, END_HEADERS, STREAM, &self.head));
        let first = std::mem::take(&mut self.first);
        let flags = if self.unary { END_STREAM } else { 0 };
        self.data(&first, flags, out);
    }

    fn beat(&mut self, out: &mut Vec<u8>) {
        let beat = pb::AgentFrame {
            body: Some(pb::agent_frame::Body::Heartbeat(pb::Heartbeat {
                accepted: Some(self.accepted),
                boottime_ms: host::boottime().0,
                soak: None,
            })),
        };
        self.data(&beat.encode_to_vec(), 0, out);
    }

    fn signals(&mut self, first: u64, count: u64, out: &mut Vec<u8>) {
        let signals = (first..first + count)
            .map(|seq| hosts::change(seq, "unit:edge-sensor.service"))
            .collect();
        let batch: pb::AgentFrame = ToServer::Signals(signals).into();
        self.data(&batch.encode_to_vec(), 0, out);
    }

    fn credit(&self) -> i64 {
        self.stream_window.min(self.connection_window)
    }

    fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        out: &mut Vec<u8>,
        heard: &mut Vec<Heard>,
    ) -> Result<()> {
        let mut at = 0;
        while let Some(front) = inbox.get(at..at + FRAME_HEAD) {
            let length = front[..3].iter().fold(0, |n, b| n << 8 | usize::from(*b));
            if length > FRAME_BYTES_MAX {
                bail!("a frame of {length} bytes");
            }
            let (what, flags) = (front[3], front[4]);
            let stream = u32::from_be_bytes([front[5], front[6], front[7], front[8]]);
            let Some(payload) = inbox.get(at + FRAME_HEAD..at + FRAME_HEAD + length) else {
                break;
            };
            match what {
                kind::DATA => {
                    self.body.extend(payload);
                    self.refill(length, out);
                    self.messages(out, heard)?;
                }
                kind::SETTINGS if flags & ACK == 0 => {
                    self.settings(payload);
                    out.extend(frame(kind::SETTINGS, ACK, 0, &[]));
                }
                kind::PING if flags & ACK == 0 => {
                    out.extend(frame(kind::PING, ACK, 0, payload));
                }
                kind::WINDOW_UPDATE => self.window_update(stream, payload),
                // A GOAWAY ends nothing: what is open is answered to its end.
                kind::RST_STREAM => heard.push(Heard::Ended),
                _ => {}
            }
            if matches!(what, kind::DATA | kind::HEADERS) && flags & END_STREAM != 0 {
                heard.push(Heard::Ended);
            }
            at += FRAME_HEAD + length;
        }
        inbox.drain(..at);
        Ok(())
    }
}
