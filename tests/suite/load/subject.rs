//! One server under measurement, with its crowd and the way to tell everybody something.

use crate::crowd::Crowd;
use crate::figure::percentile;
use anyhow::{Context, Result};
use ringward_domain::command::Action;
use ringward_suite::account::Process;
use ringwardctl::client::{Client, act};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::ChildStdin;
use tokio_rustls::client::TlsStream;

/// The longest that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// How everybody is told something.
pub enum Teller {
    /// A line on the server's input.
    Line(ChildStdin),
    /// A client of its own that publishes these bytes.
    Publisher(Box<TlsStream<TcpStream>>, Vec<u8>),
    /// The andon of a real server.
    Admin(Client),
}

impl Teller {
    /// Tells.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn tell(&mut self, stopped: bool) -> Result<()> {
        match self {
            Self::Line(input) => {
                input.write_all(b"tell\n").await?;
                input.flush().await?;
            }
            Self::Publisher(stream, bytes) => {
                // Answers of the broker (a ping, say) are read and thrown away.
                let mut thrown = [0; 1024];
                while tokio::time::timeout(Duration::ZERO, stream.read(&mut thrown))
                    .await
                    .is_ok_and(|read| read.is_ok_and(|n| n > 0))
                {}
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Self::Admin(client) => {
                let action = if stopped {
                    Action::StopAll
                } else {
                    Action::ResumeAll
                };
                client.command(act("measured"), action).await?;
            }
        }
        Ok(())
    }
}

/// A server and its crowd.
pub struct Subject {
    /// As people know it.
    pub name: &'static str,
    /// The server.
    pub process: Process,
    /// Its agents.
    pub crowd: Crowd,
    /// How they are told.
    pub teller: Teller,
    /// Resident memory before anybody came.
    pub base_kib: f64,
}

/// What telling everybody took.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// From before it was asked for until the last agent had it.
    pub last_ms: f64,
    /// The same for the 99th percentile of agents.
    pub p99_ms: f64,
    /// The server's processor time an agent.
    pub cpu_us: f64,
}

impl Subject {
    /// Opens every session; sessions a second of the server's processor time, and wall seconds.
    ///
    /// # Errors
    /// Not every agent gets one.
    pub async fn connect(&self) -> Result<(f64, f64)> {
        let before = self.process.settled_cpu_s().await?;
        let began = Instant::now();
        let all = self.crowd.len();
        self.crowd.order(|orders| {
            orders.connected = true;
            orders.by_themselves = false;
        });
        let ready = |counts: &crate::crowd::Counts| counts.ready.load(Relaxed) == all;
        self.crowd.until("every session", PATIENCE, ready).await?;
        let wall_s = began.elapsed().as_secs_f64();
        let cpu_s = self.process.settled_cpu_s().await? - before;
        Ok((all as f64 / cpu_s, wall_s))
    }

    /// Ends every session.
    ///
    /// # Errors
    /// Some do not end.
    pub async fn disconnect(&self) -> Result<()> {
        self.crowd.order(|orders| orders.connected = false);
        let none = |counts: &crate::crowd::Counts| counts.ready.load(Relaxed) == 0;
        self.crowd
            .until("the end of every session", PATIENCE, none)
            .await?;
        self.process.settled_cpu_s().await.map(drop)
    }

    /// Lets each agent send a heartbeat `rounds` times; heartbeats a second of the server's
    /// processor time.
    ///
    /// # Errors
    /// Not all are sent.
    pub async fn beats(&self, rounds: u64) -> Result<f64> {
        let before = self.process.settled_cpu_s().await?;
        for _ in 0..rounds {
            let goal = self.crowd.counts().beats.load(Relaxed) + self.crowd.len();
            self.crowd.order(|orders| orders.beats += 1);
            let sent = |counts: &crate::crowd::Counts| counts.beats.load(Relaxed) >= goal;
            self.crowd
                .until("a round of heartbeats", PATIENCE, sent)
                .await?;
        }
        let cpu_s = self.process.settled_cpu_s().await? - before;
        Ok((rounds * self.crowd.len()) as f64 / cpu_s)
    }

    /// Tells everybody something.
    ///
    /// # Errors
    /// Somebody does not hear it.
    pub async fn tell(&mut self, stopped: bool) -> Result<Told> {
        let before = self.process.settled_cpu_s().await?;
        let since = self.crowd.now_us();
        self.teller.tell(stopped).await?;
        let all = self.crowd.len() as usize;
        let crowd = &self.crowd;
        crowd
            .until("the word to all", PATIENCE, |_| {
                crowd.told(stopped, since).len() == all
            })
            .await
            .with_context(|| format!("{} heard", crowd.told(stopped, since).len()))?;
        let mut took: Vec<f64> = crowd
            .told(stopped, since)
            .iter()
            .map(|at| (at - since) as f64 / 1000.0)
            .collect();
        took.sort_by(f64::total_cmp);
        let cpu_s = self.process.settled_cpu_s().await? - before;
        Ok(Told {
            last_ms: percentile(&took, 1.0),
            p99_ms: percentile(&took, 0.99),
            cpu_us: cpu_s * 1e6 / all as f64,
        })
    }

    /// Resident memory an agent, over that of a fresh server.
    ///
    /// # Errors
    /// The server is gone.
    pub fn kib_per_agent(&self) -> Result<f64> {
        Ok((self.process.rss_kib()? - self.base_kib) / self.crowd.len() as f64)
    }
}
