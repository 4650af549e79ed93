//! Webhooks.

use super::Session;
use crate::args::{Order, Webhooks};
use crate::client::act;
use crate::error::Error;
use crate::words::clean;
use ringward_wire::command::Act;
use ringward_wire::pb;

pub(super) async fn run(session: &Session, verb: Webhooks) -> Result<(), Error> {
    let client = session.client().await?;
    match verb {
        Webhooks::List => {
            let webhooks = client.webhooks().await?;
            let json: Vec<_> = webhooks.iter().map(json_of).collect();
            session
                .ui
                .print(&json, || webhooks.iter().map(line).collect())
        }
        Webhooks::Test { name, order } => {
            let done = client.test_webhook(as_ordered(&order), name).await?;
            session.ui.outcome(&done, order.dry_run)
        }
        Webhooks::Dead => {
            let dead = client.dead_letters().await?;
            let json: Vec<_> = dead.letters.iter().map(letter_json).collect();
            session.ui.print(&json, || {
                let mut text: String = dead.letters.iter().map(letter_line).collect();
                if dead.dropped > 0 {
                    text.push_str(&format!("{} older ones were dropped\n", dead.dropped));
                }
                text
            })
        }
        Webhooks::Replay { id, order } => {
            let done = client.replay(as_ordered(&order), id).await?;
            session.ui.outcome(&done, order.dry_run)
        }
    }
}

fn as_ordered(order: &Order) -> Act {
    Act {
        dry_run: order.dry_run,
        ..act(&order.reason)
    }
}

fn json_of(view: &pb::WebhookView) -> serde_json::Value {
    serde_json::json!({
        "name": view.name,
        "place": view.place,
        "events": view.events,
        "waiting": view.waiting,
        "trouble": view.trouble,
    })
}

fn line(view: &pb::WebhookView) -> String {
    let trouble = match view.trouble.is_empty() {
        true => String::new(),
        false => format!(": {}", clean(&view.trouble)),
    };
    format!(
        "{}  {}  {}  {} waiting{trouble}\n",
        clean(&view.name),
        clean(&view.place),
        clean(&view.events.join(",")),
        view.waiting
    )
}

fn letter_json(letter: &pb::DeadLetter) -> serde_json::Value {
    serde_json::json!({
        "id": letter.id,
        "webhook": letter.webhook,
        "event": letter.event,
        "made_unix_ms": letter.made_unix_ms,
        "tries": letter.tries,
        "why": letter.why,
    })
}

fn letter_line(letter: &pb::DeadLetter) -> String {
    format!(
        "{}  {}  {}  {} tries: {}\n",
        clean(&letter.id),
        clean(&letter.webhook),
        clean(&letter.event),
        letter.tries,
        clean(&letter.why)
    )
}
