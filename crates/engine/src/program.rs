//! A graph made ready to run, and its runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hallmark_model::graph::{Dim, Graph, Node};
use hallmark_model::ops::EvalCx;
use hallmark_receipt::{Data, Tensor};

use crate::error::{self, CompileError, RunError, Stop};
use crate::isa::Isa;
use crate::kernels::{Arg, Cx};
use crate::memory::{self, Arena};
use crate::plan::{self, Constants, Step};
use crate::threads::Pool;

/// The most threads that one program takes.
pub const MAX_THREADS: usize = 256;

/// How a program runs. None of it changes a bit of the outputs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that one run uses, the caller's included: 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// The most bytes of tensors that one run may hold at a time, its copies of inputs and its outputs included; the graph's
    /// weights and the caller's own tensors are not counted.
    pub memory_limit: usize,
    /// The most time that one run may take; looked at between nodes. `None`: no limit, and the clock is never read.
    pub time_limit: Option<Duration>,
    /// The instruction set; [`Isa::detect`] gives the best one.
    pub isa: Isa,
}

impl Default for Options {
    /// One thread, 4 GiB (or what the address space has), no time limit, the best instruction set.
    fn default() -> Self {
        let memory_limit = usize::try_from(4_u64 << 30).unwrap_or(1 << 31);
        Self { threads: 1, memory_limit, time_limit: None, isa: Isa::detect() }
    }
}

/// What kernels compute with.
#[derive(Debug)]
pub(crate) struct Exec {
    /// The instruction set, which this processor has.
    pub(crate) isa: Isa,
    /// The threads.
    pub(crate) pool: Arc<Pool>,
}

/// The end of a run's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    end: std::time::Instant,
    limit: Duration,
}

/// A graph made ready to run: constants folded, nodes fused, kernels chosen, weights packed.
///
/// One program serves many runs, also from several threads at a time.
#[derive(Debug)]
pub struct Program {
    graph: Arc<Graph>,
    options: Options,
    constants: Constants,
    steps: Vec<Step>,
    exec: Exec,
    /// Buffers of finished runs. Locked only to take one out and to put it back.
    arenas: Mutex<Vec<Arena>>,
}

/// Where a value is during a run.
#[derive(Debug)]
enum Slot<'a> {
    Empty,
    Borrowed(&'a Tensor),
    Owned(Tensor),
}

impl Slot<'_> {
    fn get(&self) -> Option<&Tensor> {
        match self {
            Slot::Empty => None,
            Slot::Borrowed(tensor) => Some(tensor),
            Slot::Owned(tensor) => Some(tensor),
        }
    }
}

impl Program {
    /// Makes `graph` ready to run.
    ///
    /// # Errors
    /// A graph that breaks its invariants, an instruction set that this processor lacks, a number of threads out of range.
    pub fn compile(graph: Arc<Graph>, options: Options) -> Result<Self, CompileError> {
        if options.threads == 0 || options.threads > MAX_THREADS {
            return Err(CompileError::Threads { most: MAX_THREADS, got: options.threads });
        }
        let pool = Arc::new(Pool::new(options.threads));
        Self::compile_with(graph, options, pool)
    }

    /// [`Program::compile`] with threads that exist already: subgraphs share those of their owner.
    pub(crate) fn compile_with(
        graph: Arc<Graph>,
        options: Options,
        pool: Arc<Pool>,
    ) -> Result<Self, CompileError> {
        if !options.isa.is_available() {
            return Err(CompileError::IsaAbsent { isa: options.isa.name() });
        }
        if let Some(limit) = options.time_limit
            && cfg!(target_arch = "wasm32")
        {
            return Err(CompileError::NoClock { limit });
        }
        error::check_graph(&graph)?;
        let exec = Exec { isa: options.isa, pool };
        let (constants, folded) = plan::fold(&graph);
        let steps = plan::steps(&graph, &constants, &folded, &exec);
        Ok(Self { graph, options, constants, steps, exec, arenas: Mutex::new(Vec::new()) })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The options it was compiled with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Runs the graph on `inputs`, in the graph's order, and gives its outputs, in the graph's order.
    ///
    /// Inputs' NaNs are made canonical first (`numeric.md` §2). The outputs are the same bits on every machine.
    ///
    /// # Errors
    /// Inputs that do not fit the graph, a limit of [`Options`] that is reached, a node that refuses.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        self.check_inputs(&inputs)?;
        let deadline = self.options.time_limit.and_then(|limit| {
            let end = std::time::Instant::now().checked_add(limit)?;
            Some(Deadline { end, limit })
        });
        let mut arena = lock(&self.arenas).pop().unwrap_or_default();
        arena.begin(self.options.memory_limit);
        let result = self.execute(&inputs, &mut arena, deadline);
        lock(&self.arenas).push(arena);
        result
    }

    fn check_inputs(&self, inputs: &[&Tensor]) -> Result<(), RunError> {
        let expected = self.graph.inputs.len();
        if inputs.len() != expected {
            return Err(RunError::InputCount { expected, got: inputs.len() });
        }
        let mut symbols: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, tensor) in self.graph.inputs.iter().zip(inputs) {
            let Some(value) = self.graph.values.get(id.0) else { continue };
            if let Some(expected) = value.info.dtype
                && expected != tensor.dtype()
            {
                return Err(RunError::InputType { name: value.name.clone(), expected, got: tensor.dtype() });
            }
            let Some(dims) = &value.info.shape else { continue };
            let fits = dims.len() == tensor.shape().len()
                && dims.iter().zip(tensor.shape()).all(|(dim, n)| !matches!(dim, Dim::Known(d) if d != n));
            if !fits {
                let (name, got) = (value.name.clone(), tensor.shape().to_vec());
                return Err(RunError::InputShape { name, expected: dims.clone(), got });
            }
            for (dim, &got) in dims.iter().zip(tensor.shape()) {
                let Dim::Symbol(symbol) = dim else { continue };
                let first = *symbols.entry(symbol).or_insert(got);
                if first != got {
                    let (name, symbol) = (value.name.clone(), symbol.clone());
                    return Err(RunError::InputSymbol { name, symbol, first, got });
                }
            }
        }
        Ok(())
    }

    /// Runs on inputs, then captures, that fit.
    pub(crate) fn execute(
        &self,
        inputs: &[&Tensor],
        arena: &mut Arena,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Tensor>, RunError> {
        let _subnormals = crate::threads::KeepSubnormals::begin();
        let mut slots: Vec<Slot<'_>> = Vec::new();
        slots.resize_with(self.graph.values.len(), || Slot::Empty);
        let result = self.execute_in(&mut slots, inputs, arena, deadline);
        if result.is_err() {
            for slot in slots {
                if let Slot::Owned(tensor) = slot {
                    arena.recycle(tensor);
                }
            }
        }
        result
    }

    fn execute_in<'a>(
        &'a self,
        slots: &mut [Slot<'a>],
        inputs: &[&'a Tensor],
        arena: &mut Arena,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Tensor>, RunError> {
        for (id, tensor) in self.graph.inputs.iter().chain(&self.graph.captures).zip(inputs) {
            let slot = canonical_input(tensor, arena).map_err(|stop| match stop {
                Stop::Memory { live, needed, limit } => {
                    let (node, op, version) = ("inputs".to_owned(), "inputs", 0);
                    RunError::Memory { node, op, version, live, needed, limit }
                }
                Stop::Op(source) => {
                    RunError::Node { node: "inputs".to_owned(), op: "inputs", version: 0, source }
                }
                Stop::Inner(error) => *error,
            })?;
            put(slots, id.0, slot);
        }
        for (id, tensor) in &self.constants {
            put(slots, id.0, Slot::Borrowed(tensor));
        }
        for step in &self.steps {
            self.step(step, slots, arena, deadline)?;
        }
        self.collect(slots, arena)
    }

    fn step<'a>(
        &'a self,
        step: &'a Step,
        slots: &mut [Slot<'a>],
        arena: &mut Arena,
        deadline: Option<Deadline>,
    ) -> Result<(), RunError> {
        let Some(node) = self.graph.nodes.get(step.node) else { return Ok(()) };
        if let Some(deadline) = deadline
            && std::time::Instant::now() >= deadline.end
        {
            let (name, op, version, limit) = (node.name.clone(), node.op.name, node.version, deadline.limit);
            return Err(RunError::Time { node: name, op, version, limit });
        }
        let mut taken: Vec<Option<Tensor>> = Vec::with_capacity(step.inputs.len());
        for (id, owned) in step.inputs.iter().zip(&step.owned) {
            taken.push(match id {
                Some(id) if *owned => take_owned(slots, id.0),
                _ => None,
            });
        }
        let args = step.inputs.iter().zip(taken).map(|(id, taken)| match (id, taken) {
            (_, Some(tensor)) => Arg::Own(tensor),
            (None, None) => Arg::Absent,
            (Some(id), None) => slots.get(id.0).and_then(Slot::get).map_or(Arg::Absent, Arg::Ref),
        });
        let mut cx = Cx { args: args.collect(), arena, exec: &self.exec, deadline };
        let made = match &step.kernel {
            Some(kernel) => kernel.run(&mut cx).map_err(|stop| stop.at(node))?,
            None => None,
        };
        let made = match made {
            Some(made) => made,
            None if step.parts.is_empty() => by_reference(node, &mut cx).map_err(|stop| stop.at(node))?,
            None => {
                let back: Vec<Option<Tensor>> = cx
                    .args
                    .into_iter()
                    .map(|arg| if let Arg::Own(tensor) = arg { Some(tensor) } else { None })
                    .collect();
                for (id, tensor) in step.inputs.iter().zip(back) {
                    if let (Some(id), Some(tensor)) = (id, tensor) {
                        put(slots, id.0, Slot::Owned(tensor));
                    }
                }
                return step.parts.iter().try_for_each(|part| self.step(part, slots, arena, deadline));
            }
        };
        let rest: Vec<Tensor> = cx
            .args
            .into_iter()
            .filter_map(|arg| if let Arg::Own(tensor) = arg { Some(tensor) } else { None })
            .collect();
        rest.into_iter().for_each(|tensor| arena.recycle(tensor));
        for (id, tensor) in step.outputs.iter().zip(made) {
            match id {
                Some(id) => put(slots, id.0, Slot::Owned(tensor)),
                None => arena.recycle(tensor),
            }
        }
        for id in &step.frees {
            if let Some(tensor) = take_owned(slots, id.0) {
                arena.recycle(tensor);
            }
        }
        Ok(())
    }

    fn collect(&self, slots: &mut [Slot<'_>], arena: &mut Arena) -> Result<Vec<Tensor>, RunError> {
        let mut outputs = Vec::with_capacity(self.graph.outputs.len());
        for (at, id) in self.graph.outputs.iter().enumerate() {
            // A value that is an output twice moves out the last time.
            let again = self.graph.outputs.iter().skip(at + 1).any(|later| later == id);
            let tensor = match slots.get_mut(id.0) {
                Some(slot @ Slot::Owned(_)) if !again => match std::mem::replace(slot, Slot::Empty) {
                    Slot::Owned(tensor) => {
                        arena.discharge(memory::bytes(&tensor));
                        Some(tensor)
                    }
                    _ => None,
                },
                Some(slot) => slot.get().cloned(),
                None => None,
            };
            let name = || self.graph.values.get(id.0).map(|v| v.name.clone()).unwrap_or_default();
            outputs.push(tensor.ok_or_else(|| RunError::OutputMissing { name: name() })?);
        }
        Ok(outputs)
    }
}

/// Runs one node by the scalar reference.
pub(crate) fn by_reference(node: &Node, cx: &mut Cx<'_>) -> Result<Vec<Tensor>, Stop> {
    let budget = cx.arena.left();
    let inputs: Vec<Option<&Tensor>> = (0..cx.args.len()).map(|index| cx.input(index)).collect();
    let mut made = (node.op.eval)(&EvalCx { node, inputs: &inputs, budget })?;
    drop(inputs);
    for tensor in &mut made {
        cx.arena.charge(memory::bytes(tensor))?;
        tensor.canonicalize_nan();
    }
    Ok(made)
}

/// The caller's tensor, or a counted copy of it where it holds a NaN that is not the canonical one.
fn canonical_input<'a>(tensor: &'a Tensor, arena: &mut Arena) -> Result<Slot<'a>, Stop> {
    let canonical = match tensor.data() {
        // A fold without a way out of the chunk becomes vector code.
        Data::F32(v) => v.chunks(1024).all(|chunk| {
            !chunk.iter().fold(false, |odd, x| odd | (x.is_nan() & (x.to_bits() != 0x7fc0_0000)))
        }),
        Data::F64(v) => v.iter().all(|x| !x.is_nan() || x.to_bits() == 0x7ff8_0000_0000_0000),
        Data::F16(v) => v.iter().all(|x| !x.is_nan() || x.to_bits() == 0x7e00),
        Data::BF16(v) => v.iter().all(|x| !x.is_nan() || x.to_bits() == 0x7fc0),
        _ => true,
    };
    if canonical {
        return Ok(Slot::Borrowed(tensor));
    }
    arena.charge(memory::bytes(tensor))?;
    let mut copy = tensor.clone();
    copy.canonicalize_nan();
    Ok(Slot::Owned(copy))
}

fn put<'a>(slots: &mut [Slot<'a>], index: usize, value: Slot<'a>) {
    if let Some(slot) = slots.get_mut(index) {
        *slot = value;
    }
}

fn take_owned(slots: &mut [Slot<'_>], index: usize) -> Option<Tensor> {
    let slot = slots.get_mut(index)?;
    if !matches!(slot, Slot::Owned(_)) {
        return None;
    }
    match std::mem::replace(slot, Slot::Empty) {
        Slot::Owned(tensor) => Some(tensor),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
