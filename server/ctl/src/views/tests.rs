//! Golden tests of what people read.
#![allow(clippy::unwrap_used)]

use super::{Width, hosts, outcome, releases, rings, rollouts, samples, tokens, tree};
use insta::assert_snapshot;
use ringward_domain::command::Outcome;
use ringward_domain::host::HostState;
use ringward_domain::report::{MemberState, WaitWhy};
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{BootId, HostId, Millis, RolloutId, SignalSeq};
use ringward_wire::host::HostPage;
use ringward_wire::policy::{PolicyView, RingSummary};
use ringward_wire::token::{TokenSpec, TokenView};
use ringward_wire::watch::Andon;

fn page() -> HostPage {
    let mut hostile = samples::host(2);
    hostile.facts.hostname = "till\u{1b}[31m\u{202e}8".into();
    hostile.state = HostState::Pending;
    hostile.connected = false;
    hostile.last_seen_ms = Millis::mins(90);
    hostile.attention = vec!["cannot self-heal\nsee the guard".into()];
    HostPage {
        hosts: vec![samples::host(1), hostile],
        next: Vec::new(),
        total: 2,
        filtered_out: 5,
    }
}

#[test]
fn a_table_of_hosts() {
    assert_snapshot!(hosts::list(&page(), Width::Table));
}

#[test]
fn a_wide_table_of_hosts() {
    assert_snapshot!(hosts::list(&page(), Width::Wide));
}

#[test]
fn one_host_in_full() {
    let mut host = samples::host(1);
    host.signals = vec![Signal {
        seq: SignalSeq(7),
        kind: SignalKind::Unknown(4711),
        key: "k".into(),
        boot: BootId([1; 16]),
        at_boottime: Millis(5),
        release: None,
        title: "something\u{7} new".into(),
        signature: String::new(),
        evidence: "{}".into(),
    }];
    assert_snapshot!(hosts::show(&host));
}

#[test]
fn a_table_of_releases() {
    let list = [samples::release(2), samples::release(1)];
    assert_snapshot!(releases::list(&list, Width::Table));
}

#[test]
fn a_table_of_rollouts_under_the_andon() {
    let andon = Andon {
        actor: "bob".into(),
        reason: "smoke in the data centre".into(),
        since_unix_ms: 1_700_000_000_000,
    };
    let list = [samples::rollout(0xab)];
    assert_snapshot!(rollouts::list(&list, Some(&andon), Width::Table));
}

#[test]
fn one_rollout_in_full() {
    assert_snapshot!(rollouts::show(&samples::rollout(0xab)));
}

#[test]
fn a_rollout_as_a_tree_and_as_a_line() {
    let rollout = samples::rollout(0xab);
    let mut text = tree::tree(&rollout, 100).join("\n");
    text.push_str("\n---\n");
    text.push_str(&tree::line(&rollout));
    assert_snapshot!(text);
}

#[test]
fn no_line_of_a_tree_is_wider_than_the_terminal() {
    let mut rollout = samples::rollout(0xab);
    rollout.state_reason = "very long ".repeat(50);
    for width in [1, 20, 80] {
        for line in tree::tree(&rollout, width) {
            assert!(line.chars().count() <= width, "{line:?}");
        }
    }
}

#[test]
fn a_table_of_members() {
    let members = [
        samples::member(1, "till-1", MemberState::Waiting(WaitWhy::WindowFull)),
        samples::member(2, "till-2", MemberState::Confirmed),
    ];
    assert_snapshot!(rollouts::members_table(&members));
}

#[test]
fn an_outcome_says_who_was_not_counted_and_why() {
    let outcome = Outcome {
        summary: "would start a rollout of demo 1.1 over 13 hosts".into(),
        rollout: Some(RolloutId(0xab)),
        hosts: vec![
            ("canary".into(), vec![HostId(1), HostId(2)]),
            ("broad".into(), (3..14).map(HostId).collect()),
        ],
        left_out: vec![
            (HostId(20), "frozen by a person".into()),
            (HostId(21), "not an active host".into()),
            (HostId(22), "not an active host".into()),
        ],
        warnings: vec!["boot unproven: verify_boot is off in ring canary".into()],
        order: None,
        approval: None,
    };
    assert_snapshot!(outcome::show(&outcome, true));
}

#[test]
fn a_table_of_tokens() {
    let token = TokenView {
        id: "0123456789abcdef".into(),
        spec: TokenSpec {
            uses: 5,
            life_ms: Millis::hours(24),
            labels: [("site".into(), "kassel".into())].into(),
            approve: true,
            ephemeral_ms: None,
            networks: Vec::new(),
            only: String::new(),
        },
        used: 2,
        revoked: false,
        expired: false,
        created_unix_ms: 1_700_000_000_000,
        expires_unix_ms: 1_700_086_400_000,
        created_by: "alice".into(),
        reason: "new tills".into(),
    };
    assert_snapshot!(tokens::list(&[token]));
}

#[test]
fn a_table_of_rings() {
    let ring = |name: &str, matches: &str, hosts| RingSummary {
        name: name.parse().unwrap(),
        matches: matches.into(),
        hosts,
        soak_ms: Millis::mins(15),
        verify_boot: name == "canary",
    };
    let policy = PolicyView {
        policy_toml: String::new(),
        rings: vec![
            ring("canary", "1 % of the fleet", 2),
            ring("broad", "the rest", 201),
        ],
        applied_by: "alice".into(),
        applied_unix_ms: 1_700_000_000_000,
    };
    assert_snapshot!(rings::list(&policy));
}

#[test]
fn what_is_empty_names_the_command_that_fills_it() {
    let none = PolicyView {
        policy_toml: String::new(),
        rings: Vec::new(),
        applied_by: String::new(),
        applied_unix_ms: 0,
    };
    let filtered = HostPage {
        filtered_out: 9,
        ..HostPage::default()
    };
    let texts = [
        hosts::list(&HostPage::default(), Width::Table),
        hosts::list(&filtered, Width::Table),
        releases::list(&[], Width::Table),
        rollouts::list(&[], None, Width::Table),
        tokens::list(&[]),
        rings::list(&none),
    ];
    assert_snapshot!(texts.concat());
}
