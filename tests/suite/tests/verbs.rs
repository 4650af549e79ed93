//! `ringwardctl hosts labels import` and `ringwardctl audit` against a real server.
#![allow(clippy::unwrap_used)]

use ringward_suite::hosts;
use ringward_suite::lab::{Lab, words};
use ringward_suite::process::{Programs, output};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const HARNESS: &str = env!("CARGO_BIN_EXE_ringward-harness");

/// A lab where server and ringwardctl are built: where the whole workspace is tested.
async fn lab(dir: &Path) -> Option<Lab> {
    let folder: PathBuf = Path::new(HARNESS).parent()?.to_owned();
    if !folder.join("ringward-server").exists() || !folder.join("ringwardctl").exists() {
        println!("skipped: server and ringwardctl are not built; test the whole workspace");
        return None;
    }
    Some(Lab::set_up(Programs::new(folder), dir).await.unwrap())
}

/// Labels by host name.
async fn labels(lab: &Lab) -> BTreeMap<String, BTreeMap<String, String>> {
    let filter = ringward_wire::host::HostFilter::default();
    let hosts = lab.client().hosts(&filter).await.unwrap().hosts;
    let named = hosts.into_iter().map(|host| {
        let labels = host.labels.into_iter();
        (host.facts.hostname, labels.collect())
    });
    named.collect()
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_come_from_a_file_all_of_it_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(lab) = lab(dir.path()).await else {
        return;
    };
    hosts::enrol(&lab, "till", 3).await.unwrap();
    let before = labels(&lab).await;
    let import = async |name: &str, text: &str, more: &[&str]| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let words = ["hosts", "labels", "import", file, "--yes", "-m", "a test"];
        lab.ctl(&[&words[..], more].concat()).await
    };
    // The second line names no host: the first is not carried out either.
    let wrong = "host,site\ntill-000,berlin\nnobody,berlin\n";
    let refused = import("wrong.csv", wrong, &[]).await.unwrap_err();
    let said = format!("{refused:#}");
    assert!(said.contains("line 3") && said.contains("nobody"), "{said}");
    assert_eq!(labels(&lab).await, before);
    let csv = "host,site,tier\ntill-000,berlin,1\nTILL-001,paris,2\n";
    import("dry.csv", csv, &["--dry-run"]).await.unwrap();
    assert_eq!(labels(&lab).await, before);
    import("labels.csv", csv, &[]).await.unwrap();
    let after = labels(&lab).await;
    assert_eq!(
        after["till-000"],
        pairs(&[("site", "berlin"), ("tier", "1")])
    );
    assert_eq!(
        after["till-001"],
        pairs(&[("site", "paris"), ("tier", "2")])
    );
    assert_eq!(after["till-002"], before["till-002"]);
    let json = r#"{"till-000": {"tier": null, "site": "rome"}, "till-002": {"tier": "3"}}"#;
    import("labels.json", json, &[]).await.unwrap();
    let after = labels(&lab).await;
    assert_eq!(after["till-000"], pairs(&[("site", "rome")]));
    assert_eq!(
        after["till-001"],
        pairs(&[("site", "paris"), ("tier", "2")])
    );
    assert_eq!(after["till-002"], pairs(&[("tier", "3")]));
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_is_listed_verified_and_exported_and_a_change_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let Some(lab) = lab(dir.path()).await else {
        return;
    };
    hosts::enrol(&lab, "till", 1).await.unwrap();
    lab.ctl(&["stop-all", "--yes", "-m", "the first reason"])
        .await
        .unwrap();
    let listed = lab.ctl(&["audit", "list"]).await.unwrap();
    assert!(listed.contains("the first reason"), "{listed}");
    lab.ctl(&["audit", "verify"]).await.unwrap();
    lab.ctl(&["resume-all", "--yes", "-m", "the second reason"])
        .await
        .unwrap();
    let verified = lab.ctl(&["audit", "verify"]).await.unwrap();
    assert!(
        verified.contains("since it was checked before"),
        "{verified}"
    );
    let export = dir.path().join("audit.jsonl");
    let named = export.to_str().unwrap();
    lab.ctl(&["audit", "export", "--out", named]).await.unwrap();
    lab.ctl(&["audit", "verify", "--export", named])
        .await
        .unwrap();
    let text = std::fs::read_to_string(&export).unwrap();
    let changed = dir.path().join("changed.jsonl");
    std::fs::write(&changed, text.replace("first reason", "other reason")).unwrap();
    let named = changed.to_str().unwrap();
    let refused = lab.ctl(&["audit", "verify", "--export", named]).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("was changed"));
    // Whoever holds the head sees it in the store itself too.
    let head = lab.context().with_extension("audit-head.json");
    assert!(head.exists());
    let (server, data) = (
        lab.programs().path("ringward-server"),
        lab.dir().join("server"),
    );
    lab.stop().await.unwrap();
    let doctor = async |head: &Path| {
        let mut told = words(["doctor", "--data"], &data);
        told.extend(words(["--audit-head"], head));
        output(&server, told).await
    };
    let healthy = doctor(&head).await.unwrap();
    assert!(healthy.contains("the log adds to the"), "{healthy}");
    let mut kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&head).unwrap()).unwrap();
    kept["root"] = "00".repeat(32).into();
    let foreign = dir.path().join("foreign.json");
    std::fs::write(&foreign, kept.to_string()).unwrap();
    assert!(doctor(&foreign).await.is_err());
}
