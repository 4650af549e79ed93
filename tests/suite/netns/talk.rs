//! Traffic that a cut must stop: an echo on every node, and talkers that write down each answer.

use crate::net::{Net, Node};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORT: u16 = 9000;
const EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_millis(400);

/// How a talker asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Over one connection that stands.
    Live,
    /// Over a new connection each time.
    Fresh,
    /// By datagrams.
    Udp,
}

/// Milliseconds of the machine's clock, which all namespaces share.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// Answers until killed.
pub fn echo() -> Result<()> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let datagrams = UdpSocket::bind(any)?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((size, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..size], from);
        }
    });
    for stream in TcpListener::bind(any)?.incoming() {
        let mut stream = stream?;
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok(size @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..size]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0]).context("no answer")
}

/// Asks until killed. A live connection that died is not made again.
pub fn talk(way: Way, to: IpAddr, log: &Path) -> Result<()> {
    let to = SocketAddr::new(to, PORT);
    let mut log = File::create(log)?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    let datagrams = UdpSocket::bind(any)?;
    datagrams.set_read_timeout(Some(PATIENCE))?;
    let mut live = match way {
        Way::Live => Some(connect(to)?),
        Way::Fresh | Way::Udp => None,
    };
    loop {
        let answered = match (way, live.as_mut()) {
            (Way::Live, Some(stream)) => ask(stream),
            (Way::Live, None) => return Ok(()),
            (Way::Fresh, _) => connect(to).and_then(|mut stream| ask(&mut stream)),
            (Way::Udp, _) => datagrams
                .send_to(b"?", to)
                .and_then(|_| datagrams.recv_from(&mut [0; 8]))
                .map(drop)
                .map_err(Into::into),
        };
        if answered.is_ok() {
            writeln!(log, "{}", now_ms())?;
        }
        std::thread::sleep(EVERY);
    }
}

/// A child that does not outlive its owner.
pub struct Kept(Child);

impl Kept {
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One talker.
pub struct Talker {
    pub name: String,
    log: PathBuf,
    _child: Kept,
}

impl Talker {
    pub fn start(net: &Net, work: &Path, from: Node, way: Way, to: (Node, IpAddr)) -> Result<Self> {
        let family = if to.1.is_ipv4() { "v4" } else { "v6" };
        let name = format!("{}-{}-{way:?}-{family}", from.name(), to.0.name()).to_lowercase();
        let log = work.join(format!("talk-{name}"));
        let way = format!("{way:?}").to_lowercase();
        let child = net
            .command(from, std::env::current_exe()?)
            .args(["talk", &way, &to.1.to_string()])
            .arg(&log)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            name,
            log,
            _child: Kept::new(child),
        })
    }

    /// When it was answered last.
    pub fn last_ms(&self) -> u64 {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .last()
            .and_then(|line| line.parse().ok())
            .unwrap_or(0)
    }
}
