//! The messages of one agent session, in both directions.

use crate::absence::Absence;
use crate::audit::AuditShown;
use crate::desired::Desired;
use crate::host::Facts;
use crate::ids::{
    AgentStart, BootId, Epoch, Generation, Nonce, ReleaseDigest, RolloutId, SignalSeq,
};
use crate::observed::Observed;
use crate::signal::Signal;
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// Protocol version this code speaks.
pub const PROTOCOL: u32 = 1;
/// Oldest protocol version this code still speaks.
pub const PROTOCOL_MIN: u32 = 1;

/// From the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer {
    /// First message of a session.
    Hello(Box<Hello>),
    /// Alive. Sent every `Desired::heartbeat` with jitter, while applying too.
    Heartbeat(Heartbeat),
    /// Signals from the spool in order of their seq, at most
    /// [`SIGNALS_PER_BATCH_MAX`](crate::limits::SIGNALS_PER_BATCH_MAX); resent until acknowledged.
    Signals(Vec<Signal>),
    /// The observed state changed.
    Observed(Box<Observed>),
    /// Prepared, and asks for a grant. Its life counts from this request.
    RequestGrant(RequestGrant),
    /// Directly before the switch; resent until answered within 10 s.
    Begin(Begin),
    /// Says before it takes effect that the host will be away.
    Absent(Absence),
    /// Asks for the audit log's head. Sent once a session, after `Welcome`; from then on the server
    /// shows each newer head.
    AuditKnown {
        /// Entries of the head that the host keeps; zero where it keeps none.
        size: u64,
    },
}

/// Who speaks, since when, and what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Oldest protocol version the agent speaks.
    pub protocol_min: u32,
    /// Newest protocol version the agent speaks.
    pub protocol_max: u32,
    /// Optional abilities by name; unknown ones are kept.
    pub capabilities: Vec<String>,
    /// The agent's own version.
    pub agent_version: String,
    /// The running boot.
    pub boot: BootId,
    /// The running agent process.
    pub agent_start: AgentStart,
    /// Boot-time clock of the host now.
    pub boottime: Millis,
    /// Whether the stop before this boot was clean; `None` where it cannot be known.
    pub last_stop_clean: Option<bool>,
    /// Newest desired state accepted.
    pub accepted: (Epoch, Generation),
    /// The next signal's seq.
    pub next_signal: SignalSeq,
    /// What the agent knows of its host.
    pub facts: Facts,
    /// What it runs.
    pub observed: Observed,
}

/// Sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Newest desired state accepted: the server resends when it is behind.
    pub accepted: (Epoch, Generation),
    /// Boot-time clock of the host.
    pub boottime: Millis,
    /// Soak so far of the attempt named, if one soaks.
    pub soaked: Option<(Nonce, Millis)>,
}

/// Asks for a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestGrant {
    /// Drawn for this request.
    pub nonce: Nonce,
    /// The rollout.
    pub rollout: RolloutId,
    /// The release it is ready to switch to.
    pub release: ReleaseDigest,
}

/// Announces the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The granted nonce.
    pub nonce: Nonce,
}

/// From the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToAgent {
    /// First answer: the protocol version spoken from now on.
    Welcome {
        /// Within both ranges.
        protocol: u32,
    },
    /// What the host should be.
    Desired(Box<Desired>),
    /// May begin within `life` of its request.
    Grant {
        /// The request's nonce.
        nonce: Nonce,
        /// Counted on the agent's boot-time clock from its request.
        life: Millis,
    },
    /// No grant now.
    Wait {
        /// The request's nonce.
        nonce: Nonce,
        /// Why.
        why: crate::report::WaitWhy,
        /// Ask again after this long (spread by jitter), or when invited again.
        retry_after: Millis,
    },
    /// The exposure is on disk: switch.
    Begun {
        /// The begun nonce.
        nonce: Nonce,
    },
    /// Do not switch; the nonce is dead.
    BeginRefused {
        /// The refused nonce.
        nonce: Nonce,
        /// Why.
        why: BeginRefusal,
    },
    /// Signals up to and with this seq are durable.
    SignalsDurable {
        /// Cumulative.
        through: SignalSeq,
    },
    /// The server closes this session; come back after this long.
    ComeBack {
        /// Spread by jitter.
        after: Millis,
    },
    /// The audit log's head, proved to add only to the one shown before.
    AuditHead(Box<AuditShown>),
}

/// Why `Begin` was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeginRefusal {
    /// No such grant for this host, or it was resolved already.
    NoGrant,
    /// The grant's life has passed.
    Expired,
    /// A newer grant or desired state took its place.
    Superseded,
    /// The rollout does not run (held, halted, paused, aborted, andon).
    NotRunning,
    /// The release is barred on this host.
    Barred,
    /// The host is frozen.
    Frozen,
    /// Granted to another boot or agent start.
    OtherBoot,
}
