//! What is wrong with a message, and where.

use std::fmt;

/// A message that cannot be what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Path of the field, as in `observed.attempt.nonce`.
    pub field: String,
    /// What is wrong with it.
    pub why: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It must be there.
    Missing,
    /// A newer peer's value: this version does not know it. A session skips such a frame.
    Unknown {
        /// The number on the wire; 0 for a frame whose body is unknown altogether.
        value: i32,
    },
    /// Larger than allowed.
    TooLarge {
        /// Size found.
        size: usize,
        /// Size allowed.
        max: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// Not of the wanted form.
    Malformed(String),
}

impl DecodeError {
    /// An error of the field named.
    pub fn new(field: impl Into<String>, why: Fault) -> Self {
        Self {
            field: field.into(),
            why,
        }
    }

    /// The same error, seen from the message that holds the field's message as `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = if self.field.is_empty() {
            outer.to_owned()
        } else {
            format!("{outer}.{}", self.field)
        };
        self
    }

    /// Whether the peer is merely newer: a session skips the frame and lives on.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.why, Fault::Unknown { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("must be set"),
            Self::Unknown { value } => {
                write!(f, "value {value} is not known to this version; update it")
            }
            Self::TooLarge { size, max, unit } => {
                write!(f, "has {size} {unit}, at most {max} are allowed")
            }
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for tonic::Status {
    fn from(error: DecodeError) -> Self {
        crate::status::bad_field(&error.field, &error.why.to_string())
    }
}
