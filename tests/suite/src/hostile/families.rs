//! What hostile and broken peers send: each family is one way to be a bad client.

use super::h2::{END_HEADERS, END_STREAM, Line, PREFACE, field, frame, head, kind, message, tcp};
use crate::hosts;
use prost::Message as _;
use ringward_agent::identity::Identity;
use ringward_domain::limits::SIGNALS_PER_BATCH_MAX;
use ringward_domain::observed::{AttemptObserved, Observed, PhaseObserved};
use ringward_domain::session::{Begin, Heartbeat, RequestGrant, ToServer};

use ringward_domain::{Epoch, Generation, Millis, Nonce, ReleaseDigest, RolloutId};
use ringward_wire::pb;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_rustls::rustls::ClientConfig;

/// One way to be a bad client.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Random bytes instead of TLS.
    TlsJunk,
    /// The beginning of a handshake, and nothing more.
    HalfOpen,
    /// A handshake without certificate, and nothing more.
    TlsIdle,
    /// Random bytes instead of HTTP/2.
    BadPreface,
    /// Streams that are reset as soon as they are opened.
    RapidReset,
    /// A head without end.
    ContinuationFlood,
    /// A message byte by byte.
    TinyData,
    /// Frames of a body without a byte in them.
    EmptyData,
    /// Asks and asks, and reads no answer.
    SlowReader,
    /// Many messages of which a byte comes now and then.
    SlowWriter,
    /// Heads larger than any limit.
    GiantHeaders,
    /// Settings, again and again.
    SettingsFlood,
    /// Pings, again and again.
    PingFlood,
    /// Windows that overflow, priorities, kinds of frames that do not exist.
    OddFrames,
    /// Frames that are no messages.
    BadProtobuf,
    /// A message said to be larger than any may be.
    OversizedMessage,
    /// The same begin again and again, for a grant that was never given.
    ReplayedBegin,
    /// States of an epoch and generation that the server never made.
    ForgedGeneration,
    /// Attempts and soaks of rollouts that are not there.
    ForgedAttempt,
    /// Messages before the hello, and two hellos.
    OutOfOrder,
    /// Sessions that end as soon as they are open.
    SessionChurn,
    /// Enrolments with tokens that do not exist.
    EnrolFlood,
    /// A host's certificate at the admins' door.
    WrongDoor,
    /// A host that has 64 signals to tell in each message, and never an end of them.
    SignalFlood,
    /// A thousand sessions begun on one connection, none with a whole hello.
    ManyStreams,
}

/// Where and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// The agents' listener.
    pub agents: SocketAddr,
    /// The admins' listener.
    pub admins: SocketAddr,
    /// An enrolled host.
    pub identity: Identity,
    /// TLS without certificate.
    pub stranger: Arc<ClientConfig>,
    /// Where the attacks come from.
    pub from: Ipv4Addr,
}

/// Sends until the server closes the line or the allowance is used; answers the frames sent.
pub struct Attack<'a> {
    target: &'a Target,
    random: fastrand::Rng,
    /// Frames sent on earlier connections.
    before: u64,
    /// Frames that may still be sent.
    left: u64,
    /// Frames sent.
    pub sent: u64,
}

/// Frames written in one go.
const BURST: u64 = 32;
/// How long a flood waits for room: far longer than a server that slows it to 50 messages a second
/// lets 64 of them wait.
const FLOOD_PATIENCE: Duration = Duration::from_secs(10);
/// How long lines that only take up room are kept: holding on is the attack, so no state of the server
/// tells that it is over.
const HELD: Duration = Duration::from_millis(300);
/// Streams that one connection tries to hold open.
const STREAMS: usize = 1_000;

impl<'a> Attack<'a> {
    /// One connection's worth of an attack, of at most `left` frames, after so many on others.
    #[must_use]
    pub fn new(target: &'a Target, random: fastrand::Rng, before: u64, left: u64) -> Self {
        Self {
            target,
            random,
            before,
            left,
            sent: 0,
        }
    }

    /// Carries it out on one connection.
    ///
    /// # Errors
    /// How the server ended it.
    pub async fn run(&mut self, family: Family) -> io::Result<()> {
        match family {
            Family::TlsJunk => self.tls_junk().await,
            Family::HalfOpen => self.half_open().await,
            Family::TlsIdle => self.tls_idle().await,
            Family::BadPreface => self.bad_preface().await,
            Family::RapidReset => self.rapid_reset().await,
            Family::ContinuationFlood => self.continuation_flood().await,
            Family::TinyData => self.one_long_message(1).await,
            Family::EmptyData => self.one_long_message(0).await,
            Family::SlowReader => self.slow_reader().await,
            Family::SlowWriter => self.slow_writer().await,
            Family::GiantHeaders => self.giant_headers().await,
            Family::SettingsFlood => {
                self.repeat(|_| frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))
                    .await
            }
            Family::PingFlood => {
                self.repeat(|random| frame(kind::PING, 0, 0, &random.u64(..).to_be_bytes()))
                    .await
            }
            Family::OddFrames => self.repeat(odd_frame).await,
            Family::BadProtobuf => self.messages(false, bad_protobuf).await,
            Family::OversizedMessage => {
                self.messages(false, |_| vec![0, 0xff, 0xff, 0xff, 0xff, 1])
                    .await
            }
            Family::ReplayedBegin => self.messages(true, replayed_begin).await,
            Family::ForgedGeneration => self.messages(true, forged_generation).await,
            Family::ForgedAttempt => self.messages(true, forged_attempt).await,
            Family::OutOfOrder => self.messages(false, out_of_order).await,
            Family::SessionChurn => self.session_churn().await,
            Family::EnrolFlood => self.enrol_flood().await,
            Family::WrongDoor => self.wrong_door().await,
            Family::SignalFlood => self.signal_flood().await,
            Family::ManyStreams => self.many_streams().await,
        }
    }

    async fn line(&self) -> io::Result<Line> {
        self.line_that(true).await
    }

    async fn line_that(&self, reads: bool) -> io::Result<Line> {
        let Target {
            agents,
            identity,
            from,
            ..
        } = self.target;
        let mut line = Line::open(*agents, *from, &identity.tls, reads).await?;
        line.greet().await?;
        Ok(line)
    }

    fn count(&mut self, frames: u64) {
        self.sent += frames;
        self.left = self.left.saturating_sub(frames);
    }

    /// The same kind of frame until the server has enough.
    async fn repeat(&mut self, make: impl Fn(&mut fastrand::Rng) -> Vec<u8>) -> io::Result<()> {
        let mut line = self.line().await?;
        while self.left > 0 {
            let burst = BURST.min(self.left);
            let bytes: Vec<u8> = (0..burst).flat_map(|_| make(&mut self.random)).collect();
            line.send(&bytes).await?;
            self.count(burst);
        }
        Ok(())
    }

    async fn tls_junk(&mut self) -> io::Result<()> {
        let mut tcp = tcp(self.target.agents, self.target.from).await?;
        let mut junk = [0; 64];
        self.random.fill(&mut junk);
        if self.random.bool() {
            // As if it were a record of a handshake.
            junk[..5].copy_from_slice(&[0x16, 3, 1, 0, 59]);
        }
        tcp.write_all(&junk).await?;
        self.count(1);
        Ok(())
    }

    async fn half_open(&mut self) -> io::Result<()> {
        let mut held = Vec::new();
        for _ in 0..BURST.min(self.left) {
            let mut tcp = tcp(self.target.agents, self.target.from).await?;
            tcp.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3])
                .await?;
            self.count(1);
            held.push(tcp);
        }
        tokio::time::sleep(HELD).await;
        Ok(())
    }

    async fn tls_idle(&mut self) -> io::Result<()> {
        let Target {
            agents,
            stranger,
            from,
            ..
        } = self.target;
        let _line = Line::open(*agents, *from, stranger, true).await?;
        self.count(1);
        tokio::time::sleep(HELD).await;
        Ok(())
    }

    async fn bad_preface(&mut self) -> io::Result<()> {
        let Target {
            agents,
            identity,
            from,
            ..
        } = self.target;
        let mut line = Line::open(*agents, *from, &identity.tls, true).await?;
        let mut junk = vec![0; 256];
        self.random.fill(&mut junk);
        if self.random.bool() {
            junk[..PREFACE.len()].copy_from_slice(PREFACE);
        }
        for _ in 0..4 {
            line.send(&junk).await?;
            self.count(1);
        }
        Ok(())
    }

    async fn rapid_reset(&mut self) -> io::Result<()> {
        let mut line = self.line().await?;
        let head = head("GetRelease");
        for stream in (1..).step_by(2) {
            if self.left == 0 {
                break;
            }
            let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head);
            bytes.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            line.send(&bytes).await?;
            self.count(2);
        }
        Ok(())
    }

    async fn continuation_flood(&mut self) -> io::Result<()> {
        let mut line = self.line().await?;
        line.send(&frame(kind::HEADERS, 0, 1, &head("Session")))
            .await?;
        let more = field("x-more", "and more");
        while self.left > 0 {
            let bytes: Vec<u8> = (0..BURST)
                .flat_map(|_| frame(kind::CONTINUATION, 0, 1, &more))
                .collect();
            line.send(&bytes).await?;
            self.count(BURST);
        }
        Ok(())
    }

    /// A message that is announced and then comes in pieces of `size`.
    async fn one_long_message(&mut self, size: usize) -> io::Result<()> {
        let mut line = self.line().await?;
        line.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("Session")))
            .await?;
        line.send(&frame(kind::DATA, 0, 1, &[0, 0, 0, 0xff, 0]))
            .await?;
        while self.left > 0 {
            let bytes: Vec<u8> = (0..BURST)
                .flat_map(|_| frame(kind::DATA, 0, 1, &vec![7; size]))
                .collect();
            line.send(&bytes).await?;
            self.count(BURST);
        }
        Ok(())
    }

    async fn slow_reader(&mut self) -> io::Result<()> {
        let mut line = self.line_that(false).await?;
        for stream in (1..32).step_by(2) {
            let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head("GetRelease"));
            bytes.extend(frame(kind::DATA, END_STREAM, stream, &message(&[10, 1, 7])));
            line.send(&bytes).await?;
            self.count(2);
        }
        // Each wants an answer that nobody will read.
        while self.left > 0 {
            let bytes: Vec<u8> = (0..BURST)
                .flat_map(|_| frame(kind::PING, 0, 0, &[1; 8]))
                .collect();
            line.send(&bytes).await?;
            self.count(BURST);
        }
        Ok(())
    }

    async fn slow_writer(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for _ in 0..16 {
            let mut line = self.line().await?;
            line.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("Session")))
                .await?;
            line.send(&frame(kind::DATA, 0, 1, &[0, 0, 0, 1, 0]))
                .await?;
            lines.push(line);
        }
        for _ in 0..10 {
            for line in &mut lines {
                line.send(&frame(kind::DATA, 0, 1, &[7])).await?;
                self.count(1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn giant_headers(&mut self) -> io::Result<()> {
        let mut line = self.line().await?;
        let giant = field("x-giant", &"x".repeat(12_000));
        for stream in (1..).step_by(2) {
            if self.left == 0 {
                break;
            }
            let mut bytes = frame(kind::HEADERS, 0, stream, &head("GetRelease"));
            bytes.extend(frame(kind::CONTINUATION, 0, stream, &giant));
            bytes.extend(frame(kind::CONTINUATION, END_HEADERS, stream, &giant));
            line.send(&bytes).await?;
            self.count(3);
        }
        Ok(())
    }

    /// A session whose messages are not what they should be.
    async fn messages(
        &mut self,
        hello: bool,
        make: impl Fn(&mut fastrand::Rng) -> Vec<u8>,
    ) -> io::Result<()> {
        let mut line = self.line().await?;
        line.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("Session")))
            .await?;
        if hello {
            let hello = ToServer::Hello(Box::new(crate::chatter::hello("hostile", 1)));
            line.send(&frame(kind::DATA, 0, 1, &wire(hello))).await?;
        }
        while self.left > 0 {
            let bytes: Vec<u8> = (0..BURST)
                .flat_map(|_| frame(kind::DATA, 0, 1, &make(&mut self.random)))
                .collect();
            line.send(&bytes).await?;
            self.count(BURST);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn session_churn(&mut self) -> io::Result<()> {
        let mut line = self.line().await?;
        let hello = ToServer::Hello(Box::new(crate::chatter::hello("hostile", 1)));
        let hello = wire(hello);
        for stream in (1..).step_by(2) {
            if self.left == 0 {
                break;
            }
            let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head("Session"));
            bytes.extend(frame(kind::DATA, END_STREAM, stream, &hello));
            line.send(&bytes).await?;
            self.count(2);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn enrol_flood(&mut self) -> io::Result<()> {
        let Target {
            agents,
            stranger,
            from,
            ..
        } = self.target;
        let mut line = Line::open(*agents, *from, stranger, true).await?;
        line.greet().await?;
        for stream in (1..).step_by(2) {
            if self.left == 0 {
                break;
            }
            let mut secret = [0; 32];
            self.random.fill(&mut secret);
            let request = pb::EnrollRequest {
                secret: secret.to_vec(),
                csr_der: vec![0x30; 200],
                facts: Some(crate::hosts::facts("hostile").into()),
                agent_version: "0".to_owned(),
            };
            let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head("Enroll"));
            let body = message(&request.encode_to_vec());
            bytes.extend(frame(kind::DATA, END_STREAM, stream, &body));
            line.send(&bytes).await?;
            self.count(2);
        }
        Ok(())
    }

    async fn wrong_door(&mut self) -> io::Result<()> {
        let Target {
            admins,
            identity,
            from,
            ..
        } = self.target;
        self.count(1);
        let mut line = Line::open(*admins, *from, &identity.tls, true).await?;
        line.greet().await?;
        line.send(&frame(kind::HEADERS, END_HEADERS, 1, &head("Session")))
            .await
    }

    /// As fast as the server takes them: what it does not take, HTTP/2's windows hold back.
    async fn signal_flood(&mut self) -> io::Result<()> {
        let per_frame = SIGNALS_PER_BATCH_MAX as u64;
        let mut next = self.before * per_frame + 1;
        let hello = crate::chatter::hello("hostile", next);
        let opened = crate::chatter::open(&self.target.identity, hello).await;
        let (out, mut answers) = opened.map_err(io::Error::other)?;
        let answered =
            tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        while self.left > 0 && !answered.is_finished() {
            let signals = (next..next + per_frame)
                .map(|seq| hosts::change(seq, "flood"))
                .collect();
            let sent = out.send(ToServer::Signals(signals).into());
            match tokio::time::timeout(FLOOD_PATIENCE, sent).await {
                Ok(Ok(())) => self.count(1),
                Ok(Err(_)) | Err(_) => break,
            }
            next += per_frame;
        }
        answered.abort();
        Ok(())
    }

    async fn many_streams(&mut self) -> io::Result<()> {
        let mut line = self.line().await?;
        for stream in (1..).step_by(2).take(STREAMS) {
            if self.left == 0 {
                break;
            }
            let mut bytes = frame(kind::HEADERS, END_HEADERS, stream, &head("Session"));
            bytes.extend(frame(kind::DATA, 0, stream, &[0, 0, 0, 0xff, 0, 7]));
            line.send(&bytes).await?;
            self.count(2);
        }
        tokio::time::sleep(HELD).await;
        Ok(())
    }
}

fn wire(message_of: ToServer) -> Vec<u8> {
    message(&pb::AgentFrame::from(message_of).encode_to_vec())
}

fn odd_frame(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(0..4) {
        0 => frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        1 => frame(
            kind::PRIORITY,
            0,
            random.u32(1..99) * 2 + 1,
            &[0, 0, 0, 0, 9],
        ),
        2 => frame(random.u8(0x10..), random.u8(..), 0, &[7; 30]),
        _ => frame(kind::WINDOW_UPDATE, 0, 0, &16_u32.to_be_bytes()),
    }
}

fn bad_protobuf(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut junk = vec![0; random.usize(1..64)];
    random.fill(&mut junk);
    message(&junk)
}

fn replayed_begin(random: &mut fastrand::Rng) -> Vec<u8> {
    let nonce = Nonce([7; 16]);
    if random.u8(0..8) == 0 {
        return wire(ToServer::RequestGrant(RequestGrant {
            nonce,
            rollout: RolloutId(1),
            release: ReleaseDigest([7; 32]),
        }));
    }
    wire(ToServer::Begin(Begin { nonce }))
}

fn forged_generation(random: &mut fastrand::Rng) -> Vec<u8> {
    wire(ToServer::Heartbeat(Heartbeat {
        accepted: (Epoch(random.u64(..)), Generation(random.u64(..))),
        boottime: Millis(random.u64(..)),
        soaked: None,
    }))
}

fn forged_attempt(random: &mut fastrand::Rng) -> Vec<u8> {
    let nonce = Nonce(random.u128(..).to_be_bytes());
    if random.bool() {
        return wire(ToServer::Heartbeat(Heartbeat {
            accepted: (Epoch(1), Generation(1)),
            boottime: Millis(1),
            soaked: Some((nonce, Millis(random.u64(..)))),
        }));
    }
    wire(ToServer::Observed(Box::new(Observed {
        attempt: Some(AttemptObserved {
            nonce,
            rollout: RolloutId(random.u64(..)),
            package: "forged".parse().expect("a package name"),
            release: ReleaseDigest([9; 32]),
            phase: PhaseObserved::Applied,
        }),
        ..Observed::default()
    })))
}

fn out_of_order(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.bool() {
        true => replayed_begin(random),
        false => wire(ToServer::Hello(Box::new(crate::chatter::hello(
            "hostile", 1,
        )))),
    }
}
