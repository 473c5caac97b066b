//! From tensors to a checked answer: the whole of a proof's way for callers (`spec/proof.md` §7).

use hallmark_model::graph::{Dim, Graph, InputError, TypeInfo};
use hallmark_model::infer::type_of;
use hallmark_model::quantise::hold_beyond;
use hallmark_model::reference::{self, RunError};
use hallmark_model::skeleton::{Skeleton, SkeletonError};
use hallmark_receipt::{Digest, Tensor, proof};

use crate::budget::{NODES, VALUES};
use crate::circuit::Circuit;
use crate::lower::{LowerError, Split, lower};
use crate::pcs::{Pcs, Root, Security, Whir};
use crate::plain;
use crate::protocol::verify::verify;
use crate::protocol::{Bits, ProofError, Statement};
use crate::witness_row;

/// Bytes that the parts before and after the integers may take for one value.
const BUDGET: usize = 1 << 28;

/// The greatest size of free axes that a commitment is tried with.
const MAX_FREE: usize = 1024;

/// The version of `spec/proof.md`, as manifests and evidence name it.
pub const VERSION: u32 = 1;

/// The commitment scheme at the level that evidence names (`receipt.md` §9.2). Both levels commit to the same root.
pub fn scheme(level: proof::Security) -> Whir {
    Whir::new(match level {
        proof::Security::Standard => Security::Standard,
        proof::Security::High => Security::High,
    })
}

/// Why an answer is not proved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum CheckError {
    #[error("the model's skeleton: {0}")]
    Skeleton(#[from] SkeletonError),
    #[error(transparent)]
    Inputs(#[from] InputError),
    #[error(transparent)]
    Lower(#[from] LowerError),
    #[error("what comes before or after the proved integers: {0}")]
    Run(#[from] RunError),
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("the integers given as the core's outputs are not its outputs' shape or range")]
    Integers,
    #[error("output {0} does not follow from the proved integers")]
    Output(usize),
}

/// A model as far as its skeleton tells: what a proof about it needs.
#[derive(Debug)]
pub struct Program {
    graph: Graph,
    digest: Digest,
}

/// A program for inputs of given types.
#[derive(Debug)]
pub struct Placed<'a> {
    /// The model's parts.
    pub split: Split<'a>,
    digest: Digest,
}

impl Program {
    /// Of a model's skeleton.
    ///
    /// # Errors
    /// A skeleton with control flow, or too large a graph.
    pub fn new(skeleton: &Skeleton) -> Result<Self, CheckError> {
        let body = &skeleton.body;
        let made: usize = body.nodes.iter().map(|node| node.outputs.len()).sum();
        let values = made.saturating_add(body.constants.len()).saturating_add(body.inputs);
        for (what, got, limit) in [("nodes", body.nodes.len(), NODES), ("values", values, VALUES)] {
            if got > limit {
                return Err(LowerError::Graph { what, got, limit }.into());
            }
        }
        Ok(Self { graph: skeleton.graph()?, digest: skeleton.digest() })
    }

    /// The model's graph; its captures are its weights.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// For requests whose inputs have these types.
    ///
    /// # Errors
    /// [`LowerError`] names the node that cannot be proved, or whose integers could be greater here than the commitment speaks for.
    pub fn place(&self, inputs: &[TypeInfo]) -> Result<Placed<'_>, CheckError> {
        let split = Split::new(&self.graph, inputs)?;
        plain::check(&split)?;
        // Whoever committed to the weights has checked their integers for the least requests alone; those of size 1 are, where they fit.
        if inputs != self.of_size(1) {
            let least = self.least();
            if inputs != least {
                let committed = Split::new(&self.graph, &least)?;
                hold_beyond(&split.core_graph(), &committed.core_graph()).map_err(LowerError::from)?;
            }
        }
        Ok(Placed { split, digest: self.digest })
    }

    /// For the smallest requests, as a commitment takes them (`model.md` §6.1): all free axes of the inputs are of the least size that the
    /// model's operators take.
    ///
    /// # Errors
    /// [`LowerError`] names the node that cannot be proved, at a size of 1 if no size does.
    pub fn smallest(&self) -> Result<Placed<'_>, CheckError> {
        self.place(&self.least())
    }

    fn least(&self) -> Vec<TypeInfo> {
        // Only shapes can differ from size to size. A graph of many nodes gets fewer tries.
        let fits =
            |types: &Vec<TypeInfo>| !matches!(Split::new(&self.graph, types), Err(LowerError::Infer(_)));
        let most = MAX_FREE.min(NODES / self.graph.nodes.len().max(1));
        let free = self.of_size(1) != self.of_size(2);
        let fitting = if free { (1..=most).map(|size| self.of_size(size)).find(fits) } else { None };
        fitting.unwrap_or_else(|| self.of_size(1))
    }

    /// The inputs' types where all free axes have one size.
    fn of_size(&self, size: usize) -> Vec<TypeInfo> {
        let sized = |id: &hallmark_model::graph::ValueId| {
            let mut info = self.graph.values.get(id.0).map(|value| value.info.clone()).unwrap_or_default();
            let dims = info.shape.iter_mut().flatten();
            dims.filter(|dim| !matches!(dim, Dim::Known(_))).for_each(|dim| *dim = Dim::Known(size));
            info
        };
        self.graph.inputs.iter().map(sized).collect()
    }

    /// For requests like `inputs`.
    ///
    /// # Errors
    /// Inputs that are not the model's, or a node that cannot be proved.
    pub fn place_for(&self, inputs: &[Tensor]) -> Result<Placed<'_>, CheckError> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        self.graph.check_inputs(&inputs)?;
        self.place(&inputs.iter().map(|tensor| type_of(tensor)).collect::<Vec<_>>())
    }
}

/// One request as its requester opened it.
#[derive(Clone, Copy, Debug)]
pub struct Opened<'a> {
    /// Its place among the statement's claims.
    pub index: usize,
    /// The model's inputs, in the graph's order.
    pub inputs: &'a [Tensor],
    /// The model's outputs, in the graph's order.
    pub outputs: &'a [Tensor],
    /// The integers that left the core, one after the other, row-major.
    pub integers: &'a [i32],
}

impl Placed<'_> {
    /// The circuit for `requests` requests.
    ///
    /// # Errors
    /// A node that cannot be proved, or too large a circuit.
    pub fn circuit(&self, requests: usize) -> Result<Circuit, CheckError> {
        Ok(lower(&self.split, requests)?)
    }

    /// The statement of a proof for `claims` under the model's commitment.
    pub fn statement(&self, model: Root, claims: Vec<Digest>) -> Statement {
        Statement { graph: self.digest, model, claims }
    }

    /// The integers that enter the core.
    ///
    /// # Errors
    /// The part before the core fails on these inputs.
    pub fn before(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, CheckError> {
        Ok(reference::run(&self.split.before(), &inputs.iter().collect::<Vec<_>>(), BUDGET)?)
    }

    /// The model's outputs that follow from the core's.
    ///
    /// # Errors
    /// The part after the core fails on these.
    pub fn after(&self, inputs: &[Tensor], integers: &[Tensor]) -> Result<Vec<Tensor>, CheckError> {
        let all: Vec<&Tensor> = inputs.iter().chain(integers).collect();
        Ok(reference::run(&self.split.after(), &all, BUDGET)?)
    }

    /// The core's outputs as tensors of their own types.
    ///
    /// # Errors
    /// [`CheckError::Integers`]: too few or too many, or one outside its type.
    pub fn integers(&self, flat: &[i32]) -> Result<Vec<Tensor>, CheckError> {
        let mut rest = flat;
        let mut out = Vec::new();
        for id in &self.split.outputs {
            let info = self.split.known.types.get(id.0).ok_or(CheckError::Integers)?;
            let dims = crate::lower::known_dims(info).ok_or(CheckError::Integers)?;
            let count = hallmark_receipt::tensor::count(&dims).ok_or(CheckError::Integers)?;
            let (own, after) = rest.split_at_checked(count).ok_or(CheckError::Integers)?;
            rest = after;
            out.push(witness_row::typed(own, dims, info.dtype).ok_or(CheckError::Integers)?);
        }
        if rest.is_empty() { Ok(out) } else { Err(CheckError::Integers) }
    }

    /// Checks that `proof` proves the opened request under the model's commitment; gives the composed bits of security.
    ///
    /// # Errors
    /// Whatever does not hold; fewer bits than `wanted`.
    pub fn check<P: Pcs>(
        &self,
        pcs: &P,
        statement: &Statement,
        opened: Opened<'_>,
        proof: &[u8],
        wanted: u32,
    ) -> Result<Bits, CheckError> {
        let circuit = self.circuit(statement.claims.len())?;
        let bits = Bits::of(&circuit, pcs);
        let got = bits.composed();
        if got < f64::from(wanted) {
            return Err(ProofError::Security { got, wanted }.into());
        }
        let inputs = self.before(opened.inputs)?;
        let integers = self.integers(opened.integers)?;
        let outputs = self.after(opened.inputs, &integers)?;
        if outputs.len() != opened.outputs.len() {
            return Err(CheckError::Output(outputs.len().min(opened.outputs.len())));
        }
        let differs = outputs.iter().zip(opened.outputs).position(|(a, b)| !a.same_bits(b));
        if let Some(index) = differs {
            return Err(CheckError::Output(index));
        }
        let proven = verify(pcs, &circuit, statement, proof)?;
        let rows: Option<Vec<Vec<i32>>> = inputs.iter().chain(&integers).map(witness_row::padded).collect();
        proven.check_row(opened.index, &rows.ok_or(CheckError::Integers)?)?;
        Ok(bits)
    }
}
