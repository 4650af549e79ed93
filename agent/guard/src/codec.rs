//! The ledger as text: one fact a line, a first line with the format, a last line with a checksum.
//!
//! ```text
//! ringward-ledger 1
//! accepted 0 17
//! committed demo 6b2c… 1.0
//! attempt 5f… r-00000000000000a1 install demo
//! attempt-to 91fe… 1.1
//! …
//! crc32 8c736521
//! ```
//! A line with an unknown first word is kept and written back: a newer version of the same format
//! may have put it there. A known word with an unknown value, a wrong checksum, zeros or a torn tail
//! are damage. Nothing here panics on any input.

use crate::error::GuardError;
use crate::words;
use ringward_domain::ledger::{Attempt, AttemptPhase, Installed, Ledger, TrialBoot};
use ringward_domain::limits::{BARS_MAX, BURNED_MAX, HISTORY_MAX, PACKAGES_MAX};
use ringward_domain::{
    AssignmentKind, BootId, Epoch, Generation, Millis, Nonce, PackageName, RolloutId,
};
use std::fmt::Write;
use std::str::FromStr;

/// Format this version writes; older ones it reads (there is none yet).
pub const FORMAT: u64 = 1;
/// Unknown lines kept.
const KEPT_MAX: usize = 64;
/// Slack over the lists' own bounds before a file counts as damaged: an older or newer version may
/// bound them differently.
const LIST_SLACK: usize = 4;

/// A ledger with the lines of a newer version that this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerFile {
    /// What is understood.
    pub ledger: Ledger,
    /// Unknown lines, in their order, written back as they were.
    pub kept: Vec<String>,
}

/// CRC-32 (IEEE 802.3, reflected 0xEDB88320).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The file's bytes.
#[must_use]
pub fn encode(file: &LedgerFile) -> Vec<u8> {
    let mut text = format!("ringward-ledger {FORMAT}\n");
    let ledger = &file.ledger;
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{arguments}");
    };
    line(format_args!(
        "accepted {} {}",
        ledger.accepted.0, ledger.accepted.1
    ));
    for (name, package) in &ledger.packages {
        line(format_args!("package {name}"));
        if let Some(committed) = &package.committed {
            line(format_args!(
                "committed {name} {} {}",
                committed.release, committed.version
            ));
        }
        for proven in &package.history {
            line(format_args!(
                "history {name} {} {}",
                proven.release, proven.version
            ));
        }
    }
    if let Some(attempt) = &ledger.attempt {
        encode_attempt(attempt, &mut line);
    }
    for nonce in &ledger.burned {
        line(format_args!("burned {nonce}"));
    }
    for release in &ledger.bars {
        line(format_args!("bar {release}"));
    }
    for kept in &file.kept {
        line(format_args!("{kept}"));
    }
    let crc = crc32(text.as_bytes());
    let _ = writeln!(text, "crc32 {crc:08x}");
    text.into_bytes()
}

fn encode_attempt(attempt: &Attempt, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    line(format_args!(
        "attempt {} {} {} {}",
        attempt.nonce,
        attempt.rollout,
        words::kind(attempt.kind),
        attempt.package
    ));
    line(format_args!(
        "attempt-to {} {}",
        attempt.to.release, attempt.to.version
    ));
    if let Some(from) = &attempt.from {
        line(format_args!(
            "attempt-from {} {}",
            from.release, from.version
        ));
    }
    let need = if attempt.boot_required {
        "required"
    } else {
        "none"
    };
    line(format_args!("attempt-boot {need}"));
    line(format_args!("attempt-soak-ms {}", attempt.soak.0));
    line(format_args!("attempt-switched-in {}", attempt.switched_in));
    for noted in &attempt.boots {
        let health = if noted.healthy { "healthy" } else { "bad" };
        line(format_args!("attempt-noted {} {health}", noted.boot));
    }
    line(format_args!(
        "attempt-phase {}",
        words::phase(attempt.phase)
    ));
}

/// Reads the file's bytes.
///
/// # Errors
/// [`GuardError::Newer`] for a newer format, [`GuardError::Damaged`] for everything else that is not
/// exactly what [`encode`] writes.
pub fn decode(bytes: &[u8]) -> Result<LedgerFile, GuardError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| GuardError::damaged(0, format!("not text: {error}")))?;
    let first = text.split('\n').next().unwrap_or_default();
    let format = first
        .strip_prefix("ringward-ledger ")
        .and_then(|number| number.parse::<u64>().ok())
        .ok_or_else(|| GuardError::damaged(1, "it does not start as a ledger does"))?;
    if format > FORMAT {
        return Err(GuardError::Newer {
            found: format,
            known: FORMAT,
        });
    }
    let body = checked_body(text)?;
    let mut reading = Reading::default();
    for (index, line) in body.lines().enumerate().skip(1) {
        reading
            .line(line)
            .map_err(|why| GuardError::damaged(index + 1, why))?;
    }
    reading.finish()
}

/// Everything before the checksum line, which must be last and right.
fn checked_body(text: &str) -> Result<&str, GuardError> {
    let lines = text.lines().count();
    let torn = || GuardError::damaged(lines, "the checksum line is missing: torn or cut");
    let whole = text.strip_suffix('\n').ok_or_else(torn)?;
    let start = whole.rfind('\n').map_or(0, |newline| newline + 1);
    let (body, last) = whole.split_at(start);
    let stated = last.strip_prefix("crc32 ").ok_or_else(torn)?;
    if stated != format!("{:08x}", crc32(body.as_bytes())) {
        return Err(GuardError::damaged(lines, "the checksum does not match"));
    }
    Ok(body)
}

#[derive(Default)]
struct Reading {
    file: LedgerFile,
    head: Option<(Nonce, RolloutId, AssignmentKind, PackageName)>,
    to: Option<Installed>,
    from: Option<Installed>,
    boot_required: Option<bool>,
    soak: Option<Millis>,
    switched_in: Option<BootId>,
    boots: Vec<TrialBoot>,
    phase: Option<AttemptPhase>,
}

fn parse<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn installed(release: &str, version: &str) -> Result<Installed, String> {
    Ok(Installed {
        release: parse(release)?,
        version: parse(version)?,
    })
}

fn within(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count < max * LIST_SLACK {
        Ok(())
    } else {
        Err(format!("more than {} lines of {what}", max * LIST_SLACK))
    }
}

impl Reading {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let ledger = &mut self.file.ledger;
        match words.as_slice() {
            ["accepted", epoch, generation] => {
                ledger.accepted = (Epoch(parse(epoch)?), Generation(parse(generation)?));
            }
            ["package", name] => {
                within("package", ledger.packages.len(), PACKAGES_MAX)?;
                ledger.packages.entry(parse(name)?).or_default();
            }
            ["committed", name, release, version] => {
                let package = ledger.packages.get_mut(&parse(name)?);
                package.ok_or("of a package not named before")?.committed =
                    Some(installed(release, version)?);
            }
            ["history", name, release, version] => {
                let package = ledger.packages.get_mut(&parse(name)?);
                let package = package.ok_or("of a package not named before")?;
                within("history", package.history.len(), HISTORY_MAX)?;
                package.history.push(installed(release, version)?);
            }
            ["burned", nonce] => {
                within("burned", ledger.burned.len(), BURNED_MAX)?;
                ledger.burned.push(parse(nonce)?);
            }
            ["bar", release] => {
                within("bar", ledger.bars.len(), BARS_MAX)?;
                ledger.bars.insert(parse(release)?);
            }
            [word, ..] if is_known(word) => self.attempt_line(&words)?,
            _ => {
                within("unknown words", self.file.kept.len(), KEPT_MAX)?;
                self.file.kept.push(line.to_owned());
            }
        }
        Ok(())
    }

    fn attempt_line(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["attempt", nonce, rollout, kind, package] => {
                let kind = words::kind_of(kind).ok_or("unknown kind of attempt")?;
                self.head = Some((parse(nonce)?, parse(rollout)?, kind, parse(package)?));
            }
            ["attempt-to", release, version] => self.to = Some(installed(release, version)?),
            ["attempt-from", release, version] => self.from = Some(installed(release, version)?),
            ["attempt-boot", "required"] => self.boot_required = Some(true),
            ["attempt-boot", "none"] => self.boot_required = Some(false),
            ["attempt-soak-ms", soak] => self.soak = Some(Millis(parse(soak)?)),
            ["attempt-switched-in", boot] => self.switched_in = Some(parse(boot)?),
            ["attempt-noted", boot, health @ ("healthy" | "bad")] => {
                within("attempt-noted", self.boots.len(), 16)?;
                self.boots.push(TrialBoot {
                    boot: parse(boot)?,
                    healthy: *health == "healthy",
                });
            }
            ["attempt-phase", phase @ ..] => {
                self.phase = Some(words::phase_of(phase).ok_or("unknown phase")?);
            }
            _ => return Err("a known word with values that are not known".to_owned()),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<LedgerFile, GuardError> {
        if let Some((nonce, rollout, kind, package)) = self.head {
            let missing = |what: &str| GuardError::damaged(0, format!("the attempt has no {what}"));
            self.file.ledger.attempt = Some(Attempt {
                nonce,
                rollout,
                kind,
                package,
                to: self.to.ok_or_else(|| missing("attempt-to"))?,
                from: self.from,
                boot_required: self.boot_required.ok_or_else(|| missing("attempt-boot"))?,
                soak: self.soak.ok_or_else(|| missing("attempt-soak-ms"))?,
                switched_in: self
                    .switched_in
                    .ok_or_else(|| missing("attempt-switched-in"))?,
                boots: self.boots,
                phase: self.phase.ok_or_else(|| missing("attempt-phase"))?,
            });
        }
        Ok(self.file)
    }
}

fn is_known(word: &str) -> bool {
    [
        "accepted",
        "package",
        "committed",
        "history",
        "burned",
        "bar",
        "attempt",
        "attempt-to",
        "attempt-from",
        "attempt-boot",
        "attempt-soak-ms",
        "attempt-switched-in",
        "attempt-noted",
        "attempt-phase",
        "crc32",
        "ringward-ledger",
    ]
    .contains(&word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use ringward_domain::ReleaseDigest;
    use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, PackageLedger, RevertWhy};

    fn installed_any() -> impl Strategy<Value = Installed> {
        (any::<[u8; 32]>(), 0u8..20).prop_map(|(digest, minor)| Installed {
            release: ReleaseDigest(digest),
            version: format!("1.{minor}~rc1").parse().unwrap(),
        })
    }

    fn phase_any() -> impl Strategy<Value = AttemptPhase> {
        prop::sample::select(vec![
            AttemptPhase::Switching,
            AttemptPhase::Trial,
            AttemptPhase::Committed,
            AttemptPhase::Reverted(RevertWhy::BadBoots),
            AttemptPhase::Reverted(RevertWhy::CrashLoop),
            AttemptPhase::Reverted(RevertWhy::ProbesFailed),
            AttemptPhase::Reverted(RevertWhy::NetworkLost),
            AttemptPhase::Reverted(RevertWhy::Ordered),
            AttemptPhase::Reverted(RevertWhy::Rescue),
            AttemptPhase::Failed(FailWhy::Install),
            AttemptPhase::Failed(FailWhy::Disk),
            AttemptPhase::NotSwitched(NotSwitchedWhy::NoBegun),
            AttemptPhase::NotSwitched(NotSwitchedWhy::BeginRefused),
            AttemptPhase::NotSwitched(NotSwitchedWhy::Restarted),
            AttemptPhase::NotSwitched(NotSwitchedWhy::Suspended),
            AttemptPhase::NotSwitched(NotSwitchedWhy::Superseded),
            AttemptPhase::NotSwitched(NotSwitchedWhy::Busy),
        ])
    }

    prop_compose! {
        fn attempt_any()(
            nonce in any::<[u8; 16]>(),
            rollback in any::<bool>(),
            to in installed_any(),
            from in prop::option::of(installed_any()),
            boot_required in any::<bool>(),
            soak in any::<u64>(),
            boots in prop::collection::vec((any::<[u8; 16]>(), any::<bool>()), 0..4),
            phase in phase_any(),
        ) -> Attempt {
            Attempt {
                nonce: Nonce(nonce),
                rollout: RolloutId(soak ^ 7),
                kind: if rollback { AssignmentKind::Rollback } else { AssignmentKind::Install },
                package: "demo".parse().unwrap(),
                to,
                from,
                boot_required,
                soak: Millis(soak),
                switched_in: BootId([9; 16]),
                boots: boots
                    .into_iter()
                    .map(|(boot, healthy)| TrialBoot { boot: BootId(boot), healthy })
                    .collect(),
                phase,
            }
        }
    }

    prop_compose! {
        fn file_any()(
            accepted in any::<(u64, u64)>(),
            committed in prop::option::of(installed_any()),
            history in prop::collection::vec(installed_any(), 0..4),
            attempt in prop::option::of(attempt_any()),
            burned in prop::collection::vec(any::<[u8; 16]>(), 0..4),
            bars in prop::collection::btree_set(any::<[u8; 32]>(), 0..4),
            kept in prop::collection::vec("newer [a-z 0-9]{0,20}", 0..3),
        ) -> LedgerFile {
            let package = PackageLedger { committed, history };
            LedgerFile {
                ledger: Ledger {
                    accepted: (Epoch(accepted.0), Generation(accepted.1)),
                    packages: [("demo".parse().unwrap(), package)].into(),
                    attempt,
                    burned: burned.into_iter().map(Nonce).collect(),
                    bars: bars.into_iter().map(ReleaseDigest).collect(),
                },
                kept,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn what_is_written_reads_back_with_the_lines_of_newer_versions(file in file_any()) {
            prop_assert_eq!(decode(&encode(&file)).unwrap(), file);
        }

        #[test]
        fn a_cut_or_a_flipped_bit_is_an_error_and_never_another_ledger(
            file in file_any(),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let bytes = encode(&file);
            let at = at.index(bytes.len());
            prop_assert!(decode(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(decode(&flipped).is_err());
            let mut zeroed = bytes;
            zeroed[at..].fill(0);
            prop_assert!(decode(&zeroed).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name_even_if_the_rest_cannot_be_read() {
        let error = decode(b"ringward-ledger 2\nwhatever").unwrap_err();
        assert!(matches!(error, GuardError::Newer { found: 2, known: 1 }));
        assert!(error.to_string().contains("format 2"), "{error}");
    }

    #[test]
    fn a_known_word_with_an_unknown_value_is_refused() {
        let body = "ringward-ledger 1\nattempt-phase reverted boredom\n";
        let text = format!("{body}crc32 {:08x}\n", crc32(body.as_bytes()));
        let error = decode(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
