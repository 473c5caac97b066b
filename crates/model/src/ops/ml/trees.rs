//! Tree ensembles, parsed and checked: every child exists, no path returns to a node, every feature is inside the row.

use std::collections::HashMap;

use hallmark_receipt::Tensor;

use crate::graph::Attrs;
use crate::ops::OpError;

/// How a node compares its feature with its value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `x <= v`
    Leq,
    /// `x < v`
    Lt,
    /// `x >= v`
    Gte,
    /// `x > v`
    Gt,
    /// `x == v`
    Eq,
    /// `x != v`
    Neq,
    /// `x` is one of these.
    Member(Vec<f32>),
}

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// To another node.
    Node(usize),
    /// To a leaf.
    Leaf(usize),
}

/// An inner node.
#[derive(Clone, Debug)]
pub struct TreeNode {
    /// The feature's column.
    pub feature: usize,
    /// The comparison.
    pub test: Test,
    /// Its right side.
    pub value: f32,
    /// Whether a missing feature (NaN) goes where the test holds.
    pub missing_is_true: bool,
    /// Where to go when the test holds.
    pub yes: Child,
    /// Where to go when it does not.
    pub no: Child,
}

/// A checked ensemble.
#[derive(Clone, Debug, Default)]
pub struct Ensemble {
    /// Inner nodes of all trees.
    pub nodes: Vec<TreeNode>,
    /// Leaves of all trees: (target, weight) in the file's order.
    pub leaves: Vec<Vec<(usize, f32)>>,
    /// The trees' roots, in tree order.
    pub roots: Vec<Child>,
}

fn bad<T>(name: &'static str, why: &'static str) -> Result<T, OpError> {
    Err(OpError::Attribute { name, why })
}

fn ints<'a>(attrs: &'a Attrs, name: &'static str, len: Option<usize>) -> Result<&'a [i64], OpError> {
    let values = attrs.ints(name).unwrap_or(&[]);
    if len.is_some_and(|len| len != values.len()) { bad(name, "has the wrong length") } else { Ok(values) }
}

/// The float list `name`, or the float32 tensor `tensor` in its place.
pub fn floats<'a>(attrs: &'a Attrs, name: &'static str, tensor: &'static str) -> Result<&'a [f32], OpError> {
    match attrs.tensor(tensor) {
        None => Ok(attrs.floats(name).unwrap_or(&[])),
        Some(t) => f32_tensor(t),
    }
}

fn f32_tensor(t: &Tensor) -> Result<&[f32], OpError> {
    t.as_slice().ok_or(OpError::Unsupported { what: "a float64 tree ensemble" })
}

fn index(value: i64, below: usize, name: &'static str) -> Result<usize, OpError> {
    usize::try_from(value)
        .ok()
        .filter(|&i| i < below)
        .ok_or(OpError::Attribute { name, why: "has an index out of range" })
}

impl Ensemble {
    /// The ensemble of TreeEnsembleClassifier and TreeEnsembleRegressor, versions 1 and 3. `prefix` names the leaves' attributes.
    pub fn classic(attrs: &Attrs, prefix: LeafNames, targets: usize) -> Result<Self, OpError> {
        let tree_ids = ints(attrs, "nodes_treeids", None)?;
        let n = Some(tree_ids.len());
        let node_ids = ints(attrs, "nodes_nodeids", n)?;
        let features = ints(attrs, "nodes_featureids", n)?;
        let (yes, no) = (ints(attrs, "nodes_truenodeids", n)?, ints(attrs, "nodes_falsenodeids", n)?);
        let values = floats(attrs, "nodes_values", "nodes_values_as_tensor")?;
        let modes = attrs.strs("nodes_modes").unwrap_or(&[]);
        let missing = attrs.ints("nodes_missing_value_tracks_true").filter(|v| !v.is_empty());
        if values.len() != tree_ids.len() || modes.len() != tree_ids.len() {
            return bad("nodes_values", "has the wrong length");
        }
        if missing.is_some_and(|v| v.len() != tree_ids.len()) {
            return bad("nodes_missing_value_tracks_true", "has the wrong length");
        }
        // Leaves keep their place in `leaves`, inner nodes theirs in `nodes`.
        let mut places = HashMap::with_capacity(tree_ids.len());
        let mut ensemble = Self::default();
        let mut seen_trees = std::collections::HashSet::new();
        let mut inner = Vec::new();
        for (i, mode) in modes.iter().enumerate() {
            let place = if mode == b"LEAF" {
                ensemble.leaves.push(Vec::new());
                Child::Leaf(ensemble.leaves.len() - 1)
            } else {
                inner.push(i);
                Child::Node(inner.len() - 1)
            };
            if places.insert((tree_ids[i], node_ids[i]), place).is_some() {
                return bad("nodes_nodeids", "names a node twice");
            }
            if seen_trees.insert(tree_ids[i]) {
                ensemble.roots.push(place);
            }
        }
        let child = |tree: i64, id: i64, name| {
            places
                .get(&(tree, id))
                .copied()
                .ok_or(OpError::Attribute { name, why: "names no node of the tree" })
        };
        for i in inner {
            let test = match modes[i].as_slice() {
                b"BRANCH_LEQ" => Test::Leq,
                b"BRANCH_LT" => Test::Lt,
                b"BRANCH_GTE" => Test::Gte,
                b"BRANCH_GT" => Test::Gt,
                b"BRANCH_EQ" => Test::Eq,
                b"BRANCH_NEQ" => Test::Neq,
                _ => return bad("nodes_modes", "unknown mode"),
            };
            ensemble.nodes.push(TreeNode {
                feature: index(features[i], usize::MAX, "nodes_featureids")?,
                test,
                value: values[i],
                missing_is_true: missing.is_some_and(|v| v[i] != 0),
                yes: child(tree_ids[i], yes[i], "nodes_truenodeids")?,
                no: child(tree_ids[i], no[i], "nodes_falsenodeids")?,
            });
        }
        let leaf_targets = ints(attrs, prefix.ids, None)?;
        let n = Some(leaf_targets.len());
        let (leaf_trees, leaf_nodes) = (ints(attrs, prefix.trees, n)?, ints(attrs, prefix.nodes, n)?);
        let weights = floats(attrs, prefix.weights, prefix.weights_tensor)?;
        if weights.len() != leaf_targets.len() {
            return bad(prefix.weights, "has the wrong length");
        }
        for i in 0..weights.len() {
            match places.get(&(leaf_trees[i], leaf_nodes[i])) {
                Some(Child::Leaf(leaf)) => {
                    ensemble.leaves[*leaf].push((index(leaf_targets[i], targets, prefix.ids)?, weights[i]));
                }
                // Some converters give weights to inner nodes too; they are never reached.
                Some(Child::Node(_)) => {}
                None => return bad(prefix.nodes, "names no node of the tree"),
            }
        }
        ensemble.check_acyclic()?;
        Ok(ensemble)
    }

    /// The ensemble of TreeEnsemble, version 5.
    pub fn modern(attrs: &Attrs, targets: usize) -> Result<Self, OpError> {
        let features = ints(attrs, "nodes_featureids", None)?;
        let n = Some(features.len());
        let (yes, no) = (ints(attrs, "nodes_truenodeids", n)?, ints(attrs, "nodes_falsenodeids", n)?);
        let (yes_leaf, no_leaf) = (ints(attrs, "nodes_trueleafs", n)?, ints(attrs, "nodes_falseleafs", n)?);
        let missing = attrs.ints("nodes_missing_value_tracks_true").filter(|v| !v.is_empty());
        let tensor =
            |name: &'static str| attrs.tensor(name).ok_or(OpError::Attribute { name, why: "is missing" });
        let splits = f32_tensor(tensor("nodes_splits")?)?;
        let weights = f32_tensor(tensor("leaf_weights")?)?;
        let modes: &[u8] = tensor("nodes_modes")?
            .as_slice()
            .ok_or(OpError::Attribute { name: "nodes_modes", why: "must be uint8" })?;
        let leaf_targets = ints(attrs, "leaf_targetids", Some(weights.len()))?;
        if splits.len() != features.len() || modes.len() != features.len() {
            return bad("nodes_splits", "has the wrong length");
        }
        if missing.is_some_and(|v| v.len() != features.len()) {
            return bad("nodes_missing_value_tracks_true", "has the wrong length");
        }
        let members = match attrs.tensor("membership_values") {
            Some(t) => f32_tensor(t)?,
            None => &[],
        };
        // NaN ends each set.
        let mut sets = members.split(|x| x.is_nan());
        let child = |id: i64, leaf: i64, name| {
            Ok::<_, OpError>(if leaf != 0 {
                Child::Leaf(index(id, weights.len(), name)?)
            } else {
                Child::Node(index(id, features.len(), name)?)
            })
        };
        let mut ensemble = Self::default();
        for i in 0..features.len() {
            let test = match modes[i] {
                0 => Test::Leq,
                1 => Test::Lt,
                2 => Test::Gte,
                3 => Test::Gt,
                4 => Test::Eq,
                5 => Test::Neq,
                6 => match sets.next() {
                    Some(set) => Test::Member(set.to_vec()),
                    None => return bad("membership_values", "has too few sets"),
                },
                _ => return bad("nodes_modes", "unknown mode"),
            };
            ensemble.nodes.push(TreeNode {
                feature: index(features[i], usize::MAX, "nodes_featureids")?,
                test,
                value: splits[i],
                missing_is_true: missing.is_some_and(|v| v[i] != 0),
                yes: child(yes[i], yes_leaf[i], "nodes_truenodeids")?,
                no: child(no[i], no_leaf[i], "nodes_falsenodeids")?,
            });
        }
        for (target, weight) in leaf_targets.iter().zip(weights) {
            ensemble.leaves.push(vec![(index(*target, targets, "leaf_targetids")?, *weight)]);
        }
        for root in ints(attrs, "tree_roots", None)? {
            ensemble.roots.push(Child::Node(index(*root, features.len(), "tree_roots")?));
        }
        ensemble.check_acyclic()?;
        Ok(ensemble)
    }

    /// Depth-first search with an explicit stack; a node met again while it is open closes a cycle.
    fn check_acyclic(&self) -> Result<(), OpError> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let mut states = vec![State::New; self.nodes.len()];
        let mut stack = Vec::new();
        for root in &self.roots {
            stack.push((*root, false));
            while let Some((child, leaving)) = stack.pop() {
                let Child::Node(i) = child else { continue };
                match (leaving, states[i]) {
                    (true, _) => states[i] = State::Done,
                    (false, State::Done) => {}
                    (false, State::Open) => return bad("nodes_truenodeids", "the tree has a cycle"),
                    (false, State::New) => {
                        states[i] = State::Open;
                        stack.push((child, true));
                        stack.push((self.nodes[i].yes, false));
                        stack.push((self.nodes[i].no, false));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks that a row of `columns` features holds every feature that is asked for.
    pub fn check_columns(&self, columns: usize) -> Result<(), OpError> {
        match self.nodes.iter().map(|node| node.feature).max() {
            Some(feature) if feature >= columns => {
                Err(OpError::Value { what: "a tree asks for a feature inside the row", got: feature as i64 })
            }
            _ => Ok(()),
        }
    }

    /// The leaf that `row` reaches from `root`.
    pub fn leaf(&self, root: Child, row: &[f32]) -> &[(usize, f32)] {
        let mut at = root;
        loop {
            match at {
                Child::Leaf(leaf) => return &self.leaves[leaf],
                Child::Node(i) => {
                    let node = &self.nodes[i];
                    let x = row[node.feature];
                    let holds = match &node.test {
                        Test::Leq => x <= node.value,
                        Test::Lt => x < node.value,
                        Test::Gte => x >= node.value,
                        Test::Gt => x > node.value,
                        Test::Eq => x == node.value,
                        Test::Neq => x != node.value,
                        Test::Member(set) => set.contains(&x),
                    };
                    at = if holds || (node.missing_is_true && x.is_nan()) { node.yes } else { node.no };
                }
            }
        }
    }
}

/// The names of the attributes that hold the leaves' weights.
#[derive(Clone, Copy, Debug)]
pub struct LeafNames {
    /// Targets or classes.
    pub ids: &'static str,
    /// Trees.
    pub trees: &'static str,
    /// Nodes.
    pub nodes: &'static str,
    /// Weights.
    pub weights: &'static str,
    /// Weights as a tensor (version 3).
    pub weights_tensor: &'static str,
}
