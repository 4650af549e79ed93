//! Bugs that can be planted in verdict, window and attribution, so that the tests prove that they
//! find them. Without the feature `planted-bugs` none of this is compiled in.

/// A bug of the statistics; what it breaks stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A confirmed host that fails keeps its credit.
    LateKeepsCredit,
    /// A failure at the end of the attribution time weighs like one at its start.
    LateWeighsInFull,
    /// Hosts count as trials only when they are confirmed, after the failures of their cohort.
    TrialsWhenConfirmed,
    /// What recurs is dropped.
    SignatureDropped,
    /// The sight that chose a signature counts as evidence for it too.
    SignatureChosenTwice,
    /// A censored failure goes on counting.
    CensoredCounts,
    /// An exposure that ended without credit gets it.
    UncountedCredited,
    /// The control is gone after a person's resume.
    ControlForgotten,
    /// A fleet without history is believed to be perfect.
    NoCeiling,
    /// A quiet fleet is believed never to fail.
    NoFloor,
    /// Only the past tells the usual rate.
    DriftIgnored,
    /// Failures while running are not compared with host-time.
    TimeIgnored,
    /// Failures of the control during the rollout are lost.
    ControlFailuresLost,
    /// Every stratum spends the whole of α.
    StrataUnweighted,
    /// A model that always failed is held to the fleet's rate.
    OwnControlIgnored,
    /// Halts at a tenth of the evidence.
    ThresholdTooLow,
    /// One broken host halts.
    OneFailureHalts,
    /// Any number may fail in a ring.
    MaxFailedUnbounded,
    /// A ring completes however few were confirmed.
    ShareIgnored,
    /// A small ring never survives one broken host.
    SmallRingNotForgiven,
    /// The whole ring may be in flight.
    CapIgnored,
    /// A failure before any success leaves the window as it is.
    FirstFailureIgnored,
    /// Failures of the release are forgiven like those of the control.
    EverythingForgiven,
    /// Candidates are not corrected for their number.
    CandidatesNotCorrected,
    /// A change taken after the failure is blamed.
    BlamedAfterwards,
}

impl Flaw {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::LateKeepsCredit,
        Self::LateWeighsInFull,
        Self::TrialsWhenConfirmed,
        Self::SignatureDropped,
        Self::SignatureChosenTwice,
        Self::CensoredCounts,
        Self::UncountedCredited,
        Self::ControlForgotten,
        Self::NoCeiling,
        Self::NoFloor,
        Self::DriftIgnored,
        Self::TimeIgnored,
        Self::ControlFailuresLost,
        Self::StrataUnweighted,
        Self::OwnControlIgnored,
        Self::ThresholdTooLow,
        Self::OneFailureHalts,
        Self::MaxFailedUnbounded,
        Self::ShareIgnored,
        Self::SmallRingNotForgiven,
        Self::CapIgnored,
        Self::FirstFailureIgnored,
        Self::EverythingForgiven,
        Self::CandidatesNotCorrected,
        Self::BlamedAfterwards,
    ];
}

#[cfg(feature = "planted-bugs")]
mod chosen {
    use super::Flaw;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Flaw>> = const { Cell::new(None) };
    }

    /// Plant this bug in everything this thread runs from now on; `None` removes it.
    pub fn plant(flaw: Option<Flaw>) {
        CHOSEN.set(flaw);
    }

    pub(crate) fn flawed(flaw: Flaw) -> bool {
        CHOSEN.get() == Some(flaw)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::flawed;
#[cfg(feature = "planted-bugs")]
pub use chosen::plant;

/// Whether this bug is planted.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn flawed(_: Flaw) -> bool {
    false
}
