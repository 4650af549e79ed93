//! Quarantine on real kernels' terms: two hosts, a server and a bystander in network namespaces, real
//! agents, a real server, real packets. `cargo xtask netns-test` builds what this needs and starts it
//! as root.

mod hosts;
mod net;
mod scenes;
mod talk;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What the verb hands over.
#[derive(Parser)]
#[command(
    name = "ringward-netns",
    about = "Quarantine between network namespaces"
)]
struct Options {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Play the scenes
    Run {
        /// Folder of the built programs
        #[arg(long)]
        programs: PathBuf,
        /// Folder to work in; emptied
        #[arg(long)]
        work: PathBuf,
        /// Only scenes whose name holds this
        #[arg(long)]
        only: Option<String>,
    },
    /// Answer everybody on one port, TCP and UDP
    Echo,
    /// Ask for an echo again and again, and write down when it came
    Talk {
        way: talk::Way,
        to: IpAddr,
        log: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Options::parse().part {
        Part::Echo => talk::echo().map(|()| 0),
        Part::Talk { way, to, log } => talk::talk(way, to, &log).map(|()| 0),
        Part::Run {
            programs,
            work,
            only,
        } => run(&programs, &work, only.as_deref()),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} scenes did not come about");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays the scenes, each from two open hosts. Answers how many failed.
fn run(programs: &std::path::Path, work: &std::path::Path, only: Option<&str>) -> Result<usize> {
    let begun = Instant::now();
    let mut lab = hosts::Lab::set_up(programs, work)?;
    println!(
        "a server and two hosts are up after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let mut failed = 0;
    for (name, scene) in scenes::ALL {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let at = Instant::now();
        let outcome = lab.calm().and_then(|()| scene(&mut lab));
        let seconds = at.elapsed().as_secs_f64();
        match outcome {
            Ok(words) => println!("ok      {name}: {words} ({seconds:.1} s)"),
            Err(error) => {
                failed += 1;
                println!(
                    "FAILED  {name}: {error:#} ({seconds:.1} s)\n{}",
                    lab.last_words()
                );
            }
        }
    }
    println!("{failed} failed, {:.0} s", begun.elapsed().as_secs_f64());
    Ok(failed)
}
