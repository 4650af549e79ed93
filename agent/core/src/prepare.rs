//! Getting a release ready to switch: fetched, verified, staged. Needs no grant.

use crate::event::PrepareFailure;
use crate::random::backoff;
use crate::{Effect, Machine};
use ringward_domain::manifest::Manifest;
use ringward_domain::observed::{PrepareError, PrepareState, Preparing, RefuseWhy};
use ringward_domain::{
    Assignment, AssignmentKind, Desired, Millis, PackageName, ReleaseDigest, RolloutId, Timestamp,
    Version,
};
use std::collections::BTreeMap;

/// The start of a download is spread over one heartbeat, at most this.
const SPREAD_MAX: Millis = Millis::secs(10);
/// A failed preparation is tried again after 5 s, doubled up to 10 min, jittered.
const RETRY_BASE: Millis = Millis::secs(5);
const RETRY_MAX: Millis = Millis::mins(10);

/// What is to be prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) rollout: RolloutId,
    pub(crate) kind: AssignmentKind,
    pub(crate) package: PackageName,
    pub(crate) release: ReleaseDigest,
    pub(crate) version: Version,
}

impl Want {
    pub(crate) fn of(assignment: &Assignment) -> Self {
        Self {
            rollout: assignment.rollout,
            kind: assignment.kind,
            package: assignment.package.clone(),
            release: assignment.release,
            version: assignment.version.clone(),
        }
    }

    /// Whether both mean the same switch.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.rollout == other.rollout && self.release == other.release && self.kind == other.kind
    }
}

/// The preparation under way.
#[derive(Debug, Default)]
pub(crate) struct Preparation {
    want: Option<Want>,
    state: State,
    tries: u32,
    /// Final refusals of this process, by rollout and release; only for what is still desired.
    refused: BTreeMap<(RolloutId, ReleaseDigest), RefuseWhy>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// Starts then; after a failure it says which.
    Waiting {
        at: Timestamp,
        failed: Option<PrepareError>,
    },
    Working,
    Ready(Box<Manifest>),
    Refused(RefuseWhy),
}

impl Preparation {
    /// Takes another wish; true if something prepared or under way is of no use any more.
    pub(crate) fn set_want(
        &mut self,
        want: Option<Want>,
        refusal: Option<RefuseWhy>,
        start: Timestamp,
    ) -> bool {
        let same = match (&self.want, &want) {
            (Some(old), Some(new)) => old.is(new),
            (None, None) => true,
            _ => false,
        };
        let refused = matches!(self.state, State::Refused(_));
        if same && refused == refusal.is_some() {
            return false;
        }
        let useless = matches!(self.state, State::Working | State::Ready(_));
        self.state = match (&want, refusal) {
            (None, _) => State::Nothing,
            (Some(_), Some(why)) => State::Refused(why),
            (Some(_), None) => State::Waiting {
                at: start,
                failed: None,
            },
        };
        self.want = want;
        self.tries = 0;
        useless
    }

    /// The manifest of what is ready, if that is `want`.
    pub(crate) fn ready(&self) -> Option<(&Want, &Manifest)> {
        match (&self.want, &self.state) {
            (Some(want), State::Ready(manifest)) => Some((want, manifest)),
            _ => None,
        }
    }

    /// The switch has consumed it.
    pub(crate) fn consumed(&mut self) {
        self.want = None;
        self.state = State::Nothing;
    }

    pub(crate) fn refusal(&self, want: &Want) -> Option<RefuseWhy> {
        self.refused.get(&(want.rollout, want.release)).copied()
    }

    pub(crate) fn forget_refusals_not_in(&mut self, desired: &Desired) {
        self.refused.retain(|(rollout, release), _| {
            desired
                .assignments
                .iter()
                .any(|a| a.rollout == *rollout && a.release == *release)
        });
    }

    pub(crate) fn observed(&self) -> Option<Preparing> {
        let want = self.want.as_ref()?;
        let state = match self.state {
            State::Nothing => return None,
            State::Waiting {
                failed: Some(why), ..
            } => PrepareState::Retrying(why),
            State::Waiting { failed: None, .. } | State::Working => PrepareState::Working,
            State::Ready(_) => PrepareState::Ready,
            State::Refused(why) => PrepareState::Refused(why),
        };
        Some(Preparing {
            rollout: want.rollout,
            release: want.release,
            state,
        })
    }

    pub(crate) fn wakeup(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting { at, .. } => Some(at),
            State::Nothing | State::Working | State::Ready(_) | State::Refused(_) => None,
        }
    }
}

impl Machine {
    /// How long a new preparation waits. A rollback starts at once: its release is known here.
    pub(crate) fn prepare_delay(&mut self, want: Option<&Want>) -> Millis {
        let heartbeat = self.desired.as_ref().map_or(SPREAD_MAX, |d| d.heartbeat);
        match want {
            Some(want)
                if want.kind == AssignmentKind::Install
                    && !self.preparation.want.as_ref().is_some_and(|w| w.is(want)) =>
            {
                self.random
                    .between(Millis::ZERO, Millis(heartbeat.0.min(SPREAD_MAX.0)))
            }
            _ => Millis::ZERO,
        }
    }

    pub(crate) fn settle_prepare(&mut self, now: Timestamp) {
        let State::Waiting { at, .. } = self.preparation.state else {
            return;
        };
        if at > now {
            return;
        }
        if let Some(want) = self.preparation.want.clone() {
            self.preparation.state = State::Working;
            self.out.free(Effect::Prepare {
                rollout: want.rollout,
                package: want.package,
                release: want.release,
                version: want.version,
                kind: want.kind,
            });
        }
    }

    pub(crate) fn on_prepared(
        &mut self,
        rollout: RolloutId,
        release: ReleaseDigest,
        outcome: Result<Box<Manifest>, PrepareFailure>,
        now: Timestamp,
    ) {
        let Some(want) = self.preparation.want.as_ref() else {
            return;
        };
        if (want.rollout, want.release) != (rollout, release)
            || !matches!(self.preparation.state, State::Working)
        {
            return;
        }
        let fits = |manifest: &Manifest| {
            manifest.package == want.package && manifest.version == want.version
        };
        self.preparation.state = match outcome {
            Ok(manifest) if fits(&manifest) => State::Ready(manifest),
            Ok(_) => self
                .preparation
                .refuse((rollout, release), RefuseWhy::Manifest),
            Err(PrepareFailure::Refused(why)) => self.preparation.refuse((rollout, release), why),
            Err(PrepareFailure::Retry(why)) => {
                let tries = self.preparation.tries;
                self.preparation.tries = tries.saturating_add(1);
                State::Waiting {
                    at: now + backoff(&mut self.random, RETRY_BASE, RETRY_MAX, tries),
                    failed: Some(why),
                }
            }
        };
    }
}

impl Preparation {
    fn refuse(&mut self, which: (RolloutId, ReleaseDigest), why: RefuseWhy) -> State {
        self.refused.insert(which, why);
        State::Refused(why)
    }
}
