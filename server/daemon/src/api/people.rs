//! Who may do what, their passwords and their API tokens.

use super::{Shared, admin, breaks_glass, carry_out, plain_outcome, store_failed};
use crate::accounts::{AccountError, ApiToken};
use crate::clock::unix_ms;
use crate::pki::AdminIdentity;
use ringward_domain::Millis;
use ringward_domain::people::{Grant, Permission, Proof};
use ringward_server_core::people::PersonRecord;
use ringward_wire::command::Act;
use ringward_wire::pb::people_service_server::PeopleService;
use ringward_wire::people::PersonView;
use ringward_wire::{pb, people, status};
use std::sync::Arc;
use tonic::{Code, Request, Response, Status};

/// The people service.
#[derive(Clone)]
pub struct PeopleApi(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

pub(super) fn account_failed(error: AccountError) -> Status {
    let why = error.to_string();
    match error {
        AccountError::Invalid(field, why) => status::bad_field(field, &why),
        AccountError::Wrong => status::problem(Code::Unauthenticated, &why, "try again"),
        AccountError::TooMany => status::problem(Code::ResourceExhausted, &why, "wait"),
        AccountError::Unknown => {
            let next = "list them with `ringwardctl people tokens`";
            status::problem(Code::NotFound, &why, next)
        }
        AccountError::Fenced => Status::unavailable(why),
        AccountError::Store(error) => store_failed(&error),
    }
}

fn not_by_token(admin: &AdminIdentity, why: &str) -> Result<(), Status> {
    match admin.by {
        Proof::Token(_) => {
            let next = "come as the person, with certificate or password";
            Err(status::problem(Code::PermissionDenied, why, next))
        }
        Proof::Certificate | Proof::Session => Ok(()),
    }
}

fn token_view(token: &ApiToken) -> pb::ApiTokenView {
    pb::ApiTokenView {
        id: token.id(),
        owner: token.owner.clone(),
        label: token.label.clone(),
        grants: token.grants.iter().cloned().map(Into::into).collect(),
        expires_unix_ms: token.expires_unix_ms,
        live: token.is_live(unix_ms()),
    }
}

impl PeopleApi {
    async fn view(&self, person: PersonRecord, now: ringward_domain::Timestamp) -> PersonView {
        let has_password = self.0.accounts.has_password(&person.name).await;
        PersonView {
            grants: person
                .grants
                .iter()
                .map(|held| (held.grant.clone(), now.since(held.since)))
                .collect(),
            has_password: has_password.unwrap_or(false),
            name: person.name,
        }
    }

    async fn everybody(&self) -> Result<(Vec<PersonRecord>, ringward_domain::Timestamp), Status> {
        let seen = self.0.handle.ask(|seen| (seen.control.people(), seen.now));
        Ok(seen.await?)
    }
}

#[tonic::async_trait]
impl PeopleService for PeopleApi {
    async fn who_am_i(&self, request: Request<pb::WhoAmIRequest>) -> Answer<pb::PersonView> {
        let admin = admin(&request)?;
        let (people, now) = self.everybody().await?;
        let person = people.into_iter().find(|p| p.name == admin.name);
        let person = person.unwrap_or(PersonRecord {
            name: admin.name.clone(),
            grants: Vec::new(),
        });
        Ok(Response::new(self.view(person, now).await.into()))
    }

    async fn list(
        &self,
        request: Request<pb::ListPeopleRequest>,
    ) -> Answer<pb::ListPeopleResponse> {
        admin(&request)?;
        let (people, now) = self.everybody().await?;
        let mut views = Vec::with_capacity(people.len());
        for person in people {
            views.push(self.view(person, now).await.into());
        }
        Ok(Response::new(pb::ListPeopleResponse { people: views }))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let caller = admin.caller(breaks_glass(request.act.as_ref()));
        let command = people::grant(request, &admin.signature());
        carry_out(&self.0.handle, caller, command).await
    }

    async fn set_password(&self, request: Request<pb::SetPasswordRequest>) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        // Whoever has a token could sign in as its owner then, and approve.
        not_by_token(&admin, "a token sets no password")?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let other = request.person != admin.name;
        if other {
            super::whole(&self.0.handle, &admin, Permission::People).await?;
        }
        let (people, _) = self.everybody().await?;
        if !people.iter().any(|person| person.name == request.person) {
            return Err(status::bad_field(
                "person",
                "holds no role yet: grant one first",
            ));
        }
        // Whoever sets somebody's password can sign in as them, and be their own second person.
        let approver = people.iter().any(|person| {
            person.name == request.person
                && person
                    .grants
                    .iter()
                    .any(|held| held.grant.role.allows(Permission::Approve))
        });
        if other && approver && !request.password.is_empty() {
            return Err(status::problem(
                Code::PermissionDenied,
                "an approver's password is set by nobody else",
                "let the person set it with `ringwardctl people password`, by their certificate",
            ));
        }
        if !act.dry_run {
            self.0
                .accounts
                .set_password(
                    &admin.signature(),
                    &request.person,
                    request.password,
                    &act.reason,
                )
                .await
                .map_err(account_failed)?;
            self.0.sessions.close_of(&request.person);
        }
        let summary = format!("the password of {} is changed", request.person);
        Ok(Response::new(plain_outcome(summary).into()))
    }

    async fn create_api_token(
        &self,
        request: Request<pb::CreateApiTokenRequest>,
    ) -> Answer<pb::CreateApiTokenResponse> {
        let admin = admin(&request)?;
        not_by_token(&admin, "a token makes no tokens")?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let grants = request.grants.into_iter().map(Grant::try_from);
        let grants = grants.collect::<Result<Vec<_>, _>>()?;
        let life = Millis(request.life_ms);
        if act.dry_run {
            let outcome = plain_outcome(format!("would make an API token for {life}"));
            return Ok(Response::new(pb::CreateApiTokenResponse {
                outcome: Some(outcome.into()),
                token: String::new(),
            }));
        }
        let made =
            self.0
                .accounts
                .create_token(act.request, &admin.name, request.label, grants, life);
        let (token, text) = made.await.map_err(account_failed)?;
        let outcome = plain_outcome(format!("API token {} lives {life}", token.id()));
        Ok(Response::new(pb::CreateApiTokenResponse {
            outcome: Some(outcome.into()),
            token: text.unwrap_or_default(),
        }))
    }

    async fn list_api_tokens(
        &self,
        request: Request<pb::ListApiTokensRequest>,
    ) -> Answer<pb::ListApiTokensResponse> {
        let admin = admin(&request)?;
        let all = super::whole(&self.0.handle, &admin, Permission::People)
            .await
            .is_ok();
        let tokens = self.0.accounts.tokens().await.map_err(account_failed)?;
        let mine = tokens.iter().filter(|t| all || t.owner == admin.name);
        Ok(Response::new(pb::ListApiTokensResponse {
            tokens: mine.map(token_view).collect(),
        }))
    }

    async fn revoke_api_token(
        &self,
        request: Request<pb::RevokeApiTokenRequest>,
    ) -> Answer<pb::Outcome> {
        let admin = admin(&request)?;
        let request = request.into_inner();
        let act = Act::decode(request.act)?;
        let all = super::whole(&self.0.handle, &admin, Permission::People)
            .await
            .is_ok();
        let owner = (!all).then_some(admin.name.as_str());
        if !act.dry_run {
            self.0
                .accounts
                .revoke_token(&admin.signature(), owner, &request.id, &act.reason)
                .await
                .map_err(account_failed)?;
        }
        let summary = format!("API token {} works no more", request.id);
        Ok(Response::new(plain_outcome(summary).into()))
    }
}
