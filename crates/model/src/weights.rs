//! The weight tree (`spec/model.md` §5): a SHA-256 Merkle tree whose leaf is what one output's accumulation block reads of
//! one weight, so that a disputed number opens with one leaf and one path.

use std::collections::HashMap;
use std::sync::Arc;

use hallmark_receipt::commit::data_bytes;
use hallmark_receipt::merkle::{self, Proof};
use hallmark_receipt::{Data, Digest, Tensor, domain, with_data};

use crate::graph::{Attr, Graph};
use crate::numeric::BLOCK;
use crate::ops::Domain;
use crate::skeleton::{has_integers, is_inline, layouts};

/// How a weight's elements fall into leaves. Row-major, the weight is seen as `outer` x `k` x `inner`; each pair of an outer
/// and an inner index is one output's vector along k, cut into blocks of `block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Outputs before the k axis.
    pub outer: usize,
    /// Length of one output's vector.
    pub k: usize,
    /// Outputs after the k axis.
    pub inner: usize,
    /// Elements of one leaf, at most.
    pub block: usize,
}

impl Layout {
    /// Consecutive elements, 512 a leaf.
    pub fn flat(elements: usize) -> Self {
        Self { outer: 1, k: elements, inner: 1, block: BLOCK }
    }

    /// The layout of a constant of `shape` that is first read as input `index` of operator `op`, whose integer attributes
    /// `int` gives (0 where absent).
    pub fn of(domain: Domain, op: &str, index: usize, shape: &[usize], int: &dyn Fn(&str) -> i64) -> Self {
        let flat = Self::flat(hallmark_receipt::tensor::count(shape).unwrap_or(0));
        if domain != Domain::Onnx || flat.k == 0 {
            return flat;
        }
        match (op, index, shape) {
            ("Gemm", 0, &[a, b]) if int("transA") == 0 => Self { outer: a, k: b, inner: 1, block: BLOCK },
            ("Gemm", 1, &[a, b]) if int("transB") != 0 => Self { outer: a, k: b, inner: 1, block: BLOCK },
            ("Gemm", 0 | 1, &[a, b]) => Self { outer: 1, k: a, inner: b, block: BLOCK },
            ("MatMul", 0 | 1, &[_]) => flat,
            ("MatMul", 0, &[.., k]) => Self { outer: flat.k / k, k, inner: 1, block: BLOCK },
            ("MatMul", 1, &[.., k, n]) => Self { outer: flat.k / (k * n), k, inner: n, block: BLOCK },
            ("Conv", 1, &[m, c, ref kernel @ ..]) if !kernel.is_empty() => {
                let volume: usize = kernel.iter().product();
                Self { outer: m, k: c * volume, inner: 1, block: (BLOCK / volume).max(1) * volume }
            }
            _ => flat,
        }
    }

    /// Leaves of one output.
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(self.block.max(1))
    }

    /// Number of leaves.
    pub fn leaves(&self) -> Option<usize> {
        self.outer.checked_mul(self.inner)?.checked_mul(self.blocks())
    }

    /// The leaf that holds element `k` of output (`outer`, `inner`).
    pub fn leaf(&self, outer: usize, inner: usize, k: usize) -> Option<usize> {
        if outer >= self.outer || inner >= self.inner || k >= self.k {
            return None;
        }
        outer
            .checked_mul(self.inner)?
            .checked_add(inner)?
            .checked_mul(self.blocks())?
            .checked_add(k / self.block.max(1))
    }

    /// First element, distance between elements, and number of elements of leaf `leaf`.
    fn elements(&self, leaf: usize) -> (usize, usize, usize) {
        let blocks = self.blocks().max(1);
        let (output, start) = (leaf / blocks, leaf % blocks * self.block);
        let (outer, inner) = (output / self.inner.max(1), output % self.inner.max(1));
        let first = (outer * self.k + start) * self.inner + inner;
        (first, self.inner, self.block.min(self.k - start))
    }
}

/// The tree of one weight: its leaves' digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightTree {
    leaves: Vec<[u8; 32]>,
    root: Digest,
}

impl WeightTree {
    /// Hashes `tensor` in leaves of `layout`; `None` if the layout is not one of so many elements.
    pub fn new(tensor: &Tensor, layout: &Layout) -> Option<Self> {
        let size = layout.outer.checked_mul(layout.k)?.checked_mul(layout.inner)?;
        if size != tensor.len() || layout.block == 0 {
            return None;
        }
        let digest = |leaf| domain::WEIGHT_LEAF.hash(&[&leaf_bytes(tensor, layout, leaf)]).0;
        let leaves: Vec<_> = (0..layout.leaves()?).map(digest).collect();
        let root = merkle::root(domain::WEIGHT, &leaves);
        Some(Self { leaves, root })
    }

    /// The weight's root.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The path of leaf `leaf`.
    pub fn prove(&self, leaf: usize) -> Option<Proof> {
        merkle::prove(&self.leaves, leaf)
    }
}

/// A leaf's bytes: its elements in k order, little-endian.
pub fn leaf_bytes(tensor: &Tensor, layout: &Layout, leaf: usize) -> Vec<u8> {
    let (first, step, count) = layout.elements(leaf);
    if step == 1
        && let Data::F32(values) = tensor.data()
    {
        let block = values.get(first..first.saturating_add(count)).unwrap_or(&[]);
        return block.iter().flat_map(|x| x.to_le_bytes()).collect();
    }
    let picked = with_data!(tensor.data(), values => {
        wrap(values.iter().skip(first).step_by(step.max(1)).take(count).cloned().collect())
    });
    data_bytes(&picked)
}

fn wrap<T: hallmark_receipt::Element>(values: Vec<T>) -> Data {
    T::into_data(values)
}

/// One leaf of one weight, with its paths to the root over all weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The leaf's bytes.
    pub bytes: Vec<u8>,
    /// From the leaf to its weight's root.
    pub leaf: Proof,
    /// From the weight's root to the root over all weights.
    pub weight: Proof,
}

impl Opening {
    /// The root over all weights that this opening leads to; `None` if a path does not fit its place.
    pub fn root(&self) -> Option<Digest> {
        let leaf = domain::WEIGHT_LEAF.hash(&[&self.bytes]);
        let weight = self.leaf.root(domain::WEIGHT, leaf.as_bytes())?;
        self.weight.root(domain::WEIGHTS, weight.as_bytes())
    }
}

/// The trees of all weights of a model.
#[derive(Clone, Debug)]
pub struct Weights {
    entries: Vec<(Arc<Tensor>, Layout, WeightTree)>,
    root: Digest,
}

impl Weights {
    /// Hashes every weight of `graph`, in the order of [`crate::skeleton::Skeleton::weights`].
    pub fn of(graph: &Graph) -> Option<Self> {
        let mut entries = Vec::new();
        collect(graph, &mut entries, &mut HashMap::new())?;
        let roots: Vec<_> = entries.iter().map(|(_, _, tree)| tree.root().0).collect();
        Some(Self { entries, root: merkle::root(domain::WEIGHTS, &roots) })
    }

    /// The root over all weights.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no weight.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The layout of weight `weight`.
    pub fn layout(&self, weight: usize) -> Option<&Layout> {
        self.entries.get(weight).map(|(_, layout, _)| layout)
    }

    /// Opens leaf `leaf` of weight `weight`.
    pub fn open(&self, weight: usize, leaf: usize) -> Option<Opening> {
        let (tensor, layout, tree) = self.entries.get(weight)?;
        let proof = tree.prove(leaf)?;
        let roots: Vec<_> = self.entries.iter().map(|(_, _, tree)| tree.root().0).collect();
        Some(Opening {
            bytes: leaf_bytes(tensor, layout, leaf),
            leaf: proof,
            weight: merkle::prove(&roots, weight)?,
        })
    }
}

/// Trees that exist already: the same tensor may be read in several subgraphs and is hashed once.
type Seen = HashMap<(*const Tensor, Layout), usize>;

fn collect(
    graph: &Graph,
    entries: &mut Vec<(Arc<Tensor>, Layout, WeightTree)>,
    seen: &mut Seen,
) -> Option<()> {
    let layouts = layouts(graph);
    let integers = has_integers(graph.nodes.iter().map(|node| node.op.domain));
    for (id, tensor) in &graph.constants {
        if is_inline(tensor.dtype(), tensor.len(), integers) {
            continue;
        }
        let layout = layouts.get(id).copied().unwrap_or_else(|| Layout::flat(tensor.len()));
        let known = *seen.entry((Arc::as_ptr(tensor), layout)).or_insert(entries.len());
        let tree = match entries.get(known) {
            Some((_, _, tree)) => tree.clone(),
            None => WeightTree::new(tensor, &layout)?,
        };
        entries.push((Arc::clone(tensor), layout, tree));
    }
    for attr in graph.nodes.iter().flat_map(|node| node.attrs.0.values()) {
        if let Attr::Graph(graph) = attr {
            collect(graph, entries, seen)?;
        }
    }
    Some(())
}
