//! What a parser reports: findings, and honest words about what it could not read.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::text;

/// One observed fact, with the de-duplication key under which every source of the same fact merges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What kind of fact this is, in kebab case (`kernel-panic`, `bugcheck`, `unit-crash-loop`, ...).
    pub kind: &'static str,
    /// De-duplication key: equal keys are the same fact seen through different artefacts.
    pub key: String,
    /// One line for people.
    pub title: String,
    /// The module (kernel module, driver file) to blame; `None` where nobody can be blamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The normalised function (no offsets, no `.isra.0` suffixes), where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The facts this finding rests on.
    pub evidence: Map<String, Value>,
}

impl Finding {
    /// A finding nobody is blamed for; key and title are cleaned and cut to one line.
    #[must_use]
    pub fn new(kind: &'static str, key: &str, title: &str) -> Self {
        Self {
            kind,
            key: text::evidence(key),
            title: text::title(title),
            module: None,
            function: None,
            evidence: Map::new(),
        }
    }

    /// Adds one fact; strings are cleaned and cut to [`text::EVIDENCE_CHARS_MAX`].
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(raw) => Value::String(text::evidence(&raw)),
            other => other,
        };
        self.evidence.insert(name.to_owned(), value);
        self
    }

    /// Adds one fact where it is known.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// Something that could not be read; parsing went on after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unreadable {
    /// What was being read and why it failed.
    pub error: String,
    /// Byte offset in the artefact at which it failed.
    pub offset: u64,
}

/// One line of `ringward-agent inspect --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// A fact.
    Finding(Finding),
    /// A gap.
    Unreadable(Unreadable),
}

impl Item {
    /// A gap at `offset`; the text is cleaned.
    #[must_use]
    pub fn unreadable(error: &str, offset: u64) -> Self {
        Self::Unreadable(Unreadable {
            error: text::evidence(error),
            offset,
        })
    }

    /// The fact, where this is one.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Finding(finding) => Some(finding),
            Self::Unreadable(_) => None,
        }
    }
}

impl From<Finding> for Item {
    fn from(finding: Finding) -> Self {
        Self::Finding(finding)
    }
}
