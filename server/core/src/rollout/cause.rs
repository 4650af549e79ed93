//! What failed hosts told of their failures. A crash is often told only after the halt, when the
//! machine is back: it is kept with the exposure and counted when somebody looks.

use super::Rollout;
use super::member::{Member, Stage};
use ringward_domain::Timestamp;
use ringward_domain::cause::{CAUSES_MAX, Cause, CauseCount, sentence};
use ringward_domain::limits::TITLE_BYTES_MAX;
use ringward_domain::signal::{Signal, SignalKind};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The cause that a failure signal tells of.
fn cause_of(signal: &Signal) -> Cause {
    let facts: serde_json::Value = serde_json::from_str(&signal.evidence).unwrap_or_default();
    let fact = |name: &str| {
        let said = facts.get(name).and_then(serde_json::Value::as_str);
        said.filter(|said| !said.is_empty() && said.len() <= TITLE_BYTES_MAX)
            .map(str::to_owned)
    };
    Cause {
        kind: signal.kind,
        signature: signal.signature.clone(),
        title: signal.title.clone(),
        module: fact("module"),
        function: fact("function"),
    }
}

impl Rollout {
    /// Keeps what the signal says of an exposure's failure, unless more is known already.
    pub(super) fn note_cause(&mut self, i: usize, signal: &Signal, now: Timestamp) {
        let cause = cause_of(signal);
        let known = self.members[i].exposure().and_then(|e| e.cause.as_deref());
        let more = known.is_none_or(|known| cause.weight() >= known.weight() && cause != *known);
        if more {
            self.edit_exposure(i, now, |exposure| exposure.cause = Some(Box::new(cause)));
        }
    }

    /// Hosts that failed, and what most of them told of it, most first.
    #[must_use]
    pub fn causes(&self) -> (u64, Vec<CauseCount>) {
        let mut failed = 0;
        let mut told: BTreeMap<(&str, Option<SignalKind>), (u64, Timestamp, &Cause)> =
            BTreeMap::new();
        for member in self.failures() {
            failed += 1;
            let Some(cause) = member.exposure().and_then(|e| e.cause.as_deref()) else {
                continue;
            };
            // What does not recur by its signature is counted by its kind.
            let kind = cause.signature.is_empty().then_some(cause.kind);
            let entry = told
                .entry((&cause.signature, kind))
                .or_insert((0, member.since, cause));
            entry.0 += 1;
            if member.since > entry.1 {
                (entry.1, entry.2) = (member.since, cause);
            }
        }
        let mut told: Vec<(u64, &Cause)> = told
            .into_values()
            .map(|(hosts, _, cause)| (hosts, cause))
            .collect();
        told.sort_by_key(|(hosts, cause)| Reverse((*hosts, cause.weight())));
        let first = told.into_iter().take(CAUSES_MAX);
        let first = first.map(|(hosts, cause)| CauseCount {
            cause: cause.clone(),
            hosts,
        });
        (failed, first.collect())
    }

    /// What a failed member told.
    pub(super) fn cause_shown(&self, member: &Member) -> Option<Cause> {
        match &member.stage {
            Stage::Ended(ending, exposure) if ending.is_failure() => {
                exposure.cause.as_deref().cloned()
            }
            _ => None,
        }
    }
}

/// The verdict's words, and what the failed hosts told.
pub(super) fn with_causes(words: &str, failed: u64, causes: &[CauseCount]) -> String {
    match causes.is_empty() {
        true => words.to_owned(),
        false => format!("{words}; {}", sentence(failed, causes)),
    }
}
