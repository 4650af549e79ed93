//! Orders, approvals and people.

use super::{Session, fleet};
use crate::args::Order;
use crate::client::{Client, act};
use crate::error::Error;
use crate::keys::ReleaseKey;
use crate::order_args::{Approvals, Orders, People, Quarantine, To};
use crate::ui::{note, sure};
use crate::words::clean;
use crate::{files, resolve, views};
use ringward_domain::command::Action;
use ringward_domain::order_spec::{OrderKind, OrderSpec, OrderTargets, OrderView};
use ringward_domain::{HostId, OrderId};
use ringward_wire::command::Act;
use ringward_wire::merkle;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a file of hosts: 10,000 names.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How often an order is looked at while it is watched.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn quarantine(session: &Session, verb: Quarantine) -> Result<(), Error> {
    let kind = OrderKind::Quarantine {
        allow: verb.allow,
        life: (!verb.until_released).then_some(verb.life),
    };
    place(session, kind, verb.to).await
}

pub(super) async fn release(session: &Session, to: To) -> Result<(), Error> {
    place(session, OrderKind::Release, to).await
}

pub(super) async fn orders(session: &Session, verb: Orders) -> Result<(), Error> {
    match verb {
        Orders::List => {
            let orders = session.client().await?.orders().await?;
            let json: Vec<_> = orders.iter().map(views::orders::json).collect();
            session.ui.print(&json, || views::orders::list(&orders))
        }
        Orders::Show { order } => {
            let client = session.client().await?;
            let id = find(&client, &order).await?;
            show(session, &client, id).await
        }
        Orders::Watch { order, timeout } => {
            let client = session.client().await?;
            let id = find(&client, &order).await?;
            let until = timeout.map(|t| Instant::now() + Duration::from_millis(t.0));
            watch(session, &client, id, until).await
        }
        Orders::Cancel { order_id, order } => {
            let client = session.client().await?;
            let id = find(&client, &order_id).await?;
            let at_once = Order { yes: true, ..order };
            let action = Action::CancelOrder(id);
            let done = session.order_with(&client, &at_once, action).await;
            done.map(|_| ())
        }
        Orders::Endorse {
            order_id,
            key,
            order,
        } => endorse(session, &order_id, &key, &order).await,
        Orders::Reboot(to) => place(session, OrderKind::Reboot, to).await,
        Orders::Collect(to) => place(session, OrderKind::Collect, to).await,
        Orders::Freeze(to) => place(session, OrderKind::Freeze, to).await,
        Orders::Unfreeze(to) => place(session, OrderKind::Unfreeze, to).await,
        Orders::Rollback {
            package,
            version,
            to,
        } => {
            let kind = OrderKind::Rollback {
                package,
                to: version,
            };
            place(session, kind, to).await
        }
        Orders::Pin { path, to } => place(session, OrderKind::Pin(path), to).await,
        Orders::Unpin { path, to } => place(session, OrderKind::Unpin(path), to).await,
    }
}

async fn place(session: &Session, kind: OrderKind, to: To) -> Result<(), Error> {
    let client = session.client().await?;
    let targets = targets(&client, &to).await?;
    let spec = OrderSpec {
        kind,
        targets,
        ticket: to.ticket,
        life: to.expires_in,
        protected: to.include_protected,
        over_cap: to.over_cap,
        endorsers: to.endorsers,
    };
    let action = Action::Order(Box::new(spec));
    let done = session.order_with(&client, &to.order, action).await;
    done.map(|_| ())
}

/// What is signed is made here, of what was shown: the server is not believed.
async fn endorse(
    session: &Session,
    order_id: &str,
    key: &Path,
    order: &Order,
) -> Result<(), Error> {
    let key = ReleaseKey::read(key)?;
    let client = session.client().await?;
    let id = find(&client, order_id).await?;
    let view = client.order(id).await?;
    let hosts = client.order_hosts(id).await?;
    let mut tree = merkle::Tree::default();
    for host in &hosts {
        tree.push(merkle::leaf(&host.host.0.to_be_bytes()));
    }
    let root = tree.head().root;
    let said = view.statement(hosts.len() as u64, &root).ok_or_else(|| {
        Error::usage(
            format!(
                "no host asks for endorsements of a {}",
                view.spec.kind.verb()
            ),
            "endorse quarantines, reboots and collections",
        )
    })?;
    note(&String::from_utf8_lossy(&said));
    let names: Vec<String> = hosts.iter().take(20).map(|h| clean(&h.hostname)).collect();
    let more = hosts.len().saturating_sub(names.len());
    note(&format!(
        "hosts: {}{}",
        names.join(", "),
        match more {
            0 => String::new(),
            more => format!(" and {more} more (`orders show {id}`)"),
        }
    ));
    let signed = (key.endorse(&said), key.public());
    let dry = Act {
        dry_run: true,
        ..act(&order.reason)
    };
    let would = client.endorse(dry, id, signed.clone()).await?;
    if order.dry_run {
        return session.ui.outcome(&would, true);
    }
    sure(order, "Sign this?")?;
    let done = client.endorse(act(&order.reason), id, signed).await?;
    session.ui.outcome(&done, false)
}

async fn targets(client: &Client, to: &To) -> Result<OrderTargets, Error> {
    if let Some(selector) = &to.selector {
        return Ok(OrderTargets::Selector(selector.clone()));
    }
    if let Some(ring) = &to.ring {
        return Ok(OrderTargets::Ring(ring.clone()));
    }
    if let Some(release) = &to.on_release {
        let releases = client.releases(None).await?;
        return Ok(OrderTargets::Release(resolve::release(release, &releases)?));
    }
    if to.everything {
        return Ok(OrderTargets::Everything);
    }
    let names = match &to.file {
        None => to.hosts.clone(),
        Some(path) => {
            let text = if path.as_os_str() == "-" {
                let mut text = Vec::new();
                std::io::stdin()
                    .lock()
                    .take(FILE_BYTES_MAX)
                    .read_to_end(&mut text)
                    .map_err(Error::file("reading", "standard input".as_ref()))?;
                text
            } else {
                files::read(path, FILE_BYTES_MAX)?
            };
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines = text.lines().map(str::trim);
            let named = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            named.map(str::to_owned).collect()
        }
    };
    let mut hosts: Vec<HostId> = Vec::with_capacity(names.len());
    for name in names {
        hosts.push(fleet::find(client, &name).await?);
    }
    if hosts.is_empty() {
        return Err(Error::usage(
            "the file names no host",
            "write one host a line, or say --everything",
        ));
    }
    Ok(OrderTargets::Hosts(hosts))
}

async fn find(client: &Client, text: &str) -> Result<OrderId, Error> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    resolve::order(text, &client.orders().await?)
}

async fn show(session: &Session, client: &Client, id: OrderId) -> Result<(), Error> {
    let (order, hosts) = (client.order(id).await?, client.order_hosts(id).await?);
    let json = views::orders::json_with_hosts(&order, &hosts);
    session
        .ui
        .print(&json, || views::orders::show(&order, &hosts))
}

/// Whether nothing more comes of an order.
fn is_over(order: &OrderView) -> bool {
    let [over_cap, pending, delivered, ..] = order.counts;
    over_cap + pending + delivered == 0
}

async fn watch(
    session: &Session,
    client: &Client,
    id: OrderId,
    until: Option<Instant>,
) -> Result<(), Error> {
    let mut told = None;
    loop {
        let order = client.order(id).await?;
        if told != Some(order.counts) {
            note(&views::orders::counts(&order));
            told = Some(order.counts);
        }
        if is_over(&order) {
            return show(session, client, id).await;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::OrderTimeout {
                order: id,
                state: views::orders::counts(&order),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn approvals(session: &Session, verb: Approvals) -> Result<(), Error> {
    let client = session.client().await?;
    match verb {
        Approvals::List { all } => {
            let approvals = client.approvals(all).await?;
            let json: Vec<_> = approvals.iter().map(views::orders::approval_json).collect();
            session
                .ui
                .print(&json, || views::orders::approvals(&approvals))
        }
        Approvals::Approve { approval, order } => {
            let approvals = client.approvals(false).await?;
            let approval = resolve::approval(&approval, &approvals)?;
            let action = Action::Approve(approval.id, approval.digest);
            let done = session.order_with(&client, &order, action).await;
            done.map(|_| ())
        }
        Approvals::Deny { approval, order } => {
            let approvals = client.approvals(false).await?;
            let id = resolve::approval(&approval, &approvals)?.id;
            let at_once = Order { yes: true, ..order };
            let done = session.order_with(&client, &at_once, Action::Deny(id));
            done.await.map(|_| ())
        }
    }
}

fn in_earnest(order: &Order) -> Act {
    Act {
        dry_run: order.dry_run,
        ..act(&order.reason)
    }
}

pub(super) async fn people(session: &Session, verb: People) -> Result<(), Error> {
    let client = session.client().await?;
    match verb {
        People::List => {
            let people = client.people().await?;
            session.ui.print(&people, || views::orders::people(&people))
        }
        People::Whoami => {
            let person = client.who_am_i().await?;
            session.ui.print(&person, || {
                views::orders::people(std::slice::from_ref(&person))
            })
        }
        People::Grant {
            person,
            roles,
            order,
        } => {
            let action = Action::Grant(person, roles);
            session
                .order_with(&client, &order, action)
                .await
                .map(|_| ())
        }
        People::Password { person, order } => {
            note("Password (12-256 bytes, one line; empty takes it away):");
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .map_err(Error::file("reading", "standard input".as_ref()))?;
            let password = line.trim_end_matches(['\r', '\n']).to_owned();
            let outcome = client
                .set_password(in_earnest(&order), &person, password)
                .await?;
            session.ui.outcome(&outcome, order.dry_run)
        }
        People::Token {
            label,
            roles,
            life,
            write,
            order,
        } => {
            if let Some(file) = write.as_deref().filter(|file| file.exists()) {
                let why = format!("{} is there already", file.display());
                return Err(Error::usage(&why, "name another file"));
            }
            let made = client.create_api_token(in_earnest(&order), label, roles, life);
            let (outcome, text) = made.await?;
            match (text, write) {
                (None, _) => session.ui.outcome(&outcome, order.dry_run),
                (Some(text), Some(file)) => {
                    let context = session.context()?.with_token(&text)?;
                    files::create_private(&file, context.as_bytes())?;
                    let words = format!("{}: in {}", outcome.summary, file.display());
                    let json = serde_json::json!({ "context": file });
                    session.ui.print(&json, || format!("{}\n", clean(&words)))
                }
                // The text alone goes to standard output, so that it can be piped.
                (Some(text), None) => {
                    note(&clean(&outcome.summary));
                    let json = serde_json::json!({ "token": text });
                    session.ui.print(&json, || format!("{text}\n"))
                }
            }
        }
        People::Tokens => {
            let tokens = client.api_tokens().await?;
            let json: Vec<_> = tokens.iter().map(views::orders::token_json).collect();
            session
                .ui
                .print(&json, || views::orders::api_tokens(&tokens))
        }
        People::RevokeToken { token, order } => {
            let outcome = client.revoke_api_token(in_earnest(&order), &token).await?;
            session.ui.outcome(&outcome, order.dry_run)
        }
    }
}
