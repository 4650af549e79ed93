//! `cargo xtask test`: cargo-nextest where it is installed, `cargo test` elsewhere.

use crate::build;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

/// Crates whose harnesses must find the bugs planted for them.
const PLANTED: &[&str] = &[
    "ringward-agent",
    "ringward-crash",
    "ringward-sim",
    "ringward-store",
    "ringward-server-core",
];
/// The tests in which they do.
const PLANTED_TESTS: &[&str] = &["orders", "planted", "stolen_server"];
/// How a check says that it could not run.
const SKIPPED: &str = "skipped: ";

/// Runs every test, then the harnesses against planted bugs; tells what was skipped and why.
pub fn run(args: &[String]) -> Result<()> {
    let runner = Runner::find();
    let mut skipped = Vec::new();
    let mut all = runner.command();
    all.arg("--workspace");
    skipped.extend(watched(all.args(args))?);
    if args.is_empty() {
        skipped.extend(watched(&mut planted(runner))?);
    }
    let reasons: BTreeSet<&String> = skipped.iter().collect();
    println!("{} checks skipped", skipped.len());
    for reason in reasons {
        println!("  {SKIPPED}{reason}");
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    Cargo,
}

impl Runner {
    fn find() -> Self {
        let found = build::cargo()
            .args(["nextest", "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if found { Self::Nextest } else { Self::Cargo }
    }

    fn command(self) -> Command {
        let mut command = build::cargo();
        match self {
            // Output of passed tests is wanted: a skipped check passes, and says so there.
            Self::Nextest => command.args(["nextest", "run", "--success-output", "final"]),
            Self::Cargo => command.arg("test"),
        };
        command.args(["--locked", "--no-fail-fast"]);
        command
    }
}

/// The harnesses must find the bugs planted for them; that needs a feature no shipped build has.
fn planted(runner: Runner) -> Command {
    let mut command = runner.command();
    for test in PLANTED_TESTS {
        command.args(["--test", test]);
    }
    for name in PLANTED {
        command.args(["-p", name]);
    }
    let features: Vec<String> = PLANTED
        .iter()
        .map(|name| format!("{name}/planted-bugs"))
        .collect();
    command.args(["--features", &features.join(",")]);
    command
}

/// Runs a command, passes on what it says, and returns why checks were skipped, a reason a check.
fn watched(command: &mut Command) -> Result<Vec<String>> {
    let shown = build::show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting `{shown}`"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let listeners = [
        out.map(|out| std::thread::spawn(|| pass_on(out, std::io::stdout()))),
        err.map(|err| std::thread::spawn(|| pass_on(err, std::io::stderr()))),
    ];
    let mut skipped = Vec::new();
    for listener in listeners.into_iter().flatten() {
        skipped.extend(listener.join().unwrap_or_default());
    }
    let status = child
        .wait()
        .with_context(|| format!("waiting for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(skipped)
}

fn pass_on(from: impl Read, mut to: impl Write) -> Vec<String> {
    let mut skipped = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        let Ok(line) = line else { break };
        // A reader that went away must not stop the tests.
        let _ = to.write_all(&line).and_then(|()| to.write_all(b"\n"));
        skipped.extend(reason(&String::from_utf8_lossy(&line)));
    }
    skipped
}

fn reason(line: &str) -> Option<String> {
    line.trim_start()
        .strip_prefix(SKIPPED)
        .map(|why| why.trim().to_owned())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn skipped_checks_are_counted_with_their_reasons_and_nothing_else_is() {
        let output = "ok\n    skipped: samples not here\nnot skipped: x\nskipped: needs root\n";
        assert_eq!(
            pass_on(output.as_bytes(), std::io::sink()),
            ["samples not here", "needs root"]
        );
    }
}
