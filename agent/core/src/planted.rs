//! Bugs that the harnesses must find. Without the feature `planted-bugs` (never in a shipped build)
//! `planted` is a constant `false`.

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code))]
pub enum Bug {
    /// The life of a grant counts from its receipt instead of its request.
    GrantLifeFromReceipt,
    /// A desired state older than the newest accepted one is accepted.
    OlderGenerationAccepted,
    /// A `Begun` that the running process never asked for permits a switch.
    DoubleBegun,
    /// Time asleep counts as healthy.
    SoakClockRunsInSuspend,
    /// The switch does not wait for `Begun`.
    SwitchWithoutBegun,
    /// The host's own bars are forgotten by a restart.
    OwnBarForgotten,
    /// Who vouches for an order is looked up in whatever state the server named last, taken or not.
    VouchOfAnotherState,
    /// An endorsement is good for as many acts as the server likes.
    EndorsementSpentAgain,
    /// One more isolation is free while one stands, and its life begins anew.
    LifeAnewIsFree,
    /// A restart forgets what was obeyed lately.
    ObeyedForgottenAfterRestart,
    /// An endorsement of an order to other hosts will do.
    UnnamedHostObeys,
    /// One endorsement will do.
    QuorumOfOne,
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants one bug (or none) for this thread.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.with(|cell| cell.set(bug));
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.with(Cell::get) == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::plant;
#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::planted;

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
