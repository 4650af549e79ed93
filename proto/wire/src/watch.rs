//! What happens, as it happens.

use crate::error::DecodeError;
use crate::field::{clip, maybe, message, text};
use crate::observed::{UNIT, unknown_body};
use crate::pb;
use ringward_domain::RolloutId;
use ringward_domain::limits::{REASON_BYTES_MAX, TITLE_BYTES_MAX};
use ringward_domain::report::RolloutView;
use serde::Serialize;

/// Rollouts that one watch may name.
pub const WATCHED_MAX: usize = 64;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// A rollout as it stands now.
    Rollout(Box<RolloutView>),
    /// Something people should hear of: one line, and the rollout it is about.
    Notice {
        /// In one line.
        line: String,
        /// The rollout it is about.
        rollout: Option<RolloutId>,
    },
    /// The andon as it stands now; `None` while it is not pulled.
    Andon(Option<Andon>),
    /// Everything that stood when the watch began has been told.
    CaughtUp,
}

/// The andon is pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Andon {
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub since_unix_ms: u64,
}

impl From<Andon> for pb::Andon {
    fn from(andon: Andon) -> Self {
        Self {
            actor: clip(andon.actor, TITLE_BYTES_MAX),
            reason: clip(andon.reason, REASON_BYTES_MAX),
            since_unix_ms: andon.since_unix_ms,
        }
    }
}

impl TryFrom<pb::Andon> for Andon {
    type Error = DecodeError;
    fn try_from(andon: pb::Andon) -> Result<Self, DecodeError> {
        Ok(Self {
            actor: text("actor", andon.actor, TITLE_BYTES_MAX)?,
            reason: text("reason", andon.reason, REASON_BYTES_MAX)?,
            since_unix_ms: andon.since_unix_ms,
        })
    }
}

impl From<WatchEvent> for pb::WatchEvent {
    fn from(event: WatchEvent) -> Self {
        use pb::watch_event::Event;
        Self {
            event: Some(match event {
                WatchEvent::Rollout(rollout) => Event::Rollout((*rollout).into()),
                WatchEvent::Notice { line, rollout } => Event::Notice(pb::Notice {
                    line: clip(line, REASON_BYTES_MAX),
                    rollout: rollout.map(|rollout| rollout.0),
                }),
                WatchEvent::Andon(andon) => Event::Andon(pb::AndonChange {
                    andon: andon.map(Into::into),
                }),
                WatchEvent::CaughtUp => Event::CaughtUp(UNIT),
            }),
        }
    }
}

/// A kind of event that this version does not know is an error with
/// [`DecodeError::is_unknown`]: skip it.
impl TryFrom<pb::WatchEvent> for WatchEvent {
    type Error = DecodeError;
    fn try_from(event: pb::WatchEvent) -> Result<Self, DecodeError> {
        use pb::watch_event::Event;
        Ok(
            match event.event.ok_or_else(|| unknown_body().within("event"))? {
                Event::Rollout(rollout) => {
                    Self::Rollout(Box::new(message("rollout", Some(rollout))?))
                }
                Event::Notice(notice) => Self::Notice {
                    line: text("notice.line", notice.line, REASON_BYTES_MAX)?,
                    rollout: notice.rollout.map(RolloutId),
                },
                Event::Andon(change) => Self::Andon(maybe("andon.andon", change.andon)?),
                Event::CaughtUp(pb::Unit {}) => Self::CaughtUp,
            },
        )
    }
}
