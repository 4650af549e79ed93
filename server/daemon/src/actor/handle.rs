//! How the rest of the server reaches the actor.

use super::{Input, Seen, Session, SessionId, WatchHub, What};
use ringward_domain::HostId;
use ringward_domain::command::{Command, Outcome, Refusal};
use ringward_domain::host::HostState;
use ringward_domain::people::Caller;
use ringward_domain::session::{Hello, ToServer};
use ringward_server_core::control::{Enrolment, NotAdmitted};
use ringward_server_core::release::ReleaseRecord;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// A question; it must be quick, for the one task that decides answers it.
pub type Ask = Box<dyn FnOnce(&Seen<'_>) + Send>;

/// The actor ended: the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is stopping; try again, or another server")]
pub struct Gone;

/// Whether the server can do its work, for `/readyz`.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
    failing: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
    pub(super) fn set_failing(&self, why: Option<String>) {
        *self.failing.lock().unwrap_or_else(|e| e.into_inner()) = why;
    }
    /// Why the server cannot do its work now, or nothing.
    pub fn not_ready(&self) -> Option<String> {
        if !self.ready.load(Ordering::Acquire) {
            return Some("starting".to_owned());
        }
        self.failing
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone()
    }
}

/// The way to the actor.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    asks: mpsc::Sender<Ask>,
    hub: WatchHub,
    health: Arc<Health>,
}

impl Handle {
    pub(super) fn new(
        inputs: mpsc::Sender<Input>,
        asks: mpsc::Sender<Ask>,
        hub: WatchHub,
        health: Arc<Health>,
    ) -> Self {
        Self {
            inputs,
            asks,
            hub,
            health,
        }
    }

    /// Whether the server can do its work.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// What happens, as it happens.
    pub fn hub(&self) -> &WatchHub {
        &self.hub
    }

    async fn tell(&self, what: What) -> Result<(), Gone> {
        let input = Input {
            at: Instant::now(),
            what,
        };
        self.inputs.send(input).await.map_err(|_| Gone)
    }

    /// Opens a session; the newest one of a host wins.
    ///
    /// # Errors
    /// Where the server stops; inside, where the host may have none.
    pub async fn connect(
        &self,
        host: HostId,
        session: Session,
        hello: Box<Hello>,
    ) -> Result<Result<(), NotAdmitted>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(What::Connected {
            host,
            session,
            hello,
            reply,
        })
        .await?;
        answer.await.map_err(|_| Gone)
    }

    /// Passes a message on; waits while the actor is busy, and that is the back-pressure on the host.
    ///
    /// # Errors
    /// Where the server stops.
    pub async fn message(
        &self,
        host: HostId,
        session: SessionId,
        message: ToServer,
    ) -> Result<(), Gone> {
        self.tell(What::Message {
            host,
            session,
            message,
        })
        .await
    }

    /// A session ended.
    pub async fn disconnect(&self, host: HostId, session: SessionId) {
        // Where the actor is gone there is nobody left who would count the silence.
        let _ = self.tell(What::Disconnected { host, session }).await;
    }

    /// Lets the decisions stand still until what is answered is dropped, a minute at most: nothing
    /// of theirs is written meanwhile.
    ///
    /// # Errors
    /// Where the server stops.
    pub async fn hold(&self) -> Result<oneshot::Sender<()>, Gone> {
        let (release, released) = oneshot::channel();
        let (held, holding) = oneshot::channel();
        self.tell(What::Hold { held, released }).await?;
        holding.await.map_err(|_| Gone)?;
        Ok(release)
    }

    /// Takes a host in.
    ///
    /// # Errors
    /// Where the server stops.
    pub async fn enrol(&self, enrolment: Enrolment) -> Result<HostState, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(What::Enrol {
            enrolment: Box::new(enrolment),
            reply,
        })
        .await?;
        answer.await.map_err(|_| Gone)
    }

    /// Carries out an order of the program itself, or says what it would do: nobody is asked.
    ///
    /// # Errors
    /// Where the server stops; inside, where the order is refused.
    pub async fn command(&self, command: Command) -> Result<Result<Outcome, Refusal>, Gone> {
        self.command_of(None, command).await
    }

    /// Carries out what a person asks for, if that person may.
    ///
    /// # Errors
    /// Where the server stops; inside, where it is refused.
    pub async fn ask_for(
        &self,
        caller: Caller,
        command: Command,
    ) -> Result<Result<Outcome, Refusal>, Gone> {
        self.command_of(Some(Box::new(caller)), command).await
    }

    async fn command_of(
        &self,
        caller: Option<Box<Caller>>,
        command: Command,
    ) -> Result<Result<Outcome, Refusal>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(What::Command {
            caller,
            command: Box::new(command),
            reply,
        })
        .await?;
        answer.await.map_err(|_| Gone)
    }

    /// Takes a verified release in; answers whether it was there already.
    ///
    /// # Errors
    /// Where the server stops; inside, where it is refused.
    pub async fn publish(&self, record: ReleaseRecord) -> Result<Result<bool, Refusal>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.tell(What::Publish {
            record: Box::new(record),
            reply,
        })
        .await?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks something; answered even while the store fails.
    ///
    /// # Errors
    /// Where the server stops.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Seen<'_>) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |seen| drop(reply.send(question(seen))));
        self.asks.send(ask).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}
