//! The session with a server: one connection, one stream each way, tagged so that words of a session
//! that is over are never taken for words of the present one.

use ringward_domain::session::{ToAgent, ToServer};
use ringward_wire::client;
use ringward_wire::pb;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::session::FRAME_BYTES_MAX;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// Frames on their way out; a full queue means that the server does not read, and ends the session.
const OUT_FRAMES_MAX: usize = 64;
/// A session that ends in good order has this long to bring out its last frames.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// What a session tells.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// The connection stands; Hello may go out.
    Up(Channel),
    /// A message came.
    Message(ToAgent),
    /// It is over, or never came about; in words, why.
    Down(String),
}

/// A [`LinkEvent`] with the number of its session.
#[derive(Debug)]
pub(crate) struct Tagged {
    pub(crate) session: u64,
    pub(crate) event: LinkEvent,
}

/// The present session.
#[derive(Debug)]
pub(crate) struct Link {
    tell: mpsc::Sender<Tagged>,
    number: u64,
    addresses: Vec<String>,
    tls: Arc<ClientConfig>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    frames: mpsc::Sender<pb::AgentFrame>,
    /// Dropped: the session ends in good order.
    _stay: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Link {
    pub(crate) fn new(
        addresses: Vec<String>,
        tls: Arc<ClientConfig>,
        tell: mpsc::Sender<Tagged>,
    ) -> Self {
        Self {
            tell,
            number: 0,
            addresses,
            tls,
            open: None,
        }
    }

    /// The present identity.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Use another identity from the next session on.
    pub(crate) fn set_tls(&mut self, tls: Arc<ClientConfig>) {
        self.tls = tls;
    }

    /// Whether an event belongs to the present session.
    pub(crate) fn is_present(&self, tagged: &Tagged) -> bool {
        tagged.session == self.number && self.open.is_some()
    }

    /// Open a session after a while; the address list rotates with each.
    pub(crate) fn connect(&mut self, after: Duration) {
        self.close();
        self.number += 1;
        let turn = usize::try_from(self.number - 1).unwrap_or(0) % self.addresses.len().max(1);
        let Some(address) = self.addresses.get(turn).cloned() else {
            return;
        };
        let (frames, queue) = mpsc::channel(OUT_FRAMES_MAX);
        let (stay, leave) = oneshot::channel();
        let session = Session {
            number: self.number,
            tell: self.tell.clone(),
            leave,
        };
        let task = tokio::spawn(session.run(address, Arc::clone(&self.tls), queue, after));
        self.open = Some(Open {
            frames,
            _stay: stay,
            task,
        });
    }

    /// Send, or drop where there is no session. `false`: the queue is full and the session closed.
    pub(crate) fn send(&mut self, message: ToServer) -> bool {
        let Some(open) = &self.open else {
            return true;
        };
        match open.frames.try_send(message.into()) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.close();
                false
            }
        }
    }

    /// End the session in good order; its last frames have a moment to leave.
    pub(crate) fn close(&mut self) -> Option<JoinHandle<()>> {
        self.open.take().map(|open| open.task)
    }

    /// Cut the session off without a last word.
    pub(crate) fn abort(&mut self) {
        if let Some(task) = self.close() {
            task.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.abort();
    }
}

struct Session {
    number: u64,
    tell: mpsc::Sender<Tagged>,
    leave: oneshot::Receiver<()>,
}

impl Session {
    async fn tell(&self, event: LinkEvent) {
        let session = self.number;
        // The daemon is gone when this fails, and nobody is left to be told.
        let _ = self.tell.send(Tagged { session, event }).await;
    }

    async fn run(
        mut self,
        address: String,
        tls: Arc<ClientConfig>,
        queue: mpsc::Receiver<pb::AgentFrame>,
        after: Duration,
    ) {
        let connected = async {
            sleep(after).await;
            client::channel(&address, tls).await
        };
        let channel = tokio::select! {
            channel = connected => channel,
            _ = &mut self.leave => return,
        };
        let why = match channel {
            Ok(channel) => {
                self.tell(LinkEvent::Up(channel.clone())).await;
                self.converse(channel, queue).await
            }
            Err(error) => Some(chain(&error)),
        };
        if let Some(why) = why {
            self.tell(LinkEvent::Down(why)).await;
        }
    }

    /// Until the session is over; `None` where our side ended it.
    async fn converse(
        &mut self,
        channel: Channel,
        queue: mpsc::Receiver<pb::AgentFrame>,
    ) -> Option<String> {
        let mut client = AgentServiceClient::new(channel)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX);
        let call = client.session(ReceiverStream::new(queue));
        let mut incoming = tokio::select! {
            answer = call => match answer {
                Ok(response) => response.into_inner(),
                Err(status) => return Some(words(&status)),
            },
            _ = &mut self.leave => return None,
        };
        loop {
            tokio::select! {
                frame = incoming.message() => {
                    if let Some(why) = self.take(frame).await {
                        return Some(why);
                    }
                }
                _ = &mut self.leave => {
                    let _ = timeout(DRAIN, drain(&mut incoming)).await;
                    return None;
                }
            }
        }
    }

    /// One frame; in words, why the session is over.
    async fn take(&self, frame: Result<Option<pb::ServerFrame>, tonic::Status>) -> Option<String> {
        match frame.map(|frame| frame.map(ToAgent::try_from)) {
            Ok(Some(Ok(message))) => {
                self.tell(LinkEvent::Message(message)).await;
                None
            }
            Ok(Some(Err(error))) if error.is_unknown() => {
                tracing::debug!(%error, "a frame of a newer server is skipped");
                None
            }
            Ok(Some(Err(error))) => Some(format!("the server sent a bad frame: {error}")),
            Ok(None) => Some("the server ended the session".to_owned()),
            Err(status) => Some(words(&status)),
        }
    }
}

/// The server ends its side when it has read ours to the end.
async fn drain(incoming: &mut Streaming<pb::ServerFrame>) {
    while let Ok(Some(_)) = incoming.message().await {}
}

fn words(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// An error with everything beneath it, for one line of a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    // Bounded: an error that is its own source must not hang the agent.
    for _ in 0..8 {
        let Some(source) = cause else { break };
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
