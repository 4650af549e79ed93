//! The line that begins a report, and the line that ends one.

use super::line::{Caller, Line};

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lead {
    /// `BUG: ...`
    Bug,
    /// `BUG kmalloc-64 (...): ...`
    SlabBug,
    /// `INFO: Allocated in f`, `INFO: Freed in f` below it, or alone where the header is lost.
    SlabInfo,
    /// `WARNING: ...`
    Warning,
    /// `INFO: ...` of the kinds that are faults.
    Info,
    /// `Unable to handle kernel ...`
    Unable,
    /// `general protection fault`
    Protection,
    /// `stack segment: `
    StackSegment,
    /// `Kernel panic - not syncing`
    Panic,
    /// `PANIC: double fault`
    DoubleFault,
    /// `rust_kernel: panicked`
    Rust,
    /// `kernel BUG at`
    KernelBug,
    /// `divide error:`
    Divide,
    /// `invalid opcode:`
    InvalidOpcode,
    /// `int3:`
    Breakpoint,
    /// `UBSAN:`
    Ubsan,
    /// `unregister_netdevice: waiting for`
    NetdevBusy,
    /// `VFS: Close: file count is 0`
    VfsClose,
    /// `VFS: Busy inodes after unmount`
    VfsBusy,
    /// `Internal error:`
    InternalError,
    /// `Unhandled fault:`
    UnhandledFault,
    /// `Alignment trap:`
    AlignmentTrap,
    /// `trusty: panic`
    Trusty,
    /// `Watchdog detected hard LOCKUP`
    HardLockup,
    /// A fatal machine check.
    MachineCheck,
    /// `list_add corruption`, `list_del corruption`
    ListCorruption,
    /// `irq 16: nobody cared`
    SpuriousInterrupt,
    /// `Oops: ...` without any of the above.
    Oops,
    /// `Badness at`, `RTNL: assertion failed`, and other checks that only print.
    Check,
    /// `NMI received for unknown reason`
    UnknownNmi,
    /// The boot loader's last words in the middle of a log.
    Reboot,
}

impl Lead {
    /// Whether this line goes on with a report already begun by the same caller: the kernel prints
    /// `kernel BUG at`, `invalid opcode: 0000` and `Kernel panic` for one and the same fault.
    #[must_use]
    pub fn continues(self, begun: Self) -> bool {
        match self {
            Self::Panic
            | Self::DoubleFault
            | Self::InvalidOpcode
            | Self::NetdevBusy
            | Self::InternalError
            | Self::Oops => true,
            Self::UnhandledFault => begun == Self::AlignmentTrap,
            Self::KernelBug => matches!(begun, Self::ListCorruption | Self::Rust),
            Self::Warning => begun == Self::ListCorruption,
            Self::SlabInfo => matches!(begun, Self::SlabBug | Self::SlabInfo | Self::Bug),
            _ => false,
        }
    }
}

/// Messages that look like headers and tell of no fault.
const HARMLESS: &[&str] = &[
    "BIOS BUG",
    "DEBUG:",
    "xlog_status:",
    "no syscalls can create resource",
    "/etc/ssh/moduli",
    "workqueue cpumask: online",
    "mand mount option",
    "Unsupported flag value",
    "Unprivileged eBPF",
    "missed to adjust virtual screen size",
    "for mitigation options",
    "kernel not compiled with",
    "deprecated",
    "wireless extensions",
    "lockdep is turned off",
    "Stall ended before state dump",
    "NMI handler (",
    "recovery required on readonly",
    "took too long",
    "is not present in /proc/kallsyms",
    "rmt_storage:INFO:",
    "_INFO:",
    "mitigation",
    "unsupported",
];

/// Whether a line begins a report.
#[must_use]
pub fn lead(line: &Line<'_>) -> Option<Lead> {
    if line.caller == Caller::Foreign || line.text.len() < 4 || is_of_program(line.text) {
        return None;
    }
    let text = line.text;
    let found = tagged(line)
        .or_else(|| fault(text))
        .or_else(|| state(text))?;
    if HARMLESS.iter().any(|harmless| text.contains(harmless)) && !matches!(found, Lead::Panic) {
        return None;
    }
    Some(found)
}

/// `systemd[1]: Starting ...`: programs that write into the kernel's log.
fn is_of_program(text: &str) -> bool {
    let Some((head, _)) = text.split_once("]: ") else {
        return false;
    };
    head.split_once('[').is_some_and(|(program, pid)| {
        let named = |b: u8| b.is_ascii_alphanumeric() || b"-_.@/()".contains(&b);
        !program.is_empty()
            && program.len() <= 32
            && program.bytes().all(named)
            && !pid.is_empty()
            && pid.bytes().all(|b| b.is_ascii_digit())
    })
}

/// `BUG:`, `WARNING:`, `INFO:`.
fn tagged(line: &Line<'_>) -> Option<Lead> {
    let text = line.text;
    let by_kernel = !matches!(line.caller, Caller::Bare | Caller::Foreign);
    if let Some(at) = text.find("BUG:")
        && !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        // Arm's word for the trap of a `BUG()` that was told in the line before.
        && !text[..at].ends_with("Oops - ")
    {
        // The text behind it may be torn off. Without a prefix it may be anybody's prose, so it has
        // to begin the line or be a message we know.
        let rest = text[at + 4..].trim_start();
        let at_start = text[..at].trim_matches([' ', '[', '=']).is_empty();
        let said_by_kernel = (by_kernel && !rest.is_empty()) || at_start;
        return (said_by_kernel || super::shape::is_known_bug(rest)).then_some(Lead::Bug);
    }
    if text.contains("BUG kmalloc-") || slab_bug(text) {
        return Some(Lead::SlabBug);
    }
    if let Some(at) = text.find("WARNING:") {
        let rest = text[at + 8..].trim_start();
        return is_warning(line, &text[..at], rest).then_some(Lead::Warning);
    }
    // A process may have a line end in its name.
    if by_kernel && is_end_of_hung_task(text) {
        return Some(Lead::Info);
    }
    let at = text.find("INFO:")?;
    let rest = text[at + 5..].trim_start();
    if rest.starts_with("Allocated in ") || rest.starts_with("Freed in ") {
        return Some(Lead::SlabInfo);
    }
    is_fault_info(rest).then_some(Lead::Info)
}

/// `BUG sock_inode_cache (Not tainted): Poison overwritten`
fn slab_bug(text: &str) -> bool {
    text.starts_with("BUG ")
        && (text.contains("tainted)") || text.contains("Tainted"))
        && text.contains("): ")
}

fn is_warning(line: &Line<'_>, before: &str, rest: &str) -> bool {
    const FAULTS: [&str; 13] = [
        "possible circular locking",
        "lock inversion dependency",
        "-unsafe lock order detected",
        "possible recursive locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "bad unlock balance",
        "held lock freed",
        "still has locks held",
        "Nested lock was not taken",
        "lock held when returning to user space",
        "kernel stack regs",
        "kernel stack frame pointer",
    ];
    if FAULTS.iter().any(|fault| rest.contains(fault)) || super::shape::source_of(rest).is_some() {
        return true;
    }
    // Any other text, even a torn one, counts only where the kernel itself says it, and says nothing
    // before it.
    let by_kernel = !matches!(line.caller, Caller::Bare | Caller::Foreign);
    by_kernel && before.trim().is_empty()
}

/// `...name:123 blocked for more than 120 seconds.`
fn is_end_of_hung_task(text: &str) -> bool {
    let Some((before, after)) = text.split_once(" blocked for more than ") else {
        return false;
    };
    let seconds = after.trim_end().strip_suffix(" seconds.");
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    seconds.is_some_and(is_number)
        && before
            .rsplit_once(':')
            .is_some_and(|(_, pid)| is_number(pid))
}

fn is_fault_info(rest: &str) -> bool {
    const FAULTS: [&str; 9] = [
        "possible circular locking",
        "lock inversion dependency",
        "-unsafe lock order detected",
        "possible recursive locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "suspicious rcu_",
        "trying to register non-static key",
        "can't die for more than",
    ];
    FAULTS.iter().any(|fault| rest.contains(fault))
        || (rest.starts_with("task ")
            && rest.contains("blocked ")
            && rest.contains("for more than"))
        || (rest.starts_with("rcu_") && rest.contains("detected") && rest.contains("stall"))
}

/// Processor faults and explicit panics.
fn fault(text: &str) -> Option<Lead> {
    let has = |what: &str| text.contains(what);
    Some(if has("Unable to handle kernel") {
        Lead::Unable
    } else if has("general protection fault") {
        // "traps: app[12] general protection fault ip:... error:0 in libc" is a program's own fault.
        if has(" error:") || has("traps: ") {
            return None;
        }
        Lead::Protection
    } else if has("stack segment: ") {
        Lead::StackSegment
    } else if has("Kernel panic - not syncing") || has("Kernel panic: ") {
        Lead::Panic
    } else if has("PANIC: double fault") || text.starts_with("double fault: ") {
        Lead::DoubleFault
    } else if has("rust_kernel: panicked") {
        Lead::Rust
    } else if has("kernel BUG at") || has("Kernel BUG at") {
        Lead::KernelBug
    } else if (has("divide error: ") || has("divide_error: ")) && !has("traps: ") {
        Lead::Divide
    } else if has("invalid opcode: ") && !has("traps: ") {
        Lead::InvalidOpcode
    } else if has("int3: ") && !has("traps: ") {
        Lead::Breakpoint
    } else if has("UBSAN: ") {
        Lead::Ubsan
    } else if has("Internal error: ") {
        Lead::InternalError
    } else if has("Unhandled fault: ") {
        Lead::UnhandledFault
    } else if has("Alignment trap: ") {
        Lead::AlignmentTrap
    } else if has("list_add corruption") || has("list_del corruption") {
        Lead::ListCorruption
    } else if text.starts_with("Oops: ")
        || text.starts_with("Oops[#")
        || text.starts_with("Oops [#")
        || has("Oops - ")
        || has("Kernel Fault: Code=")
        || is_exception(text)
    {
        Lead::Oops
    } else {
        return None;
    })
}

/// Exceptions with a die counter: `illegal operation: 0001 [#1]`, `alignment check: 0000 [#1] SMP`.
fn is_exception(text: &str) -> bool {
    const NAMES: [&str; 12] = [
        "illegal operation: ",
        "specification exception: ",
        "addressing exception: ",
        "protection exception: ",
        "operation exception: ",
        "alignment check: ",
        "invalid TSS: ",
        "segment not present: ",
        "bounds: ",
        "simd exception: ",
        "fpu exception: ",
        "Reserved instruction in kernel code",
    ];
    text.contains("[#") && NAMES.iter().any(|name| text.starts_with(name))
}

/// Reports about a broken state without a fault.
fn state(text: &str) -> Option<Lead> {
    let has = |what: &str| text.contains(what);
    Some(if has("unregister_netdevice: waiting for ") {
        Lead::NetdevBusy
    } else if has("VFS: Close: file count is 0") {
        Lead::VfsClose
    } else if has("VFS: Busy inodes after unmount") {
        Lead::VfsBusy
    } else if has("trusty: panic") {
        Lead::Trusty
    } else if has("hard LOCKUP on cpu") || has("Watchdog detected hard LOCKUP") {
        Lead::HardLockup
    } else if has("Machine Check Exception:")
        || has("Machine check: ")
        || has("Machine check events logged")
        || has("Uncorrected hardware error")
        || has("Fatal machine check")
    {
        Lead::MachineCheck
    } else if text.starts_with("irq ") && has(": nobody cared") {
        Lead::SpuriousInterrupt
    } else if has("NMI received for unknown reason") {
        Lead::UnknownNmi
    } else if text.starts_with("Badness at ")
        || has("RTNL: assertion failed")
        || has("page_mapcount(page) went negative")
        || has("IRQ handler type mismatch")
        || has("sysctl table check failed")
        || has("stack overflow (cur:")
        || has("do_IRQ: stack overflow")
    {
        Lead::Check
    } else if text.starts_with("Booting the kernel.") {
        Lead::Reboot
    } else {
        return None;
    })
}

/// The reason of a `Kernel panic` line.
#[must_use]
pub fn panic_reason(text: &str) -> Option<&str> {
    let rest = text
        .split_once("Kernel panic - not syncing")
        .or_else(|| text.split_once("Kernel panic"))?
        .1;
    Some(rest.trim_start_matches(':').trim())
}

/// Panics that only carry out what an earlier report of any age announced.
#[must_use]
pub fn is_consequence(reason: &str) -> bool {
    const REASONS: [&str; 12] = [
        "Fatal exception",
        "panic_on_warn set",
        "hung_task: blocked tasks",
        "softlockup: hung tasks",
        "Hard LOCKUP",
        "RCU Stall",
        "kasan.fault",
        "kmsan.panic",
        "kfence",
        "Oops",
        "Fatal hardware error",
        "Aiee, killing interrupt handler",
    ];
    REASONS.iter().any(|known| reason.starts_with(known)) || reason.starts_with("panic_on_k")
}

/// Whether the line closes a report.
#[must_use]
pub fn ends(text: &str) -> bool {
    text.contains("---[ end trace ") || text.contains("---[ end Kernel panic")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linux::klog::line;

    fn of(raw: &str) -> Option<Lead> {
        lead(&line::parse(raw))
    }

    #[test]
    fn faults_of_programs_are_no_faults_of_the_kernel() {
        for raw in [
            "[  1.000000] traps: app[12] general protection fault ip:4cb420 sp:7f error:0 in libc.so[1+2]",
            "[  1.000000] traps: app[12] trap invalid opcode ip:4cb420 sp:7f error:0 in app[1+2]",
            "Nov 23 05:33:11 host app[3]: WARNING: at foo.c:1",
            "Nov 23 05:33:11 host app[3]: BUG: unable to handle kernel paging request",
        ] {
            assert_eq!(of(raw), None, "{raw}");
        }
    }

    #[test]
    fn advice_is_no_fault() {
        for raw in [
            "[ 72.159680] WARNING: /etc/ssh/moduli does not exist, using fixed modulus",
            "[ 1.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled",
            "[ 1.000000] INFO: lockdep is turned off.",
            "[ 1.000000] ODEBUG: Out of memory. ODEBUG disabled",
            "WARNING: a program's own words",
            "the macro prints \"BUG: ...\" and goes on",
        ] {
            assert_eq!(of(raw), None, "{raw}");
        }
    }

    #[test]
    fn headers_are_told() {
        assert_eq!(
            of("[ 1.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!"),
            Some(Lead::Bug)
        );
        assert_eq!(
            of("[ 1.000000] [ INFO: possible recursive locking detected ]"),
            Some(Lead::Info)
        );
        assert_eq!(
            of("[ 1.000000] Kernel panic - not syncing: x"),
            Some(Lead::Panic)
        );
        assert_eq!(panic_reason("Kernel panic - not syncing: x").unwrap(), "x");
    }
}
