//! Whether maintenance windows let a host begin now.

use super::Control;
use crate::host::Host;
use crate::rollout::Rollout;
use crate::rollout::member::Readiness;
use ringward_domain::report::WaitWhy;
use ringward_domain::{AssignmentKind, HostId};

impl Control {
    /// Looks which windows are open now; hosts whose window opened or closed are told anew.
    pub(super) fn look_at_maintenance(&mut self) {
        let wall = self.wall_unix_ms;
        let windows = &self.policy.maintenance;
        let open: Vec<bool> = windows.iter().map(|w| w.is_open(wall)).collect();
        if open != self.maintenance_open {
            self.maintenance_open = open;
            self.out.readiness.extend(self.hosts.keys().copied());
        }
    }

    /// The windows are others now, and may bind others.
    pub(super) fn maintenance_changed(&mut self) {
        self.look_at_maintenance();
        self.out.readiness.extend(self.hosts.keys().copied());
    }

    /// Rollbacks never wait for a window: a host that is broken is not mended by leaving it so.
    pub(super) fn may_begin_now(&self, host: &Host, rollout: &Rollout) -> bool {
        if rollout.spec.kind == AssignmentKind::Rollback {
            return true;
        }
        let windows = self.policy.maintenance.iter().enumerate();
        let mut bound = windows
            .filter(|(_, window)| window.binds(&host.record.labels))
            .map(|(i, _)| self.maintenance_open.get(i).copied().unwrap_or(false))
            .peekable();
        bound.peek().is_none() || bound.any(|open| open)
    }

    /// Why a host is not granted now, whatever its rollout says.
    pub(super) fn blocked_or_closed(&self, host: &Host, rollout: &Rollout) -> Option<WaitWhy> {
        self.blocked(host, rollout)
            .or_else(|| (!self.may_begin_now(host, rollout)).then_some(WaitWhy::OutsideMaintenance))
    }

    /// When the windows open for which hosts of a rollout wait.
    pub(super) fn maintenance_note(&self, rollout: &Rollout) -> Option<String> {
        if rollout.outside_maintenance() == 0 {
            return None;
        }
        let outside = |id: &HostId| {
            rollout
                .member(*id)
                .is_some_and(|m| m.grantable() && m.readiness == Readiness::OutsideMaintenance)
        };
        let waiting: Vec<&Host> = self
            .hosts
            .values()
            .filter(|host| outside(&host.record.id))
            .collect();
        if waiting.is_empty() {
            return None;
        }
        let binding = self
            .policy
            .maintenance
            .iter()
            .filter(|window| waiting.iter().any(|host| window.binds(&host.record.labels)));
        let next = binding
            .filter_map(|window| Some((window.opens_at(self.wall_unix_ms)?, window)))
            .min_by_key(|(at, _)| *at);
        let count = waiting.len();
        Some(match next {
            Some((at, window)) => {
                let minutes = at.saturating_sub(self.wall_unix_ms).div_ceil(60_000);
                format!(
                    "{count} hosts wait for a maintenance window; {} ({}) is the next to open, in {} h {:02} min",
                    window.name,
                    window.words(),
                    minutes / 60,
                    minutes % 60
                )
            }
            None => format!("{count} hosts wait for a maintenance window that never opens"),
        })
    }
}
