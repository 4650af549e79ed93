//! The session: hello, heartbeats, and coming back after a loss without a stampede.

use crate::random::backoff;
use crate::{Effect, Machine};
use ringward_domain::session::{Heartbeat, Hello, PROTOCOL, PROTOCOL_MIN, ToServer};
use ringward_domain::{Epoch, Generation, Millis, Timestamp};

/// First connection after the start: within this, so that a site that powers up does not arrive at
/// once. Short, because a host that boots a bad release may have seconds to say so.
const FIRST_CONNECT_MAX: Millis = Millis::secs(1);
/// Reconnecting: 1 s doubled up to 60 s, each jittered down to at least half.
const BACKOFF_BASE: Millis = Millis::secs(1);
const BACKOFF_MAX: Millis = Millis::secs(60);
/// A session that lasted this long was a good one: backoff starts anew.
const GOOD_SESSION: Millis = Millis::secs(30);
/// Without `Welcome` for this long the session is given up (another address is next).
const WELCOME_TIMEOUT: Millis = Millis::secs(20);
/// Longest pause a server may ask for.
const COME_BACK_MAX: Millis = Millis::mins(10);
/// Heartbeat until the server says otherwise, and what it may say.
const HEARTBEAT_DEFAULT: Millis = Millis::secs(10);
const HEARTBEAT_MIN: Millis = Millis(100);
const HEARTBEAT_MAX: Millis = Millis::mins(10);

/// How the session stands.
#[derive(Debug, Default)]
pub(crate) struct Link {
    state: State,
    /// Sessions in a row that failed or ended early.
    failures: u32,
}

#[derive(Debug, Default)]
enum State {
    /// `Effect::Connect` is out.
    #[default]
    Connecting,
    /// Open, `Hello` sent.
    Greeting { since: Timestamp },
    /// Welcomed.
    Up {
        since: Timestamp,
        heartbeat_at: Timestamp,
    },
}

impl Link {
    /// Whether messages other than `Hello` may be sent.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }
}

impl Machine {
    pub(crate) fn link_start(&mut self) {
        let after = self.random.between(Millis::ZERO, FIRST_CONNECT_MAX);
        self.out.free(Effect::Connect { after });
    }

    pub(crate) fn on_connected(&mut self, now: Timestamp) {
        self.link.state = State::Greeting { since: now };
        self.signals.session_lost();
        let observed = self.session_observed();
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL,
            capabilities: self.capabilities(),
            agent_version: self.agent_version.clone(),
            boot: self.boot,
            agent_start: self.agent_start,
            boottime: now.since(Timestamp::default()),
            last_stop_clean: self.last_stop_clean,
            accepted: self.ledger.accepted,
            next_signal: self.signals.next_seq(),
            facts: self.facts.clone(),
            observed,
        };
        self.out.send(ToServer::Hello(Box::new(hello)));
    }

    pub(crate) fn on_welcome(&mut self, protocol: u32, now: Timestamp) {
        if !matches!(self.link.state, State::Greeting { .. }) {
            return;
        }
        if !(PROTOCOL_MIN..=PROTOCOL).contains(&protocol) {
            self.reconnect();
            return;
        }
        self.link.state = State::Up {
            since: now,
            heartbeat_at: now + self.random.jitter(self.heartbeat()),
        };
        self.resume_progress(now);
    }

    pub(crate) fn on_disconnected(&mut self, now: Timestamp) {
        if let State::Up { since, .. } = self.link.state
            && now.since(since) >= GOOD_SESSION
        {
            self.link.failures = 0;
        }
        self.lost();
        let after = self.backoff();
        self.out.free(Effect::Connect { after });
    }

    pub(crate) fn on_come_back(&mut self, after: Millis) {
        let after = Millis(after.0.min(COME_BACK_MAX.0));
        self.lost();
        let after = after + self.random.between(Millis::ZERO, after);
        self.out.free(Effect::Disconnect);
        self.out.free(Effect::Connect { after });
    }

    fn reconnect(&mut self) {
        self.lost();
        let after = self.backoff();
        self.out.free(Effect::Disconnect);
        self.out.free(Effect::Connect { after });
    }

    fn backoff(&mut self) -> Millis {
        let tries = self.link.failures;
        self.link.failures = tries.saturating_add(1);
        backoff(&mut self.random, BACKOFF_BASE, BACKOFF_MAX, tries)
    }

    fn lost(&mut self) {
        self.link.state = State::Connecting;
        self.signals.session_lost();
    }

    fn heartbeat(&self) -> Millis {
        let wanted = self
            .desired
            .as_ref()
            .map_or(HEARTBEAT_DEFAULT, |desired| desired.heartbeat);
        Millis(wanted.0.clamp(HEARTBEAT_MIN.0, HEARTBEAT_MAX.0))
    }

    /// A sign of life within a second: the host is just back.
    pub(crate) fn heartbeat_soon(&mut self, now: Timestamp) {
        let soon = now + self.random.between(Millis::ZERO, Millis::secs(1));
        if let State::Up { heartbeat_at, .. } = &mut self.link.state {
            *heartbeat_at = soon.min(*heartbeat_at);
        }
    }

    pub(crate) fn settle_link(&mut self, now: Timestamp) {
        match self.link.state {
            State::Connecting => {}
            State::Greeting { since } => {
                if now.since(since) >= WELCOME_TIMEOUT {
                    self.reconnect();
                }
            }
            State::Up {
                since,
                heartbeat_at,
            } => {
                let every = self.heartbeat();
                if heartbeat_at <= now {
                    self.out.send(ToServer::Heartbeat(self.heartbeat_now(now)));
                    self.told.heartbeat();
                }
                if heartbeat_at <= now || heartbeat_at.since(now) > every {
                    // Up to a tenth early, never late: the server counts whole periods.
                    let next = self.random.between(Millis(every.0 - every.0 / 10), every);
                    self.link.state = State::Up {
                        since,
                        heartbeat_at: now + next,
                    };
                }
            }
        }
    }

    fn heartbeat_now(&self, now: Timestamp) -> Heartbeat {
        Heartbeat {
            // What this process holds, not what the ledger once accepted: after a restart the
            // server sees that its state has to be told again.
            accepted: self
                .desired
                .as_ref()
                .map_or((Epoch(0), Generation(0)), |held| {
                    (held.epoch, held.generation)
                }),
            boottime: now.since(Timestamp::default()),
            soaked: self.soaked(),
        }
    }

    pub(crate) fn link_wakeup(&self) -> Option<Timestamp> {
        match self.link.state {
            State::Connecting => None,
            State::Greeting { since } => Some(since + WELCOME_TIMEOUT),
            State::Up { heartbeat_at, .. } => Some(heartbeat_at),
        }
    }
}
