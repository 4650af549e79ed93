//! One host as the server knows it.

use crate::control::Incarnations;
use ringward_domain::absence::Absence;
use ringward_domain::host::{Facts, HostState, Labels};
use ringward_domain::ids::{
    AgentStart, BootId, Epoch, Generation, ReleaseDigest, RolloutId, Sha256, SignalSeq,
};
use ringward_domain::observed::{Observed, PackageObserved};
use ringward_domain::{Desired, HostId, Millis, PackageName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeBounds;

/// Boots of one host remembered, to tell an old signal from a new one.
const BOOTS_MAX: usize = 8;

/// What is written down of a host. Sessions, heartbeats and preparations are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Issued at enrolment.
    pub id: HostId,
    /// Where it stands.
    pub state: HostState,
    /// Facts it reported last.
    pub facts: Facts,
    /// Labels the server assigned.
    #[serde(default)]
    pub labels: Labels,
    /// SHA-256 of its certificate's public key.
    #[serde(default)]
    pub key: Option<Sha256>,
    /// Agent version it reported last.
    #[serde(default)]
    pub agent_version: String,
    /// Fleet clock at its enrolment.
    #[serde(default)]
    pub enrolled_at: Timestamp,
    /// Takes no changes, by a person's word.
    #[serde(default)]
    pub frozen: bool,
    /// Announced absence, not over yet.
    #[serde(default)]
    pub absent: Option<Absence>,
    /// What it ran when it was heard last.
    #[serde(default)]
    pub packages: Vec<PackageObserved>,
    /// Releases barred on it: it went back from them by itself.
    #[serde(default)]
    pub bars: BTreeSet<ReleaseDigest>,
    /// Releases whose bar a person lifted; kept until the host's own bar is gone.
    #[serde(default)]
    pub lifted: BTreeSet<ReleaseDigest>,
    /// Signals up to and with this seq are durable.
    #[serde(default)]
    pub signals_through: SignalSeq,
    /// Two machines were seen with its identity: neither gets a session until a person says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
    /// A host with the same fingerprint was known when it enrolled: probably the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<HostId>,
    /// It leaves when nothing was heard of it for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Millis>,
    /// When it said last that it was shown another audit log than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork_seen: Option<Timestamp>,
}

/// One session with a host.
#[derive(Debug, Clone)]
pub struct Session {
    /// The running boot.
    pub boot: BootId,
    /// The running agent process.
    pub agent_start: AgentStart,
    /// Boot-time clock of the host, and the fleet clock when it was told.
    pub boottime: (Millis, Timestamp),
    /// Boot-time clock of the host in its hello.
    pub opened_at: Millis,
    /// First signal that the host has not spooled yet, as far as known.
    pub next_signal: SignalSeq,
    /// Newest desired state it said it accepted.
    pub accepted: (Epoch, Generation),
    /// Newest desired state sent in this session, and when.
    pub sent: Option<(Desired, Timestamp)>,
    /// First seq of a batch after a gap, how often it came, and since when.
    pub signal_gap: Option<(SignalSeq, u32, Timestamp)>,
}

/// Every host by its id. Boxed, since hosts come in the order of their ids, which leaves half of each
/// node of the tree empty: 0.7 KiB a host where they lie in it.
#[derive(Debug, Clone, Default)]
pub struct Hosts(BTreeMap<HostId, Box<Host>>);

impl Hosts {
    /// Takes a host in, in place of the one with its id.
    pub fn insert(&mut self, host: Host) {
        self.0.insert(host.record.id, Box::new(host));
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: &HostId) -> Option<&Host> {
        self.0.get(id).map(Box::as_ref)
    }

    /// One of them, to change it.
    pub fn get_mut(&mut self, id: &HostId) -> Option<&mut Host> {
        self.0.get_mut(id).map(Box::as_mut)
    }

    /// Whether there is such a host.
    #[must_use]
    pub fn contains_key(&self, id: &HostId) -> bool {
        self.0.contains_key(id)
    }

    /// Their ids, in order.
    pub fn keys(&self) -> impl Iterator<Item = &HostId> {
        self.0.keys()
    }

    /// All of them in the order of their ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Host> {
        self.0.values().map(Box::as_ref)
    }

    /// All of them, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Host> {
        self.0.values_mut().map(Box::as_mut)
    }

    /// Those of a range of ids.
    pub fn range(&self, ids: impl RangeBounds<HostId>) -> impl Iterator<Item = (&HostId, &Host)> {
        self.0.range(ids).map(|(id, host)| (id, host.as_ref()))
    }
}

/// A host with what is known of it now.
#[derive(Debug, Clone)]
pub struct Host {
    /// What is written down.
    pub record: HostRecord,
    /// The session, if there is one.
    pub session: Option<Session>,
    /// What it observes; the packages of the record until it is heard of.
    pub observed: Observed,
    /// Boots seen, newest last.
    pub boots: VecDeque<BootId>,
    /// Heard of last; `None` since the server started.
    pub last_heard: Option<Timestamp>,
    /// Heard of last before the server started, as far as it was flushed; of a host never heard of
    /// the server's start.
    pub heard_before: Timestamp,
    /// Which boots and agents of it were seen.
    pub incarnations: Incarnations,
    /// Rollouts it is a member of that are still looked after, oldest first.
    pub rollouts: Vec<RolloutId>,
    /// Rollouts in which it holds a grant or an unresolved exposure.
    pub trials: BTreeSet<RolloutId>,
    /// Exposed to something until then; later it is a control again.
    pub exposed_until: Timestamp,
    /// A control host gone without a word: when that counts as a failure to return.
    pub gone_at: Option<Timestamp>,
    /// Counted among the control hosts now.
    pub in_control: bool,
}

impl Host {
    /// From its record, without a session.
    #[must_use]
    pub fn new(record: HostRecord) -> Self {
        let observed = Observed {
            packages: record.packages.clone(),
            ..Observed::default()
        };
        Self {
            record,
            session: None,
            observed,
            boots: VecDeque::new(),
            last_heard: None,
            heard_before: Timestamp::default(),
            incarnations: Incarnations::default(),
            rollouts: Vec::new(),
            trials: BTreeSet::new(),
            exposed_until: Timestamp::default(),
            gone_at: None,
            in_control: false,
        }
    }

    /// What it is, for the strata: OS build, model, kernel and drivers, site; empty where unknown.
    #[must_use]
    pub fn words(&self) -> [String; 4] {
        let facts = &self.record.facts;
        let site = self.record.labels.get("site").cloned().unwrap_or_default();
        [
            facts.os_build.clone(),
            facts.model.clone(),
            facts.kernel.clone(),
            site,
        ]
    }

    /// What it runs of a package.
    #[must_use]
    pub fn package(&self, package: &PackageName) -> Option<&PackageObserved> {
        self.observed
            .packages
            .iter()
            .find(|p| p.package == *package)
    }

    /// Whether the release is barred on this very host.
    #[must_use]
    pub fn bars(&self, release: &ReleaseDigest) -> bool {
        let own = self.record.bars.contains(release) || self.observed.bars.contains(release);
        own && !self.record.lifted.contains(release)
    }

    /// Notes the boot it runs; `true` if that is another than the newest known.
    pub fn saw_boot(&mut self, boot: BootId) -> bool {
        let known = self.boots.back().copied();
        if known == Some(boot) {
            return false;
        }
        self.boots.push_back(boot);
        if self.boots.len() > BOOTS_MAX {
            self.boots.pop_front();
        }
        known.is_some()
    }

    /// Boot-time clock of the host at `now`, as far as it can be known.
    #[must_use]
    pub fn boottime(&self, now: Timestamp) -> Millis {
        self.session
            .as_ref()
            .map_or(Millis::ZERO, |s| s.boottime.0 + now.since(s.boottime.1))
    }

    /// The redundancy group it belongs to, as a number; zero for none.
    #[must_use]
    pub fn group(&self) -> u64 {
        group_of(&self.record.labels)
    }
}

/// The redundancy group of these labels as a number; zero for none.
#[must_use]
pub fn group_of(labels: &Labels) -> u64 {
    match labels.get("group") {
        None => 0,
        Some(name) => crate::salt::derived_id("ringward group v1\n", name.as_bytes()).max(1),
    }
}
