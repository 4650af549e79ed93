//! Console logs whose title is known.

use std::fs;

use ringward_evidence::linux::klog;

use super::{findings, row, samples};

/// The kind that a title of the expectation table stands for.
fn kind_of(title: &str) -> &'static str {
    const KINDS: &[(&str, &str)] = &[
        ("KASAN:", "kasan"),
        ("KMSAN:", "kmsan"),
        ("KCSAN:", "kcsan"),
        ("KFENCE:", "kfence"),
        ("UBSAN:", "ubsan"),
        ("BUG: unable to handle kernel NULL", "null-dereference"),
        ("BUG: unable to handle kernel", "kernel-page-fault"),
        ("general protection fault", "general-protection-fault"),
        ("PANIC: double fault", "double-fault"),
        ("divide error", "divide-error"),
        ("BUG: soft lockup", "soft-lockup"),
        ("INFO: rcu detected stall", "rcu-stall"),
        ("INFO: task", "hung-task"),
        ("BUG: workqueue lockup", "workqueue-lockup"),
        ("possible deadlock", "possible-deadlock"),
        ("WARNING: possible circular", "possible-deadlock"),
        ("inconsistent lock state", "inconsistent-lock-state"),
        ("WARNING: suspicious RCU", "suspicious-rcu-usage"),
        ("INFO: suspicious RCU", "suspicious-rcu-usage"),
        ("BUG: spinlock", "spinlock-misuse"),
        ("BUG: rwlock", "spinlock-misuse"),
        ("BUG: still has locks", "lock-leak"),
        ("WARNING: still has locks", "lock-leak"),
        ("BUG: lock held when", "lock-leak"),
        ("WARNING: lock held when", "lock-leak"),
        ("BUG: workqueue leaked", "lock-leak"),
        ("BUG: bad unlock", "lock-misuse"),
        ("WARNING: bad unlock", "lock-misuse"),
        ("BUG: held lock", "lock-misuse"),
        ("WARNING: held lock", "lock-misuse"),
        ("WARNING: nested lock", "lock-misuse"),
        ("WARNING: locking bug", "lock-misuse"),
        ("INFO: trying to register", "lock-misuse"),
        ("BUG: sleeping function", "sleep-in-atomic"),
        ("BUG: scheduling while atomic", "sleep-in-atomic"),
        ("BUG: using ", "preemption-misuse"),
        ("memory leak", "memory-leak"),
        ("BUG: stack guard page", "stack-overflow"),
        ("kernel panic: corrupted stack end", "stack-overflow"),
        ("kernel stack overflow", "stack-overflow"),
        ("kernel panic: stack is corrupted", "stack-corruption"),
        ("kernel panic:", "kernel-panic"),
        ("kernel BUG", "kernel-bug"),
        ("BUG: bad usercopy", "bad-usercopy"),
        ("WARNING: bad usercopy", "bad-usercopy"),
        ("BUG: corrupted list", "list-corruption"),
        ("BUG: Bad page", "bad-page"),
        ("BUG: Bad rss", "bad-page"),
        ("BUG: Dentry", "vfs-corruption"),
        ("VFS:", "vfs-corruption"),
        ("BUG: Object", "slab-corruption"),
        ("INFO: Allocated", "slab-corruption"),
        ("INFO: Freed", "slab-corruption"),
        ("BUG:", "kernel-bug"),
        ("WARNING: refcount", "refcount-bug"),
        ("WARNING", "kernel-warning"),
        ("Internal error", "internal-error"),
        ("Unhandled fault", "unhandled-fault"),
        ("Alignment trap", "alignment-trap"),
        ("invalid opcode", "invalid-opcode"),
        ("int3", "int3"),
        ("stack segment fault", "stack-segment-fault"),
        ("trusty:", "trusted-os-panic"),
        ("unregister_netdevice", "netdevice-leak"),
        ("unexpected kernel reboot", "unexpected-reboot"),
        ("attempt to subtract", "rust-panic"),
    ];
    KINDS
        .iter()
        .find_map(|(start, kind)| title.starts_with(start).then_some(*kind))
        .unwrap_or("?")
}

/// The function a title names, without a second one after a slash.
fn function_of(title: &str) -> Option<&str> {
    let (_, function) = title.rsplit_once(" in ")?;
    let function = function.split('/').next()?;
    (function != "corrupted" && !function.contains(' ')).then_some(function)
}

/// A sample without its header block and without the expected report at its end.
fn console_log(raw: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(raw);
    let log = text.split_once("\n\n").map_or("", |(_, log)| log);
    let log = log.split("\nREPORT:").next().unwrap_or(log);
    log.as_bytes().to_vec()
}

#[test]
fn console_logs_name_kind_and_function() {
    let Some(samples) = samples() else { return };
    let table = fs::read_to_string(samples.join("linux-oops/syzkaller.expected.tsv")).unwrap();
    let (mut titled, mut seen, mut kinds, mut right, mut named, mut untitled, mut alarms) =
        (0, 0, 0, 0, 0, 0, 0);
    let mut exact = 0;
    for line in table.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, title) = (columns.next().unwrap(), columns.next().unwrap());
        let raw = fs::read(samples.join("linux-oops/syzkaller").join(file)).unwrap();
        let found = findings(klog::read(&console_log(&raw)));
        if title.is_empty() {
            untitled += 1;
            if let Some(first) = found.first() {
                alarms += 1;
                println!("alarm {file}: {}", first.title);
            }
            continue;
        }
        titled += 1;
        let expected = function_of(title);
        let Some(first) = found.first() else {
            println!("unseen {file}: {title}");
            continue;
        };
        seen += 1;
        exact += usize::from(first.title == title);
        let kind = first.kind == kind_of(title);
        let function = expected.is_none() || first.function.as_deref() == expected;
        kinds += usize::from(kind);
        named += usize::from(expected.is_some());
        right += usize::from(kind && function);
        if !(kind && function) {
            println!(
                "wrong {file}: {} {:?}, not {title}",
                first.title, first.function
            );
        } else if first.title != title && !title.contains("corrupted") {
            println!("title {file}: {} != {title}", first.title);
        }
    }
    row("console logs: seen", seen, titled, "");
    row("console logs: kind", kinds, titled, "");
    row(
        "console logs: kind and function",
        right,
        titled,
        &format!("{named} titles name one"),
    );
    row("console logs: same title", exact, titled, "");
    row("console logs: false alarms", alarms, untitled, "");
    assert_eq!(alarms, 0);
    assert!(right * 100 >= titled * 98, "{right} of {titled}");
}
