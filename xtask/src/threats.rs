//! The threat table of ARCHITECTURE.md: each test that it names exists.

use anyhow::{Context, Result};
use std::path::Path;

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Threats";

/// What the table names and the tree does not have.
pub fn faults(top: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(top.join(DOCUMENT))
        .with_context(|| format!("reading {DOCUMENT}"))?;
    Ok(faults_of(&text, |file| {
        std::fs::read_to_string(top.join(file)).ok()
    }))
}

fn faults_of(document: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let Some(section) = document.split(HEADING).nth(1) else {
        return vec![format!("{DOCUMENT}: has no section `{HEADING}`")];
    };
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|--"))
        .skip(1);
    let mut faults = Vec::new();
    let mut count = 0;
    for row in rows {
        count += 1;
        let threat = row.split('|').nth(1).unwrap_or_default().trim();
        let tests: Vec<&str> = row
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.contains(".rs::"))
            .collect();
        if tests.is_empty() {
            faults.push(format!("{DOCUMENT}: the threat {threat:?} names no test"));
        }
        for test in tests {
            if !exists(test, &read) {
                faults.push(format!("{DOCUMENT}: the test {test} does not exist"));
            }
        }
    }
    if count == 0 {
        faults.push(format!("{DOCUMENT}: `{HEADING}` holds no table"));
    }
    faults
}

/// Whether `path.rs::name` names a function in a file, marked as a test.
fn exists(test: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let Some((file, name)) = test.split_once("::") else {
        return false;
    };
    let Some(source) = read(file) else {
        return false;
    };
    let Some(at) = source.find(&format!("fn {name}(")) else {
        return false;
    };
    let before: Vec<&str> = source[..at].lines().rev().take(8).collect();
    before.iter().any(|line| line.contains("test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# A\n## Threats\n\n| threat | rule | test |\n|---|---|---|\n\
        | a thief | none | `a.rs::a_thief_gets_nothing` |\n\n## B\n";

    fn faults_with(source: &str) -> Vec<String> {
        faults_of(TABLE, |file| (file == "a.rs").then(|| source.to_owned()))
    }

    #[test]
    fn a_test_that_is_there_is_found_and_one_that_went_is_not() {
        assert!(faults_with("#[test]\nfn a_thief_gets_nothing() {}").is_empty());
        assert_eq!(faults_with("#[test]\nfn a_thief_gets_much() {}").len(), 1);
        assert_eq!(faults_with("fn a_thief_gets_nothing() {}").len(), 1);
        assert_eq!(faults_of(TABLE, |_| None).len(), 1);
    }

    #[test]
    fn a_threat_without_a_test_and_a_table_that_went_are_faults() {
        let bare = TABLE.replace('`', "");
        assert_eq!(faults_of(&bare, |_| None).len(), 1);
        assert_eq!(faults_of("# A", |_| None).len(), 1);
        assert_eq!(faults_of("## Threats\n", |_| None).len(), 1);
    }
}
