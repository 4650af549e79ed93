//! The words that stand for enum values in the ledger.

use ringward_domain::AssignmentKind;
use ringward_domain::ledger::{AttemptPhase, FailWhy, NotSwitchedWhy, RevertWhy};

const REVERTS: [(RevertWhy, &str); 6] = [
    (RevertWhy::BadBoots, "bad-boots"),
    (RevertWhy::CrashLoop, "crash-loop"),
    (RevertWhy::ProbesFailed, "probes-failed"),
    (RevertWhy::NetworkLost, "network-lost"),
    (RevertWhy::Ordered, "ordered"),
    (RevertWhy::Rescue, "rescue"),
];
const FAILS: [(FailWhy, &str); 2] = [(FailWhy::Install, "install"), (FailWhy::Disk, "disk")];
const NOT_SWITCHED: [(NotSwitchedWhy, &str); 6] = [
    (NotSwitchedWhy::NoBegun, "no-begun"),
    (NotSwitchedWhy::BeginRefused, "begin-refused"),
    (NotSwitchedWhy::Restarted, "restarted"),
    (NotSwitchedWhy::Suspended, "suspended"),
    (NotSwitchedWhy::Superseded, "superseded"),
    (NotSwitchedWhy::Busy, "busy"),
];
const KINDS: [(AssignmentKind, &str); 2] = [
    (AssignmentKind::Install, "install"),
    (AssignmentKind::Rollback, "rollback"),
];

fn word<T: Copy + PartialEq>(table: &[(T, &'static str)], value: T) -> &'static str {
    let row = table.iter().find(|(known, _)| *known == value);
    // A value without a word would read back as damage, which stops the guard: the safe side. The
    // tests write every value.
    row.map_or("?", |(_, word)| *word)
}

fn value<T: Copy>(table: &[(T, &'static str)], word: &str) -> Option<T> {
    let row = table.iter().find(|(_, known)| *known == word);
    row.map(|(value, _)| *value)
}

pub(crate) fn kind(kind: AssignmentKind) -> &'static str {
    word(&KINDS, kind)
}

pub(crate) fn kind_of(text: &str) -> Option<AssignmentKind> {
    value(&KINDS, text)
}

/// One word, or two with the reason second.
pub(crate) fn phase(phase: AttemptPhase) -> String {
    match phase {
        AttemptPhase::Switching => "switching".to_owned(),
        AttemptPhase::Trial => "trial".to_owned(),
        AttemptPhase::Committed => "committed".to_owned(),
        AttemptPhase::Reverted(why) => format!("reverted {}", word(&REVERTS, why)),
        AttemptPhase::Failed(why) => format!("failed {}", word(&FAILS, why)),
        AttemptPhase::NotSwitched(why) => format!("not-switched {}", word(&NOT_SWITCHED, why)),
    }
}

pub(crate) fn phase_of(words: &[&str]) -> Option<AttemptPhase> {
    match words {
        ["switching"] => Some(AttemptPhase::Switching),
        ["trial"] => Some(AttemptPhase::Trial),
        ["committed"] => Some(AttemptPhase::Committed),
        ["reverted", why] => value(&REVERTS, why).map(AttemptPhase::Reverted),
        ["failed", why] => value(&FAILS, why).map(AttemptPhase::Failed),
        ["not-switched", why] => value(&NOT_SWITCHED, why).map(AttemptPhase::NotSwitched),
        _ => None,
    }
}
