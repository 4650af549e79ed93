//! Parsers under mutated inputs, on any stable compiler: no input may panic, run away or be taken for
//! something else. Inputs whose outcome was not seen before are kept and mutated further.

#[path = "../../../../agent/evidence/tests/draft/mod.rs"]
#[allow(dead_code, missing_docs)]
mod draft;
mod linux;
mod mutate;
mod targets;
mod windows;

use anyhow::{Context as _, Result, bail};
use mutate::Mutator;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use targets::Target;

/// One input may take so much of the processor's time: the machine may do other things meanwhile.
const LONGEST: Duration = Duration::from_secs(5);
/// Kept inputs of one target.
const KEPT_MAX: usize = 4_096;
/// An input grows no larger.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// What a person asks for.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Which parser; `all` for each in turn, `list` for their names
    #[arg(long, default_value = "all")]
    pub target: String,
    /// Processor time for each target
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    pub seconds: u64,
    /// Repeats an earlier run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Give one input, as a finding left it, to the target, instead of fuzzing
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Where a finding's input is left
    #[arg(long, value_name = "DIR", default_value = "target/fuzz")]
    pub findings: PathBuf,
}

fn all() -> Vec<Target> {
    let mut all = targets::all();
    all.extend(linux::all());
    all.extend(windows::all());
    all
}

/// Fuzzes; answers what was found, in words.
///
/// # Errors
/// There is no such target.
pub fn run(options: &Options) -> Result<Vec<String>> {
    let targets = all();
    if options.target == "list" {
        for target in &targets {
            println!("{}", target.name);
        }
        return Ok(Vec::new());
    }
    let chosen: Vec<&Target> = targets
        .iter()
        .filter(|target| options.target == "all" || options.target == target.name)
        .collect();
    if chosen.is_empty() {
        bail!(
            "there is no target {:?}; `--target list` names them",
            options.target
        );
    }
    let mut found = Vec::new();
    for target in chosen {
        if let Some(file) = &options.input {
            let bytes =
                std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
            println!("{}: {:?}", target.name, (target.run)(&bytes));
            continue;
        }
        found.extend(fuzz(target, options)?);
    }
    Ok(found)
}

fn fuzz(target: &Target, options: &Options) -> Result<Option<String>> {
    let mut mutator = Mutator::new(options.seed, (target.seeds)(), target.words);
    let mut kept: BTreeSet<String> = BTreeSet::new();
    let (began, mut runs, mut passed) = (processor_time(), 0_u64, 0_u64);
    let mut now = began;
    let budget = Duration::from_secs(options.seconds);
    loop {
        if now.saturating_sub(began) >= budget {
            break;
        }
        let input = mutator.next(INPUT_BYTES_MAX);
        runs += 1;
        let started = now;
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        now = processor_time();
        let took = now.saturating_sub(started);
        let problem = match outcome {
            Err(_) => Some("it panics".to_owned()),
            Ok(Err(wrong)) => Some(wrong),
            // Once may be the machine's doing; an input that is slow is slow again.
            Ok(Ok(_)) if took > LONGEST && cost(target, &input) > LONGEST => {
                Some(format!("it takes {} ms", took.as_millis()))
            }
            Ok(Ok(outcome)) => {
                let outcome = shape(&outcome);
                passed += u64::from(is_taken(&outcome));
                if kept.len() < KEPT_MAX && kept.insert(outcome) {
                    mutator.keep(input.clone());
                }
                None
            }
        };
        if let Some(problem) = problem {
            let path = leave(&options.findings, target.name, &input)?;
            return Ok(Some(format!(
                "{} after {runs} inputs: {problem}; input in {}, again with `--target {} --input {}`",
                target.name,
                path.display(),
                target.name,
                path.display()
            )));
        }
    }
    println!(
        "{:<24} {runs:>10} inputs, {passed:>9} taken, {:>4} outcomes, {:.0} s of processor time",
        target.name,
        kept.len(),
        (processor_time() - began).as_secs_f64()
    );
    Ok(None)
}

/// Processor time of one input, taken again: on a busy machine any input may seem to take long.
fn cost(target: &Target, input: &[u8]) -> Duration {
    let began = processor_time();
    // It came to an end before, and what came of it is known.
    let _ = (target.run)(input);
    processor_time() - began
}

/// Whether an outcome, which may tell more, is that of an input that was understood.
fn is_taken(outcome: &str) -> bool {
    outcome == "ok" || outcome.starts_with("ok ")
}

/// An outcome without what differs from input to input.
fn shape(outcome: &str) -> String {
    let mut quoted = false;
    let keep = |c: &char| {
        if matches!(c, '"' | '`') {
            quoted = !quoted;
        }
        !quoted && (c.is_ascii_alphabetic() || matches!(c, ' ' | '.' | ':' | '_'))
    };
    outcome.chars().filter(keep).take(200).collect()
}

fn leave(folder: &Path, name: &str, input: &[u8]) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{name}.input"));
    std::fs::write(&path, input).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.canonicalize()?)
}

fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;

    #[test]
    fn no_target_has_a_finding_within_half_a_second() {
        let options = Options {
            target: "all".to_owned(),
            seconds: 0,
            seed: 3,
            input: None,
            findings: std::env::temp_dir().join("ringward-fuzz"),
        };
        for target in all() {
            let began = Instant::now();
            let mut mutator = Mutator::new(options.seed, (target.seeds)(), target.words);
            for _ in 0..300 {
                let input = mutator.next(4_096);
                let outcome = (target.run)(&input);
                assert!(outcome.is_ok(), "{}: {outcome:?}", target.name);
                if began.elapsed() > Duration::from_millis(500) {
                    break;
                }
            }
        }
    }

    #[test]
    fn every_target_but_those_of_evidence_takes_a_seed_as_it_is() {
        for target in all() {
            let taken = (target.seeds)()
                .iter()
                .any(|seed| (target.run)(seed).is_ok_and(|outcome| is_taken(&outcome)));
            assert!(taken, "{}", target.name);
        }
    }

    #[test]
    fn a_planted_panic_is_found_and_its_input_left() {
        let planted = Target {
            name: "planted",
            words: &["rw1."],
            seeds: || vec![b"rw1.abcdef".to_vec()],
            run: |bytes| {
                assert!(!(bytes.len() > 12 && bytes.starts_with(b"rw1.")), "planted");
                Ok("ok".to_owned())
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            target: "planted".to_owned(),
            seconds: 20,
            seed: 1,
            input: None,
            findings: folder.path().to_owned(),
        };
        let found = fuzz(&planted, &options).unwrap().unwrap();
        assert!(found.contains("it panics"), "{found}");
        let input = std::fs::read(folder.path().join("planted.input")).unwrap();
        assert!(input.starts_with(b"rw1.") && input.len() > 12);
    }

    #[test]
    fn outcomes_that_differ_in_numbers_and_names_alone_are_one() {
        assert_eq!(
            shape("field \"abc\": 7 bytes at 12"),
            shape("field \"xy\": 99 bytes at 3")
        );
        assert_ne!(shape("no field"), shape("bad field"));
    }
}
