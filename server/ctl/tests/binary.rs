//! The binary against a scripted server: what it orders, what it prints, how it exits.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Script, Server, serve};
use ringward_domain::command::{Outcome, Refusal};
use ringward_domain::report::{Decision, RolloutState, RolloutView, VerdictReport};
use ringward_domain::{AssignmentKind, HostId, ReleaseDigest, RolloutId};
use ringward_wire::status;
use std::path::Path;
use std::process::{Output, Stdio};

const DIGEST: &str = "0202020202020202020202020202020202020202020202020202020202020202";

fn view(id: u64, state: RolloutState, reason: &str) -> RolloutView {
    RolloutView {
        id: RolloutId(id),
        kind: AssignmentKind::Install,
        package: "demo".parse().unwrap(),
        version: "1.1".parse().unwrap(),
        release: ReleaseDigest([2; 32]),
        leaves: None,
        state,
        state_reason: reason.into(),
        started_unix_ms: 0,
        started_by: "alice".into(),
        reason: String::new(),
        rings: Vec::new(),
        verdict: VerdictReport {
            decision: Decision::Continue,
            sentence: String::new(),
            failed: 0,
            confirmed: 0,
            censored: 0,
            control_failures: 0,
            control_units: 0.0,
            p0: 0.0,
            upper_bound: 1.0,
            e_value: 1.0,
            e_threshold: 1428.0,
            max_failed: 1,
            smallest_detectable_rate: None,
            failures_to_halt: 2,
            assumed: false,
            strata: Vec::new(),
        },
        silent_hosts: Vec::new(),
        failed_hosts: Vec::new(),
        evidence_to_halt_ms: None,
        notes: Vec::new(),
        suspects: Vec::new(),
        proposal: String::new(),
        forecast: None,
        causes: Vec::new(),
    }
}

/// What `Start` answers: a rollout over three hosts.
fn started() -> Option<Result<ringward_wire::pb::Outcome, tonic::Status>> {
    Some(Ok(Outcome {
        summary: "starts demo 1.1 over 3 hosts".into(),
        rollout: Some(RolloutId(0xab)),
        hosts: vec![("canary".into(), vec![HostId(1), HostId(2), HostId(3)])],
        left_out: vec![(HostId(9), "frozen by a person".into())],
        warnings: Vec::new(),
        order: None,
        approval: None,
    }
    .into()))
}

async fn ctl_with(context: &Path, args: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_ringwardctl"))
        .arg("--context")
        .arg(context)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

async fn ctl(server: &Server, args: &[&str]) -> Output {
    ctl_with(&server.context, args).await
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn without_a_terminal_many_hosts_are_touched_only_with_yes() {
    let server = serve(Script {
        start: started(),
        ..Script::default()
    })
    .await;
    let asked = ctl(&server, &["rollouts", "start", DIGEST]).await;
    assert_eq!(asked.status.code(), Some(5), "{}", err(&asked));
    assert!(err(&asked).contains("canary: 3 hosts"), "{}", err(&asked));
    assert!(err(&asked).contains("not counted: 1 host, frozen"));
    assert!(err(&asked).contains("--yes"), "{}", err(&asked));
    assert_eq!(server.fake.orders(), [("start", true)]);

    let told = ctl(&server, &["rollouts", "start", DIGEST, "--yes"]).await;
    assert_eq!(told.status.code(), Some(0), "{}", err(&told));
    assert_eq!(server.fake.orders(), [("start", true), ("start", false)]);
}

#[tokio::test]
async fn a_dry_run_orders_nothing() {
    let server = serve(Script {
        start: started(),
        ..Script::default()
    })
    .await;
    let dry = ctl(&server, &["rollouts", "start", DIGEST, "--dry-run"]).await;
    assert_eq!(dry.status.code(), Some(0), "{}", err(&dry));
    assert!(out(&dry).starts_with("dry run, nothing was done: starts demo 1.1"));
    assert_eq!(server.fake.orders(), [("start", true)]);
}

#[tokio::test]
async fn brakes_never_ask() {
    let server = serve(Script::default()).await;
    for args in [
        vec!["stop-all", "-m", "smoke"],
        vec!["rollouts", "pause", "r-00000000000000ab"],
        vec!["rollouts", "abort", "r-00000000000000ab"],
    ] {
        let done = ctl(&server, &args).await;
        assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    }
    let orders = [("stop-all", false), ("pause", false), ("abort", false)];
    assert_eq!(server.fake.orders(), orders);
}

#[tokio::test]
async fn waiting_for_a_rollout_that_halts_exits_with_3_and_its_reason() {
    let server = serve(Script {
        start: started(),
        watched: vec![
            view(0xab, RolloutState::Running, ""),
            view(
                0xab,
                RolloutState::Halted,
                "2 of 3 exposures failed\u{1b}[2J",
            ),
        ],
        ..Script::default()
    })
    .await;
    let halted = ctl(&server, &["rollouts", "start", DIGEST, "--yes", "--watch"]).await;
    assert_eq!(halted.status.code(), Some(3), "{}", err(&halted));
    let text = err(&halted);
    assert!(text.contains("install demo 1.1 running"), "{text}");
    assert!(
        text.contains("halted: 2 of 3 exposures failed\\u{1b}[2J"),
        "{text}"
    );
    assert!(
        text.contains("next: look at it with `ringwardctl rollouts show"),
        "{text}"
    );
}

#[tokio::test]
async fn waiting_for_a_rollout_that_completes_exits_with_0() {
    let server = serve(Script {
        watched: vec![view(0xab, RolloutState::Completed, "")],
        rollouts: vec![view(0xab, RolloutState::Running, "")],
        ..Script::default()
    })
    .await;
    let done = ctl(&server, &["rollouts", "watch", "-o", "json"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let json: serde_json::Value = serde_json::from_str(&out(&done)).unwrap();
    assert_eq!(json["state"], "completed");
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_over() {
    let server = serve(Script {
        watched: vec![view(0xab, RolloutState::Paused, "lunch")],
        ..Script::default()
    })
    .await;
    let args = [
        "rollouts",
        "watch",
        "r-00000000000000ab",
        "--timeout",
        "300ms",
    ];
    let late = ctl(&server, &args).await;
    assert_eq!(late.status.code(), Some(6), "{}", err(&late));
    assert!(err(&late).contains("still paused"), "{}", err(&late));
}

#[tokio::test]
async fn a_refusal_shows_its_cause_and_the_next_step() {
    let server = serve(Script {
        start: Some(Err(status::refused(&Refusal::Conflict {
            what: "starting demo 1.1".into(),
            why: "another rollout of demo runs".into(),
            next: "abort it or wait".into(),
        }))),
        ..Script::default()
    })
    .await;
    let refused = ctl(&server, &["rollouts", "start", DIGEST, "--yes"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let text = err(&refused);
    assert!(text.contains("another rollout of demo runs"), "{text}");
    assert!(text.contains("next: abort it or wait"), "{text}");
    assert_eq!(text.matches("abort it or wait").count(), 1, "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_exits_with_4_and_says_what_to_check() {
    let server = serve(Script::default()).await;
    let text = std::fs::read_to_string(&server.context).unwrap();
    let dead = server.context.with_file_name("dead.toml");
    // Port 1 of this machine: nobody listens there.
    let at = text.lines().next().unwrap();
    std::fs::copy(&server.context, &dead).unwrap();
    std::fs::write(&dead, text.replace(at, "server = '127.0.0.1:1'")).unwrap();
    let gone = ctl_with(&dead, &["rollouts", "list"]).await;
    assert_eq!(gone.status.code(), Some(4), "{}", err(&gone));
    let text = err(&gone);
    assert!(text.contains("connecting to 127.0.0.1:1"), "{text}");
    assert!(
        text.contains("because: ") && text.contains("next: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_command_line_without_sense_exits_with_2() {
    let server = serve(Script::default()).await;
    for args in [&["rollouts", "explode"][..], &["releases", "sign"], &[]] {
        assert_eq!(ctl(&server, args).await.status.code(), Some(2), "{args:?}");
    }
    assert_eq!(ctl(&server, &["--help"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_refused_list_is_empty_only_when_it_is() {
    let server = serve(Script {
        rollouts: vec![view(0xab, RolloutState::Running, "")],
        ..Script::default()
    })
    .await;
    let listed = ctl(&server, &["rollouts", "list"]).await;
    assert!(
        out(&listed).contains("r-00000000000000ab"),
        "{}",
        err(&listed)
    );
    // Hosts are not scripted: no answer is no empty list.
    let hosts = ctl(&server, &["hosts", "list"]).await;
    assert_eq!(hosts.status.code(), Some(1));
    assert_eq!(out(&hosts), "");
}

#[tokio::test]
async fn keys_and_releases_are_made_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir(dir.path().join("tree")).unwrap();
    std::fs::write(dir.path().join("tree/run"), "x").unwrap();
    let none = dir.path().join("none");
    let keys = at("keys");
    let made = ctl_with(
        &none,
        &[
            "keys",
            "init",
            "--dir",
            &keys,
            "--keys",
            "2",
            "--threshold",
            "2",
        ],
    )
    .await;
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    let (first, second) = (at("keys/release-1.key"), at("keys/release-2.key"));
    let (tree, releases) = (at("tree"), at("releases"));
    let signed = ctl_with(
        &none,
        &[
            "releases",
            "sign",
            "--package",
            "demo",
            "--version",
            "1.0",
            "--bundle",
            &tree,
            "--key",
            &first,
            "--out",
            &releases,
            "--probe",
            "tcp:80",
        ],
    )
    .await;
    assert_eq!(signed.status.code(), Some(0), "{}", err(&signed));
    let file = at("releases/demo-1.0.release.json");
    let added = ctl_with(
        &none,
        &["releases", "sign", "--add", &file, "--key", &second],
    )
    .await;
    assert!(out(&added).contains("2 signatures"), "{}", err(&added));
}
