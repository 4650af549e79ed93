//! A quarantine over a reboot: a unit inside sends to a bystander from the first moment that it has
//! an address, and what reaches the wire is captured.

use crate::machine::Machine;
use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// The wire between the container and the bystander, who is this system.
pub const BRIDGE: &str = "rwq0";
const HOST_V4: [u8; 4] = [10, 78, 0, 2];
const HOST_V6: [u8; 16] = [0xfd, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Starts as early as anything with an address can, and talks to the bystander for ever.
const TALKER: &str = "[Unit]\nDefaultDependencies=no\nAfter=network-pre.target\nWants=network-pre.target\n\
    Before=shutdown.target\nConflicts=shutdown.target\n[Service]\nExecStart=/srv/talk\nRestart=always\n\
    [Install]\nWantedBy=multi-user.target\n";
const TALK: &str = "#!/bin/bash\nip link set host0 up\nip addr add 10.78.0.2/24 dev host0\n\
    ip addr add fd78::2/64 dev host0 nodad\nwhile :; do\n  echo x > /dev/udp/10.78.0.1/9\n\
    echo x > /dev/udp/fd78::1/9\n  sleep 0.05\ndone 2>/dev/null\n";

/// The bystander's wire; gone with this.
struct Wire;

fn sh(line: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

impl Wire {
    fn set_up() -> Result<Self> {
        let _ = Command::new("ip")
            .args(["link", "del", BRIDGE])
            .stderr(Stdio::null())
            .status();
        sh(&format!(
            "ip link add {BRIDGE} type bridge && ip addr add 10.78.0.1/24 dev {BRIDGE} \
             && ip addr add fd78::1/64 dev {BRIDGE} nodad && ip link set {BRIDGE} up"
        ))?;
        Ok(Self)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = sh(&format!("ip link del {BRIDGE}"));
    }
}

/// Counts what the host sends, but for the discovery of neighbours, as it is on the wire.
struct Capture {
    seen: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Capture {
    fn start() -> Result<Self> {
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(eth::ALL),
        )
        .context("opening a packet socket")?;
        let capture = Self {
            seen: Arc::default(),
            over: Arc::default(),
        };
        let (seen, over) = (Arc::clone(&capture.seen), Arc::clone(&capture.over));
        std::thread::spawn(move || watch(&socket, &seen, &over));
        Ok(capture)
    }

    fn count(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn watch(socket: &OwnedFd, seen: &AtomicU64, over: &AtomicBool) {
    let mut frame = [0; 2048];
    while !over.load(Ordering::SeqCst) {
        match recv(socket, &mut frame[..], RecvFlags::empty()) {
            Ok((_, size)) => {
                if is_from_host(&frame[..size.min(frame.len())]) {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// An Ethernet frame with an IP packet of the host; its discovery of neighbours (ICMPv6 133-137) and
/// multicast reports (behind a hop-by-hop header) stay allowed.
fn is_from_host(frame: &[u8]) -> bool {
    let kind = frame.get(12..14).unwrap_or_default();
    match kind {
        [0x08, 0x00] => frame.get(26..30) == Some(&HOST_V4),
        [0x86, 0xdd] => {
            let protocol = frame.get(20).copied().unwrap_or_default();
            let discovery =
                protocol == 0 || (protocol == 58 && matches!(frame.get(54), Some(133..=137)));
            frame.get(22..38) == Some(&HOST_V6) && !discovery
        }
        _ => false,
    }
}

/// A server protects the machine that it runs on, which it knows by its name. Here server and host share
/// one container, so the server gets a name of its own, as on a machine of its own.
fn start_server(machine: &Machine) -> Result<()> {
    machine.say(
        "systemd-run --quiet --unit=test-server unshare --uts sh -c \
         'hostname control-server && exec ringward-server run --data /srv/server'",
    )?;
    machine.wait_for("the host's session", PATIENCE, |machine| {
        let hosts = machine
            .say("ringwardctl --context /srv/server/admin.context.toml hosts list -o json")?;
        let hosts = hosts.replace(' ', "");
        Ok(hosts.contains("\"connected\":true").then_some(()))
    })
}

fn host_id(machine: &Machine) -> Result<String> {
    let status = machine.say("ringward-agent status")?;
    let id = status
        .split_whitespace()
        .find(|word| word.starts_with("h-"));
    Ok(id.context("the agent names no host")?.to_owned())
}

fn order(machine: &Machine, verb: &str) -> Result<()> {
    let id = host_id(machine)?;
    machine
        .say(&format!(
            "ringwardctl --context /srv/server/admin.context.toml {verb} {id} --yes -m nspawn-test"
        ))
        .map(drop)
}

fn stage(machine: &Machine) -> Result<String> {
    machine.say("cat /var/lib/ringward-agent/orders.json")
}

/// Quarantined, rebooted twice (in good order and by a power cut), released.
pub fn over_a_reboot(machine: &mut Machine) -> Result<String> {
    machine.shut_down()?;
    let _wire = Wire::set_up()?;
    machine.use_bridge(Some(BRIDGE));
    for package in ["nftables", "iproute2"] {
        machine.add_package(package)?;
    }
    let root = machine.root();
    std::fs::write(root.join("etc/systemd/system/talker.service"), TALKER)?;
    std::fs::write(root.join("srv/talk"), TALK)?;
    machine.boot()?;
    machine.say(
        "chmod 755 /srv/talk; systemctl restart ringward-agent; systemctl enable --now talker",
    )?;
    let capture = Capture::start()?;
    machine.wait_for("packets of an open host", PATIENCE, |_| {
        Ok((capture.count() > 20).then_some(()))
    })?;
    start_server(machine)?;
    order(machine, "quarantine")?;
    machine.wait_for("the host isolated and proven", PATIENCE, |machine| {
        Ok(stage(machine)?
            .contains("\"proof\":\"proven\"")
            .then_some(()))
    })?;
    let closed = capture.count();
    let mut boots = Vec::new();
    for power_cut in [false, true] {
        match power_cut {
            true => machine.power_cut()?,
            false => machine.shut_down()?,
        }
        boots.push(machine.boot()?);
        machine.say("systemctl is-active talker")?;
        let table = machine.say("nft list table inet ringward")?;
        ensure!(table.contains("policy drop"), "{table}");
        machine.wait_for("the agent", PATIENCE, |machine| {
            Ok(machine
                .say("systemctl is-active ringward-agent")
                .is_ok()
                .then_some(()))
        })?;
        // Nothing of what the talker sent since the first moment came out.
        std::thread::sleep(Duration::from_secs(2));
        let seen = capture.count() - closed;
        if seen > 0 {
            bail!("{seen} packets reached the bystander (power cut: {power_cut})");
        }
    }
    start_server(machine)?;
    order(machine, "release")?;
    machine.wait_for("packets of a released host", PATIENCE, |_| {
        Ok((capture.count() > closed + 20).then_some(()))
    })?;
    let tables = machine.say("nft list tables")?;
    ensure!(!tables.contains("ringward"), "{tables}");
    machine.say("systemctl disable --now talker")?;
    machine.shut_down()?;
    machine.use_bridge(None);
    machine.boot()?;
    Ok(format!(
        "{} boots without a packet, then released",
        boots.len()
    ))
}
