//! Sleep, announced before it comes: logind waits for us a few seconds, which is enough to tell the
//! server that this host will be silent on purpose.

use crate::collect::Teller;
use crate::host::HostEvent;
use crate::linux::dbus::{Bus, SYSTEM_BUS};
use ringward_domain::Absence;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const LOGIND: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
/// A bus or logind that does not answer by then is as good as none.
const ANSWER: Duration = Duration::from_secs(10);
/// Time for the word to leave; logind waits 5 s by default (`InhibitDelayMaxSec`).
const LEAVES: Duration = Duration::from_secs(2);
/// Between one try and the next after the bus was lost: a daemon that is replaced comes back.
const AGAIN: Duration = Duration::from_secs(300);
/// Buses lost until no further one is tried.
const LOST_MAX: usize = 100;

/// logind waits as long as the descriptor lives.
struct Lock {
    _held: OwnedFd,
    /// Who gave it: nobody else's signals count, every user of the machine may send some.
    by: String,
}

/// Asks logind to wait.
async fn lock(bus: &mut Bus) -> io::Result<Lock> {
    let words = ["sleep", "Ringward", "tell the control server", "delay"];
    let call = bus.call([LOGIND, PATH, MANAGER, "Inhibit"], &words);
    let answer = timeout(ANSWER, call).await.map_err(io::Error::from)??;
    let held = answer.fd;
    Ok(Lock {
        _held: held.ok_or_else(|| io::Error::other("logind gave no lock"))?,
        by: answer.sender,
    })
}

async fn connect(path: &Path) -> io::Result<(Bus, Lock)> {
    let connected = async {
        let mut bus = Bus::connect(path).await?;
        bus.subscribe(MANAGER).await?;
        Ok::<_, io::Error>(bus)
    };
    let mut bus = timeout(ANSWER, connected)
        .await
        .map_err(io::Error::from)??;
    let held = lock(&mut bus).await?;
    Ok((bus, held))
}

/// Follows one bus until it is lost.
async fn follow(path: &Path, teller: &Teller) -> io::Result<()> {
    let (mut bus, lock_now) = connect(path).await?;
    let logind = lock_now.by.clone();
    let mut held = Some(lock_now);
    loop {
        let message = bus.next().await?;
        let is_sleep = message.is_signal() && message.member == "PrepareForSleep";
        if !is_sleep || message.sender != logind {
            continue;
        }
        match message.flag() {
            true => {
                let event = HostEvent::GoingAway(Absence::Suspend);
                if teller.tell.send(event).await.is_err() {
                    return Ok(());
                }
                sleep(LEAVES).await;
                held = None;
            }
            false if held.is_none() => held = Some(lock(&mut bus).await?),
            false => {}
        }
    }
}

pub(super) async fn watch(teller: Teller) {
    let path = Path::new(SYSTEM_BUS);
    for lost in 0..LOST_MAX {
        match follow(path, &teller).await {
            Ok(()) => return,
            // A machine without logind puts itself to sleep in no way that could be announced: that is
            // how servers are, and no lack.
            Err(error) if lost == 0 => {
                tracing::info!("suspends are not announced by this host: {error}");
            }
            Err(error) => tracing::debug!(%error, "logind is lost"),
        }
        sleep(AGAIN).await;
    }
}
