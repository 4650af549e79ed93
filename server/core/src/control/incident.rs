//! Incidents: what failing hosts have in common, with a rollout or without (DESIGN §5).
//!
//! An incident opens on a surge of failures, on a change that chance cannot excuse, or on a halt. One
//! is open at a time and takes in what fails meanwhile; a day without failures closes it. Only the
//! incident is written down: the counts behind it are made anew from rollouts and signals.

use super::Control;
use crate::event::Notice;
use crate::record::{IncidentRecord, Record, RecordKey};
use crate::rollout::Rollout;
use crate::rollout::member::Stage;
use crate::salt::sha256;
use crate::suspects::{CHANGES_MAX, Suspect, Suspects, is_surge};
use ringward_domain::ids::{ReleaseDigest, RolloutId, Sha256};
use ringward_domain::incident::{INCIDENT_HOSTS_MAX, IncidentView, SuspectView};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{AssignmentKind, HostId, Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Candidates are ranked at most so often: 10,000 of them take a millisecond, and a mass failure
/// brings thousands of events a second.
const RANK_EVERY: Millis = Millis::secs(10);
/// A day without a failure closes an incident.
const QUIET: Millis = Millis::hours(24);
/// Failures of this time make a surge, against those before.
const SURGE_WITHIN: Millis = Millis::hours(1);
/// Failures a host and day expected of a fleet too young to have shown its own.
const YOUNG_RATE: f64 = 1e-3;
/// Incidents remembered.
const INCIDENTS_MAX: usize = 100;
/// Suspects of one incident.
const SUSPECTS_MAX: usize = 10;
/// Suspects told with a halt.
const BLAMED_MAX: usize = 3;

/// Changes under watch since the server started, and the incidents.
#[derive(Debug)]
pub(super) struct Incident {
    suspects: Suspects,
    /// Failed hosts, and when their failure is too old to be blamed on a change.
    forget: VecDeque<(Timestamp, HostId)>,
    told: BTreeSet<Sha256>,
    records: BTreeMap<u64, IncidentRecord>,
    /// Not ranked again before.
    rank_at: Timestamp,
    /// Something failed since the last ranking.
    stale: bool,
    watched_since: Timestamp,
}

impl Incident {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            suspects: Suspects::default(),
            forget: VecDeque::new(),
            told: BTreeSet::new(),
            records: BTreeMap::new(),
            rank_at: now,
            stale: false,
            watched_since: now,
        }
    }

    pub(super) fn restore(&mut self, record: IncidentRecord) {
        self.records.insert(record.number, record);
    }

    /// After a restart: who was exposed to what, and failed, stands in the rollouts.
    pub(super) fn recall(&mut self, rollout: &Rollout, now: Timestamp) {
        let watched = watched(rollout.pace.attribution);
        let title = release_words(rollout);
        for member in rollout.members() {
            let Some(exposure) = member.exposure().filter(|e| e.begun_at + watched > now) else {
                continue;
            };
            self.suspects
                .took(member.host, print(rollout.spec.release), &title);
            let failed = matches!(&member.stage, Stage::Ended(ending, _) if ending.is_failure());
            if failed && self.suspects.failed(member.host) {
                let until = exposure.begun_at + watched;
                self.forget.push_back((until, member.host));
            }
        }
        self.forget.make_contiguous().sort_unstable();
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let open = self.records.values().filter(|r| !r.closed);
        let quiet = open.map(|r| r.last_failure + QUIET).min();
        let rank = self.stale.then_some(self.rank_at);
        [quiet, rank].into_iter().flatten().min()
    }

    fn forget_old(&mut self, now: Timestamp) {
        while let Some((_, old)) = self.forget.front().copied().filter(|(at, _)| *at <= now) {
            self.forget.pop_front();
            self.suspects.forget(old);
            self.suspects.host(old);
        }
    }

    fn open(&mut self) -> Option<&mut IncidentRecord> {
        self.records.values_mut().rev().find(|r| !r.closed)
    }

    /// Hosts whose failure became known in the last hour, newest first, and the count expected of an
    /// hour by what failed before.
    fn last_hour(&self, now: Timestamp, kept: Millis) -> (Vec<HostId>, f64) {
        let limit = now + kept - SURGE_WITHIN;
        let recent: Vec<HostId> = self
            .forget
            .iter()
            .rev()
            .take_while(|(until, _)| *until > limit)
            .map(|(_, host)| *host)
            .collect();
        let (hosts, _) = self.suspects.totals();
        let young = hosts as f64 * YOUNG_RATE / 24.0;
        let watched = now.since(self.watched_since).0.min(kept.0) as f64 / 3.6e6 - 1.0;
        let before = self.forget.len().saturating_sub(recent.len()) as f64;
        let usual = (before + 0.5) / watched.max(1.0);
        // Before a day has passed nobody knows what is usual.
        let expected = if watched < 24.0 {
            usual.min(young)
        } else {
            usual
        };
        (recent, expected.max(young / 10.0))
    }
}

/// How long a failed host stays under watch: never shorter than the incident that counts it may be
/// open. An attribution time below the time silence takes to be believed would forget the first
/// failure before the second is known.
fn watched(attribution: Millis) -> Millis {
    attribution.max(QUIET)
}

/// What names a release of ours among the changes.
fn print(release: ReleaseDigest) -> Sha256 {
    Sha256(release.0)
}

fn release_words(rollout: &Rollout) -> String {
    format!("release {} {}", rollout.spec.package, rollout.spec.version)
}

impl Control {
    /// A host is under watch.
    pub(super) fn suspects_watch(&mut self, id: HostId) {
        self.incident.suspects.host(id);
    }

    /// A host began a release: a change like any other.
    pub(super) fn suspects_took_release(&mut self, id: HostId, rollout: RolloutId) {
        if let Some(rollout) = self.rollouts.get(&rollout) {
            let (print, title) = (print(rollout.spec.release), release_words(rollout));
            self.incident.suspects.took(id, print, &title);
        }
    }

    /// A host tells of a change or of a failure.
    pub(super) fn suspects_weigh(&mut self, id: HostId, signal: &Signal) {
        if signal.kind == SignalKind::Change {
            let name = if signal.signature.is_empty() {
                &signal.key
            } else {
                &signal.signature
            };
            let fingerprint = sha256(name.as_bytes());
            self.incident.suspects.took(id, fingerprint, &signal.title);
        } else if signal.kind.is_failure() {
            self.suspects_failed(id);
        }
    }

    /// A host failed, whatever runs on it.
    pub(super) fn suspects_failed(&mut self, id: HostId) {
        let (now, watched) = (self.now, watched(self.policy.pace.attribution));
        self.incident.forget_old(now);
        if !self.incident.suspects.failed(id) {
            return;
        }
        self.incident.forget.push_back((now + watched, id));
        self.incident.stale = true;
        if let Some(open) = self.incident.open() {
            open.last_failure = now;
            // Hosts are counted, not failures: one may crash, come back and crash again.
            if !open.failed_hosts.contains(&id) {
                open.failed = open.failed.saturating_add(1);
                open.failed_hosts.insert(0, id);
                open.failed_hosts.truncate(INCIDENT_HOSTS_MAX);
            }
        } else {
            let (recent, expected) = self.incident.last_hour(now, watched);
            if is_surge(recent.len() as u64, expected) {
                let cause = format!(
                    "{} hosts failed within an hour where {expected:.2} are usual",
                    recent.len()
                );
                self.open_incident(cause, recent, None);
            }
        }
        if now >= self.incident.rank_at {
            self.rank_suspects();
        }
    }

    /// Deadlines of incidents.
    pub(super) fn incident_tick(&mut self) {
        if self.incident.stale && self.now >= self.incident.rank_at {
            self.rank_suspects();
        }
        let now = self.now;
        let quiet: Vec<u64> = self
            .incident
            .records
            .values()
            .filter(|r| !r.closed && r.last_failure + QUIET <= now)
            .map(|r| r.number)
            .collect();
        for number in quiet {
            if let Some(record) = self.incident.records.get_mut(&number) {
                record.closed = true;
                let record = record.clone();
                self.out.put(Record::Incident(Box::new(record)));
            }
            let line = format!("incident {number} is over: no failure for {QUIET}");
            self.out
                .audit("ringward", "incident close", &number.to_string(), &line);
            self.out.notice(Notice::Line(line));
        }
    }

    /// A rollout halted: whom the evidence points at stands in it, and an incident is open.
    pub(super) fn incident_of_halt(&mut self, id: RolloutId, reason: &str) {
        let Some(rollout) = self.rollouts.get(&id) else {
            return;
        };
        let (release, install) = (
            rollout.spec.release,
            rollout.spec.kind == AssignmentKind::Install,
        );
        let failed: Vec<HostId> = rollout
            .members()
            .iter()
            .filter(|m| matches!(&m.stage, Stage::Ended(ending, _) if ending.is_failure()))
            .map(|m| m.host)
            .take(INCIDENT_HOSTS_MAX)
            .collect();
        let blamed: Vec<SuspectView> = self
            .incident
            .suspects
            .ranking(BLAMED_MAX)
            .iter()
            .map(Suspect::view)
            .collect();
        if let Some(rollout) = self.rollouts.get_mut(&id) {
            rollout.blamed(blamed);
        }
        self.out.rollouts.insert(id);
        if !install {
            return;
        }
        match self.incident.open() {
            Some(open) => {
                open.release.get_or_insert(release);
            }
            None => {
                self.open_incident(format!("a rollout halted: {reason}"), failed, Some(release))
            }
        }
        self.rank_suspects();
    }

    fn open_incident(
        &mut self,
        cause: String,
        failed_hosts: Vec<HostId>,
        release: Option<ReleaseDigest>,
    ) {
        let records = &mut self.incident.records;
        while records.len() >= INCIDENTS_MAX
            && let Some((oldest, _)) = records.pop_first()
        {
            self.out.delete(RecordKey::Incident(oldest));
        }
        let number = records.last_key_value().map_or(0, |(n, _)| *n) + 1;
        let line = format!("incident {number} opened: {cause}");
        self.out
            .audit("ringward", "incident open", &number.to_string(), &cause);
        self.out.notice(Notice::Line(line));
        let record = IncidentRecord {
            number,
            opened_unix_ms: self.wall_unix_ms,
            cause,
            last_failure: self.now,
            failed: failed_hosts.len() as u64,
            failed_hosts,
            release,
            ..IncidentRecord::default()
        };
        self.incident.stale = true;
        self.incident.records.insert(number, record);
    }

    /// Ranks all candidates: whoever chance cannot excuse is named once, and opens an incident.
    fn rank_suspects(&mut self) {
        let incident = &mut self.incident;
        incident.rank_at = self.now + RANK_EVERY;
        incident.stale = false;
        let ranking = incident.suspects.ranking(SUSPECTS_MAX);
        let fresh = ranking.first().filter(|first| {
            let known = |change| incident.told.contains(change);
            first.named && !first.changes.iter().any(known)
        });
        if let Some(first) = fresh.filter(|_| incident.told.len() < CHANGES_MAX) {
            incident.told.extend(first.changes.iter().copied());
            let at_risk = first.exposed.saturating_sub(first.failed);
            let sentence = first.sentence();
            if incident.open().is_none() {
                let failed = incident.forget.iter().rev().map(|(_, host)| *host);
                let failed = failed.take(INCIDENT_HOSTS_MAX).collect();
                self.open_incident(sentence.clone(), failed, None);
                self.incident.stale = false;
            }
            self.out.notice(Notice::Line(format!(
                "suspect: {sentence}; {at_risk} hosts with it are at risk"
            )));
        }
        self.follow_incident(&ranking);
    }

    /// The open incident gets the newest ranking and is written.
    fn follow_incident(&mut self, ranking: &[Suspect]) {
        let first = ranking.first().and_then(|s| s.changes.first()).copied();
        let ours = first
            .map(|print| ReleaseDigest(print.0))
            .filter(|release| self.releases.contains_key(release));
        let Some(record) = self.incident.records.values_mut().rev().find(|r| !r.closed) else {
            return;
        };
        if record.release.is_none() {
            record.release = ours;
        }
        record.suspects = ranking.iter().map(Suspect::view).collect();
        if let Some(change) = record.release.map(print).or(first) {
            let suspects = &self.incident.suspects;
            record.at_risk = suspects.at_risk(&change, INCIDENT_HOSTS_MAX);
            record.at_risk_count = suspects.at_risk_count(&change);
        }
        let record = record.clone();
        self.out.put(Record::Incident(Box::new(record)));
    }

    /// What a person should do about a release, as a command; empty where nothing of ours is to blame.
    pub(super) fn proposal(&self, release: Option<ReleaseDigest>) -> String {
        let Some(left) = release.and_then(|release| self.releases.get(&release)) else {
            return String::new();
        };
        let back = self.rollouts_of_package(&left.manifest.package).find(|r| {
            r.spec
                .leaves
                .as_ref()
                .is_some_and(|(l, _)| *l == left.release)
        });
        if let Some(back) = back {
            return format!(
                "a rollback is under way: ringwardctl rollouts show {}",
                back.id
            );
        }
        match self.target(left, None) {
            Ok(to) => format!(
                "ringwardctl rollouts rollback {}@{} --to {}",
                left.manifest.package, left.manifest.version, to.manifest.version
            ),
            Err(_) => format!(
                "no earlier release of {} is in good standing: publish one or mark one good, then roll back",
                left.manifest.package
            ),
        }
    }

    /// Incidents, newest first; closed ones only if `all`.
    #[must_use]
    pub fn incidents(&self, all: bool) -> Vec<IncidentView> {
        let records = self.incident.records.values().rev();
        records
            .filter(|r| all || !r.closed)
            .map(|r| self.incident_view(r))
            .collect()
    }

    /// One incident.
    #[must_use]
    pub fn incident(&self, number: u64) -> Option<IncidentView> {
        let record = self.incident.records.get(&number)?;
        Some(self.incident_view(record))
    }

    fn incident_view(&self, record: &IncidentRecord) -> IncidentView {
        IncidentView {
            number: record.number,
            opened_unix_ms: record.opened_unix_ms,
            closed: record.closed,
            cause: record.cause.clone(),
            failed: record.failed,
            failed_hosts: record.failed_hosts.clone(),
            suspects: record.suspects.clone(),
            at_risk: record.at_risk.clone(),
            at_risk_count: record.at_risk_count,
            proposal: self.proposal(record.release),
        }
    }

    /// What failing hosts have in common now, most first: at most `max` groups of changes.
    #[must_use]
    pub fn suspects(&self, max: usize) -> Vec<SuspectView> {
        let ranking = self.incident.suspects.ranking(max);
        ranking.iter().map(Suspect::view).collect()
    }

    /// Hosts under watch, hosts that failed within the attribution time, and changes not followed
    /// because there are too many.
    #[must_use]
    pub fn watched(&self) -> (u64, u64, u64) {
        let (hosts, failed) = self.incident.suspects.totals();
        (hosts, failed, self.incident.suspects.untold())
    }
}
