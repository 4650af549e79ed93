//! Namespaces on one switch. Everything goes when this is dropped.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

/// Who is on the net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Server,
    One,
    Two,
    Bystander,
}

pub const NODES: [Node; 4] = [Node::Server, Node::One, Node::Two, Node::Bystander];

impl Node {
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::One => "one",
            Self::Two => "two",
            Self::Bystander => "bystander",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Server => 1,
            Self::One => 11,
            Self::Two => 12,
            Self::Bystander => 99,
        }
    }

    pub fn v4(self) -> IpAddr {
        Ipv4Addr::new(10, 77, 0, self.number()).into()
    }

    pub fn v6(self) -> IpAddr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number().into()).into()
    }
}

/// The switch and its nodes.
pub struct Net {
    prefix: String,
}

/// Runs a command to its end; its words, or its failure with them.
pub fn words(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(line: &str) -> Result<String> {
    words(Command::new("ip").args(line.split_whitespace()))
}

impl Net {
    pub fn set_up() -> Result<Self> {
        let net = Self {
            prefix: format!("rw{}", std::process::id()),
        };
        let switch = net.switch();
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link add name hub type bridge"))?;
        // A switch that learns nothing of multicast passes all of it.
        words(Command::new("ip").args([
            "netns",
            "exec",
            &switch,
            "sh",
            "-c",
            "echo 0 > /sys/class/net/hub/bridge/multicast_snooping; ip link set hub up",
        ]))?;
        for node in NODES {
            let space = net.space(node);
            let port = node.name();
            ip(&format!("netns add {space}"))?;
            ip(&format!(
                "-n {switch} link add name {port} type veth peer name eth0 netns {space}"
            ))?;
            ip(&format!("-n {switch} link set {port} master hub up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", node.v4()))?;
            ip(&format!(
                "-n {space} addr add {}/64 dev eth0 nodad",
                node.v6()
            ))?;
        }
        Ok(net)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    fn space(&self, node: Node) -> String {
        format!("{}-{}", self.prefix, node.name())
    }

    /// A program in a node's namespace; its process id is that of the program.
    pub fn command(&self, node: Node, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.space(node)])
            .arg(program);
        command
    }

    /// A shell line in a node's namespace.
    pub fn say(&self, node: Node, line: &str) -> Result<String> {
        words(self.command(node, "sh").args(["-c", line]))
    }

    /// The shell line that cuts a node off at the switch, or joins it again.
    pub fn cut_line(&self, node: Node, joined: bool) -> String {
        let state = if joined { "up" } else { "down" };
        // Leaves the namespace that it is called in.
        format!(
            "nsenter --net=/run/netns/{} ip link set {} {state}",
            self.switch(),
            node.name()
        )
    }

    pub fn cut(&self, node: Node, joined: bool) -> Result<()> {
        words(Command::new("sh").args(["-c", &self.cut_line(node, joined)])).map(drop)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let spaces = NODES.map(|node| self.space(node));
        for space in spaces.into_iter().chain([self.switch()]) {
            // What was not made cannot be removed, which is as good.
            let _ = Command::new("ip")
                .args(["netns", "del", &space])
                .stderr(Stdio::null())
                .status();
        }
    }
}
