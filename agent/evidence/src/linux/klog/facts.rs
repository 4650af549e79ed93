//! Facts that stand in the rows of a report: kernel release, taint, task, CPU.

use super::blame::Body;

/// Who ran on which kernel, as the report's own rows tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `6.1.0-56-cloud-amd64`.
    pub release: Option<String>,
    /// Taint letters (`GOE`), empty where the kernel says "Not tainted".
    pub taint: Option<String>,
    /// The running task's name.
    pub comm: Option<String>,
    /// The running task's id.
    pub pid: Option<u32>,
    /// The CPU that reports.
    pub cpu: Option<u32>,
    /// Machine model and firmware.
    pub hardware: Option<String>,
    /// Number of modules loaded.
    pub modules: Option<usize>,
}

/// Collects the facts; the first row that tells one wins.
#[must_use]
pub fn of(rows: &[Body]) -> Facts {
    let mut facts = Facts::default();
    for row in rows {
        let text = row.text.as_str();
        if facts.release.is_none() {
            taint_and_release(text, &mut facts);
        }
        if facts.pid.is_none() {
            task(text, &mut facts);
        }
        if facts.cpu.is_none() {
            facts.cpu = number_after(text, "CPU: ").or_else(|| number_after(text, "CPU#"));
        }
        if facts.hardware.is_none() {
            facts.hardware = text
                .trim_start()
                .strip_prefix("Hardware name: ")
                .map(str::to_owned);
        }
        if facts.modules.is_none() {
            facts.modules = text
                .trim_start()
                .strip_prefix("Modules linked in:")
                .map(|list| {
                    list.split_whitespace()
                        .take_while(|word| !word.starts_with('['))
                        .count()
                });
        }
    }
    facts
}

fn number_after(text: &str, word: &str) -> Option<u32> {
    let rest = &text[text.find(word)? + word.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// `... Not tainted 4.12.0-rc7+ #2`, `... Tainted: G        W  O 5.10.0 #1`, `5.2.0 #1 Not tainted`,
/// `Not tainted (2.6.27.9-159.fc10.i686 #1)`.
fn taint_and_release(text: &str, facts: &mut Facts) {
    let (before, after, taint) = if let Some((before, after)) = text.split_once("Not tainted") {
        (before, after, Some(String::new()))
    } else if let Some((before, after)) = text.split_once("Tainted: ") {
        (before, after, None)
    } else {
        return;
    };
    let taint = taint.unwrap_or_else(|| letters(after));
    facts.taint = Some(taint);
    facts.release = release(after).or_else(|| release(before));
}

/// Taint letters: single capitals, runs of them, or the spelled form `[E]=UNSIGNED_MODULE`.
fn letters(after: &str) -> String {
    let mut out = String::new();
    for word in after.split_whitespace() {
        if let Some((letter, _)) = word.strip_prefix('[').and_then(|w| w.split_once("]=")) {
            out.push_str(letter);
        } else if word
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b == b'?' || b == b',')
        {
            out.extend(word.chars().filter(|&c| c.is_ascii_uppercase()));
        } else {
            break;
        }
    }
    out.truncate(32);
    out
}

/// The word before ` #<build>`, else the first word that looks like a version.
fn release(text: &str) -> Option<String> {
    let words: Vec<&str> = text
        .split_whitespace()
        .take(40)
        .map(|word| word.trim_matches(['(', ')']))
        .collect();
    let is_build = |word: &str| {
        word.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let is_version =
        |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let by_build = words
        .windows(2)
        .find(|pair| is_build(pair[1]))
        .map(|pair| pair[0]);
    by_build
        .filter(|word| is_version(word))
        .or_else(|| words.iter().copied().find(|word| is_version(word)))
        .or(by_build.filter(|word| word.len() > 2))
        .map(str::to_owned)
}

/// `CPU: 1 PID: 8377 Comm: name Not tainted`, `Pid: 8003, comm: Xorg Not tainted`.
fn task(text: &str, facts: &mut Facts) {
    for (pid, comm) in [("PID: ", "Comm: "), ("Pid: ", "comm: ")] {
        let (Some(number), Some(at)) = (number_after(text, pid), text.find(comm)) else {
            continue;
        };
        let rest = &text[at + comm.len()..];
        let end = [" Not tainted", " Tainted: ", " Kdump: "]
            .iter()
            .filter_map(|word| rest.find(word))
            .min()
            .unwrap_or(rest.len());
        facts.pid = Some(number);
        facts.comm = Some(rest[..end].trim().to_owned());
        return;
    }
}

/// The release in `Linux version 6.1.0-56-cloud-amd64 (...)`.
#[must_use]
pub fn banner_release(text: &str) -> Option<&str> {
    text.trim_start()
        .strip_prefix("Linux version ")?
        .split(' ')
        .next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts(row: &str) -> Facts {
        of(&[Body::new(row)])
    }

    #[test]
    fn every_form_of_the_task_row_is_read() {
        let modern = facts(
            "CPU: 1 PID: 8377 Comm: my app Tainted: G        W  OE      6.1.0-9-amd64 #2 Debian 6.1.27-1",
        );
        assert_eq!(modern.release.as_deref(), Some("6.1.0-9-amd64"));
        assert_eq!(modern.taint.as_deref(), Some("GWOE"));
        assert_eq!(
            (modern.comm.as_deref(), modern.pid, modern.cpu),
            (Some("my app"), Some(8377), Some(1))
        );

        let old = facts("Pid: 8003, comm: Xorg Not tainted (2.6.27.9-159.fc10.i686 #1)");
        assert_eq!(old.release.as_deref(), Some("2.6.27.9-159.fc10.i686"));
        assert_eq!(old.taint.as_deref(), Some(""));

        let lockdep = facts("4.14.0-rc3+ #22 Not tainted");
        assert_eq!(lockdep.release.as_deref(), Some("4.14.0-rc3+"));

        let spelled = facts("Tainted: [E]=UNSIGNED_MODULE, [W]=WARN");
        assert_eq!(spelled.taint.as_deref(), Some("EW"));
    }
}
