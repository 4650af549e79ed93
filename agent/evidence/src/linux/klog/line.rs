//! One line of a kernel log: who printed it, when, and what it says without the prefix.
//!
//! The same message reaches us as `/dev/kmsg`, `dmesg`, serial console, syslog or pstore text, each
//! with another prefix. Lines of different callers interleave, so the caller is kept.

/// Who printed a line, as far as the prefix tells. Lines of one report share one caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// No prefix at all: user-space output on a console, or a log whose prefixes were cut off.
    Bare,
    /// A kernel prefix without a caller.
    Kernel,
    /// `[T123]`: the task with that id.
    Task(u32),
    /// `[C1]`: interrupt context on that CPU.
    Cpu(u32),
    /// A syslog line of another program than the kernel.
    Foreign,
}

/// A line without its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Who printed it.
    pub caller: Caller,
    /// Microseconds since boot, where the prefix has them.
    pub monotonic_us: Option<u64>,
    /// The message; leading blanks of the message itself are kept.
    pub text: &'a str,
}

/// Splits the prefix off one line (no line end).
#[must_use]
pub fn parse(raw: &str) -> Line<'_> {
    let raw = raw.trim_end_matches(['\r', '\n']);
    if let Some(line) = kmsg_record(raw) {
        return line;
    }
    let start = skip_noise(raw);
    if let Some(line) = rfc5424(start).or_else(|| viewed(start)) {
        return line;
    }
    if let Some(line) = stamped(start) {
        return line;
    }
    if let Some(rest) = level(start) {
        return Line {
            caller: Caller::Kernel,
            monotonic_us: None,
            text: rest.strip_prefix(' ').unwrap_or(rest),
        };
    }
    if let Some(line) = syslog(start) {
        return line;
    }
    if let Some(line) = stamp_in_the_middle(start) {
        return line;
    }
    Line {
        caller: Caller::Bare,
        monotonic_us: None,
        text: start,
    }
}

/// `6,1234,5678901,-,caller=T1;message`
fn kmsg_record(raw: &str) -> Option<Line<'_>> {
    let (head, text) = raw.split_once(';')?;
    if head.len() > 100 || !head.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut fields = head.split(',');
    let mut first = fields.next()?;
    if first.contains('.') {
        // The extended network console says which kernel speaks.
        first = fields.next()?;
    }
    first.parse::<u32>().ok()?;
    fields.next()?.parse::<u64>().ok()?;
    let monotonic_us = fields.next()?.parse::<u64>().ok()?;
    fields.next()?;
    let caller = fields
        .find_map(|field| field.strip_prefix("caller="))
        .and_then(caller_id)
        .unwrap_or(Caller::Kernel);
    Some(Line {
        caller,
        monotonic_us: Some(monotonic_us),
        text,
    })
}

/// Drops what consoles put before the prefix: `** 12 printk messages dropped **`, `host login:`.
fn skip_noise(raw: &str) -> &str {
    let mut rest = raw;
    if let Some(after) = rest.strip_prefix("** ")
        && let Some((_, tail)) = after.split_once("messages dropped ** ")
    {
        rest = tail;
    }
    if let Some(at) = rest.find(" login: ")
        && at < 64
    {
        rest = &rest[at + " login: ".len()..];
    }
    rest
}

/// `<6>` before anything else.
fn level(raw: &str) -> Option<&str> {
    let (digits, rest) = raw.strip_prefix('<')?.split_once('>')?;
    (!digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then_some(rest)
}

/// `<6>[   55.967976][ T8377] text`, `[Mon Nov 23 05:10:51 2026] text`.
fn stamped(raw: &str) -> Option<Line<'_>> {
    let rest = level(raw).unwrap_or(raw);
    let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
    let monotonic_us = match seconds(inside) {
        Some(us) => Some(us),
        None if is_wall_clock(inside) || is_relative(inside) => None,
        None => return None,
    };
    let (caller, after) = bracketed_caller(after);
    let text = after.strip_prefix(' ').unwrap_or(after);
    // `journalctl -o short-monotonic` names host and program behind its stamp.
    let (caller, text) = match named(text) {
        Some((Said::Kernel, rest)) => (caller, rest),
        Some((Said::Program, rest)) => (Caller::Foreign, rest),
        None => (caller, text),
    };
    Some(Line {
        caller,
        monotonic_us,
        text,
    })
}

/// Whose words a log daemon passes on.
enum Said {
    Kernel,
    Program,
}

/// `host kernel: text`, `host program[12]: text`.
fn named(text: &str) -> Option<(Said, &str)> {
    let (head, rest) = text.split_once(": ")?;
    let (host, ident) = head.split_once(' ')?;
    let plausible = |word: &str| {
        !word.is_empty()
            && word.len() <= 64
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.@/:\\".contains(&b))
    };
    if !plausible(host) {
        return None;
    }
    match ident
        .strip_suffix(']')
        .and_then(|word| word.split_once('['))
    {
        None if ident == "kernel" => Some((Said::Kernel, rest)),
        Some((program, pid)) if plausible(program) && pid.parse::<u32>().is_ok() => {
            Some((Said::Program, rest))
        }
        _ => None,
    }
}

/// `<2>1 2026-11-23T05:33:11.5Z host kernel - - - text`
fn rfc5424(raw: &str) -> Option<Line<'_>> {
    let rest = level(raw)?.strip_prefix("1 ")?;
    let mut fields = rest.splitn(6, ' ');
    let (stamp, _host) = (fields.next()?, fields.next()?);
    let (program, _process, _kind) = (fields.next()?, fields.next()?, fields.next()?);
    if !is_iso(stamp) {
        return None;
    }
    let data = fields.next()?;
    let text = match data.strip_prefix("- ") {
        Some(text) => text,
        None => data.strip_prefix('[')?.split_once("] ")?.1,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Some(by(program, text))
}

/// Stamps that viewers of the journal and of the kernel's buffer put first: `dmesg --time-format iso`,
/// `journalctl -o short-full` and `-o short-unix`.
fn viewed(raw: &str) -> Option<Line<'_>> {
    let (first, rest) = raw.split_once(' ')?;
    if is_iso(first) && first.as_bytes().get(19) == Some(&b',') {
        return Some(by("kernel", rest));
    }
    let rest = match first {
        day if DAYS.contains(&day) => {
            let (date, rest) = rest.split_once(' ')?;
            let (clock, rest) = rest.split_once(' ')?;
            let dated = date.len() == 10 && date.as_bytes()[4] == b'-';
            if !dated || clock.as_bytes().get(2) != Some(&b':') {
                return None;
            }
            // The time zone's name.
            rest.split_once(' ')?.1
        }
        unix if unix.len() >= 12 && seconds(unix).is_some() => rest,
        _ => return None,
    };
    match named(rest)? {
        (Said::Kernel, text) => Some(by("kernel", text)),
        (Said::Program, text) => Some(by("", text)),
    }
}

/// A line of this program, as a log daemon passes it on.
fn by<'a>(program: &str, text: &'a str) -> Line<'a> {
    let plain = |caller| Line {
        caller,
        monotonic_us: None,
        text,
    };
    match program == "kernel" || program.starts_with("kernel[") {
        true => stamped(text).unwrap_or_else(|| plain(Caller::Kernel)),
        false => plain(Caller::Foreign),
    }
}

fn bracketed_caller(after: &str) -> (Caller, &str) {
    if let Some((inside, tail)) = after
        .trim_start_matches(' ')
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        if let Some(caller) = caller_id(inside.trim()) {
            return (caller, tail);
        }
        // Vendor kernels print "[cpu:  comm: pid]".
        if let Some((cpu, rest)) = inside.trim().split_once(':')
            && cpu.parse::<u16>().is_ok()
            && let Some((_, pid)) = rest.rsplit_once(':')
            && let Ok(pid) = pid.trim().parse()
        {
            return (Caller::Task(pid), tail);
        }
    }
    (Caller::Kernel, after)
}

fn caller_id(raw: &str) -> Option<Caller> {
    let id = raw.get(1..)?.trim().parse().ok()?;
    match raw.as_bytes().first()? {
        b'T' => Some(Caller::Task(id)),
        b'C' => Some(Caller::Cpu(id)),
        _ => None,
    }
}

/// `   55.967976` to microseconds.
fn seconds(inside: &str) -> Option<u64> {
    let (whole, fraction) = inside.trim().split_once('.')?;
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if whole.starts_with('+') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000".chars()).take(6).collect();
    whole
        .checked_mul(1_000_000)?
        .checked_add(digits.parse().ok()?)
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn is_iso(stamp: &str) -> bool {
    stamp.len() >= 19 && stamp.as_bytes()[10] == b'T' && stamp.as_bytes()[13] == b':'
}

/// `dmesg --reltime`: `+0.000123` since the line before, `Nov23 05:10` where a minute begins.
fn is_relative(inside: &str) -> bool {
    let inside = inside.trim();
    if let Some(since) = inside.strip_prefix('+') {
        return seconds(since).is_some();
    }
    let month = inside.get(..3).is_some_and(|name| MONTHS.contains(&name));
    month && inside.len() <= 12 && inside.bytes().filter(|&b| b == b':').count() == 1
}

fn is_wall_clock(inside: &str) -> bool {
    inside.len() <= 40
        && inside.get(..3).is_some_and(|day| DAYS.contains(&day))
        && inside.bytes().filter(|&b| b == b':').count() == 2
}

/// `Nov 23 05:33:11 host kernel: text` and the ISO form.
fn syslog(raw: &str) -> Option<Line<'_>> {
    if !is_syslog_stamp(raw) {
        return None;
    }
    let (head, rest) = raw.split_once(": ")?;
    if head.len() > 160 {
        return None;
    }
    let ident = head.rsplit(' ').next()?;
    Some(by(ident, rest))
}

/// `Nov 23 05:33:11` or `2026-11-23T05:33:11` at the start. The month is in the host's language.
fn is_syslog_stamp(raw: &str) -> bool {
    let mut words = raw.split_ascii_whitespace();
    let Some(first) = words.next() else {
        return false;
    };
    if is_iso(first) {
        return true;
    }
    let is_month = first.len() <= 24 && first.chars().any(char::is_alphabetic);
    is_month
        && words
            .next()
            .is_some_and(|day| day.trim_end_matches('.').parse::<u8>().is_ok())
        && words.next().is_some_and(is_clock)
}

/// `05:33:11`, with a fraction or without.
fn is_clock(word: &str) -> bool {
    let mut parts = word.splitn(3, ':');
    let mut two = || {
        let part = parts.next().and_then(|part| part.get(..2));
        part.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
    };
    two() && two() && two()
}

/// A program wrote to the console without a line end, and the kernel went on in the same line.
fn stamp_in_the_middle(raw: &str) -> Option<Line<'_>> {
    let mut from = 0;
    for _ in 0..4 {
        let at = from + raw.get(from..)?.find('[')?;
        if at > 200 {
            return None;
        }
        let line = raw.get(at..).and_then(stamped);
        if let Some(line) = line
            && line.monotonic_us.is_some()
        {
            return Some(line);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_known_prefix_is_split_off() {
        let cases = [
            (
                "[   55.967976] WARNING: x",
                Caller::Kernel,
                Some(55_967_976),
                "WARNING: x",
            ),
            (
                "<4>[    1.5][ T12]  frame",
                Caller::Task(12),
                Some(1_500_000),
                " frame",
            ),
            (
                "[ 44.381969][    C4] BUG",
                Caller::Cpu(4),
                Some(44_381_969),
                "BUG",
            ),
            ("<4> Call Trace:", Caller::Kernel, None, "Call Trace:"),
            (
                "6,1234,5678901,-;hello",
                Caller::Kernel,
                Some(5_678_901),
                "hello",
            ),
            (
                "4,7,99,c,caller=T44;hello",
                Caller::Task(44),
                Some(99),
                "hello",
            ),
            (
                "Nov 23 05:33:11 h kernel: [  1.000001] hi",
                Caller::Kernel,
                Some(1_000_001),
                "hi",
            ),
            (
                "2026-11-23T05:33:11.5+00:00 h kernel: hi",
                Caller::Kernel,
                None,
                "hi",
            ),
            (
                "Nov  3 05:33:11 h app[3]: BUG: hi",
                Caller::Foreign,
                None,
                "BUG: hi",
            ),
            ("[Mon Nov 23 05:10:51 2026] hi", Caller::Kernel, None, "hi"),
            ("[Nov23 05:10] hi", Caller::Kernel, None, "hi"),
            ("[  +0.000123] hi", Caller::Kernel, None, "hi"),
            (
                "[   41.5] h-1 systemd[1]: BUG: hi",
                Caller::Foreign,
                Some(41_500_000),
                "BUG: hi",
            ),
            (
                "<30>1 2026-11-23T05:33:11Z h app 12 - - BUG: hi",
                Caller::Foreign,
                None,
                "BUG: hi",
            ),
            ("6.1.0-9,4,7,99,-;hello", Caller::Kernel, Some(99), "hello"),
            ("plain text", Caller::Bare, None, "plain text"),
            (
                "executing program 1:[  2.5] BUG",
                Caller::Kernel,
                Some(2_500_000),
                "BUG",
            ),
        ];
        for (raw, caller, monotonic_us, text) in cases {
            assert_eq!(
                parse(raw),
                Line {
                    caller,
                    monotonic_us,
                    text
                },
                "{raw}"
            );
        }
    }

    #[test]
    fn absurd_seconds_are_no_stamp() {
        assert_eq!(parse("[99999999999999999999.000000] x").monotonic_us, None);
        assert_eq!(parse("[18446744073709551615.000000] x").monotonic_us, None);
    }
}
