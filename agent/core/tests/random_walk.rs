//! Random lives of a host: lost, doubled, late and forged messages, suspends, restarts at any effect,
//! reboots, full disks. The host checks at every act what must never bend (see `host::check`).
#![allow(clippy::unwrap_used)]

mod host;

use host::{Host, desired, manifest, release};
use proptest::prelude::*;
use ringward_agent_core::event::{PrepareFailure, SwitchFailure};
use ringward_agent_core::{Effect, Event};
use ringward_domain::observed::{PrepareError, RefuseWhy};
use ringward_domain::report::WaitWhy;
use ringward_domain::session::{BeginRefusal, ToAgent, ToServer};
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{Absence, AssignmentKind, BootId, Desired, Millis, Nonce, SignalSeq};

const STEPS: usize = 1_500;

struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a server might say, given all it ever heard; and what it might say wrongly.
struct Server {
    generation: u64,
    nonces: Vec<Nonce>,
    /// Said once already: said again at any later time.
    said: Vec<ToAgent>,
    /// The right answers, not said yet.
    due: Vec<ToAgent>,
}

impl Server {
    fn hears(&mut self, host: &mut Host, choices: &mut Choices) {
        for message in host.take_sent() {
            match message {
                ToServer::Hello(_) => {
                    self.due.push(ToAgent::Welcome { protocol: 1 });
                    let desired = self.desired(choices);
                    self.due.push(ToAgent::Desired(Box::new(desired)));
                }
                ToServer::RequestGrant(request) => {
                    self.nonces.push(request.nonce);
                    self.due.push(ToAgent::Grant {
                        nonce: request.nonce,
                        life: Millis::secs(60),
                    });
                }
                ToServer::Begin(begin) => {
                    self.nonces.push(begin.nonce);
                    self.due.push(ToAgent::Begun { nonce: begin.nonce });
                }
                _ => {}
            }
        }
        let excess = self.nonces.len().saturating_sub(6);
        self.nonces.drain(..excess);
        let excess = self.due.len().saturating_sub(6);
        self.due.drain(..excess);
    }

    fn desired(&mut self, choices: &mut Choices) -> Desired {
        self.generation += choices.below(3);
        let back = choices.below(4) / 3 * choices.below(3);
        let n = choices.below(3) as u8 + 1;
        let mut wanted = desired(self.generation.saturating_sub(back), n);
        let assignment = &mut wanted.assignments[0];
        assignment.invited = !choices.one_in(4);
        assignment.verify_boot = choices.one_in(2);
        assignment.soak = Millis::secs(1 + choices.below(40));
        if choices.one_in(3) {
            assignment.kind = AssignmentKind::Rollback;
            assignment.rollout.0 += 50;
        }
        if choices.one_in(5) {
            wanted.bars.push(release(choices.below(3) as u8 + 1));
        }
        if choices.one_in(5) {
            wanted.lifted.push(release(choices.below(3) as u8 + 1));
        }
        wanted
    }

    fn says(&mut self, choices: &mut Choices) -> ToAgent {
        if !self.due.is_empty() && !choices.one_in(4) {
            let message = self.due.remove(0);
            self.said.push(message.clone());
            return message;
        }
        if !self.said.is_empty() && choices.one_in(4) {
            let index = choices.below(self.said.len() as u64) as usize;
            return self.said[index].clone();
        }
        let nonce = match self.nonces.len() as u64 {
            0 => Nonce([0xee; 16]),
            n => self.nonces[choices.below(n) as usize],
        };
        let message = match choices.below(12) {
            0 => ToAgent::Welcome { protocol: 1 },
            1 | 2 => ToAgent::Desired(Box::new(self.desired(choices))),
            3..=5 => ToAgent::Grant {
                nonce,
                life: Millis::secs(60),
            },
            6..=8 => ToAgent::Begun { nonce },
            9 => ToAgent::BeginRefused {
                nonce,
                why: BeginRefusal::NotRunning,
            },
            10 => ToAgent::Wait {
                nonce,
                why: WaitWhy::WindowFull,
                retry_after: Millis::secs(5),
            },
            _ => ToAgent::SignalsDurable {
                through: SignalSeq(choices.below(8)),
            },
        };
        self.said.push(message.clone());
        let excess = self.said.len().saturating_sub(30);
        self.said.drain(..excess);
        message
    }
}

fn answer(host: &mut Host, choices: &mut Choices) {
    if host.asked.is_empty() {
        return;
    }
    let index = choices.below(host.asked.len() as u64) as usize;
    let fails = choices.one_in(5);
    match host.asked[index].clone() {
        Effect::Prepare {
            rollout, release, ..
        } => {
            host.asked.remove(index);
            let outcome = match (fails, choices.one_in(3)) {
                (true, true) => Err(PrepareFailure::Refused(RefuseWhy::Platform)),
                (true, false) => Err(PrepareFailure::Retry(PrepareError::Download)),
                (false, _) => Ok(manifest(release.0[0])),
            };
            host.step(Event::Prepared {
                rollout,
                release,
                outcome,
            });
        }
        Effect::Switch { to, .. } => {
            host.asked.remove(index);
            let outcome = match fails {
                true => Err(SwitchFailure::Disk),
                false => {
                    host.slot = Some(to);
                    Ok(())
                }
            };
            host.step(Event::Switched(outcome));
        }
        Effect::Revert { to, .. } => {
            host.asked.remove(index);
            let outcome = match fails {
                true => Err(SwitchFailure::Disk),
                false => {
                    host.slot = to;
                    Ok(())
                }
            };
            host.step(Event::Switched(outcome));
        }
        Effect::RunProbes(_) => {
            host.asked.remove(index);
            let failed = if fails {
                vec!["demo".to_owned()]
            } else {
                vec![]
            };
            host.step(Event::Probes { failed });
        }
        _ => {
            host.asked.remove(index);
        }
    }
}

fn happens(host: &mut Host, server: &mut Server, choices: &mut Choices) {
    match choices.below(26) {
        0 | 1 => host.step(Event::Connected),
        2 if choices.one_in(3) => host.step(Event::Disconnected),
        3..=10 => {
            let message = server.says(choices);
            host.message(message);
        }
        11..=18 => answer(host, choices),
        19 => {
            let slept = Millis(choices.below(200_000));
            if choices.one_in(2) {
                host.step(Event::GoingAway(Absence::Suspend));
            }
            host.now = host.now + slept;
            host.step(Event::Resumed { slept });
        }
        20 => host.step(Event::NetworkReachable(choices.one_in(2))),
        21 => {
            let kind = match choices.below(3) {
                0 => SignalKind::CrashLoop,
                1 => SignalKind::ServiceFailed,
                _ => SignalKind::KernelOops,
            };
            let draft = SignalDraft {
                kind,
                key: format!("walk:{}", choices.below(1000)),
                boot: BootId([host.boot; 16]),
                at_boottime: Millis(host.now.0),
                title: "x".repeat(choices.below(400) as usize),
                signature: String::new(),
                evidence: String::new(),
            };
            host.step(Event::Signal(draft));
        }
        22 => host.full_disk = choices.one_in(3),
        23 if choices.one_in(4) => host.cut_after = Some(choices.below(6) as usize),
        24 if choices.one_in(3) && host.boot < 250 => {
            let reboot = choices.one_in(2);
            host.restart(reboot);
        }
        _ => host.step(Event::Timer),
    }
    if host.dead && host.boot < 250 {
        let reboot = choices.one_in(2);
        host.restart(reboot);
    }
    server.hears(host, choices);
}

/// A life of `steps` steps; answers how many switches the host made.
fn live(seed: u64, steps: usize) -> usize {
    let mut choices = Choices(seed);
    let mut host = match seed % 2 {
        0 => Host::new(),
        _ => Host::on_release(1),
    };
    let mut server = Server {
        generation: 1,
        nonces: Vec::new(),
        said: Vec::new(),
        due: Vec::new(),
    };
    let mut switches = 0;
    let mut attempt = None;
    for _ in 0..steps {
        let longest = [200, 200, 3_000, 3_000, 12_000, 700_000][choices.below(6) as usize];
        if choices.one_in(3) {
            host.now = host.now + Millis(choices.below(longest));
            host.settle();
        }
        happens(&mut host, &mut server, &mut choices);
        let newest = host.ledger.attempt.as_ref().map(|attempt| attempt.nonce);
        if newest != attempt && host.switches_asked() > 0 {
            switches += 1;
            attempt = newest;
        }
    }
    host.full_disk = false;
    host.settle();
    switches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_happens_to_a_host_bends_its_rules(seed in any::<u64>()) {
        live(seed, STEPS);
    }
}

#[test]
fn the_random_lives_do_switch_often_enough_to_prove_something() {
    let switches: usize = (0..150).map(|seed| live(seed, STEPS)).sum();
    assert!(switches > 100, "only {switches} switches in 150 lives");
}
