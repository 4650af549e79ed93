//! Salted order: who comes first is arbitrary, the same for a dry run and the start that follows,
//! and different for every release, so that not always the same hosts go first.

use ringward_domain::HostId;
use ringward_domain::ids::{ReleaseDigest, Sha256};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Decides the order of hosts within one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(pub u64);

impl Salt {
    /// From what is rolled out under which policy.
    #[must_use]
    pub fn new(release: &ReleaseDigest, policy: &Sha256) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update(b"ringward order v1\n");
        hash.update(release.0);
        hash.update(policy.0);
        Self(first_u64(&hash.finalize()))
    }

    /// A host's place; places of distinct hosts differ.
    #[must_use]
    pub fn place(self, host: HostId) -> u64 {
        mix(host.0 ^ self.0)
    }
}

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// An id of 64 bits derived from some bytes, so that a repeated request names the same thing.
#[must_use]
pub fn derived_id(context: &str, bytes: &[u8]) -> u64 {
    let mut hash = sha2::Sha256::new();
    hash.update(context);
    hash.update(bytes);
    first_u64(&hash.finalize())
}

fn first_u64(hash: &[u8]) -> u64 {
    hash.iter()
        .take(8)
        .fold(0, |n, byte| n << 8 | u64::from(*byte))
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a bijection that scatters neighbours.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_scatter_and_no_two_hosts_share_a_place() {
        let salt = Salt(7);
        let places: BTreeSet<u64> = (0..10_000).map(|i| salt.place(HostId(i))).collect();
        assert_eq!(places.len(), 10_000);
        let low = (0..10_000)
            .filter(|i| salt.place(HostId(*i)) < u64::MAX / 10)
            .count();
        assert!((900..1100).contains(&low), "{low}");
    }

    #[test]
    fn another_release_or_policy_gives_another_order() {
        let salts = [([1; 32], [1; 32]), ([2; 32], [1; 32]), ([1; 32], [2; 32])]
            .map(|(release, policy)| Salt::new(&ReleaseDigest(release), &Sha256(policy)));
        assert!(salts[0] != salts[1] && salts[0] != salts[2]);
        assert_eq!(
            salts[0],
            Salt::new(&ReleaseDigest([1; 32]), &Sha256([1; 32]))
        );
    }
}
