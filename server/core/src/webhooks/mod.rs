//! What people outside of this server are told, and how it is kept until they have it. Pure: alerts as
//! they stand, time and randomness go in; deliveries come out. Each alert is told once when it begins
//! and once when it is over, whatever happens in between, also over restarts.

#[cfg(test)]
mod tests;

use ringward_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Deliveries that wait; further ones are dead letters at once, the oldest first.
pub const QUEUE_MAX: usize = 1_000;
/// Dead letters kept; the oldest go.
pub const DEAD_MAX: usize = 256;
/// Bytes of a sentence in a message.
const TEXT_BYTES_MAX: usize = 512;
/// Pauses between tries, as the Standard Webhooks scheme proposes them: a day and a half in all.
const PAUSES: [Millis; 8] = [
    Millis::secs(5),
    Millis::mins(5),
    Millis::mins(30),
    Millis::hours(2),
    Millis::hours(5),
    Millis::hours(10),
    Millis::hours(10),
    Millis::hours(10),
];
/// A hold may come and go by itself; one of this length is somebody's business.
const HOLD_PATIENCE: Millis = Millis::mins(30);

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A rollout halted by itself.
    Halt,
    /// A rollout is held for longer than [`HOLD_PATIENCE`].
    Hold,
    /// The andon is pulled.
    Andon,
    /// Hosts of an order wait under a cap, or an order waits for a second person.
    OverCap,
    /// Somebody did alone what takes two.
    BreakGlass,
    /// A host saw another audit log than before.
    AuditFork,
    /// Hosts fail and something is suspected.
    Incident,
    /// Asked for by a person, to try the way.
    Test,
}

impl Kind {
    /// All that an endpoint can ask for.
    pub const ALL: [Self; 7] = [
        Self::Halt,
        Self::Hold,
        Self::Andon,
        Self::OverCap,
        Self::BreakGlass,
        Self::AuditFork,
        Self::Incident,
    ];

    /// As settings and messages name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Hold => "hold",
            Self::Andon => "andon",
            Self::OverCap => "over-cap",
            Self::BreakGlass => "break-glass",
            Self::AuditFork => "audit-fork",
            Self::Incident => "incident",
            Self::Test => "test",
        }
    }

    /// Told only after it stood so long.
    #[must_use]
    pub const fn patience(self) -> Millis {
        match self {
            Self::Hold => HOLD_PATIENCE,
            _ => Millis::ZERO,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that people should hear of, for as long as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about.
    pub kind: Kind,
    /// Which one: with the kind what tells it from others.
    pub subject: String,
    /// What happened, in one sentence.
    pub title: String,
    /// What a person should do next.
    pub next: String,
}

impl Alert {
    fn key(&self) -> String {
        key(self.kind, &self.subject)
    }
}

fn key(kind: Kind, subject: &str) -> String {
    format!("{kind}/{subject}")
}

/// Where messages go, as far as it is decided here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in the settings.
    pub name: String,
    /// What it wants to hear of.
    pub kinds: BTreeSet<Kind>,
}

/// One message to one endpoint. Its id stays the same over all tries and replays, so that a receiver
/// can tell a repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `webhook-id`.
    pub id: String,
    /// To whom.
    pub endpoint: String,
    /// About what.
    pub kind: Kind,
    /// The message: JSON.
    pub body: String,
    /// Wall clock when it was made, Unix milliseconds.
    pub made_unix_ms: u64,
    /// Tries that failed.
    pub tries: u32,
    /// Not before this, on the fleet clock.
    pub due: Timestamp,
    /// Why the last try failed.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    alert: Alert,
    since: Timestamp,
    told: bool,
}

impl Standing {
    fn is_due(&self, now: Timestamp) -> bool {
        !self.told && now.since(self.since) >= self.alert.kind.patience()
    }
}

/// What stands, what waits, and what could not be delivered. Written down whole when it changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outbox {
    standing: BTreeMap<String, Standing>,
    queue: Vec<Delivery>,
    dead: Vec<Delivery>,
    /// Dead letters that were dropped for newer ones.
    pub dropped: u64,
}

/// The moment of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Fleet clock.
    pub now: Timestamp,
    /// Wall clock, for people.
    pub unix_ms: u64,
}

impl Outbox {
    /// Takes in every alert that stands now: what is new becomes a message, what is over its
    /// resolving one. Answers whether anything changed.
    pub fn observe(
        &mut self,
        alerts: Vec<Alert>,
        endpoints: &[Endpoint],
        at: Moment,
        random: &mut dyn FnMut() -> u64,
    ) -> bool {
        let before = self.clone();
        let mut seen = BTreeSet::new();
        for alert in alerts {
            let key = alert.key();
            seen.insert(key.clone());
            let standing = self.standing.entry(key).or_insert(Standing {
                since: at.now,
                told: false,
                alert: alert.clone(),
            });
            if standing.is_due(at.now) {
                standing.told = true;
                standing.alert = alert.clone();
                self.tell(&alert, "fired", endpoints, at, random);
            }
        }
        let over: Vec<String> = self
            .standing
            .keys()
            .filter(|key| !seen.contains(*key))
            .cloned()
            .collect();
        for key in over {
            if let Some(standing) = self.standing.remove(&key).filter(|s| s.told) {
                self.tell(&standing.alert, "resolved", endpoints, at, random);
            }
        }
        *self != before
    }

    /// Whether an alert that stands now is told now, and so needs its words: those of a rollout cost a
    /// walk over its hosts, so they are not looked for each second.
    #[must_use]
    pub fn needs_words(&self, kind: Kind, subject: &str, now: Timestamp) -> bool {
        match self.standing.get(&key(kind, subject)) {
            Some(standing) => standing.is_due(now),
            None => kind.patience() == Millis::ZERO,
        }
    }

    /// How many alerts of a kind stand, and for long enough to be told.
    #[must_use]
    pub fn standing(&self, kind: Kind) -> usize {
        let all = self.standing.values();
        all.filter(|s| s.told && s.alert.kind == kind).count()
    }

    fn tell(
        &mut self,
        alert: &Alert,
        state: &str,
        endpoints: &[Endpoint],
        at: Moment,
        random: &mut dyn FnMut() -> u64,
    ) {
        let wants = |to: &&Endpoint| alert.kind == Kind::Test || to.kinds.contains(&alert.kind);
        for to in endpoints.iter().filter(wants) {
            let body = json!({
                "type": format!("{}.{state}", alert.kind),
                "timestamp": at_time(at.unix_ms),
                "data": {
                    "kind": alert.kind.name(),
                    "state": state,
                    "key": alert.key(),
                    "subject": cut(&alert.subject),
                    "title": cut(&alert.title),
                    "next": cut(&alert.next),
                },
            });
            self.queue.push(Delivery {
                id: format!("msg_{:016x}{:016x}", random(), random()),
                endpoint: to.name.clone(),
                kind: alert.kind,
                body: body.to_string(),
                made_unix_ms: at.unix_ms,
                tries: 0,
                due: at.now,
                why: String::new(),
            });
        }
        while self.queue.len() > QUEUE_MAX {
            let mut oldest = self.queue.remove(0);
            oldest.why = format!("{QUEUE_MAX} messages waited: {}", oldest.why);
            self.give_up(oldest);
        }
    }

    fn give_up(&mut self, letter: Delivery) {
        self.dead.push(letter);
        if self.dead.len() > DEAD_MAX {
            self.dead.remove(0);
            self.dropped += 1;
        }
    }

    /// A message of a person's own to one endpoint; its id.
    pub fn test(
        &mut self,
        endpoint: &Endpoint,
        by: &str,
        at: Moment,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<String> {
        let alert = Alert {
            kind: Kind::Test,
            subject: endpoint.name.clone(),
            title: format!("{by} tries this webhook"),
            next: "nothing".to_owned(),
        };
        self.tell(&alert, "fired", std::slice::from_ref(endpoint), at, random);
        self.queue.last().map(|made| made.id.clone())
    }

    /// What is to be sent now, oldest first.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = &Delivery> {
        self.queue.iter().filter(move |d| d.due <= now)
    }

    /// When something is due next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.iter().map(|delivery| delivery.due).min()
    }

    fn take(&mut self, id: &str, endpoint: &str) -> Option<Delivery> {
        let is = |d: &Delivery| d.id == id && d.endpoint == endpoint;
        let at = self.queue.iter().position(is)?;
        Some(self.queue.remove(at))
    }

    /// It has arrived.
    pub fn delivered(&mut self, id: &str, endpoint: &str) {
        self.take(id, endpoint);
    }

    /// It has not. `gone`: the receiver says that it wants no more (410), so it is not tried again.
    pub fn failed(
        &mut self,
        (id, endpoint): (&str, &str),
        why: &str,
        gone: bool,
        now: Timestamp,
        random: &mut dyn FnMut() -> u64,
    ) {
        let Some(mut delivery) = self.take(id, endpoint) else {
            return;
        };
        delivery.why = cut(why);
        let pause = PAUSES.get(delivery.tries as usize).filter(|_| !gone);
        delivery.tries += 1;
        let Some(pause) = pause else {
            return self.give_up(delivery);
        };
        // 80 to 120 %: receivers that come back are not met by everybody at once.
        delivery.due = now + Millis(pause.0 * 4 / 5 + random() % (pause.0 * 2 / 5).max(1));
        self.queue.push(delivery);
    }

    /// Dead letters, newest first.
    pub fn dead(&self) -> impl Iterator<Item = &Delivery> {
        self.dead.iter().rev()
    }

    /// Messages that wait for an endpoint.
    #[must_use]
    pub fn waiting(&self, endpoint: &str) -> usize {
        self.queue.iter().filter(|d| d.endpoint == endpoint).count()
    }

    /// Why the newest message that waits for an endpoint could not be sent; empty where it was not
    /// tried yet.
    #[must_use]
    pub fn trouble(&self, endpoint: &str) -> &str {
        let mut of = self.queue.iter().filter(|d| d.endpoint == endpoint);
        of.next_back().map_or("", |delivery| &delivery.why)
    }

    /// Sends dead letters again: the one with this id, or all. Answers how many.
    pub fn replay(&mut self, id: Option<&str>, now: Timestamp) -> usize {
        let wanted = |letter: &Delivery| id.is_none_or(|id| letter.id == id);
        let (again, stay) = std::mem::take(&mut self.dead)
            .into_iter()
            .partition::<Vec<_>, _>(wanted);
        self.dead = stay;
        let count = again.len();
        self.queue.extend(again.into_iter().map(|letter| Delivery {
            tries: 0,
            due: now,
            ..letter
        }));
        count
    }

    /// What waits for endpoints that the settings no longer name goes; answers whether anything did.
    pub fn keep_only(&mut self, endpoints: &[Endpoint]) -> bool {
        let named = |d: &Delivery| endpoints.iter().any(|to| to.name == d.endpoint);
        let before = self.queue.len();
        self.queue.retain(named);
        self.queue.len() != before
    }
}

fn cut(text: &str) -> String {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= TEXT_BYTES_MAX)
        .unwrap_or(text.len());
    text[..end].chars().filter(|c| !c.is_control()).collect()
}

fn at_time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| unix_ms.to_string(), |at| at.to_string())
}
