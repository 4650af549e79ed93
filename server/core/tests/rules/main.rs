//! The rules of one rollout, each on the machine alone (DESIGN §2, §4).
#![allow(clippy::unwrap_used, missing_docs)]

mod attempts;
mod causes;
mod endings;
mod forecast;
mod maintenance;
mod support;
