//! What people outside should hear of, as it stands now.

use super::Control;
use crate::second::GLASS_DAY;
use crate::webhooks::{Alert, Kind};
use ringward_domain::Millis;
use ringward_domain::order_spec::ApprovalState;
use ringward_domain::report::RolloutState;

/// Alerts of one kind at most: a page of them is one trouble.
const OF_KIND_MAX: usize = 64;
/// A fork of the audit log stands for this long after it was told last.
const FORK_LASTS: Millis = Millis::hours(24);

fn alert(kind: Kind, subject: impl ToString, title: String, next: String) -> Alert {
    Alert {
        kind,
        subject: subject.to_string(),
        title,
        next,
    }
}

impl Control {
    /// Every alert that stands. `words` says which need them: finding those of a rollout walks over all
    /// its hosts, so the others of that kind come without.
    #[must_use]
    pub fn alerts(&self, words: &dyn Fn(Kind, &str) -> bool) -> Vec<Alert> {
        let mut alerts = self.rollout_alerts(words);
        if self.andon() {
            alerts.push(alert(
                Kind::Andon,
                "fleet",
                "every rollout is stopped".to_owned(),
                "`ringwardctl resume-all` once it is safe".to_owned(),
            ));
        }
        alerts.extend(self.order_alerts());
        alerts.extend(self.glass_alerts());
        let forks = self.forks.iter();
        let forks = forks.filter(|(_, at)| self.now.since(**at) < FORK_LASTS);
        alerts.extend(forks.take(OF_KIND_MAX).map(|(host, _)| {
            alert(
                Kind::AuditFork,
                host,
                format!("{host} was shown another audit log than before"),
                "`ringwardctl audit verify`; treat this server as compromised until it is explained"
                    .to_owned(),
            )
        }));
        let incidents = self.incidents(false).into_iter().take(OF_KIND_MAX);
        alerts.extend(incidents.map(|incident| {
            let next = match incident.proposal.is_empty() {
                true => format!("`ringwardctl incidents show {}`", incident.number),
                false => incident.proposal.clone(),
            };
            alert(Kind::Incident, incident.number, incident.cause, next)
        }));
        alerts
    }

    fn rollout_alerts(&self, words: &dyn Fn(Kind, &str) -> bool) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (id, state) in self.rollouts() {
            let kind = match state {
                RolloutState::Halted => Kind::Halt,
                RolloutState::Held => Kind::Hold,
                _ => continue,
            };
            if !words(kind, &id.to_string()) {
                alerts.push(alert(kind, id, String::new(), String::new()));
                continue;
            }
            let Some(view) = self.rollout_view(id) else {
                continue;
            };
            let what = match kind {
                Kind::Halt => "halted",
                _ => "is held",
            };
            let title = format!(
                "{} {} {what}: {}",
                view.package, view.version, view.state_reason
            );
            let next = match view.proposal.is_empty() {
                true => format!("`ringwardctl rollouts show {id}`"),
                false => view.proposal,
            };
            alerts.push(alert(kind, id, title, next));
        }
        alerts.truncate(OF_KIND_MAX);
        alerts
    }

    fn order_alerts(&self) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for (order, waiting) in self.orders.over_cap() {
            let id = order.id;
            alerts.push(alert(
                Kind::OverCap,
                id,
                format!(
                    "{} of {}: {waiting} hosts wait under a cap",
                    order.spec.kind.verb(),
                    order.author
                ),
                format!("`ringwardctl orders show {id}`; with a second person --over-cap"),
            ));
        }
        for view in self.approval_views() {
            if view.state == ApprovalState::Waiting {
                alerts.push(alert(
                    Kind::OverCap,
                    view.id,
                    format!(
                        "{} waits for a second person: {}",
                        view.author, view.summary
                    ),
                    format!("`ringwardctl approvals approve {}`, or deny it", view.id),
                ));
            }
        }
        alerts.truncate(OF_KIND_MAX);
        alerts
    }

    fn glass_alerts(&self) -> Vec<Alert> {
        let broken = self.approvals.values();
        let broken = broken.filter(|a| a.glass && self.now.since(a.asked_at) < GLASS_DAY);
        broken
            .take(OF_KIND_MAX)
            .map(|glass| {
                alert(
                    Kind::BreakGlass,
                    glass.id,
                    format!(
                        "{} alone: {} ({})",
                        glass.command.actor, glass.summary, glass.command.reason
                    ),
                    "make sure that it was meant".to_owned(),
                )
            })
            .collect()
    }
}
