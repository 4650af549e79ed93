//! Bugs planted on purpose, so that the harnesses prove that they find them. Without the feature
//! `planted-bugs` none of this is compiled in and [`planted`] is `false` at compile time.

/// A bug that can be planted; the invariant it breaks stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What is sent does not wait for what was written before it (§2.10).
    AcknowledgeBeforeDurable,
    /// The window grows with confirmed hosts alone, whatever failed (DESIGN §4, window).
    WindowFromConfirmedOnly,
    /// A silent exposure ends without counting as a failure (§2.1).
    SilenceNotCounted,
    /// The bars of the fleet are gone after a restart (§2.5).
    BarForgottenAfterRestart,
    /// A `Begin` of a refused, expired or burned nonce is answered with `Begun` (§4).
    DoubleBegun,
    /// A failure that arrives after the exposure resolved is dropped (§4, attribution).
    EvidenceDroppedAfterResolution,
    /// The verdict is asked by the planner only, not on the event (§3).
    HaltOnlyInPlanner,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AcknowledgeBeforeDurable,
        Self::WindowFromConfirmedOnly,
        Self::SilenceNotCounted,
        Self::BarForgottenAfterRestart,
        Self::DoubleBegun,
        Self::EvidenceDroppedAfterResolution,
        Self::HaltOnlyInPlanner,
    ];
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plant this bug in everything this thread runs from now on; `None` removes it.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::plant;
#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::planted;

/// Whether this bug is planted.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
