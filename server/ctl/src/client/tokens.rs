//! Enrolment tokens.

use super::{Client, PAGES_MAX, answered, outcome, read, request, taken, unreadable};
use crate::error::Error;
use ringward_domain::command::Outcome;
use ringward_wire::command::Act;
use ringward_wire::page::SIZE_MAX;
use ringward_wire::pb;
use ringward_wire::token::{TokenSpec, TokenView};

/// A token just made.
#[derive(Debug, Clone)]
pub struct CreatedToken {
    /// What was done.
    pub outcome: Outcome,
    /// The text for `ringward-agent enroll`, a secret; `None` on a dry run.
    pub text: Option<String>,
    /// What the server keeps of it; `None` on a dry run.
    pub view: Option<TokenView>,
}

impl Client {
    /// A new enrolment token.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn create_token(&self, act: Act, spec: TokenSpec) -> Result<CreatedToken, Error> {
        let doing = "creating the token";
        let order = request(pb::CreateTokenRequest {
            act: Some(act.into()),
            spec: Some(spec.into()),
        });
        let answer = taken(doing, self.fleet().create_token(order).await)?;
        let view = answer.view.map(TokenView::try_from).transpose();
        Ok(CreatedToken {
            outcome: outcome(doing, answer.outcome)?,
            text: Some(answer.token).filter(|text| !text.is_empty()),
            view: view.map_err(unreadable(doing))?,
        })
    }

    /// Every enrolment token.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn tokens(&self) -> Result<Vec<TokenView>, Error> {
        let doing = "listing tokens";
        let (mut tokens, mut page_token) = (Vec::new(), Vec::new());
        for _ in 0..PAGES_MAX {
            let query = pb::ListTokensRequest {
                page_size: SIZE_MAX as u32,
                page_token,
            };
            let page = taken(doing, self.fleet().list_tokens(request(query)).await)?;
            tokens.extend(read::<TokenView, _>(doing, page.tokens)?);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(tokens)
    }

    /// Ends a token.
    ///
    /// # Errors
    /// See [`command`](Self::command).
    pub async fn revoke_token(&self, act: Act, id: &str) -> Result<Outcome, Error> {
        let order = request(pb::RevokeTokenRequest {
            act: Some(act.into()),
            id: id.to_owned(),
        });
        answered("revoking the token", self.fleet().revoke_token(order).await)
    }
}
