//! The stream of what happens.

use super::{Shared, admin, peer};
use crate::actor::{Gone, Handle, is_active};
use ringward_domain::RolloutId;
use ringward_domain::report::RolloutView;
use ringward_wire::pb::watch_service_server::WatchService;
use ringward_wire::watch::{WATCHED_MAX, WatchEvent};
use ringward_wire::{pb, status};
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Events that wait for one watcher.
const QUEUE: usize = 32;

/// The watch service.
#[derive(Clone)]
pub struct WatchApi(pub Arc<Shared>);

/// What one watcher wants to see.
#[derive(Debug, Clone)]
struct Wanted(Vec<RolloutId>);

impl Wanted {
    fn rollout(&self, view: &RolloutView) -> bool {
        self.0.is_empty() || self.0.contains(&view.id)
    }

    /// What stood when the watch began: those named, or all that are not over.
    fn at_first(&self, view: &RolloutView) -> bool {
        if self.0.is_empty() {
            is_active(view)
        } else {
            self.0.contains(&view.id)
        }
    }

    fn event(&self, event: &WatchEvent) -> bool {
        match event {
            WatchEvent::Rollout(view) => self.rollout(view),
            WatchEvent::Notice {
                rollout: Some(id), ..
            } => self.0.is_empty() || self.0.contains(id),
            WatchEvent::Notice { rollout: None, .. }
            | WatchEvent::Andon(_)
            | WatchEvent::CaughtUp => true,
        }
    }
}

type Sender = mpsc::Sender<Result<pb::WatchEvent, Status>>;

#[tonic::async_trait]
impl WatchService for WatchApi {
    type WatchStream = ReceiverStream<Result<pb::WatchEvent, Status>>;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        admin(&request)?;
        let closing = peer(&request)?.closing.clone();
        let rollouts = request.into_inner().rollouts;
        if rollouts.len() > WATCHED_MAX {
            return Err(status::bad_field("rollouts", "are more than 64"));
        }
        let wanted = Wanted(rollouts.into_iter().map(RolloutId).collect());
        let (sender, receiver) = mpsc::channel(QUEUE);
        let handle = self.0.handle.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                _ = watch(&handle, &wanted, &sender) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The watcher went away, or the server stops.
struct Over;

impl From<Gone> for Over {
    fn from(_: Gone) -> Self {
        Self
    }
}

async fn watch(handle: &Handle, wanted: &Wanted, sender: &Sender) -> Result<(), Over> {
    let mut events = handle.hub().listen();
    present(handle, wanted, sender).await?;
    loop {
        match events.recv().await {
            Ok(event) if wanted.event(&event) => send(sender, event).await?,
            Ok(_) => {}
            // Too slow: what was missed is made up for by how things stand now.
            Err(RecvError::Lagged(_)) => present(handle, wanted, sender).await?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn present(handle: &Handle, wanted: &Wanted, sender: &Sender) -> Result<(), Over> {
    let (rollouts, andon) = handle.ask(|seen| (seen.rollouts(), seen.andon())).await?;
    send(sender, WatchEvent::Andon(andon)).await?;
    for view in rollouts.into_iter().filter(|view| wanted.at_first(view)) {
        send(sender, WatchEvent::Rollout(Box::new(view))).await?;
    }
    send(sender, WatchEvent::CaughtUp).await
}

async fn send(sender: &Sender, event: WatchEvent) -> Result<(), Over> {
    sender.send(Ok(event.into())).await.map_err(|_| Over)
}
