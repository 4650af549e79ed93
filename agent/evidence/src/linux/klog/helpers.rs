//! Functions that only report, check, copy, lock or dispatch on somebody's behalf.
//!
//! A crash inside one of them is almost always its caller's fault, so the search for the function
//! to blame goes past them. Names are stable kernel interfaces; a new compiler suffix does not
//! matter because names are normalised first.

/// How a name is compared.
enum Match {
    /// The whole name.
    Is(&'static [&'static str]),
    /// The start of the name.
    Starts(&'static [&'static str]),
    /// The end of the name.
    Ends(&'static [&'static str]),
    /// Anywhere in the name.
    Has(&'static [&'static str]),
}
use Match::{Ends, Has, Is, Starts};

/// Printing a report, unwinding for it, and the trap entries that lead there.
const REPORTING: &[Match] = &[
    Has(&[
        "dump_stack",
        "show_stack",
        "walk_stack",
        "dump_backtrace",
        "arch_stack_walk",
        "stack_trace_save",
        "stack_trace_consume_entry",
        "print_address_description",
        "print_report",
        "print_tainted",
        "panic",
        "report_bug",
        "fixup_bug",
        "invalid_op",
        "do_error",
        "do_trap",
        "warn_slowpath",
        "warn_alloc",
        "warn_bogus",
        "__warn",
        "assertfail",
        "__fortify_report",
        "printk",
        "va_format",
        "hex_dump",
        "program_check_exception",
        "program_check_common",
        "do_kernel_fault",
        "do_translation_fault",
        "do_mem_abort",
        "el1_abort",
        "el1h_64_sync",
        "rust_begin_unwind",
        "__stack_chk_fail",
        "unwind_backtrace",
        "page_fault_oops",
        "bug_handler",
        "die_if_kernel",
        "notify_die",
        "no_context",
        "bad_area",
        "mm_fault_error",
        "watchdog_overflow",
        "perf_event_overflow",
        "nmi_handle",
        "default_do_nmi",
    ]),
    Ends(&["_trap"]),
    Is(&[
        "get_taint",
        "die",
        "oops_end",
        "__die",
        "do_nmi",
        "nmi",
        "end_repeat_nmi",
        "exc_nmi",
        "arm64_notify_die",
    ]),
];

/// Device messages.
const MESSAGES: &[Match] = &[Has(&[
    "dev_info",
    "dev_notice",
    "dev_warn",
    "dev_err",
    "dev_alert",
    "dev_crit",
    "dev_emerg",
    "snprintf",
    "scnprintf",
    "kasprintf",
    "kvasprintf",
    "string",
    "pointer",
])];

/// Sanitizers and debug checkers compiled into other functions.
const CHECKERS: &[Match] = &[Has(&[
    "__sanitizer",
    "__asan",
    "kasan",
    "hwasan",
    "__msan",
    "kmsan",
    "kcsan_setup_watchpoint",
    "check_memory_region",
    "check_heap_object",
    "check_object",
    "read_word_at_a_time",
    "read_once_",
    "write_once_",
    "debug_object",
    "timer_is_static_object",
    "work_is_static_object",
    "might_fault",
    "might_sleep",
    "__might_resched",
    "ref_tracker",
    "seqprop_assert",
    "perf_trace",
    "__phys_addr",
])];

/// Memory: allocators and the page cache's own allocation paths.
const ALLOCATORS: &[Match] = &[
    Has(&[
        "alloc_page",
        "malloc",
        "zalloc",
        "calloc",
        "krealloc",
        "kmem_cache",
        "allocate_slab",
        "__alloc_frozen_pages",
        "__get_free_page",
        "kmalloc_order",
        "folio_alloc",
        "folio_unlock",
        "filemap_alloc_folio",
        "__filemap_get_folio",
        "find_or_create_page",
        "do_read_cache_folio",
        "read_cache_page",
        "pagecache_get_page",
        "grab_cache_page_write_begin",
        "slab_",
        "find_lock_entries",
        "truncate_inode_pages_range",
    ]),
    Is(&["kfree", "kvfree"]),
];

/// Locks, waiting, reference counts, atomics.
const LOCKING: &[Match] = &[
    Has(&[
        "lockdep",
        "lock_acquire",
        "lock_release",
        "lock_class",
        "mark_lock",
        "mark_held_locks",
        "reacquire_held_locks",
        "print_unlock",
        "imbalance_bug",
        "print_usage_bug",
        "raw_spin_rq",
        "spin_lock",
        "spin_trylock",
        "spin_unlock",
        "read_lock",
        "read_trylock",
        "write_lock",
        "write_trylock",
        "read_unlock",
        "write_unlock",
        "down_read",
        "down_write",
        "down_trylock",
        "up_read",
        "up_write",
        "owner_on_cpu",
        "osq_lock",
        "osq_unlock",
        "bh_enable",
        "bh_disable",
        "set_bit",
        "clear_bit",
        "change_bit",
        "test_bit",
        "__wake_up",
        "wait_for_completion",
        "finish_wait",
        "trace_hardirq",
        "trace_softirq",
        "lock_timer_base",
        "cleanup_srcu_struct",
    ]),
    Starts(&[
        "mutex_",
        "__mutex_",
        "rt_mutex_",
        "refcount_",
        "kref_",
        "unlock_page",
        "lock_page",
    ]),
    Is(&["down", "complete"]),
];

/// Operations of `atomic_`/`atomic64_` that the compiler did not inline.
const ATOMIC_OPERATIONS: [&str; 12] = [
    "dec", "inc", "read", "set", "or", "xor", "and", "add", "sub", "fetch", "xchg", "cmpxchg",
];

/// Copying, comparing, checksums, lists and trees.
const DATA: &[Match] = &[
    Has(&[
        "memcpy",
        "memcmp",
        "memset",
        "memchr",
        "memmove",
        "memdup",
        "strcmp",
        "strncmp",
        "strcpy",
        "strlcpy",
        "strncpy",
        "strscpy",
        "strlen",
        "strstr",
        "strnstr",
        "strnlen",
        "strchr",
        "strdup",
        "strndup",
        "copy_to_user",
        "copy_from_user",
        "copy_to_iter",
        "copy_from_iter",
        "copy_page_to_iter",
        "copy_page_from_iter",
        "copy_folio_to_iter",
        "put_user",
        "get_user",
        "list_add",
        "list_del",
        "list_replace",
        "list_move",
        "list_splice",
        "_indirect_thunk_",
        "crc_itu_t",
        "xas_start",
        "xas_load",
        "xas_find",
        "rhashtable_lookup",
        "extract_user_to_sg",
        "extract_iter_to_sg",
        "ida_free",
    ]),
    Starts(&["rb_", "__rb_", "klist_"]),
    Is(&[
        "copyin",
        "copyout",
        "iput",
        "iput_final",
        "ihold",
        "drop_nlink",
    ]),
];

/// Port and memory-mapped input/output.
const REGISTERS: &[Match] = &[
    Ends(&[
        "readb", "readw", "readl", "readq", "writeb", "writew", "writel", "writeq",
    ]),
    Has(&["logic_in", "logic_out"]),
];

/// Timers, work queues, threads: the object belongs to the caller.
const DEFERRED: &[Match] = &[Has(&[
    "del_timer",
    "__mod_timer",
    "__timer_delete_sync",
    "sk_stop_timer_sync",
    "flush_work",
    "__cancel_work_timer",
    "cancel_work_sync",
    "try_to_grab_pending",
    "flush_workqueue",
    "drain_workqueue",
    "destroy_workqueue",
    "queue_work",
    "insert_work",
    "queue_delayed_work",
    "kthread_stop",
])];

/// Device model, USB core and other registries.
const REGISTRIES: &[Match] = &[
    Has(&[
        "kobject_",
        "add_uevent_var",
        "get_device_parent",
        "device_add",
        "device_del",
        "device_unregister",
        "device_destroy",
        "device_release",
        "device_remove_file",
        "device_for_each_child",
        "devres_release_all",
        "hwrng_unregister",
        "i2c_del_adapter",
        "__unregister_client",
        "rollback_registered",
        "unregister_netdev",
        "sysfs_remove",
        "tty_unregister_device",
        "dummy_urb_enqueue",
        "usb_kill_urb",
        "usb_kill_anchored_urbs",
        "usb_control_msg",
        "usb_hcd_submit_urb",
        "usb_submit_urb",
        "kfree_skb",
        "mark_buffer_dirty",
        "dput",
    ]),
    Is(&["put_device"]),
];

/// Whether `function` acts on somebody else's behalf and is never to blame by itself.
#[must_use]
pub fn is_helper(function: &str) -> bool {
    [
        REPORTING, MESSAGES, CHECKERS, ALLOCATORS, LOCKING, DATA, REGISTERS, DEFERRED, REGISTRIES,
    ]
    .iter()
    .any(|group| any(group, function))
        || is_atomic(function)
        || is_crc(function)
}

/// Whether `function` only prints a report.
#[must_use]
pub fn is_reporter(function: &str) -> bool {
    any(REPORTING, function)
}

fn any(group: &[Match], function: &str) -> bool {
    group.iter().any(|rule| match rule {
        Is(names) => names.contains(&function),
        Starts(names) => names.iter().any(|name| function.starts_with(name)),
        Ends(names) => names.iter().any(|name| function.ends_with(name)),
        Has(names) => names.iter().any(|name| function.contains(name)),
    })
}

fn is_atomic(function: &str) -> bool {
    ["atomic_", "atomic64_"].iter().any(|start| {
        function.find(start).is_some_and(|at| {
            ATOMIC_OPERATIONS
                .iter()
                .any(|op| function[at + start.len()..].starts_with(op))
        })
    })
}

fn is_crc(function: &str) -> bool {
    function
        .strip_prefix("crc")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// A system call has many wrappers (`__x64_sys_x`, `__se_sys_x`, `SyS_x`, `ksys_x`): one name for all.
#[must_use]
pub fn without_syscall_wrapper(function: &str) -> &str {
    const WRAPPERS: [&str; 14] = [
        "compat_SYSC_",
        "compat_SyS_",
        "__do_sys_",
        "__se_sys_",
        "____sys_",
        "__arm64_",
        "__ia32_",
        "___sys_",
        "__x64_",
        "__sys_",
        "__se_",
        "SYSC_",
        "ksys_",
        "SyS_",
    ];
    WRAPPERS
        .iter()
        .chain(&["sys_"])
        .find_map(|wrapper| function.strip_prefix(wrapper))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reporters_and_allocators_are_helpers_and_drivers_are_not() {
        for name in [
            "dump_stack",
            "__kasan_report",
            "kmem_cache_alloc_noprof",
            "_raw_spin_lock_irqsave",
            "crc32_le",
            "atomic_inc_return",
        ] {
            assert!(is_helper(name), "{name}");
        }
        for name in [
            "radeon_cp_resume",
            "tcp_v4_rcv",
            "crcfoo",
            "sg_remove_request",
            "atomic_open",
        ] {
            assert!(!is_helper(name), "{name}");
        }
    }

    #[test]
    fn wrappers_of_a_system_call_share_a_name() {
        assert_eq!(without_syscall_wrapper("__se_sys_mount"), "mount");
        assert_eq!(without_syscall_wrapper("__x64_sys_mount"), "sys_mount");
        assert_eq!(without_syscall_wrapper("sys_"), "sys_");
    }
}
