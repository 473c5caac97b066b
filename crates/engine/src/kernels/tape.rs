//! Elementwise operators, alone or in chains, over tiles that stay in the nearest cache.

use hallmark_receipt::Tensor;

use super::map::{self, Map};
use super::par;
use super::{Cx, Kernel};
use crate::error::Stop;
use crate::isa::Isa;

/// Elements of a tile: a few tiles of this size fit the nearest cache together.
const TILE: usize = 1024;

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Src {
    /// An input of the step.
    Input(usize),
    /// The result of an earlier operation of the tape.
    Made(usize),
}

/// One operation of a tape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instr {
    /// The operation.
    pub(crate) op: Map,
    /// Its operands; one of one operand reads the first only.
    pub(crate) args: [Src; 2],
}

/// Elementwise operations, the last of which makes the output.
#[derive(Debug)]
pub(crate) struct Tape {
    /// In order of execution.
    pub(crate) code: Vec<Instr>,
    /// For each operation, the scratch tile that takes its result; the last one writes the output itself.
    slots: Vec<usize>,
    /// How many scratch tiles `slots` names.
    scratch: usize,
}

impl Tape {
    /// A tape of `code`, which reads only earlier results.
    pub(crate) fn new(code: Vec<Instr>) -> Self {
        let last_use = |made: usize| code.iter().rposition(|i| uses(i, Src::Made(made))).unwrap_or(made);
        let mut slots = Vec::with_capacity(code.len());
        let mut busy_until: Vec<usize> = Vec::new();
        for at in 0..code.len() {
            // A result never shares the tile of an operand of the same operation.
            let free = busy_until.iter().position(|&until| until < at);
            let slot = free.unwrap_or(busy_until.len());
            if free.is_none() {
                busy_until.push(0);
            }
            busy_until[slot] = last_use(at).max(at);
            slots.push(slot);
        }
        Self { code, slots, scratch: busy_until.len() }
    }

    /// The shape of a float32 operand.
    fn shape_of<'a>(&self, src: Src, made: &'a [Vec<usize>], cx: &'a Cx<'_>) -> Option<&'a [usize]> {
        match src {
            Src::Input(index) => {
                cx.input(index).filter(|t| t.dtype() == hallmark_receipt::DType::F32).map(Tensor::shape)
            }
            Src::Made(index) => made.get(index).map(Vec::as_slice),
        }
    }

    /// The shape of the result, if the inputs are float32, broadcast, and no operation but on scalars is smaller than it.
    fn shape(&self, cx: &Cx<'_>) -> Option<Vec<usize>> {
        let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(self.code.len());
        for instr in &self.code {
            let mut shape: Vec<usize> = Vec::new();
            for src in instr.args.iter().take(instr.op.arity()) {
                let other = self.shape_of(*src, &shapes, cx)?;
                shape = broadcast(&shape, other)?;
            }
            // PRelu's slope broadcasts to x, never the other way round.
            if instr.op == Map::PRelu && !self.shape_of(instr.args[0], &shapes, cx)?.eq(&shape) {
                return None;
            }
            shapes.push(shape);
        }
        let last = shapes.pop()?;
        let same = |shape: &Vec<usize>| shape.iter().eq(last.iter());
        shapes.iter().all(same).then_some(last)
    }
}

fn uses(instr: &Instr, src: Src) -> bool {
    instr.args.iter().take(instr.op.arity()).any(|&arg| arg == src)
}

/// The shape that `a` and `b` broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut shape = long.to_vec();
    let lead = long.len() - short.len();
    for (x, &y) in shape.iter_mut().skip(lead).zip(short) {
        if *x == 1 {
            *x = y;
        } else if *x != y && y != 1 {
            return None;
        }
    }
    Some(shape)
}

/// How an input is read at the output's positions.
enum Read<'a> {
    /// Element for element.
    Whole(&'a [f32]),
    /// The output buffer itself holds it.
    InPlace,
    /// One element for all.
    Scalar(f32),
    /// Repeated along some axes: sizes and strides of the axes, neighbours of one kind merged, outermost first.
    Strided { data: &'a [f32], axes: Vec<(usize, usize)> },
}

impl<'a> Read<'a> {
    fn new(data: &'a [f32], shape: &[usize], out: &[usize]) -> Self {
        if data.len() == 1 {
            return Self::Scalar(data[0]);
        }
        let n: usize = out.iter().product();
        if data.len() == n {
            return Self::Whole(data);
        }
        let mut axes: Vec<(usize, usize)> = Vec::new();
        let mut stride = 1;
        let lead = out.len() - shape.len();
        for (i, &size) in out.iter().enumerate().rev() {
            let own = i.checked_sub(lead).map_or(1, |i| shape[i]);
            let step = if own == 1 { 0 } else { stride };
            stride *= own;
            if size == 1 {
                continue;
            }
            match axes.last_mut() {
                Some((inner, inner_step))
                    if (*inner_step == 0 && step == 0)
                        || (*inner_step != 0 && step == *inner_step * *inner) =>
                {
                    *inner *= size;
                }
                _ => axes.push((size, step)),
            }
        }
        axes.reverse();
        Self::Strided { data, axes }
    }

    /// Fills `tile` with the elements for the output positions from `start` on.
    fn load(&self, start: usize, tile: &mut [f32]) {
        let Self::Strided { data, axes } = self else { return };
        let Some((&(inner, step), outer)) = axes.split_last() else { return };
        let mut row = start / inner;
        let mut within = start % inner;
        let mut done = 0;
        while done < tile.len() {
            let mut offset = 0;
            let mut rest = row;
            for &(size, step) in outer.iter().rev() {
                offset += (rest % size) * step;
                rest /= size;
            }
            let n = (inner - within).min(tile.len() - done);
            let into = &mut tile[done..done + n];
            if step == 0 {
                into.fill(data[offset]);
            } else {
                into.copy_from_slice(&data[offset + within..offset + within + n]);
            }
            done += n;
            within = 0;
            row += 1;
        }
    }
}

impl Kernel for Tape {
    fn run(&self, cx: &mut Cx<'_>) -> Result<Option<Vec<Tensor>>, Stop> {
        let Some(shape) = self.shape(cx) else { return Ok(None) };
        let n: usize = shape.iter().product();
        let taken = (0..cx.args.len()).find(|&i| {
            matches!(cx.args.get(i), Some(super::Arg::Own(t)) if t.len() == n && t.as_slice::<f32>().is_some())
        });
        let mut out = match taken.and_then(|i| cx.take(i)) {
            Some(tensor) => match tensor.into_parts().1 {
                hallmark_receipt::Data::F32(buffer) => buffer,
                _ => return Ok(None),
            },
            None => cx.arena.take(n)?,
        };
        let reads: Vec<Read<'_>> = (0..cx.args.len())
            .map(|i| match cx.input(i).and_then(|t| Some((t.as_slice::<f32>()?, t.shape()))) {
                Some((data, own)) => Read::new(data, own, &shape),
                None => Read::InPlace,
            })
            .collect();
        let cost: usize = self.code.iter().map(|i| i.op.cost()).sum();
        let (exec, isa) = (cx.exec, cx.exec.isa);
        par::chunks(exec, &mut out, TILE, cost, |start, chunk| self.chunk(isa, &reads, start, chunk));
        Ok(Some(vec![Tensor::from_vec(shape, out)?]))
    }
}

impl Tape {
    /// Computes `out`, which begins at output position `start`.
    fn chunk(&self, isa: Isa, reads: &[Read<'_>], start: usize, out: &mut [f32]) {
        let size = out.len().min(TILE);
        let mut loaded: Vec<Vec<f32>> = reads
            .iter()
            .map(|read| match read {
                Read::Whole(_) => Vec::new(),
                Read::Scalar(value) => vec![*value; size],
                Read::InPlace | Read::Strided { .. } => vec![0.0; size],
            })
            .collect();
        let needed = if self.code.len() > 1 { self.scratch } else { 0 };
        let mut scratch: Vec<Vec<f32>> = vec![vec![0.0; size]; needed];
        for (index, tile) in out.chunks_mut(TILE).enumerate() {
            let (at, n) = (start + index * TILE, tile.len());
            for (read, buffer) in reads.iter().zip(&mut loaded) {
                match read {
                    Read::InPlace => buffer[..n].copy_from_slice(tile),
                    Read::Strided { .. } => read.load(at, &mut buffer[..n]),
                    Read::Whole(_) | Read::Scalar(_) => {}
                }
            }
            for (step, instr) in self.code.iter().enumerate() {
                let last = step + 1 == self.code.len();
                let slot = self.slots[step];
                let mut into = if last { Vec::new() } else { std::mem::take(&mut scratch[slot]) };
                let operand = |src: Src| -> &[f32] {
                    match src {
                        Src::Input(i) => match &reads[i] {
                            Read::Whole(data) => &data[at..at + n],
                            _ => &loaded[i][..n],
                        },
                        Src::Made(i) => &scratch[self.slots[i]][..n],
                    }
                };
                let a = operand(instr.args[0]);
                let b = if instr.op.arity() == 2 { operand(instr.args[1]) } else { a };
                map::apply(isa, instr.op, a, b, if last { &mut *tile } else { &mut into[..n] });
                if !last {
                    scratch[slot] = into;
                }
            }
        }
    }
}
