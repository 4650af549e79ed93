//! Typed calls for orders, approvals and people.

use crate::client::{Client, PAGES_MAX, answered, outcome, read, request, taken, unreadable};
use crate::error::Error;
use ringward_domain::command::{Action, Outcome};
use ringward_domain::manifest::Signature;
use ringward_domain::order_spec::{ApprovalView, OrderHostView, OrderView};
use ringward_domain::people::Grant;
use ringward_domain::{Millis, OrderId};
use ringward_wire::command::Act;
use ringward_wire::page::SIZE_MAX;
use ringward_wire::people::PersonView;
use ringward_wire::{pb, people};

impl Client {
    /// The actions that the other services do not know.
    pub(crate) async fn people_command(
        &self,
        act: Option<pb::Act>,
        action: Action,
    ) -> Result<Outcome, Error> {
        let (doing, answer) = match action {
            Action::Order(spec) => {
                let spec = Some((*spec).into());
                let order = pb::PlaceOrderRequest { act, spec };
                ("ordering", self.order_service().place(request(order)).await)
            }
            Action::CancelOrder(id) => {
                let order = pb::OrderCommand { act, order: id.0 };
                let answer = self.order_service().cancel(request(order)).await;
                ("cancelling the order", answer)
            }
            Action::Endorse(..) => {
                return Err(Error::usage("it is endorsed with a key", "report it"));
            }
            Action::Approve(id, digest) => {
                let order = pb::ApproveRequest {
                    act,
                    approval: id.0,
                    digest: digest.0.to_vec(),
                };
                let answer = self.approval_service().approve(request(order)).await;
                ("approving", answer)
            }
            Action::Deny(id) => {
                let order = pb::ApprovalCommand {
                    act,
                    approval: id.0,
                };
                (
                    "denying",
                    self.approval_service().deny(request(order)).await,
                )
            }
            Action::Grant(person, grants) => {
                let order = pb::GrantRequest {
                    act,
                    person,
                    grants: grants.into_iter().map(Into::into).collect(),
                };
                (
                    "granting",
                    self.people_service().grant(request(order)).await,
                )
            }
            _ => return Err(Error::usage("this is no order to hosts", "report it")),
        };
        answered(doing, answer)
    }

    /// Carries a signature with an order.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn endorse(
        &self,
        act: Act,
        id: OrderId,
        (signature, public_key): (Signature, [u8; 32]),
    ) -> Result<Outcome, Error> {
        let order = pb::EndorseRequest {
            act: Some(act.into()),
            order: id.0,
            signature: Some(signature.into()),
            public_key: public_key.to_vec(),
        };
        answered(
            "endorsing",
            self.order_service().endorse(request(order)).await,
        )
    }

    /// Every order, newest first; without their hosts.
    ///
    /// # Errors
    /// A refusal of the server, or no answer; here and in every call below.
    pub async fn orders(&self) -> Result<Vec<OrderView>, Error> {
        let doing = "listing orders";
        let (mut orders, mut page_token) = (Vec::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let query = pb::ListOrdersRequest {
                page_size: SIZE_MAX as u32,
                page_token,
            };
            let page = taken(doing, self.order_service().list(request(query)).await)?;
            orders.extend(read::<OrderView, _>(doing, page.orders)?);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(orders)
    }

    /// One order.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn order(&self, id: OrderId) -> Result<OrderView, Error> {
        let query = request(pb::GetOrderRequest { order: id.0 });
        answered("reading the order", self.order_service().get(query).await)
    }

    /// Every host of an order.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn order_hosts(&self, id: OrderId) -> Result<Vec<OrderHostView>, Error> {
        let doing = "listing the hosts of the order";
        let (mut hosts, mut page_token) = (Vec::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let query = pb::OrderHostsRequest {
                order: id.0,
                page_size: SIZE_MAX as u32,
                page_token,
            };
            let page = taken(doing, self.order_service().hosts(request(query)).await)?;
            hosts.extend(read::<OrderHostView, _>(doing, page.hosts)?);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(hosts)
    }

    /// What waits for a second person; `all`: what is over too.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn approvals(&self, all: bool) -> Result<Vec<ApprovalView>, Error> {
        let doing = "listing approvals";
        let query = pb::ListApprovalsRequest { waiting_only: !all };
        let answer = taken(doing, self.approval_service().list(request(query)).await)?;
        people::approvals(answer).map_err(unreadable(doing))
    }

    /// Everybody who may do something.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn people(&self) -> Result<Vec<PersonView>, Error> {
        let doing = "listing people";
        let query = request(pb::ListPeopleRequest {});
        let answer = taken(doing, self.people_service().list(query).await)?;
        people::people(answer).map_err(unreadable(doing))
    }

    /// Who calls.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn who_am_i(&self) -> Result<PersonView, Error> {
        let query = request(pb::WhoAmIRequest {});
        answered(
            "asking who calls",
            self.people_service().who_am_i(query).await,
        )
    }

    /// Sets a password, or takes it away with an empty one.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn set_password(
        &self,
        act: Act,
        person: &str,
        password: String,
    ) -> Result<Outcome, Error> {
        let order = pb::SetPasswordRequest {
            act: Some(act.into()),
            person: person.to_owned(),
            password,
        };
        let answer = self.people_service().set_password(request(order)).await;
        answered("setting the password", answer)
    }

    /// A new API token of the caller's own, with its text where it was made now.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn create_api_token(
        &self,
        act: Act,
        label: String,
        grants: Vec<Grant>,
        life: Millis,
    ) -> Result<(Outcome, Option<String>), Error> {
        let doing = "making the API token";
        let order = pb::CreateApiTokenRequest {
            act: Some(act.into()),
            label,
            grants: grants.into_iter().map(Into::into).collect(),
            life_ms: life.0,
        };
        let answer = self.people_service().create_api_token(request(order)).await;
        let answer = taken(doing, answer)?;
        let text = Some(answer.token).filter(|text| !text.is_empty());
        Ok((outcome(doing, answer.outcome)?, text))
    }

    /// API tokens: id, owner, label, end of life, and whether each still works.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn api_tokens(&self) -> Result<Vec<pb::ApiTokenView>, Error> {
        let query = request(pb::ListApiTokensRequest {});
        let answer = self.people_service().list_api_tokens(query).await;
        Ok(taken("listing API tokens", answer)?.tokens)
    }

    /// Ends an API token for good.
    ///
    /// # Errors
    /// See [`orders`](Self::orders).
    pub async fn revoke_api_token(&self, act: Act, id: &str) -> Result<Outcome, Error> {
        let order = pb::RevokeApiTokenRequest {
            act: Some(act.into()),
            id: id.to_owned(),
        };
        let answer = self.people_service().revoke_api_token(request(order)).await;
        answered("revoking the API token", answer)
    }
}
