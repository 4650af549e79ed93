//! Maintenance windows: when hosts may begin an install.
//!
//! A window is a span of local time on some days of the week, in an IANA time zone; the rules of the
//! zones are compiled in, so that the same policy means the same on every server. A host under
//! several windows may begin in any of them; a host under none may always. Only the beginning is
//! bound to a window: what was begun soaks on after it closed, and rollbacks never wait.
//!
//! Around a change of summer time a window follows the clock on the wall: a span that the clock skips
//! is skipped, one that it shows twice is open twice.

use crate::policy::PolicyError;
use crate::selector::Selector;
use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp as Moment, ToSpan, Zoned};
use ringward_domain::host::Labels;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Windows of one policy.
pub const WINDOWS_MAX: usize = 64;
/// Days in which the next opening is looked for: a week, and a day for what summer time skips.
const DAYS_AHEAD: i64 = 8;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When hosts may begin an install.
#[derive(Debug, Clone, PartialEq)]
pub struct MaintenanceWindow {
    /// Its name, unique in the policy.
    pub name: String,
    /// The hosts it binds; `None` = every host.
    pub selector: Option<Selector>,
    /// Days on which it opens, Monday first.
    days: [bool; 7],
    /// Local time at which it opens.
    from: Time,
    /// Local time at which it closes, on the next day where that is not later than `from`.
    until: Time,
    zone: TimeZone,
    zone_name: String,
}

/// A window as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWindow {
    name: String,
    selector: Option<String>,
    days: Option<Vec<String>>,
    from: String,
    until: String,
    zone: Option<String>,
}

fn refuse<T>(index: usize, field: &str, why: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError {
        field: format!("maintenance[{index}].{field}"),
        why: why.into(),
    })
}

/// Checks the windows of a policy.
pub(crate) fn validate(raw: Vec<RawWindow>) -> Result<Vec<MaintenanceWindow>, PolicyError> {
    if raw.len() > WINDOWS_MAX {
        return Err(PolicyError {
            field: "maintenance".to_owned(),
            why: format!("{} windows; use at most {WINDOWS_MAX}", raw.len()),
        });
    }
    let mut names = BTreeSet::new();
    let mut windows = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let window = raw.validate(index)?;
        if !names.insert(window.name.clone()) {
            let why = format!(
                "a window before it is called {} too; give each its own name",
                window.name
            );
            return refuse(index, "name", why);
        }
        windows.push(window);
    }
    Ok(windows)
}

impl RawWindow {
    fn validate(self, index: usize) -> Result<MaintenanceWindow, PolicyError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(plain) {
            let why = format!(
                "{:?} does not do; use 1-40 of a-z, 0-9 and -",
                self.name.chars().take(80).collect::<String>()
            );
            return refuse(index, "name", why);
        }
        let selector = match self.selector.as_deref().map(str::parse::<Selector>) {
            None => None,
            Some(Ok(selector)) => Some(selector),
            Some(Err(error)) => return refuse(index, "selector", error.to_string()),
        };
        let zone_name = self.zone.unwrap_or_else(|| "UTC".to_owned());
        let Ok(zone) = TimeZoneDatabase::bundled().get(&zone_name) else {
            let why = format!(
                "{:?} is no time zone known here; use a name of the IANA database, for example Europe/Berlin or UTC",
                zone_name.chars().take(80).collect::<String>()
            );
            return refuse(index, "zone", why);
        };
        Ok(MaintenanceWindow {
            name: self.name,
            selector,
            days: days(index, self.days)?,
            from: time(index, "from", &self.from)?,
            until: time(index, "until", &self.until)?,
            zone,
            zone_name,
        })
    }
}

fn days(index: usize, given: Option<Vec<String>>) -> Result<[bool; 7], PolicyError> {
    let Some(given) = given else {
        return Ok([true; 7]);
    };
    let mut days = [false; 7];
    for day in &given {
        match DAYS.iter().position(|known| known == day) {
            Some(at) => days[at] = true,
            None => {
                let day: String = day.chars().take(40).collect();
                let why = format!("{day:?} is no day; use {}", DAYS.join(", "));
                return refuse(index, "days", why);
            }
        }
    }
    if given.is_empty() {
        return refuse(
            index,
            "days",
            "no day is named, so it would never open; leave it out for every day",
        );
    }
    Ok(days)
}

fn time(index: usize, field: &str, text: &str) -> Result<Time, PolicyError> {
    let part = |text: &str| -> Option<i8> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let parsed = text
        .split_once(':')
        .and_then(|(hour, minute)| Time::new(part(hour)?, part(minute)?, 0, 0).ok());
    match parsed {
        Some(time) => Ok(time),
        None => {
            let text: String = text.chars().take(40).collect();
            let why = format!("{text:?} is no time of day; use 00:00 to 23:59");
            refuse(index, field, why)
        }
    }
}

impl MaintenanceWindow {
    /// Whether it binds a host with these labels.
    #[must_use]
    pub fn binds(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_none_or(|s| s.matches(labels))
    }

    /// Whether it is open at this time of the wall clock. A clock outside the years that can be told
    /// finds it closed.
    #[must_use]
    pub fn is_open(&self, unix_ms: u64) -> bool {
        let Some(now) = self.local(unix_ms) else {
            return false;
        };
        let time = now.time();
        let today = now.weekday().to_monday_zero_offset() as usize;
        let yesterday = (today + 6) % 7;
        if self.from < self.until {
            self.days[today] && (self.from..self.until).contains(&time)
        } else {
            self.days[today] && time >= self.from || self.days[yesterday] && time < self.until
        }
    }

    /// When it opens next, by the wall clock; `None` if not within eight days.
    #[must_use]
    pub fn opens_at(&self, unix_ms: u64) -> Option<u64> {
        let now = self.local(unix_ms)?;
        (0..=DAYS_AHEAD).find_map(|ahead| {
            let date = now.date().checked_add(ahead.days()).ok()?;
            let day = date.weekday().to_monday_zero_offset() as usize;
            let opens = date
                .to_datetime(self.from)
                .to_zoned(self.zone.clone())
                .ok()?;
            let at = u64::try_from(opens.timestamp().as_millisecond()).ok()?;
            (self.days[day] && at > unix_ms && self.is_open(at)).then_some(at)
        })
    }

    /// How it is told to people: `22:00-05:00 Europe/Berlin on sat, sun`.
    #[must_use]
    pub fn words(&self) -> String {
        let short = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        let mut words = format!(
            "{}-{} {}",
            short(self.from),
            short(self.until),
            self.zone_name
        );
        if self.days.contains(&false) {
            let open = DAYS.iter().zip(self.days).filter(|(_, open)| *open);
            let named: Vec<&str> = open.map(|(day, _)| *day).collect();
            words.push_str(&format!(" on {}", named.join(", ")));
        }
        words
    }

    fn local(&self, unix_ms: u64) -> Option<Zoned> {
        let ms = i64::try_from(unix_ms).ok()?;
        let instant = Moment::from_millisecond(ms).ok()?;
        Some(instant.to_zoned(self.zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::Policy;

    const RING: &str = "[[ring]]\nname = \"all\"\n";

    fn window(text: &str) -> MaintenanceWindow {
        let text = format!("{RING}[[maintenance]]\nname = \"w\"\n{text}");
        Policy::parse(&text).unwrap().maintenance.remove(0)
    }

    fn unix_ms(text: &str) -> u64 {
        let instant: Moment = text.parse().unwrap();
        u64::try_from(instant.as_millisecond()).unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let w = window("days = [\"sat\"]\nfrom = \"22:00\"\nuntil = \"05:00\"");
        // 2026-11-21 is a Saturday.
        for (at, open) in [
            ("2026-11-21T04:59:00Z", false),
            ("2026-11-21T21:59:59Z", false),
            ("2026-11-21T22:00:00Z", true),
            ("2026-11-22T04:59:59Z", true),
            ("2026-11-22T05:00:00Z", false),
            ("2026-11-22T23:00:00Z", false),
        ] {
            assert_eq!(w.is_open(unix_ms(at)), open, "{at}");
        }
        assert_eq!(
            w.opens_at(unix_ms("2026-11-21T22:00:00Z")),
            Some(unix_ms("2026-11-28T22:00:00Z"))
        );
    }

    #[test]
    fn a_window_follows_the_clock_on_the_wall_of_its_zone() {
        let w = window("from = \"02:00\"\nuntil = \"03:00\"\nzone = \"Europe/Berlin\"");
        // Winter time is an hour, summer time two hours ahead of UTC.
        assert!(w.is_open(unix_ms("2026-01-10T01:30:00Z")));
        assert!(w.is_open(unix_ms("2026-07-10T00:30:00Z")));
        assert!(!w.is_open(unix_ms("2026-07-10T01:30:00Z")));
        // On 2026-03-29 the clock goes from 02:00 to 03:00; on 2026-10-25 it shows 02:30 twice.
        let night = unix_ms("2026-03-28T20:00:00Z");
        let minutes = (0..480).filter(|m| w.is_open(night + m * 60_000)).count();
        assert_eq!(minutes, 0);
        assert_eq!(w.opens_at(night), Some(unix_ms("2026-03-30T00:00:00Z")));
        let night = unix_ms("2026-10-24T20:00:00Z");
        let minutes = (0..480).filter(|m| w.is_open(night + m * 60_000)).count();
        assert_eq!(minutes, 120);
    }

    #[test]
    fn the_same_time_twice_is_a_whole_day_and_nonsense_clocks_find_it_closed() {
        let w = window("days = [\"mon\"]\nfrom = \"06:00\"\nuntil = \"06:00\"");
        let monday = unix_ms("2026-11-23T06:00:00Z");
        let open = (0..7 * 24).filter(|h| w.is_open(monday + h * 3_600_000));
        assert_eq!(open.count(), 24);
        for nonsense in [u64::MAX, i64::MAX as u64, 400_000_000_000_000] {
            assert!(!w.is_open(nonsense));
            assert_eq!(w.opens_at(nonsense), None);
        }
    }

    #[test]
    fn it_is_open_exactly_from_each_opening_it_foretold() {
        let w = window(
            "days = [\"tue\", \"sun\"]\nfrom = \"23:30\"\nuntil = \"01:00\"\nzone = \"America/New_York\"",
        );
        let mut at = unix_ms("2026-10-20T00:00:00Z");
        for _ in 0..20 {
            let next = w.opens_at(at).unwrap();
            assert!(w.is_open(next) && !w.is_open(next - 1));
            let before = (at / 60_000 + 1..next / 60_000).map(|m| m * 60_000);
            let closed_again = before.skip_while(|t| w.is_open(*t)).all(|t| !w.is_open(t));
            assert!(closed_again, "open before {next} without being foretold");
            at = next;
        }
    }

    #[test]
    fn each_nonsense_is_refused_by_the_name_of_its_field() {
        for (text, field) in [
            (
                "name = \"Night\"\nfrom = \"1:00\"\nuntil = \"02:00\"",
                "maintenance[0].name",
            ),
            (
                "name = \"w\"\nfrom = \"1:00\"\nuntil = \"02:00\"",
                "maintenance[0].from",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"24:00\"",
                "maintenance[0].until",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"+1:00\"",
                "maintenance[0].until",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"\nzone = \"Mars/Olympus\"",
                "maintenance[0].zone",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"\ndays = []",
                "maintenance[0].days",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"\ndays = [\"funday\"]",
                "maintenance[0].days",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"\nselector = \"a=\"",
                "maintenance[0].selector",
            ),
            (
                "name = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"\n[[maintenance]]\nname = \"w\"\nfrom = \"01:00\"\nuntil = \"02:00\"",
                "maintenance[1].name",
            ),
            ("name = \"w\"\nfrom = \"01:00\"", "line"),
        ] {
            let text = format!("{RING}[[maintenance]]\n{text}");
            let error = Policy::parse(&text).unwrap_err();
            assert!(error.field.contains(field), "{text}\n{error}");
            assert!(!error.why.is_empty());
        }
    }
}
