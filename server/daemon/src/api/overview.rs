//! What a person sees at one glance of a large fleet.

use super::{Shared, admin, not_found, peer, whole};
use crate::actor::BUCKET_MS;
use crate::clock::unix_ms;
use crate::overview::Overview;
use ringward_domain::RolloutId;
use ringward_domain::people::Permission;
use ringward_wire::pb;
use ringward_wire::pb::overview_service_server::OverviewService;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Parts that wait for one reader.
const QUEUE: usize = 4;

/// The overview service.
#[derive(Clone)]
pub struct OverviewApi {
    /// What every service needs.
    pub shared: Arc<Shared>,
    /// The picture that all readers share.
    pub overview: Arc<Overview>,
}

#[tonic::async_trait]
impl OverviewService for OverviewApi {
    type FleetStream = ReceiverStream<Result<pb::FleetFeed, Status>>;

    async fn fleet(
        &self,
        request: Request<pb::FleetFeedRequest>,
    ) -> Result<Response<Self::FleetStream>, Status> {
        let admin = admin(&request)?;
        whole(&self.shared.handle, &admin, Permission::Read).await?;
        let closing = peer(&request)?.closing.clone();
        let has = request.into_inner();
        let (picture, revision, texts) = (has.picture, has.revision, has.texts);
        let parts = self.overview.since(picture, revision, texts).await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            for part in parts {
                let sent = tokio::select! {
                    () = closing.cancelled() => return,
                    sent = sender.send(Ok(part)) => sent,
                };
                if sent.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn signals(
        &self,
        request: Request<pb::SignalSeriesRequest>,
    ) -> Result<Response<pb::SignalSeries>, Status> {
        admin(&request)?;
        let ask = |seen: &crate::actor::Seen<'_>| {
            let buckets = seen.series.signals.iter();
            let buckets = buckets.map(|(at, counts)| pb::SignalBucket {
                start_unix_ms: at * BUCKET_MS,
                counts: counts
                    .iter()
                    .map(|(kind, count)| pb::SignalCount {
                        kind: *kind,
                        count: *count,
                    })
                    .collect(),
            });
            pb::SignalSeries {
                bucket_ms: BUCKET_MS,
                since_unix_ms: seen.series.since,
                now_unix_ms: unix_ms(),
                buckets: buckets.collect(),
            }
        };
        Ok(Response::new(self.shared.handle.ask(ask).await?))
    }

    async fn history(
        &self,
        request: Request<pb::RolloutHistoryRequest>,
    ) -> Result<Response<pb::RolloutHistory>, Status> {
        admin(&request)?;
        let id = RolloutId(request.into_inner().rollout);
        let history = self
            .shared
            .handle
            .ask(move |seen| seen.series.history(id).cloned())
            .await?;
        let history = history.ok_or_else(|| {
            not_found(
                "history of rollout",
                id.to_string(),
                "histories of the newest 32 rollouts are kept",
            )
        })?;
        let samples = history.samples.into_iter().map(|sample| pb::RolloutSample {
            at_unix_ms: sample.at,
            exposed: sample.exposed,
            confirmed: sample.confirmed,
            failed: sample.failed,
            signals: sample.signals,
        });
        let steps = history.steps.into_iter().map(|step| pb::RolloutStep {
            at_unix_ms: step.at,
            ring: step.ring,
            words: step.words,
        });
        Ok(Response::new(pb::RolloutHistory {
            samples: samples.collect(),
            steps: steps.collect(),
        }))
    }
}
