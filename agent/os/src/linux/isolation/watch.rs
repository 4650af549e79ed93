//! Puts our table back where others remove or change it (`nft flush ruleset`, a firewall service that
//! loads its own file): told by the kernel over netlink, not asked for.

use super::nft::Nft;
use super::{Shared, State, make};
use crate::host::HostEvent;
use ringward_domain::Millis;
use ringward_domain::signal::{SignalDraft, SignalKind};
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};

/// `NFNLGRP_NFTABLES` of the kernel's `nfnetlink.h`, as a mask.
const NFTABLES: u32 = 1 << (7 - 1);
/// A transaction of somebody brings many messages: one look for all of them.
const SETTLE: Duration = Duration::from_millis(20);
/// Looks at least this far apart, however often somebody flushes: five a second.
const APART: Duration = Duration::from_millis(200);
/// Looks this often anyway: a notification can be lost where the socket's buffer overflows.
const ANYWAY: Duration = Duration::from_secs(30);
/// Told at most this often.
const TOLD_EVERY: Duration = Duration::from_secs(600);

/// Never ends by itself.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut socket = match open() {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "no notice of changed tables; looked at every {}s", ANYWAY.as_secs());
            None
        }
    };
    let mut told: Option<Instant> = None;
    loop {
        let _ = timeout(ANYWAY, changed(&mut socket)).await;
        sleep(SETTLE).await;
        if restore(&shared).await && told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            told = Some(Instant::now());
            // A full queue means that the daemon has not taken the last one yet: it knows.
            let _ = shared.tell.try_send(disturbed(&shared));
        }
        sleep(APART).await;
    }
}

fn open() -> std::io::Result<AsyncFd<OwnedFd>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::NETFILTER),
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, NFTABLES))?;
    crate::linux::collect::registered(socket)
}

/// Until somebody changed some table; the messages themselves do not matter.
async fn changed(socket: &mut Option<AsyncFd<OwnedFd>>) {
    let Some(fd) = socket else {
        return std::future::pending().await;
    };
    let mut buffer = [0; 4096];
    let Ok(mut ready) = fd.readable().await else {
        *socket = None;
        return;
    };
    // Bounded: what is left makes the socket readable again.
    for _ in 0..1024 {
        match recv(ready.get_inner(), &mut buffer[..], RecvFlags::empty()) {
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => {
                ready.clear_ready();
                return;
            }
            // ENOBUFS: messages were lost, so something changed.
            Err(_) => return,
        }
    }
}

/// Whether there was something to restore.
async fn restore(shared: &Shared) -> bool {
    let mut state = shared.state.lock().await;
    let Some(nft) = state.nft.clone() else {
        return false;
    };
    if state.undisturbed(&nft).await {
        return false;
    }
    let Some(text) = state
        .standing
        .as_ref()
        .map(|standing| standing.text.clone())
    else {
        return false;
    };
    match put_back(&mut state, &nft, &text).await {
        Ok(()) => {
            tracing::warn!("somebody changed the isolation's table; it is restored");
        }
        Err(why) => tracing::error!(why, "the isolation's table is not restored; tried again"),
    }
    true
}

/// The table as it was; its listing is learned anew only where nft lists the same text otherwise now
/// (a newer nft). Whoever changed it once changes it again at any moment.
async fn put_back(state: &mut State, nft: &Nft, text: &str) -> Result<(), String> {
    nft.apply(text).await?;
    if state.undisturbed(nft).await {
        return Ok(());
    }
    let listing = make(nft, text).await?;
    if let Some(standing) = state.standing.as_mut() {
        standing.listing = listing;
    }
    Ok(())
}

fn disturbed(shared: &Shared) -> HostEvent {
    let at = crate::linux::boottime();
    HostEvent::Signal(SignalDraft {
        kind: SignalKind::AgentDegraded,
        key: format!("isolation-disturbed:{}:{}", shared.boot, at.0),
        boot: shared.boot,
        at_boottime: Millis(at.0),
        title: "somebody changed the isolation's firewall table; it is restored".to_owned(),
        signature: String::new(),
        evidence: "{}".to_owned(),
    })
}
