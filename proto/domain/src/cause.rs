//! Why hosts failed, as far as their own signals say.

use crate::signal::SignalKind;
use serde::{Deserialize, Serialize};

/// Causes of one rollout that people are shown.
pub const CAUSES_MAX: usize = 3;

/// What a failed host told of its failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What was observed.
    pub kind: SignalKind,
    /// What recurs on other hosts with the same cause; empty where nothing recurs.
    pub signature: String,
    /// One line for people.
    pub title: String,
    /// The driver, kernel module or program to blame; `None` where nobody can be blamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The function, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

impl Cause {
    /// How much it explains: a crash that was read more than a service that fell, and that more than
    /// a stop of unknown reason; of equals, the one that blames somebody.
    #[must_use]
    pub fn weight(&self) -> (u8, bool) {
        let weight = match self.kind {
            SignalKind::KernelPanic | SignalKind::Bugcheck => 3,
            SignalKind::CrashLoop
            | SignalKind::ServiceFailed
            | SignalKind::ProbeFailed
            | SignalKind::DegradedBoot => 2,
            SignalKind::UncleanBoot => 1,
            _ => 0,
        };
        (weight, self.module.is_some() || self.function.is_some())
    }
}

/// A cause and how many hosts told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseCount {
    /// The cause, as the host heard of last told it.
    pub cause: Cause,
    /// On so many hosts.
    pub hosts: u64,
}

/// `2 hosts failed: bugcheck 0x50 in acme.sys (2 of 2 hosts)`; empty where no cause is known.
#[must_use]
pub fn sentence(failed: u64, causes: &[CauseCount]) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let hosts = |n: u64| if n == 1 { "host" } else { "hosts" };
    let told: Vec<String> = causes
        .iter()
        .take(CAUSES_MAX)
        .map(|told| {
            let all = hosts(failed);
            format!("{} ({} of {failed} {all})", told.cause.title, told.hosts)
        })
        .collect();
    format!("{failed} {} failed: {}", hosts(failed), told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(kind: SignalKind, title: &str, module: Option<&str>) -> Cause {
        Cause {
            kind,
            signature: title.to_owned(),
            title: title.to_owned(),
            module: module.map(str::to_owned),
            function: None,
        }
    }

    #[test]
    fn a_crash_explains_more_than_a_service_and_that_more_than_an_unclean_stop() {
        let bugcheck = cause(SignalKind::Bugcheck, "b", None);
        let blamed = cause(SignalKind::Bugcheck, "b", Some("acme.sys"));
        let service = cause(SignalKind::CrashLoop, "s", Some("nginx"));
        let stop = cause(SignalKind::UncleanBoot, "u", None);
        let guard = cause(SignalKind::GuardReverted, "g", None);
        let order = [guard, stop, service, bugcheck, blamed];
        assert!(order.is_sorted_by_key(Cause::weight));
    }

    #[test]
    fn the_sentence_counts_hosts_and_is_bounded() {
        let told = |title: &str, hosts| CauseCount {
            cause: cause(SignalKind::Bugcheck, title, None),
            hosts,
        };
        assert_eq!(sentence(2, &[]), "");
        assert_eq!(
            sentence(2, &[told("bugcheck 0x50 in acme.sys", 2)]),
            "2 hosts failed: bugcheck 0x50 in acme.sys (2 of 2 hosts)"
        );
        let many = [told("a", 4), told("b", 2), told("c", 1), told("d", 1)];
        assert_eq!(
            sentence(8, &many),
            "8 hosts failed: a (4 of 8 hosts), b (2 of 8 hosts), c (1 of 8 hosts)"
        );
        assert_eq!(sentence(1, &many[2..3]), "1 host failed: c (1 of 1 host)");
    }
}
