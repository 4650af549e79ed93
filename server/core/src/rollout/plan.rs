//! Planning: holds, rings that complete, and who is invited. Coalesced; doing it twice changes
//! nothing. Nothing here is needed for a halt on evidence.

use super::member::Invite;
use super::ring::Bucket;
use super::{News, Rollout, Status};
use crate::verdict;
use ringward_domain::report::{Decision, HoldWhy};
use ringward_domain::{AssignmentKind, Millis, Timestamp};

impl Rollout {
    /// Holds and lifts, completes rings, invites hosts for the free part of the window.
    pub fn plan(&mut self, now: Timestamp) {
        // Bounded: each round completes a ring.
        for _ in 0..=self.rings.len() {
            if !self.advance(now) {
                break;
            }
        }
        self.invite(now);
    }

    /// One look at the ring under way; `true` if it completed and the next one is to be looked at.
    fn advance(&mut self, now: Timestamp) -> bool {
        if !matches!(
            self.status,
            Status::Running | Status::Held(_) | Status::Completed
        ) {
            return false;
        }
        let exhausted = self.exhausted(now);
        let limits = self.limits(self.current, exhausted);
        let done = exhausted && self.needs_nobody();
        let accepted = exhausted && self.rings[self.current].record.accepted;
        match verdict::decide(&self.evidence, &limits) {
            Decision::Halt(verdict_why) if !accepted => {
                self.halt(verdict_why, limits.ring, now);
                return false;
            }
            Decision::Hold(HoldWhy::NobodyExposed) if done || accepted => {}
            // No ring waits for a host that never managed to switch, but it may try again.
            Decision::Hold(HoldWhy::NobodyExposed) if self.somebody_ready() => {
                self.lift();
                return false;
            }
            Decision::Hold(why) => {
                self.hold(why);
                return false;
            }
            Decision::Halt(_) | Decision::Continue => {}
        }
        self.lift();
        let complete =
            exhausted && (done || accepted || verdict::ring_may_complete(&self.evidence, &limits));
        if complete {
            self.complete_ring(now);
        }
        complete
    }

    /// Whether the ring under way has nobody to expose: it is empty, or every member runs the
    /// release; in a rollback also if some are back by themselves and the rest cannot be reached.
    fn needs_nobody(&self) -> bool {
        let ring = &self.rings[self.current];
        let there = ring.count(Bucket::AlreadyThere);
        there == ring.members || self.spec.kind == AssignmentKind::Rollback && there > 0
    }

    fn somebody_ready(&self) -> bool {
        let ring = &self.rings[self.current];
        ring.invited > 0 || !ring.queue.is_empty() || !ring.express_queue.is_empty()
    }

    fn hold(&mut self, why: HoldWhy) {
        if matches!(self.status, Status::Running)
            || matches!(self.status, Status::Held(before) if before != why)
        {
            self.status = Status::Held(why);
            self.dirty_self = true;
            self.news.push(News::Held(why));
        }
    }

    fn lift(&mut self) {
        if matches!(self.status, Status::Held(_)) {
            self.status = self.under_way();
            self.dirty_self = true;
            self.news.push(News::Lifted);
        }
    }

    fn complete_ring(&mut self, now: Timestamp) {
        let ring = self.current;
        self.rings[ring].record.stragglers = self.never_exposed(ring);
        let window = self.window;
        self.current += 1;
        self.dirty_self = true;
        self.news.push(News::RingComplete(ring));
        match self.rings.get_mut(self.current) {
            Some(next) => {
                next.record.previous_window = window;
                self.open_ring(now);
            }
            None => {
                self.status = Status::Completed;
                self.news.push(News::Completed(self.spec.release));
            }
        }
        self.renew_window();
    }

    /// From now on the ring waits for its members only so long.
    fn open_ring(&mut self, _now: Timestamp) {
        let before: u64 = self.rings[..self.current]
            .iter()
            .map(|ring| ring.record.size)
            .sum();
        let end = before + self.rings[self.current].record.size;
        for i in before as usize..(end as usize).min(self.members.len()) {
            self.schedule(i);
        }
    }

    /// Invites hosts in order, for as many places as are free, and keeps these for two heartbeats.
    fn invite(&mut self, now: Timestamp) {
        if self.not_exposing().is_some() || self.starting(now) {
            return;
        }
        let until = now + self.pace.heartbeat.times(2) + Millis::secs(1);
        let open = self.rings.len().min(self.current + 1);
        let mut express = self.express_left(now);
        for ring in 0..open {
            while express > 0
                && let Some(i) = self.rings[ring].express_queue.first().copied()
            {
                self.invite_one(i, until, now);
                express -= 1;
            }
        }
        let mut free = self
            .window
            .saturating_sub(self.in_flight() + self.invited());
        for ring in 0..open {
            let mut reboots = if self.adds_reboot(ring) {
                self.reboots_left(now)
                    .saturating_sub(self.rings[ring].invited)
            } else {
                u64::MAX
            };
            while free > 0
                && reboots > 0
                && let Some(i) = self.next_in_queue(ring)
            {
                self.invite_one(i, until, now);
                free -= 1;
                reboots -= 1;
            }
        }
    }

    fn next_in_queue(&self, ring: usize) -> Option<usize> {
        let ring = &self.rings[ring];
        ring.queue.first().or(ring.express_queue.first()).copied()
    }

    fn invite_one(&mut self, i: usize, until: Timestamp, now: Timestamp) {
        self.change(i, now, |member| member.invite = Invite::Until(until));
        self.invites.push(i);
    }
}
