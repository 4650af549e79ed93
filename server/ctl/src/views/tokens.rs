//! Enrolment tokens as people read them.

use super::table;
use crate::words::{clean, short, time};
use ringward_wire::token::TokenView;

/// A listing.
#[must_use]
pub fn list(tokens: &[TokenView]) -> String {
    if tokens.is_empty() {
        return "No token. `ringwardctl tokens create` makes one.\n".to_owned();
    }
    let rows = tokens
        .iter()
        .map(|token| {
            let labels: Vec<_> = token
                .spec
                .labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            vec![
                clean(&token.id),
                state(token).to_owned(),
                format!("{}/{}", token.used, token.spec.uses),
                time(token.expires_unix_ms),
                if token.spec.approve {
                    "at once"
                } else {
                    "after approval"
                }
                .to_owned(),
                clean(&labels.join(",")),
                short(&token.created_by, 24),
                short(&token.reason, 40),
            ]
        })
        .collect();
    table(
        &[
            "TOKEN", "STATE", "USED", "EXPIRES", "JOINS", "LABELS", "BY", "REASON",
        ],
        rows,
    )
}

/// How a token stands.
#[must_use]
pub fn state(token: &TokenView) -> &'static str {
    if token.revoked {
        "revoked"
    } else if token.used >= token.spec.uses {
        "used up"
    } else if token.expired {
        "expired"
    } else {
        "open"
    }
}
