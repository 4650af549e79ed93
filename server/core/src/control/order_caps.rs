//! Who is let past the caps at once, who waits, and when their turn comes.

use super::Control;
use crate::brakes::{GLASS_TIMES, Load, Place};
use crate::host::Host;
use crate::orders::Part;
use crate::rollout::order::ring_of_late;
use crate::slips::{Slip, slipped};
use ringward_domain::host::HostState;
use ringward_domain::order::Origin;
use ringward_domain::order_spec::{CapKind, OrderKind, OrderSpec, Progress};
use ringward_domain::{HostId, OrderId};

impl Control {
    pub(super) fn place(&self, host: &Host) -> Place {
        Place {
            ring: ring_of_late(&self.policy.rings, &host.record.labels).unwrap_or(usize::MAX),
            group: host.group(),
        }
    }

    /// How loaded the caps are now.
    fn load(&self) -> Load {
        let place = |id: HostId| self.hosts.get(&id).map(|host| self.place(host));
        Load::new(
            self.hosts
                .values()
                .filter(|host| host.record.state == HostState::Active)
                .map(|host| self.place(host)),
            self.orders
                .admitted()
                .filter_map(|(id, at)| Some((id, at, place(id)?))),
            self.orders
                .isolated()
                .filter_map(|id| Some((id, place(id)?))),
            self.now,
        )
    }

    /// Who goes at once and who waits under a cap; and how many would wait.
    pub(super) fn let_in(
        &self,
        spec: &OrderSpec,
        chosen: &[HostId],
        origin: Origin,
    ) -> (Vec<(HostId, Part)>, usize) {
        let times = glass_times(spec, origin);
        let (mut all, mut here) = (self.load(), self.load());
        let free = spec.over_cap && origin == Origin::TwoPersons;
        let mut beyond = 0;
        let mut parts = Vec::with_capacity(chosen.len());
        for id in chosen {
            beyond += usize::from(self.room(&mut all, spec, *id, (times, free)).is_err());
            let away = spec.kind.disrupts() && !self.has_session(*id) && !slipped(Slip::AwayLetIn);
            let part = match away || spec.endorsers > 0 {
                true => Part {
                    progress: Progress::Pending,
                    admitted: None,
                    stands: false,
                    rollout: None,
                },
                false => match self.room(&mut here, spec, *id, (times, free)) {
                    Err(cap) if !free => Part {
                        progress: Progress::OverCap(cap),
                        admitted: None,
                        stands: false,
                        rollout: None,
                    },
                    _ => self.let_in_part(spec),
                },
            };
            parts.push((*id, part));
        }
        (parts, beyond)
    }

    pub(super) fn has_session(&self, id: HostId) -> bool {
        self.hosts.get(&id).is_some_and(|h| h.session.is_some())
    }

    fn let_in_part(&self, spec: &OrderSpec) -> Part {
        Part {
            progress: Progress::Pending,
            admitted: spec.kind.disrupts().then_some(self.now),
            stands: true,
            rollout: None,
        }
    }

    fn room(
        &self,
        load: &mut Load,
        spec: &OrderSpec,
        id: HostId,
        (times, free): (u64, bool),
    ) -> Result<(), CapKind> {
        let Some(host) = self.hosts.get(&id).filter(|_| spec.kind.disrupts()) else {
            return Ok(());
        };
        let (place, isolates) = (
            self.place(host),
            matches!(spec.kind, OrderKind::Quarantine { .. }),
        );
        let room = load.room(&self.policy.brakes, id, place, isolates, times);
        // Whoever goes beyond the caps by two people's word counts towards them too.
        if room.is_ok() || free {
            load.disrupt(id, place);
            if isolates {
                load.isolate(id, place);
            }
        }
        room
    }

    /// Lives end, and who waited under a cap gets its turn.
    pub(super) fn orders_tick(&mut self) {
        let now = self.now;
        let ended: Vec<OrderId> = self
            .orders
            .newest()
            .filter(|order| order.ends_at() <= now && self.orders.open(order.id).next().is_some())
            .map(|order| order.id)
            .collect();
        for id in ended {
            self.end_open(id, Progress::Expired);
        }
        self.let_in_waiting(None);
    }

    /// Lets in whom there is room for: one host that is back, or all that wait.
    pub(super) fn let_in_waiting(&mut self, only: Option<HostId>) {
        let mut waiting = match only {
            None => self.orders.waiting(),
            Some(host) => self
                .orders
                .of_host(host)
                .into_iter()
                .map(|id| (id, host))
                .filter(|(id, host)| {
                    let part = self.orders.part(*id, *host);
                    part.is_some_and(|part| !part.stands && !part.progress.is_over())
                })
                .collect(),
        };
        waiting.retain(|(id, host)| self.has_session(*host) && self.orders.is_endorsed(*id));
        if waiting.is_empty() {
            return;
        }
        let mut load = self.load();
        let mut let_in: Vec<(OrderId, Vec<HostId>)> = Vec::new();
        for (id, host) in waiting {
            let Some(order) = self.orders.order(id) else {
                continue;
            };
            let free = order.beyond_caps || slipped(Slip::WaitingLetIn);
            let spec = order.spec.clone();
            let times = glass_times(&spec, order.origin);
            match self.room(&mut load, &spec, host, (times, free)) {
                Err(cap) if !free => self
                    .orders
                    .change(id, host, |part| part.progress = Progress::OverCap(cap)),
                _ => {
                    let fresh = self.let_in_part(&spec);
                    self.orders.change(id, host, |part| *part = fresh);
                    match let_in.last_mut() {
                        Some((last, hosts)) if *last == id => hosts.push(host),
                        _ => let_in.push((id, vec![host])),
                    }
                }
            }
        }
        for (id, hosts) in let_in {
            self.take_effect(id, &hosts);
        }
    }
}

/// How many times the caps an order may use.
fn glass_times(spec: &OrderSpec, origin: Origin) -> u64 {
    match spec.over_cap && origin == Origin::BreakGlass {
        true => GLASS_TIMES,
        false => 1,
    }
}
