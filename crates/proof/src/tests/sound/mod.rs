//! Malicious provers. Each tells one lie and proves everything after it as if it were true; none is believed.

mod fiat_shamir;
mod forge;
mod liar;
mod lookups;
mod maxima;
mod operators;
mod replay;
mod whir;

pub(super) use liar::{Lie, P, Rows, tell};

use hallmark_model::graph::{Attr, Graph};
use hallmark_model::skeleton::Skeleton;
use hallmark_receipt::{DType, Digest, Tensor};

use super::models::{In, Make, Random, dense, dequantise, ints, quantise, small};
use crate::circuit::{Circuit, Shape};
use crate::pcs::{Direct, Pcs};
use crate::program::Program;
use crate::protocol::prove::{Committed, ProveError, prove_witness};
use crate::protocol::verify::{Proven, verify};
use crate::protocol::{Proof, ProofError, Statement};
use crate::witness::Witness;
use crate::witness_row::{pad, padded};

/// A model, requests to it, and what both sides of a proof need.
pub(super) struct Case<P: Pcs = Direct> {
    pub pcs: P,
    pub graph: Graph,
    pub program: Program,
    /// The model's inputs, by request.
    pub requests: Vec<Vec<Tensor>>,
    /// The core's inputs, by request.
    pub core: Vec<Vec<Tensor>>,
    pub circuit: Circuit,
    pub model: Committed<P>,
    pub statement: Statement,
}

impl Case {
    /// Under the obvious scheme, which has no error of its own.
    pub fn new(graph: Graph, requests: usize) -> Self {
        Self::under(Direct, graph, requests)
    }
}

impl<P: Pcs> Case<P> {
    pub fn under(pcs: P, graph: Graph, requests: usize) -> Self {
        let mut random = Random(requests as u64);
        let shape = crate::lower::known_dims(&graph.values[graph.inputs[0].0].info).expect("a shape");
        let requests = (0..requests).map(|_| vec![random.float(&shape)]).collect();
        Self::of(pcs, graph, requests)
    }

    /// For these inputs of the model, by request.
    pub fn of(pcs: P, graph: Graph, requests: Vec<Vec<Tensor>>) -> Self {
        let program = Program::new(&Skeleton::of(&graph).expect("a skeleton")).expect("a program");
        let placed = program.place_for(&requests[0]).expect("a provable model");
        let core = requests.iter().map(|inputs| placed.before(inputs).expect("integers")).collect();
        let circuit = placed.circuit(requests.len()).expect("a circuit");
        let model = Committed::new(&pcs, &circuit, &graph).expect("a commitment");
        let claims = (0..requests.len()).map(|i| Digest([i as u8; 32])).collect();
        let statement = placed.statement(model.root, claims);
        Self { pcs, graph, program, requests, core, circuit, model, statement }
    }

    pub fn honest(&self) -> Witness {
        Witness::new(&self.circuit, &self.model.integers, &self.core).expect("a witness")
    }

    /// What the crate's own prover makes of a witness.
    pub fn prove(&self, witness: &Witness) -> Proof {
        self.try_prove(witness).expect("a proof, if a false one")
    }

    /// Fails where the witness contradicts what the prover has to say of it: it is honest.
    pub fn try_prove(&self, witness: &Witness) -> Result<Proof, ProveError> {
        prove_witness(&self.pcs, &self.circuit, &self.statement, &self.model, witness, &mut |_| ())
    }

    pub fn verify(&self, proof: &Proof) -> Result<Proven, ProofError> {
        verify(&self.pcs, &self.circuit, &self.statement, &proof.encode())
    }

    /// Whether `proof` shows that every request's inputs gave the outputs that `witness` says.
    pub fn judge(&self, witness: &Witness, proof: &Proof) -> Result<(), ProofError> {
        let proven = self.verify(proof)?;
        for request in 0..self.circuit.requests {
            proven.check_row(request, &self.rows(witness, request))?;
        }
        Ok(())
    }

    /// The rows that the holder of a request compares: its own inputs, and the outputs that `witness` says.
    pub fn rows(&self, witness: &Witness, request: usize) -> Vec<Vec<i32>> {
        let outputs = witness.outputs(&self.circuit, request);
        let mut rest = &outputs[..];
        let inputs = self.core[request].iter().map(|tensor| padded(tensor).expect("integers"));
        let outputs = self.circuit.outputs.iter().map(|id| {
            let shape = Shape(self.circuit.column(*id).shape.0[1..].to_vec());
            let (own, after) = rest.split_at(shape.0.iter().product());
            rest = after;
            pad(&own.iter().map(|v| i64::from(*v)).collect::<Vec<_>>(), &shape)
        });
        inputs.chain(outputs).collect()
    }
}

/// A small model whose proofs have every kind of message: lookups, identities, products that pair, views
/// through maps.
pub(super) fn small_model(seed: u64) -> Graph {
    let mut random = Random(seed);
    let (mut make, x) = Make::input(DType::F32, &[2, 3]);
    let x = quantise(&mut make, x);
    let x = dense(&mut make, &mut random, x, [3, 4]);
    let x = small(&mut make, x, random.multipliers(4), 12);
    let order = [("perm", ints(&[1, 0]))];
    let turned = make.node("Transpose", &order, vec![In::Of(x)]);
    let squares = make.node("MatMulInteger", &[], vec![In::Of(turned), In::Of(x)]);
    let squares = small(&mut make, squares, Tensor::scalar(9_i32), 12);
    let x = dense(&mut make, &mut random, squares, [4, 4]);
    let wide = make.node("Cast", &[("to", Attr::Int(6))], vec![In::Of(squares)]);
    let x = make.node("Add", &[], vec![In::Of(x), In::Of(wide)]);
    let y = dequantise(&mut make, x);
    make.done(&[y])
}
