#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn alert(kind: Kind, subject: &str) -> Alert {
    Alert {
        kind,
        subject: subject.to_owned(),
        title: "it \u{1b}[31mhalted\nby itself".to_owned(),
        next: "look".to_owned(),
    }
}

fn endpoint(name: &str, kinds: &[Kind]) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        kinds: kinds.iter().copied().collect(),
    }
}

fn at(secs: u64) -> Moment {
    Moment {
        now: Timestamp(secs * 1000),
        unix_ms: 1_800_000_000_000 + secs * 1000,
    }
}

fn dice() -> impl FnMut() -> u64 {
    let mut n = 0;
    move || {
        n += 1;
        n
    }
}

fn told(outbox: &Outbox) -> Vec<String> {
    outbox
        .queue
        .iter()
        .map(|d| {
            let body: serde_json::Value = serde_json::from_str(&d.body).unwrap();
            body["type"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn an_alert_is_told_once_and_once_that_it_is_over() {
    let (mut outbox, mut dice) = (Outbox::default(), dice());
    let to = [endpoint("a", &Kind::ALL)];
    for second in 0..5 {
        let changed = outbox.observe(vec![alert(Kind::Halt, "1")], &to, at(second), &mut dice);
        assert_eq!(changed, second == 0);
    }
    // A restart forgets nothing of it.
    let written = serde_json::to_vec(&outbox).unwrap();
    let mut outbox: Outbox = serde_json::from_slice(&written).unwrap();
    outbox.observe(vec![alert(Kind::Halt, "1")], &to, at(6), &mut dice);
    outbox.observe(Vec::new(), &to, at(7), &mut dice);
    outbox.observe(Vec::new(), &to, at(8), &mut dice);
    assert_eq!(told(&outbox), ["halt.fired", "halt.resolved"]);
}

#[test]
fn a_hold_that_lifts_itself_in_time_is_nobodys_business() {
    let (mut outbox, mut dice) = (Outbox::default(), dice());
    let to = [endpoint("a", &Kind::ALL)];
    let hold = || vec![alert(Kind::Hold, "1")];
    outbox.observe(hold(), &to, at(0), &mut dice);
    outbox.observe(hold(), &to, at(29 * 60), &mut dice);
    outbox.observe(Vec::new(), &to, at(29 * 60 + 1), &mut dice);
    assert!(told(&outbox).is_empty());
    outbox.observe(hold(), &to, at(40 * 60), &mut dice);
    outbox.observe(hold(), &to, at(70 * 60), &mut dice);
    assert_eq!(told(&outbox), ["hold.fired"]);
}

#[test]
fn an_endpoint_hears_only_what_it_asked_for_and_nothing_steers_a_terminal() {
    let (mut outbox, mut dice) = (Outbox::default(), dice());
    let to = [endpoint("a", &[Kind::Andon]), endpoint("b", &Kind::ALL)];
    outbox.observe(vec![alert(Kind::Halt, "1")], &to, at(0), &mut dice);
    let made: Vec<&str> = outbox.queue.iter().map(|d| d.endpoint.as_str()).collect();
    assert_eq!(made, ["b"]);
    let body: serde_json::Value = serde_json::from_str(&outbox.queue[0].body).unwrap();
    assert_eq!(body["data"]["title"], "it [31mhaltedby itself");
}

#[test]
fn what_fails_is_tried_for_more_than_a_day_and_then_is_a_dead_letter_to_be_replayed() {
    let (mut outbox, mut dice) = (Outbox::default(), dice());
    let to = [endpoint("a", &Kind::ALL)];
    outbox.observe(vec![alert(Kind::Halt, "1")], &to, at(0), &mut dice);
    let id = outbox.queue[0].id.clone();
    let mut now = Timestamp(0);
    let mut tries = 0;
    while let Some(due) = outbox.next_due() {
        assert!(due >= now);
        now = due;
        tries += 1;
        outbox.failed((&id, "a"), "503", false, now, &mut dice);
    }
    assert_eq!(tries, PAUSES.len() + 1);
    assert!(now.since(Timestamp(0)) > Millis::hours(24), "{now:?}");
    let dead: Vec<_> = outbox.dead().cloned().collect();
    assert_eq!((dead.len(), dead[0].why.as_str()), (1, "503"));
    assert_eq!(outbox.replay(Some("msg_other"), now), 0);
    assert_eq!(outbox.replay(Some(&id), now), 1);
    assert_eq!(outbox.due(now).next().unwrap().id, id);
    outbox.delivered(&id, "a");
    assert_eq!((outbox.next_due(), outbox.dead().count()), (None, 0));
}

#[test]
fn a_receiver_that_is_gone_is_not_tried_again() {
    let (mut outbox, mut dice) = (Outbox::default(), dice());
    let to = endpoint("a", &Kind::ALL);
    let id = outbox.test(&to, "ada", at(0), &mut dice).unwrap();
    outbox.failed((&id, "a"), "410", true, Timestamp(0), &mut dice);
    assert_eq!((outbox.next_due(), outbox.dead().count()), (None, 1));
}

proptest! {
    /// Whatever comes and goes, each endpoint hears of each alert by turns that it began and that it
    /// is over, and nothing grows without bound.
    #[test]
    fn beginnings_and_ends_alternate_and_everything_is_bounded(
        rounds in proptest::collection::vec((0u8..8, 0u64..4000), 1..200),
    ) {
        let (mut outbox, mut dice) = (Outbox::default(), dice());
        let to = [endpoint("a", &Kind::ALL), endpoint("b", &[Kind::Halt])];
        let (mut now, mut heard) = (0, BTreeMap::<(String, String), Vec<String>>::new());
        for (which, pause) in rounds {
            now += pause;
            let standing = [(1, Kind::Halt), (2, Kind::Hold), (4, Kind::Andon)];
            let alerts = standing.into_iter().filter(|(bit, _)| which & bit != 0);
            let alerts = alerts.map(|(_, kind)| alert(kind, "1")).collect();
            outbox.observe(alerts, &to, at(now), &mut dice);
            let due: Vec<Delivery> = outbox.due(Timestamp(now * 1000)).cloned().collect();
            for delivery in due {
                let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
                let state = body["data"]["state"].as_str().unwrap().to_owned();
                heard.entry((delivery.endpoint.clone(), delivery.kind.to_string())).or_default().push(state);
                outbox.delivered(&delivery.id, &delivery.endpoint);
            }
            prop_assert!(outbox.queue.len() <= QUEUE_MAX && outbox.dead.len() <= DEAD_MAX);
        }
        for ((endpoint, kind), states) in heard {
            prop_assert!(endpoint == "a" || kind == "halt");
            for (at, state) in states.iter().enumerate() {
                prop_assert_eq!(state, ["fired", "resolved"][at % 2]);
            }
        }
    }
}
