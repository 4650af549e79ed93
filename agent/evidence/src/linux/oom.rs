//! Out-of-memory kills in the kernel log. One kill is told over many lines, and a reader that gets
//! the log in batches may see its parts far apart: the state lives in the [`Reader`].

use serde_json::Value;

use crate::finding::Finding;
use crate::linux::klog::line::{Caller, Line};

/// Lines after which a kill that was announced but never carried out is forgotten. The task list of
/// a large machine has some thousand lines.
const LINES_MAX: u64 = 20_000;

#[derive(Debug, Default, Clone)]
struct Kill {
    invoked_by: Option<String>,
    monotonic_us: Option<u64>,
    constraint: Option<String>,
    cgroup: Option<String>,
    limit_cgroup: Option<String>,
    began_at: u64,
}

/// Collects the lines of out-of-memory kills.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<Kill>,
    lines: u64,
}

impl Reader {
    /// Reads one line; a finding where this line completes one.
    pub fn push(&mut self, line: &Line<'_>) -> Option<Finding> {
        self.lines += 1;
        if line.caller == Caller::Foreign {
            return None;
        }
        let text = line.text;
        if let Some((who, _)) = text.split_once(" invoked oom-killer:") {
            self.open = Some(Kill {
                invoked_by: Some(last_words(who)),
                monotonic_us: line.monotonic_us,
                began_at: self.lines,
                ..Kill::default()
            });
            return None;
        }
        if let Some(rest) = after(text, "oom-kill:constraint=") {
            self.constraint(rest, line);
        } else if let Some(rest) = after(text, "Task in ") {
            self.task_in(rest);
        }
        let (pid, name) = killed(text)?;
        let kill = self
            .open
            .take()
            .filter(|open| self.lines - open.began_at <= LINES_MAX)
            .unwrap_or_default();
        Some(finding(&kill, pid, name, text, line))
    }

    fn opened(&mut self, line: &Line<'_>) -> &mut Kill {
        let began_at = self.lines;
        self.open.get_or_insert_with(|| Kill {
            monotonic_us: line.monotonic_us,
            began_at,
            ..Kill::default()
        })
    }

    /// `CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,...,oom_memcg=/a,task_memcg=/a/b,task=n,pid=1,uid=0`
    fn constraint(&mut self, rest: &str, line: &Line<'_>) {
        let kill = self.opened(line);
        kill.constraint = rest.split(',').next().map(str::to_owned);
        kill.cgroup = field(rest, "task_memcg=");
        kill.limit_cgroup = field(rest, "oom_memcg=");
    }

    /// `Task in /a/b killed as a result of limit of /a`
    fn task_in(&mut self, rest: &str) {
        if let (Some((task, limit)), Some(kill)) = (
            rest.split_once(" killed as a result of limit of "),
            self.open.as_mut(),
        ) {
            kill.cgroup = Some(task.trim().to_owned());
            kill.limit_cgroup = Some(limit.trim().to_owned());
        }
    }
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.find(word).map(|at| &text[at + word.len()..])
}

fn field(list: &str, name: &str) -> Option<String> {
    let rest = after(list, name)?;
    // A cgroup path may hold commas; the next field is known.
    let end = [",task_memcg=", ",task=", ",pid=", ",uid="]
        .iter()
        .filter_map(|next| rest.find(next))
        .min()
        .unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

/// Whatever console text stands before the name is cut off at the last bracket.
fn last_words(who: &str) -> String {
    who.rsplit("] ").next().unwrap_or(who).trim().to_owned()
}

/// `Killed process 1381 (name) total-vm:...`, `Out of memory: Killed process 12 (name)`,
/// `Killed process 1234, UID 0, (name)`, `oom_reaper` and `Kill process` lines are not the kill itself.
fn killed(text: &str) -> Option<(u32, &str)> {
    let rest = after(text, "Killed process ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let pid = rest[..end].parse().ok()?;
    let open = rest.find('(')?;
    let tail = &rest[open + 1..];
    // Names may hold brackets: the last one before the sizes ends it.
    let stop = tail
        .find(" total-vm")
        .or_else(|| tail.find(", "))
        .unwrap_or(tail.len());
    let close = tail[..stop].rfind(')')?;
    Some((pid, &tail[..close]))
}

fn finding(kill: &Kill, pid: u32, name: &str, text: &str, line: &Line<'_>) -> Finding {
    let monotonic_us = kill.monotonic_us.or(line.monotonic_us);
    let key = match line.monotonic_us {
        Some(us) => format!("oom:{pid}@{us}"),
        None => format!("oom:{pid}:{name}"),
    };
    let size = |word: &str| {
        after(text, word).and_then(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest[..end].parse::<u64>().ok()
        })
    };
    Finding::new(
        "oom-kill",
        &key,
        &format!("Out of memory: killed process {pid} ({name})"),
    )
    .with("process", name)
    .with("pid", pid)
    .with("cgroup", kill.cgroup.as_deref().unwrap_or("/"))
    .with(
        "limit_cgroup",
        kill.limit_cgroup
            .as_deref()
            .or(kill.cgroup.as_deref())
            .unwrap_or("/"),
    )
    .with("whole_machine", whole_machine(kill))
    .with_some("constraint", kill.constraint.as_deref())
    .with_some("invoked_by", kill.invoked_by.as_deref())
    .with_some("total_vm_kb", size("total-vm:").map(Value::from))
    .with_some("anon_rss_kb", size("anon-rss:").map(Value::from))
    .with_some("monotonic_us", monotonic_us)
}

/// Whether the machine itself ran out, not only a group with a limit.
fn whole_machine(kill: &Kill) -> bool {
    match kill.constraint.as_deref() {
        Some(constraint) => constraint == "CONSTRAINT_NONE",
        None => kill.limit_cgroup.is_none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::linux::klog::line;

    fn read(lines: &[&str]) -> Vec<Finding> {
        let mut reader = Reader::default();
        lines
            .iter()
            .filter_map(|raw| reader.push(&line::parse(raw)))
            .collect()
    }

    #[test]
    fn a_kill_names_process_and_group() {
        let found = read(&[
            "[ 9.000000] app invoked oom-killer: gfp_mask=0xd0, order=0",
            "[ 9.000001] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=app,pid=7,uid=0",
            "[ 9.000002] Memory cgroup out of memory: Killed process 7 (my (odd) app) total-vm:10kB, anon-rss:4kB",
        ]);
        assert_eq!(found.len(), 1);
        let evidence = &found[0].evidence;
        assert_eq!(evidence["process"], "my (odd) app");
        assert_eq!(evidence["cgroup"], "/a/b");
        assert_eq!(evidence["limit_cgroup"], "/a");
        assert_eq!(evidence["total_vm_kb"], 10);
        assert_eq!(evidence["whole_machine"], false);
    }

    #[test]
    fn a_kill_without_its_beginning_is_still_seen() {
        let found = read(&["Killed process 12 (app) total-vm:1kB"]);
        assert_eq!(found[0].key, "oom:12:app");
    }
}
