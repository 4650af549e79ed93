//! One agent session: frames in to the actor, messages out to the host.

use super::Shared;
use crate::actor::{Session, SessionId, queue};
use futures_channel::mpsc;
use ringward_domain::session::{Hello, PROTOCOL, PROTOCOL_MIN, ToAgent, ToServer};
use ringward_domain::{HostId, Millis};
use ringward_server_core::control::NotAdmitted;
use ringward_wire::{pb, status};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, Status, Streaming};

/// How long a host may take to say hello.
const HELLO: Duration = Duration::from_secs(10);
/// A session is shown a newer head of the audit log at most this often: the log grows with each
/// decision of a rollout, and a proof for each of 10,000 hosts a second would be half a core.
const AUDIT_EVERY: Duration = Duration::from_secs(60);
/// When a host comes back that was asked to; the agent spreads it by jitter over as long again.
const COME_BACK: Millis = Millis::secs(2);
/// When all are asked to at once, so many come a second: half of what one core takes in.
const COME_BACK_PER_S: u64 = 1_000;

/// When a connection is to be closed.
pub(super) struct Closing {
    /// This one, because of its age, or because all are.
    pub connection: CancellationToken,
    /// All of them: the server stops.
    pub server: CancellationToken,
}

impl Closing {
    /// When the host should come back. All at once would be more than a server takes in.
    fn come_back(&self, open: u64) -> Millis {
        match self.server.is_cancelled() {
            true => COME_BACK.max(Millis::secs(open / COME_BACK_PER_S)),
            false => COME_BACK,
        }
    }
}

/// What goes to the host; ends with the session.
pub struct Outbound {
    inbox: mpsc::Receiver<ToAgent>,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    /// A host that went away drops this, and with it the session ends.
    _close: DropGuard,
}

impl Stream for Outbound {
    type Item = Result<pb::ServerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(message) = Pin::new(&mut self.inbox).poll_next(cx) {
            return Poll::Ready(message.map(|message| Ok(message.into())));
        }
        // Queued messages go first, the goodbye among them.
        self.closed.as_mut().poll(cx).map(|()| None)
    }
}

/// Opens a session: waits for the hello, lets the actor admit the host, then reads on in a task of
/// its own.
pub(super) async fn open(
    shared: Arc<Shared>,
    host: HostId,
    frames: Streaming<pb::AgentFrame>,
    connection: Closing,
) -> Result<Outbound, Status> {
    // Boxed, as the reader below: a task has room twice for what is moved into it.
    let mut frames = Box::new(frames);
    let hello = tokio::time::timeout(HELLO, frames.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello came within 10 s"))??
        .ok_or_else(|| Status::invalid_argument("the session ended before its hello"))?;
    let ToServer::Hello(hello) = ToServer::try_from(hello)? else {
        return Err(status::bad_field(
            "body",
            "the first frame of a session must be hello",
        ));
    };
    agree(&hello)?;
    let (out, inbox) = queue(shared.limits.host_queue);
    let close = CancellationToken::new();
    let id = SessionId::fresh();
    let session = Session {
        id,
        out: out.clone(),
        close: close.clone(),
    };
    // Given up half-way (the call's time ran out), the actor may have the session already.
    let mut opening = Opening {
        shared: &shared,
        host,
        id,
        is_open: false,
    };
    shared
        .handle
        .connect(host, session, hello)
        .await?
        .map_err(refused)?;
    opening.is_open = true;
    drop(opening);
    let outbound = Outbound {
        inbox,
        closed: Box::pin(close.clone().cancelled_owned()),
        _close: close.clone().drop_guard(),
    };
    let reader = Box::new(Reader {
        shared,
        host,
        id,
        out,
        close,
        connection,
        audit: None,
    });
    tokio::spawn(reader.run(frames));
    Ok(outbound)
}

/// A session that is being opened; dropped before it is open, the actor hears of its end.
struct Opening<'a> {
    shared: &'a Arc<Shared>,
    host: HostId,
    id: SessionId,
    is_open: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            let (handle, host, id) = (self.shared.handle.clone(), self.host, self.id);
            tokio::spawn(async move { handle.disconnect(host, id).await });
        }
    }
}

fn refused(why: NotAdmitted) -> Status {
    let (code, next) = match why {
        NotAdmitted::Unknown | NotAdmitted::Retired => (
            Code::PermissionDenied,
            "create a token with `ringwardctl tokens create`, then `ringward-agent enroll`",
        ),
        NotAdmitted::Fenced => (
            Code::PermissionDenied,
            "`ringward-agent generalize` on the copy, then `ringwardctl hosts unfence`",
        ),
        NotAdmitted::Stale => (Code::Aborted, "nothing: the newer session goes on"),
    };
    status::problem(code, &why.to_string(), next)
}

/// Whether there is a protocol version that both sides speak; the decisions name it in Welcome.
fn agree(hello: &Hello) -> Result<(), Status> {
    if hello.protocol_max.min(PROTOCOL) < hello.protocol_min.max(PROTOCOL_MIN) {
        return Err(status::problem(
            Code::FailedPrecondition,
            &format!(
                "the agent speaks protocol {}-{}, this server {PROTOCOL_MIN}-{PROTOCOL}",
                hello.protocol_min, hello.protocol_max
            ),
            if hello.protocol_max < PROTOCOL_MIN {
                "update the agent"
            } else {
                "update the server"
            },
        ));
    }
    Ok(())
}

/// Reads the frames of one session.
struct Reader {
    shared: Arc<Shared>,
    host: HostId,
    id: SessionId,
    out: mpsc::Sender<ToAgent>,
    close: CancellationToken,
    connection: Closing,
    /// Size of the audit log that the host was shown last, and when; `None` until it asks.
    audit: Option<(u64, Instant)>,
}

impl Reader {
    async fn run(mut self: Box<Self>, mut frames: Box<Streaming<pb::AgentFrame>>) {
        let shared = Arc::clone(&self.shared);
        let limits = &shared.limits;
        let allowance = shared.allowances.of(self.host, limits, Instant::now());
        loop {
            let frame = tokio::select! {
                () = self.close.cancelled() => break,
                () = self.connection.connection.cancelled() => {
                    let open = shared.metrics.connections_open.get();
                    let after = self.connection.come_back(open);
                    let _ = self.out.try_send(ToAgent::ComeBack { after });
                    break;
                }
                frame = frames.message() => frame,
            };
            // An end or a broken connection is told the same way: the host is no longer there.
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    if matches!(error.code(), Code::OutOfRange | Code::Internal) {
                        self.shared.metrics.messages_refused.add_one();
                        tracing::info!(host = %self.host, why = error.message(), "message refused: session closed");
                    }
                    break;
                }
            };
            self.shared.metrics.messages_received.add_one();
            let pause = allowance
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(signals_in(&frame), Instant::now());
            if let Some(pause) = pause {
                self.shared.metrics.messages_delayed.add_one();
                tokio::time::sleep(pause).await;
            }
            let message = match ToServer::try_from(frame) {
                Ok(ToServer::Hello(_)) => {
                    tracing::info!(host = %self.host, "second hello in a session: closed");
                    break;
                }
                Ok(ToServer::AuditKnown { size }) => {
                    // Once a session: each answer costs a read of the store.
                    if self.audit.is_none() {
                        Box::pin(self.show_audit(size, true)).await;
                    }
                    continue;
                }
                Ok(message) => message,
                Err(error) if error.is_unknown() => continue,
                Err(error) => {
                    self.shared.metrics.messages_refused.add_one();
                    tracing::info!(host = %self.host, %error, "malformed frame: session closed");
                    break;
                }
            };
            let told = self.shared.handle.message(self.host, self.id, message);
            if told.await.is_err() {
                break;
            }
            if let Some((known, at)) = self.audit
                && at.elapsed() >= AUDIT_EVERY
            {
                // Boxed: ten thousand readers should not each keep room for it.
                Box::pin(self.show_audit(known, false)).await;
            }
        }
        self.close.cancel();
        self.shared.handle.disconnect(self.host, self.id).await;
    }
}

fn signals_in(frame: &pb::AgentFrame) -> usize {
    match &frame.body {
        Some(pb::agent_frame::Body::Signals(batch)) => batch.signals.len(),
        _ => 0,
    }
}

impl Reader {
    /// Shows the audit log's head, with the proof from the size that the host knows.
    async fn show_audit(&mut self, known: u64, asked: bool) {
        self.audit = Some((known, Instant::now()));
        match self.shared.audit.shown(known).await {
            Ok(shown) if asked || shown.head.size != known => {
                let size = shown.head.size;
                // A full queue has more urgent things in it; the next time comes.
                if self
                    .out
                    .try_send(ToAgent::AuditHead(Box::new(shown)))
                    .is_ok()
                {
                    self.audit = Some((size, Instant::now()));
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(host = %self.host, %error, "the audit log is not shown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stops_lets_its_hosts_come_back_no_faster_than_they_are_taken_in() {
        let closing = Closing {
            connection: CancellationToken::new(),
            server: CancellationToken::new(),
        };
        assert_eq!(closing.come_back(10_000), COME_BACK);
        closing.server.cancel();
        assert_eq!(closing.come_back(10), COME_BACK);
        // The agent comes between this and twice this: 10,000 within 10 s.
        assert_eq!(closing.come_back(10_000), Millis::secs(10));
    }
}
