//! Who holds which role, since when, and over which hosts. Denied by default: who is not in here may
//! do nothing.

use crate::selector::Selector;
use ringward_domain::host::Labels;
use ringward_domain::people::{Caller, GRANTS_MAX, Grant, Permission, Proof, Role};
use ringward_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// People with grants at most.
pub const PEOPLE_MAX: usize = 1000;
/// How long an approver must have held the role (DESIGN §2.8), on the fleet clock.
pub const HELD_LEAST: Millis = Millis::hours(24);

/// One person as written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonRecord {
    /// Name, as certificates and accounts carry it.
    pub name: String,
    /// What the person may do.
    pub grants: Vec<HeldGrant>,
}

/// A grant with its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldGrant {
    /// The role and its hosts.
    pub grant: Grant,
    /// Fleet clock when it was given.
    pub since: Timestamp,
    /// Seated when the server was set up: old enough from the first day.
    #[serde(default)]
    pub seated: bool,
}

/// Over which hosts a caller holds a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// None.
    Nothing,
    /// Those whose labels match one of these.
    Some(Vec<Selector>),
    /// All, and what belongs to no host.
    All,
}

impl Scope {
    /// Whether a host with these labels is in it.
    #[must_use]
    pub fn covers(&self, labels: &Labels) -> bool {
        match self {
            Self::Nothing => false,
            Self::Some(selectors) => selectors.iter().any(|s| s.matches(labels)),
            Self::All => true,
        }
    }

    fn of<'a>(grants: impl Iterator<Item = &'a Grant>) -> Self {
        let mut selectors = Vec::new();
        for grant in grants {
            match grant.selector.as_deref().map(str::parse) {
                None => return Self::All,
                Some(Ok(selector)) => selectors.push(selector),
                // It was checked when it was granted; what cannot be read grants nothing.
                Some(Err(_)) => {}
            }
        }
        match selectors.is_empty() {
            true => Self::Nothing,
            false => Self::Some(selectors),
        }
    }

    /// What is in both.
    #[must_use]
    pub fn covers_both(&self, other: &Self, labels: &Labels) -> bool {
        self.covers(labels) && other.covers(labels)
    }
}

/// Why grants cannot be given.
pub type GrantFault = (String, String);

/// Checks grants as asked for; the fault is the field and why.
///
/// # Errors
/// The first grant that does not do.
pub fn check_grants(name: &str, grants: &[Grant]) -> Result<(), GrantFault> {
    let fits = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
    if !fits {
        return Err((
            "person".to_owned(),
            "use 1-64 letters, digits and ._@-, starting with a letter or digit".to_owned(),
        ));
    }
    if grants.len() > GRANTS_MAX {
        return Err((
            "grants".to_owned(),
            format!("{} grants; at most {GRANTS_MAX} do", grants.len()),
        ));
    }
    for (i, grant) in grants.iter().enumerate() {
        let Some(text) = &grant.selector else {
            continue;
        };
        if let Err(error) = text.parse::<Selector>() {
            return Err((format!("grants[{i}].selector"), error.to_string()));
        }
        if matches!(grant.role, Role::Admin) {
            return Err((
                format!("grants[{i}].selector"),
                "policy and people belong to no host: grant admin without a selector".to_owned(),
            ));
        }
    }
    Ok(())
}

/// Everybody known.
#[derive(Debug, Clone, Default)]
pub struct People(BTreeMap<String, Vec<HeldGrant>>);

impl People {
    /// Takes a person in.
    pub fn restore(&mut self, record: PersonRecord) {
        self.0.insert(record.name, record.grants);
    }

    /// Nobody was seated yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What a person holds.
    #[must_use]
    pub fn grants(&self, name: &str) -> &[HeldGrant] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Everybody, by name.
    #[must_use]
    pub fn all(&self) -> Vec<PersonRecord> {
        let record = |(name, grants): (&String, &Vec<HeldGrant>)| PersonRecord {
            name: name.clone(),
            grants: grants.clone(),
        };
        self.0.iter().map(record).collect()
    }

    /// Over which hosts a caller holds a permission now. A token holds what both it and its owner
    /// hold, and is never the second person.
    #[must_use]
    pub fn scope(&self, caller: &Caller, permission: Permission) -> (Scope, Scope) {
        let held = self.grants(&caller.name).iter().map(|held| &held.grant);
        let own = Scope::of(held.filter(|grant| grant.role.allows(permission)));
        let token = match &caller.by {
            Proof::Certificate | Proof::Session => Scope::All,
            Proof::Token(_) if permission == Permission::Approve => Scope::Nothing,
            Proof::Token(grants) => {
                Scope::of(grants.iter().filter(|grant| grant.role.allows(permission)))
            }
        };
        (own, token)
    }

    /// Whether a caller holds a permission over anything at all.
    #[must_use]
    pub fn may(&self, caller: &Caller, permission: Permission) -> bool {
        let (own, token) = self.scope(caller, permission);
        own != Scope::Nothing && token != Scope::Nothing
    }

    /// Over which hosts a person is an approver who has been one for long enough.
    #[must_use]
    pub fn approves(&self, name: &str, now: Timestamp) -> Scope {
        let old = |held: &&HeldGrant| held.seated || now.since(held.since) >= HELD_LEAST;
        let held = self.grants(name).iter().filter(old).map(|held| &held.grant);
        Scope::of(held.filter(|grant| grant.role.allows(Permission::Approve)))
    }

    /// Whether anybody but this person could approve now.
    #[must_use]
    pub fn has_second(&self, author: &str, now: Timestamp) -> bool {
        self.0
            .keys()
            .any(|name| name != author && self.approves(name, now) != Scope::Nothing)
    }

    /// Gives a person exactly these grants; those held already keep their age.
    pub fn set(&mut self, name: &str, grants: &[Grant], now: Timestamp) -> PersonRecord {
        let before = self.0.remove(name).unwrap_or_default();
        let held: Vec<HeldGrant> = grants
            .iter()
            .map(|grant| {
                let known = before.iter().find(|held| held.grant == *grant);
                known.cloned().unwrap_or_else(|| HeldGrant {
                    grant: grant.clone(),
                    since: now,
                    seated: false,
                })
            })
            .collect();
        if !held.is_empty() {
            self.0.insert(name.to_owned(), held.clone());
        }
        PersonRecord {
            name: name.to_owned(),
            grants: held,
        }
    }

    /// Grants that a change would add: each loosens.
    #[must_use]
    pub fn added(&self, name: &str, grants: &[Grant]) -> Vec<Grant> {
        let held = self.grants(name);
        let new = |grant: &&Grant| held.iter().all(|held| held.grant != **grant);
        grants.iter().filter(new).cloned().collect()
    }

    /// Whether nobody would hold a whole role over the fleet any more once `name` holds `grants`.
    #[must_use]
    pub fn orphans(&self, name: &str, grants: &[Grant], role: Role) -> bool {
        let whole = |grant: &Grant| grant.role == role && grant.selector.is_none();
        let others = self
            .0
            .iter()
            .filter(|(other, _)| *other != name)
            .any(|(_, held)| held.iter().any(|held| whole(&held.grant)));
        let before = self.grants(name).iter().any(|held| whole(&held.grant));
        before && !others && !grants.iter().any(whole)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn grant(role: Role, selector: Option<&str>) -> Grant {
        Grant {
            role,
            selector: selector.map(str::to_owned),
        }
    }

    fn caller(name: &str, by: Proof) -> Caller {
        Caller {
            name: name.to_owned(),
            key: None,
            by,
            break_glass: false,
        }
    }

    #[test]
    fn who_is_not_known_may_nothing() {
        let people = People::default();
        let stranger = caller("eve", Proof::Certificate);
        for permission in [Permission::Read, Permission::Themselves, Permission::People] {
            assert!(!people.may(&stranger, permission));
        }
    }

    #[test]
    fn an_approver_counts_only_after_a_day_and_keeps_the_age_over_other_changes() {
        let mut people = People::default();
        let day = Timestamp(0) + HELD_LEAST;
        people.set("bea", &[grant(Role::Approver, None)], Timestamp(0));
        assert_eq!(people.approves("bea", Timestamp(1)), Scope::Nothing);
        let both = [grant(Role::Viewer, None), grant(Role::Approver, None)];
        people.set("bea", &both, Timestamp(5));
        assert_eq!(people.approves("bea", day), Scope::All);
        people.set("bea", &[], day);
        people.set("bea", &both, day);
        assert_eq!(people.approves("bea", day), Scope::Nothing);
    }

    #[test]
    fn a_token_is_no_more_than_its_owner_and_never_the_second_person() {
        let mut people = People::default();
        people.set("ada", &[grant(Role::Approver, None)], Timestamp(0));
        let wide = vec![grant(Role::Admin, None), grant(Role::Approver, None)];
        let token = caller("ada", Proof::Token(wide));
        assert!(people.may(&token, Permission::Read));
        assert!(!people.may(&token, Permission::People));
        assert!(!people.may(&token, Permission::Approve));
    }
}
