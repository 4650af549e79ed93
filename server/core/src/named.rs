//! Which hosts an endorsed order names, as each of them can check it: a tree as RFC 6962 makes it over
//! their ids (`order::Targets`).

use crate::salt::sha256;
use ringward_domain::order::Targets;
use ringward_domain::{HostId, Sha256};

/// The tree, level by level, the leaves first; up to 10,000 hosts come to some 700 KiB.
#[derive(Debug, Clone)]
pub struct Named {
    hosts: Vec<HostId>,
    levels: Vec<Vec<Sha256>>,
}

fn node(left: &Sha256, right: &Sha256) -> Sha256 {
    sha256(&[&[1], left.0.as_slice(), right.0.as_slice()].concat())
}

impl Named {
    /// Over these hosts.
    #[must_use]
    pub fn new(mut hosts: Vec<HostId>) -> Self {
        hosts.sort_unstable();
        hosts.dedup();
        let leaf = |host: &HostId| sha256(&[[0].as_slice(), &host.0.to_be_bytes()].concat());
        let mut levels = vec![hosts.iter().map(leaf).collect::<Vec<_>>()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            // A node without a sibling is carried up as it is.
            let level = below.chunks(2).map(|pair| match pair {
                [left, right] => node(left, right),
                other => other[0],
            });
            levels.push(level.collect());
        }
        Self { hosts, levels }
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.hosts.len() as u64
    }

    /// The root; of nobody: the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Sha256 {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| sha256(b""))
    }

    /// The proof that a host is among them.
    #[must_use]
    pub fn targets(&self, host: HostId) -> Option<Targets> {
        let index = self.hosts.binary_search(&host).ok()?;
        let mut proof = Vec::new();
        let mut at = index;
        for level in &self.levels {
            proof.extend(level.get(at ^ 1));
            at /= 2;
        }
        Some(Targets {
            count: self.count(),
            root: self.root(),
            index: index as u64,
            proof,
        })
    }
}
