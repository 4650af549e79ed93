//! The Merkle tree over the audit log (RFC 6962 §2.1): heads, inclusion and consistency proofs, and
//! their verification. Pure: entries' hashes in, hashes out.

use ring::digest::{SHA256, digest};
use ringward_domain::{AuditHead, AuditShown, Sha256};
use std::ops::Range;

/// Leaves whose inner nodes are not kept are this many in one tile, as a power of two: a log of ten
/// million entries takes 20 MB in memory, and a proof reads at most one tile of 32 leaves again.
const TILE_LEVEL: u32 = 5;
/// Leaves in a tile.
pub const TILE: u64 = 1 << TILE_LEVEL;

fn hash(parts: &[&[u8]]) -> Sha256 {
    let digest = digest(&SHA256, &parts.concat());
    Sha256(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Hash of an entry.
#[must_use]
pub fn leaf(entry: &[u8]) -> Sha256 {
    hash(&[&[0], entry])
}

fn node(left: &Sha256, right: &Sha256) -> Sha256 {
    hash(&[&[1], &left.0, &right.0])
}

/// Why a head is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fork {
    /// The log has fewer entries than it had.
    #[error("the audit log has {now} entries and had {before}")]
    Shorter {
        /// Entries before.
        before: u64,
        /// Entries now.
        now: u64,
    },
    /// Another root, or a proof that does not lead from one head to the other.
    #[error("the audit log's {before} entries are not the ones they were")]
    Rewritten {
        /// Entries whose root is known.
        before: u64,
    },
}

/// Checks that `shown` only adds to `known`.
///
/// # Errors
/// How the log differs from the one known.
pub fn verify_growth(known: &AuditHead, shown: &AuditShown) -> Result<(), Fork> {
    let (before, now) = (known.size, shown.head.size);
    if now < before {
        return Err(Fork::Shorter { before, now });
    }
    let grown = before == 0
        || (before == now && known.root == shown.head.root)
        || (before < now && shown.from == before && leads(known, &shown.head, &shown.proof));
    match grown {
        true => Ok(()),
        false => Err(Fork::Rewritten { before }),
    }
}

/// Whether a consistency proof leads from one head to a larger one (RFC 9162 §2.1.4.2).
fn leads(from: &AuditHead, to: &AuditHead, proof: &[Sha256]) -> bool {
    let mut path = proof.iter();
    let first = match from.size.is_power_of_two() {
        true => Some(&from.root),
        false => path.next(),
    };
    let Some(first) = first else { return false };
    let (mut old, mut new) = (*first, *first);
    let (mut at, mut last) = (from.size - 1, to.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (node(sibling, &old), node(sibling, &new));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = node(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == from.root && new == to.root
}

/// Whether an inclusion proof shows that the entry with this hash is the log's `index`th
/// (RFC 9162 §2.1.3.2).
#[must_use]
pub fn includes(head: &AuditHead, index: u64, leaf: &Sha256, proof: &[Sha256]) -> bool {
    if index >= head.size {
        return false;
    }
    let (mut at, mut last) = (index, head.size - 1);
    let mut root = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            root = node(sibling, &root);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            root = node(&root, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && root == head.root
}

/// A growing tree. Of whole tiles it keeps the roots and what lies above, of the last one the leaves.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// `upper[i]`: complete nodes of level `TILE_LEVEL + i`, from the left.
    upper: Vec<Vec<Sha256>>,
    /// Leaves after the last whole tile, fewer than [`TILE`].
    tail: Vec<Sha256>,
}

/// Leaves of one tile, read again for a proof that goes through it.
#[derive(Debug, Clone, Copy)]
struct Leaves<'a> {
    start: u64,
    leaves: &'a [Sha256],
}

impl Tree {
    /// Entries in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        let tiles = self.upper.first().map_or(0, Vec::len) as u64;
        tiles * TILE + self.tail.len() as u64
    }

    /// Adds an entry's hash.
    pub fn push(&mut self, leaf: Sha256) {
        self.tail.push(leaf);
        if self.tail.len() as u64 != TILE {
            return;
        }
        let mut whole = fold(&self.tail);
        self.tail.clear();
        for level in 0.. {
            if self.upper.len() == level {
                self.upper.push(Vec::new());
            }
            let nodes = &mut self.upper[level];
            nodes.push(whole);
            let &[.., left, right] = nodes.as_slice() else {
                return;
            };
            if nodes.len() % 2 == 1 {
                return;
            }
            whole = node(&left, &right);
        }
    }

    /// Its head.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        let size = self.size();
        let nothing = Leaves {
            start: size,
            leaves: &[],
        };
        let root = match size {
            0 => hash(&[]),
            _ => self.range(0..size, nothing).expect("whole tiles are kept"),
        };
        AuditHead { size, root }
    }

    /// The leaves that a proof about the entry `index`, or from the size `index`, needs beside what
    /// is kept; empty where it needs none.
    #[must_use]
    pub fn needs(&self, index: u64) -> Range<u64> {
        let start = index - index % TILE;
        match start + TILE <= self.size() {
            true => start..start + TILE,
            false => 0..0,
        }
    }

    /// The head with the proof that it only adds to the first `from` entries. `leaves` are those of
    /// [`needs`](Self::needs); `None` where they are not.
    #[must_use]
    pub fn shown(&self, from: u64, leaves: &[Sha256]) -> Option<AuditShown> {
        let head = self.head();
        let mut proof = Vec::new();
        if (1..head.size).contains(&from) {
            let again = Leaves {
                start: self.needs(from).start,
                leaves,
            };
            self.consistency(from, 0..head.size, true, again, &mut proof)?;
        }
        Some(AuditShown { head, from, proof })
    }

    /// The inclusion proof of an entry. `leaves` are those of [`needs`](Self::needs); `None` where
    /// they are not, or where there is no such entry.
    #[must_use]
    pub fn inclusion(&self, index: u64, leaves: &[Sha256]) -> Option<Vec<Sha256>> {
        let again = Leaves {
            start: self.needs(index).start,
            leaves,
        };
        let mut of = 0..self.size();
        let mut proof = Vec::new();
        of.contains(&index).then_some(())?;
        while of.end - of.start > 1 {
            let middle = of.start + split(of.end - of.start);
            let (inner, other) = match index < middle {
                true => (of.start..middle, middle..of.end),
                false => (middle..of.end, of.start..middle),
            };
            proof.push(self.range(other, again)?);
            of = inner;
        }
        proof.reverse();
        Some(proof)
    }

    /// SUBPROOF of RFC 6962 §2.1.2: `known` says that the verifier has this subtree's root.
    fn consistency(
        &self,
        from: u64,
        of: Range<u64>,
        known: bool,
        again: Leaves<'_>,
        proof: &mut Vec<Sha256>,
    ) -> Option<()> {
        if from == of.end {
            if !known {
                proof.push(self.range(of, again)?);
            }
            return Some(());
        }
        let middle = of.start + split(of.end - of.start);
        if from <= middle {
            self.consistency(from, of.start..middle, known, again, proof)?;
            proof.push(self.range(middle..of.end, again)?);
        } else {
            self.consistency(from, middle..of.end, false, again, proof)?;
            proof.push(self.range(of.start..middle, again)?);
        }
        Some(())
    }

    /// Root of a subtree as RFC 6962 cuts them: complete, or at the right edge of the tree.
    fn range(&self, of: Range<u64>, again: Leaves<'_>) -> Option<Sha256> {
        let count = of.end - of.start;
        if count.is_power_of_two() && count >= TILE {
            let level = (count.trailing_zeros() - TILE_LEVEL) as usize;
            let index = usize::try_from(of.start / count).ok()?;
            return self.upper.get(level)?.get(index).copied();
        }
        if count < TILE {
            let whole = self.size() - self.tail.len() as u64;
            let (start, leaves) = match of.start >= whole {
                true => (whole, self.tail.as_slice()),
                false => (again.start, again.leaves),
            };
            let first = usize::try_from(of.start.checked_sub(start)?).ok()?;
            let end = usize::try_from(of.end - start).ok()?;
            return leaves.get(first..end).map(fold);
        }
        let middle = of.start + split(count);
        let left = self.range(of.start..middle, again)?;
        Some(node(&left, &self.range(middle..of.end, again)?))
    }
}

/// Largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// Root over these leaves, at least one.
fn fold(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => hash(&[]),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(split(more.len() as u64) as usize);
            node(&fold(left), &fold(right))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Sha256> {
        (0..count).map(|i| leaf(&i.to_be_bytes())).collect()
    }

    fn tree(leaves: &[Sha256]) -> Tree {
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree
    }

    /// The leaves that a proof reads again.
    fn again<'a>(tree: &Tree, index: u64, leaves: &'a [Sha256]) -> &'a [Sha256] {
        let needs = tree.needs(index);
        &leaves[needs.start as usize..needs.end as usize]
    }

    #[test]
    fn every_head_is_the_root_over_all_leaves_however_they_are_kept() {
        let all = leaves(300);
        let mut tree = Tree::default();
        assert_eq!(tree.head().root, hash(&[]));
        for size in 1..=all.len() {
            tree.push(all[size - 1]);
            let root = fold(&all[..size]);
            assert_eq!(
                tree.head(),
                AuditHead {
                    size: size as u64,
                    root
                }
            );
        }
    }

    #[test]
    fn every_growth_is_proved_and_every_entry_found() {
        for size in (1..=140).chain([257, 300]) {
            let all = leaves(size);
            let tree = tree(&all);
            for from in 0..=size {
                let known = AuditHead {
                    size: from,
                    root: fold(&all[..from as usize]),
                };
                let shown = tree.shown(from, again(&tree, from, &all)).unwrap();
                assert_eq!(verify_growth(&known, &shown), Ok(()), "{from} of {size}");
            }
            for index in 0..size {
                let proof = tree.inclusion(index, again(&tree, index, &all)).unwrap();
                let (head, leaf) = (tree.head(), all[index as usize]);
                assert!(includes(&head, index, &leaf, &proof), "{index} of {size}");
                assert!(!includes(&head, index, &node(&leaf, &leaf), &proof));
            }
        }
    }

    proptest! {
        #[test]
        fn a_log_rewritten_before_the_known_size_is_a_fork(
            size in 1u64..200, extra in 0u64..200, at in any::<prop::sample::Index>(),
        ) {
            let all = leaves(size + extra);
            let known = tree(&all[..size as usize]).head();
            let mut other = all.clone();
            let at = at.index(size as usize);
            other[at] = leaf(b"another entry");
            let tree = tree(&other);
            let shown = tree.shown(size, again(&tree, size, &other)).unwrap();
            prop_assert_eq!(verify_growth(&known, &shown), Err(Fork::Rewritten { before: size }));
        }

        #[test]
        fn a_log_cut_short_is_a_fork(size in 1u64..200, cut in 1u64..200) {
            let all = leaves(size + cut);
            let known = tree(&all).head();
            let shown = tree(&all[..size as usize]).shown(size + cut, &[]).unwrap();
            let before = size + cut;
            prop_assert_eq!(verify_growth(&known, &shown), Err(Fork::Shorter { before, now: size }));
        }

        #[test]
        fn no_proof_but_the_right_one_is_taken(
            size in 2u64..300, from in 1u64..300, flip in any::<(prop::sample::Index, u8)>(),
            junk in prop::collection::vec(any::<[u8; 32]>(), 0..12),
        ) {
            let from = from.min(size - 1);
            let all = leaves(size);
            let known = AuditHead { size: from, root: fold(&all[..from as usize]) };
            let tree = tree(&all);
            let right = tree.shown(from, again(&tree, from, &all)).unwrap();
            let mut bent = right.clone();
            let at = flip.0.index(bent.proof.len());
            bent.proof[at].0[usize::from(flip.1) % 32] ^= 1;
            prop_assert!(verify_growth(&known, &bent).is_err());
            let mut short = right.clone();
            short.proof.pop();
            prop_assert!(verify_growth(&known, &short).is_err());
            let mut long = right.clone();
            long.proof.push(Sha256([7; 32]));
            prop_assert!(verify_growth(&known, &long).is_err());
            let mut other = right;
            other.proof = junk.into_iter().map(Sha256).collect();
            prop_assert!(verify_growth(&known, &other).is_err());
        }
    }
}
