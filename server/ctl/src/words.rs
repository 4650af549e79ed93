//! What states and reasons are called, and how foreign text is made safe for a terminal.

use jiff::{Timestamp, Unit};
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::RefuseWhy;
use ringward_domain::report::{FailureWhy, MemberState};
use ringward_domain::signal::SignalKind;
use ringward_domain::{Absence, AssignmentKind, Sha256};
use std::fmt::Write;

/// Text of others on one line: control characters and those that turn the direction of writing are
/// shown by number instead of obeyed.
#[must_use]
pub fn clean(text: &str) -> String {
    escape(text, |out, c| {
        let _ = write!(out, "{}", c.escape_unicode());
    })
}

/// The same for JSON, where it stays valid JSON: such characters only stand in strings there.
#[must_use]
pub fn clean_json(text: &str) -> String {
    escape(text, |out, c| {
        if c == '\n' {
            out.push(c);
        } else {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
    })
}

fn escape(text: &str, write: impl Fn(&mut String, char)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_direction(c) {
            write(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

/// Unicode's explicit bidirectional formatting characters, and line and paragraph separators.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most so many characters, with an ellipsis where some are left out.
#[must_use]
pub fn short(text: &str, max: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= max {
        return text;
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A number with its noun.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The first 12 digits of a digest: enough to tell and to type.
#[must_use]
pub fn short_digest(digest: &[u8; 32]) -> String {
    let mut text = Sha256(*digest).to_string();
    text.truncate(12);
    text
}

/// A point of time, UTC to the second; `-` where it is none.
#[must_use]
pub fn time(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .filter(|ms| *ms > 0)
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .and_then(|time| time.round(Unit::Second).ok())
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// Bytes as people say them.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{} KiB", n / 1024),
        1_048_576..1_073_741_824 => format!("{} MiB", n / 1_048_576),
        _ => format!("{}.{} GiB", n >> 30, ((n & 0x3fff_ffff) * 10) >> 30),
    }
}

/// A share in percent.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.2} %")
    }
}

/// Which way a rollout goes.
#[must_use]
pub fn kind(kind: AssignmentKind) -> &'static str {
    match kind {
        AssignmentKind::Install => "install",
        AssignmentKind::Rollback => "rollback",
    }
}

/// How a host stands in a rollout, in one word.
#[must_use]
pub fn member(state: &MemberState) -> &'static str {
    match state {
        MemberState::Waiting(_) => "waiting",
        MemberState::Granted => "granted",
        MemberState::Begun => "begun",
        MemberState::Applied => "applied",
        MemberState::Rebooting => "rebooting",
        MemberState::Soaking => "soaking",
        MemberState::Confirmed => "confirmed",
        MemberState::AlreadyThere => "already there",
        MemberState::Failed(_) => "failed",
        MemberState::Reverted(_) => "reverted",
        MemberState::Silent => "silent",
        MemberState::Refused(_) => "refused",
        MemberState::Deferred(_) => "deferred",
        MemberState::Away(_) => "away",
    }
}

/// Why a host stands so; empty where the word says it all.
#[must_use]
pub fn member_why(state: &MemberState) -> String {
    match state {
        MemberState::Waiting(why) => why.to_string(),
        MemberState::Failed(why) => failure(*why),
        MemberState::Reverted(why) => revert(*why).to_owned(),
        MemberState::Refused(why) => refuse(*why).to_owned(),
        MemberState::Deferred(why) => not_switched(*why).to_owned(),
        MemberState::Away(how) => absence(*how).to_owned(),
        MemberState::Silent => "began and was not heard of until its deadline".to_owned(),
        MemberState::Granted
        | MemberState::Begun
        | MemberState::Applied
        | MemberState::Rebooting
        | MemberState::Soaking
        | MemberState::Confirmed
        | MemberState::AlreadyThere => String::new(),
    }
}

fn failure(why: FailureWhy) -> String {
    match why {
        FailureWhy::Install(why) => fail(why).to_owned(),
        FailureWhy::Signal(kind) => signal(kind),
        FailureWhy::WrongRelease => "came back on another release without a word".to_owned(),
    }
}

/// Why a switch failed.
#[must_use]
pub fn fail(why: FailWhy) -> &'static str {
    match why {
        FailWhy::Install => "the installer reported an error",
        FailWhy::Disk => "the disk is full or read-only",
    }
}

/// Why a host went back.
#[must_use]
pub fn revert(why: RevertWhy) -> &'static str {
    match why {
        RevertWhy::BadBoots => "the guard counted too many bad boots",
        RevertWhy::CrashLoop => "a service crash-looped",
        RevertWhy::ProbesFailed => "the probes did not pass",
        RevertWhy::NetworkLost => "server and gateway were lost after the switch",
        RevertWhy::Ordered => "ordered by the server",
        RevertWhy::Rescue => "a person ran the rescue command",
    }
}

/// Why a begun attempt did not switch.
#[must_use]
pub fn not_switched(why: NotSwitchedWhy) -> &'static str {
    match why {
        NotSwitchedWhy::NoBegun => "no permission came within 10 s",
        NotSwitchedWhy::BeginRefused => "the server refused the switch",
        NotSwitchedWhy::Restarted => "agent or host restarted in between",
        NotSwitchedWhy::Suspended => "the host suspended in between",
        NotSwitchedWhy::Superseded => "the desired state changed in between",
        NotSwitchedWhy::Busy => "another installer was at work",
    }
}

/// Why a host will not install a release.
#[must_use]
pub fn refuse(why: RefuseWhy) -> &'static str {
    match why {
        RefuseWhy::Signature => "signatures do not meet the host's release root",
        RefuseWhy::Manifest => "the manifest breaks a rule",
        RefuseWhy::Bundle => "the bundle breaks a rule",
        RefuseWhy::Platform => "no bundle for its system",
        RefuseWhy::SecurityFloor => "below the security floor",
        RefuseWhy::Expired => "the manifest has expired",
        RefuseWhy::Barred => "the host bars it",
        RefuseWhy::UnknownHistory => "not in the host's own history",
        RefuseWhy::LocalPolicy => "the host's local policy forbids it",
    }
}

/// How a host is away.
#[must_use]
pub fn absence(how: Absence) -> &'static str {
    match how {
        Absence::Suspend => "announced: suspended",
        Absence::PowerOff => "announced: switched off",
        Absence::UserStop => "announced: agent stopped by a person",
    }
}

/// What was observed.
#[must_use]
pub fn signal(kind: SignalKind) -> String {
    let text = match kind {
        SignalKind::UncleanBoot => "unclean boot",
        SignalKind::KernelPanic => "kernel panic",
        SignalKind::Bugcheck => "bugcheck",
        SignalKind::KernelOops => "kernel oops",
        SignalKind::CrashLoop => "crash loop",
        SignalKind::ServiceFailed => "service failed",
        SignalKind::OomKill => "killed for memory",
        SignalKind::Coredump => "core dump",
        SignalKind::DegradedBoot => "degraded boot",
        SignalKind::ProbeFailed => "probe failed",
        SignalKind::GuardReverted => "guard reverted",
        SignalKind::SelfReverted => "agent reverted",
        SignalKind::Change => "change",
        SignalKind::AuditFork => "audit log fork",
        SignalKind::AgentDegraded => "agent degraded",
        SignalKind::Unknown(code) => return format!("signal kind {code}, unknown to this version"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_never_gets_control_characters_of_others() {
        assert_eq!(clean("till\u{1b}[2J\n7"), "till\\u{1b}[2J\\u{a}7");
        assert_eq!(clean("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(clean("Kaßel 7 ✓"), "Kaßel 7 ✓");
    }

    #[test]
    fn json_stays_json_when_it_is_cleaned() {
        let json = serde_json::to_string_pretty(&["a\u{9b}b\u{202e}", "\u{1b}"]);
        let json = json.as_deref().map(clean_json);
        let back: Result<Vec<String>, _> = serde_json::from_str(&json.unwrap_or_default());
        assert_eq!(
            back.ok(),
            Some(vec!["a\u{9b}b\u{202e}".into(), "\u{1b}".into()])
        );
    }

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(bytes(1_610_612_736), "1.5 GiB");
        assert_eq!(percent(0.0312), "3.12 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(time(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(time(0), "-");
        assert_eq!(short("abcdef", 4), "abc…");
    }
}
