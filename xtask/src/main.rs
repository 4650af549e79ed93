//! Every developer verb of Ringward: `cargo xtask --help`.

mod bench_agent;
mod bench_evidence;
mod bench_fleet;
mod build;
mod check_deps;
mod ci;
mod dashboard;
mod debian;
mod demo;
mod dist;
mod dist_msi;
mod harness;
mod lexer;
mod netns_test;
mod nspawn_test;
mod sim;
mod tests;
mod threats;
mod vm_test;
mod web_test;
mod windows;
mod wine;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Developer verbs of Ringward",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build, start a server with 203 hosts, walk a good and a bad release, roll back, tell the story
    Demo(demo::Args),
    /// Run every test that needs no root and no special machine
    Test {
        /// Passed on to the test runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Make .deb and .rpm of agent, server and ringwardctl, and the agent's .msi
    Dist(dist::Args),
    /// Build the page that the server embeds (needs Node.js and npm)
    Dashboard,
    /// Test the page in the system's Chromium, over a stand-in and over the real server
    WebTest(web_test::Args),
    /// Install, crash-loop, power-cut and purge on a whole Debian system in a container (root)
    NspawnTest(nspawn_test::Args),
    /// Panic, heal, cut the power of whole Debian machines under QEMU (root, minutes)
    VmTest(vm_test::Args),
    /// Build agent and guard for Windows, with rustup's target or Debian's compiler
    WindowsBuild(windows::Args),
    /// Run the tests of the Windows side under Wine, and an agent from its MSI on with a real server
    WindowsTest(windows::TestArgs),
    /// Quarantine hosts between network namespaces, with real agents, server and packets (root)
    NetnsTest(netns_test::Args),
    /// Simulate rollouts over fleets of any size on the server's own machine (`-- --help`)
    Sim {
        /// Passed on to the simulator
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// SIGKILL server and agents at random moments under a stream of signals and orders, and count
    FaultTest(harness::Args),
    /// Cut the power at every file call of store and agent (needs Linux with glibc and `cc`)
    CrashTest(harness::Args),
    /// Hostile clients of many kinds beside honest hosts: memory, times, nothing lost
    HostileTest(harness::Args),
    /// One-use tokens spent by 200 hosts in the same moment: one wins, everybody is answered
    TokenRace(harness::Args),
    /// Feed mutated inputs to every parser (`--target list` names them)
    Fuzz(harness::Args),
    /// Measure beside an anchor in the same run
    #[command(subcommand)]
    Bench(Bench),
    /// What continuous integration runs: fmt, clippy, check-deps, test, Windows where it is set up, demo
    Ci,
    /// Hold the arrows between the crates and the bans in the pure ones
    CheckDeps,
}

#[derive(Subcommand)]
enum Bench {
    /// An idle agent beside zabbix_agentd, in a container (root)
    Agent(bench_agent::Args),
    /// Event logs and kernel dumps: CPU time and peak memory
    Evidence,
    /// An order to 1,000 hosts: how long until all are told
    Orders(harness::Args),
    /// The dashboard over 100,000 hosts, in the system's Chromium
    Dashboard(web_test::FiguresArgs),
    /// The release build of the server under so many agents (`-- --help`)
    Fleet(harness::Args),
    /// The same work on the server, tonic, rustls, nats-server and mosquitto, in turn (`-- --help`)
    Anchors(harness::Args),
    /// Churn with faults for minutes: slopes of memory, descriptors and files (`-- --help`)
    Soak(harness::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test { args } => tests::run(&args),
        Verb::Dist(args) => dist::run(&args),
        Verb::Dashboard => dashboard::run(),
        Verb::WebTest(args) => web_test::run(&args),
        Verb::NspawnTest(args) => nspawn_test::run(&args),
        Verb::VmTest(args) => vm_test::run(&args),
        Verb::WindowsBuild(args) => windows::run_build(&args),
        Verb::WindowsTest(args) => windows::run_test(&args),
        Verb::NetnsTest(args) => netns_test::run(&args),
        Verb::Sim { args } => sim::run(&args),
        Verb::FaultTest(args) => harness::run("fault-test", &args),
        Verb::CrashTest(args) => harness::crash(&args),
        Verb::HostileTest(args) => harness::run("hostile-test", &args),
        Verb::TokenRace(args) => harness::run("token-race", &args),
        Verb::Fuzz(args) => harness::fuzz(&args),
        Verb::Bench(Bench::Agent(args)) => bench_agent::run(&args),
        Verb::Bench(Bench::Evidence) => bench_evidence::run(),
        Verb::Bench(Bench::Orders(args)) => harness::run("orders", &args),
        Verb::Bench(Bench::Dashboard(args)) => web_test::figures(&args),
        Verb::Bench(Bench::Fleet(args)) => bench_fleet::run("fleet", &args),
        Verb::Bench(Bench::Anchors(args)) => bench_fleet::run("anchors", &args),
        Verb::Bench(Bench::Soak(args)) => bench_fleet::run("soak", &args),
        Verb::Ci => ci::run(),
        Verb::CheckDeps => check_deps::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository.
fn root() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}
