//! Merkle trees in the shape of RFC 6962, with domain-separated hashes (`receipt.md` §3).

use crate::Digest;
use crate::domain::{Domain, MERKLE_LEAF, MERKLE_NODE};

/// The root of `leaves` (each the bytes of one leaf) for the purpose `domain`. It binds their number too.
pub fn root(domain: Domain, leaves: &[impl AsRef<[u8]>]) -> Digest {
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    seal(domain, hashes.len(), tree(&hashes))
}

/// That one leaf is at its place under a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The place of the leaf, from 0.
    pub index: usize,
    /// The number of leaves.
    pub count: usize,
    /// The siblings, from the leaf upwards.
    pub path: Vec<Digest>,
}

/// The proof for leaf `index`; `None` if there is no such leaf.
pub fn prove(leaves: &[impl AsRef<[u8]>], index: usize) -> Option<Proof> {
    let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    let mut path = Vec::new();
    descend(&hashes, index, &mut path)?;
    Some(Proof { index, count: hashes.len(), path })
}

impl Proof {
    /// The root that this proof leads to from `leaf`; `None` if the path does not fit the place.
    pub fn root(&self, domain: Domain, leaf: &[u8]) -> Option<Digest> {
        let mut siblings = self.path.iter();
        let top = climb(leaf_hash(leaf), self.index, self.count, &mut siblings)?;
        siblings.next().is_none().then(|| seal(domain, self.count, top))
    }
}

fn leaf_hash(leaf: &[u8]) -> Digest {
    MERKLE_LEAF.hash(&[leaf])
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    MERKLE_NODE.hash(&[left.as_bytes(), right.as_bytes()])
}

fn seal(domain: Domain, count: usize, top: Digest) -> Digest {
    // A tree of 2^64 leaves does not fit any memory.
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    domain.hash(&[&count.to_be_bytes(), top.as_bytes()])
}

/// The number of leaves on the left: the greatest power of two below `count` (`count` is 2 or more).
fn split(count: usize) -> usize {
    count.div_ceil(2).checked_next_power_of_two().unwrap_or(1)
}

fn tree(hashes: &[Digest]) -> Digest {
    match hashes {
        [] => Digest([0; 32]),
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len()));
            node_hash(&tree(left), &tree(right))
        }
    }
}

fn descend(hashes: &[Digest], index: usize, path: &mut Vec<Digest>) -> Option<()> {
    match hashes {
        [] => None,
        [_] => (index == 0).then_some(()),
        _ => {
            let middle = split(hashes.len());
            let (left, right) = hashes.split_at(middle);
            if let Some(index) = index.checked_sub(middle) {
                descend(right, index, path)?;
                path.push(tree(left));
            } else {
                descend(left, index, path)?;
                path.push(tree(right));
            }
            Some(())
        }
    }
}

fn climb<'a>(
    leaf: Digest,
    index: usize,
    count: usize,
    siblings: &mut impl Iterator<Item = &'a Digest>,
) -> Option<Digest> {
    if count <= 1 {
        return (count == 1 && index == 0).then_some(leaf);
    }
    let middle = split(count);
    if let Some(index) = index.checked_sub(middle) {
        let right = climb(leaf, index, count.checked_sub(middle)?, siblings)?;
        Some(node_hash(siblings.next()?, &right))
    } else {
        let left = climb(leaf, index, middle, siblings)?;
        Some(node_hash(&left, siblings.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CLAIM, INPUTS};

    #[test]
    fn shape_is_rfc_6962() {
        for (count, expected) in [(2, 1), (3, 2), (4, 2), (5, 4), (7, 4), (8, 4), (9, 8)] {
            assert_eq!(split(count), expected);
        }
    }

    #[test]
    fn every_leaf_opens_and_nothing_else_does() {
        for count in 0..20_usize {
            let leaves: Vec<[u8; 1]> = (0..count).map(|i| [i as u8]).collect();
            let root = root(CLAIM, &leaves);
            assert_eq!(prove(&leaves, count), None);
            for index in 0..count {
                let proof = prove(&leaves, index).unwrap();
                assert_eq!(proof.root(CLAIM, &leaves[index]), Some(root));
                assert_ne!(proof.root(CLAIM, &[99]), Some(root));
                assert_ne!(proof.root(INPUTS, &leaves[index]), Some(root));
                for other in (0..count + 2).filter(|other| *other != index) {
                    assert_ne!(
                        Proof { index: other, ..proof.clone() }.root(CLAIM, &leaves[index]),
                        Some(root)
                    );
                }
                for other in (0..count + 2).filter(|other| *other != count) {
                    assert_ne!(
                        Proof { count: other, ..proof.clone() }.root(CLAIM, &leaves[index]),
                        Some(root)
                    );
                }
                let mut longer = proof.clone();
                longer.path.push(root);
                assert_eq!(longer.root(CLAIM, &leaves[index]), None);
            }
        }
    }

    #[test]
    fn hostile_counts_end() {
        let proof = Proof { index: usize::MAX, count: usize::MAX, path: vec![Digest([0; 32]); 100] };
        assert_eq!(proof.root(CLAIM, b"x"), None);
    }
}
