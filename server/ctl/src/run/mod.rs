//! Carries out what the command line says.

mod audit;
mod fleet;
mod incidents;
mod keys;
mod labels;
mod orders;
mod releases;
mod rollouts;
mod webhooks;

use crate::args::{Cli, Common, ContextVerb, Noun, Order, Rings};
use crate::client::{Client, act};
use crate::context::Context;
use crate::error::Error;
use crate::files;
use crate::ui::{Ui, confirm};
use crate::views;
use crate::words::{clean, count};
use clap::CommandFactory;
use ringward_domain::command::{Action, Outcome};
use ringward_wire::command::{Act, POLICY_BYTES_MAX};
use std::path::Path;

/// Carries out one command.
///
/// # Errors
/// Whatever kept it from being done; see [`Error::exit_code`].
pub async fn run(cli: Cli) -> Result<(), Error> {
    let session = Session {
        ui: Ui {
            format: cli.common.output,
        },
        common: cli.common,
    };
    match cli.noun {
        Noun::Hosts(verb) => fleet::hosts(&session, verb).await,
        Noun::Tokens(verb) => fleet::tokens(&session, verb).await,
        Noun::Keys(verb) => keys::run(&session, &verb),
        Noun::Releases(verb) => releases::run(&session, verb).await,
        Noun::Rings(verb) => rings(&session, verb).await,
        Noun::Rollouts(verb) => rollouts::run(&session, verb).await,
        Noun::Audit(verb) => audit::run(&session, verb).await,
        Noun::Incidents(verb) => incidents::run(&session, verb).await,
        Noun::Webhooks(verb) => webhooks::run(&session, verb).await,
        Noun::Suspects { limit } => incidents::suspects(&session, limit).await,
        Noun::Quarantine(verb) => orders::quarantine(&session, verb).await,
        Noun::Release(to) => orders::release(&session, to).await,
        Noun::Orders(verb) => orders::orders(&session, verb).await,
        Noun::Approvals(verb) => orders::approvals(&session, verb).await,
        Noun::People(verb) => orders::people(&session, verb).await,
        Noun::StopAll(order) => session.brake(&order, Action::StopAll).await,
        Noun::ResumeAll(order) => session.order(&order, Action::ResumeAll).await.map(|_| ()),
        Noun::Context(ContextVerb::Show) => context_show(&session).await,
        Noun::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "ringwardctl", &mut std::io::stdout());
            Ok(())
        }
    }
}

/// What every command works with.
struct Session {
    ui: Ui,
    common: Common,
}

impl Session {
    fn context(&self) -> Result<Context, Error> {
        Context::load(self.common.context.as_deref())
    }

    async fn client(&self) -> Result<Client, Error> {
        Client::connect(&self.context()?).await
    }

    /// Orders something that loosens a brake or touches many hosts: after a yes.
    async fn order(&self, order: &Order, action: Action) -> Result<Outcome, Error> {
        let client = self.client().await?;
        self.order_with(&client, order, action).await
    }

    async fn order_with(
        &self,
        client: &Client,
        order: &Order,
        action: Action,
    ) -> Result<Outcome, Error> {
        if !order.dry_run && !order.yes {
            let dry = Act {
                break_glass: order.break_glass,
                ..dry(&order.reason)
            };
            let would = send(client, dry, action.clone()).await?;
            confirm(order, &would)?;
        }
        let act = Act {
            dry_run: order.dry_run,
            break_glass: order.break_glass,
            ..act(&order.reason)
        };
        let outcome = send(client, act, action).await?;
        self.ui.outcome(&outcome, order.dry_run)?;
        Ok(outcome)
    }

    /// Orders something that only ever tightens a brake: at once.
    async fn brake(&self, order: &Order, action: Action) -> Result<(), Error> {
        let at_once = Order {
            yes: true,
            ..order.clone()
        };
        self.order(&at_once, action).await.map(|_| ())
    }
}

fn dry(reason: &str) -> Act {
    Act {
        dry_run: true,
        ..act(reason)
    }
}

/// Sends an order; once more under the same request id where the connection broke, because then
/// nobody knows whether it arrived, and twice does no harm.
async fn send(client: &Client, act: Act, action: Action) -> Result<Outcome, Error> {
    match client.command(act.clone(), action.clone()).await {
        Err(error) if error.is_unreachable() => client.command(act, action).await,
        answer => answer,
    }
}

fn read_policy(path: &Path) -> Result<String, Error> {
    let text = files::read(path, POLICY_BYTES_MAX as u64)?;
    String::from_utf8(text).map_err(|_| {
        Error::usage(
            format!("{} is not UTF-8 text", path.display()),
            "write the policy as TOML",
        )
    })
}

async fn rings(session: &Session, verb: Rings) -> Result<(), Error> {
    match verb {
        Rings::Check { file } => {
            let policy = read_policy(&file)?;
            let outcome = session.client().await?.check_policy(policy).await?;
            session.ui.outcome(&outcome, true)
        }
        Rings::Apply { file, order } => {
            let policy = read_policy(&file)?;
            let action = Action::ApplyPolicy(policy);
            session.order(&order, action).await.map(|_| ())
        }
        Rings::List { toml } => {
            let policy = session.client().await?.policy().await?;
            session.ui.print(&policy, || {
                if toml {
                    let lines = policy.policy_toml.lines().map(clean);
                    lines.map(|line| format!("{line}\n")).collect()
                } else {
                    views::rings::list(&policy)
                }
            })
        }
    }
}

async fn context_show(session: &Session) -> Result<(), Error> {
    let context = session.context()?;
    let answer = match Client::connect(&context).await {
        Ok(client) => client.rollouts(true).await.map(|(rollouts, _)| {
            let running = count(rollouts.len() as u64, "rollout", "rollouts");
            format!("answers; {running} under way")
        }),
        Err(error) => Err(error),
    };
    let server = match &answer {
        Ok(answer) => answer.clone(),
        Err(_) => "does not answer".to_owned(),
    };
    let mut shown = serde_json::json!({
        "context": context.path,
        "server": context.server,
        "answers": answer.is_ok(),
    });
    for (name, source) in &context.sources {
        shown[*name] = source.as_str().into();
    }
    session.ui.print(&shown, || {
        let path = context.path.display().to_string();
        let mut text = format!(
            "context     {}\nserver      {} ({server})\n",
            clean(&path),
            clean(&context.server)
        );
        for (name, source) in &context.sources {
            text.push_str(&format!("{name:<12}{}\n", clean(source)));
        }
        text
    })?;
    answer.map(|_| ())
}
