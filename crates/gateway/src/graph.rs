//! ONNX models behind `/v1/infer`: tensors in, tensors out, and the claim that `hallmark infer` makes, which anyone who holds the
//! model can run again.

use std::sync::Arc;

use hallmark_engine::{CompileError, EngineReplayer, LocalModel, Options, Program, RunError};
use hallmark_model::manifest::Model;
use hallmark_receipt::json::Object;
use hallmark_receipt::{Claim, Digest, Opening, Tensor};
use hallmark_verdict::{ReplayError, Replayer};
use serde_json::{Map, Value, json};

use crate::backend::Replay;
use crate::tensors::InputSpec;

/// Named tensors.
pub type Named = Vec<(String, Tensor)>;

/// An ONNX model, compiled and ready to run, under the name that requests use.
#[derive(Debug)]
pub struct GraphModel {
    name: String,
    model: Model,
    program: Program,
    skeleton: Vec<u8>,
    inputs: Vec<InputSpec>,
    outputs: Vec<InputSpec>,
    about: Map<String, Value>,
}

impl GraphModel {
    /// The model as `name`. Each run takes at most what `options` say: threads, bytes, time.
    ///
    /// # Errors
    /// A graph that the engine does not run, options outside their bounds.
    pub fn new(name: impl Into<String>, model: Model, options: Options) -> Result<Self, CompileError> {
        let graph = Arc::clone(model.graph());
        let inputs = InputSpec::of(&graph, &graph.inputs);
        let outputs = InputSpec::of(&graph, &graph.outputs);
        let skeleton = model.skeleton().encode();
        let program = Program::compile(graph, options)?;
        Ok(Self { name: name.into(), model, program, skeleton, inputs, outputs, about: Map::new() })
    }

    /// What people are told of it at `/v1/models/NAME`: `title`, `task`, `classes`, `examples` and the like. Nothing depends on it.
    #[must_use]
    pub fn about(mut self, about: Map<String, Value>) -> Self {
        self.about = about;
        self
    }

    /// The name that requests use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's id.
    pub fn id(&self) -> Digest {
        self.model.id()
    }

    /// What it takes, in its order.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Its entry in the list of models; `whole` with its examples, which are long.
    pub fn describe(&self, whole: bool) -> Value {
        let specs = |specs: &[InputSpec]| specs.iter().map(InputSpec::to_json).collect::<Vec<Value>>();
        let mut hallmark = json!({"kind": "graph", "model": {"id": self.id().to_string()}, "price": null,
            "inputs": specs(&self.inputs), "outputs": specs(&self.outputs)});
        if let Value::Object(members) = &mut hallmark {
            let shown = self.about.iter().filter(|(name, _)| whole || *name != "examples");
            members.extend(shown.map(|(name, value)| (name.clone(), value.clone())));
        }
        json!({"id": self.name, "object": "model", "created": 0, "owned_by": "hallmark", "hallmark": hallmark})
    }

    /// Runs it on `inputs`, which are in its order. Blocks.
    ///
    /// # Errors
    /// Inputs that it refuses, a limit of its options.
    pub fn run(&self, inputs: &Named) -> Result<Named, RunError> {
        let tensors: Vec<Tensor> = inputs.iter().map(|(_, tensor)| tensor.clone()).collect();
        let mut outputs = self.program.run(&tensors)?;
        outputs.iter_mut().for_each(Tensor::canonicalize_nan);
        Ok(self.outputs.iter().map(|spec| spec.name.clone()).zip(outputs).collect())
    }

    /// What a claim about such a run holds.
    pub fn claimed(&self, inputs: Named, outputs: Named) -> Replay {
        Replay {
            inputs,
            outputs,
            parameters: Object::new(),
            manifest: Some(self.model.manifest().to_object()),
            graph: Some(self.skeleton.clone()),
            publications: Vec::new(),
            numeric: Some(self.model.manifest().numeric),
        }
    }
}

impl Replayer for GraphModel {
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        _: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        let lookup = |id: &Digest| Ok((*id == self.id()).then(|| LocalModel::from(&self.model)));
        EngineReplayer::new(lookup, self.program.options().clone()).replay(model, inputs, &[], claim)
    }
}
