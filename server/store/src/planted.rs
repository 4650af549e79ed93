//! Faults planted on purpose, to show that the tests find them. Never in a shipped build.

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlantedBug {
    /// Commits are answered before they are flushed and synced.
    AcknowledgeBeforeDurable,
    /// A commit asked again is done again.
    RequestIdsForgotten,
    /// A commit is written although its checks fail.
    ChecksIgnored,
}
