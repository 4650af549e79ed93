//! What kind of report a header begins, how it is titled, and how its function is found.

mod locks;
mod sanitizers;
mod warnings;

use super::blame::{Body, Plan};
use super::header::Lead;
use super::plans;

pub(super) use warnings::source_of;

/// The kind of a report and how to read it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Finding kind, kebab case.
    pub kind: &'static str,
    /// The title without the function.
    pub head: String,
    /// How the function is found; `None` where the message names nobody.
    pub plan: Option<&'static Plan>,
    /// Whether the title ends with ` in <function>`.
    pub titled: bool,
    /// A fixed end of the title (`/usb_submit_urb`).
    pub tail: &'static str,
}

fn shape(kind: &'static str, head: impl Into<String>, plan: &'static Plan) -> Shape {
    Shape {
        kind,
        head: head.into(),
        plan: Some(plan),
        titled: true,
        tail: "",
    }
}

/// A message that is its own title; the function, where a stack follows, is evidence only.
fn plain(kind: &'static str, head: impl Into<String>, plan: &'static Plan) -> Shape {
    Shape {
        titled: false,
        ..shape(kind, head, plan)
    }
}

/// [`plain`] with the reporter's stack.
fn notice(kind: &'static str, head: impl Into<String>) -> Shape {
    plain(kind, head, &plans::REPORTER)
}

/// The shape of a report; row 0 is its header.
#[must_use]
pub fn of(lead: Lead, rows: &[Body]) -> Shape {
    let text = rows.first().map_or("", |row| row.text.as_str());
    match lead {
        Lead::Bug => bug(after(text, "BUG:"), rows),
        Lead::SlabBug => plain(
            "slab-corruption",
            format!(
                "BUG: {}",
                stable(text.rsplit_once("): ").map_or(text, |(_, what)| what))
            ),
            &plans::SLAB,
        ),
        Lead::SlabInfo => plain(
            "slab-corruption",
            format!("INFO: {}", stable(&without_offsets(after(text, "INFO:")))),
            &plans::SLAB,
        ),
        Lead::Warning => warnings::warning(after(text, "WARNING:"), rows),
        Lead::Info => info(after(text, "INFO:"), rows),
        Lead::Unable => unable(text),
        Lead::Protection => shape(
            "general-protection-fault",
            "general protection fault",
            &plans::FAULT,
        ),
        Lead::StackSegment => shape("stack-segment-fault", "stack segment fault", &plans::FAULT),
        Lead::Panic => panic(text),
        Lead::DoubleFault => shape("double-fault", "PANIC: double fault", &plans::FAULT),
        Lead::Rust => rust(rows),
        Lead::KernelBug => kernel_bug(text),
        Lead::Divide => shape("divide-error", "divide error", &plans::FAULT),
        Lead::InvalidOpcode => shape("invalid-opcode", "invalid opcode", &plans::FAULT),
        Lead::Breakpoint => shape("int3", "int3", &plans::FAULT),
        Lead::Ubsan => sanitizers::ubsan(after(text, "UBSAN:")),
        Lead::NetdevBusy => notice(
            "netdevice-leak",
            "unregister_netdevice: waiting for DEV to become free",
        ),
        Lead::VfsClose => notice(
            "vfs-corruption",
            "VFS: Close: file count is zero (use-after-free)",
        ),
        Lead::VfsBusy => notice(
            "vfs-corruption",
            "VFS: Busy inodes after unmount (use-after-free)",
        ),
        Lead::InternalError => shape("internal-error", "Internal error", &plans::FAULT),
        Lead::UnhandledFault => shape("unhandled-fault", "Unhandled fault", &plans::FAULT),
        Lead::AlignmentTrap => shape("alignment-trap", "Alignment trap", &plans::FAULT),
        Lead::Trusty => notice("trusted-os-panic", trusty(text)),
        Lead::HardLockup => shape("hard-lockup", "hard lockup", &plans::STALL),
        Lead::MachineCheck => notice("machine-check", stable(text)),
        Lead::ListCorruption => shape("list-corruption", "BUG: corrupted list", &plans::REPORTER),
        Lead::SpuriousInterrupt => notice("spurious-interrupt", stable(text)),
        Lead::Check => plain(
            "kernel-warning",
            stable(&without_offsets(text)),
            &plans::REPORTER,
        ),
        Lead::UnknownNmi => notice("unknown-nmi", "NMI received for unknown reason"),
        Lead::Oops => shape("kernel-oops", "Oops", &plans::FAULT),
        Lead::Reboot => notice("unexpected-reboot", "unexpected kernel reboot"),
    }
}

fn after<'a>(text: &'a str, word: &str) -> &'a str {
    text.find(word)
        .map_or(text, |at| text[at + word.len()..].trim_start())
}

/// A message with what differs from one occurrence to the next made constant.
fn stable(text: &str) -> String {
    let mut out = String::new();
    for (at, word) in text
        .trim()
        .trim_matches(['[', ']'])
        .split_whitespace()
        .enumerate()
    {
        if at > 0 {
            out.push(' ');
        }
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = bare.strip_prefix("0x").unwrap_or(bare);
        if bare.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            out.push_str(&word.replace(bare, "ADDR"));
        } else {
            numbers_out(word, &mut out);
        }
    }
    out
}

/// [`stable`], saying so where the text was torn off.
fn or_torn(text: &str) -> String {
    if text.trim().is_empty() {
        "corrupted".to_owned()
    } else {
        stable(text)
    }
}

/// Numbers that stand alone (`pid=12`, `#3`) become `NUM`; digits inside names stay.
fn numbers_out(word: &str, out: &mut String) {
    let mut rest = word;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = start
            + rest[start..]
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len() - start);
        let inside_name =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let part_of_name =
            inside_name(rest[..start].chars().last()) || inside_name(rest[end..].chars().next());
        out.push_str(&rest[..start]);
        out.push_str(if part_of_name {
            &rest[start..end]
        } else {
            "NUM"
        });
        rest = &rest[end..];
    }
    out.push_str(rest);
}

fn bug(rest: &str, rows: &[Body]) -> Shape {
    if let Some(rest) = rest.strip_prefix("KASAN:") {
        return sanitizers::kasan(rest.trim_start(), rows);
    }
    if let Some(rest) = rest.strip_prefix("KMSAN:") {
        let what = first_words(rest);
        let plan = if what == "kernel-usb-infoleak" {
            &plans::USB_LEAK
        } else {
            &plans::BARE_STACK
        };
        return shape("kmsan", format!("KMSAN: {what}"), plan);
    }
    if let Some(rest) = rest.strip_prefix("KCSAN:") {
        return sanitizers::kcsan(rest.trim());
    }
    if let Some(rest) = rest.strip_prefix("KFENCE:") {
        return shape(
            "kfence",
            format!("KFENCE: {}", first_words(rest)),
            &plans::FENCE,
        );
    }
    let lower = rest.to_ascii_lowercase();
    if lower.starts_with("unable to handle") || lower.starts_with("kernel null pointer") {
        return unable(rest);
    }
    for lock in ["spinlock", "rwlock"] {
        if let Some(what) = lower.strip_prefix(lock) {
            let what = what
                .trim()
                .split([',', ':'])
                .next()
                .unwrap_or("")
                .split(" on ")
                .next()
                .unwrap_or("");
            return shape(
                "spinlock-misuse",
                format!("BUG: {lock} {}", what.trim()),
                &plans::SPIN,
            );
        }
    }
    bug_phrase(rest).unwrap_or_else(|| notice("kernel-bug", format!("BUG: {}", or_torn(rest))))
}

/// A message the kernel prints word for word, and its shape.
struct Phrase {
    words: &'static str,
    kind: &'static str,
    head: &'static str,
    plan: &'static Plan,
}

const fn phrase(
    words: &'static str,
    kind: &'static str,
    head: &'static str,
    plan: &'static Plan,
) -> Phrase {
    Phrase {
        words,
        kind,
        head,
        plan,
    }
}

/// `BUG:` messages whose title ends with a function; the first that fits counts.
const TITLED_BUGS: &[Phrase] = &[
    phrase(
        "soft lockup",
        "soft-lockup",
        "BUG: soft lockup",
        &plans::STALL,
    ),
    phrase(
        "still has locks held",
        "lock-leak",
        "BUG: still has locks held",
        &plans::UNLOCK,
    ),
    phrase(
        "scheduling while atomic",
        "sleep-in-atomic",
        "BUG: scheduling while atomic",
        &plans::SCHEDULED,
    ),
    phrase(
        "sleeping function called from invalid context",
        "sleep-in-atomic",
        "BUG: sleeping function called from invalid context",
        &plans::REPORTER,
    ),
    phrase(
        "lock held when returning to user space",
        "lock-leak",
        "BUG: lock held when returning to user space",
        &plans::LOCK_SITE,
    ),
    phrase(
        "bad unlock balance",
        "lock-misuse",
        "BUG: bad unlock balance",
        &plans::UNLOCK,
    ),
    phrase(
        "held lock freed",
        "lock-misuse",
        "BUG: held lock freed",
        &plans::UNLOCK,
    ),
    phrase(
        "Bad page state",
        "bad-page",
        "BUG: Bad page state",
        &plans::PAGE,
    ),
    phrase(
        "Bad page cache",
        "bad-page",
        "BUG: Bad page cache",
        &plans::PAGE,
    ),
    phrase(
        "workqueue leaked lock or atomic",
        "lock-leak",
        "BUG: workqueue leaked lock or atomic",
        &plans::LAST_FUNCTION,
    ),
    phrase("memory leak", "memory-leak", "memory leak", &plans::LEAK),
    phrase(
        "stack guard page was hit",
        "stack-overflow",
        "BUG: stack guard page was hit",
        &plans::STALL,
    ),
    phrase(
        "Invalid wait context",
        "lock-misuse",
        "WARNING: locking bug",
        &plans::INVALID_WAIT,
    ),
];

/// `BUG:` messages that are their own title.
const PLAIN_BUGS: &[Phrase] = &[
    phrase(
        "Bad page map",
        "bad-page",
        "BUG: Bad page map",
        &plans::REPORTER,
    ),
    phrase(
        "Bad rss-counter state",
        "bad-page",
        "BUG: Bad rss-counter state",
        &plans::REPORTER,
    ),
    phrase(
        "workqueue lockup",
        "workqueue-lockup",
        "BUG: workqueue lockup",
        &plans::REPORTER,
    ),
    phrase(
        "[unmount of ",
        "vfs-corruption",
        "BUG: Dentry still in use in unmount",
        &plans::DENTRY,
    ),
    phrase(
        "still in use",
        "vfs-corruption",
        "BUG: Dentry still in use",
        &plans::DENTRY,
    ),
];

/// Whether the text behind `BUG:` is a message this module knows by its words.
pub(super) fn is_known_bug(rest: &str) -> bool {
    const STARTS: [&str; 8] = [
        "KASAN:",
        "KMSAN:",
        "KCSAN:",
        "KFENCE:",
        "unable to handle",
        "Unable to handle",
        "kernel NULL",
        "using ",
    ];
    STARTS.iter().any(|start| rest.starts_with(start)) || bug_phrase(rest).is_some()
}

fn bug_phrase(rest: &str) -> Option<Shape> {
    let in_text = |phrase: &&Phrase| rest.contains(phrase.words);
    if let Some(known) = TITLED_BUGS.iter().find(in_text) {
        return Some(shape(known.kind, known.head, known.plan));
    }
    if let Some(known) = PLAIN_BUGS.iter().find(in_text) {
        return Some(plain(known.kind, known.head, known.plan));
    }
    if rest.starts_with("non-zero ") && rest.contains("on freeing mm") {
        let what = rest.split(':').next().unwrap_or(rest);
        return Some(notice("bad-page", format!("BUG: {}", stable(what))));
    }
    let helper = rest
        .strip_prefix("using ")
        .filter(|_| rest.contains("in preemptible"))?;
    let helper = helper.split("()").next().unwrap_or("");
    let head = format!("BUG: using {helper}() in preemptible code");
    Some(shape("preemption-misuse", head, &plans::PREEMPTIBLE))
}

/// `slab-use-after-free in foo+0x1/0x2` up to ` in `.
fn first_words(rest: &str) -> &str {
    let rest = rest.trim();
    rest.split_once(" in ")
        .map_or(rest, |(what, _)| what)
        .trim()
}

/// `foo+0x739/0x770 at` to `foo at`.
fn without_offsets(text: &str) -> String {
    text.split_whitespace()
        .map(|word| word.split("+0x").next().unwrap_or(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn unable(text: &str) -> Shape {
    let lower = text.to_ascii_lowercase();
    let (kind, what) = if lower.contains("null pointer") {
        ("null-dereference", "kernel NULL pointer dereference")
    } else if lower.contains("access to user memory") {
        ("kernel-page-fault", "kernel access to user memory")
    } else {
        ("kernel-page-fault", "kernel paging request")
    };
    shape(kind, format!("BUG: unable to handle {what}"), &plans::FAULT)
}

fn panic(text: &str) -> Shape {
    let reason = super::header::panic_reason(text).unwrap_or("");
    if let Some(named) = reason.strip_prefix("stack-protector:") {
        // Without symbols the kernel prints the bare address.
        let plan = if named.contains('+') || named.contains('.') {
            &plans::NAMED_CANARY
        } else {
            &plans::CANARY
        };
        return shape("stack-corruption", "kernel panic: stack is corrupted", plan);
    }
    if reason.starts_with("corrupted stack end") {
        return shape(
            "stack-overflow",
            "kernel panic: corrupted stack end",
            &plans::STACK_END,
        );
    }
    if reason.starts_with("kernel stack overflow") {
        return shape(
            "stack-overflow",
            "kernel stack overflow",
            &plans::STACK_OVERFLOW,
        );
    }
    if ["hung_task", "softlockup", "NMI: "]
        .iter()
        .any(|watcher| reason.starts_with(watcher))
    {
        // The stack is that of whoever watched.
        return Shape {
            plan: None,
            ..notice("kernel-panic", format!("kernel panic: {}", stable(reason)))
        };
    }
    let head = if reason.starts_with("Attempted to kill init!") {
        "Attempted to kill init!".to_owned()
    } else if reason.starts_with("Fatal exception") {
        "Fatal exception".to_owned()
    } else {
        stable(reason.split(" for ").next().unwrap_or(reason))
    };
    notice("kernel-panic", format!("kernel panic: {head}"))
}

fn rust(rows: &[Body]) -> Shape {
    let what = rows.get(1).map_or("panicked", |row| row.text.trim());
    shape("rust-panic", stable(what), &plans::RUST)
}

fn kernel_bug(text: &str) -> Shape {
    if text.contains("at mm/usercopy.c") {
        shape("bad-usercopy", "BUG: bad usercopy", &plans::USERCOPY)
    } else if text.contains("at lib/list_debug.c") {
        shape("list-corruption", "BUG: corrupted list", &plans::REPORTER)
    } else {
        shape("kernel-bug", "kernel BUG", &plans::BUG_ON)
    }
}

fn trusty(text: &str) -> String {
    let what = text.split_once("): ").map_or("", |(_, what)| what);
    match what.split_once("ASSERT FAILED") {
        Some((_, why)) => {
            let why = why.split_once("): ").map_or("", |(_, why)| why);
            format!("trusty: ASSERT FAILED: {}", stable(why))
                .trim_end()
                .to_owned()
        }
        None => format!("trusty: panic: {}", stable(what)),
    }
}

fn info(rest: &str, rows: &[Body]) -> Shape {
    let has = |what: &str| rest.contains(what);
    if let Some(deadlock) = locks::order(rest, rows) {
        return deadlock;
    }
    if has("detected") && has("stall") {
        return shape("rcu-stall", "INFO: rcu detected stall", &plans::RCU_STALL);
    }
    if has("non-static key") {
        return shape(
            "lock-misuse",
            "INFO: trying to register non-static key",
            &plans::STATIC_KEY,
        );
    }
    if has("suspicious RCU usage") || has("suspicious rcu_") {
        return shape(
            "suspicious-rcu-usage",
            "INFO: suspicious RCU usage",
            &plans::RCU_USAGE,
        );
    }
    if has("blocked for more than") || has("blocked in I/O wait") {
        return shape("hung-task", "INFO: task hung", &plans::HUNG);
    }
    if has("can't die for more than") {
        return shape("hung-task", "INFO: task can't die", &plans::SCHEDULED);
    }
    plain(
        "slab-corruption",
        format!("INFO: {}", stable(&without_offsets(rest))),
        &plans::REPORTER,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lose_what_changes_between_occurrences() {
        assert_eq!(
            stable("Freed in f age=12 cpu=0 pid=99 at ffff88002a05"),
            "Freed in f age=NUM cpu=NUM pid=NUM at ADDR"
        );
        assert_eq!(stable("ext4 on sda1"), "ext4 on sda1");
    }
}
