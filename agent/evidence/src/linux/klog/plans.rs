//! The walks of [`super::blame`], one for each shape of report.

use super::blame::Step::{
    Became, Header, Instruction, InterruptEntry, LeakTrace, LockSite, Named, PageOrigin, Site,
    Stack, TimerEntry, Trace,
};
use super::blame::{Choice, Plan, Step};

const fn plan(steps: &'static [Step], helpers: &'static [&'static str], choice: Choice) -> Plan {
    Plan {
        steps,
        otherwise: &[],
        helpers,
        choice,
    }
}

const AT_FAULT: &[Step] = &[Instruction, Trace, Stack];
const TRACE: &[Step] = &[Trace, Stack];

/// Traps: the faulting instruction, then its callers.
pub(super) const FAULT: Plan = plan(AT_FAULT, &[], Choice::First);
/// The socket-buffer core checks the buffers its callers hand it.
pub(super) const BUG_ON: Plan = plan(AT_FAULT, &["^skb_"], Choice::First);
/// The reporter's own stack.
pub(super) const REPORTER: Plan = plan(TRACE, &[], Choice::First);
/// The whole report has no trace marker: its frames stand directly below the header.
pub(super) const BARE_STACK: Plan = plan(
    &[Stack],
    &[
        "alloc_skb",
        "netlink_ack",
        "netlink_rcv_skb",
        "_encrypt$",
        "^crypto_",
        "^cipher_",
        "^drbg_",
        "^rng_",
    ],
    Choice::First,
);
/// A leak to user space over USB goes through the USB core.
pub(super) const USB_LEAK: Plan = plan(
    &[Stack],
    &[
        "alloc_skb",
        "usb_submit_urb",
        "usb_start_wait_urb",
        "usb_bulk_msg",
        "usb_interrupt_msg",
        "usb_control_msg",
    ],
    Choice::First,
);
/// Bad access found by a sanitizer: named in the header, else the first caller that is no helper.
pub(super) const SANITIZER: Plan = plan(
    &[Header, Trace, Stack],
    &["kernel_fault", "tag_check", "mem_abort", "^el1_", "^el1h_"],
    Choice::First,
);
/// Bad free: the freeing functions are helpers too.
pub(super) const SANITIZER_FREE: Plan = plan(
    &[Header, Trace, Stack],
    &["slab_", "kfree", "vunmap", "vfree"],
    Choice::First,
);
/// Header, then frames without a trace marker.
pub(super) const FENCE: Plan = plan(&[Header, Stack], &[], Choice::First);
/// Two parties race: both stand in the header.
pub(super) const RACE: Plan = plan(&[Named(" in ")], &[], Choice::First);
/// A clobbered canary named in the message.
pub(super) const NAMED_CANARY: Plan = plan(&[Named("corrupted in: ")], &[], Choice::First);
/// Directory entries still in use: the kernel names the operation, `[unmount of ext4 sda1]`.
pub(super) const DENTRY: Plan = plan(&[Named(") [")], &[], Choice::First);
/// Broken slab objects: whoever allocated the object stands in the report.
pub(super) const SLAB: Plan = Plan {
    steps: &[Named("Allocated in ")],
    otherwise: &[Named("Freed in ")],
    helpers: &[],
    choice: Choice::First,
};
/// A work item that went away with a lock: the kernel names it.
pub(super) const LAST_FUNCTION: Plan = plan(&[Named("last function: ")], &[], Choice::First);
/// Spin locks of the reporter are helpers.
pub(super) const SPIN: Plan = plan(TRACE, &["spin_", "_lock", "_unlock"], Choice::First);
/// CPU loops.
pub(super) const STALL: Plan = plan(AT_FAULT, &[], Choice::Looping);
/// RCU stalls: whatever the timer interrupted.
pub(super) const RCU_STALL: Plan = Plan {
    steps: &[TimerEntry, Instruction, Stack],
    otherwise: &[InterruptEntry, Stack],
    helpers: &["apic_timer_interrupt", "rcu"],
    choice: Choice::Looping,
};
/// Tasks that wait for ever.
pub(super) const HUNG: Plan = plan(TRACE, &[], Choice::Waiting);
/// Tasks that cannot be killed; sleeping where it is forbidden.
pub(super) const SCHEDULED: Plan = plan(TRACE, &["schedule"], Choice::First);
/// A stack overflow found by the scheduler.
pub(super) const STACK_END: Plan = plan(TRACE, &["schedule", "retint_kernel"], Choice::Looping);
/// A stack overflow found by the architecture.
pub(super) const STACK_OVERFLOW: Plan = plan(TRACE, &["bad_stack"], Choice::Looping);
/// A clobbered canary without a name in the message.
pub(super) const CANARY: Plan = plan(TRACE, &["stack_chk"], Choice::First);
/// A lock's place in the message, else the reporter's stack.
pub(super) const UNLOCK: Plan = plan(&[Site, Trace, Stack], &[], Choice::First);
/// Where the lock that closes the circle is taken; the work queue's own pseudo locks are helpers.
pub(super) const CIRCULAR: Plan = plan(
    &[LockSite, LockSite, Stack],
    &[
        "process_one_work",
        "flush_workqueue",
        "drain_workqueue",
        "destroy_workqueue",
    ],
    Choice::First,
);
/// The order of two locks against interrupts: where the unsafe one was taken.
pub(super) const UNSAFE_ORDER: Plan = plan(&[Became, Stack], &[], Choice::First);
/// Any first lock site.
pub(super) const LOCK_SITE: Plan = plan(&[LockSite], &[], Choice::First);
/// Read-copy-update misused.
pub(super) const RCU_USAGE: Plan = plan(TRACE, &["rcu", "kmem", "slab"], Choice::First);
/// A lock never initialised.
pub(super) const STATIC_KEY: Plan = plan(TRACE, &["stack", "lock", "IRQ"], Choice::First);
/// Per-CPU data used where the task may move.
pub(super) const PREEMPTIBLE: Plan = plan(
    TRACE,
    &[
        "dump_stack",
        "preemption",
        "preempt",
        "debug_",
        "processor_id",
        "this_cpu",
    ],
    Choice::First,
);
/// Whoever allocated what leaks.
pub(super) const LEAK: Plan = plan(
    &[LeakTrace, Stack],
    &[
        "kmemleak",
        "mmap",
        "kmem",
        "slab",
        "alloc",
        "create_object",
        "idr_get",
        "list_lru_init",
        "kasprintf",
        "kvasprintf",
        "pcpu_create",
        "strdup",
        "strndup",
        "memdup",
    ],
    Choice::First,
);
/// Whoever allocated a broken page.
pub(super) const PAGE: Plan = plan(
    &[PageOrigin, Stack],
    &[
        "free_page",
        "put_page",
        "get_page",
        "update_page",
        "release_page",
        "free_unref",
        "folio",
        "truncate_inode_pages",
        "page_frag_free",
        "alloc",
        "vmap",
        "page_owner",
    ],
    Choice::First,
);
/// Socket locks belong to the protocol.
pub(super) const INVALID_WAIT: Plan = plan(TRACE, &["lock_sock", "release_sock"], Choice::First);
/// Arithmetic and bounds checks.
pub(super) const UBSAN: Plan = plan(TRACE, &["ubsan", "overflow"], Choice::First);
/// Copies to user space.
pub(super) const USERCOPY: Plan = plan(TRACE, &["usercopy", "__check"], Choice::First);
/// Panics inside Rust code.
pub(super) const RUST: Plan = plan(
    TRACE,
    &["rust_begin_unwind", "core::panicking", "core::result"],
    Choice::First,
);

const fn warning(helpers: &'static [&'static str]) -> Plan {
    Plan {
        // Newer kernels trap at the warning, so the instruction comes first and its callers follow;
        // older ones print the reporter's stack.
        steps: &[Instruction, Stack],
        otherwise: TRACE,
        helpers,
        choice: Choice::First,
    }
}

/// `WARN_ON`.
pub(super) const WARNING: Plan = warning(&[]);
/// Objects freed while in use.
pub(super) const WARNING_OBJECT: Plan = warning(&[
    "debug_",
    "rcu",
    "hrtimer_",
    "timer_",
    "work_",
    "percpu_",
    "vunmap",
    "vfree",
    "__free_",
    "debug_check",
    "kobject_",
]);
/// `WARN_ON` of the copy checks.
pub(super) const WARNING_USERCOPY: Plan = warning(&["usercopy", "__check"]);
/// `WARN_ON` of the object model.
pub(super) const WARNING_KOBJECT: Plan = warning(&["kobject_"]);
/// `WARN_ON` of procfs.
pub(super) const WARNING_PROC: Plan = warning(&["proc_"]);
/// `WARN_ON` of reference counts.
pub(super) const WARNING_REFCOUNT: Plan = warning(&["refcount", "kobject_"]);
/// `WARN_ON` of the lock checker.
pub(super) const WARNING_LOCK: Plan = warning(&["lock_sock", "release_sock"]);
/// `WARN_ON` of the allocators.
pub(super) const WARNING_ALLOC: Plan = warning(&["kmalloc", "krealloc", "slab", "kmem"]);
/// `WARN_ON` of the USB core: a driver submitted nonsense.
pub(super) const WARNING_USB: Plan = warning(&[
    "usb_submit_urb",
    "usb_start_wait_urb",
    "usb_bulk_msg",
    "usb_interrupt_msg",
    "usb_control_msg",
]);
