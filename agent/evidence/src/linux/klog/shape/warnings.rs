//! `WARNING:` in all its forms.

use super::super::blame::Body;
use super::super::plans;
use super::{Shape, locks, or_torn, plain, shape};

pub(super) fn warning(rest: &str, rows: &[Body]) -> Shape {
    let has = |what: &str| rest.contains(what);
    if let Some(deadlock) = locks::order(rest, rows) {
        return deadlock;
    }
    if has("suspicious RCU usage") {
        return shape(
            "suspicious-rcu-usage",
            "WARNING: suspicious RCU usage",
            &plans::RCU_USAGE,
        );
    }
    if has("bad unlock balance") {
        return shape("lock-misuse", "WARNING: bad unlock balance", &plans::UNLOCK);
    }
    if has("held lock freed") {
        return shape("lock-misuse", "WARNING: held lock freed", &plans::LOCK_SITE);
    }
    if has("still has locks held") {
        return shape(
            "lock-leak",
            "WARNING: still has locks held",
            &plans::LOCK_SITE,
        );
    }
    if has("Nested lock was not taken") {
        return shape(
            "lock-misuse",
            "WARNING: nested lock was not taken",
            &plans::WARNING,
        );
    }
    if has("lock held when returning to user space") {
        return shape(
            "lock-leak",
            "WARNING: lock held when returning to user space",
            &plans::LOCK_SITE,
        );
    }
    if has("kernel stack regs") || has("kernel stack frame pointer") {
        return plain("kernel-warning", stack_value(rest), &plans::REPORTER);
    }
    match source_of(rest) {
        Some(source) => warn_on(rest, source),
        None => plain(
            "kernel-warning",
            format!("WARNING: {}", or_torn(rest)),
            &plans::REPORTER,
        ),
    }
}

fn stack_value(rest: &str) -> String {
    let (what, modern) = match rest.split_once(" at ") {
        Some((what, _)) => (what, true),
        None => ("kernel stack regs", false),
    };
    match rest
        .split_once("has bad '")
        .and_then(|(_, tail)| tail.split_once('\''))
    {
        Some((register, _)) if modern => format!("WARNING: {what} has bad '{register}' value"),
        _ => format!("WARNING: {what} has bad value"),
    }
}

/// The `file.c:123` of a `WARN_ON`.
pub(in super::super) fn source_of(rest: &str) -> Option<&str> {
    rest.split_whitespace().take(12).find(|word| {
        word.rsplit_once(':').is_some_and(|(file, line)| {
            file.rsplit_once('.').is_some_and(|(path, end)| {
                !path.is_empty() && matches!(end, "c" | "h" | "S" | "rs")
            }) && line.starts_with(|c: char| c.is_ascii_digit())
        })
    })
}

/// `WARN_ON`: some files check on behalf of their callers.
fn warn_on(rest: &str, source: &str) -> Shape {
    let from = |file: &str| source.starts_with(file) || source.contains(&format!("/{file}"));
    if from("lib/debugobjects.c") {
        shape(
            "kernel-warning",
            "WARNING: ODEBUG bug",
            &plans::WARNING_OBJECT,
        )
    } else if from("mm/usercopy.c") {
        shape(
            "bad-usercopy",
            "WARNING: bad usercopy",
            &plans::WARNING_USERCOPY,
        )
    } else if from("lib/kobject.c") {
        shape(
            "kernel-warning",
            "WARNING: kobject bug",
            &plans::WARNING_KOBJECT,
        )
    } else if from("fs/proc/generic.c") {
        shape(
            "kernel-warning",
            "WARNING: proc registration bug",
            &plans::WARNING_PROC,
        )
    } else if from("lib/refcount.c") {
        shape(
            "refcount-bug",
            "WARNING: refcount bug",
            &plans::WARNING_REFCOUNT,
        )
    } else if from("kernel/locking/lockdep.c") && rest.contains("lock_") {
        shape("lock-misuse", "WARNING: locking bug", &plans::WARNING_LOCK)
    } else if source.starts_with("mm/") && names_allocator(rest) {
        shape(
            "kernel-warning",
            "WARNING: kmalloc bug",
            &plans::WARNING_ALLOC,
        )
    } else if from("mm/vmalloc.c") && rest.contains("__vmalloc_node") {
        shape(
            "kernel-warning",
            "WARNING: zero-size vmalloc",
            &plans::WARNING,
        )
    } else if rest.contains(" usb_submit_urb") {
        Shape {
            tail: "/usb_submit_urb",
            ..shape("kernel-warning", "WARNING", &plans::WARNING_USB)
        }
    } else {
        shape("kernel-warning", "WARNING", &plans::WARNING)
    }
}

/// ` kmalloc_slab+0x..`, ` kvmalloc_node+0x..`: an allocator refused the request of its caller.
fn names_allocator(rest: &str) -> bool {
    [" malloc", " kmalloc", " kvmalloc", " vmalloc", " kzmalloc"]
        .iter()
        .any(|name| rest.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_warning_is_found() {
        let text = "CPU: 1 PID: 8377 at arch/x86/kvm/x86.c:7209 f+0x1/0x2";
        assert_eq!(source_of(text), Some("arch/x86/kvm/x86.c:7209"));
        assert_eq!(source_of("foo"), None);
    }
}
