//! The frames of an agent's session.
//!
//! A frame that fails to decode with [`DecodeError::is_unknown`] comes from a newer peer: the
//! receiver skips it. Every other failure ends the session.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{clip, id, ids, message, messages, need, text, texts};
use crate::observed::unknown_body;
use crate::pb;
use crate::pb::{agent_frame, server_frame};
use prost::Message;
use ringward_domain::limits::{AUDIT_PROOF_MAX, LABEL_BYTES_MAX, SIGNALS_PER_BATCH_MAX};
use ringward_domain::session::{
    Begin, BeginRefusal, Heartbeat, Hello, RequestGrant, ToAgent, ToServer,
};
use ringward_domain::signal::Signal;
use ringward_domain::{
    Absence, AuditHead, AuditShown, Epoch, Generation, Millis, Nonce, RolloutId, SignalSeq,
};

/// Bytes of one encoded frame, either way.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Optional abilities an agent names at most.
pub const CAPABILITIES_MAX: usize = 32;

/// How many of these signals, from the first on, fit into one frame. At least 1 unless there are
/// none: the largest signal takes less than 6 KiB.
#[must_use]
pub fn signals_that_fit(signals: &[Signal]) -> usize {
    // Tag and length around a signal, and around the list in its frame, take at most 16 bytes each.
    let mut left = FRAME_BYTES_MAX - 16;
    signals
        .iter()
        .take(SIGNALS_PER_BATCH_MAX)
        .take_while(|signal| {
            let size = pb::Signal::from((*signal).clone()).encoded_len() + 16;
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        })
        .count()
}

impl From<ToServer> for pb::AgentFrame {
    fn from(message: ToServer) -> Self {
        use agent_frame::Body;
        Self {
            body: Some(match message {
                ToServer::Hello(hello) => Body::Hello((*hello).into()),
                ToServer::Heartbeat(beat) => Body::Heartbeat(beat.into()),
                ToServer::Signals(signals) => Body::Signals(pb::Signals {
                    signals: signals.into_iter().map(Into::into).collect(),
                }),
                ToServer::Observed(observed) => Body::Observed((*observed).into()),
                ToServer::RequestGrant(request) => Body::RequestGrant(pb::RequestGrant {
                    nonce: request.nonce.0.to_vec(),
                    rollout: request.rollout.0,
                    release: request.release.0.to_vec(),
                }),
                ToServer::Begin(begin) => Body::Begin(pb::Begin {
                    nonce: begin.nonce.0.to_vec(),
                }),
                ToServer::Absent(absence) => Body::Absent(pb::Absent {
                    absence: absence.code(),
                }),
                ToServer::AuditKnown { size } => Body::AuditKnown(pb::AuditKnown { size }),
            }),
        }
    }
}

impl TryFrom<pb::AgentFrame> for ToServer {
    type Error = DecodeError;
    fn try_from(frame: pb::AgentFrame) -> Result<Self, DecodeError> {
        use agent_frame::Body;
        match frame.body.ok_or_else(|| unknown_body().within("body"))? {
            Body::Hello(hello) => Hello::try_from(hello)
                .map(|hello| Self::Hello(Box::new(hello)))
                .map_err(|e| e.within("hello")),
            Body::Heartbeat(beat) => Heartbeat::try_from(beat)
                .map(Self::Heartbeat)
                .map_err(|e| e.within("heartbeat")),
            Body::Signals(signals) => {
                messages("signals", signals.signals, SIGNALS_PER_BATCH_MAX).map(Self::Signals)
            }
            Body::Observed(observed) => observed
                .try_into()
                .map(|observed| Self::Observed(Box::new(observed)))
                .map_err(|e: DecodeError| e.within("observed")),
            Body::RequestGrant(request) => Ok(Self::RequestGrant(RequestGrant {
                nonce: id("request_grant.nonce", &request.nonce)?,
                rollout: RolloutId(request.rollout),
                release: id("request_grant.release", &request.release)?,
            })),
            Body::Begin(begin) => Ok(Self::Begin(Begin {
                nonce: id("begin.nonce", &begin.nonce)?,
            })),
            Body::Absent(absent) => {
                Absence::decode("absent.absence", absent.absence).map(Self::Absent)
            }
            Body::AuditKnown(known) => Ok(Self::AuditKnown { size: known.size }),
        }
    }
}

fn accepted((epoch, generation): (Epoch, Generation)) -> pb::Accepted {
    pb::Accepted {
        epoch: epoch.0,
        generation: generation.0,
    }
}

fn read_accepted(accepted: Option<pb::Accepted>) -> Result<(Epoch, Generation), DecodeError> {
    let accepted = need("accepted", accepted)?;
    Ok((Epoch(accepted.epoch), Generation(accepted.generation)))
}

impl From<Hello> for pb::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            capabilities: hello
                .capabilities
                .into_iter()
                .take(CAPABILITIES_MAX)
                .map(|capability| clip(capability, LABEL_BYTES_MAX))
                .collect(),
            agent_version: clip(hello.agent_version, LABEL_BYTES_MAX),
            boot: hello.boot.0.to_vec(),
            agent_start: hello.agent_start.0.to_vec(),
            boottime_ms: hello.boottime.0,
            last_stop_clean: hello.last_stop_clean,
            accepted: Some(accepted(hello.accepted)),
            next_signal: hello.next_signal.0,
            facts: Some(hello.facts.into()),
            observed: Some(hello.observed.into()),
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = DecodeError;
    fn try_from(hello: pb::Hello) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            capabilities: texts(
                "capabilities",
                hello.capabilities,
                CAPABILITIES_MAX,
                LABEL_BYTES_MAX,
            )?,
            agent_version: text("agent_version", hello.agent_version, LABEL_BYTES_MAX)?,
            boot: id("boot", &hello.boot)?,
            agent_start: id("agent_start", &hello.agent_start)?,
            boottime: Millis(hello.boottime_ms),
            last_stop_clean: hello.last_stop_clean,
            accepted: read_accepted(hello.accepted)?,
            next_signal: SignalSeq(hello.next_signal),
            facts: message("facts", hello.facts)?,
            observed: message("observed", hello.observed)?,
        })
    }
}

impl From<Heartbeat> for pb::Heartbeat {
    fn from(beat: Heartbeat) -> Self {
        Self {
            accepted: Some(accepted(beat.accepted)),
            boottime_ms: beat.boottime.0,
            soak: beat.soaked.map(|(nonce, soaked)| pb::Soak {
                nonce: nonce.0.to_vec(),
                soaked_ms: soaked.0,
            }),
        }
    }
}

impl TryFrom<pb::Heartbeat> for Heartbeat {
    type Error = DecodeError;
    fn try_from(beat: pb::Heartbeat) -> Result<Self, DecodeError> {
        let soaked = match beat.soak {
            Some(soak) => Some((id("soak.nonce", &soak.nonce)?, Millis(soak.soaked_ms))),
            None => None,
        };
        Ok(Self {
            accepted: read_accepted(beat.accepted)?,
            boottime: Millis(beat.boottime_ms),
            soaked,
        })
    }
}

impl From<AuditShown> for pb::AuditHead {
    fn from(shown: AuditShown) -> Self {
        Self {
            size: shown.head.size,
            root: shown.head.root.0.to_vec(),
            from: shown.from,
            proof: shown
                .proof
                .into_iter()
                .map(|hash| hash.0.to_vec())
                .collect(),
        }
    }
}

impl TryFrom<pb::AuditHead> for AuditShown {
    type Error = DecodeError;
    fn try_from(shown: pb::AuditHead) -> Result<Self, DecodeError> {
        Ok(Self {
            head: AuditHead {
                size: shown.size,
                root: id("root", &shown.root)?,
            },
            from: shown.from,
            proof: ids("proof", shown.proof, AUDIT_PROOF_MAX)?,
        })
    }
}

impl From<ToAgent> for pb::ServerFrame {
    fn from(message: ToAgent) -> Self {
        use server_frame::Body;
        let raw = |nonce: Nonce| nonce.0.to_vec();
        Self {
            body: Some(match message {
                ToAgent::Welcome { protocol } => Body::Welcome(pb::Welcome { protocol }),
                ToAgent::Desired(desired) => Body::Desired((*desired).into()),
                ToAgent::Grant { nonce, life } => Body::Grant(pb::Grant {
                    nonce: raw(nonce),
                    life_ms: life.0,
                }),
                ToAgent::Wait {
                    nonce,
                    why,
                    retry_after,
                } => Body::Wait(pb::Wait {
                    nonce: raw(nonce),
                    why: Some(why.into()),
                    retry_after_ms: retry_after.0,
                }),
                ToAgent::Begun { nonce } => Body::Begun(pb::Begun { nonce: raw(nonce) }),
                ToAgent::BeginRefused { nonce, why } => Body::BeginRefused(pb::BeginRefused {
                    nonce: raw(nonce),
                    why: why.code(),
                }),
                ToAgent::SignalsDurable { through } => {
                    Body::SignalsDurable(pb::SignalsDurable { through: through.0 })
                }
                ToAgent::ComeBack { after } => Body::ComeBack(pb::ComeBack { after_ms: after.0 }),
                ToAgent::AuditHead(shown) => Body::AuditHead((*shown).into()),
            }),
        }
    }
}

impl TryFrom<pb::ServerFrame> for ToAgent {
    type Error = DecodeError;
    fn try_from(frame: pb::ServerFrame) -> Result<Self, DecodeError> {
        use server_frame::Body;
        Ok(
            match frame.body.ok_or_else(|| unknown_body().within("body"))? {
                Body::Welcome(welcome) => Self::Welcome {
                    protocol: welcome.protocol,
                },
                Body::Desired(desired) => {
                    Self::Desired(Box::new(message("desired", Some(desired))?))
                }
                Body::Grant(grant) => Self::Grant {
                    nonce: id("grant.nonce", &grant.nonce)?,
                    life: Millis(grant.life_ms),
                },
                Body::Wait(wait) => Self::Wait {
                    nonce: id("wait.nonce", &wait.nonce)?,
                    why: message("wait.why", wait.why)?,
                    retry_after: Millis(wait.retry_after_ms),
                },
                Body::Begun(begun) => Self::Begun {
                    nonce: id("begun.nonce", &begun.nonce)?,
                },
                Body::BeginRefused(refused) => Self::BeginRefused {
                    nonce: id("begin_refused.nonce", &refused.nonce)?,
                    why: BeginRefusal::decode("begin_refused.why", refused.why)?,
                },
                Body::SignalsDurable(durable) => Self::SignalsDurable {
                    through: SignalSeq(durable.through),
                },
                Body::ComeBack(back) => Self::ComeBack {
                    after: Millis(back.after_ms),
                },
                Body::AuditHead(shown) => {
                    Self::AuditHead(Box::new(message("audit_head", Some(shown))?))
                }
            },
        )
    }
}
