//! Who is seated, who may do what, and which certificates came with which name.

use super::Control;
use super::command::{Act, Decided, conflict, said};
use crate::event::Effect;
use crate::people::{PersonRecord, Scope};
use crate::record::{Record, RecordKey};
use ringward_domain::command::Refusal;
use ringward_domain::people::{Caller, Grant, Permission, Role};
use ringward_domain::{Sha256, Timestamp};

impl Control {
    /// Seats the first people of a new server, with every role; does nothing where anybody is known.
    pub fn seat(&mut self, names: &[String], now: Timestamp) -> Vec<Effect> {
        self.set_now(now);
        if !self.people.is_empty() {
            return Vec::new();
        }
        let grants: Vec<Grant> = Role::ALL
            .into_iter()
            .map(|role| Grant {
                role,
                selector: None,
            })
            .collect();
        for name in names {
            let mut record = self.people.set(name, &grants, self.now);
            record.grants.iter_mut().for_each(|held| held.seated = true);
            self.people.restore(record.clone());
            self.out
                .audit("ringward", "people seat", name, "set up with this server");
            self.out.put(Record::Person(Box::new(record)));
        }
        self.finish()
    }

    pub(super) fn decide_grant(&self, name: &str, grants: &[Grant]) -> Decided {
        let mut grants = grants.to_vec();
        grants.sort_unstable();
        grants.dedup();
        crate::people::check_grants(name, &grants)
            .map_err(|(field, why)| Refusal::Invalid { field, why })?;
        for role in [Role::Admin, Role::Approver] {
            if self.people.orphans(name, &grants, role) {
                return Err(conflict(
                    format!("changing what {name} may do"),
                    format!("nobody would be {role} of the whole fleet any more"),
                    "grant it to somebody else first",
                ));
            }
        }
        if self.people.len() >= crate::people::PEOPLE_MAX && self.people.grants(name).is_empty() {
            return Err(conflict(
                format!("granting {name} something"),
                "there are 1,000 people already",
                "take the grants of those who left first",
            ));
        }
        let words: Vec<String> = grants
            .iter()
            .map(|grant| match &grant.selector {
                None => grant.role.to_string(),
                Some(selector) => format!("{} of {selector}", grant.role),
            })
            .collect();
        let summary = match words.is_empty() {
            true => format!("{name} may do nothing any more"),
            false => format!("{name} is {}", words.join(", ")),
        };
        Ok((said(summary), Act::Grant(name.to_owned(), grants)))
    }

    pub(super) fn grant(&mut self, name: &str, grants: &[Grant]) {
        let record = self.people.set(name, grants, self.now);
        match record.grants.is_empty() {
            true => self.out.delete(RecordKey::Person(name.to_owned())),
            false => self.out.put(Record::Person(Box::new(record))),
        }
    }

    /// Everybody known, by name.
    #[must_use]
    pub fn people(&self) -> Vec<PersonRecord> {
        self.people.all()
    }

    /// Whether a caller holds a permission over anything at all.
    #[must_use]
    pub fn may(&self, caller: &Caller, permission: Permission) -> bool {
        self.people.may(caller, permission)
    }

    /// Over which hosts a caller holds a permission: as a person, and as the token used.
    #[must_use]
    pub fn scope(&self, caller: &Caller, permission: Permission) -> (Scope, Scope) {
        self.people.scope(caller, permission)
    }

    /// Whether one certificate's key was shown under both names.
    pub(super) fn shares_certificate(&self, one: &str, other: &str) -> bool {
        let of = |name: &str| self.keys_seen.get(name);
        match (of(one), of(other)) {
            (Some(one), Some(other)) => !one.is_disjoint(other),
            _ => false,
        }
    }

    /// Notes which certificate a name came with.
    pub fn saw_certificate(&mut self, name: &str, key: Sha256) {
        let keys = self.keys_seen.entry(name.to_owned()).or_default();
        if keys.len() < crate::people::PEOPLE_MAX {
            keys.insert(key);
        }
    }
}
