//! The server's own certificate authority: one root, two intermediates, and what they issue.
//!
//! The agents' intermediate issues host certificates, the admins' intermediate issues admin
//! certificates; each also issues the server certificate of its listener, so after `init` the root's
//! key is only needed for a new intermediate and can be kept offline.

mod authority;
mod files;
mod identity;
mod rotation;

pub use authority::{Authority, HostRequest, IssuedHost, ServerNames, certificate_validity};
pub use files::{Pki, Which, create};
pub(crate) use identity::is_admin_name;
pub use identity::{AdminIdentity, HostIdentity, IdentityError, admin_identity, host_identity};
pub use rotation::{Rotated, begin_rotation, finish_rotation, holder};

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use ringward_domain::Sha256;

/// Days a root certificate is valid: it is pinned by its key in every token, so it outlives the
/// server's hardware.
const ROOT_DAYS: u32 = 20 * 365;
/// Days an intermediate is valid.
const INTERMEDIATE_DAYS: u32 = 10 * 365;
/// Days a new root is vouched for by the one before it: longer than any overlap.
const BRIDGE_DAYS: u32 = 3 * 365;
/// Days a listener's own certificate is valid; renewed at a start in its last third.
pub(crate) const SERVER_DAYS: u32 = 397;
/// Certificates start a day early, because clocks of hosts are wrong.
const BACKDATED_S: u64 = 86_400;

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Sha256(out)
}

/// Random bytes from the system.
///
/// # Panics
/// Where the system has no random numbers: nothing that follows could be safe.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new()
        .fill(&mut out)
        .expect("the system gives random numbers");
    out
}
