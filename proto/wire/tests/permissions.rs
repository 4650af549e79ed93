//! Every call × every principal: the matrix in `deploy/permissions.md` is exactly what the protocol
//! declares. When a change is meant, `RINGWARD_BLESS=1 cargo test -p ringward-wire --test permissions`
//! writes it anew.
#![allow(clippy::unwrap_used)]

use ringward_domain::people::{Permission, Role};
use ringward_wire::permission;
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "# Who may call what\n\n\
Generated from the `permission` option of each call and checked by a test. A call that declares none \
fails the build; a caller without a fitting role is refused; no role contains another. A role may be \
held over part of the fleet only: then it reaches hosts within its selector, and nothing that concerns \
the fleet as a whole. An API token reaches what both it and its owner hold; it never approves, sets no password, and makes no other tokens.\n\n";

/// Whether a principal may make a call: nobody, an agent, or somebody with one role.
fn may(principal: Option<Role>, agent: bool, needs: Permission) -> bool {
    match (needs, principal) {
        (Permission::Enrol, None) => true,
        (Permission::Agent, None) => agent,
        (Permission::Enrol | Permission::Agent, Some(_)) => false,
        (needs, Some(role)) => role.allows(needs),
        (_, None) => false,
    }
}

fn matrix() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("| call | no certificate | agent |");
    for role in Role::ALL {
        write!(text, " {role} |").unwrap();
    }
    text.push_str("\n|---|---|---|---|---|---|---|---|\n");
    let mark = |yes| if yes { "yes" } else { "-" };
    for (call, needs) in permission::calls() {
        let call = call.trim_start_matches("/ringward.v1.");
        let nobody = mark(may(None, false, needs));
        let agent = mark(may(None, true, needs));
        write!(text, "| {call} | {nobody} | {agent} |").unwrap();
        for role in Role::ALL {
            write!(text, " {} |", mark(may(Some(role), false, needs))).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_matrix_in_the_documents_is_what_the_protocol_declares() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/permissions.md");
    let now = matrix();
    if std::env::var_os("RINGWARD_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), now);
}

#[test]
fn nobody_decides_alone_over_people_and_approvals() {
    for role in Role::ALL {
        let both = role.allows(Permission::People) && role.allows(Permission::Approve);
        assert!(!both, "{role}");
    }
}
