//! Rows of a kernel report: stack frames, the faulting instruction, where a trace begins.

/// One stack frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Normalised function.
    pub function: String,
    /// The kernel module it lives in; `None` for the core kernel.
    pub module: Option<String>,
}

/// What a row means to whoever looks for the function to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Frames, innermost first (32-bit arm prints a callee and its caller in one row).
    Frames(Vec<Frame>),
    /// The faulting instruction; `None` where it lies outside any known function.
    Instruction(Option<Frame>),
    /// `Call Trace:`, `Backtrace:`: the stack of whoever reports.
    Trace,
    /// The stack of somebody else begins (allocated by, freed by, stored at).
    SideTrace,
    /// A frame the unwinder itself doubts (`?`, `(unreliable)`): shown, never blamed.
    Doubtful(Frame),
    /// Anything else.
    Plain,
}

/// Longest function name kept; the kernel's own limit is 512.
const FUNCTION_BYTES_MAX: usize = 256;

/// Classifies one row.
#[must_use]
pub fn row(text: &str) -> Row {
    if is_trace_start(text) {
        return Row::Trace;
    }
    if is_side_trace(text) {
        return Row::SideTrace;
    }
    if let Some(frame) = instruction(text) {
        return Row::Instruction(frame);
    }
    match frames(text) {
        Some((frames, false)) => Row::Frames(frames),
        Some((mut frames, true)) => frames.pop().map_or(Row::Plain, Row::Doubtful),
        None => Row::Plain,
    }
}

fn is_trace_start(text: &str) -> bool {
    text.contains("Call Trace") || text.contains("Call trace") || text.contains("Backtrace:")
}

fn is_side_trace(text: &str) -> bool {
    if let Some(at) = text.find("backtrace") {
        let after = &text[at + "backtrace".len()..];
        // "stack backtrace:" only announces the "Call Trace:" below it.
        let announces = text[..at].ends_with("stack ");
        return !announces
            && (after.starts_with(':') || after.starts_with(" (crc "))
            && text[..at].ends_with(' ');
    }
    ["Allocated:", "Freed:", "Uninit was stored to memory at"]
        .iter()
        .any(|start| text.contains(start))
        || by_task(text, "Allocated by task ")
        || by_task(text, "Freed by task ")
        || (text.contains("badaddr: ") && text.contains("cause: ") && text.contains("status: "))
}

fn by_task(text: &str, start: &str) -> bool {
    text.find(start).is_some_and(|at| {
        let rest = &text[at + start.len()..];
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(':')
    })
}

/// Frames of a row and whether the unwinder doubts them.
fn frames(text: &str) -> Option<(Vec<Frame>, bool)> {
    let mut rest = text.trim_start();
    for _ in 0..4 {
        let before = rest;
        rest = skip_markers(rest);
        rest = skip_address(rest);
        if rest.len() == before.len() {
            break;
        }
    }
    if let Some(inner) = rest.strip_prefix("? ") {
        return symbol(skip_address(inner.trim_start())).map(|(frame, _)| (vec![frame], true));
    }
    if let Some(pair) = arm_pair(rest) {
        return Some((pair, false));
    }
    let rest = rest.strip_prefix('(').unwrap_or(rest);
    let (frame, after) = symbol(rest)?;
    Some((vec![frame], after.contains("(unreliable)")))
}

/// `<IRQ>`, `<EOI>`, `<TASK>`, `<<NMI>>`, `#DF`, and the numbering of older traces (`#1 [..]`).
fn skip_markers(text: &str) -> &str {
    let mut rest = text.trim_start();
    for marker in [
        "<IRQ>",
        "<EOI>",
        "<TASK>",
        "<NMI>",
        "<#DF>",
        "<SOFTIRQ>",
        "<ENTRY_TRAMPOLINE>",
    ] {
        if let Some(tail) = rest.strip_prefix(marker) {
            rest = tail.trim_start();
        }
    }
    if let Some(tail) = rest.strip_prefix("<<").and_then(|r| r.split_once(">>")) {
        rest = tail.1.trim_start();
    }
    rest
}

/// `[<ffffffff81d90469>] `, `[c000000000f0c9f0] `, `([<...>] `.
fn skip_address(text: &str) -> &str {
    let open = text.strip_prefix('(').unwrap_or(text);
    let Some((inside, tail)) = open.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return text;
    };
    let digits = inside.trim().trim_start_matches('<').trim_end_matches('>');
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    if digits.len() >= 4 && digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        tail.trim_start()
    } else {
        text
    }
}

/// `(callee+0x0/0xf4) from [<c005ccb8>] (caller+0x14f8/0x1b98)` and `callee from caller+0x10/0x14`.
fn arm_pair(text: &str) -> Option<Vec<Frame>> {
    let (callee, caller) = text.split_once(" from ")?;
    let callee = callee.trim_start_matches('(').trim_end_matches(')');
    let callee = match symbol(callee) {
        Some((frame, _)) => frame,
        None => Frame {
            module: module_suffix(callee),
            function: name(callee.split(' ').next()?)?,
        },
    };
    let caller = skip_address(caller.trim_start());
    let (caller, _) = symbol(caller.strip_prefix('(').unwrap_or(caller))?;
    Some(vec![callee, caller])
}

/// `func.isra.2+0x1f/0x40 [module build]` and `:module:func+0x1/0x2`; the frame and what follows it.
pub(super) fn symbol(text: &str) -> Option<(Frame, &str)> {
    let mut text = text;
    let mut old_module = None;
    if let Some((module, rest)) = text.strip_prefix(':').and_then(|rest| rest.split_once(':')) {
        old_module = Some(module.to_owned());
        text = rest;
    }
    // Some unwinders number the code segment: "0010:func+0x1/0x2".
    if let Some((segment, rest)) = text.split_once(':')
        && segment.len() == 4
        && segment.bytes().all(|b| b.is_ascii_hexdigit())
    {
        text = rest;
    }
    let plus = text.find("+0x")?;
    let raw = &text[..plus];
    let after = &text[plus + 3..];
    let size_at = after.find(|c: char| !c.is_ascii_hexdigit())?;
    let after = after[size_at..].strip_prefix("/0x")?;
    let end = after
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(after.len());
    let tail = &after[end..];
    Some((
        Frame {
            function: name(raw)?,
            module: old_module.or_else(|| module_suffix(tail)),
        },
        tail,
    ))
}

/// ` [radeon 1234abcd]` after a symbol.
fn module_suffix(tail: &str) -> Option<String> {
    let inside = tail.split_once('[')?.1.split_once(']')?.0;
    let module = inside.split(' ').next()?;
    let plausible = !module.is_empty()
        && module.len() <= 64
        && module != "inline"
        && module
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    plausible.then(|| module.to_owned())
}

/// Checks and normalises a symbol name: no offset, no compiler suffix, Rust demangled.
///
/// ```
/// use ringward_evidence::linux::klog::normalise;
/// assert_eq!(normalise("do_ipv6_setsockopt.isra.13").as_deref(), Some("do_ipv6_setsockopt"));
/// assert_eq!(normalise("not a symbol"), None);
/// ```
pub fn name(raw: &str) -> Option<String> {
    let raw = raw.strip_prefix('.').unwrap_or(raw);
    let known = !raw.is_empty()
        && raw.len() <= FUNCTION_BYTES_MAX
        && raw
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'$');
    if !known {
        return None;
    }
    if (raw.starts_with("_R") || raw.starts_with("_ZN"))
        && let Ok(demangled) = rustc_demangle::try_demangle(raw)
    {
        let plain = format!("{demangled:#}");
        return (plain.len() <= FUNCTION_BYTES_MAX).then_some(plain);
    }
    let plain = raw.split('.').next()?;
    (!plain.is_empty()).then(|| plain.to_owned())
}

/// The row that names the faulting instruction; `Some(None)` where the address has no symbol.
fn instruction(text: &str) -> Option<Option<Frame>> {
    let text = text.trim_start();
    let after = [
        "RIP:",
        "EIP:",
        "EIP is at",
        "IP:",
        "PC is at",
        "NIP:",
        "epc :",
        "epc   :",
        "Krnl PSW :",
        "ERA:",
        "PC:",
    ]
    .iter()
    .find_map(|start| text.strip_prefix(start))
    .or_else(|| text.strip_prefix("pc :"))
    .or_else(|| text.strip_prefix("RIP ").filter(|rest| rest.contains("[<")))
    .or_else(|| {
        text.strip_prefix("NIP ")
            .filter(|rest| rest.starts_with('['))
    })?;
    if let Some(at) = after.find('(')
        && text.starts_with("Krnl PSW")
    {
        return Some(symbol(&after[at + 1..]).map(|(frame, _)| frame));
    }
    let mut rest = after.trim_start();
    // "0010:[<addr>]  [<addr>] func+0x1/0x2": segment, then up to two addresses.
    if let Some((segment, tail)) = rest.split_once(':')
        && segment.len() <= 4
        && !segment.is_empty()
        && segment.bytes().all(|b| b.is_ascii_hexdigit())
    {
        rest = tail.trim_start();
    }
    for _ in 0..2 {
        rest = skip_address(rest);
    }
    // mips: "epc   : 80110ac4 func+0x1/0x2".
    if let Some((address, tail)) = rest.split_once(' ')
        && address.len() >= 8
        && address.bytes().all(|b| b.is_ascii_hexdigit())
        && tail.contains("+0x")
    {
        rest = tail.trim_start();
    }
    let found = symbol(rest).map(|(frame, _)| frame);
    // On POWER the bare address comes first, and its symbol in a row below the registers.
    (found.is_some() || !text.starts_with("NIP:")).then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(function: &str, module: Option<&str>) -> Frame {
        Frame {
            function: function.to_owned(),
            module: module.map(str::to_owned),
        }
    }

    #[test]
    fn frames_of_every_architecture_are_read() {
        let cases = [
            (
                " dump_stack+0x194/0x257 lib/dump_stack.c:53",
                "dump_stack",
                None,
            ),
            (
                " [<ffffffff81d90469>] do_x.isra.13+0xc1/0x128 [kvm]",
                "do_x",
                Some("kvm"),
            ),
            (
                " <IRQ>  [<ffffffff849381e4>] f.cold.44+0xe1/0x157",
                "f",
                None,
            ),
            (
                "[c000000000f0c9f0] [c0000000000abcd0] .panic+0x1/0x2",
                "panic",
                None,
            ),
            (
                "([<000000000012b4c6>] show_trace+0x12/0x34)",
                "show_trace",
                None,
            ),
            (
                " [<f88e11c7>] :radeon:radeon_cp_resume+0x7d/0xbc",
                "radeon_cp_resume",
                Some("radeon"),
            ),
            (
                " ieee80211_rx+0x1/0x2 [mac80211 1234abcd]",
                "ieee80211_rx",
                Some("mac80211"),
            ),
        ];
        for (text, function, module) in cases {
            assert_eq!(
                row(text),
                Row::Frames(vec![frame(function, module)]),
                "{text}"
            );
        }
    }

    #[test]
    fn arm_rows_hold_callee_and_caller() {
        let text = "[<c0014990>] (unwind+0x0/0xf4) from [<bf054120>] (irq+0x18/0xdc [mxs_mmc])";
        assert_eq!(
            row(text),
            Row::Frames(vec![frame("unwind", None), frame("irq", Some("mxs_mmc"))])
        );
        assert_eq!(
            row(" unwind_backtrace from show_stack+0x10/0x14"),
            Row::Frames(vec![
                frame("unwind_backtrace", None),
                frame("show_stack", None)
            ])
        );
    }

    #[test]
    fn doubtful_frames_are_marked() {
        for text in [
            " ? foo+0x1/0x2",
            " [<ffffffff81d90469>] ? foo+0x1/0x2",
            "[c00000000000f0c9] [c0000000000abcd0] foo+0x1/0x2 (unreliable)",
        ] {
            assert_eq!(row(text), Row::Doubtful(frame("foo", None)), "{text}");
        }
    }

    #[test]
    fn the_faulting_instruction_is_found() {
        let cases = [
            ("RIP: 0010:foo+0x1/0x2", Some(frame("foo", None))),
            (
                "RIP: 0010:[<ffffffff81d90469>]  [<ffffffff81d90469>] foo+0x1/0x2",
                Some(frame("foo", None)),
            ),
            ("RIP: 0033:0x455a09", None),
            (
                "EIP is at foo+0x90/0x302 [radeon]",
                Some(frame("foo", Some("radeon"))),
            ),
            (
                "IP: [<f88dec25>] :radeon:foo+0x90/0x302",
                Some(frame("foo", Some("radeon"))),
            ),
            ("pc : foo+0x1/0x2", Some(frame("foo", None))),
            ("PC is at foo+0x154/0x39c", Some(frame("foo", None))),
            (
                "NIP [c00000000000abcd] .foo+0x1/0x2",
                Some(frame("foo", None)),
            ),
            (
                "Krnl PSW : 0704e00180000000 00000000001234 (foo+0x12/0x34 [qeth])",
                Some(frame("foo", Some("qeth"))),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(row(text), Row::Instruction(expected), "{text}");
        }
    }

    #[test]
    fn traces_of_others_are_told_apart() {
        assert_eq!(row("Call trace:"), Row::Trace);
        assert_eq!(row("stack backtrace:"), Row::Plain);
        assert_eq!(row("  backtrace (crc c9a1c131):"), Row::SideTrace);
        assert_eq!(row("Freed by task 12:"), Row::SideTrace);
    }
}
