//! `If`: each branch is a program of its own, which shares its owner's threads and memory.

use std::sync::Arc;

use hallmark_model::graph::{Attr, Node};
use hallmark_receipt::Tensor;

use super::{Cx, Kernel};
use crate::error::Stop;
use crate::program::{Exec, Options, Program};

/// The two branches of an `If` node.
#[derive(Debug)]
pub(crate) struct Branches {
    then: Branch,
    other: Branch,
}

#[derive(Debug)]
struct Branch {
    program: Program,
    /// Where its captures begin among the node's inputs.
    captures: usize,
}

impl Branches {
    /// The branches of `node`; `None` leaves the node, and what is wrong with it, to the reference.
    pub(crate) fn new(node: &Node, exec: &Exec) -> Option<Self> {
        let mut captures = node.declared_inputs;
        let mut branches = (None, None);
        for (name, attr) in &node.attrs.0 {
            let Attr::Graph(graph) = attr else { continue };
            if !graph.inputs.is_empty() {
                return None;
            }
            let options = Options { threads: 1, memory_limit: usize::MAX, time_limit: None, isa: exec.isa };
            let program = Program::compile_with(Arc::clone(graph), options, Arc::clone(&exec.pool)).ok()?;
            let branch = Some(Branch { program, captures });
            captures = captures.checked_add(graph.captures.len())?;
            match name.as_str() {
                "then_branch" => branches.0 = branch,
                "else_branch" => branches.1 = branch,
                _ => return None,
            }
        }
        Some(Self { then: branches.0?, other: branches.1? })
    }
}

impl Kernel for Branches {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(&[condition]) = cx.input(0).and_then(|t| t.as_slice::<bool>()) else { return Ok(None) };
        let branch = if condition { &self.then } else { &self.other };
        let count = branch.program.graph().captures.len();
        let captured: Option<Vec<&Tensor>> = cx
            .args
            .iter()
            .skip(branch.captures)
            .take(count)
            .map(|arg| match arg {
                super::Arg::Ref(tensor) => Some(*tensor),
                super::Arg::Own(tensor) => Some(tensor),
                super::Arg::Absent => None,
            })
            .collect();
        let Some(captured) = captured.filter(|c| c.len() == count) else { return Ok(None) };
        let made = branch
            .program
            .execute(&captured, cx.arena, cx.deadline)
            .map_err(|error| Stop::Inner(Box::new(error)))?;
        for tensor in &made {
            cx.arena.charge(crate::memory::bytes(tensor))?;
        }
        Ok(Some(made))
    }
}
