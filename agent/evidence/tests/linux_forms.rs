//! One short report for each form the kernel has used over its versions and architectures.
#![allow(clippy::unwrap_used)]

use ringward_evidence::linux::klog;

/// Log, kind, title, module.
const FORMS: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "WARNING: drivers/foo/bar.c:123 at foo_stop+0x12/0x34 [foo], CPU#1: kworker/1:0/77\nRIP: 0010:foo_stop+0x12/0x34 [foo]",
        "kernel-warning",
        "WARNING in foo_stop",
        Some("foo"),
    ),
    (
        "WARNING: lib/refcount.c:25 at refcount_warn_saturate+0x12/0x34, CPU#0: a/1\nRIP: 0010:refcount_warn_saturate+0x12/0x34\nCall Trace:\n <TASK>\n foo_get+0x1/0x2 [foo]",
        "refcount-bug",
        "WARNING: refcount bug in foo_get",
        Some("foo"),
    ),
    (
        "BUG: KCSAN: data-race in foo_read / foo_write\n\nwrite to 0xffff of 4 bytes by task 1 on cpu 0:\n foo_write+0x1/0x2",
        "kcsan",
        "KCSAN: data-race in foo_read / foo_write",
        None,
    ),
    (
        "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000000: 0000 [#1] SMP KASAN\nRIP: 0010:foo+0x1/0x2",
        "general-protection-fault",
        "general protection fault in foo",
        None,
    ),
    (
        "BUG: Unable to handle kernel data access on read at 0xc000\nFaulting instruction address: 0xc0001234\nNIP [c000000000001234] foo+0x1/0x2\nLR [c000000000001200] bar+0x1/0x2\nCall Trace:\n[c000000012345678] [c000000000001200] bar+0x1/0x2 (unreliable)",
        "kernel-page-fault",
        "BUG: unable to handle kernel paging request in foo",
        None,
    ),
    (
        "Unable to handle kernel pointer dereference in virtual kernel address space at virtual address 0000\nOops: 0038 ilc:3 [#1] SMP\nKrnl PSW : 0704e00180000000 00000000001234ab (foo+0x12/0x34 [qeth])",
        "kernel-page-fault",
        "BUG: unable to handle kernel paging request in foo",
        Some("qeth"),
    ),
    (
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008\nOops [#1]\nepc : foo+0x12/0x34\n ra : bar+0x12/0x34",
        "null-dereference",
        "BUG: unable to handle kernel NULL pointer dereference in foo",
        None,
    ),
    (
        "CPU 0 Unable to handle kernel paging request at virtual address 00000004, epc == 80110ac4, ra == 80110a00\nOops[#1]:\nepc   : 80110ac4 foo+0x14/0x40\nra    : 80110a00 bar+0x10/0x20",
        "kernel-page-fault",
        "BUG: unable to handle kernel paging request in foo",
        None,
    ),
    (
        "Unable to handle kernel paging request at virtual address dfff800000000003\nInternal error: Oops: 0000000096000005 [#1] PREEMPT SMP\npc : foo+0x12/0x34\nlr : bar+0x12/0x34\nCall trace:\n foo+0x12/0x34 (P)",
        "kernel-page-fault",
        "BUG: unable to handle kernel paging request in foo",
        None,
    ),
    (
        "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3\nRIP: 0010:foo+0x1/0x2\nCall Trace:\n foo+0x1/0x2\n bar_work+0x1/0x2 [bar]\n process_one_work+0x1/0x2",
        "hard-lockup",
        "hard lockup in bar_work",
        Some("bar"),
    ),
    (
        "INFO: task kworker/0:1:12 blocked for more than 120 seconds.\nCall Trace:\n __schedule+0x1/0x2\n schedule+0x1/0x2\n io_schedule+0x1/0x2\n foo_sync+0x1/0x2 [foo]",
        "hung-task",
        "INFO: task hung in foo_sync",
        Some("foo"),
    ),
    (
        "list_add corruption. prev->next should be next (ffff), but was ffff. (prev=ffff).\nkernel BUG at lib/list_debug.c:30!\ninvalid opcode: 0000 [#1] SMP\nRIP: 0010:__list_add_valid+0x1/0x2\nCall Trace:\n foo_add+0x1/0x2 [foo]",
        "list-corruption",
        "BUG: corrupted list in foo_add",
        Some("foo"),
    ),
    (
        "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: foo+0x1/0x2 [foo]",
        "stack-corruption",
        "kernel panic: stack is corrupted in foo",
        None,
    ),
    (
        "Kernel panic - not syncing: my reason\nCPU: 0 PID: 1 Comm: insmod Tainted: G           OE      6.1.0 #1\nCall Trace:\n dump_stack_lvl+0x1/0x2\n panic+0x1/0x2\n bad_init+0x1/0x2 [bad]\n do_one_initcall+0x1/0x2",
        "kernel-panic",
        "kernel panic: my reason",
        Some("bad"),
    ),
    (
        "kernel BUG at drivers/foo/foo.c:12!\nOops: invalid opcode: 0000 [#1] SMP\nRIP  [<ffffffff812345ab>] foo_go+0x1/0x2 [foo]",
        "kernel-bug",
        "kernel BUG in foo_go",
        Some("foo"),
    ),
    (
        "NMI: Uhhuh. NMI received for unknown reason 3d on CPU 0.",
        "unknown-nmi",
        "NMI received for unknown reason",
        None,
    ),
    (
        "irq 16: nobody cared (try booting with the \"irqpoll\" option)",
        "spurious-interrupt",
        "irq NUM: nobody cared (try booting with the \"irqpoll\" option)",
        None,
    ),
    (
        "illegal operation: 0001 ilc:1 [#1] SMP\nKrnl PSW : 0704e00180000000 00000000001234ab (foo+0x12/0x34)",
        "kernel-oops",
        "Oops in foo",
        None,
    ),
];

fn stamped(log: &str, prefix: &str) -> String {
    log.lines()
        .map(|line| format!("{prefix}{line}\n"))
        .collect()
}

#[test]
fn every_form_is_named_under_every_prefix() {
    for (log, kind, title, module) in FORMS {
        for prefix in [
            "",
            "[   12.345678] ",
            "<4>[   12.345678][  T123] ",
            "Nov 23 05:33:11 host kernel: ",
        ] {
            let items = klog::read(stamped(log, prefix).as_bytes());
            let found: Vec<_> = items.iter().filter_map(|item| item.finding()).collect();
            assert_eq!(found.len(), 1, "{prefix}{log}");
            let seen = (
                found[0].kind,
                found[0].title.as_str(),
                found[0].module.as_deref(),
            );
            assert_eq!(seen, (*kind, *title, *module), "{prefix}{log}");
        }
    }
}

#[test]
fn a_form_cut_at_any_line_is_still_seen_with_its_kind() {
    for (log, kind, _, _) in FORMS {
        let lines = log.lines().count();
        for kept in 1..=lines {
            let cut: String = log
                .lines()
                .take(kept)
                .map(|line| format!("[    1.000000] {line}\n"))
                .collect();
            let items = klog::read(cut.as_bytes());
            let found = items.iter().filter_map(|item| item.finding()).next();
            assert_eq!(found.map(|finding| finding.kind), Some(*kind), "{cut}");
        }
    }
}
