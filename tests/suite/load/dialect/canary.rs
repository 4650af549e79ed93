//! A host that is always ready and on which every release fails at once: what it takes to halt a
//! rollout, and nothing else.

use super::Heard;
use crate::host;
use ringward_domain::ledger::FailWhy;
use ringward_domain::observed::{
    AttemptObserved, Observed, PhaseObserved, PrepareState, Preparing,
};
use ringward_domain::session::{Begin, RequestGrant, ToAgent, ToServer};
use ringward_domain::{Assignment, Nonce};
use ringward_wire::pb;

/// Hosts that are canaries: two of them halt a rollout.
pub const CANARIES: usize = 400;

/// Its part of a session.
#[derive(Debug)]
pub struct Canary {
    index: usize,
    wanted: Option<Assignment>,
    asked: Option<Nonce>,
    attempt: Option<AttemptObserved>,
}

impl Canary {
    /// Host number `index`, if it is one of them.
    pub fn new(index: usize) -> Option<Self> {
        (index < CANARIES).then_some(Self {
            index,
            wanted: None,
            asked: None,
            attempt: None,
        })
    }

    /// Follows what the server says; answers what this host says to it.
    pub fn hears(&mut self, frame: &pb::ServerFrame, heard: &mut Vec<Heard>) -> Vec<ToServer> {
        let mut said = Vec::new();
        match ToAgent::try_from(frame.clone()) {
            Ok(ToAgent::Desired(desired)) => {
                let Some(wanted) = desired.assignments.into_iter().next() else {
                    return said;
                };
                let tried = self
                    .attempt
                    .as_ref()
                    .is_some_and(|attempt| attempt.rollout == wanted.rollout);
                if tried {
                    return said;
                }
                let is_new = self.wanted.as_ref().map(|w| w.rollout) != Some(wanted.rollout);
                if is_new {
                    self.asked = None;
                    said.push(self.observed(Some(&wanted)));
                }
                if wanted.invited && self.asked.is_none() {
                    let nonce = self.nonce(&wanted);
                    self.asked = Some(nonce);
                    said.push(ToServer::RequestGrant(RequestGrant {
                        nonce,
                        rollout: wanted.rollout,
                        release: wanted.release,
                    }));
                }
                self.wanted = Some(wanted);
            }
            Ok(ToAgent::Grant { nonce, .. }) => said.push(ToServer::Begin(Begin { nonce })),
            Ok(ToAgent::Wait { .. } | ToAgent::BeginRefused { .. }) => self.asked = None,
            Ok(ToAgent::Begun { nonce }) => {
                if let Some(wanted) = &self.wanted {
                    self.attempt = Some(AttemptObserved {
                        nonce,
                        rollout: wanted.rollout,
                        package: wanted.package.clone(),
                        release: wanted.release,
                        phase: PhaseObserved::Failed(FailWhy::Install),
                    });
                    heard.push(Heard::Fails);
                    said.push(self.observed(None));
                }
            }
            _ => {}
        }
        said
    }

    fn observed(&self, ready: Option<&Assignment>) -> ToServer {
        ToServer::Observed(Box::new(Observed {
            packages: host::packages(),
            preparing: ready.map(|wanted| Preparing {
                rollout: wanted.rollout,
                release: wanted.release,
                state: PrepareState::Ready,
            }),
            attempt: self.attempt.clone(),
            ..Observed::default()
        }))
    }

    /// Another for each ask.
    fn nonce(&self, wanted: &Assignment) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(self.index as u64 + 1).to_be_bytes());
        nonce[8..].copy_from_slice(&(wanted.rollout.0 ^ host::boottime().0).to_be_bytes());
        Nonce(nonce)
    }
}
