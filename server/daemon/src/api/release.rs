//! Releases: published whole and verified, or not at all.

use super::agent::blocking;
use super::{Shared, admin, carry_out, not_found, page_of, plain_outcome, whole};
use crate::artefacts::{ArtefactError, Receiving};
use crate::clock::unix_ms;
use crate::error::chain;
use crate::release_check::{Checked, check, load_root};
use ringward_domain::command::{Action, Outcome};
use ringward_domain::manifest::Envelope;
use ringward_domain::people::Permission;
use ringward_domain::report::{ReleaseView, Standing};
use ringward_domain::{ReleaseDigest, Sha256};
use ringward_server_core::release::ReleaseRecord;
use ringward_wire::command::Act;
use ringward_wire::page::PageRequest;
use ringward_wire::pb::publish_request::Part;
use ringward_wire::pb::release_service_server::ReleaseService;
use ringward_wire::release::ReleaseDetail;
use ringward_wire::{command, pb, status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};

/// How long an upload may pause between two pieces.
const PIECE: Duration = Duration::from_secs(30);

/// The release service.
#[derive(Clone)]
pub struct ReleaseApi(pub Arc<Shared>);

type Answer = Result<Response<pb::Outcome>, Status>;

/// What is being published.
struct Upload {
    act: Act,
    actor: String,
    envelope: Envelope,
    checked: Checked,
    /// Artefacts that the manifest names, with their sizes.
    wanted: BTreeMap<Sha256, u64>,
}

#[tonic::async_trait]
impl ReleaseService for ReleaseApi {
    async fn publish(
        &self,
        request: Request<Streaming<pb::PublishRequest>>,
    ) -> Result<Response<pb::PublishResponse>, Status> {
        let admin = admin(&request)?;
        whole(&self.0.handle, &admin, Permission::Rollout).await?;
        let mut parts = request.into_inner();
        let _turn = self
            .0
            .uploads
            .acquire()
            .await
            .map_err(|_| Status::unavailable("the server is stopping"))?;
        let upload = self.begin(&mut parts, admin.signature()).await?;
        if !upload.act.dry_run {
            self.receive(&mut parts, &upload).await?;
        }
        self.take_in(upload).await
    }

    async fn list(
        &self,
        request: Request<pb::ListReleasesRequest>,
    ) -> Result<Response<pb::ListReleasesResponse>, Status> {
        admin(&request)?;
        let request = request.into_inner();
        let page = PageRequest::decode(request.page_size, request.page_token)?;
        let mut releases = self.0.handle.ask(|seen| seen.releases()).await?;
        releases
            .retain(|view| request.package.is_empty() || view.package.as_str() == request.package);
        releases.sort_by_key(|view| (std::cmp::Reverse(view.published_unix_ms), view.release));
        let (releases, next_page_token) = page_of(releases, &page.after, page.size, |view| {
            view.release.0.to_vec()
        });
        Ok(Response::new(pb::ListReleasesResponse {
            releases: releases.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get(
        &self,
        request: Request<pb::GetReleaseDetailRequest>,
    ) -> Result<Response<pb::ReleaseDetail>, Status> {
        admin(&request)?;
        let release = digest(&request.into_inner().release)?;
        let detail = self
            .0
            .handle
            .ask(move |seen| {
                Some(ReleaseDetail {
                    view: seen.release(release)?,
                    envelope: seen.envelope(release)?,
                })
            })
            .await?
            .ok_or_else(|| no_release(release))?;
        Ok(Response::new(detail.into()))
    }

    async fn mark_good(&self, request: Request<pb::ReleaseCommand>) -> Answer {
        self.on_release(request, Action::MarkGood).await
    }

    async fn mark_bad(&self, request: Request<pb::ReleaseCommand>) -> Answer {
        self.on_release(request, Action::MarkBad).await
    }

    async fn lift_bar(&self, request: Request<pb::ReleaseCommand>) -> Answer {
        self.on_release(request, Action::LiftBar).await
    }
}

fn digest(raw: &[u8]) -> Result<ReleaseDigest, Status> {
    ReleaseDigest::try_from(raw).map_err(|error| status::bad_field("release", &error.to_string()))
}

fn no_release(release: ReleaseDigest) -> Status {
    not_found(
        "release",
        release.to_string(),
        "list them with `ringwardctl releases list`",
    )
}

/// The next part of an upload.
async fn next(parts: &mut Streaming<pb::PublishRequest>) -> Result<Option<Part>, Status> {
    let message = tokio::time::timeout(PIECE, parts.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the upload paused for more than 30 s"))??;
    match message {
        None => Ok(None),
        Some(pb::PublishRequest { part: Some(part) }) => Ok(Some(part)),
        Some(pb::PublishRequest { part: None }) => Err(status::bad_field("part", "must be set")),
    }
}

fn artefact_refused(error: &ArtefactError) -> Status {
    match error {
        ArtefactError::Disk { .. } => {
            tracing::error!(error = chain(error), "storing an artefact");
            status::problem(
                Code::Unavailable,
                "the server's disk fails at this moment",
                "make room on the server, then publish again",
            )
        }
        ArtefactError::Size { .. } | ArtefactError::Digest { .. } => {
            status::bad_field("content", &error.to_string())
        }
    }
}

impl ReleaseApi {
    async fn on_release(
        &self,
        request: Request<pb::ReleaseCommand>,
        action: fn(ReleaseDigest) -> Action,
    ) -> Answer {
        let admin = admin(&request)?;
        let command = command::on_release(request.into_inner(), &admin.signature(), action);
        carry_out(&self.0.handle, admin.caller(false), command).await
    }

    /// Reads the first part and verifies the release before a byte of content is taken.
    async fn begin(
        &self,
        parts: &mut Streaming<pb::PublishRequest>,
        actor: String,
    ) -> Result<Upload, Status> {
        let Some(Part::Start(start)) = next(parts).await? else {
            return Err(status::bad_field("part", "the first one must be start"));
        };
        let act = Act::decode(start.act)?;
        let envelope: Envelope = start
            .envelope
            .ok_or_else(|| status::bad_field("start.envelope", "must be set"))?
            .try_into()?;
        let data = self.0.data.clone();
        let root = blocking(move || load_root(&data)).await?.ok_or_else(|| {
            status::problem(
                Code::FailedPrecondition,
                "this server trusts no release keys yet",
                "make keys with `ringwardctl keys init`, then on the server \
                 `ringward-server trust-root --data DIR release-root.json`",
            )
        })?;
        let checked = check(&root, &envelope, unix_ms() / 1000)
            .map_err(|error| status::bad_field(error.field, &error.why))?;
        let wanted = checked
            .manifest
            .artefacts
            .iter()
            .map(|artefact| (artefact.sha256, artefact.size))
            .collect();
        Ok(Upload {
            act,
            actor,
            envelope,
            checked,
            wanted,
        })
    }

    /// Takes the content of every artefact that is not here yet.
    async fn receive(
        &self,
        parts: &mut Streaming<pb::PublishRequest>,
        upload: &Upload,
    ) -> Result<(), Status> {
        let mut under_way: Option<(Sha256, Receiving)> = None;
        while let Some(part) = next(parts).await? {
            let Part::Content(content) = part else {
                return Err(status::bad_field("part", "start must come once"));
            };
            let sha256 = Sha256::try_from(content.sha256.as_slice())
                .map_err(|error| status::bad_field("content.sha256", &error.to_string()))?;
            let chunk = content.chunk.unwrap_or_default();
            let &size = upload.wanted.get(&sha256).ok_or_else(|| {
                status::bad_field("content.sha256", "the manifest names no such artefact")
            })?;
            if self.0.artefacts.has(sha256) {
                continue;
            }
            let mut receiving = match under_way.take() {
                Some((same, receiving)) if same == sha256 => receiving,
                Some(_) => {
                    return Err(status::bad_field(
                        "content.sha256",
                        "the artefact before it is not complete",
                    ));
                }
                None => self
                    .0
                    .artefacts
                    .receive(sha256, size)
                    .map_err(|error| artefact_refused(&error))?,
            };
            if chunk.offset != receiving.got() {
                return Err(status::bad_field(
                    "content.chunk.offset",
                    &format!("is {} where {} follows", chunk.offset, receiving.got()),
                ));
            }
            let written = tokio::task::spawn_blocking(move || {
                receiving.write(&chunk.data)?;
                if receiving.got() == size {
                    receiving.finish()?;
                    return Ok(None);
                }
                Ok(Some(receiving))
            })
            .await
            .map_err(|_| Status::internal("storing an artefact ended in a panic"))?;
            under_way = written
                .map_err(|error: ArtefactError| artefact_refused(&error))?
                .map(|receiving| (sha256, receiving));
        }
        let missing = upload
            .wanted
            .keys()
            .find(|sha256| !self.0.artefacts.has(**sha256));
        match missing {
            None => Ok(()),
            Some(sha256) => Err(status::bad_field(
                "content",
                &format!("artefact {sha256} did not come whole"),
            )),
        }
    }

    /// Lets the decisions take the release in.
    async fn take_in(&self, upload: Upload) -> Result<Response<pb::PublishResponse>, Status> {
        let Upload {
            act,
            actor,
            envelope,
            checked,
            wanted,
        } = upload;
        let title = format!("{} {}", checked.manifest.package, checked.manifest.version);
        if act.dry_run {
            let missing = wanted
                .keys()
                .filter(|sha256| !self.0.artefacts.has(**sha256))
                .count();
            let outcome = plain_outcome(format!(
                "would publish {title} ({} valid signatures, {missing} of {} artefacts to upload)",
                checked.signed_by.len(),
                wanted.len()
            ));
            return Ok(answer(outcome, None));
        }
        let release = checked.release;
        let record = ReleaseRecord {
            release,
            manifest: checked.manifest,
            envelope,
            standing: Standing::Unproven,
            published_unix_ms: unix_ms(),
            published_by: actor.clone(),
        };
        let already = self
            .0
            .handle
            .publish(record)
            .await?
            .map_err(|refusal| status::refused(&refusal))?;
        let outcome = plain_outcome(match already {
            false => format!("published {title}"),
            true => format!("{title} was published before, with the same content"),
        });
        tracing::info!(%release, title, "release published");
        let view = self.0.handle.ask(move |seen| seen.release(release)).await?;
        Ok(answer(outcome, view))
    }
}

fn answer(outcome: Outcome, view: Option<ReleaseView>) -> Response<pb::PublishResponse> {
    Response::new(pb::PublishResponse {
        outcome: Some(outcome.into()),
        release: view.map(Into::into),
    })
}
