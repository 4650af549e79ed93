//! What happens to hosts that nothing is rolled out to: it feeds the control, as the server does.

use super::engine::Engine;
use super::hosts::{Kind, Life, Step};
use super::population::host;
use ringward_domain::Millis;
use ringward_domain::Timestamp;
use ringward_domain::signal::SignalKind;
use ringward_server_core::baseline::Counts;
use ringward_server_core::rollout::member::Readiness;

const DAY_MS: f64 = 86_400_000.0;
const HISTORY_DAYS: f64 = 3.0;

impl Engine<'_> {
    /// 72 h before the start, as counts.
    pub(super) fn history(&mut self) {
        let n = self.hosts.len() as f64;
        let reboots = self.chance.poisson(n * HISTORY_DAYS);
        let failures = self.chance.poisson(reboots as f64 * self.scenario.base);
        for _ in 0..failures {
            let signature = self.background_signature();
            let i = self.chance.below(self.hosts.len() as u64) as u32;
            self.rollout
                .control_failure_of(host(i), signature.as_deref());
        }
        let sleeps = self
            .scenario
            .sleep
            .as_ref()
            .map_or(0.0, |s| (1.0 - s.announced) * s.asleep / (s.mean_h / 24.0));
        let lies = self
            .scenario
            .liars
            .as_ref()
            .map_or(0.0, |l| l.share * l.reports_per_day);
        let awake = 1.0 - self.scenario.sleep.as_ref().map_or(0.0, |s| s.asleep);
        // A sleep counts once it outlasts the silence deadline.
        let outlasts = self
            .scenario
            .sleep
            .as_ref()
            .map_or(1.0, |s| (-(1.0 / 6.0) / s.mean_h).exp());
        let time_failures = self
            .chance
            .poisson(n * HISTORY_DAYS * (sleeps * outlasts + lies));
        self.rollout.control_history(&Counts {
            reboots: reboots as f64,
            reboot_failures: failures,
            days: n * HISTORY_DAYS * awake,
            time_failures,
        });
    }

    pub(super) fn background_signature(&mut self) -> Option<String> {
        let recurring = self.scenario.recurring.as_ref()?;
        if !self.chance.hits(recurring.share) {
            return None;
        }
        let k = self.chance.below(u64::from(recurring.signatures));
        Some(format!("0x9f driver{k}.sys"))
    }

    pub(super) fn base_now(&self) -> f64 {
        match &self.scenario.drift {
            Some(drift) if self.hours() >= drift.at_h => self.scenario.base * drift.factor,
            _ => self.scenario.base,
        }
    }

    pub(super) fn hours(&self) -> f64 {
        self.now.since(self.start).0 as f64 / 3.6e6
    }

    pub(super) fn next_reboot(&mut self, i: u32) {
        let wait = self.chance.wait(DAY_MS);
        self.at(wait, i, Kind::Reboot);
    }

    /// A reboot that nobody ordered.
    pub(super) fn reboots(&mut self, i: u32) {
        let h = self.hosts[i as usize];
        if h.life == Life::Dead {
            return;
        }
        self.next_reboot(i);
        // Within a trial, or asleep, it has other things to do.
        if h.life == Life::Asleep
            || matches!(h.step, Step::Applying | Step::Booting | Step::Soaking)
        {
            return;
        }
        self.hosts[i as usize].boots = h.boots.wrapping_add(1);
        let fails = self.chance.hits(self.base_now());
        if h.on_release {
            self.rollout.rebooted(host(i), self.now);
            if fails {
                self.fails_silently_or_with_word(i);
            }
            return;
        }
        if !fails {
            self.rollout.control_counted(&Counts {
                reboots: 1.0,
                ..Counts::default()
            });
            return;
        }
        match self.background_signature() {
            Some(signature) => {
                // It comes back after a crash that it can tell of.
                self.control_reboot_failed(i, Some(&signature));
            }
            None => {
                self.die(i);
                self.at(Millis::mins(10).0, i, Kind::NoShow);
            }
        }
    }

    pub(super) fn no_show(&mut self, i: u32) {
        match self.hosts[i as usize].life {
            Life::Dead => self.control_reboot_failed(i, None),
            Life::Asleep => self.rollout.control_counted(&Counts {
                time_failures: 1,
                ..Counts::default()
            }),
            Life::Up => {}
        }
    }

    fn control_reboot_failed(&mut self, i: u32, signature: Option<&str>) {
        self.rollout.control_counted(&Counts {
            reboots: 1.0,
            reboot_failures: 1,
            ..Counts::default()
        });
        self.rollout.control_failure_of(host(i), signature);
    }

    pub(super) fn die(&mut self, i: u32) {
        self.hosts[i as usize].life = Life::Dead;
        self.rollout
            .readiness(host(i), Readiness::Unreachable, self.now);
    }

    /// Control time passes for all hosts that are not exposed.
    pub(super) fn count_time(&mut self) {
        let passed = self.now.since(self.counted_to).0 as f64 / DAY_MS;
        self.counted_to = self.now;
        let awake = 1.0 - self.scenario.sleep.as_ref().map_or(0.0, |s| s.asleep);
        let unexposed = self.hosts.len() as f64 - self.exposed as f64;
        self.rollout.control_counted(&Counts {
            days: passed * unexposed.max(0.0) * awake,
            ..Counts::default()
        });
    }

    pub(super) fn sleep_wait(&self) -> f64 {
        let sleep = self
            .scenario
            .sleep
            .as_ref()
            .map_or((0.0, 1.0), |s| (s.asleep, s.mean_h));
        // Awake for so long on average that the share asleep comes out.
        sleep.1 * 3.6e6 * (1.0 - sleep.0) / sleep.0.max(1e-9)
    }

    pub(super) fn falls_asleep(&mut self, i: u32) {
        let Some(sleep) = self.scenario.sleep.clone() else {
            return;
        };
        let h = self.hosts[i as usize];
        if h.life == Life::Dead {
            return;
        }
        // Nobody closes the lid during a boot.
        if h.step == Step::Booting {
            return self.at(60_000, i, Kind::Sleep);
        }
        let announced = self.chance.hits(sleep.announced);
        let mean = sleep.mean_h * 3.6e6;
        let lasts = self.chance.wait(mean);
        let h = &mut self.hosts[i as usize];
        h.life = Life::Asleep;
        h.announced = announced;
        let exposed = h.on_release || h.step != Step::None;
        self.at(lasts, i, Kind::Wake);
        if announced {
            self.rollout.readiness(
                host(i),
                Readiness::Away(ringward_domain::absence::Absence::Suspend),
                self.now,
            );
            self.rollout.absent(
                host(i),
                ringward_domain::absence::Absence::Suspend,
                self.now,
            );
        } else {
            self.rollout
                .readiness(host(i), Readiness::Unreachable, self.now);
            if !exposed {
                self.at(Millis::mins(10).0, i, Kind::NoShow);
            }
        }
    }

    pub(super) fn wakes(&mut self, i: u32) {
        if self.hosts[i as usize].life != Life::Asleep {
            return;
        }
        self.hosts[i as usize].life = Life::Up;
        self.rollout
            .readiness(host(i), self.readiness_of(i), self.now);
        self.rollout.back(host(i), self.now);
        self.rollout.heard(host(i), self.now);
        let wait = self.chance.wait(self.sleep_wait());
        self.at(wait, i, Kind::Sleep);
    }

    pub(super) fn readiness_of(&self, i: u32) -> Readiness {
        if self.hosts[i as usize].on_release {
            Readiness::Runs
        } else {
            Readiness::Ready
        }
    }

    pub(super) fn lies(&mut self, i: u32) {
        let Some(liars) = self.scenario.liars.clone() else {
            return;
        };
        let wait = self.chance.wait(DAY_MS / liars.reports_per_day.max(1e-9));
        self.at(wait, i, Kind::Lie);
        if self.hosts[i as usize].life != Life::Up {
            return;
        }
        if self.hosts[i as usize].on_release {
            self.signals(i, SignalKind::Bugcheck, "");
        } else {
            self.rollout.control_counted(&Counts {
                time_failures: 1,
                ..Counts::default()
            });
        }
    }

    pub(super) fn outage(&mut self, begins: bool) {
        self.offline = begins;
        for i in 0..self.hosts.len() as u32 {
            if self.kinds[i as usize].site != 0 || self.hosts[i as usize].life != Life::Up {
                continue;
            }
            if begins {
                // The server takes a site that falls silent as one out of its control.
                self.rollout
                    .readiness(host(i), Readiness::Unreachable, self.now);
            } else {
                self.rollout
                    .readiness(host(i), self.readiness_of(i), self.now);
                self.rollout.heard(host(i), self.now);
            }
        }
        self.plan_soon();
    }

    pub(super) fn is_cut_off(&self, i: u32) -> bool {
        self.offline && self.kinds[i as usize].site == 0
    }

    pub(super) fn outage_over(&self) -> Timestamp {
        self.outage_ends
    }
}
