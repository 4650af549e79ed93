//! What one modelled host is doing.

/// One host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostSim {
    /// Attempts so far; names the nonce.
    pub tries: u8,
    /// Boots so far.
    pub boots: u16,
    /// How it stands.
    pub life: Life,
    /// How far its attempt is.
    pub step: Step,
    /// On the release.
    pub on_release: bool,
    /// Its last sleep was announced.
    pub announced: bool,
}

/// How a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Life {
    /// Works.
    #[default]
    Up,
    /// Sleeps.
    Asleep,
    /// Does not come back by itself.
    Dead,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Step {
    /// None under way.
    #[default]
    None,
    /// Begun.
    Applying,
    /// In the boot that the release needs.
    Booting,
    /// Soaks.
    Soaking,
    /// Soaked in full.
    Done,
}

/// What happens next to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Asks for a grant, and begins.
    Ask,
    /// Switched: reboots, or goes on.
    Applied,
    /// Back from the boot.
    Booted,
    /// A heartbeat in mid-soak, where the silence deadline needs one.
    Heartbeat,
    /// Soaked in full.
    Soaked,
    /// The slow burn reaches it.
    Burns,
    /// Reboots by itself.
    Reboot,
    /// Control that did not come back counts.
    NoShow,
    /// Falls asleep.
    Sleep,
    /// Wakes up.
    Wake,
    /// Reports what never was.
    Lie,
    /// The site loses its network.
    OutageBegins,
    /// And gets it back.
    OutageEnds,
    /// The rollout plans.
    Plan,
}
