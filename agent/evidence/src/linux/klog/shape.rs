//! What kind of report a header begins, how it is titled, and how its function is found.

use super::blame::{Body, Plan};
use super::header::Lead;
use super::plans;

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

/// The shape of a report; row 0 is its header.
#[must_use]
pub fn of(lead: Lead, rows: &[Body]) -> Shape {
    let text = rows.first().map_or("", |row| row.text.as_str());
    match lead {
        Lead::Bug => bug(after(text, "BUG:"), rows),
        Lead::SlabBug => plain(
            "slab-corruption",
            format!("BUG: {}", stable(text.rsplit_once("): ").map_or(text, |(_, what)| what))),
            &plans::REPORTER,
        ),
        Lead::Warning => warning(after(text, "WARNING:"), rows),
        Lead::Info => info(after(text, "INFO:"), rows),
        Lead::Unable => unable(text),
        Lead::Protection => shape("general-protection-fault", "general protection fault", &plans::FAULT),
        Lead::StackSegment => shape("stack-segment-fault", "stack segment fault", &plans::FAULT),
        Lead::Panic => panic(text),
        Lead::DoubleFault => shape("double-fault", "PANIC: double fault", &plans::FAULT),
        Lead::Rust => rust(rows),
        Lead::KernelBug => kernel_bug(text),
        Lead::Divide => shape("divide-error", "divide error", &plans::FAULT),
        Lead::InvalidOpcode => shape("invalid-opcode", "invalid opcode", &plans::FAULT),
        Lead::Breakpoint => shape("int3", "int3", &plans::FAULT),
        Lead::Ubsan => ubsan(after(text, "UBSAN:")),
        Lead::NetdevBusy => plain(
            "netdevice-leak",
            "unregister_netdevice: waiting for DEV to become free",
            &plans::REPORTER,
        ),
        Lead::VfsClose => plain("vfs-corruption", "VFS: Close: file count is zero (use-after-free)", &plans::REPORTER),
        Lead::VfsBusy => plain("vfs-corruption", "VFS: Busy inodes after unmount (use-after-free)", &plans::REPORTER),
        Lead::InternalError => shape("internal-error", "Internal error", &plans::FAULT),
        Lead::UnhandledFault => shape("unhandled-fault", "Unhandled fault", &plans::FAULT),
        Lead::AlignmentTrap => shape("alignment-trap", "Alignment trap", &plans::FAULT),
        Lead::Trusty => plain("trusted-os-panic", trusty(text), &plans::REPORTER),
        Lead::HardLockup => shape("hard-lockup", "hard lockup", &plans::STALL),
        Lead::MachineCheck => plain("machine-check", stable(text), &plans::REPORTER),
        Lead::ListCorruption => shape("list-corruption", "BUG: corrupted list", &plans::REPORTER),
        Lead::SpuriousInterrupt => plain("spurious-interrupt", stable(text), &plans::REPORTER),
        Lead::Oops => shape("kernel-oops", "Oops", &plans::FAULT),
        Lead::Reboot => plain("unexpected-reboot", "unexpected kernel reboot", &plans::REPORTER),
    }
}

fn after<'a>(text: &'a str, word: &str) -> &'a str {
    text.find(word).map_or(text, |at| text[at + word.len()..].trim_start())
}

/// A message with what differs from one occurrence to the next made constant.
fn stable(text: &str) -> String {
    let mut out = String::new();
    for (at, word) in text.trim().trim_matches(['[', ']']).split_whitespace().enumerate() {
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

/// Numbers that stand alone (`pid=12`, `#3`) become `NUM`; digits inside names stay.
fn numbers_out(word: &str, out: &mut String) {
    let mut rest = word;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = start + rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
        let inside_name = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let part_of_name = inside_name(rest[..start].chars().last()) || inside_name(rest[end..].chars().next());
        out.push_str(&rest[..start]);
        out.push_str(if part_of_name { &rest[start..end] } else { "NUM" });
        rest = &rest[end..];
    }
    out.push_str(rest);
}

fn bug(rest: &str, rows: &[Body]) -> Shape {
    if let Some(rest) = rest.strip_prefix("KASAN:") {
        return kasan(rest.trim_start(), rows);
    }
    if let Some(rest) = rest.strip_prefix("KMSAN:") {
        let what = first_words(rest);
        let plan = if what == "kernel-usb-infoleak" { &plans::USB_LEAK } else { &plans::BARE_STACK };
        return shape("kmsan", format!("KMSAN: {what}"), plan);
    }
    if let Some(rest) = rest.strip_prefix("KCSAN:") {
        return shape("kcsan", format!("KCSAN: {}", first_words(rest)), &plans::HEADER);
    }
    if let Some(rest) = rest.strip_prefix("KFENCE:") {
        return shape("kfence", format!("KFENCE: {}", first_words(rest)), &plans::FENCE);
    }
    let lower = rest.to_ascii_lowercase();
    if lower.starts_with("unable to handle") || lower.starts_with("kernel null pointer") {
        return unable(rest);
    }
    for lock in ["spinlock", "rwlock"] {
        if let Some(what) = lower.strip_prefix(lock) {
            let what = what.trim().split([',', ':']).next().unwrap_or("").split(" on ").next().unwrap_or("");
            return shape("spinlock-misuse", format!("BUG: {lock} {}", what.trim()), &plans::SPIN);
        }
    }
    bug_phrase(rest).unwrap_or_else(|| plain("kernel-bug", format!("BUG: {}", stable(rest)), &plans::REPORTER))
}

fn bug_phrase(rest: &str) -> Option<Shape> {
    let has = |what: &str| rest.contains(what);
    Some(if has("soft lockup") {
        shape("soft-lockup", "BUG: soft lockup", &plans::STALL)
    } else if has("still has locks held") {
        shape("lock-leak", "BUG: still has locks held", &plans::UNLOCK)
    } else if has("scheduling while atomic") {
        shape("sleep-in-atomic", "BUG: scheduling while atomic", &plans::SCHEDULED)
    } else if has("sleeping function called from invalid context") {
        shape(
            "sleep-in-atomic",
            "BUG: sleeping function called from invalid context",
            &plans::REPORTER,
        )
    } else if has("lock held when returning to user space") {
        shape("lock-leak", "BUG: lock held when returning to user space", &plans::LOCK_SITE)
    } else if has("bad unlock balance") {
        shape("lock-misuse", "BUG: bad unlock balance", &plans::UNLOCK)
    } else if has("held lock freed") {
        shape("lock-misuse", "BUG: held lock freed", &plans::UNLOCK)
    } else if has("Bad page state") {
        shape("bad-page", "BUG: Bad page state", &plans::PAGE)
    } else if has("Bad page cache") {
        shape("bad-page", "BUG: Bad page cache", &plans::PAGE)
    } else if has("Bad page map") {
        plain("bad-page", "BUG: Bad page map", &plans::REPORTER)
    } else if has("Bad rss-counter state") {
        plain("bad-page", "BUG: Bad rss-counter state", &plans::REPORTER)
    } else if has("non-zero nr_ptes") || has("non-zero nr_pmds") || has("non-zero pgtables_bytes") {
        plain("bad-page", format!("BUG: {}", stable(rest.split(':').next().unwrap_or(rest))), &plans::REPORTER)
    } else if has("Dentry ") && has("still in use") {
        dentry(rest)
    } else if has("workqueue lockup") {
        plain("workqueue-lockup", "BUG: workqueue lockup", &plans::REPORTER)
    } else if has("workqueue leaked lock or atomic") {
        shape("lock-leak", "BUG: workqueue leaked lock or atomic", &plans::REPORTER)
    } else if let Some(helper) = rest.strip_prefix("using ").filter(|_| has("in preemptible")) {
        let helper = helper.split("()").next().unwrap_or("");
        shape("preemption-misuse", format!("BUG: using {helper}() in preemptible code"), &plans::PREEMPTIBLE)
    } else if has("memory leak") {
        shape("memory-leak", "memory leak", &plans::LEAK)
    } else if has("stack guard page was hit") {
        shape("stack-overflow", "BUG: stack guard page was hit", &plans::STALL)
    } else if has("Invalid wait context") {
        shape("lock-misuse", "WARNING: locking bug", &plans::INVALID_WAIT)
    } else {
        return None;
    })
}

fn dentry(rest: &str) -> Shape {
    let unmount = rest.contains("[unmount of ");
    plain(
        "vfs-corruption",
        if unmount { "BUG: Dentry still in use in unmount" } else { "BUG: Dentry still in use" },
        &plans::REPORTER,
    )
}

/// `slab-use-after-free in foo+0x1/0x2` up to ` in `.
fn first_words(rest: &str) -> &str {
    let rest = rest.trim();
    rest.split_once(" in ").map_or(rest, |(what, _)| what).trim()
}

fn kasan(rest: &str, rows: &[Body]) -> Shape {
    let what = first_words(rest);
    if what.contains("free") && !what.contains("use-after-free") {
        return shape("kasan", "KASAN: invalid-free", &plans::SANITIZER_FREE);
    }
    let access = rows.iter().take(20).find_map(|row| {
        ["Read", "Write"]
            .into_iter()
            .find(|verb| row.text.contains(&format!("{verb} of size ")) || row.text.contains(&format!("{verb} at addr ")))
    });
    if let Some(what) = what.split(" on address").next().filter(|w| w.len() < what.len()) {
        return plain("kasan", format!("KASAN: {what} {}", access.unwrap_or("")).trim_end(), &plans::REPORTER);
    }
    match access {
        Some(access) => shape("kasan", format!("KASAN: {what} {access}"), &plans::SANITIZER),
        None => Shape {
            head: format!("KASAN: {}", stable(&without_offsets(rest))),
            titled: false,
            ..shape("kasan", "", &plans::SANITIZER)
        },
    }
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
        let named = named.trim_start_matches(" Kernel stack is corrupted in:").trim();
        let has_name = named.contains('+') || named.contains('.');
        let plan = if has_name { &plans::HEADER } else { &plans::CANARY };
        return Shape {
            head: "kernel panic: stack is corrupted".to_owned(),
            ..shape("stack-corruption", "", plan)
        };
    }
    if reason.starts_with("corrupted stack end") {
        return shape("stack-overflow", "kernel panic: corrupted stack end", &plans::STACK_END);
    }
    if reason.starts_with("kernel stack overflow") {
        return shape("stack-overflow", "kernel stack overflow", &plans::STACK_OVERFLOW);
    }
    let head = if reason.starts_with("Attempted to kill init!") {
        "Attempted to kill init!".to_owned()
    } else {
        stable(reason.split(" for ").next().unwrap_or(reason))
    };
    plain("kernel-panic", format!("kernel panic: {head}"), &plans::REPORTER)
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

fn ubsan(rest: &str) -> Shape {
    let what = first_words(rest);
    let what = if what.eq_ignore_ascii_case("undefined behaviour") { "undefined-behaviour" } else { what };
    shape("ubsan", format!("UBSAN: {what}"), &plans::UBSAN)
}

fn trusty(text: &str) -> String {
    let what = text.split_once("): ").map_or("", |(_, what)| what);
    match what.split_once("ASSERT FAILED") {
        Some((_, why)) => {
            let why = why.split_once("): ").map_or("", |(_, why)| why);
            format!("trusty: ASSERT FAILED: {}", stable(why)).trim_end().to_owned()
        }
        None => format!("trusty: panic: {}", stable(what)),
    }
}

fn info(rest: &str, rows: &[Body]) -> Shape {
    let has = |what: &str| rest.contains(what);
    if let Some(deadlock) = lock_order(rest, rows) {
        return deadlock;
    }
    if has("detected") && has("stall") {
        return shape("rcu-stall", "INFO: rcu detected stall", &plans::RCU_STALL);
    }
    if has("non-static key") {
        return shape("lock-misuse", "INFO: trying to register non-static key", &plans::STATIC_KEY);
    }
    if has("suspicious RCU usage") {
        return shape("suspicious-rcu-usage", "INFO: suspicious RCU usage", &plans::RCU_USAGE);
    }
    if has("blocked for more than") || has("blocked in I/O wait") {
        return shape("hung-task", "INFO: task hung", &plans::HUNG);
    }
    if has("can't die for more than") {
        return shape("hung-task", "INFO: task can't die", &plans::SCHEDULED);
    }
    plain("slab-corruption", format!("INFO: {}", stable(&without_offsets(rest))), &plans::REPORTER)
}

/// The lock checker's findings about the order of locks.
fn lock_order(rest: &str, rows: &[Body]) -> Option<Shape> {
    let modern = rows.first().is_some_and(|row| row.text.contains("WARNING:"));
    let deadlock = |plan| shape("possible-deadlock", "possible deadlock", plan);
    Some(if rest.contains("possible circular locking") {
        if !rows.iter().any(|row| row.text.contains("is trying to acquire lock")) {
            return Some(plain(
                "possible-deadlock",
                "WARNING: possible circular locking dependency detected",
                &plans::LOCK_SITE,
            ));
        }
        deadlock(if modern { &plans::CIRCULAR } else { &plans::LOCK_SITE })
    } else if rest.contains("lock inversion dependency") || rest.contains("possible recursive locking") {
        deadlock(&plans::LOCK_SITE)
    } else if rest.contains("-unsafe lock order detected") {
        deadlock(if modern { &plans::UNSAFE_ORDER } else { &plans::LOCK_SITE })
    } else if rest.contains("inconsistent lock state") {
        shape(
            "inconsistent-lock-state",
            "inconsistent lock state",
            if modern { &plans::REPORTER } else { &plans::LOCK_SITE },
        )
    } else {
        return None;
    })
}

fn warning(rest: &str, rows: &[Body]) -> Shape {
    let has = |what: &str| rest.contains(what);
    if let Some(deadlock) = lock_order(rest, rows) {
        return deadlock;
    }
    if has("suspicious RCU usage") {
        return shape("suspicious-rcu-usage", "WARNING: suspicious RCU usage", &plans::RCU_USAGE);
    }
    if has("bad unlock balance") {
        return shape("lock-misuse", "WARNING: bad unlock balance", &plans::UNLOCK);
    }
    if has("held lock freed") {
        return shape("lock-misuse", "WARNING: held lock freed", &plans::LOCK_SITE);
    }
    if has("still has locks held") {
        return shape("lock-leak", "WARNING: still has locks held", &plans::LOCK_SITE);
    }
    if has("Nested lock was not taken") {
        return shape("lock-misuse", "WARNING: nested lock was not taken", &plans::WARNING);
    }
    if has("lock held when returning to user space") {
        return shape("lock-leak", "WARNING: lock held when returning to user space", &plans::LOCK_SITE);
    }
    if has("kernel stack regs") || has("kernel stack frame pointer") {
        return plain("kernel-warning", stack_value(rest), &plans::REPORTER);
    }
    match source_of(rest) {
        Some(source) => warn_on(rest, source),
        None => plain("kernel-warning", format!("WARNING: {}", stable(rest)), &plans::REPORTER),
    }
}

fn stack_value(rest: &str) -> String {
    let (what, modern) = match rest.split_once(" at ") {
        Some((what, _)) => (what, true),
        None => ("kernel stack regs", false),
    };
    match rest.split_once("has bad '").and_then(|(_, tail)| tail.split_once('\'')) {
        Some((register, _)) if modern => format!("WARNING: {what} has bad '{register}' value"),
        _ => format!("WARNING: {what} has bad value"),
    }
}

/// The `file.c:123` of a `WARN_ON`.
pub(super) fn source_of(rest: &str) -> Option<&str> {
    rest.split_whitespace().take(12).find(|word| {
        word.rsplit_once(':').is_some_and(|(file, line)| {
            file.rsplit_once('.')
                .is_some_and(|(path, end)| !path.is_empty() && matches!(end, "c" | "h" | "S" | "rs"))
                && line.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

/// `WARN_ON`: some files check on behalf of their callers.
fn warn_on(rest: &str, source: &str) -> Shape {
    let from = |file: &str| source.starts_with(file) || source.contains(&format!("/{file}"));
    if from("lib/debugobjects.c") {
        shape("kernel-warning", "WARNING: ODEBUG bug", &plans::WARNING_OBJECT)
    } else if from("mm/usercopy.c") {
        shape("bad-usercopy", "WARNING: bad usercopy", &plans::WARNING_USERCOPY)
    } else if from("lib/kobject.c") {
        shape("kernel-warning", "WARNING: kobject bug", &plans::WARNING_KOBJECT)
    } else if from("fs/proc/generic.c") {
        shape("kernel-warning", "WARNING: proc registration bug", &plans::WARNING_PROC)
    } else if from("lib/refcount.c") {
        shape("refcount-bug", "WARNING: refcount bug", &plans::WARNING_REFCOUNT)
    } else if from("kernel/locking/lockdep.c") && rest.contains("lock_") {
        shape("lock-misuse", "WARNING: locking bug", &plans::WARNING_LOCK)
    } else if source.starts_with("mm/") && rest.contains("malloc") && !rest.contains("__vmalloc_node") {
        shape("kernel-warning", "WARNING: kmalloc bug", &plans::WARNING_ALLOC)
    } else if from("mm/vmalloc.c") && rest.contains("__vmalloc_node") {
        shape("kernel-warning", "WARNING: zero-size vmalloc", &plans::WARNING)
    } else if rest.contains(" usb_submit_urb") {
        Shape {
            tail: "/usb_submit_urb",
            ..shape("kernel-warning", "WARNING", &plans::WARNING_USB)
        }
    } else {
        shape("kernel-warning", "WARNING", &plans::WARNING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lose_what_changes_between_occurrences() {
        assert_eq!(stable("Freed in f age=12 cpu=0 pid=99 at ffff88002a05"), "Freed in f age=NUM cpu=NUM pid=NUM at ADDR");
        assert_eq!(stable("ext4 on sda1"), "ext4 on sda1");
    }

    #[test]
    fn the_source_of_a_warning_is_found() {
        assert_eq!(source_of("CPU: 1 PID: 8377 at arch/x86/kvm/x86.c:7209 f+0x1/0x2"), Some("arch/x86/kvm/x86.c:7209"));
        assert_eq!(source_of("foo"), None);
    }
}
