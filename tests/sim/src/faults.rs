//! What goes wrong while the storm lasts, and its end.

use crate::network::Weather;
use crate::world::{Occurrence, World};

impl World {
    pub(crate) fn host_fault(&mut self, host: usize) {
        if self.healed {
            return;
        }
        let next = 1_000 + self.random.below(2 * self.scenario.host_faults_every_ms);
        self.after(next, Occurrence::HostFault { host });
        if !self.hosts[host].on || self.hosts[host].asleep {
            return;
        }
        match self.random.below(10) {
            0..=2 => self.suspend(host),
            3 | 4 => self.kill_agent(host),
            5 => {
                let for_ms = self.random.between(2_000, 60_000);
                let clean = self.random.permille(800);
                self.down(host, clean, for_ms);
            }
            6 if self.scenario.wrong_clocks => self.clock_jumps(host),
            7 => {
                self.hosts[host].disk_full = true;
                let free = self.random.below(60_000);
                self.after(free, Occurrence::DiskFree { host });
            }
            _ => self.break_session(host),
        }
    }

    pub(crate) fn server_fault(&mut self) {
        if self.healed {
            return;
        }
        let next = 5_000 + self.random.below(2 * self.scenario.server_faults_every_ms);
        self.after(next, Occurrence::ServerFault);
        if self.scenario.server_faults_every_ms < 10_000_000 {
            self.server_crashes();
        }
    }

    /// The network clears, nothing breaks any more. What is broken comes back by itself.
    pub(crate) fn heals(&mut self) {
        self.healed = true;
        self.weather = Weather::CLEAR;
        for host in &mut self.hosts {
            host.disk_full = false;
        }
    }
}
