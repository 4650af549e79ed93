//! Refusals on the wire: a `tonic::Status` with details that a program can read, so that the admin
//! sees the cause and what to do next.

use ringward_domain::command::Refusal;
use std::collections::HashMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of everything below.
const DOMAIN: &str = "ringward";
/// Details travel in the trailers, which peers bound at 8 KiB; base64 takes a third on top.
const TEXT_BYTES_MAX: usize = 1024;

fn short(text: &str) -> String {
    crate::field::clip(text.to_owned(), TEXT_BYTES_MAX)
}

fn details<const N: usize>(reason: &str, metadata: [(&str, &str); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), short(value)))
        .collect();
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata);
    details
}

/// A field of the request cannot be what it is: `InvalidArgument` with a `BadRequest` violation.
#[must_use]
pub fn bad_field(field: &str, why: &str) -> Status {
    let (field, why) = (short(field), short(why));
    let mut details = details("INVALID", [("field", &field), ("why", &why)]);
    details.add_bad_request_violation(field.as_str(), why.as_str());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {why}"), details)
}

/// Anything else that went wrong, with what to do next in words.
#[must_use]
pub fn problem(code: Code, why: &str, next: &str) -> Status {
    Status::with_error_details(code, short(why), details("PROBLEM", [("next", next)]))
}

/// A refusal of the core, as its caller sees it.
#[must_use]
pub fn refused(refusal: &Refusal) -> Status {
    let message = short(&refusal.to_string());
    match refusal {
        Refusal::Invalid { field, why } => bad_field(field, why),
        Refusal::NotFound { what, id, next } => Status::with_error_details(
            Code::NotFound,
            message,
            details("NOT_FOUND", [("what", what), ("id", id), ("next", next)]),
        ),
        Refusal::Conflict { what, why, next } => Status::with_error_details(
            Code::FailedPrecondition,
            message,
            details("CONFLICT", [("what", what), ("why", why), ("next", next)]),
        ),
        Refusal::Denied { what, why, next } => Status::with_error_details(
            Code::PermissionDenied,
            message,
            details("DENIED", [("what", what), ("why", why), ("next", next)]),
        ),
        Refusal::Barred {
            package,
            version,
            why,
        } => Status::with_error_details(
            Code::FailedPrecondition,
            message,
            details(
                "BARRED",
                [
                    ("package", package.as_str()),
                    ("version", version.as_str()),
                    ("why", why),
                ],
            ),
        ),
    }
}

/// The refusal that a status carries, if it carries one.
#[must_use]
pub fn refusal(status: &Status) -> Option<Refusal> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    let text = |key: &str| info.metadata.get(key).cloned();
    match info.reason.as_str() {
        "INVALID" => Some(Refusal::Invalid {
            field: text("field")?,
            why: text("why")?,
        }),
        "NOT_FOUND" => Some(Refusal::NotFound {
            what: text("what")?,
            id: text("id")?,
            next: text("next")?,
        }),
        "CONFLICT" => Some(Refusal::Conflict {
            what: text("what")?,
            why: text("why")?,
            next: text("next")?,
        }),
        "DENIED" => Some(Refusal::Denied {
            what: text("what")?,
            why: text("why")?,
            next: text("next")?,
        }),
        "BARRED" => Some(Refusal::Barred {
            package: text("package")?.parse().ok()?,
            version: text("version")?.parse().ok()?,
            why: text("why")?,
        }),
        _ => None,
    }
}

/// What the status says to do next, if it says so outside a [`refusal`].
#[must_use]
pub fn next(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    info.metadata.get("next").cloned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::{DecodeError, Fault};

    #[test]
    fn every_refusal_comes_back_as_it_was_sent() {
        let refusals = [
            Refusal::NotFound {
                what: "host".into(),
                id: "h-00".into(),
                next: "run `ringwardctl hosts list`".into(),
            },
            Refusal::Invalid {
                field: "rings[1].share".into(),
                why: "is 0, use 0.01-1".into(),
            },
            Refusal::Conflict {
                what: "resuming".into(),
                why: "it is completed".into(),
                next: "start another rollout".into(),
            },
            Refusal::Barred {
                package: "demo".parse().unwrap(),
                version: "1.1".parse().unwrap(),
                why: "rolled back".into(),
            },
        ];
        for sent in refusals {
            let status = refused(&sent);
            // Over the wire the details are bytes.
            let back = Status::with_details(
                status.code(),
                status.message(),
                status.details().to_vec().into(),
            );
            assert_eq!(refusal(&back), Some(sent));
        }
    }

    #[test]
    fn a_bad_field_is_named_in_a_bad_request_violation() {
        let error = DecodeError::new("nonce", Fault::Missing).within("begin");
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "begin.nonce");
        assert_eq!(violation.description, "must be set");
    }

    #[test]
    fn details_stay_small_enough_for_trailers() {
        let long = "ä".repeat(100_000);
        let status = refused(&Refusal::Conflict {
            what: long.clone(),
            why: long.clone(),
            next: long,
        });
        assert!(status.details().len() + status.message().len() < 6 * 1024);
    }

    #[test]
    fn a_status_of_somebody_else_carries_no_refusal() {
        let status = Status::unavailable("tcp connect error");
        assert_eq!(refusal(&status), None);
        assert_eq!(next(&status), None);
    }
}
