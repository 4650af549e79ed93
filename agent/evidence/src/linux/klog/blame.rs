//! Which function a report points at.
//!
//! A report is walked by a short list of steps; the frames met on the way, without helpers, are the
//! candidates; a choice picks one. Both are data, one pair per shape of report.

use super::frame::{self, Frame, Row};
use super::helpers;

/// One row of a report with its meaning.
#[derive(Debug, Clone)]
pub struct Body {
    /// The message.
    pub text: String,
    /// Its meaning.
    pub row: Row,
}

impl Body {
    /// Classifies one message.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            row: frame::row(text),
        }
    }
}

/// A step of the walk. Every step but [`Step::Stack`] goes to the next row that fits it and takes
/// the frames of that row; where none is left, the walk is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The function named in the header itself (`BUG: KASAN: kind in FUNC+0x..`).
    Header,
    /// The faulting instruction.
    Instruction,
    /// The start of the reporter's stack.
    Trace,
    /// The start of a leak's allocation stack.
    LeakTrace,
    /// `... at: [<addr>] FUNC+0x..`: where a lock is taken.
    LockSite,
    /// A row with an address and a function anywhere in it.
    Site,
    /// The entry of the timer interrupt: what it interrupted follows.
    TimerEntry,
    /// Any interrupt entry.
    InterruptEntry,
    /// `which became ...-irq-unsafe at:`.
    Became,
    /// `page last allocated via`.
    PageOrigin,
    /// A bare function name behind these words.
    Named(&'static str),
    /// All frames up to the next trace or to the row the following step looks for.
    Stack,
}

/// How one of the candidates is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The innermost.
    First,
    /// The entry point of the looping work: the innermost frame of a stall is random.
    Looping,
    /// The waiter's caller, or the lock class many waiters share.
    Waiting,
}

/// How the function of one shape of report is found.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The walk.
    pub steps: &'static [Step],
    /// Another walk where the first one finds nobody.
    pub otherwise: &'static [Step],
    /// Further helpers of this shape: names that contain one of these; `^` and `$` anchor.
    pub helpers: &'static [&'static str],
    /// The choice.
    pub choice: Choice,
}

/// Who is to blame, and the stack it was taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    /// The function, with syscall wrappers made one name.
    pub function: String,
    /// Its module.
    pub module: Option<String>,
    /// Candidates, innermost first.
    pub stack: Vec<Frame>,
}

/// Most candidates looked at.
const CANDIDATES_MAX: usize = super::incident::ROWS_MAX;

/// Finds the function to blame; the header is row 0.
#[must_use]
pub fn find(plan: &Plan, rows: &[Body]) -> Option<Blamed> {
    let found = pick(plan, candidates(plan, plan.steps, rows));
    if found.is_some() || plan.otherwise.is_empty() {
        return found;
    }
    pick(plan, candidates(plan, plan.otherwise, rows))
}

fn pick(plan: &Plan, stack: Vec<Frame>) -> Option<Blamed> {
    let names: Vec<&str> = stack
        .iter()
        .map(|frame| helpers::without_syscall_wrapper(&frame.function))
        .collect();
    let (at, function) = match plan.choice {
        Choice::First => names.first().map(|name| (0, (*name).to_owned()))?,
        Choice::Looping => looping(&names)?,
        Choice::Waiting => waiting(&names)?,
    };
    Some(Blamed {
        function,
        module: stack[at].module.clone(),
        stack,
    })
}

/// Walks the rows; the frames of the last walked stack.
fn candidates(plan: &Plan, steps: &[Step], rows: &[Body]) -> Vec<Frame> {
    let mut found = Vec::new();
    let mut rows = rows.iter();
    let mut at = 0;
    while let Some(step) = steps.get(at) {
        at += 1;
        if *step != Step::Stack {
            if let Some(taken) = rows.find_map(|body| fits(*step, body)) {
                keep(plan, &mut found, taken);
            }
            continue;
        }
        for body in rows.by_ref() {
            if matches!(body.row, Row::Trace | Row::SideTrace) {
                break;
            }
            if let Some(taken) = steps.get(at).and_then(|next| fits(*next, body)) {
                keep(plan, &mut found, taken);
                at += 1;
                break;
            }
            if let Row::Frames(frames) = &body.row {
                keep(plan, &mut found, frames.clone());
            }
        }
    }
    found
}

fn keep(plan: &Plan, found: &mut Vec<Frame>, taken: Vec<Frame>) {
    // Where the kernel's own message is all there is, its word stands.
    let named_by_kernel = plan.steps.len() == 1 && plan.steps != [Step::Stack];
    for frame in taken {
        let helper = !named_by_kernel
            && (helpers::is_helper(&frame.function)
                || plan
                    .helpers
                    .iter()
                    .any(|rule| is_further_helper(rule, &frame.function)));
        if !helper && found.len() < CANDIDATES_MAX && found.last() != Some(&frame) {
            found.push(frame);
        }
    }
}

/// `^start`, `end$`, or anywhere in the name.
fn is_further_helper(rule: &str, function: &str) -> bool {
    match (rule.strip_prefix('^'), rule.strip_suffix('$')) {
        (Some(start), _) => function.starts_with(start),
        (None, Some(end)) => function.ends_with(end),
        (None, None) => function.contains(rule),
    }
}

/// Whether a row fits a step, and the frames it gives.
fn fits(step: Step, body: &Body) -> Option<Vec<Frame>> {
    let text = body.text.as_str();
    match step {
        Step::Header => Some(after_word(text, " in ").into_iter().collect()),
        Step::Instruction => match &body.row {
            Row::Instruction(frame) => Some(frame.iter().cloned().collect()),
            // powerpc prints the interrupted function in a separator.
            _ if text.contains("--- interrupt: ") => {
                Some(after_word(text, " at ").into_iter().collect())
            }
            _ => None,
        },
        Step::Trace => (body.row == Row::Trace).then(Vec::new),
        Step::LeakTrace => {
            (body.row == Row::SideTrace && text.contains("backtrace")).then(Vec::new)
        }
        Step::LockSite => lock_site(text).map(|frame| vec![frame]),
        Step::Site => site(text).map(|frame| vec![frame]),
        Step::TimerEntry => (text.contains("apic_timer_interrupt")
            && !matches!(body.row, Row::Doubtful(_)))
        .then(Vec::new),
        Step::InterruptEntry => (["apic_timer_interrupt", "Exception stack", "el1h_64_irq"]
            .iter()
            .any(|entry| text.contains(entry))
            && !matches!(body.row, Row::Doubtful(_)))
        .then(Vec::new),
        Step::Became => (text.contains("which became ") && text.contains(" at:")).then(Vec::new),
        Step::PageOrigin => text.contains("page last allocated").then(Vec::new),
        Step::Named(words) => {
            let (_, rest) = text.split_once(words)?;
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let function = frame::name(&rest[..end])
                .filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()))?;
            Some(vec![Frame {
                function,
                module: None,
            }])
        }
        Step::Stack => None,
    }
}

/// `at: [<ffffffff8232bf0e>] blkdev_reread_part+0x1e/0x40`, with or without the address.
pub fn lock_site(text: &str) -> Option<Frame> {
    let after = text.rsplit_once("at: ")?.1;
    function_at(after)
}

fn site(text: &str) -> Option<Frame> {
    let at = text.find('[')?;
    let (address, after) = text[at..].split_once("] ")?;
    address
        .trim_start_matches(['[', '<'])
        .starts_with(|c: char| c.is_ascii_hexdigit())
        .then(|| function_at(after))?
}

fn after_word(text: &str, word: &str) -> Option<Frame> {
    text.split_once(word)
        .and_then(|(_, rest)| function_at(rest))
}

/// A function at the start of the text: `[<addr>] name+0x..`, `name.part.3`, never a bare word.
fn function_at(text: &str) -> Option<Frame> {
    if let Row::Frames(frames) = frame::row(text) {
        return frames.into_iter().next();
    }
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|&end| matches!(text.as_bytes().get(end), Some(b'.' | b'+')))?;
    Some(Frame {
        function: frame::name(&text[..end])?,
        module: None,
    })
}

/// Where work is handed to a subsystem: beyond it the loop's owner is not in the stack any more.
/// A name counts where it contains one of these.
const DISPATCH: &[&str] = &[
    "process_one_work",
    "do_syscall_",
    "do_fast_syscall_",
    "sysenter_dispatch",
    "tracesys_phase2",
    "el0_svc_handler",
    "invoke_syscall",
    "ret_fast_syscall",
    "netif_receive_skb",
    "do_softirq",
    "call_timer_fn",
    "_run_timers",
    "run_timer_softirq",
    "hrtimer_run",
    "run_ksoftirqd",
    "smpboot_thread_fn",
    "start_secondary",
    "cpu_startup_entry",
    "ret_from_fork",
    "vfs_write",
    "vfs_read",
    "vfs_iter_read",
    "vfs_iter_write",
    "do_iter_read",
    "do_iter_write",
    "call_read_iter",
    "call_write_iter",
    "new_sync_read",
    "new_sync_write",
    "vfs_ioctl",
    "ksys_ioctl",
    "compat_ioctl",
    "compat_sys_ioctl",
    "blkdev_driver_ioctl",
    "blkdev_ioctl",
    "mmap_region",
    "do_mmap",
    "do_dentry_open",
    "vfs_open",
    "kernel_setsockopt",
    "sock_common_setsockopt",
    "kernel_listen",
    "sk_common_release",
    "kernel_accept",
    "__do_fault",
    "do_page_fault",
    "__fput",
    "task_work_run",
    "exit_to_usermode",
    "smp_call_function",
    "tasklet_action",
    "tasklet_hi_action",
];
/// The same, where the name starts with one of these.
const DISPATCH_STARTS: &[&str] = &[
    "call_mmap",
    "sock_sendmsg",
    "sock_recvmsg",
    "sock_release",
    "__sock_release",
    "sock_mmap",
    "sock_do_ioctl",
    "sock_ioctl",
    "compat_sock_ioctl",
    "nfnetlink_rcv_msg",
    "rtnetlink_rcv_msg",
    "netlink_dump",
    "sys_socketpair",
    "sys_connect",
    "sys_ioctl",
    "socketpair",
    "connect",
    "ioctl",
];
/// The same, the whole name.
const DISPATCH_IS: &[&str] = &["kthread", "setsockopt", "listen", "accept", "page_fault"];

fn dispatches(name: &str) -> bool {
    DISPATCH_IS.contains(&name)
        || DISPATCH_STARTS.iter().any(|start| name.starts_with(start))
        || DISPATCH.iter().any(|part| name.contains(part))
}

/// The frame just inside the dispatcher. Cross-CPU calls have many variants: one name for all.
fn looping(names: &[&str]) -> Option<(usize, String)> {
    let at = names.iter().position(|name| dispatches(name))?;
    if names[at].contains("smp_call_function") {
        return Some((at, "smp_call_function".to_owned()));
    }
    let owner = at.saturating_sub(1);
    Some((owner, names[owner].to_owned()))
}

/// Hung tasks show the victim. Two famous culprits are told by the victims' stacks; else the first
/// frame that is no waiting primitive.
fn waiting(names: &[&str]) -> Option<(usize, String)> {
    for (at, name) in names.iter().enumerate() {
        if name.contains("rtnl_lock") {
            return Some((at, (*name).to_owned()));
        }
        if ["rcu", "srcu", "net", "sched"]
            .iter()
            .any(|what| name.contains(&format!("synchronize_{what}")))
        {
            return Some((at, "synchronize_rcu".to_owned()));
        }
    }
    const PRIMITIVES: [&str; 13] = [
        "sched",
        "_lock",
        "_slowlock",
        "down",
        "rwsem",
        "completion",
        "kthread",
        "wait",
        "synchronize",
        "context_switch",
        "__switch_to",
        "cancel_delayed_work",
        "rcu_barrier",
    ];
    names
        .iter()
        .position(|name| !PRIMITIVES.iter().any(|part| name.contains(part)))
        .map(|at| (at, names[at].to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn body(rows: &[&str]) -> Vec<Body> {
        rows.iter().map(|text| Body::new(text)).collect()
    }

    const TRACE: Plan = Plan {
        steps: &[Step::Trace, Step::Stack],
        otherwise: &[],
        helpers: &["schedule"],
        choice: Choice::First,
    };

    #[test]
    fn the_first_frame_that_is_no_helper_is_blamed() {
        let rows = body(&[
            "BUG: x",
            "Call Trace:",
            " dump_stack+0x1/0x2",
            " __kasan_report+0x1/0x2",
            " sg_read+0x1/0x2 [sg]",
        ]);
        let blamed = find(&TRACE, &rows).unwrap();
        assert_eq!(
            (blamed.function.as_str(), blamed.module.as_deref()),
            ("sg_read", Some("sg"))
        );
    }

    #[test]
    fn a_trace_of_helpers_only_blames_nobody() {
        assert_eq!(
            find(
                &TRACE,
                &body(&["BUG: x", "Call Trace:", " dump_stack+0x1/0x2"])
            ),
            None
        );
    }

    #[test]
    fn frames_of_another_stack_do_not_count() {
        let rows = body(&[
            "BUG: x",
            "Call Trace:",
            " dump_stack+0x1/0x2",
            "Freed by task 3:",
            " other+0x1/0x2",
        ]);
        assert_eq!(find(&TRACE, &rows), None);
    }

    #[test]
    fn a_stall_blames_the_owner_of_the_loop() {
        assert_eq!(
            looping(&["inner", "net_tx", "__do_softirq"]).unwrap().1,
            "net_tx"
        );
        assert_eq!(
            looping(&["a", "smp_call_function_many", "b"]).unwrap().1,
            "smp_call_function"
        );
        assert_eq!(looping(&["a", "b"]), None);
    }

    #[test]
    fn a_hung_task_blames_what_it_waits_for() {
        assert_eq!(
            waiting(&["__schedule", "schedule", "exit_aio"]).unwrap().1,
            "exit_aio"
        );
        assert_eq!(
            waiting(&["__schedule", "synchronize_net"]).unwrap().1,
            "synchronize_rcu"
        );
    }
}
