//! Bugs that can be planted in orders, brakes and approvals, so that the random histories prove that
//! they find them. Without the feature `planted-bugs` none of this is compiled in.

/// A bug of the brakes on ourselves; what it breaks stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// Breaking the glass lifts the caps for hosts that come back later.
    GlassLiftsCaps,
    /// A host that counted within the hour may be ordered anew beyond the cap.
    TakenBackIsFree,
    /// Who was let past the caps is forgotten in a restart.
    CapsForgottenAfterRestart,
    /// Hosts without a session take their place in the caps when they are named, not when they are told.
    AwayLetIn,
    /// What a host may not have heard keeps its place for when it is back.
    UnheardKeepsItsPlace,
    /// Whoever waits under a cap is let in with the next tick.
    WaitingLetIn,
    /// One person orders protected hosts too.
    ProtectionIgnored,
    /// The author approves.
    AuthorApproves,
    /// Whoever has the author's certificate approves.
    TwinApproves,
    /// An approver of a minute approves.
    NoviceApproves,
    /// An approval is of whatever the id names.
    DigestNotCompared,
    /// What expired can be approved still.
    ExpiredApproved,
    /// One person grants roles.
    GrantsAlone,
    /// One person loosens the policy.
    LoosensAlone,
    /// A cancelled order stays wanted.
    CancelledStands,
    /// A request that is repeated is carried out again.
    RepeatedAgain,
}

impl Slip {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::GlassLiftsCaps,
        Self::TakenBackIsFree,
        Self::CapsForgottenAfterRestart,
        Self::AwayLetIn,
        Self::UnheardKeepsItsPlace,
        Self::WaitingLetIn,
        Self::ProtectionIgnored,
        Self::AuthorApproves,
        Self::TwinApproves,
        Self::NoviceApproves,
        Self::DigestNotCompared,
        Self::ExpiredApproved,
        Self::GrantsAlone,
        Self::LoosensAlone,
        Self::CancelledStands,
        Self::RepeatedAgain,
    ];
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use super::Slip;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Slip>> = const { Cell::new(None) };
    }

    /// Plant this bug in everything this thread runs from now on; `None` removes it.
    pub fn plant(slip: Option<Slip>) {
        CHOSEN.set(slip);
    }

    pub(crate) fn slipped(slip: Slip) -> bool {
        CHOSEN.get() == Some(slip)
    }
}

#[cfg(feature = "planted-bugs")]
pub use chosen::plant;
#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::slipped;

/// Whether this bug is planted.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn slipped(_: Slip) -> bool {
    false
}
