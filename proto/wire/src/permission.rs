//! What each call of the protocol needs, as its `.proto` declares it. A call that declares nothing
//! fails the build; one that is not in the table is refused.

use crate::code::Coded;
use crate::pb;
use ringward_domain::people::Permission;

/// Every call and what it needs.
static CALLS: &[(&str, pb::Permission)] = include!(concat!(env!("OUT_DIR"), "/permissions.rs"));

/// What the call at this path needs; `None`: there is no such call.
#[must_use]
pub fn of(path: &str) -> Option<Permission> {
    let (_, needs) = CALLS.iter().find(|(call, _)| *call == path)?;
    Permission::from_code(*needs as i32)
}

/// Every call, by its path, with what it needs.
pub fn calls() -> impl Iterator<Item = (&'static str, Permission)> {
    CALLS
        .iter()
        .filter_map(|(call, needs)| Some((*call, Permission::from_code(*needs as i32)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_declared_is_nobodys() {
        assert_eq!(of("/ringward.v1.FleetService/Nothing"), None);
        assert_eq!(
            of("/ringward.v1.FleetService/ListHosts"),
            Some(Permission::Read)
        );
        assert_eq!(
            of("/ringward.v1.OrderService/Place"),
            Some(Permission::Contain)
        );
        assert_eq!(calls().count(), CALLS.len());
    }
}
