//! `ringward-agent` as a process, as a service manager sees it.

use crate::support::{HOST, Server};
use ringward_domain::{Absence, AssignmentKind};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn program(root: &Path, verb: &str) -> Command {
    let settings = root.join("agent.toml");
    let text = format!(
        "state_dir = {:?}\nadapter = \"scripted\"\n",
        root.join("state")
    );
    std::fs::write(&settings, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringward-agent"));
    command.arg(verb).arg("--config").arg(settings);
    command
}

fn enroll(root: &Path, token: &str) -> Output {
    let mut child = program(root, "enroll")
        .arg("--token-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(token.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The next thing that the service manager is told.
fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).unwrap();
    text(&buffer[..length])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_is_ready_alive_and_stops_in_good_order() {
    let server = Server::start().await;
    let root = tempfile::tempdir().unwrap();
    let token = server.token();
    let output = tokio::task::spawn_blocking({
        let path = root.path().to_owned();
        move || enroll(&path, &token)
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&HOST.to_string()));

    let manager = UnixDatagram::bind(root.path().join("notify")).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut agent = program(root.path(), "run")
        .env("NOTIFY_SOCKET", root.path().join("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The session is up for both sides when the agent tells of its orders.
    let release = server.publish("1.0", &[("behaviour", "good")], &[2]);
    server.want(release, "1.0", AssignmentKind::Install, false);
    server
        .until("an account of the order", |state| {
            state
                .observed
                .as_ref()
                .is_some_and(|observed| observed.preparing.is_some())
        })
        .await;
    let asked = tokio::task::spawn_blocking(move || {
        assert!(told(&manager).starts_with("READY=1"));
        assert!(told(&manager).starts_with("WATCHDOG=1"));
        let terminate = Command::new("kill").arg(agent.id().to_string()).status();
        assert!(terminate.unwrap().success());
        while !told(&manager).starts_with("STOPPING=1") {}
        assert!(agent.wait().unwrap().success());
        let mut log = String::new();
        std::io::Read::read_to_string(&mut agent.stderr.take().unwrap(), &mut log).unwrap();
        log
    });
    let log = asked.await.unwrap();
    server
        .until("the announcement", |state| {
            state.absent == [Absence::UserStop]
        })
        .await;
    assert!(!log.contains("PRIVATE") && !log.contains("rw1."), "{log}");
}

#[test]
fn a_token_is_never_taken_from_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let output = program(root.path(), "enroll")
        .arg("rw1.secret")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let help = program(root.path(), "enroll")
        .arg("--help")
        .output()
        .unwrap();
    assert!(text(&help.stdout).contains("--token-stdin"));
}

#[test]
fn a_bad_token_a_missing_identity_and_bad_settings_say_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let output = enroll(root.path(), "rw1.nonsense");
    assert!(
        text(&output.stderr).contains("tokens create"),
        "{}",
        text(&output.stderr)
    );
    assert!(!text(&output.stderr).contains("nonsense"));
    std::fs::create_dir_all(root.path().join("state")).unwrap();
    let output = program(root.path(), "run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("ringward-agent enroll"),
        "{}",
        text(&output.stderr)
    );
    std::fs::write(root.path().join("bad.toml"), "spol = 1").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringward-agent"));
    let bad = command
        .arg("run")
        .arg("--config")
        .arg(root.path().join("bad.toml"));
    assert!(text(&bad.output().unwrap().stderr).contains("spol"));
}

#[test]
fn status_is_readable_by_people_and_programs() {
    let root = tempfile::tempdir().unwrap();
    let json = program(root.path(), "status")
        .arg("--json")
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(status["signals_told"], 0);
    let words = program(root.path(), "status").output().unwrap();
    assert!(text(&words.stdout).contains("not enrolled"));
    let doctor = program(root.path(), "doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
}
