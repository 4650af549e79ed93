//! What people read: hosts, rollouts, waits, verdicts. Every "not now" is a typed reason here.

use crate::absence::Absence;
use crate::cause::{Cause, CauseCount};
use crate::desired::AssignmentKind;
use crate::host::{Facts, HostState, Labels};
use crate::ids::{HostId, Nonce, ReleaseDigest, RingName, RolloutId};
use crate::incident::{ForecastView, StratumView, SuspectView};
use crate::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use crate::observed::{Observed, RefuseWhy};
use crate::signal::{Signal, SignalKind};
use crate::time::Millis;
use crate::version::{PackageName, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a host of a rollout is not granted now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitWhy {
    /// As many in flight as the window allows.
    WindowFull,
    /// Its ring's turn has not come.
    EarlierRing,
    /// Other hosts of the ring come first.
    NotItsTurn,
    /// No session with the host.
    Unreachable,
    /// Still downloads or verifies.
    Preparing,
    /// Preparing failed; tried again.
    PrepareFailing,
    /// Announced that it would be away.
    Away(Absence),
    /// A person froze it.
    Frozen,
    /// The release is barred on it.
    Barred,
    /// Soaks another release.
    OtherTrial,
    /// The hourly cap is used up.
    Capped,
    /// The rollout does not run.
    NotRunning(RolloutState),
    /// The server just started; agents come back first.
    ServerStarting,
    /// Another host of its redundancy group is in flight.
    RedundancyGroup,
    /// The host is pending approval or retired.
    NotActive,
    /// None of its maintenance windows is open.
    OutsideMaintenance,
}

/// How a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// Exposes hosts.
    Running,
    /// Automatic; lifts itself.
    Held,
    /// Automatic; a person lifts it.
    Halted,
    /// By a person.
    Paused,
    /// Every ring is complete.
    Completed,
    /// By a person, final.
    Aborted,
}

/// How a host stands in a rollout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Not exposed, for this reason.
    Waiting(WaitWhy),
    /// Holds a grant.
    Granted,
    /// Its `Begin` is recorded: exposed.
    Begun,
    /// On the release.
    Applied,
    /// Reboots into it.
    Rebooting,
    /// Healthy on it so far.
    Soaking,
    /// Proven.
    Confirmed,
    /// Was on the wanted release before its turn came; nothing to do.
    AlreadyThere,
    /// Failed.
    Failed(FailureWhy),
    /// Went back by itself, which is a failure of the release.
    Reverted(RevertWhy),
    /// Began and was not heard of until its deadline.
    Silent,
    /// Will not install it.
    Refused(RefuseWhy),
    /// Proved that it did not switch.
    Deferred(NotSwitchedWhy),
    /// Exposed and away as announced; soaks on after its return without a slot.
    Away(Absence),
}

/// Why an exposure failed without going back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureWhy {
    /// The host says that the switch failed.
    Install(FailWhy),
    /// A failure signal during the trial.
    Signal(SignalKind),
    /// Came back on another release than the one begun, without a word.
    WrongRelease,
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Expose as the window allows.
    Continue,
    /// Expose nothing for now; lifts itself.
    Hold(HoldWhy),
    /// Stop; a person lifts it.
    Halt(HaltWhy),
}

/// Why a rollout holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldWhy {
    /// Every host of the ring is exhausted and none was exposed.
    NobodyExposed,
    /// Correlated silence at a site without control hosts.
    SiteSilentWithoutControl,
    /// The manifest expired.
    ReleaseExpired,
}

/// Why a rollout halted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HaltWhy {
    /// The e-process crossed its threshold.
    EvidenceOfHarm {
        /// Value reached.
        e_value: f64,
        /// Value at which it halts.
        threshold: f64,
    },
    /// More failed exposures than may fail in the ring.
    MaxFailed {
        /// Failed exposures in the ring.
        failed: u64,
        /// As many may fail.
        max_failed: u64,
    },
    /// The same signature on several hosts.
    RepeatedSignature {
        /// What recurred.
        signature: String,
        /// On so many hosts.
        hosts: u64,
    },
    /// The ring is exhausted and less than 95 % of its exposures were confirmed.
    RingBelowShare {
        /// Confirmed in the ring.
        confirmed: u64,
        /// Failed in the ring.
        failed: u64,
    },
}

/// One verdict with all it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictReport {
    /// The decision.
    pub decision: Decision,
    /// The decision in one sentence with counts.
    pub sentence: String,
    /// Failed exposures (failed, silent, reverted), whole rollout.
    pub failed: u64,
    /// Confirmed exposures, whole rollout.
    pub confirmed: u64,
    /// Exposures taken out of the count as trouble of network or server.
    pub censored: u64,
    /// Failures among the unexposed control hosts.
    pub control_failures: u64,
    /// Reboots and host-days of control.
    pub control_units: f64,
    /// The control's failure rate as used (0..1).
    pub p0: f64,
    /// One-sided 95 % upper bound of the rollout's failure rate (0..1).
    pub upper_bound: f64,
    /// The e-process now.
    pub e_value: f64,
    /// Where it halts.
    pub e_threshold: f64,
    /// How many may fail in the present ring.
    pub max_failed: u64,
    /// Smallest failure rate that would halt with 95 % probability before the rollout is through;
    /// `None` where even a release that kills every host could pass unseen (an empty fleet).
    pub smallest_detectable_rate: Option<f64>,
    /// How many further failures in a row would halt it.
    pub failures_to_halt: u64,
    /// The control is too small to know its rate: a ceiling stands in for it.
    #[serde(default)]
    pub assumed: bool,
    /// Strata in which exposures failed, that with the most evidence first, at most 8.
    #[serde(default)]
    pub strata: Vec<StratumView>,
}

/// A host and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub hostname: String,
    /// Its state in the rollout.
    pub state: MemberState,
    /// Back after its silence deadline: stays counted, shown "late".
    pub late: bool,
    /// The attempt, if it had one.
    pub nonce: Option<Nonce>,
    /// In this state for so long.
    pub for_ms: Millis,
    /// What the host told of its failure; `None` where it did not fail or told nothing.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// One ring of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RingView {
    /// Its name.
    pub name: RingName,
    /// How it stands.
    pub state: RingState,
    /// Members, frozen at the start, plus stragglers that joined.
    pub members: u64,
    /// Live grants and exposures not yet resolved.
    pub in_flight: u64,
    /// The in-flight number at which no further grant is made; zero where the ring is not open.
    pub window: u64,
    /// Members not exposed.
    pub waiting: u64,
    /// Members that soak.
    pub soaking: u64,
    /// Confirmed.
    pub confirmed: u64,
    /// Already on the wanted release.
    pub already_there: u64,
    /// Failed with a word.
    pub failed: u64,
    /// Went back by themselves.
    pub reverted: u64,
    /// Went silent.
    pub silent: u64,
    /// Proved not switched.
    pub deferred: u64,
    /// Refused it.
    pub refused: u64,
    /// Exposed and away as announced.
    pub away: u64,
    /// Never exposed and not grantable when the ring completed.
    pub stragglers: u64,
    /// Why members wait, with how many, most first.
    pub waits: Vec<(WaitWhy, u64)>,
}

/// How a ring stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RingState {
    /// Its turn has not come.
    Waiting,
    /// Exposes hosts.
    Open,
    /// Done.
    Complete,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// Its id.
    pub id: RolloutId,
    /// Install or rollback.
    pub kind: AssignmentKind,
    /// The package.
    pub package: PackageName,
    /// The version it brings.
    pub version: Version,
    /// The release it brings.
    pub release: ReleaseDigest,
    /// The version left (rollbacks).
    pub leaves: Option<Version>,
    /// How it stands.
    pub state: RolloutState,
    /// Why, in words; empty while it simply runs.
    pub state_reason: String,
    /// When it was started, Unix milliseconds, for display only.
    pub started_unix_ms: u64,
    /// By whom.
    pub started_by: String,
    /// For what reason.
    pub reason: String,
    /// Every ring in order.
    pub rings: Vec<RingView>,
    /// The verdict now.
    pub verdict: VerdictReport,
    /// Hosts that began and went silent, by name; at most 1,000.
    pub silent_hosts: Vec<MemberView>,
    /// Hosts that failed or went back, by name; at most 1,000.
    pub failed_hosts: Vec<MemberView>,
    /// Deciding event received to halt durable, in ms; `None` where it did not halt.
    pub evidence_to_halt_ms: Option<u64>,
    /// What the policy gave up against the defaults (short soak, "boot unproven", ...), in words.
    pub notes: Vec<String>,
    /// Who was suspected when it halted, most first; at most 3.
    #[serde(default)]
    pub suspects: Vec<SuspectView>,
    /// What a person should do next, as a command where there is one; empty if nothing is proposed.
    #[serde(default)]
    pub proposal: String,
    /// When it will be through as things are; `None` where it exposes nobody.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
    /// What most failed hosts told of their failures, most first; at most 3.
    #[serde(default)]
    pub causes: Vec<CauseCount>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its id.
    pub id: HostId,
    /// Where it stands.
    pub state: HostState,
    /// Facts it reports.
    pub facts: Facts,
    /// Labels the server assigned.
    pub labels: Labels,
    /// Agent version.
    pub agent_version: String,
    /// Has a session now.
    pub connected: bool,
    /// Heard of so long ago.
    pub last_seen_ms: Millis,
    /// What it runs and does.
    pub observed: Observed,
    /// Why a person should look, in words; empty when all is well.
    pub attention: Vec<String>,
    /// Newest signals, newest first, at most 50 (only in `show`).
    pub signals: Vec<Signal>,
}

/// One published release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its digest.
    pub release: ReleaseDigest,
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// How the fleet thinks of it.
    pub standing: Standing,
    /// When it was published, Unix milliseconds.
    pub published_unix_ms: u64,
    /// Keys that signed it, short.
    pub signed_by: Vec<String>,
    /// Artefact bytes in all.
    pub bytes: u64,
    /// Hosts that run it.
    pub hosts_running: u64,
}

/// How the fleet thinks of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing is known yet.
    Unproven,
    /// Completed a rollout, or a person says so.
    Good,
    /// Rolled back, or a person says so: barred on the fleet until a person lifts it.
    Bad,
}

impl fmt::Display for RolloutState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Held => "held",
            Self::Halted => "halted",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Aborted => "aborted",
        })
    }
}

impl fmt::Display for WaitWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowFull => f.write_str("the window is full"),
            Self::EarlierRing => f.write_str("an earlier ring is not complete"),
            Self::NotItsTurn => f.write_str("other hosts of the ring come first"),
            Self::Unreachable => f.write_str("no session with the host"),
            Self::Preparing => f.write_str("downloads and verifies"),
            Self::PrepareFailing => f.write_str("preparing failed and is tried again"),
            Self::Away(Absence::Suspend) => f.write_str("announced: suspended"),
            Self::Away(Absence::PowerOff) => f.write_str("announced: switched off"),
            Self::Away(Absence::UserStop) => f.write_str("announced: agent stopped by a person"),
            Self::Frozen => f.write_str("frozen by a person"),
            Self::Barred => f.write_str("the release is barred on it"),
            Self::OtherTrial => f.write_str("soaks another release"),
            Self::Capped => f.write_str("the hourly cap is used up"),
            Self::NotRunning(state) => write!(f, "the rollout is {state}"),
            Self::ServerStarting => f.write_str("the server just started; agents come back first"),
            Self::RedundancyGroup => {
                f.write_str("another host of its redundancy group is in flight")
            }
            Self::NotActive => f.write_str("not an active host"),
            Self::OutsideMaintenance => f.write_str("outside its maintenance windows"),
        }
    }
}
