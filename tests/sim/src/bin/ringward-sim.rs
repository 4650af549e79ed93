//! Runs scenarios of the fleet simulator: `ringward-sim --help`.

use anyhow::{Context, bail};
use clap::Parser;
use ringward_sim::fleet::policy::PolicyName;
use ringward_sim::fleet::scenario::Scenario;
use ringward_sim::fleet::tables::{Results, Summary, summarise};
use ringward_sim::fleet::{self, results};
use std::path::PathBuf;

#[derive(Parser)]
#[command(
    name = "ringward-sim",
    about = "Simulates rollouts over the server's own rollout machine",
    arg_required_else_help = true
)]
struct Args {
    /// A scenario of tests/sim/scenarios by name, or a path to one
    #[arg(long, required_unless_present = "results")]
    scenario: Option<String>,
    /// Hosts of the fleet (the scenario says how many otherwise)
    #[arg(long)]
    hosts: Option<u32>,
    /// Seeds, without gaps
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first_seed: u64,
    /// Whose rules decide: ringward, hawkbit-threshold, time-waves
    #[arg(long, default_value = "ringward")]
    policy: PolicyName,
    /// Where to write every run and the summary
    #[arg(long)]
    json: Option<PathBuf>,
    /// Threads
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Run every scenario and write tests/sim/RESULTS.md with its plot
    #[arg(long)]
    results: bool,
    /// With --results: this many times the usual seeds
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// With --results: take what was run before from NAME.json in this folder
    #[arg(long)]
    earlier: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.results {
        return results::write(args.jobs, args.scale, args.earlier.as_deref())
            .map_err(anyhow::Error::msg);
    }
    let name = args.scenario.context("no scenario")?;
    let scenario = load(&name)?;
    let hosts = args.hosts.unwrap_or(scenario.hosts);
    let began = std::time::Instant::now();
    let runs = fleet::run_seeds(
        &scenario,
        hosts,
        args.first_seed,
        args.seeds,
        args.policy,
        args.jobs,
    );
    let policy = serde_json::to_value(args.policy)?;
    let summary = summarise(
        &scenario,
        policy.as_str().unwrap_or_default(),
        args.first_seed,
        &runs,
    );
    print(&summary);
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if let Some(path) = args.json {
        let text = serde_json::to_string(&Results { runs, summary })?;
        std::fs::write(&path, text).with_context(|| {
            format!(
                "cannot write {}; give a path in a folder that exists",
                path.display()
            )
        })?;
    }
    Ok(())
}

fn load(name: &str) -> anyhow::Result<Scenario> {
    let path = if name.contains('/') || name.contains('.') {
        PathBuf::from(name)
    } else {
        results::scenario_path(name)
    };
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read scenario {}; tests/sim/scenarios has the known ones",
            path.display()
        )
    })?;
    match Scenario::parse(&text) {
        Ok(scenario) => Ok(scenario),
        Err(why) => bail!("{}: {why}", path.display()),
    }
}

fn print(s: &Summary) {
    println!(
        "{} by {}: {} runs of {} hosts, seeds {}..",
        s.scenario, s.policy, s.runs, s.hosts, s.first_seed
    );
    let line = |name: &str, x: &fleet::tables::Spread| {
        println!(
            "  {name:<10} median {:>10.1}  p95 {:>10.1}  max {:>10.1}",
            x.median, x.p95, x.max
        )
    };
    line("failed", &s.failed);
    line("lost", &s.lost);
    line("exposed", &s.exposed);
    line("resolved", &s.resolved);
    for (name, x) in [("halt h", &s.t_halt_h), ("done h", &s.t_done_h)] {
        if let Some(x) = x {
            line(name, x);
        }
    }
    let share = |name: &str, x: &fleet::tables::Share| {
        println!(
            "  {name:<24} {} of {} ({:.5}..{:.5})",
            x.count, x.of, x.low, x.high
        )
    };
    share("halted", &s.halted);
    share("false halts and holds", &s.false_halts_and_holds);
    if let (Some(o), Some(e), Some(r)) = (&s.oracle, s.exposed_ratio, s.resolved_ratio) {
        println!(
            "  oracle {:.1} at rate {:.4}: exposed {e:.2} x, resolved {r:.2} x",
            o.exposures, o.rate
        );
    }
    for (name, x) in [
        ("guilty ranked first", &s.ranked_first),
        ("none named", &s.none_named),
    ] {
        if let Some(x) = x {
            share(name, x);
        }
    }
}
