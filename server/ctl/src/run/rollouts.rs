//! Rollouts.

use super::{Session, releases};
use crate::args::{Follow, OnRollout, Order, Rollouts};
use crate::client::Client;
use crate::error::Error;
use crate::follow::{Show, until_over};
use crate::resolve;
use crate::views;
use ringward_domain::command::{Action, Outcome};
use ringward_domain::{Millis, RolloutId, Version};

pub(super) async fn run(session: &Session, verb: Rollouts) -> Result<(), Error> {
    match verb {
        Rollouts::Start {
            release,
            order,
            follow,
        } => {
            let client = session.client().await?;
            let release = releases::find(&client, &release).await?;
            let action = Action::StartRollout { release };
            let outcome = session.order_with(&client, &order, action).await?;
            followed(session, &client, outcome, &order, &follow).await
        }
        Rollouts::Rollback {
            from,
            to,
            order,
            follow,
        } => rollback(session, &from, to, &order, &follow).await,
        Rollouts::List { active } => {
            let (rollouts, andon) = session.client().await?.rollouts(active).await?;
            session.ui.print(&rollouts, || {
                views::rollouts::list(&rollouts, andon.as_ref(), session.ui.width())
            })
        }
        Rollouts::Show {
            rollout,
            hosts,
            ring,
            state,
        } => {
            let client = session.client().await?;
            let id = find(&client, rollout.as_deref()).await?;
            if hosts {
                let members = client.members(id, ring, state).await?;
                return session
                    .ui
                    .print(&members, || views::rollouts::members_table(&members));
            }
            let view = client.rollout(id).await?;
            session.ui.print(&view, || views::rollouts::show(&view))
        }
        Rollouts::Watch { rollout, timeout } => {
            let client = session.client().await?;
            let id = find(&client, rollout.as_deref()).await?;
            wait(session, &client, id, timeout, true).await
        }
        Rollouts::Pause(on) => brake(session, &on, Action::Pause).await,
        Rollouts::Abort(on) => brake(session, &on, Action::Abort).await,
        Rollouts::Resume {
            rollout,
            order,
            follow,
        } => {
            let client = session.client().await?;
            let id = find(&client, Some(&rollout)).await?;
            let action = Action::Resume(id);
            let mut outcome = session.order_with(&client, &order, action).await?;
            outcome.rollout = Some(id);
            followed(session, &client, outcome, &order, &follow).await
        }
    }
}

/// The rollout a person means; the newest where none is named.
async fn find(client: &Client, text: Option<&str>) -> Result<RolloutId, Error> {
    if let Some(Ok(id)) = text.map(str::parse) {
        return Ok(id);
    }
    let (rollouts, _) = client.rollouts(false).await?;
    match text {
        Some(text) => resolve::rollout(text, &rollouts),
        None => rollouts
            .first()
            .map(|newest| newest.id)
            .ok_or_else(|| Error::Unresolved {
                what: "rollout",
                text: String::new(),
                why: "there is none".to_owned(),
                next: "`ringwardctl rollouts start PACKAGE@VERSION` starts one".to_owned(),
            }),
    }
}

async fn brake(
    session: &Session,
    on: &OnRollout,
    action: impl FnOnce(RolloutId) -> Action,
) -> Result<(), Error> {
    let client = session.client().await?;
    let id = find(&client, Some(&on.rollout)).await?;
    session.brake(&on.order, action(id)).await
}

async fn rollback(
    session: &Session,
    from: &str,
    to: Option<Version>,
    order: &Order,
    follow: &Follow,
) -> Result<(), Error> {
    let client = session.client().await?;
    let leave = if from.starts_with("r-") {
        let id = find(&client, Some(from)).await?;
        client.rollout(id).await?.release
    } else {
        releases::find(&client, from).await?
    };
    let action = Action::Rollback { leave, to };
    let outcome = session.order_with(&client, order, action).await?;
    followed(session, &client, outcome, order, follow).await
}

/// After an order: follows the rollout where that was asked for.
async fn followed(
    session: &Session,
    client: &Client,
    outcome: Outcome,
    order: &Order,
    follow: &Follow,
) -> Result<(), Error> {
    match outcome.rollout {
        Some(id) if !order.dry_run && (follow.wait || follow.watch) => {
            wait(session, client, id, follow.timeout, follow.watch).await
        }
        _ => Ok(()),
    }
}

async fn wait(
    session: &Session,
    client: &Client,
    id: RolloutId,
    timeout: Option<Millis>,
    watch: bool,
) -> Result<(), Error> {
    let show = watch.then(Show::new);
    let view = until_over(client, id, timeout, show).await?;
    session
        .ui
        .print(&view, || format!("{}\n", views::tree::line(&view)))
}
