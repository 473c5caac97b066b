//! Names to values, opsets to operator versions, function calls to their bodies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use hallmark_receipt::Tensor;
use prost::Message as _;

use super::attributes::{self, Frame, Owner, Split};
use super::loose::{Def, Id, Kind, LooseGraph, LooseNode, LooseValue};
use super::schema::{self, Schema};
use super::tensor::Tensors;
use super::types::{self, Declared};
use super::{ExternalData, ImportError, Limits, contrib, proto};
use crate::graph::{Attr, TypeInfo};
use crate::ops::{self, Domain};

/// The main graph and what the file says around it.
pub(super) struct Lowered {
    pub graph: LooseGraph,
    /// Declared types of the outputs, by name, in their order.
    pub outputs: Vec<(String, Declared)>,
    pub opsets: BTreeMap<Domain, u32>,
    pub external_files: BTreeSet<String>,
    /// The version of `Identity` in force.
    pub identity_version: u32,
}

/// Characters of a node's name that messages show.
const LABEL: usize = 120;

/// Opset versions by domain, as declared; `ai.onnx` is written as the empty domain.
type Opsets = BTreeMap<String, i64>;
/// (domain, name, overload).
type FunctionKey = (String, String, String);

struct Function {
    proto: proto::Function,
    opsets: Rc<Opsets>,
    /// Bytes of its encoding: what one expansion is charged.
    size: usize,
}

/// Names visible at one place: a graph's, or a function body's (which sees nothing of its caller).
struct Env {
    names: HashMap<String, Id>,
    /// Index in `Lowering::levels` of the graph that its values belong to.
    level: usize,
    parent: Option<usize>,
    opsets: Rc<Opsets>,
    frame: Option<Rc<Frame>>,
}

struct Lowering<'a> {
    limits: &'a Limits,
    tensors: Tensors<'a>,
    functions: HashMap<FunctionKey, Rc<Function>>,
    /// Functions being expanded, outermost first.
    calls: Vec<FunctionKey>,
    levels: Vec<LooseGraph>,
    envs: Vec<Env>,
    nodes: usize,
    values: usize,
    expanded: usize,
}

pub(super) fn lower(
    model: proto::Model,
    external: &dyn ExternalData,
    limits: &Limits,
) -> Result<Lowered, ImportError> {
    let opsets = Rc::new(opsets(&model.opset_import)?);
    let mut lowering = Lowering {
        limits,
        tensors: Tensors::new(external, limits),
        functions: functions(model.functions)?,
        calls: Vec::new(),
        levels: Vec::new(),
        envs: Vec::new(),
        nodes: 0,
        values: 0,
        expanded: 0,
    };
    let graph = model.graph.ok_or(ImportError::NoGraph)?;
    let declared = graph
        .output
        .iter()
        .map(|value| Ok((value.name.clone(), types::output(value, limits)?)))
        .collect::<Result<_, ImportError>>()?;
    let known: BTreeMap<_, _> = Domain::ALL
        .into_iter()
        .filter_map(|domain| Some((domain, u32::try_from(*opsets.get(domain_name(domain))?).ok()?)))
        .collect();
    let opset = known.get(&Domain::Onnx).copied().unwrap_or(1);
    let identity_version = schema::in_force(Domain::Onnx, "Identity", opset).map_or(1, |schema| schema.since);
    let graph = lowering.graph(graph, None, opsets)?;
    if graph.outputs.is_empty() {
        return Err(ImportError::NoOutput);
    }
    Ok(Lowered {
        graph,
        outputs: declared,
        opsets: known,
        external_files: lowering.tensors.files,
        identity_version,
    })
}

pub(super) fn domain_name(domain: Domain) -> &'static str {
    match domain {
        Domain::Onnx => "",
        Domain::OnnxMl => "ai.onnx.ml",
        Domain::Hallmark => "ai.hallmark",
    }
}

/// One name for the default domain.
fn plain_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn standard_domain(domain: &str) -> Option<Domain> {
    match domain {
        "" => Some(Domain::Onnx),
        "ai.onnx.ml" => Some(Domain::OnnxMl),
        "ai.hallmark" => Some(Domain::Hallmark),
        _ => None,
    }
}

fn opsets(imports: &[proto::OperatorSetId]) -> Result<Opsets, ImportError> {
    let mut opsets = Opsets::new();
    for import in imports {
        let domain = plain_domain(import.domain.as_deref().unwrap_or("")).to_owned();
        let version = import.version.unwrap_or(0);
        // Converters repeat an entry; only two that differ are refused.
        if opsets.insert(domain.clone(), version).is_some_and(|other| other != version) {
            return Err(ImportError::DuplicateOpset { domain });
        }
    }
    Ok(opsets)
}

fn functions(protos: Vec<proto::Function>) -> Result<HashMap<FunctionKey, Rc<Function>>, ImportError> {
    let mut functions = HashMap::new();
    for proto in protos {
        let domain = plain_domain(&proto.domain).to_owned();
        let key = (domain.clone(), proto.name.clone(), proto.overload.clone());
        // A body for an operator that ONNX itself defines could give it another meaning.
        let shadows = standard_domain(&domain).is_some_and(|d| !schema::versions(d, &proto.name).is_empty());
        let name = proto.name.clone();
        let mut inputs = BTreeSet::new();
        if let Some(input) = proto.input.iter().find(|input| !inputs.insert(input.as_str())) {
            return Err(ImportError::DuplicateName { name: input.clone() });
        }
        let function =
            Function { opsets: Rc::new(opsets(&proto.opset_import)?), size: proto.encoded_len(), proto };
        if functions.insert(key, Rc::new(function)).is_some() || shadows {
            return Err(ImportError::DuplicateFunction { domain, name });
        }
    }
    Ok(functions)
}

impl Lowering<'_> {
    /// Lowers a graph inside `parent`'s scope.
    fn graph(
        &mut self,
        graph: proto::Graph,
        parent: Option<usize>,
        opsets: Rc<Opsets>,
    ) -> Result<LooseGraph, ImportError> {
        if self.levels.len() >= self.limits.depth {
            return Err(ImportError::NestedTooDeep { limit: self.limits.depth });
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(ImportError::Sparse { name: "sparse_initializer".to_owned() });
        }
        let level = self.levels.len();
        self.levels.push(LooseGraph::default());
        let frame = parent.and_then(|parent| self.envs.get(parent)).and_then(|env| env.frame.clone());
        let env = self.envs.len();
        self.envs.push(Env { names: HashMap::new(), level, parent, opsets, frame });

        for tensor in graph.initializer {
            let name = tensor.name.clone();
            if name.is_empty() {
                return Err(ImportError::Unnamed { role: "initializer", index: 0 });
            }
            let tensor = Arc::new(self.tensors.read(tensor, &name)?);
            self.define(env, name, Def::Constant(tensor))?;
        }
        self.inputs(graph.input, env, level)?;
        self.body(graph.node, env)?;
        for (index, output) in graph.output.into_iter().enumerate() {
            if output.name.is_empty() {
                return Err(ImportError::Unnamed { role: "output", index });
            }
            let id = self
                .resolve(env, &output.name)
                .ok_or_else(|| ImportError::UndefinedOutput { name: output.name.clone() })?;
            self.level(level).outputs.push((output.name, id));
        }
        self.envs.truncate(env);
        Ok(self.levels.pop().unwrap_or_default())
    }

    /// Inputs that no initializer gives; the others are constants.
    fn inputs(&mut self, inputs: Vec<proto::ValueInfo>, env: usize, level: usize) -> Result<(), ImportError> {
        let mut seen = BTreeSet::new();
        for (index, input) in inputs.into_iter().enumerate() {
            if input.name.is_empty() {
                return Err(ImportError::Unnamed { role: "input", index });
            }
            if !seen.insert(input.name.clone()) {
                return Err(ImportError::DuplicateName { name: input.name });
            }
            if self.envs.get(env).is_some_and(|env| env.names.contains_key(&input.name)) {
                continue;
            }
            // The types of a subgraph's inputs follow from the node that owns it.
            let info = if level == 0 { types::input(&input, self.limits)? } else { TypeInfo::default() };
            let id = self.define(env, input.name, Def::Input)?;
            let graph = self.level(level);
            graph.inputs.push(id);
            if let Some(value) = graph.values.get_mut(id) {
                value.info = info;
            }
        }
        Ok(())
    }

    /// Lowers `nodes`, whose names live in `env`. The file's order does not matter.
    fn body(&mut self, nodes: Vec<proto::Node>, env: usize) -> Result<(), ImportError> {
        for name in nodes.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()) {
            self.define(env, name.clone(), Def::Node)?;
        }
        // Constants first: whether a Dropout passes depends on one.
        let (constants, others): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .partition(|node| node.op_type == "Constant" && plain_domain(&node.domain).is_empty());
        for node in constants.into_iter().chain(others) {
            self.nodes = self.nodes.saturating_add(1);
            if self.nodes > self.limits.nodes {
                return Err(ImportError::TooManyNodes { limit: self.limits.nodes });
            }
            self.node(node, env)?;
        }
        Ok(())
    }

    fn node(&mut self, mut node: proto::Node, env: usize) -> Result<(), ImportError> {
        let label = label(&node);
        let domain = plain_domain(&node.domain).to_owned();
        let frame = self.envs.get(env).and_then(|env| env.frame.clone());
        let attrs = attributes::resolve(std::mem::take(&mut node.attribute), frame.as_deref(), &label)?;
        let inputs = self.node_inputs(&node, &label, env)?;
        let outputs: Vec<_> = node.output.iter().map(|name| self.own(env, name)).collect();

        let key = (domain, node.op_type, node.overload);
        if let Some(function) = self.functions.get(&key) {
            let function = Rc::clone(function);
            return self.call(&function, key, label, inputs, outputs, attrs);
        }
        let unknown =
            || matches!(self.version(&label, &key.0, &key.1, env), Err(ImportError::UnknownOperator { .. }));
        let early = || contrib::EARLY.contains(&key.1.as_str()) && unknown();
        if (key.0 == contrib::DOMAIN || key.0.is_empty() && early())
            && let Some(proto) = contrib::function(&key.1, &node.input, &attrs, &label)?
        {
            let (opsets, size) = (Rc::new(opsets(&proto.opset_import)?), proto.encoded_len());
            let function = Function { proto, opsets, size };
            return self.call(&function, key, label, inputs, outputs, attrs);
        }
        let (domain, op, _) = key;
        let (domain, opset, schema) = self.version(&label, &domain, &op, env)?;
        let version = schema.since;
        let owner = Owner { node: &label, op: &op, version };
        check_counts(schema, owner, &inputs, &outputs)?;
        let split = attributes::split(attrs, schema, owner, &mut self.tensors)?;
        match (domain, op.as_str()) {
            (Domain::Onnx, "Constant") => {
                let tensor = attributes::constant(split.plain, owner)?;
                for id in outputs.into_iter().flatten() {
                    self.set(env, id, |value| value.def = Def::Constant(Arc::clone(&tensor)));
                }
                return Ok(());
            }
            (Domain::Onnx, "Identity") => return self.alias(env, label, inputs, outputs),
            (Domain::Onnx, "Dropout") if self.passes(env, &inputs, &outputs) => {
                return self.alias(env, label, inputs, outputs);
            }
            (Domain::OnnxMl, "ZipMap") => {
                let keys = zip_map_keys(&label, split.plain)?;
                for id in outputs.iter().flatten() {
                    self.set(env, *id, |value| value.keys = Some(Arc::clone(&keys)));
                }
                return self.alias(env, label, inputs, outputs);
            }
            _ => {}
        }
        self.apply(label, domain, opset, op, version, split, inputs, outputs, env)
    }

    #[allow(clippy::too_many_arguments)]
    fn apply(
        &mut self,
        label: String,
        domain: Domain,
        opset: u32,
        op: String,
        version: u32,
        split: Split,
        inputs: Vec<Option<Id>>,
        outputs: Vec<Option<Id>>,
        env: usize,
    ) -> Result<(), ImportError> {
        let Some(def) = ops::find(domain, &op) else {
            let domain = shown(domain_name(domain));
            return Err(ImportError::UnsupportedOperator { node: label, op, domain, version, opset });
        };
        if !def.versions.contains(&version) {
            let supported = def.versions.to_vec();
            return Err(ImportError::UnsupportedVersion { node: label, op, version, opset, supported });
        }
        let unknown = |name: &&String| !def.attrs.contains(&name.as_str());
        if let Some(attribute) = split.plain.keys().chain(split.graphs.keys()).find(unknown) {
            let attribute = attribute.clone();
            return Err(ImportError::UnsupportedAttribute { node: label, op, version, attribute });
        }
        let mut graphs = BTreeMap::new();
        for (name, graph) in split.graphs {
            let opsets = self.envs.get(env).map(|env| Rc::clone(&env.opsets)).unwrap_or_default();
            graphs.insert(name, self.graph(graph, Some(env), opsets)?);
        }
        let kind = Kind::Apply { op: def, version, attrs: split.plain, graphs };
        self.push(env, LooseNode { label, kind, inputs, outputs });
        Ok(())
    }

    /// The operator's schema in force for a node of `env`.
    fn version(
        &self,
        node: &str,
        domain: &str,
        op: &str,
        env: usize,
    ) -> Result<(Domain, u32, &'static Schema), ImportError> {
        let opset = self.envs.get(env).and_then(|env| env.opsets.get(domain)).copied();
        let (node, op) = (node.to_owned(), op.to_owned());
        let Some(got) = opset else {
            return Err(ImportError::OpsetMissing { node, op, domain: shown(domain) });
        };
        let Some(standard) = standard_domain(domain) else {
            return Err(ImportError::UnknownOperator { node, op, domain: shown(domain), opset: got });
        };
        let oldest = if standard == Domain::Onnx { schema::OLDEST } else { 1 };
        let newest = schema::newest(standard);
        let opset = u32::try_from(got)
            .ok()
            .filter(|opset| (oldest..=newest).contains(opset))
            .ok_or_else(|| ImportError::OpsetRange { domain: shown(domain), got, oldest, newest })?;
        match schema::in_force(standard, &op, opset) {
            None => Err(ImportError::UnknownOperator { node, op, domain: shown(domain), opset: got }),
            Some(schema) if schema.gone => {
                Err(ImportError::RemovedOperator { node, op, version: schema.since, opset })
            }
            Some(schema) => Ok((standard, opset, schema)),
        }
    }

    /// Expands a function call: its body's nodes, with names of their own, between renamed inputs and outputs.
    fn call(
        &mut self,
        function: &Function,
        key: FunctionKey,
        label: String,
        inputs: Vec<Option<Id>>,
        outputs: Vec<Option<Id>>,
        attrs: Vec<proto::Attribute>,
    ) -> Result<(), ImportError> {
        let proto = &function.proto;
        if self.calls.contains(&key) {
            return Err(ImportError::RecursiveFunction { name: proto.name.clone() });
        }
        if self.calls.len() >= self.limits.depth {
            return Err(ImportError::NestedTooDeep { limit: self.limits.depth });
        }
        self.expanded = self.expanded.saturating_add(function.size);
        if self.expanded > self.limits.bytes {
            return Err(ImportError::FileTooLarge { got: self.expanded, limit: self.limits.bytes });
        }
        let (op, version) = (proto.name.clone(), 0);
        if inputs.len() > proto.input.len() {
            let max = proto.input.len();
            return Err(ImportError::InputCount { node: label, op, version, min: 0, max, got: inputs.len() });
        }
        if outputs.len() > proto.output.len() {
            let max = proto.output.len();
            return Err(ImportError::OutputCount {
                node: label,
                op,
                version,
                min: 0,
                max,
                got: outputs.len(),
            });
        }
        let frame = frame(proto, attrs, &label)?;

        let Some(level) = self.levels.len().checked_sub(1) else { return Err(ImportError::NoGraph) };
        let env = self.envs.len();
        self.envs.push(Env {
            names: HashMap::new(),
            level,
            parent: None,
            opsets: Rc::clone(&function.opsets),
            frame: Some(Rc::new(frame)),
        });
        for (index, name) in proto.input.iter().enumerate() {
            if name.is_empty() {
                return Err(ImportError::Unnamed { role: "function input", index });
            }
            let given = inputs.get(index).copied().flatten();
            if let (Some(env), Some(id)) = (self.envs.last_mut(), given) {
                env.names.insert(name.clone(), id);
            }
        }
        self.calls.push(key);
        let mut body = proto.node.clone();
        // A formal input that the call leaves out reads as left out everywhere in the body.
        let absent: BTreeSet<_> = proto
            .input
            .iter()
            .enumerate()
            .filter(|(index, _)| inputs.get(*index).copied().flatten().is_none())
            .map(|(_, name)| name.as_str())
            .collect();
        for node in &mut body {
            node.name = format!("{label}/{}", self::label(node));
            node.input.iter_mut().filter(|name| absent.contains(name.as_str())).for_each(String::clear);
        }
        self.body(body, env)?;
        self.calls.pop();
        for (name, output) in proto.output.iter().zip(outputs) {
            let Some(output) = output else { continue };
            let inner = self
                .resolve(env, name)
                .ok_or_else(|| ImportError::UndefinedOutput { name: name.to_owned() })?;
            let node = LooseNode {
                label: label.clone(),
                kind: Kind::Alias,
                inputs: vec![Some(inner)],
                outputs: vec![Some(output)],
            };
            self.push(env, node);
        }
        self.envs.truncate(env);
        Ok(())
    }

    /// Whether a Dropout does nothing: no mask is asked for and it is not told to train.
    fn passes(&self, env: usize, inputs: &[Option<Id>], outputs: &[Option<Id>]) -> bool {
        if outputs.get(1).copied().flatten().is_some() {
            return false;
        }
        let Some(training) = inputs.get(2).copied().flatten() else { return true };
        let level = self.envs.get(env).and_then(|env| self.levels.get(env.level));
        match level.and_then(|level| level.values.get(training)).map(|value| &value.def) {
            Some(Def::Constant(tensor)) => tensor.as_slice::<bool>() == Some(&[false]),
            _ => false,
        }
    }

    fn alias(
        &mut self,
        env: usize,
        label: String,
        inputs: Vec<Option<Id>>,
        outputs: Vec<Option<Id>>,
    ) -> Result<(), ImportError> {
        if inputs.first().copied().flatten().is_none() {
            return Err(ImportError::UndefinedInput { node: label, name: String::new() });
        }
        self.push(env, LooseNode { label, kind: Kind::Alias, inputs, outputs });
        Ok(())
    }

    fn node_inputs(
        &mut self,
        node: &proto::Node,
        label: &str,
        env: usize,
    ) -> Result<Vec<Option<Id>>, ImportError> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match name.as_str() {
                "" => None,
                name => Some(self.resolve(env, name).ok_or_else(|| ImportError::UndefinedInput {
                    node: label.to_owned(),
                    name: name.to_owned(),
                })?),
            });
        }
        Ok(inputs)
    }

    /// The value that `name` means in `env`; one of an enclosing graph is captured on the way.
    fn resolve(&mut self, env: usize, name: &str) -> Option<Id> {
        let here = self.envs.get(env)?;
        if let Some(id) = here.names.get(name) {
            return Some(*id);
        }
        let (level, parent) = (here.level, here.parent?);
        let outer = self.resolve(parent, name)?;
        if self.envs.get(parent)?.level == level {
            return Some(outer);
        }
        let graph = self.levels.get_mut(level)?;
        let id = graph.values.len();
        let own = *graph.captures.entry(outer).or_insert(id);
        if own == id {
            graph.values.push(LooseValue {
                name: name.to_owned(),
                def: Def::Capture(outer),
                info: TypeInfo::default(),
                keys: None,
            });
        }
        Some(own)
    }

    /// The value that a node of `env` defines as `name`.
    fn own(&self, env: usize, name: &str) -> Option<Id> {
        self.envs.get(env)?.names.get(name).copied()
    }

    fn define(&mut self, env: usize, name: String, def: Def) -> Result<Id, ImportError> {
        self.values = self.values.saturating_add(1);
        if self.values > self.limits.values {
            return Err(ImportError::TooManyValues { limit: self.limits.values });
        }
        let Some(env) = self.envs.get_mut(env) else { return Err(ImportError::NoGraph) };
        let Some(graph) = self.levels.get_mut(env.level) else { return Err(ImportError::NoGraph) };
        let id = graph.values.len();
        if env.names.insert(name.clone(), id).is_some() {
            return Err(ImportError::DuplicateName { name });
        }
        graph.values.push(LooseValue { name, def, info: TypeInfo::default(), keys: None });
        Ok(id)
    }

    fn set(&mut self, env: usize, id: Id, change: impl FnOnce(&mut LooseValue)) {
        let level = self.envs.get(env).map(|env| env.level);
        if let Some(value) =
            level.and_then(|level| self.levels.get_mut(level)).and_then(|graph| graph.values.get_mut(id))
        {
            change(value);
        }
    }

    fn push(&mut self, env: usize, node: LooseNode) {
        if let Some(level) = self.envs.get(env).map(|env| env.level) {
            self.level(level).nodes.push(node);
        }
    }
    /// The graph at `level`, which is being built.
    fn level(&mut self, level: usize) -> &mut LooseGraph {
        if self.levels.len() <= level {
            self.levels.resize_with(level.saturating_add(1), LooseGraph::default);
        }
        &mut self.levels[level]
    }
}

/// A node's name for messages, cut short: it is repeated in front of every node that a function call brings.
fn label(node: &proto::Node) -> String {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => format!("{}({})", short(&node.op_type), short(output)),
        ("", None) => short(&node.op_type).to_owned(),
        (name, _) => short(name).to_owned(),
    }
}

fn short(name: &str) -> &str {
    name.char_indices().nth(LABEL).map_or(name, |(end, _)| &name[..end])
}

fn shown(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() }
}

/// The attributes that a function's nodes may refer to: the call's, then the defaults.
fn frame(proto: &proto::Function, attrs: Vec<proto::Attribute>, label: &str) -> Result<Frame, ImportError> {
    let mut frame: Frame = proto.attribute_proto.iter().map(|a| (a.name.clone(), a.clone())).collect();
    for attribute in attrs {
        let (node, op, version) = (label.to_owned(), proto.name.clone(), 0);
        if !proto.attribute.contains(&attribute.name) && !frame.contains_key(&attribute.name) {
            return Err(ImportError::UnknownAttribute { node, op, version, attribute: attribute.name });
        }
        if attribute.g.is_some() {
            return Err(ImportError::UnsupportedAttribute { node, op, version, attribute: attribute.name });
        }
        frame.insert(attribute.name.clone(), attribute);
    }
    Ok(frame)
}

fn check_counts(
    schema: &Schema,
    owner: Owner<'_>,
    inputs: &[Option<Id>],
    outputs: &[Option<Id>],
) -> Result<(), ImportError> {
    let (node, op, version) = (owner.node.to_owned(), owner.op.to_owned(), owner.version);
    let ((min, max), got) = (schema.inputs, inputs.len());
    if !(min..=max).contains(&got) {
        return Err(ImportError::InputCount { node, op, version, min, max, got });
    }
    let ((min, max), got) = (schema.outputs, outputs.len());
    if !(min..=max).contains(&got) {
        return Err(ImportError::OutputCount { node, op, version, min, max, got });
    }
    Ok(())
}

fn zip_map_keys(node: &str, mut plain: BTreeMap<String, Attr>) -> Result<Arc<Tensor>, ImportError> {
    let fault = |what| ImportError::ZipMap { node: node.to_owned(), what };
    match (plain.remove("classlabels_int64s"), plain.remove("classlabels_strings")) {
        (Some(Attr::Ints(keys)), None) => Ok(Arc::new(Tensor::vector(keys))),
        (None, Some(Attr::Strs(keys))) => {
            let keys = keys.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>();
            Ok(Arc::new(Tensor::vector(keys.map_err(|_| fault("a class label is not UTF-8"))?)))
        }
        _ => Err(fault("ZipMap needs class labels of one kind")),
    }
}
