//! The server and the two hosts: real programs, each in its namespace with its own names and id.

use crate::net::{Net, Node, words};
use crate::talk::{Kept, Talker, Way};
use anyhow::{Context, Result, ensure};
use ringward_suite::wait::until;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const SERVER_NAME: &str = "control.ringward.test";
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Rules of somebody else, which no quarantine may touch.
const OTHERS: &str = "table inet filter {
    set known { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 }; }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @known counter accept
    }
}
table ip nat {
    chain post {
        type nat hook postrouting priority 100; policy accept;
        oifname eth7 masquerade
    }
}
";

/// One host's agent.
struct Host {
    node: Node,
    id: String,
    agent: Option<Kept>,
    /// What `nft` listed before anybody was quarantined.
    rules: String,
}

pub struct Lab {
    pub net: Net,
    pub work: PathBuf,
    programs: PathBuf,
    hosts: Vec<Host>,
    _echoes: Vec<Kept>,
    server: Option<Kept>,
}

fn executable(path: &Path, text: &str) -> Result<()> {
    // Renamed into place: a text that runs cannot be written.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(new, path)?;
    Ok(())
}

/// How often a state is looked at: scenes time what takes milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks until there is an answer.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until(what, patience, LOOK_EVERY, ask)
}

impl Lab {
    pub fn set_up(programs: &Path, work: &Path) -> Result<Self> {
        if work.exists() {
            std::fs::remove_dir_all(work)?;
        }
        std::fs::create_dir_all(work)?;
        let mut lab = Self {
            net: Net::set_up()?,
            work: work.to_owned(),
            programs: programs.to_owned(),
            hosts: Vec::new(),
            _echoes: Vec::new(),
            server: None,
        };
        lab.start_server()?;
        for node in [Node::One, Node::Two] {
            lab.add_host(node)?;
        }
        for node in [Node::One, Node::Two, Node::Bystander] {
            let echo = lab
                .net
                .command(node, std::env::current_exe()?)
                .arg("echo")
                .spawn()?;
            lab._echoes.push(Kept::new(echo));
        }
        Ok(lab)
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    fn start_server(&mut self) -> Result<()> {
        let data = self.work.join("server");
        let rings = self.work.join("rings.toml");
        std::fs::write(
            &rings,
            "heartbeat_s = 1\n[brakes]\nhosts_per_hour = 1000\nring_hosts_per_hour = 1000\nisolated = 1000\n[[ring]]\nname = \"all\"\n",
        )?;
        words(
            self.net
                .command(Node::Server, self.program("ringward-server"))
                .args(["init", "--agent-address", &format!("{SERVER_NAME}:7443")])
                .args(["--admin-address", "127.0.0.1:7444", "--data"])
                .arg(&data)
                .arg("--rings")
                .arg(&rings),
        )?;
        let log = File::create(self.work.join("server.log"))?;
        let server = self
            .net
            .command(Node::Server, self.program("ringward-server"))
            .args(["run", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.server = Some(Kept::new(server));
        wait_for("an answer of the server", PATIENCE, || {
            Ok(self
                .ctl(&["hosts", "list", "-o", "json"])
                .is_ok()
                .then_some(()))
        })
    }

    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        words(
            self.net
                .command(Node::Server, self.program("ringwardctl"))
                .arg("--context")
                .arg(self.work.join("server/admin.context.toml"))
                .args(args),
        )
    }

    fn add_host(&mut self, node: Node) -> Result<()> {
        let folder = self.state(node);
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        std::fs::write(
            self.file(node, "machine-id"),
            format!("{:032x}\n", node as u8 + 1),
        )?;
        self.name_server(node, &Node::Server.v4().to_string())?;
        // `nft` as the agent calls it: what the scenes want happens around each transaction.
        let wrapper = self.file(node, "nft");
        let (before, after) = (self.file(node, "before"), self.file(node, "after"));
        executable(
            &wrapper,
            &format!(
                "#!/bin/sh\ncase $1 in -f) ;; *) exec nft \"$@\";; esac\n\
                 [ -x {0} ] && {0} $PPID\nnft \"$@\"\ncode=$?\n[ -x {1} ] && {1} $PPID\nexit $code\n",
                before.display(),
                after.display()
            ),
        )?;
        std::fs::write(
            self.file(node, "agent.toml"),
            format!(
                "state_dir = {:?}\n[orders]\nquarantines_per_day = 1000\n[isolation]\nnft = {:?}\n",
                folder, wrapper
            ),
        )?;
        let answer = self.ctl(&["tokens", "create", "--uses", "1", "-o", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let token = answer["token"].as_str().context("no token")?;
        let secret = self.file(node, "token");
        std::fs::write(&secret, token)?;
        let enrolled = words(
            self.agent(node)
                .args(["enroll", "--config"])
                .arg(self.file(node, "agent.toml"))
                .arg("--token-file")
                .arg(&secret),
        )?;
        let id = enrolled
            .split_whitespace()
            .find_map(|word| word.strip_prefix("h-"))
            .map(|id| format!("h-{}", id.trim_end_matches(';')))
            .context("enrolling named no host")?;
        std::fs::write(self.file(node, "others.nft"), OTHERS)?;
        self.net.say(
            node,
            &format!("nft -f {}", self.file(node, "others.nft").display()),
        )?;
        let rules = self.rules(node)?;
        self.hosts.push(Host {
            node,
            id,
            agent: None,
            rules,
        });
        self.start(node)
    }

    pub fn file(&self, node: Node, name: &str) -> PathBuf {
        self.work.join(format!("{}-{name}", node.name()))
    }

    fn state(&self, node: Node) -> PathBuf {
        self.work.join(node.name())
    }

    /// Where a host finds the server's name.
    pub fn name_server(&self, node: Node, address: &str) -> Result<()> {
        // Written in place: it is mounted over /etc/hosts.
        let text = format!("127.0.0.1 localhost\n{address} {SERVER_NAME}\n");
        Ok(std::fs::write(self.file(node, "hosts"), text)?)
    }

    fn agent(&self, node: Node) -> Command {
        let line = format!(
            "mount --bind {} /etc/hosts && {{ [ ! -f /etc/machine-id ] || mount --bind {} /etc/machine-id; }} && exec \"$@\"",
            self.file(node, "hosts").display(),
            self.file(node, "machine-id").display()
        );
        let mut command = self.net.command(node, "sh");
        command
            .args(["-c", &line, "sh"])
            .arg(self.program("ringward-agent"));
        command
    }

    fn host(&mut self, node: Node) -> &mut Host {
        self.hosts
            .iter_mut()
            .find(|host| host.node == node)
            .expect("scenes name hosts that were added")
    }

    pub fn start(&mut self, node: Node) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.file(node, "log"))?;
        let agent = self
            .agent(node)
            .args(["run", "--config"])
            .arg(self.file(node, "agent.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.host(node).agent = Some(Kept::new(agent));
        Ok(())
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self, node: Node) {
        self.host(node).agent = None;
    }

    /// Waits until somebody else killed it.
    pub fn died(&mut self, node: Node) -> Result<()> {
        let agent = self.host(node).agent.as_mut().context("no agent runs")?;
        let pid = agent.pid();
        wait_for("the agent's death", PATIENCE, || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        })?;
        self.kill(node);
        Ok(())
    }

    /// What happens around the host's next transactions.
    pub fn hook(&self, node: Node, when: &str, line: Option<&str>) -> Result<()> {
        let path = self.file(node, when);
        match line {
            Some(line) => executable(&path, &format!("#!/bin/sh\n{line}\n")),
            None => {
                let _ = std::fs::remove_file(path);
                Ok(())
            }
        }
    }

    pub fn quarantine(&mut self, node: Node, more: &[&str]) -> Result<()> {
        let id = self.host(node).id.clone();
        let args = [
            "quarantine",
            &id,
            "--until-released",
            "--yes",
            "--reason",
            "netns-test",
        ];
        self.ctl(&[&args[..], more].concat()).map(drop)
    }

    pub fn release(&mut self, node: Node) -> Result<()> {
        let id = self.host(node).id.clone();
        self.ctl(&["release", &id, "--yes", "--reason", "netns-test"])
            .map(drop)
    }

    pub fn rules(&self, node: Node) -> Result<String> {
        self.net.say(node, "nft -s list ruleset")
    }

    pub fn stands(&self, node: Node) -> bool {
        self.net.say(node, "nft list table inet ringward").is_ok()
    }

    /// How the host stands, by its own record.
    pub fn stage(&self, node: Node) -> String {
        let text =
            std::fs::read_to_string(self.state(node).join("orders.json")).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        record["stage"].to_string()
    }

    pub fn is_closed(&self, node: Node) -> bool {
        let stage = self.stage(node);
        let over = stage.contains("proven") || stage.contains("unproven");
        self.stands(node) && stage.starts_with("{\"closed\"") && over
    }

    pub fn until_closed(&self, node: Node) -> Result<()> {
        wait_for("the host closed and proven", PATIENCE, || {
            Ok(self.is_closed(node).then_some(()))
        })
        .with_context(|| self.stage(node))
    }

    /// Open, and every rule as it was before the first order.
    pub fn until_open(&mut self, node: Node) -> Result<()> {
        wait_for("the host open", PATIENCE, || {
            let settled = self.stage(node).contains("settled") || self.stage(node) == "\"open\"";
            Ok((!self.stands(node) && settled || self.stage(node) == "null").then_some(()))
        })
        .with_context(|| self.stage(node))?;
        let now = self.rules(node)?;
        let before = &self.host(node).rules;
        ensure!(&now == before, "the rules were\n{before}\nand are\n{now}");
        Ok(())
    }

    /// A session with the server, by the server's word.
    pub fn until_online(&mut self, node: Node) -> Result<()> {
        let id = self.host(node).id.clone();
        wait_for("the host's session", PATIENCE, || {
            let text = self.ctl(&["hosts", "list", "-o", "json"])?;
            let hosts: serde_json::Value = serde_json::from_str(&text)?;
            let online = hosts.as_array().into_iter().flatten().any(|host| {
                host["id"].as_str() == Some(&id) && host["connected"].as_bool() == Some(true)
            });
            Ok(online.then_some(()))
        })
    }

    /// Both hosts open, joined and online, nothing left of the scene before.
    pub fn calm(&mut self) -> Result<()> {
        for node in [Node::Server, Node::One, Node::Two, Node::Bystander] {
            self.net.cut(node, true)?;
        }
        for node in [Node::One, Node::Two] {
            self.hook(node, "before", None)?;
            self.hook(node, "after", None)?;
            if self.host(node).agent.is_none() {
                self.start(node)?;
            }
            if self.stage(node) != "null" && self.stage(node) != "\"open\"" {
                // Refused where the scene before released it and the host has yet to hear of it.
                let _ = self.release(node);
            }
            self.until_open(node)?;
            self.until_online(node)?;
        }
        Ok(())
    }

    /// Traffic between a host and the bystander, every way, answered before this returns.
    pub fn talkers(&self, node: Node) -> Result<Vec<Talker>> {
        let mut talkers = Vec::new();
        let (other, work) = (Node::Bystander, &self.work);
        for way in [Way::Live, Way::Fresh, Way::Udp] {
            for (mine, its) in [(node.v4(), other.v4()), (node.v6(), other.v6())] {
                talkers.push(Talker::start(&self.net, work, node, way, (other, its))?);
                talkers.push(Talker::start(&self.net, work, other, way, (node, mine))?);
            }
        }
        wait_for("an answer to each talker", PATIENCE, || {
            Ok(talkers
                .iter()
                .all(|talker| talker.last_ms() > 0)
                .then_some(()))
        })?;
        Ok(talkers)
    }

    pub fn last_words(&self) -> String {
        [Node::One, Node::Two]
            .map(|node| {
                let log = std::fs::read_to_string(self.file(node, "log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(15)..].join("\n");
                format!("{}, {}:\n{last}\n", node.name(), self.stage(node))
            })
            .concat()
    }
}
