//! Hosts and tokens.

use super::{Session, labels};
use crate::args::{Hosts, Labels, OnHost, Order, Tokens};
use crate::client::{Client, act};
use crate::error::Error;
use crate::resolve;
use crate::ui::note;
use crate::views;
use crate::words::clean;
use ringward_domain::HostId;
use ringward_domain::command::Action;
use ringward_wire::command::Act;
use ringward_wire::host::HostFilter;
use ringward_wire::page::PageRequest;
use ringward_wire::token::{TokenSpec, TokenView};

pub(super) async fn hosts(session: &Session, verb: Hosts) -> Result<(), Error> {
    match verb {
        Hosts::List {
            query,
            state,
            label,
            attention,
        } => {
            let filter = HostFilter {
                query: query.unwrap_or_default(),
                states: state,
                labels: label.into_iter().collect(),
                attention_only: attention,
            };
            let page = session.client().await?.hosts(&filter).await?;
            session.ui.print(&page.hosts, || {
                views::hosts::list(&page, session.ui.width())
            })
        }
        Hosts::Show { host } => {
            let client = session.client().await?;
            let id = find(&client, &host).await?;
            let host = client.host(id).await?;
            session.ui.print(&host, || views::hosts::show(&host))
        }
        Hosts::Label {
            host,
            labels,
            order,
        } => set_labels(session, &host, &labels, &order).await,
        Hosts::Approve(on) => order(session, &on, Action::ApproveHost).await,
        Hosts::Retire(on) => order(session, &on, Action::RetireHost).await,
        Hosts::Freeze(on) => order(session, &on, Action::Freeze).await,
        Hosts::Unfreeze(on) => order(session, &on, Action::Unfreeze).await,
        Hosts::Unfence(on) => order(session, &on, Action::UnfenceHost).await,
        Hosts::Replace(on) => order(session, &on, Action::ReplaceHost).await,
        Hosts::Labels(Labels::Import { file, order }) => {
            labels::import(session, &file, &order).await
        }
    }
}

pub(super) async fn find(client: &Client, text: &str) -> Result<HostId, Error> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let filter = HostFilter {
        query: text.to_owned(),
        ..HostFilter::default()
    };
    // One page of candidates is more than an error lists; an exact name among them is found all the
    // same unless 1,000 hosts share its start.
    let page = PageRequest {
        size: ringward_wire::page::SIZE_MAX,
        ..PageRequest::default()
    };
    resolve::host(text, &client.host_page(&filter, page).await?.hosts)
}

async fn order(
    session: &Session,
    on: &OnHost,
    action: impl FnOnce(HostId) -> Action,
) -> Result<(), Error> {
    let client = session.client().await?;
    let host = find(&client, &on.host).await?;
    let ordered = session.order_with(&client, &on.order, action(host)).await;
    ordered.map(|_| ())
}

async fn set_labels(
    session: &Session,
    host: &str,
    changes: &[String],
    order: &Order,
) -> Result<(), Error> {
    let client = session.client().await?;
    let id = find(&client, host).await?;
    let mut labels = client.host(id).await?.labels;
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(key)) if !key.is_empty() => {
                labels.remove(key);
            }
            _ => {
                return Err(Error::usage(
                    format!("{change:?} changes no label"),
                    "use KEY=VALUE to set and KEY- to remove",
                ));
            }
        }
    }
    let action = Action::SetLabels(id, labels);
    session.order_with(&client, order, action).await.map(|_| ())
}

pub(super) async fn tokens(session: &Session, verb: Tokens) -> Result<(), Error> {
    match verb {
        Tokens::Create {
            uses,
            life,
            label,
            pending,
            ephemeral,
            network,
            only,
            order,
        } => {
            let spec = TokenSpec {
                uses,
                life_ms: life,
                labels: label.into_iter().collect(),
                approve: !pending,
                ephemeral_ms: ephemeral,
                networks: network,
                only: only.unwrap_or_default(),
            };
            create(session, spec, &order).await
        }
        Tokens::List => {
            let tokens = session.client().await?.tokens().await?;
            session.ui.print(&tokens, || views::tokens::list(&tokens))
        }
        Tokens::Revoke { token, order } => {
            let client = session.client().await?;
            let id = find_token(&token, &client.tokens().await?)?;
            let act = Act {
                dry_run: order.dry_run,
                ..act(&order.reason)
            };
            let outcome = client.revoke_token(act, &id).await?;
            session.ui.outcome(&outcome, order.dry_run)
        }
    }
}

async fn create(session: &Session, spec: TokenSpec, order: &Order) -> Result<(), Error> {
    let act = Act {
        dry_run: order.dry_run,
        ..act(&order.reason)
    };
    let created = session.client().await?.create_token(act, spec).await?;
    let Some(text) = created.text else {
        return session.ui.outcome(&created.outcome, order.dry_run);
    };
    // The text alone goes to standard output, so that it can be piped to where it is used.
    note(&clean(&created.outcome.summary));
    note("shown only now; on the new host pipe it into `ringward-agent enroll --token-stdin`");
    let json = serde_json::json!({ "token": text, "view": created.view });
    session.ui.print(&json, || format!("{}\n", clean(&text)))
}

fn find_token(text: &str, tokens: &[TokenView]) -> Result<String, Error> {
    let found: Vec<_> = tokens
        .iter()
        .filter(|token| !text.is_empty() && token.id.starts_with(text))
        .map(|token| token.id.clone())
        .collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        other => Err(Error::Unresolved {
            what: "token",
            text: text.to_owned(),
            why: if other.is_empty() {
                "there is none".to_owned()
            } else {
                format!("could be {}", clean(&other.join(", ")))
            },
            next: "`ringwardctl tokens list` shows what there is".to_owned(),
        }),
    }
}
