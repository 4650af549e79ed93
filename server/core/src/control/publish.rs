//! Hosts that enrol and releases that are published. Both were verified at the edge.

use super::Control;
use crate::event::{Effect, Notice};
use crate::host::{Host, HostRecord};
use crate::record::Record;
use crate::release::ReleaseRecord;
use ringward_domain::command::Refusal;
use ringward_domain::host::{Facts, HostState, Labels};
use ringward_domain::ids::{Sha256, SignalSeq};
use ringward_domain::{HostId, Millis, Timestamp};
use std::collections::BTreeSet;

/// A host that got its certificate.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// Its new id, drawn at random.
    pub host: HostId,
    /// Facts it told.
    pub facts: Facts,
    /// Labels its token gives it.
    pub labels: Labels,
    /// SHA-256 of its public key.
    pub key: Sha256,
    /// Whether it waits for a person's approval.
    pub pending: bool,
    /// It leaves when nothing was heard of it for so long; `None`: it stays.
    pub ephemeral: Option<Millis>,
}

impl Control {
    /// Adds a host, or notes the new key of a known one.
    pub fn enrol(&mut self, enrolment: Enrolment, now: Timestamp) -> Vec<Effect> {
        self.set_now(now);
        let id = enrolment.host;
        let facts = enrolment.facts;
        let record = HostRecord {
            id,
            state: if enrolment.pending {
                HostState::Pending
            } else {
                HostState::Active
            },
            labels: enrolment.labels,
            key: Some(enrolment.key),
            agent_version: String::new(),
            enrolled_at: self.now,
            frozen: false,
            absent: None,
            packages: Vec::new(),
            bars: BTreeSet::new(),
            lifted: BTreeSet::new(),
            signals_through: SignalSeq::default(),
            fenced: false,
            replaces: self.same_machine(id, &facts.fingerprint),
            ephemeral: enrolment.ephemeral,
            fork_seen: None,
            facts,
        };
        match self.hosts.get_mut(&id) {
            Some(host) => host.record.key = record.key,
            None => {
                self.out.audit(
                    &format!("host {id}"),
                    "host enrol",
                    &id.to_string(),
                    &record.facts.hostname,
                );
                self.note_enrolled(record);
                self.watch_age(id);
            }
        }
        self.out.hosts.insert(id);
        self.finish()
    }

    fn note_enrolled(&mut self, record: HostRecord) {
        let id = record.id;
        self.note_fingerprint(id, &record.facts.fingerprint);
        if let Some(old) = record.replaces {
            self.out.notice(Notice::Line(format!(
                "host {id} has the fingerprint of {old}: `ringwardctl hosts replace {id}` if it is \
                 the same machine, installed anew"
            )));
        }
        if record.ephemeral.is_some() {
            self.ephemeral.insert(id);
        }
        self.hosts.insert(Host::new(record));
    }

    /// Adds a release; the same one again changes nothing.
    ///
    /// # Errors
    /// Another release has this package and version already: a version means one content.
    pub fn publish(
        &mut self,
        release: ReleaseRecord,
        now: Timestamp,
    ) -> Result<Vec<Effect>, Refusal> {
        self.set_now(now);
        if self.releases.contains_key(&release.release) {
            return Ok(Vec::new());
        }
        let same = |other: &ReleaseRecord| {
            other.manifest.package == release.manifest.package
                && other.manifest.version == release.manifest.version
        };
        if self.releases.values().any(same) {
            return Err(Refusal::Conflict {
                what: format!("publishing {}", release.title()),
                why: "another release with this package and version is published".to_owned(),
                next: "give the new content a new version".to_owned(),
            });
        }
        self.out.audit(
            &release.published_by,
            "release publish",
            &release.release.to_string(),
            &release.title(),
        );
        self.out.put(Record::Release(Box::new(release.clone())));
        self.releases.insert(release.release, release);
        Ok(self.finish())
    }
}
