//! What a verifier computes itself, before and after what is proved. The graph comes from whoever made the bundle, so these parts
//! hold operators of linear cost alone, and a bounded number of elements: checking a proof stays quick for any graph.

use hallmark_model::graph::{Node, ValueId};
use hallmark_model::ops::Domain;

use crate::lower::{Class, LowerError, Split, Unproved, known_dims};

/// The most elements that all values of these parts have together.
pub const MAX_PLAIN: usize = 1 << 24;

/// Operators whose cost is linear in the elements that they read and write.
const PLAIN: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "ArrayFeatureExtractor",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "DequantizeLinear",
    "Div",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "GlobalAveragePool",
    "Greater",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "Log",
    "LogSoftmax",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Normalizer",
    "Not",
    "Or",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Round",
    "Shape",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Checks the parts of `split` that are not proved.
///
/// # Errors
/// The node that is not plain, whose result only a run tells, or with which it is too much.
pub fn check(split: &Split<'_>) -> Result<(), LowerError> {
    let mut total = 0_usize;
    for (node, class) in split.graph.nodes.iter().zip(&split.nodes) {
        if matches!(class, Class::Constant | Class::Core) {
            continue;
        }
        let fail = |why: &'static str| LowerError::Node {
            node: node.name.clone(),
            op: node.op.name,
            why: Unproved::Form(why),
        };
        if node.op.domain == Domain::Hallmark || !PLAIN.contains(&node.op.name) {
            return Err(fail("outside of what is proved, verifiers compute plain operators alone"));
        }
        for id in values(node) {
            let info = split.known.types.get(id.0).ok_or_else(|| fail("its type is not known"))?;
            let dims = known_dims(info).ok_or_else(|| fail("only a run tells its shape"))?;
            let count = dims.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim));
            let sum = count.and_then(|count| total.checked_add(count));
            total = sum.filter(|n| *n <= MAX_PLAIN).ok_or_else(|| {
                fail("with it, verifiers would have to compute too much outside of what is proved")
            })?;
        }
    }
    Ok(())
}

fn values(node: &Node) -> impl Iterator<Item = ValueId> + '_ {
    node.inputs.iter().chain(&node.outputs).flatten().copied()
}

#[cfg(all(test, feature = "prove"))]
#[allow(clippy::expect_used, clippy::panic)]
mod tests {
    use hallmark_model::graph::Attr;
    use hallmark_model::ops::{Domain, find};
    use hallmark_model::skeleton::Skeleton;
    use hallmark_receipt::DType;

    use super::*;
    use crate::program::{CheckError, Program};
    use crate::tests::models::{In, Make, Random, dense, dequantise, quantise};

    /// A layer between what `before` and `after` make of its input and output.
    fn refusal(rows: usize, before: &str, after: &str) -> Option<String> {
        let (mut make, x) = Make::input(DType::F32, &[rows, rows]);
        let x = match before {
            "" => x,
            "MatMul" => make.node(before, &[], vec![In::Of(x), In::Of(x)]),
            _ => make.node(before, &[], vec![In::Of(x)]),
        };
        let x = quantise(&mut make, x);
        let y = dense(&mut make, &mut Random(1), x, [rows, 3]);
        let mut y = dequantise(&mut make, y);
        if !after.is_empty() {
            y = make.node(after, &[("axis", Attr::Int(-1))], vec![In::Of(y)]);
        }
        let graph = make.done(&[y]);
        let skeleton = Skeleton::of(&graph).expect("a skeleton");
        match Program::new(&skeleton).expect("a program").smallest() {
            Ok(_) => None,
            Err(CheckError::Lower(error)) => Some(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_verifiers_compute_is_plain_and_bounded() {
        assert_eq!(refusal(4, "", ""), None);
        assert_eq!(refusal(4, "Tanh", "Softmax"), None);
        assert!(refusal(4, "MatMul", "").expect("a refusal").contains("plain operators alone"));
        assert!(refusal(1 << 12, "Tanh", "").expect("a refusal").contains("too much"));
    }

    #[test]
    fn plain_operators_exist() {
        for name in PLAIN {
            let found = [Domain::Onnx, Domain::OnnxMl].into_iter().any(|domain| find(domain, name).is_some());
            assert!(found, "{name}");
        }
    }
}
