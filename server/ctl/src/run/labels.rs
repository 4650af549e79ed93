//! Labels of many hosts from one file.

use super::{Session, send};
use crate::args::Order;
use crate::client::{Client, act};
use crate::error::Error;
use crate::files;
use crate::ui::{confirm, note};
use crate::words::{clean, count};
use ringward_domain::HostId;
use ringward_domain::command::{Action, Outcome};
use ringward_domain::host::Labels;
use ringward_wire::command::Act;
use ringward_wire::host::HostFilter;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Bytes of a file of labels: 100,000 hosts with some 300 bytes each.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Hosts named in an outcome; the rest is counted.
const SHOWN_MAX: usize = 1000;

/// What the file wants of one host: `None` removes a label.
type Wanted = BTreeMap<String, Option<String>>;

/// One host of the file, and where it stands there.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    place: String,
    host: String,
    wanted: Wanted,
}

pub(super) async fn import(session: &Session, file: &Path, order: &Order) -> Result<(), Error> {
    let bytes = files::read(file, FILE_BYTES_MAX)?;
    let rows = match file.extension().and_then(|end| end.to_str()) {
        Some("json") => read_json(&bytes),
        Some("csv") => read_csv(&bytes),
        _ => Err("its name ends neither in .csv nor in .json".to_owned()),
    };
    let rows = rows.map_err(|why| mistake(file, &why))?;
    let client = session.client().await?;
    let changes = resolve(&client, file, rows).await?;
    // Every line once as a dry run: a wrong one is found before the first right one is set.
    for (place, host, labels) in &changes {
        let action = Action::SetLabels(*host, labels.clone());
        let dry = Act {
            dry_run: true,
            ..act(&order.reason)
        };
        let checked = send(&client, dry, action).await;
        checked.map_err(|error| mistake(file, &format!("{place}: {error}")))?;
    }
    let outcome = summary(&changes);
    if order.dry_run {
        return session.ui.outcome(&outcome, true);
    }
    confirm(order, &outcome)?;
    for (done, (place, host, labels)) in changes.iter().enumerate() {
        let action = Action::SetLabels(*host, labels.clone());
        if let Err(error) = send(&client, act(&order.reason), action).await {
            note(&format!(
                "{} set; stopped at {place}. The same import again goes on from there.",
                count(done as u64, "host is", "hosts are")
            ));
            return Err(error);
        }
    }
    session.ui.outcome(&outcome, false)
}

fn mistake(file: &Path, why: &str) -> Error {
    Error::usage(
        format!("{}: {}; no label was set", file.display(), clean(why)),
        "mend the file: `ringwardctl hosts labels import --help` shows its form",
    )
}

fn summary(changes: &[(String, HostId, Labels)]) -> Outcome {
    let hosts: Vec<HostId> = changes.iter().map(|(_, host, _)| *host).collect();
    let mut warnings = vec!["rollouts under way keep the ring they gave a host".to_owned()];
    if hosts.len() > SHOWN_MAX {
        warnings.push(format!(
            "{} more hosts than are listed here",
            hosts.len() - SHOWN_MAX
        ));
    }
    Outcome {
        summary: format!(
            "labels of {} change",
            count(hosts.len() as u64, "host", "hosts")
        ),
        rollout: None,
        hosts: vec![(
            "hosts".to_owned(),
            hosts.into_iter().take(SHOWN_MAX).collect(),
        )],
        left_out: Vec::new(),
        warnings,
        order: None,
        approval: None,
    }
}

/// The hosts whose labels differ from what the file wants, with their labels afterwards.
async fn resolve(
    client: &Client,
    file: &Path,
    rows: Vec<Row>,
) -> Result<Vec<(String, HostId, Labels)>, Error> {
    let fleet = client.hosts(&HostFilter::default()).await?.hosts;
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_id = BTreeMap::new();
    for (i, host) in fleet.iter().enumerate() {
        by_id.insert(host.id, i);
        let name = host.facts.hostname.to_ascii_lowercase();
        by_name.entry(name).or_default().push(i);
    }
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    for row in rows {
        let wrong = |why: &str| mistake(file, &format!("{}: {:?} {why}", row.place, row.host));
        let found = match row.host.parse::<HostId>() {
            Ok(id) => by_id.get(&id).copied(),
            Err(_) => match by_name
                .get(&row.host.to_ascii_lowercase())
                .map(Vec::as_slice)
            {
                Some([one]) => Some(*one),
                Some(_) => return Err(wrong("names several hosts: use the id")),
                None => None,
            },
        };
        let host = &fleet[found.ok_or_else(|| wrong("is no host of this fleet"))?];
        if !seen.insert(host.id) {
            return Err(wrong("is there twice"));
        }
        let mut labels = host.labels.clone();
        for (key, value) in row.wanted {
            match value {
                Some(value) => labels.insert(key, value),
                None => labels.remove(&key),
            };
        }
        if labels != host.labels {
            changes.push((row.place, host.id, labels));
        }
    }
    Ok(changes)
}

fn read_csv(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    if header.get(0) != Some("host") || header.len() < 2 {
        return Err("line 1: the header must be `host,KEY,...`".to_owned());
    }
    let keys: Vec<&str> = header.iter().skip(1).collect();
    let distinct: BTreeSet<&str> = keys.iter().copied().collect();
    if distinct.len() != keys.len() || distinct.contains("") {
        return Err("line 1: a label's key is empty or there twice".to_owned());
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells = record.iter().skip(1);
        let wanted = keys.iter().zip(cells).map(|(key, value)| {
            let value = (!value.is_empty()).then(|| value.to_owned());
            ((*key).to_owned(), value)
        });
        rows.push(Row {
            place: format!("line {line}"),
            host: record.get(0).unwrap_or_default().to_owned(),
            wanted: wanted.collect(),
        });
    }
    Ok(rows)
}

fn read_json(bytes: &[u8]) -> Result<Vec<Row>, String> {
    let hosts: BTreeMap<String, Wanted> =
        serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let row = |(host, wanted): (String, Wanted)| Row {
        place: format!("host {host:?}"),
        host,
        wanted,
    };
    Ok(hosts.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn csv_and_json_say_the_same() {
        let csv = "host, site ,criticality\n# not a comment,x,\nh-0000000000000001,berlin,\n\"a,b\",\"x\"\"y\",high\n";
        let rows = read_csv(csv.as_bytes()).unwrap();
        assert_eq!(rows[1].host, "h-0000000000000001");
        assert_eq!(rows[1].wanted["site"].as_deref(), Some("berlin"));
        assert_eq!(rows[1].wanted["criticality"], None);
        assert_eq!(rows[2].host, "a,b");
        assert_eq!(rows[2].place, "line 4");
        let json = r#"{"h-0000000000000001": {"site": "berlin", "criticality": null}}"#;
        let json = read_json(json.as_bytes()).unwrap();
        assert_eq!(json[0].wanted, rows[1].wanted);
    }

    #[test]
    fn a_file_that_is_neither_says_where_and_why() {
        for (text, says) in [
            ("site,host\n", "line 1"),
            ("host\nx\n", "line 1"),
            ("host,site,site\nx,a,b\n", "twice"),
            ("host,site\nx,a,b\n", "line: 2"),
            ("", "line 1"),
        ] {
            let why = read_csv(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text:?}: {why}");
        }
        for text in ["", "[]", "{\"x\": 1}", "{\"x\": {\"site\": 7}}"] {
            assert!(read_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
