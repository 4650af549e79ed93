//! The ring policy as people read it.

use super::table;
use crate::words::{clean, count, time};
use ringward_wire::policy::PolicyView;
use std::fmt::Write;

/// The rings in order.
#[must_use]
pub fn list(policy: &PolicyView) -> String {
    if policy.rings.is_empty() {
        return "No ring yet. Write a policy, look at it with `ringwardctl rings check FILE`, then \
                `rings apply FILE`.\n"
            .to_owned();
    }
    let rows = policy
        .rings
        .iter()
        .map(|ring| {
            vec![
                ring.name.to_string(),
                ring.hosts.to_string(),
                ring.soak_ms.to_string(),
                if ring.verify_boot { "yes" } else { "no" }.to_owned(),
                clean(&ring.matches),
            ]
        })
        .collect();
    let mut text = table(&["RING", "HOSTS", "SOAK", "VERIFY BOOT", "TAKES"], rows);
    let hosts: u64 = policy.rings.iter().map(|ring| ring.hosts).sum();
    let _ = write!(text, "{}", count(hosts, "active host", "active hosts"));
    if policy.applied_by.is_empty() {
        text.push_str("; the policy that the server was set up with\n");
    } else {
        let when = time(policy.applied_unix_ms);
        let _ = writeln!(text, "; applied {when} by {}", clean(&policy.applied_by));
    }
    text
}
