//! Random graphs: whatever order, names and renaming nodes a file has, one skeleton and one answer.

use proptest::prelude::*;

use super::*;
use crate::skeleton::Skeleton;

/// A node: operator, two sources (indices into what exists: inputs, weights, earlier nodes), whether a renaming node follows.
type Step = (usize, usize, usize, bool);

const OPS: [(&str, usize); 4] = [("Relu", 1), ("Neg", 1), ("Add", 2), ("Mul", 2)];
/// Weights of 4 (in the skeleton) and of 12 elements (not in it).
const WEIGHTS: [usize; 2] = [4, 12];

/// The model of `steps` with names made by `name`, renaming nodes or not, weights as initializers or `Constant` nodes.
fn build(
    steps: &[Step],
    name: impl Fn(usize) -> String,
    renames: bool,
    nodes_for_weights: bool,
) -> proto::Model {
    let first = 2 + WEIGHTS.len();
    let mut names: Vec<String> = vec!["x".into(), "z".into(), name(1000), name(1001)];
    let mut nodes = Vec::new();
    let mut weights = Vec::new();
    for (w, len) in WEIGHTS.iter().enumerate() {
        let values: Vec<f32> = (0..*len).map(|i| i as f32 * 0.5 - w as f32).collect();
        let tensor = proto::Tensor { dims: vec![*len as i64 / 4, 4], ..floats(&names[2 + w], &values) };
        if nodes_for_weights {
            let value = proto::Attribute { t: Some(tensor), ..attribute("value", 4) };
            nodes.push(with_attribute(node("Constant", &[], &[&names[2 + w]]), value));
        } else {
            weights.push(tensor);
        }
    }
    for (i, (op, a, b, rename)) in steps.iter().enumerate() {
        let (op, arity) = OPS[op % OPS.len()];
        let sources = [&names[a % names.len()], &names[b % names.len()]];
        let inputs: Vec<&str> = sources[..arity].iter().map(|s| s.as_str()).collect();
        let output = name(i);
        nodes.push(node(op, &inputs, &[&output]));
        if renames && *rename {
            let renamed = name(i + 500);
            nodes.push(node("Identity", &[&output], &[&renamed]));
            names.push(renamed);
        } else {
            names.push(output);
        }
    }
    let last = names.last().cloned().unwrap_or_default();
    let middle = names[first + steps.len() / 2].clone();
    nodes.push(node("Abs", &[&last], &["y"]));
    nodes.push(node("Identity", &[&middle], &["w"]));
    let output = |name: &str| proto::ValueInfo { name: name.into(), r#type: None };
    let mut model = model(nodes);
    let graph = model.graph.as_mut().unwrap();
    graph.initializer = weights;
    graph.input = vec![float("x", &["3", "4"]), float("z", &["3", "4"])];
    graph.output = vec![output("y"), output("w")];
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn form_follows_from_meaning(
        steps in prop::collection::vec((0..4_usize, 0..64_usize, 0..64_usize, any::<bool>()), 1..24),
        seed in any::<u64>(),
    ) {
        let plain = read(&build(&steps, |i| format!("v{i}"), false, false)).unwrap();
        let mut other = build(&steps, |i| format!("{:x}", (i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)), true, true);
        let nodes = &mut other.graph.as_mut().unwrap().node;
        nodes.sort_by_key(|node| node.output[0].bytes().fold(seed, |h, b| h.wrapping_mul(31).wrapping_add(b.into())));
        let other = read(&other).unwrap();

        let skeleton = Skeleton::of(&plain).unwrap();
        prop_assert_eq!(&skeleton, &Skeleton::of(&other).unwrap());
        prop_assert_eq!(Skeleton::decode(&skeleton.encode()).unwrap(), skeleton);
        let roots = [&plain, &other].map(|graph| crate::weights::Weights::of(graph).unwrap().root());
        prop_assert_eq!(roots[0], roots[1]);

        let input = |k: f32| Tensor::from_vec(vec![3, 4], (0..12).map(|i| i as f32 * k - 2.0).collect()).unwrap();
        let (x, z) = (input(0.25), input(-0.75));
        let run = |graph| crate::reference::run(graph, &[&x, &z], 1 << 20).unwrap();
        for (a, b) in run(&plain).iter().zip(&run(&other)) {
            prop_assert!(a.same_bits(b));
        }
    }
}
