//! Who is who: hellos that contradict each other, machines that share an identity, hosts that take
//! another's place, hosts that were only meant for a while.

use super::Control;
use super::command::{Act, Decided, conflict, not_found, said};
use crate::event::{Effect, Notice};
use crate::host::Host;
use ringward_domain::host::HostState;
use ringward_domain::ids::{AgentStart, BootId};
use ringward_domain::session::Hello;
use ringward_domain::{HostId, Millis, Timestamp};
use std::collections::VecDeque;

/// Earlier incarnations of a host that are remembered.
const PAST_MAX: usize = 8;
/// Hellos of the past at which two machines are sure. One may have been on its way while the host
/// rebooted; a dead process sends no second one.
const STALE_MAX: u32 = 2;
/// Boot-time clocks are told in whole milliseconds and read on two threads.
const ROUNDING: Millis = Millis::secs(1);

/// Why a host with a valid certificate gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The server does not know it.
    #[error("this server does not know this host; enrol it again with a new token")]
    Unknown,
    /// It left the fleet.
    #[error("this host was retired; enrol it again with a new token")]
    Retired,
    /// Two machines were seen with its identity.
    #[error(
        "two machines use the identity of this host, so neither may; run `ringward-agent generalize` \
         on the copy, then an admin lifts the fence with `ringwardctl hosts unfence`"
    )]
    Fenced,
    /// A newer boot or agent of this host has been heard since.
    #[error("this hello is older than what the host said since; the newer session goes on")]
    Stale,
}

/// Which lives of a host were seen, and in which order.
#[derive(Debug, Clone, Default)]
pub struct Incarnations {
    /// The newest one, and its boot-time clock when it was heard last.
    newest: Option<(BootId, AgentStart, Millis)>,
    /// Earlier ones, newest last: none of them ever comes back.
    past: VecDeque<(BootId, AgentStart)>,
    /// Hellos of the past so far.
    stale: u32,
}

impl Incarnations {
    /// Whether a hello is of now; `false`: of the past.
    fn take(&mut self, hello: &Hello) -> bool {
        let said = (hello.boot, hello.agent_start);
        let newest = self
            .newest
            .map(|(boot, start, heard)| ((boot, start), heard));
        let stale = match newest {
            Some((newest, heard)) if newest == said => hello.boottime + ROUNDING < heard,
            _ => self.past.contains(&said),
        };
        if stale {
            self.stale += 1;
            return false;
        }
        if let Some((left, _)) = newest.filter(|(newest, _)| *newest != said) {
            self.past.push_back(left);
            if self.past.len() > PAST_MAX {
                self.past.pop_front();
            }
        }
        self.newest = Some((hello.boot, hello.agent_start, hello.boottime));
        true
    }

    /// The newest incarnation told its boot-time clock.
    pub fn heard(&mut self, boottime: Millis) {
        if let Some((_, _, heard)) = &mut self.newest {
            *heard = boottime.max(*heard);
        }
    }
}

impl Control {
    /// Whether a host with a valid certificate and this hello may have a session. To be asked before
    /// an older session of it is ended and before `Event::Connected`.
    pub fn admit(
        &mut self,
        id: HostId,
        hello: &Hello,
        now: Timestamp,
    ) -> (Result<(), NotAdmitted>, Vec<Effect>) {
        self.set_now(now);
        let Some(host) = self.hosts.get_mut(&id) else {
            return (Err(NotAdmitted::Unknown), Vec::new());
        };
        if host.record.state == HostState::Retired {
            return (Err(NotAdmitted::Retired), Vec::new());
        }
        if host.record.fenced {
            return (Err(NotAdmitted::Fenced), Vec::new());
        }
        if host.incarnations.take(hello) {
            return (Ok(()), Vec::new());
        }
        if host.incarnations.stale < STALE_MAX {
            return (Err(NotAdmitted::Stale), Vec::new());
        }
        self.fence(id, "a boot or agent that another had followed came back");
        (Err(NotAdmitted::Fenced), self.finish())
    }

    /// Whether the host's session is of this boot and agent.
    #[must_use]
    pub fn is_session_of(&self, id: HostId, boot: BootId, start: AgentStart) -> bool {
        let session = self.hosts.get(&id).and_then(|host| host.session.as_ref());
        session.is_some_and(|session| session.boot == boot && session.agent_start == start)
    }

    /// A session that a newer one of the very same boot and agent had replaced still speaks. Its
    /// agent left it before it opened the newer one, so whatever was said on it after that was said
    /// by a second machine.
    pub fn still_speaks(&mut self, id: HostId, boottime: Millis, now: Timestamp) -> Vec<Effect> {
        self.set_now(now);
        let Some(session) = self.hosts.get(&id).and_then(|host| host.session.as_ref()) else {
            return Vec::new();
        };
        if boottime <= session.opened_at + ROUNDING {
            return Vec::new();
        }
        self.fence(id, "two sessions of it spoke at the same time");
        self.finish()
    }

    fn fence(&mut self, id: HostId, why: &str) {
        self.host_changed(id, |host| {
            host.record.fenced = true;
            host.session = None;
        });
        self.out
            .audit("ringward", "host fence", &id.to_string(), why);
        self.out.notice(Notice::Line(format!(
            "host {id} is fenced: two machines use its identity ({why})"
        )));
        self.out.close(id);
    }

    pub(super) fn decide_unfence(&self, id: HostId) -> Decided {
        if !self.known_host(id)?.record.fenced {
            return Err(conflict(
                format!("lifting the fence of {id}"),
                "it is not fenced",
                "there is nothing to do",
            ));
        }
        let mut outcome = said(format!("{id} may connect again"));
        outcome.warnings.push(
            "if the copy still uses this identity, both are fenced again at once: run \
             `ringward-agent generalize` on it first"
                .to_owned(),
        );
        Ok((outcome, Act::Unfence(id)))
    }

    pub(super) fn unfence(&mut self, id: HostId) {
        self.host_changed(id, |host| {
            host.record.fenced = false;
            host.incarnations = Incarnations::default();
        });
    }

    /// The host that another with this fingerprint probably is.
    pub(super) fn same_machine(&self, id: HostId, fingerprint: &str) -> Option<HostId> {
        let known = *self.fingerprints.get(&fingerprint_key(fingerprint)?)?;
        let host = self.hosts.get(&known).filter(|_| known != id)?;
        let same = host.record.facts.fingerprint == fingerprint;
        (same && host.record.state != HostState::Retired).then_some(known)
    }

    pub(super) fn note_fingerprint(&mut self, id: HostId, fingerprint: &str) {
        if let Some(key) = fingerprint_key(fingerprint) {
            self.fingerprints.insert(key, id);
        }
    }

    pub(super) fn decide_replace(&self, id: HostId) -> Decided {
        let host = self.known_host(id)?;
        let Some(old) = host.record.replaces else {
            return Err(conflict(
                format!("replacing a host by {id}"),
                "no other host had its fingerprint when it enrolled",
                "retire the old host with `ringwardctl hosts retire`, and label the new one",
            ));
        };
        if self.known_host(old).is_err() {
            return Err(not_found(
                "host",
                old,
                "it left the fleet already; label the new one with `ringwardctl hosts label`",
            ));
        }
        let mut outcome = said(format!(
            "{id} takes part with the labels of {old}, which leaves the fleet"
        ));
        outcome
            .warnings
            .push("rollouts under way keep the ring they gave it".to_owned());
        Ok((outcome, Act::Replace { old, new: id }))
    }

    /// The new host takes over what the server knows of the old one.
    pub(super) fn replace(&mut self, old: HostId, new: HostId) {
        let Some(record) = self.hosts.get(&old).map(|host| host.record.clone()) else {
            return;
        };
        self.host_changed(new, |host| {
            let own = std::mem::replace(&mut host.record.labels, record.labels);
            host.record.labels.extend(own);
            host.record.frozen |= record.frozen;
            host.record.bars.extend(record.bars);
            host.record.replaces = None;
            host.record.state = HostState::Active;
        });
        self.retire(old);
        self.join_late(new);
    }

    /// Hosts that were only meant for a while leave once nothing was heard of them for so long.
    pub(super) fn expire_ephemeral(&mut self) {
        let now = self.now;
        let gone = |host: &Host| {
            let ttl = host.record.ephemeral?;
            let heard = host.last_heard.unwrap_or(host.heard_before);
            let since = heard.max(host.record.enrolled_at);
            let over = host.session.is_none()
                && host.record.state != HostState::Retired
                && now.since(since) >= ttl;
            over.then_some(host.record.id)
        };
        let expired: Vec<HostId> = self
            .ephemeral
            .iter()
            .filter_map(|id| self.hosts.get(id).and_then(gone))
            .collect();
        for id in expired {
            self.ephemeral.remove(&id);
            self.retire(id);
            self.out.audit(
                "ringward",
                "host expire",
                &id.to_string(),
                "nothing was heard of it for the time its token gave",
            );
        }
    }

    /// When a host was heard of before the server started, from what was flushed in batches.
    pub fn heard_before(&mut self, id: HostId, at: Timestamp) {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.heard_before = at.min(self.now);
        }
    }

    /// Hosts heard of since, and when.
    #[must_use]
    pub fn heard_since(&self, since: Timestamp) -> Vec<(HostId, Timestamp)> {
        self.hosts
            .values()
            .filter_map(|host| Some((host.record.id, host.last_heard?)))
            .filter(|(_, at)| *at >= since)
            .collect()
    }
}

/// Fingerprints are text of a host's choosing: kept as a number, and compared in full when found.
fn fingerprint_key(fingerprint: &str) -> Option<u64> {
    (!fingerprint.is_empty())
        .then(|| crate::salt::derived_id("ringward fingerprint v1\n", fingerprint.as_bytes()))
}
