//! `cargo xtask check-deps`: the arrows between crates, and what a pure crate must not touch.

use crate::{build, lexer, threats};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate of the house, with the crates of the house it may use. What is not listed is an error.
const ARROWS: &[(&str, &[&str])] = &[
    ("ringward-domain", &[]),
    ("ringward-wire", &["ringward-domain"]),
    ("ringward-agent-core", &["ringward-domain"]),
    ("ringward-evidence", &["ringward-domain"]),
    ("ringward-guard", &["ringward-domain"]),
    (
        "ringward-agent-os",
        &["ringward-domain", "ringward-guard", "ringward-evidence"],
    ),
    (
        "ringward-agent",
        &[
            "ringward-domain",
            "ringward-wire",
            "ringward-agent-core",
            "ringward-evidence",
            "ringward-guard",
            "ringward-agent-os",
        ],
    ),
    ("ringward-server-core", &["ringward-domain"]),
    ("ringward-store", &["ringward-domain"]),
    (
        "ringward-server",
        &[
            "ringward-domain",
            "ringward-wire",
            "ringward-server-core",
            "ringward-store",
        ],
    ),
    ("ringwardctl", &["ringward-domain", "ringward-wire"]),
    (
        "ringward-sim",
        &[
            "ringward-domain",
            "ringward-agent-core",
            "ringward-guard",
            "ringward-server-core",
        ],
    ),
    (
        "ringward-crash",
        &[
            "ringward-domain",
            "ringward-agent",
            "ringward-guard",
            "ringward-store",
        ],
    ),
    (
        "ringward-suite",
        &[
            "ringward-domain",
            "ringward-wire",
            "ringward-agent",
            "ringward-agent-os",
            "ringward-agent-core",
            "ringward-guard",
            "ringward-evidence",
            "ringward-server",
            "ringward-server-core",
            "ringward-store",
            "ringwardctl",
            "ringward-sim",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that decide: no IO of any kind, by code or by dependency.
const PURE: &[(&str, &str)] = &[
    ("ringward-domain", "proto/domain"),
    ("ringward-agent-core", "agent/core"),
    ("ringward-evidence", "agent/evidence"),
    ("ringward-server-core", "server/core"),
];

/// Crates from outside that no pure crate may reach, directly or through others.
const IMPURE_CRATES: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "h2",
    "tonic",
    "prost",
    "rustls",
    "ring",
    "sled",
    "rand",
    "getrandom",
    "fastrand",
    "notify",
    "sysinfo",
    "tracing-subscriber",
    "tempfile",
];

/// (pure crate, impure crate, why it does no harm).
const EXCUSED: &[(&str, &str, &str)] = &[(
    "ringward-evidence",
    "getrandom",
    "evtx seeds its private hash maps; no finding depends on their order",
)];

/// Words that no code of a pure crate may hold, and what to do instead.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("std::fs", "take bytes as an argument"),
    ("std::net", "return an effect"),
    ("std::process", "return an effect"),
    ("std::thread", "return an effect"),
    ("std::env", "take the value as an argument"),
    ("SystemTime", "take time as an argument"),
    ("Instant", "take time as an argument"),
    (
        "HashMap",
        "use BTreeMap: its order is the same in every run",
    ),
    (
        "HashSet",
        "use BTreeSet: its order is the same in every run",
    ),
    ("RandomState", "take randomness as an argument"),
    ("thread_rng", "take randomness as an argument"),
    ("println!", "return what is to be said"),
    ("eprintln!", "return what is to be said"),
];

const TOP_LEVEL: &[&str] = &[
    "agent",
    "server",
    "proto",
    "deploy",
    "tests",
    "xtask",
    "target",
    "target-win",
];
/// Lines a source file may have; where two things live in one, it is split.
const LINES_MAX: usize = 640;

pub fn run() -> Result<()> {
    let metadata = build::metadata()?;
    let mut faults = arrow_faults(&metadata)?;
    faults.extend(reach_faults()?);
    let top = crate::root();
    faults.extend(top_level_faults(&top)?);
    faults.extend(threats::faults(&top)?);
    let mut files = Vec::new();
    for folder in ["agent", "server", "proto", "tests", "xtask"] {
        rust_files(&top.join(folder), &mut files)?;
    }
    for file in &files {
        let source =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let name = file.strip_prefix(&top).unwrap_or(file);
        faults.extend(source_faults(name, &source));
    }
    if faults.is_empty() {
        println!(
            "check-deps: {} crates, {} files, no arrow or ban is broken",
            ARROWS.len(),
            files.len()
        );
        return Ok(());
    }
    bail!("{} broken:\n  {}", faults.len(), faults.join("\n  "))
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field]
        .as_str()
        .with_context(|| format!("cargo metadata lacks {field}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn arrow_faults(metadata: &Value) -> Result<Vec<String>> {
    let known: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let members: BTreeSet<&str> = list(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut faults = Vec::new();
    for package in list(metadata, "packages") {
        if !members.contains(text(package, "id")?) {
            continue;
        }
        let name = text(package, "name")?;
        let Some(allowed) = known.get(name) else {
            faults.push(format!(
                "{name}: not a crate of the house; add it to ARROWS with what it may use"
            ));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let used = text(dependency, "name")?;
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if known.contains_key(used) && !is_dev && !allowed.contains(&used) {
                faults.push(format!("{name} must not use {used}: imports go down only"));
            }
        }
    }
    Ok(faults)
}

/// Which impure crates a pure crate reaches through its normal dependencies, as `cargo tree` resolves
/// them (cargo metadata also lists optional crates that nobody switched on).
fn reach_faults() -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (pure, _) in PURE {
        let output = build::cargo()
            .args([
                "tree", "--locked", "-p", pure, "-e", "normal", "--prefix", "none", "-f", "{p}",
            ])
            .output()
            .context("starting cargo tree")?;
        if !output.status.success() {
            bail!(
                "cargo tree -p {pure}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        faults.extend(impure_in(pure, &String::from_utf8_lossy(&output.stdout)));
    }
    Ok(faults)
}

fn impure_in(pure: &str, tree: &str) -> Vec<String> {
    let reached: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    reached
        .into_iter()
        .filter(|name| {
            IMPURE_CRATES.contains(name)
                && !EXCUSED
                    .iter()
                    .any(|(by, what, _)| (by, what) == (&pure, name))
        })
        .map(|name| {
            format!("{pure} reaches {name}: a pure crate does no IO and draws no randomness")
        })
        .collect()
}

fn top_level_faults(top: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for entry in std::fs::read_dir(top).with_context(|| format!("listing {}", top.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir()
            && !name.starts_with('.')
            && !TOP_LEVEL.contains(&name.as_str())
        {
            faults.push(format!("{name}/ is not a folder of the house"));
        }
    }
    Ok(faults)
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != "node_modules" {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The guard lies beneath `agent/os` and has to work without it.
const WINDOWS: [&str; 2] = ["agent/os", "agent/guard"];

fn source_faults(name: &Path, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = source.lines().count();
    if lines > LINES_MAX {
        faults.push(format!(
            "{}: {lines} lines; split it where two things live in one",
            name.display()
        ));
    }
    let code = lexer::code_only(source);
    if code.contains("cfg(windows)") && !WINDOWS.iter().any(|dir| name.starts_with(dir)) {
        faults.push(format!(
            "{}: cfg(windows) chooses modules in agent/os and agent/guard and nowhere else",
            name.display()
        ));
    }
    let is_pure = PURE
        .iter()
        .any(|(_, dir)| name.starts_with(Path::new(dir).join("src")));
    if is_pure {
        for (number, line) in lexer::without_tests(&code).lines().enumerate() {
            for (word, instead) in IMPURE_WORDS {
                if has_word(line, word) {
                    faults.push(format!(
                        "{}:{}: {word} in a pure crate; {instead}",
                        name.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    faults
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        edge(line[..at].chars().next_back()) && edge(line[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_clock_in_a_core_is_found_and_one_in_its_tests_is_not() {
        let source = "use std::time::SystemTime;\n#[cfg(test)]\nmod tests { use std::collections::HashMap; }\n";
        let faults = source_faults(Path::new("server/core/src/x.rs"), source);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("x.rs:1: SystemTime"));
        assert!(source_faults(Path::new("server/daemon/src/x.rs"), source).is_empty());
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert!(has_word("x: Instant,", "Instant"));
        assert!(!has_word("x: InstantPlan, MyInstant", "Instant"));
    }

    #[test]
    fn an_agent_that_imports_the_server_is_found() {
        let metadata = json!({
            "workspace_members": ["a"],
            "packages": [{"id": "a", "name": "ringward-agent", "dependencies": [
                {"name": "ringward-server-core", "kind": null}, {"name": "ringward-domain", "kind": null},
                {"name": "ringward-server", "kind": "dev"}]}],
        });
        let faults = arrow_faults(&metadata).unwrap_or_default();
        assert_eq!(
            faults,
            ["ringward-agent must not use ringward-server-core: imports go down only"]
        );
    }

    #[test]
    fn a_core_that_reaches_tokio_through_another_crate_is_found() {
        let faults = impure_in(
            "ringward-server-core",
            "ringward-server-core v0.1.0\nx v1.0.0\ntokio v1.54.1\ntokio v1.54.1 (*)\n",
        );
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(impure_in("ringward-evidence", "getrandom v0.3.4\n").is_empty());
    }
}
