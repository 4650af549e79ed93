//! What people want to read about the fleet's switches and the decisions do not need: who pulled the
//! andon and who applied the policy.

use super::batch::Work;
use crate::clock::unix_ms;
use crate::storage::{META, to_json};
use ringward_domain::command::{Action, Command};
use ringward_store::Key;
use serde::{Deserialize, Serialize};

/// Id of the notes within [`META`].
pub const NOTES: &[u8] = b"notes";

/// Who did something, why and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
}

/// The notes; written with the command they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notes {
    /// Who pulled the andon last.
    pub andon: By,
    /// Who applied the policy in force.
    pub policy: By,
}

impl Notes {
    /// Where they are kept.
    pub fn key() -> Key {
        Key {
            kind: META,
            id: NOTES.to_vec(),
        }
    }

    pub(super) fn note(&mut self, command: &Command, work: &mut Work) {
        let of = match &command.action {
            Action::StopAll => &mut self.andon,
            Action::ApplyPolicy(_) => &mut self.policy,
            _ => return,
        };
        *of = By {
            actor: command.actor.clone(),
            reason: command.reason.clone(),
            at_unix_ms: unix_ms(),
        };
        work.put(Self::key(), to_json(self));
    }
}
