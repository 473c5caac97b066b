//! The operators: one table row each, with type inference and the scalar reference beside it.
//!
//! To add an operator, write its functions in the file of its family and add one row to that file's `OPS`.

use std::sync::Arc;

use hallmark_receipt::{DType, Element, Tensor, TensorError, tensor::count};

use crate::graph::{Attrs, Node, TypeInfo};

pub mod activation;
pub mod binary;
pub mod cast;
pub mod control;
pub mod conv;
pub mod detect;
pub mod dispatch;
pub mod einsum;
pub mod elementwise;
pub mod fourier;
pub mod gather;
pub mod grid;
pub mod half;
pub mod index;
pub mod infer;
pub mod loss;
pub mod matmul;
pub mod ml;
pub mod movement;
pub mod norm;
pub mod pad;
pub mod pool;
pub mod quantised;
pub mod quantize;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod shape;
pub mod signal;
pub mod softmax;
#[cfg(test)]
mod test;
pub mod tfidf;
pub mod unique;
pub mod window;

/// Operator domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// The default domain, `ai.onnx`.
    Onnx,
    /// Classical machine learning, `ai.onnx.ml`.
    OnnxMl,
    /// This project's own integer operators, `ai.hallmark` (`quantised.md` §2).
    Hallmark,
}

impl Domain {
    /// Every domain.
    pub const ALL: [Self; 3] = [Self::Onnx, Self::OnnxMl, Self::Hallmark];
}

/// An operator.
#[derive(Debug)]
pub struct OpDef {
    /// Its domain.
    pub domain: Domain,
    /// Its ONNX name.
    pub name: &'static str,
    /// The ONNX versions ("since version") whose meaning `eval` implements, ascending. A model whose opset selects a version
    /// that is not listed is refused by name.
    pub versions: &'static [u32],
    /// The attributes that it understands; a node with any other is refused.
    pub attrs: &'static [&'static str],
    /// What is known of the outputs before the run.
    pub infer: fn(&InferCx<'_>) -> Result<Vec<TypeInfo>, OpError>,
    /// The scalar reference.
    pub eval: fn(&EvalCx<'_>) -> Result<Vec<Tensor>, OpError>,
}

/// All families of operators.
#[rustfmt::skip]
pub const FAMILIES: &[&[OpDef]] = &[
    activation::OPS,
    unique::OPS,
    pad::OPS,
    loss::OPS,
    quantize::OPS,
    signal::OPS,
    fourier::OPS,
    tfidf::OPS,
    reduce::OPS,
    softmax::OPS,
    matmul::OPS,
    einsum::OPS,
    shape::OPS,
    movement::OPS,
    gather::OPS,
    binary::OPS,
    cast::OPS,
    conv::OPS,
    resize::OPS,
    recurrent::OPS,
    grid::OPS,
    detect::OPS,
    control::OPS,
    elementwise::OPS,
    ml::encode::OPS,
    ml::linear::OPS,
    ml::scale::OPS,
    ml::tree_ops::OPS,
    norm::OPS,
    pool::OPS,
    quantised::OPS,
];

/// The operator `name` of `domain`.
pub fn find(domain: Domain, name: &str) -> Option<&'static OpDef> {
    FAMILIES.iter().copied().flatten().find(|op| op.domain == domain && op.name == name)
}

/// Why an operator refuses. The importer and the executors add the node's name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// Too few inputs, or one left out that is needed.
    #[error("input {index} is missing")]
    MissingInput {
        /// Position of the input.
        index: usize,
    },
    /// An element type that the operator does not take here.
    #[error("input {index} has element type {}, which this operator does not take there", got.name())]
    InputType {
        /// Position of the input.
        index: usize,
        /// Its element type.
        got: DType,
    },
    /// A shape that does not fit.
    #[error("{what}: got {got:?}")]
    Shape {
        /// What was expected.
        what: &'static str,
        /// The shape at fault.
        got: Vec<usize>,
    },
    /// Two shapes that do not broadcast.
    #[error("shapes {a:?} and {b:?} do not broadcast")]
    Broadcast {
        /// Left shape.
        a: Vec<usize>,
        /// Right shape.
        b: Vec<usize>,
    },
    /// An attribute that is missing, of the wrong type or out of range.
    #[error("attribute `{name}`: {why}")]
    Attribute {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// An input value that is out of range (an index, an axis, a size ...).
    #[error("{what}: got {got}")]
    Value {
        /// What was expected.
        what: &'static str,
        /// The value at fault.
        got: i64,
    },
    /// Integer division by zero or MIN / -1.
    #[error("integer division by zero or overflow")]
    Division,
    /// The result would be larger than the budget.
    #[error("a result of shape {shape:?} needs more than the {limit} bytes that are left")]
    Budget {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The bytes that were left.
        limit: usize,
    },
    /// A feature of the operator that is outside this version.
    #[error("{what} is not supported")]
    Unsupported {
        /// The feature.
        what: &'static str,
    },
    /// A node of a subgraph failed.
    #[error("in subgraph node `{node}` ({op}): {source}")]
    Subgraph {
        /// The node's name.
        node: String,
        /// Its operator.
        op: &'static str,
        /// Why.
        source: Box<OpError>,
    },
    /// Shape and data disagree: a defect of the operator's implementation.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// What inference may look at.
#[derive(Debug)]
pub struct InferCx<'a> {
    /// The node.
    pub node: &'a Node,
    /// Types of its inputs (declared and captured), `None` where left out.
    pub types: &'a [Option<TypeInfo>],
    /// Values of those inputs that are constants.
    pub constants: &'a [Option<Arc<Tensor>>],
}

impl InferCx<'_> {
    /// The node's attributes.
    pub fn attrs(&self) -> &Attrs {
        &self.node.attrs
    }

    /// The type of input `index`; an input left out is an error.
    pub fn input(&self, index: usize) -> Result<&TypeInfo, OpError> {
        self.types.get(index).and_then(Option::as_ref).ok_or(OpError::MissingInput { index })
    }

    /// The value of input `index` if it is a constant.
    pub fn constant(&self, index: usize) -> Option<&Tensor> {
        self.constants.get(index).and_then(Option::as_deref)
    }
}

/// What evaluation may look at.
#[derive(Debug)]
pub struct EvalCx<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its inputs (declared, then captured), `None` where left out.
    pub inputs: &'a [Option<&'a Tensor>],
    /// The most bytes that one result may take.
    pub budget: usize,
}

impl<'a> EvalCx<'a> {
    /// The node's attributes.
    pub fn attrs(&self) -> &'a Attrs {
        &self.node.attrs
    }

    /// Input `index`; an input left out is an error.
    pub fn input(&self, index: usize) -> Result<&'a Tensor, OpError> {
        self.opt(index).ok_or(OpError::MissingInput { index })
    }

    /// Input `index` if it is given.
    pub fn opt(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    /// Input `index` as elements of type `T`.
    pub fn slice<T: Element>(&self, index: usize) -> Result<&'a [T], OpError> {
        let tensor = self.input(index)?;
        tensor.as_slice().ok_or(OpError::InputType { index, got: tensor.dtype() })
    }

    /// Checks a result of `shape` and `dtype` against the budget *before* it is allocated; gives its number of elements.
    pub fn charge(&self, shape: &[usize], dtype: DType) -> Result<usize, OpError> {
        let size = dtype.size().unwrap_or(std::mem::size_of::<String>());
        count(shape)
            .filter(|n| n.checked_mul(size).is_some_and(|bytes| bytes <= self.budget))
            .ok_or_else(|| OpError::Budget { shape: shape.to_vec(), limit: self.budget })
    }
}
