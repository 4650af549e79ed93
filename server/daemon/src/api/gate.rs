//! The one place where a call meets what it needs: declared in the `.proto`, held by the caller, and
//! denied in every other case.

use crate::accounts::Accounts;
use crate::actor::Handle;
use crate::listener::{Gate, Identity, Peer};
use crate::pki::AdminIdentity;
use ringward_domain::people::{Permission, Proof};
use ringward_wire::{permission, status};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// The gate of both listeners.
#[derive(Clone)]
pub struct Door {
    /// Grants are known here.
    pub handle: Handle,
    /// API tokens are known here.
    pub accounts: Arc<Accounts>,
}

type Admitted = Pin<Box<dyn Future<Output = Result<Peer, Status>> + Send>>;

impl Gate for Door {
    fn admit(&self, path: String, peer: Peer, bearer: Option<String>) -> Admitted {
        let door = self.clone();
        Box::pin(async move { door.look(&path, peer, bearer).await })
    }
}

impl Door {
    async fn look(
        &self,
        path: &str,
        mut peer: Peer,
        bearer: Option<String>,
    ) -> Result<Peer, Status> {
        let needs = match path {
            "/metrics" => Permission::Read,
            path => permission::of(path)
                .ok_or_else(|| Status::unimplemented("there is no such call"))?,
        };
        if let Some(text) = bearer {
            (peer.identity, peer.closing) = self.of_token(&text).await?;
        }
        match (&peer.identity, needs) {
            // Each call of an agent looks at its certificate itself, and says what to do without.
            (
                Identity::None | Identity::Host(_) | Identity::Expired(_),
                Permission::Agent | Permission::Enrol,
            ) => Ok(peer),
            (Identity::Admin(_), Permission::Agent | Permission::Enrol) => {
                Err(Status::permission_denied("this call is for agents"))
            }
            (Identity::None, _) => Err(status::problem(
                Code::Unauthenticated,
                "this call needs an admin's certificate, session or API token",
                "use a context file of `ringward-server admin`, or one with the token",
            )),
            (Identity::Host(_) | Identity::Expired(_), _) => {
                Err(Status::permission_denied("this call is for people"))
            }
            (Identity::Admin(admin), needs) => {
                let caller = admin.caller(false);
                let name = caller.name.clone();
                let may = self
                    .handle
                    .ask(move |seen| seen.control.may(&caller, needs))
                    .await?;
                if may {
                    return Ok(peer);
                }
                tracing::warn!(actor = name, path, ?needs, "denied");
                Err(status::refused(&ringward_domain::command::Refusal::Denied {
                    what: path.rsplit('/').next().unwrap_or_default().to_owned(),
                    why: format!("{name} holds no role that carries it"),
                    next: "ask an admin for the role (`ringwardctl people list` shows who holds what)"
                        .to_owned(),
                }))
            }
        }
    }

    /// Whose token it is, and what fires at its end.
    async fn of_token(&self, text: &str) -> Result<(Identity, CancellationToken), Status> {
        let token = self.accounts.token(text).await.map_err(|error| {
            tracing::error!(%error, "looking up an API token");
            Status::unavailable("API tokens cannot be read at this moment; try again")
        })?;
        let token = token.ok_or_else(|| {
            status::problem(
                Code::Unauthenticated,
                "the API token is not known, expired or revoked",
                "make another with `ringwardctl people token`",
            )
        })?;
        let ended = self.accounts.end_of(&token);
        let identity = Identity::Admin(Arc::new(AdminIdentity {
            token: Some(token.id()),
            name: token.owner,
            key: None,
            by: Proof::Token(token.grants),
        }));
        Ok((identity, ended))
    }
}
