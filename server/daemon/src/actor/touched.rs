//! Which hosts look different since somebody asked last. Heartbeats touch nobody, so a large and
//! quiet fleet costs those who look at it nothing.

use super::batch::Work;
use super::{Input, What};
use ringward_domain::session::ToServer;
use ringward_domain::{HostId, RolloutId};
use std::collections::BTreeSet;

/// Hosts remembered; with more of them whoever looks reads the whole fleet anew.
const TOUCHED_MAX: usize = 20_000;

/// What changed since it was asked last.
#[derive(Debug, Default)]
pub struct Touched {
    /// Nobody asked yet, or too much changed.
    everything: bool,
    hosts: BTreeSet<HostId>,
    newest_rollout: Option<RolloutId>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Any host may look different.
    Everything,
    /// These may.
    Hosts(Vec<HostId>),
}

impl Touched {
    pub(super) fn input(&mut self, input: &Input) {
        match &input.what {
            What::Connected { host, .. } | What::Disconnected { host, .. } => self.host(*host),
            What::Message {
                message: ToServer::Heartbeat(_),
                ..
            } => {}
            What::Message { host, .. } => self.host(*host),
            What::Enrol { enrolment, .. } => self.host(enrolment.host),
            // Whom these concern is written down with them.
            _ => {}
        }
    }

    /// Whoever is written down anew looks different.
    pub(super) fn work(&mut self, work: &Work) {
        for host in work.hosts_written() {
            self.host(host);
        }
    }

    fn host(&mut self, host: HostId) {
        if self.everything {
            return;
        }
        self.hosts.insert(host);
        if self.hosts.len() > TOUCHED_MAX {
            self.hosts.clear();
            self.everything = true;
        }
    }

    /// What changed since the last call. A new rollout puts every host into a ring.
    pub(super) fn take(&mut self, newest_rollout: Option<RolloutId>) -> Change {
        let everything =
            std::mem::take(&mut self.everything) || self.newest_rollout != newest_rollout;
        self.newest_rollout = newest_rollout;
        let hosts = std::mem::take(&mut self.hosts);
        if everything {
            return Change::Everything;
        }
        Change::Hosts(hosts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_once_and_too_much_of_it_becomes_everything() {
        let mut touched = Touched::default();
        touched.host(HostId(2));
        touched.host(HostId(1));
        touched.host(HostId(2));
        let both = Change::Hosts(vec![HostId(1), HostId(2)]);
        assert_eq!(touched.take(None), both);
        assert_eq!(touched.take(None), Change::Hosts(Vec::new()));
        for host in 0..=TOUCHED_MAX as u64 {
            touched.host(HostId(host));
        }
        assert_eq!(touched.take(None), Change::Everything);
        assert_eq!(touched.take(None), Change::Hosts(Vec::new()));
    }

    #[test]
    fn a_new_rollout_changes_every_host() {
        let mut touched = Touched::default();
        assert_eq!(touched.take(Some(RolloutId(1))), Change::Everything);
        assert_eq!(touched.take(Some(RolloutId(1))), Change::Hosts(Vec::new()));
    }
}
