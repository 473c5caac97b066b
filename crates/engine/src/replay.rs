//! Re-execution for the judge: the verifier's own copies of models, run by this engine.

use std::sync::Arc;

use hallmark_model::graph::Graph;
use hallmark_model::manifest::Model;
use hallmark_receipt::{Claim, Digest, Opening, Tensor};
use hallmark_verdict::{ReplayError, Replayer};

use crate::program::{Options, Program};

/// The numeric specification that this build executes.
pub const NUMERIC_VERSION: u32 = 1;

/// A model that the verifier holds: its manifest, and the graph of the manifest's files.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// The version of the numeric specification that the manifest names.
    pub numeric_version: u32,
    /// The graph.
    pub graph: Arc<Graph>,
}

impl From<&Model> for LocalModel {
    fn from(model: &Model) -> Self {
        Self { numeric_version: model.manifest().numeric, graph: Arc::clone(model.graph()) }
    }
}

/// Re-runs models that `lookup` finds.
///
/// `lookup` gives the *verifier's own copy* of a model, from bytes that it has checked against the id; `None` where there is
/// none. It must never hand out what came with a bundle.
#[derive(Debug)]
pub struct EngineReplayer<F> {
    lookup: F,
    options: Options,
}

impl<F> EngineReplayer<F>
where
    F: Fn(&Digest) -> Result<Option<LocalModel>, ReplayError>,
{
    /// A replayer over `lookup` that runs under `options`.
    pub fn new(lookup: F, options: Options) -> Self {
        Self { lookup, options }
    }
}

impl<F> Replayer for EngineReplayer<F>
where
    F: Fn(&Digest) -> Result<Option<LocalModel>, ReplayError>,
{
    fn replay(
        &self,
        model: &Digest,
        inputs: &[Opening],
        _: &[Opening],
        claim: &Claim,
    ) -> Result<Vec<(String, Tensor)>, ReplayError> {
        // A graph has no parameters.
        if !claim.parameters.is_empty() {
            return Err(ReplayError::Parameters);
        }
        let copy = (self.lookup)(model)?.ok_or(ReplayError::ModelAbsent(*model))?;
        if copy.numeric_version != NUMERIC_VERSION {
            return Err(ReplayError::NumericVersion { claimed: copy.numeric_version });
        }
        let refuse = |why: &dyn std::fmt::Display| ReplayError::Execution(why.to_string());
        let name_of =
            |id: &hallmark_model::graph::ValueId| copy.graph.values.get(id.0).map_or("", |v| v.name.as_str());
        let known = |opening: &&Opening| copy.graph.inputs.iter().any(|id| name_of(id) == opening.name());
        if let Some(opening) = inputs.iter().find(|opening| !known(opening)) {
            return Err(refuse(&format_args!("it has no input `{}`", opening.name())));
        }
        let ordered = copy
            .graph
            .inputs
            .iter()
            .map(|id| {
                let mut named = inputs.iter().filter(|opening| opening.name() == name_of(id));
                match (named.next(), named.next()) {
                    (Some(opening), None) => Ok(opening.tensor().clone()),
                    (None, _) => Err(refuse(&format_args!("input `{}` is missing", name_of(id)))),
                    _ => Err(refuse(&format_args!("input `{}` is given twice", name_of(id)))),
                }
            })
            .collect::<Result<Vec<Tensor>, _>>()?;
        let program = Program::compile(Arc::clone(&copy.graph), self.options.clone())
            .map_err(|error| ReplayError::Unavailable(error.to_string()))?;
        let outputs = program.run(&ordered).map_err(|error| {
            if error.is_local() { ReplayError::Unavailable(error.to_string()) } else { refuse(&error) }
        })?;
        Ok(copy.graph.outputs.iter().map(|id| name_of(id).to_owned()).zip(outputs).collect())
    }
}
