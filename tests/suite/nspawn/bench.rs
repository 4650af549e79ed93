//! What an idle agent costs, beside Debian's zabbix_agentd in the same container at the same time.

use crate::machine::Machine;
use crate::scenes;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Start-up is over and the first heartbeats are gone.
const WARM_UP: Duration = Duration::from_secs(20);

struct Subject {
    name: &'static str,
    unit: &'static str,
    program: &'static str,
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "ringward-agent",
        unit: "ringward-agent.service",
        program: "/usr/bin/ringward-agent",
    },
    Subject {
        name: "zabbix_agentd",
        unit: "zabbix-agent.service",
        program: "/usr/sbin/zabbix_agentd",
    },
];

/// A unit's processes together.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    processes: u64,
    threads: u64,
    pss_kib: u64,
    rss_kib: u64,
    cpu_ns: u64,
    wakeups: u64,
}

/// Reads the processes of a unit's cgroup from inside: one line each of process, threads, PSS, RSS,
/// CPU nanoseconds, voluntary context switches.
fn sample(machine: &Machine, unit: &str) -> Result<Sample> {
    let script = format!(
        r#"for d in /proc/[0-9]*; do
             grep -q '/{unit}$' $d/cgroup 2>/dev/null || continue
             pss=$(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' $d/smaps_rollup)
             rss=$(sed -n 's/^Rss: *\([0-9]*\) kB/\1/p' $d/smaps_rollup)
             threads=0; cpu=0; wake=0
             for t in $d/task/*; do
               threads=$((threads + 1))
               read on _ < $t/schedstat && cpu=$((cpu + on))
               w=$(sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' $t/status) && wake=$((wake + w))
             done
             echo $threads $pss $rss $cpu $wake
           done"#
    );
    let mut sum = Sample::default();
    for line in machine.say(&script)?.lines() {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("reading {line:?}"))?;
        let [threads, pss, rss, cpu, wakeups] = numbers.as_slice() else {
            anyhow::bail!("{line:?} is not what was asked for");
        };
        sum.processes += 1;
        sum.threads += threads;
        sum.pss_kib += pss;
        sum.rss_kib += rss;
        sum.cpu_ns += cpu;
        sum.wakeups += wakeups;
    }
    anyhow::ensure!(sum.processes > 0, "{unit} has no process");
    Ok(sum)
}

/// Installs both, waits, and prints the table.
pub fn run(machine: &mut Machine, seconds: u64) -> Result<()> {
    for (name, scene) in &scenes::ALL[..scenes::ENROLLED] {
        scene(machine).context(*name)?;
    }
    machine.say("systemctl start zabbix-agent")?;
    std::thread::sleep(WARM_UP);
    let before = SUBJECTS
        .iter()
        .map(|subject| sample(machine, subject.unit))
        .collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(seconds));
    println!("idle for {seconds} s, the unit's whole cgroup:");
    println!(
        "| what | PSS MiB | RSS MiB | CPU ms | wake-ups/s | processes | threads | program MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for (subject, before) in SUBJECTS.iter().zip(before) {
        let after = sample(machine, subject.unit)?;
        let size = std::fs::metadata(machine.root().join(&subject.program[1..]))?.len();
        let row = [
            after.pss_kib as f64 / 1024.0,
            after.rss_kib as f64 / 1024.0,
            after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e6,
            after.wakeups.saturating_sub(before.wakeups) as f64 / seconds as f64,
            after.processes as f64,
            after.threads as f64,
            size as f64 / 1e6,
        ];
        print_row(subject.name, &row);
        rows.push(row);
    }
    let ratios: Vec<f64> = rows[0]
        .iter()
        .zip(rows[1])
        .map(|(one, other)| one / other)
        .collect();
    print_row("ratio", &ratios);
    shares(machine, &SUBJECTS[0])
}

/// What the agent's PSS is made of, so that the next thing to shrink is known.
fn shares(machine: &Machine, subject: &Subject) -> Result<()> {
    let smaps = machine.say(&format!(
        "cat /proc/$(systemctl show -P MainPID {})/smaps",
        subject.unit
    ))?;
    let mut shares: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut mapping = String::new();
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let value = || {
            line.split_whitespace()
                .nth(1)
                .and_then(|kib| kib.parse().ok())
        };
        match first {
            "Pss:" => shares.entry(mapping.clone()).or_default().0 += value().unwrap_or(0),
            "Private_Dirty:" => {
                shares.entry(mapping.clone()).or_default().1 += value().unwrap_or(0)
            }
            range if range.contains('-') && !range.ends_with(':') => {
                let rights = words.next().unwrap_or_default().to_owned();
                let name = words.nth(3).unwrap_or("anonymous").to_owned();
                let file = name.rsplit('/').next().unwrap_or_default();
                mapping = match file.strip_suffix(']') {
                    Some(_) => file.to_owned(),
                    None => format!("{file} {rights}"),
                };
            }
            _ => {}
        }
    }
    println!(
        "\nPSS of {} by mapping, KiB (of it written to):",
        subject.name
    );
    let mut rows: Vec<_> = shares
        .into_iter()
        .filter(|(_, (pss, _))| *pss > 0)
        .collect();
    rows.sort_by_key(|(_, (pss, _))| std::cmp::Reverse(*pss));
    for (name, (pss, dirty)) in rows {
        println!("  {pss:6} ({dirty}) {name}");
    }
    Ok(())
}

fn print_row(name: &str, row: &[f64]) {
    let cells: Vec<String> = row.iter().map(|cell| format!("{cell:.2}")).collect();
    println!("| {name} | {} |", cells.join(" | "));
}
