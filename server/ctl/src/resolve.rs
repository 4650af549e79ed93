//! From what a person types to the one thing meant: an id, a unique start of one, or a name.

use crate::error::Error;
use crate::words::{clean, short_digest};
use ringward_domain::order_spec::{ApprovalView, OrderView};
use ringward_domain::report::{HostView, ReleaseView, RolloutView};
use ringward_domain::{HostId, OrderId, PackageName, ReleaseDigest, RolloutId, Version};

/// Candidates that an error lists.
const LISTED_MAX: usize = 10;

fn unresolved(what: &'static str, text: &str, why: String, list: &str) -> Error {
    Error::Unresolved {
        what,
        text: text.to_owned(),
        why,
        next: format!("`ringwardctl {list}` shows what there is"),
    }
}

/// The one candidate, or an error that lists those that could have been meant.
fn only<T: Clone>(
    what: &'static str,
    text: &str,
    list: &str,
    found: &[(T, String)],
) -> Result<T, Error> {
    match found {
        [] => Err(unresolved(what, text, "there is none".into(), list)),
        [(one, _)] => Ok(one.clone()),
        many => {
            let mut names: Vec<_> = many
                .iter()
                .take(LISTED_MAX)
                .map(|(_, name)| clean(name))
                .collect();
            if many.len() > LISTED_MAX {
                names.push(format!("and {} more", many.len() - LISTED_MAX));
            }
            let why = format!("could be {}: {}", many.len(), names.join(", "));
            Err(unresolved(what, text, why, list))
        }
    }
}

/// The host of an exact name, else of an id or a unique start of one. A start of a name is not
/// enough to order something by.
///
/// # Errors
/// None or several.
pub fn host(text: &str, hosts: &[HostView]) -> Result<HostId, Error> {
    let named = |host: &HostView| {
        let name = format!("{} ({})", host.id, host.facts.hostname);
        (host.id, name)
    };
    let exact: Vec<_> = hosts
        .iter()
        .filter(|host| host.facts.hostname.eq_ignore_ascii_case(text))
        .map(named)
        .collect();
    if !exact.is_empty() {
        return only("host", text, "hosts list", &exact);
    }
    let by_id: Vec<_> = hosts
        .iter()
        .filter(|host| host.id.to_string().starts_with(text))
        .map(named)
        .collect();
    if by_id.is_empty() && !hosts.is_empty() {
        let names: Vec<_> = hosts.iter().take(LISTED_MAX).map(|h| named(h).1).collect();
        let why = format!(
            "there is none; names that start so: {}",
            clean(&names.join(", "))
        );
        return Err(unresolved("host", text, why, "hosts list"));
    }
    only("host", text, "hosts list", &by_id)
}

/// The rollout of an id or a unique start of one (the `r-` may be left out), else of a version or
/// `package@version`. Several rollouts of one release, a retry or a way back, are told apart by id.
///
/// # Errors
/// None or several.
pub fn rollout(text: &str, rollouts: &[RolloutView]) -> Result<RolloutId, Error> {
    let digits = text.strip_prefix("r-").unwrap_or(text);
    let by_id = |r: &RolloutView| !text.is_empty() && r.id.to_string()[2..].starts_with(digits);
    let of_release = |r: &RolloutView| {
        text == r.version.as_str()
            || package_version(text).is_some_and(|(p, v)| p == r.package && v == r.version)
    };
    let named = |r: &RolloutView| (r.id, format!("{} ({} {})", r.id, r.package, r.version));
    let mut found: Vec<_> = rollouts.iter().filter(|r| by_id(r)).map(named).collect();
    if found.is_empty() {
        found = rollouts
            .iter()
            .filter(|r| of_release(r))
            .map(named)
            .collect();
    }
    only("rollout", text, "rollouts list", &found)
}

/// The order of an id or a unique start of one; the `o-` may be left out.
///
/// # Errors
/// None or several.
pub fn order(text: &str, orders: &[OrderView]) -> Result<OrderId, Error> {
    let digits = text.strip_prefix("o-").unwrap_or(text);
    let found: Vec<_> = orders
        .iter()
        .filter(|order| !digits.is_empty() && order.id.to_string()[2..].starts_with(digits))
        .map(|o| (o.id, format!("{} ({})", o.id, o.spec.kind.verb())))
        .collect();
    only("order", text, "orders list", &found)
}

/// What waits under an id or a unique start of one; the `a-` may be left out.
///
/// # Errors
/// None or several.
pub fn approval<'a>(text: &str, waiting: &'a [ApprovalView]) -> Result<&'a ApprovalView, Error> {
    let digits = text.strip_prefix("a-").unwrap_or(text);
    let found: Vec<_> = waiting
        .iter()
        .filter(|a| !digits.is_empty() && a.id.to_string()[2..].starts_with(digits))
        .map(|a| (a, format!("{} ({})", a.id, a.summary)))
        .collect();
    only("approval", text, "approvals list", &found)
}

/// The release of `package@version`, of a digest, or of a unique start of one (4 digits or more).
///
/// # Errors
/// None or several.
pub fn release(text: &str, releases: &[ReleaseView]) -> Result<ReleaseDigest, Error> {
    let named = |r: &ReleaseView| {
        let name = format!(
            "{} ({}@{})",
            short_digest(&r.release.0),
            r.package,
            r.version
        );
        (r.release, name)
    };
    let found: Vec<_> = match package_version(text) {
        Some((package, version)) => releases
            .iter()
            .filter(|r| r.package == package && r.version == version)
            .map(named)
            .collect(),
        None if text.len() < 4 => {
            return Err(unresolved(
                "release",
                text,
                "name it as package@version, or by at least 4 digits of its digest".into(),
                "releases list",
            ));
        }
        None => releases
            .iter()
            .filter(|r| r.release.to_string().starts_with(text))
            .map(named)
            .collect(),
    };
    only("release", text, "releases list", &found)
}

/// The parts of `package@version`.
#[must_use]
pub fn package_version(text: &str) -> Option<(PackageName, Version)> {
    let (package, version) = text.split_once('@')?;
    Some((package.parse().ok()?, version.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::views::samples;

    fn hosts() -> Vec<HostView> {
        let named = |id, name: &str| {
            let mut host = samples::host(id);
            host.facts.hostname = name.to_owned();
            host
        };
        vec![
            named(0x1200_0000_0000_0000, "till-1"),
            named(0x12ab_0000_0000_0000, "till-10"),
            named(0x3400_0000_0000_0000, "h-12"),
            named(0x5600_0000_0000_0000, "twin"),
            named(0x7800_0000_0000_0000, "TWIN"),
        ]
    }

    #[test]
    fn a_host_goes_by_id_by_the_start_of_its_id_and_by_name() {
        let hosts = hosts();
        assert_eq!(host("h-12ab", &hosts).unwrap(), hosts[1].id);
        assert_eq!(host("TILL-1", &hosts).unwrap(), hosts[0].id);
        assert_eq!(host(&hosts[3].id.to_string(), &hosts).unwrap(), hosts[3].id);
        // The exact name of a host comes before the start of other hosts' ids.
        assert_eq!(host("h-12", &hosts).unwrap(), hosts[2].id);
    }

    #[test]
    fn an_ambiguous_name_lists_whom_it_could_mean() {
        let error = host("twin", &hosts()).unwrap_err().render();
        assert!(error.contains("h-5600000000000000 (twin)"), "{error}");
        assert!(error.contains("h-7800000000000000 (TWIN)"), "{error}");
        let error = host("h-1", &hosts()).unwrap_err().render();
        assert!(error.contains("could be 2"), "{error}");
    }

    #[test]
    fn the_start_of_a_host_name_is_not_enough() {
        let hosts = &hosts()[..2];
        let error = host("till", hosts).unwrap_err().render();
        assert!(error.contains("names that start so"), "{error}");
        assert!(host("", &[]).is_err());
    }

    #[test]
    fn rollouts_go_by_the_start_of_their_id() {
        let rollouts = [samples::rollout(0xaa00), samples::rollout(0xbb00)];
        let id = rollouts[0].id.to_string();
        assert_eq!(rollout(&id, &rollouts).unwrap(), rollouts[0].id);
        assert_eq!(rollout("000000000000b", &rollouts).unwrap(), rollouts[1].id);
        assert!(rollout("r-0000", &rollouts).is_err());
        assert!(rollout("", &rollouts[..1]).is_err());
        assert!(rollout("r-1", &rollouts).is_err());
    }

    #[test]
    fn a_rollout_goes_by_its_release_where_no_id_starts_so() {
        let mut rollouts = [samples::rollout(0xaa00), samples::rollout(0xbb00)];
        rollouts[1].version = "9.9".parse().unwrap();
        assert_eq!(rollout("9.9", &rollouts).unwrap(), rollouts[1].id);
        let full = format!("{}@9.9", rollouts[1].package);
        assert_eq!(rollout(&full, &rollouts).unwrap(), rollouts[1].id);
        assert!(rollout("other@9.9", &rollouts).is_err());
        rollouts[0].version = rollouts[1].version.clone();
        let error = rollout("9.9", &rollouts).unwrap_err().render();
        assert!(error.contains("could be 2"), "{error}");
    }

    #[test]
    fn releases_go_by_package_and_version_or_by_digest() {
        let releases = [samples::release(1), samples::release(2)];
        let digest = releases[1].release.to_string();
        assert_eq!(release("demo@1.2", &releases).unwrap(), releases[1].release);
        assert_eq!(
            release(&digest[..4], &releases).unwrap(),
            releases[1].release
        );
        assert!(release(&digest[..3], &releases).is_err());
        assert!(release("demo@9", &releases).is_err());
        let twice = [samples::release(1), samples::release(1)];
        assert!(release("demo@1.1", &twice).is_err());
    }
}
