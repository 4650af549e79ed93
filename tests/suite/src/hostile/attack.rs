//! The attackers' process.

use super::Family;
use super::families::{Attack, Target};
use crate::hosts;
use crate::lab::Lab;
use anyhow::{Context as _, Result, bail};
use ringward_agent::identity::Identity;
use ringward_wire::tls;
use ringward_wire::token::EnrolmentToken;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Connections of a family at one time.
const CONNECTIONS: usize = 4;
/// A family that gets no frame through for so long has lost.
const GIVES_UP: Duration = Duration::from_secs(15);
/// No family takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// What an attack came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Frames sent.
    pub frames: u64,
    /// Connections tried.
    pub connections: u64,
    /// Those that the server ended, or did not take.
    pub refused: u64,
}

/// Everything the attackers' process has to know.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    family: Family,
    agents: SocketAddr,
    admins: SocketAddr,
    /// One identity a connection.
    identities: Vec<PathBuf>,
    token: String,
    from: Ipv4Addr,
    frames: u64,
    rate: u64,
}

/// Attackers with identities of their own.
pub struct Attackers {
    program: PathBuf,
    orders: Orders,
    path: PathBuf,
}

impl Attackers {
    /// Enrols the hosts in whose names the attack goes.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn prepare(lab: &Lab, program: &Path, family: Family) -> Result<Self> {
        let name = format!("hostile-{family:?}").to_lowercase();
        let identities = hosts::enrol(lab, &name, CONNECTIONS).await?;
        let addresses = lab.addresses()?;
        Ok(Self {
            program: program.to_owned(),
            path: lab.dir().join(format!("{name}.json")),
            orders: Orders {
                family,
                agents: addresses.agents,
                admins: addresses.admins,
                identities,
                token: lab.token(1).await?,
                from: Ipv4Addr::new(127, 0, 1, 1 + family as u8),
                frames: 0,
                rate: 0,
            },
        })
    }

    /// Attacks with so many frames.
    ///
    /// # Errors
    /// The attackers' process fails.
    pub async fn strike(mut self, frames: u64, rate: u64) -> Result<Tally> {
        (self.orders.frames, self.orders.rate) = (frames, rate);
        std::fs::write(&self.path, serde_json::to_vec(&self.orders)?)?;
        let output = Command::new(&self.program)
            .arg("attack")
            .arg(&self.path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("starting the attackers")?;
        if !output.status.success() {
            bail!(
                "the attackers ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// The attackers' process: carries out the orders in a file, says what it came to.
///
/// # Errors
/// The orders cannot be carried out at all.
pub async fn attack(orders: &Path) -> Result<()> {
    let orders: Orders = serde_json::from_slice(&std::fs::read(orders)?)?;
    // The honest hosts and the server are measured on this machine too. Without the right to yield
    // the figures are only worse.
    let _ = rustix::process::nice(19);
    let token: EnrolmentToken = orders.token.parse()?;
    let stranger = Arc::new(tls::enrolment_config(token.ca)?);
    let (end, mut tasks) = (Instant::now() + LONGEST, JoinSet::new());
    let connections = orders.identities.len();
    for (index, identity) in orders.identities.iter().enumerate() {
        let target = Target {
            agents: orders.agents,
            admins: orders.admins,
            identity: Identity::load(identity)?,
            stranger: Arc::clone(&stranger),
            from: orders.from,
        };
        let (family, rate) = (orders.family, orders.rate / connections as u64);
        let frames = orders.frames / connections as u64;
        tasks.spawn(async move { assault(&target, family, frames, rate, index, end).await });
    }
    let mut sum = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        let tally = tally?;
        sum.frames += tally.frames;
        sum.connections += tally.connections;
        sum.refused += tally.refused;
    }
    println!("{}", serde_json::to_string(&sum)?);
    Ok(())
}

/// Connection after connection until all frames are sent.
async fn assault(
    target: &Target,
    family: Family,
    frames: u64,
    rate: u64,
    seed: usize,
    end: Instant,
) -> Tally {
    let (mut tally, began, mut newest) = (Tally::default(), Instant::now(), Instant::now());
    let mut random = fastrand::Rng::with_seed(seed as u64 + 1);
    while tally.frames < frames && Instant::now() < end && newest.elapsed() < GIVES_UP {
        tally.connections += 1;
        let left = (frames - tally.frames).min(match rate {
            0 => u64::MAX,
            rate => rate.max(64),
        });
        let mut attack = Attack::new(target, random.fork(), tally.frames, left);
        let ended = tokio::time::timeout_at(end.into(), attack.run(family)).await;
        tally.refused += u64::from(!matches!(ended, Ok(Ok(()))));
        if attack.sent > 0 {
            newest = Instant::now();
        }
        tally.frames += attack.sent;
        if rate > 0 {
            let due = Duration::from_secs_f64(tally.frames as f64 / rate as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
        if attack.sent == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    tally
}
