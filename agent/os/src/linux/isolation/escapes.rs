//! Ways past our table that this host has: reported, not hidden. What never comes by the inet hooks
//! of this network namespace is not filtered by them.

use ringward_domain::limits::ESCAPES_MAX;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Kinds of devices whose traffic leaves by the parent's wire without passing this namespace's hooks.
const PAST_THE_HOOKS: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];

/// In words, at most [`ESCAPES_MAX`], in a fixed order.
pub(in crate::linux) async fn find() -> Vec<String> {
    let mut found = BTreeSet::new();
    match ask("ip", &["-json", "-details", "link", "show"]).await {
        Some(links) => found.extend(of_links(&links)),
        None => {
            found.insert("not looked for on devices: the program ip gives no answer".to_owned());
        }
    }
    if let Some(disciplines) = ask("tc", &["-json", "qdisc", "show"]).await {
        found.extend(of_disciplines(&disciplines));
    }
    let others = other_namespaces(Path::new("/proc"));
    if others > 0 {
        found.insert(format!(
            "{others} other network namespaces: devices of their own are not filtered"
        ));
    }
    found.into_iter().take(ESCAPES_MAX).collect()
}

async fn ask(program: &str, arguments: &[&str]) -> Option<Value> {
    let path = PLACES
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.exists())?;
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn of_links(links: &Value) -> Vec<String> {
    let links = links.as_array().map_or(&[][..], Vec::as_slice);
    let kind = |link: &Value| word(&link["linkinfo"], "info_kind").to_owned();
    let mut found = Vec::new();
    for link in links {
        let (name, kind_of) = (word(link, "ifname"), kind(link));
        if link.get("xdp").is_some_and(|xdp| !xdp.is_null()) {
            found.push(format!(
                "an XDP program runs on {name}, before any firewall"
            ));
        }
        if PAST_THE_HOOKS.contains(&kind_of.as_str()) {
            found.push(format!(
                "{name} is a {kind_of}: what it carries may leave unfiltered"
            ));
        }
        if name.starts_with("cilium_") || name.starts_with("lxc_health") {
            found.push(format!(
                "{name}: an eBPF network moves packets past the firewall"
            ));
        }
        if kind_of == "bridge" {
            let ports: Vec<&str> = links
                .iter()
                .filter(|port| word(port, "master") == name)
                .map(|port| word(port, "ifname"))
                .collect();
            // With one port there is nothing that it could pass on.
            if ports.len() > 1 {
                let shown = ports[..ports.len().min(4)].join(", ");
                found.push(format!("the bridge {name} passes packets among {shown}"));
            }
        }
    }
    found
}

fn of_disciplines(disciplines: &Value) -> Vec<String> {
    let disciplines = disciplines.as_array().map_or(&[][..], Vec::as_slice);
    disciplines
        .iter()
        .filter(|discipline| word(discipline, "kind") == "clsact")
        .map(|discipline| {
            let device = word(discipline, "dev");
            format!("traffic-control programs on {device} may move packets past the firewall")
        })
        .collect()
}

/// Network namespaces of running processes beside our own.
fn other_namespaces(proc: &Path) -> usize {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
    let own = namespace(&proc.join("self"));
    let Ok(processes) = proc.read_dir() else {
        return 0;
    };
    let seen: BTreeSet<_> = processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| namespace(&entry.path()))
        .filter(|seen| Some(seen) != own.as_ref())
        .collect();
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_way_past_the_hooks_is_named_with_its_device() {
        let links = json!([
            {"ifname": "lo"},
            {"ifname": "eth0", "xdp": {"mode": 1, "prog": {"id": 7}}, "master": "br0"},
            {"ifname": "veth1", "master": "br0", "linkinfo": {"info_kind": "veth"}},
            {"ifname": "br0", "linkinfo": {"info_kind": "bridge"}},
            {"ifname": "mv0", "linkinfo": {"info_kind": "macvlan"}},
            {"ifname": "cilium_host"},
        ]);
        let found = of_links(&links).join("\n");
        for part in [
            "XDP program runs on eth0",
            "mv0 is a macvlan",
            "cilium_host",
            "br0 passes packets among eth0, veth1",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        assert_eq!(found.lines().count(), 4, "{found}");
    }

    #[test]
    fn a_plain_host_has_none_and_nonsense_tells_nothing() {
        let plain = json!([{"ifname": "lo"}, {"ifname": "eth0", "linkinfo": {}},
            {"ifname": "docker0", "linkinfo": {"info_kind": "bridge"}}]);
        assert_eq!(of_links(&plain), Vec::<String>::new());
        for nonsense in [json!(null), json!("x"), json!([1, null, {"ifname": 7}])] {
            assert_eq!(of_links(&nonsense), Vec::<String>::new());
            assert_eq!(of_disciplines(&nonsense), Vec::<String>::new());
        }
    }
}
