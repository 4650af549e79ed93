//! The lock checker's findings about the order of locks.

use super::super::blame::Body;
use super::super::plans;
use super::{Shape, plain, shape};

/// The shape, where the message is about the order of locks.
pub(super) fn order(rest: &str, rows: &[Body]) -> Option<Shape> {
    let modern = rows
        .first()
        .is_some_and(|row| row.text.contains("WARNING:"));
    let deadlock = |plan| shape("possible-deadlock", "possible deadlock", plan);
    Some(if rest.contains("possible circular locking") {
        if !rows
            .iter()
            .any(|row| row.text.contains("is trying to acquire lock"))
        {
            return Some(plain(
                "possible-deadlock",
                "WARNING: possible circular locking dependency detected",
                &plans::LOCK_SITE,
            ));
        }
        deadlock(if modern {
            &plans::CIRCULAR
        } else {
            &plans::LOCK_SITE
        })
    } else if rest.contains("lock inversion dependency")
        || rest.contains("possible recursive locking")
    {
        deadlock(&plans::LOCK_SITE)
    } else if rest.contains("-unsafe lock order detected") {
        deadlock(if modern {
            &plans::UNSAFE_ORDER
        } else {
            &plans::LOCK_SITE
        })
    } else if rest.contains("inconsistent lock state") {
        shape(
            "inconsistent-lock-state",
            "inconsistent lock state",
            if modern {
                &plans::REPORTER
            } else {
                &plans::LOCK_SITE
            },
        )
    } else {
        return None;
    })
}
