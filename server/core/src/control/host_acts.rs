//! Labels, approval, retirement and freezes of hosts.

use super::Control;
use super::command::{Act, Decided, conflict, not_found, said};
use crate::host::Host;
use ringward_domain::HostId;
use ringward_domain::command::Refusal;
use ringward_domain::host::{HostState, Labels};
use ringward_domain::limits::{LABEL_BYTES_MAX, LABELS_MAX};

impl Control {
    pub(super) fn known_host(&self, id: HostId) -> Result<&Host, Refusal> {
        let host = self
            .hosts
            .get(&id)
            .filter(|host| host.record.state != HostState::Retired);
        host.ok_or_else(|| not_found("host", id, "list them with `ringwardctl hosts list`"))
    }

    pub(super) fn decide_labels(&self, id: HostId, labels: &Labels) -> Decided {
        self.known_host(id)?;
        check_labels(labels)?;
        let mut outcome = said(format!("{id} has {} labels", labels.len()));
        outcome
            .warnings
            .push("rollouts under way keep the ring they gave it".to_owned());
        Ok((outcome, Act::SetLabels(id, labels.clone())))
    }

    pub(super) fn decide_approve(&self, id: HostId) -> Decided {
        match self.known_host(id)?.record.state {
            HostState::Pending => Ok((said(format!("{id} takes part")), Act::Approve(id))),
            HostState::Active | HostState::Retired => Err(conflict(
                format!("approving {id}"),
                "it takes part already",
                "there is nothing to do",
            )),
        }
    }

    pub(super) fn decide_retire(&self, id: HostId) -> Decided {
        self.known_host(id)?;
        Ok((
            said(format!("{id} leaves the fleet; its certificate is revoked")),
            Act::Retire(id),
        ))
    }

    pub(super) fn decide_freeze(&self, id: HostId, frozen: bool) -> Decided {
        self.known_host(id)?;
        let summary = if frozen {
            format!("{id} takes no changes")
        } else {
            format!("{id} takes changes again")
        };
        Ok((said(summary), Act::Freeze(id, frozen)))
    }

    pub(super) fn host_changed(&mut self, id: HostId, edit: impl FnOnce(&mut Host)) {
        if let Some(host) = self.hosts.get_mut(&id) {
            edit(host);
        }
        self.out.hosts.insert(id);
        self.out.readiness.insert(id);
        self.out.desired.entry(id).or_insert(false);
        self.recount(id);
    }

    pub(super) fn set_labels(&mut self, id: HostId, labels: Labels) {
        self.host_changed(id, |host| host.record.labels = labels);
        self.join_late(id);
    }

    pub(super) fn approve(&mut self, id: HostId) {
        self.host_changed(id, |host| host.record.state = HostState::Active);
        self.join_late(id);
    }

    pub(super) fn retire(&mut self, id: HostId) {
        self.host_changed(id, |host| {
            host.record.state = HostState::Retired;
            host.session = None;
        });
        self.orders_retired(id);
        self.out.close(id);
    }

    pub(super) fn freeze(&mut self, id: HostId, frozen: bool) {
        self.host_changed(id, |host| host.record.frozen = frozen);
    }
}

/// Checks labels that a person or a token gives.
///
/// # Errors
/// The label that does not do, and why.
pub fn check_labels(labels: &Labels) -> Result<(), Refusal> {
    let refuse = |field: String, why: String| Err(Refusal::Invalid { field, why });
    if labels.len() > LABELS_MAX {
        return refuse(
            "labels".to_owned(),
            format!("{} labels; at most {LABELS_MAX} do", labels.len()),
        );
    }
    for (key, value) in labels {
        let word = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._/:@+-".contains(&b))
        };
        let fits = (1..=LABEL_BYTES_MAX).contains(&key.len())
            && value.len() <= LABEL_BYTES_MAX
            && word(key)
            && word(value);
        if !fits {
            let shown: String = key.chars().take(40).collect();
            return refuse(
                format!("labels.{shown}"),
                "use letters, digits and ._/:@+- only, at most 128, and a key that is not empty"
                    .to_owned(),
            );
        }
    }
    Ok(())
}
