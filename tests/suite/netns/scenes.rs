//! The scenes: what the issue of containment promises, one after another.

use crate::hosts::{Lab, wait_for};
use crate::net::Node;
use crate::talk::{Talker, now_ms};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

type Scene = fn(&mut Lab) -> Result<String>;

/// All scenes.
pub const ALL: &[(&str, Scene)] = &[
    ("bystander traffic and live connections are cut", cut),
    (
        "the server stays reachable, the other host untouched",
        reachable,
    ),
    ("a release compares equal", release),
    ("an allow list stays open and nothing beside it", allow_list),
    ("a changed server address is followed", address_change),
    ("a flushed table is restored", flush),
    ("kill -9 in every step of closing and opening", kills),
    ("a failing proof is undone", failing_proof),
    (
        "a server unreachable before too frees nobody",
        unreachable_before,
    ),
];

/// After the order (DESIGN §2.7).
const CUT_WITHIN_MS: u64 = 2_000;
const RESTORED_WITHIN: Duration = Duration::from_secs(2);
/// Silence is watched for this long.
const WATCHED: Duration = Duration::from_secs(4);

/// The latest answer to any talker after `from_ms`, in milliseconds from then.
fn latest(talkers: &[Talker], from_ms: u64) -> (u64, String) {
    talkers
        .iter()
        .map(|talker| {
            (
                talker.last_ms().saturating_sub(from_ms),
                talker.name.clone(),
            )
        })
        .max()
        .unwrap_or_default()
}

fn cut(lab: &mut Lab) -> Result<String> {
    let talkers = lab.talkers(Node::One)?;
    count_packets(lab)?;
    let asked = now_ms();
    lab.quarantine(Node::One, &[])?;
    // The server has taken the order.
    let ordered = now_ms();
    lab.until_closed(Node::One)?;
    let before = seen_packets(lab)?;
    std::thread::sleep(WATCHED);
    let after = seen_packets(lab)?;
    let (late, who) = latest(&talkers, ordered);
    ensure!(
        late <= CUT_WITHIN_MS,
        "{who} was answered {late} ms after the order"
    );
    ensure!(
        before == after,
        "the bystander saw packets of the host after the proof: {before}, then {after}"
    );
    Ok(format!(
        "{} talkers, last answer {late} ms after the order was taken, {} ms after it was typed; no packet \
         after",
        talkers.len(),
        latest(&talkers, asked).0
    ))
}

/// What the bystander sees of the host, but for the discovery of neighbours.
fn count_packets(lab: &Lab) -> Result<()> {
    let line = format!(
        "nft 'table inet seen {{ counter total {{}}; chain in {{ type filter hook prerouting priority -400; \
         icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept; \
         ip saddr {} counter name total; ip6 saddr {} counter name total; }}; }}'",
        Node::One.v4(),
        Node::One.v6()
    );
    let _ = lab.net.say(Node::Bystander, "nft delete table inet seen");
    lab.net.say(Node::Bystander, &line).map(drop)
}

fn seen_packets(lab: &Lab) -> Result<String> {
    let text = lab
        .net
        .say(Node::Bystander, "nft list counters table inet seen")?;
    let line = text.lines().find(|line| line.contains("packets"));
    Ok(line.context("no counter")?.trim().to_owned())
}

fn reachable(lab: &mut Lab) -> Result<String> {
    let others = lab.talkers(Node::Two)?;
    lab.quarantine(Node::One, &[])?;
    lab.until_closed(Node::One)?;
    // A new session through the closed net, and an order over it.
    lab.kill(Node::One);
    lab.start(Node::One)?;
    lab.until_online(Node::One)?;
    lab.until_closed(Node::One)?;
    let now = now_ms();
    wait_for("answers to the other host", Duration::from_secs(5), || {
        Ok(others
            .iter()
            .all(|talker| talker.last_ms() > now)
            .then_some(()))
    })?;
    lab.release(Node::One)?;
    lab.until_open(Node::One)?;
    Ok("a new session, a release over it".to_owned())
}

fn release(lab: &mut Lab) -> Result<String> {
    let before = lab.rules(Node::One)?;
    lab.quarantine(Node::One, &[])?;
    lab.until_closed(Node::One)?;
    let ours = lab.net.say(Node::One, "nft -s list table inet ringward")?;
    let during = lab.rules(Node::One)?.replace(&ours, "");
    ensure!(
        during.trim() == before.trim(),
        "other tables changed:\n{during}\nwas\n{before}"
    );
    lab.release(Node::One)?;
    lab.until_open(Node::One)?;
    let talkers = lab.talkers(Node::One)?;
    Ok(format!(
        "{} lines of others' rules, {} talkers answered again",
        before.lines().count(),
        talkers.len()
    ))
}

fn allow_list(lab: &mut Lab) -> Result<String> {
    let talkers = lab.talkers(Node::One)?;
    let allowed = format!("tcp/9000@{}", Node::Bystander.v4());
    lab.quarantine(Node::One, &["--allow", &allowed])?;
    lab.until_closed(Node::One)?;
    std::thread::sleep(Duration::from_secs(1));
    let closed = now_ms();
    std::thread::sleep(WATCHED);
    let open: Vec<&str> = talkers
        .iter()
        .filter(|talker| talker.last_ms() > closed)
        .map(|talker| talker.name.as_str())
        .collect();
    ensure!(
        open == ["one-bystander-live-v4", "one-bystander-fresh-v4"],
        "open were {open:?}"
    );
    Ok("one port of one address, begun by the host alone".to_owned())
}

fn address_change(lab: &mut Lab) -> Result<String> {
    lab.quarantine(Node::One, &[])?;
    lab.until_closed(Node::One)?;
    lab.net.say(
        Node::Server,
        "ip addr del 10.77.0.1/24 dev eth0 && ip addr add 10.77.0.2/24 dev eth0",
    )?;
    lab.name_server(Node::One, "10.77.0.2")?;
    let moved = Instant::now();
    let followed = wait_for("rules for the new address", Duration::from_secs(90), || {
        let table = lab.net.say(Node::One, "nft list table inet ringward")?;
        let there = table.contains("10.77.0.2 ") && !table.contains("10.77.0.1 ");
        Ok(there.then(|| moved.elapsed().as_secs_f64()))
    });
    let released = followed.and_then(|seconds| {
        lab.release(Node::One)?;
        wait_for(
            "a release over the new address",
            Duration::from_secs(90),
            || Ok((!lab.stands(Node::One)).then_some(())),
        )?;
        Ok(seconds)
    });
    lab.net.say(
        Node::Server,
        "ip addr del 10.77.0.2/24 dev eth0; ip addr add 10.77.0.1/24 dev eth0",
    )?;
    lab.name_server(Node::One, "10.77.0.1")?;
    // Its session to the other address is dead, and neither side notices before its keepalive: the next
    // scene begins with a new one.
    lab.kill(Node::One);
    Ok(format!("rules follow {:.1} s after the move", released?))
}

fn flush(lab: &mut Lab) -> Result<String> {
    let talkers = lab.talkers(Node::One)?;
    lab.quarantine(Node::One, &[])?;
    lab.until_closed(Node::One)?;
    let others = lab.file(Node::One, "others.nft").display().to_string();
    let mut worst = Duration::ZERO;
    let lines = [
        format!("nft flush ruleset && nft -f {others}"),
        "nft delete table inet ringward".to_owned(),
        "nft flush chain inet ringward send".to_owned(),
        "nft insert rule inet ringward send accept".to_owned(),
        "nft delete table inet ringward; sleep 0.3; nft delete table inet ringward".to_owned(),
    ];
    let made = lab.net.say(Node::One, "nft -s list table inet ringward")?;
    let mut last = 0;
    for line in &lines {
        lab.net.say(Node::One, line)?;
        last = now_ms();
        let begun = Instant::now();
        wait_for("the table as it was", Duration::from_secs(10), || {
            let now = lab.net.say(Node::One, "nft -s list table inet ringward")?;
            Ok((now == made).then_some(()))
        })
        .with_context(|| line.clone())?;
        worst = worst.max(begun.elapsed());
    }
    ensure!(worst <= RESTORED_WITHIN, "restored after {worst:?}");
    std::thread::sleep(WATCHED);
    let (late, who) = latest(&talkers, last);
    ensure!(late <= CUT_WITHIN_MS, "{who} was answered {late} ms later");
    Ok(format!(
        "{} ways of it, each restored within {} ms",
        lines.len(),
        worst.as_millis()
    ))
}

fn kills(lab: &mut Lab) -> Result<String> {
    let node = Node::One;
    let mut killed = 0;
    // Around the transactions themselves...
    for when in ["before", "after"] {
        for close in [true, false] {
            lab.hook(node, when, Some("kill -9 $1"))?;
            order(lab, node, close)?;
            lab.died(node)?;
            lab.hook(node, when, None)?;
            lab.start(node)?;
            came_about(lab, node, close).with_context(|| format!("{when}, close {close}"))?;
            killed += 1;
        }
    }
    // ...and anywhere between order and proof.
    for (turn, after_ms) in [0, 10, 25, 45, 70, 100, 150, 220].iter().enumerate() {
        for close in [true, false] {
            order(lab, node, close)?;
            std::thread::sleep(Duration::from_millis(*after_ms));
            lab.kill(node);
            if turn % 3 == 0 {
                // A second death right after the start.
                lab.start(node)?;
                std::thread::sleep(Duration::from_millis(*after_ms));
                lab.kill(node);
            }
            lab.start(node)?;
            came_about(lab, node, close)
                .with_context(|| format!("killed {after_ms} ms after, close {close}"))?;
            killed += 1;
        }
    }
    Ok(format!("{killed} kills, each time the order came about"))
}

fn order(lab: &mut Lab, node: Node, close: bool) -> Result<()> {
    match close {
        true => lab.quarantine(node, &[]),
        false => lab.release(node),
    }
}

fn came_about(lab: &mut Lab, node: Node, close: bool) -> Result<()> {
    match close {
        true => lab.until_closed(node),
        false => lab.until_open(node),
    }
}

fn failing_proof(lab: &mut Lab) -> Result<String> {
    // The moment the net closes, the way to the server is gone.
    let line = lab.net.cut_line(Node::Server, false);
    lab.hook(Node::One, "before", Some(&line))?;
    lab.quarantine(Node::One, &[])?;
    wait_for("the net closed", Duration::from_secs(5), || {
        Ok(lab.stands(Node::One).then_some(()))
    })?;
    let closed = Instant::now();
    let undone = wait_for("the isolation undone", Duration::from_secs(75), || {
        Ok((!lab.stands(Node::One)).then(|| closed.elapsed().as_secs_f64()))
    })?;
    wait_for("the reason in the record", Duration::from_secs(5), || {
        Ok(lab
            .stage(Node::One)
            .contains("server-unreachable")
            .then_some(()))
    })?;
    ensure!(
        undone > 30.0,
        "given up after {undone:.0} s, before three tries"
    );
    lab.until_open(Node::One)?;
    Ok(format!("open again after {undone:.0} s"))
}

fn unreachable_before(lab: &mut Lab) -> Result<String> {
    // The order is on disk, then the server is gone and the agent dies, before the net closes.
    let line = format!(
        "{}\nkill -9 $1\nsleep 1\nexit 1",
        lab.net.cut_line(Node::Server, false)
    );
    lab.hook(Node::One, "before", Some(&line))?;
    // The transaction under way dies with its shell.
    let gone = "nft delete table inet ringward 2>/dev/null";
    lab.hook(Node::One, "after", Some(gone))?;
    lab.quarantine(Node::One, &[])?;
    lab.died(Node::One)?;
    wait_for("an open net", Duration::from_secs(5), || {
        Ok((!lab.stands(Node::One)).then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(2));
    lab.hook(Node::One, "before", None)?;
    lab.hook(Node::One, "after", None)?;
    ensure!(!lab.stands(Node::One), "the net is closed already");
    lab.start(Node::One)?;
    wait_for("the net closed", Duration::from_secs(40), || {
        Ok(lab.stands(Node::One).then_some(()))
    })?;
    let closed = Instant::now();
    wait_for("the proof given up", Duration::from_secs(90), || {
        Ok(lab.stage(Node::One).contains("unproven").then_some(()))
    })
    .with_context(|| lab.stage(Node::One))?;
    ensure!(lab.stands(Node::One), "the host is free");
    let seconds = closed.elapsed().as_secs_f64();
    lab.net.cut(Node::Server, true)?;
    lab.until_online(Node::One)?;
    ensure!(
        lab.is_closed(Node::One),
        "the host is free: {}",
        lab.stage(Node::One)
    );
    Ok(format!(
        "still closed after {seconds:.0} s of it, and with the server back"
    ))
}
