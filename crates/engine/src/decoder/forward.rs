//! One pass of some tokens of some sequences through the layers (`numeric.md` §11). A token's numbers depend on its own row and its
//! sequence's pages only: what else is in the pass never shows in a bit.

use std::ops::Range;

use hallmark_model::numeric::canonical_f32;
use hallmark_model::numeric::elementary::{cos_slice, lanes, sin_slice};

use super::pages::{PageId, Pages};
use super::weights::{Layer, Weights};
use crate::kernels::attention::{AttentionScratch, Head, PAGE, attend};
use crate::kernels::gemm::{Add, Ctx, Epilogue};
use crate::kernels::rows::{self, Form};
use crate::kernels::simd::per_isa;
use crate::kernels::{par, rows::norm};
use crate::program::Exec;

/// Queries that attend to the pages of a head at once.
const QUERIES: usize = 16;
/// Rows of a pass from which on positions, not heads, are shared among threads.
const MANY: usize = 64;

/// One token of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) token: u32,
    pub(crate) position: usize,
    /// The pages of its sequence, up to that of this position at least.
    pub(crate) table: &'a [PageId],
    /// Whether its logits are wanted.
    pub(crate) wanted: bool,
}

/// Buffers that passes use again, and sines and cosines of the positions met.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    x: Vec<f32>,
    y: Vec<f32>,
    n: Vec<f32>,
    qkv: Vec<f32>,
    o: Vec<f32>,
    gate_up: Vec<f32>,
    a: Vec<f32>,
    /// For each position half a head of cosines, then of sines.
    turns: Vec<f32>,
    /// One row a wanted token.
    pub(crate) logits: Vec<f32>,
}

impl Workspace {
    /// Makes turns of all positions below `positions`.
    fn reach(&mut self, positions: usize, frequencies: &[f32]) {
        let half = frequencies.len();
        let known = self.turns.len() / (2 * half).max(1);
        for position in known..positions {
            let angles: Vec<f32> = frequencies.iter().map(|f| position as f32 * f).collect();
            let start = self.turns.len();
            self.turns.resize(start + 2 * half, 0.0);
            let (c, s) = self.turns[start..].split_at_mut(half);
            cos_slice(&angles, c);
            sin_slice(&angles, s);
        }
    }
}

/// Runs `rows` through all layers, writes their keys and values, and leaves the wanted logits in the workspace.
///
/// Rows of one sequence ascend by position, and every position before the first is in its pages.
pub(crate) fn forward(
    exec: &Exec,
    weights: &Weights,
    pages: &mut Pages,
    rows: &[Row<'_>],
    work: &mut Workspace,
) {
    let a = &weights.architecture;
    let (m, hidden) = (rows.len(), a.hidden);
    let last = rows.iter().map(|row| row.position).max().unwrap_or(0);
    work.reach(last + 1, &weights.frequencies);
    work.x.resize(m * hidden, 0.0);
    for (row, x) in rows.iter().zip(work.x.chunks_exact_mut(hidden)) {
        weights.embed(row.token, x);
    }
    for (index, layer) in weights.layers.iter().enumerate() {
        attention(exec, weights, (index, layer), pages, rows, work);
        mlp(exec, weights, layer, m, work);
    }
    let wanted = rows.iter().filter(|row| row.wanted).count();
    work.y.clear();
    for (row, x) in rows.iter().zip(work.x.chunks_exact(hidden)) {
        if row.wanted {
            work.y.extend_from_slice(x);
        }
    }
    normalise(exec, &work.y, &mut work.n, &weights.norm, a.epsilon);
    weights.head.apply(exec, wanted, &work.n, &mut work.logits, &Epilogue::default());
}

fn attention(
    exec: &Exec,
    weights: &Weights,
    (index, layer): (usize, &Layer),
    pages: &mut Pages,
    rows: &[Row<'_>],
    work: &mut Workspace,
) {
    let a = &weights.architecture;
    let (m, d, query, key) = (rows.len(), a.head_dim, a.query(), a.key());
    let width = query + 2 * key;
    normalise(exec, &work.x, &mut work.n, &layer.attention_norm, a.epsilon);
    let bias = layer.qkv_bias.as_deref().map(Epilogue::columns).unwrap_or_default();
    layer.qkv.apply(exec, m, &work.n, &mut work.qkv, &bias);

    let half = d / 2;
    let turns = &work.turns;
    par::chunks(exec, &mut work.qkv, width, 2, |start, chunk| {
        for (row, chunk) in rows[start / width..].iter().zip(chunk.chunks_exact_mut(width)) {
            let (q, rest) = chunk.split_at_mut(query);
            let (k, _) = rest.split_at_mut(key);
            let (c, s) = turns[row.position * d..(row.position + 1) * d].split_at(half);
            for (x, scale) in [(q, &layer.query_norm), (k, &layer.key_norm)] {
                if let Some(scale) = scale {
                    norm(exec.isa, x, scale, None, a.epsilon, Form::Rms);
                }
                turn(exec.isa, x, c, s);
            }
        }
    });
    for (row, qkv) in rows.iter().zip(work.qkv.chunks_exact(width)) {
        let (k, v) = qkv[query..].split_at(key);
        pages.write(row.table[row.position / PAGE], index, row.position % PAGE, k, v);
    }

    work.o.resize(m * query, 0.0);
    let group = query / a.kv_heads;
    let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
    let parts = Parts { exec, weights, index, pages, rows, qkv: &work.qkv };
    // Prompts go by several positions at a time; with few rows, the heads of one are shared among the threads.
    let at_once = (QUERIES * d / group).max(1);
    let grain = if m < MANY { group } else { at_once * query };
    par::chunks(exec, &mut work.o, grain, longest.max(64), |start, mut out| {
        let (mut scratch, mut at) = (Scratch::default(), start);
        while !out.is_empty() {
            let (row, head) = (at / query, at % query / group);
            let (count, heads) = match out.len() / query {
                whole if head == 0 && whole > 0 => (run(&rows[row..row + whole.min(at_once)]), 0..a.kv_heads),
                _ => (1, head..head + 1),
            };
            let (done, rest) = std::mem::take(&mut out).split_at_mut(count * heads.len() * group);
            parts.attend(row..row + count, heads, done, &mut scratch);
            at += done.len();
            out = rest;
        }
    });
    let add = layer.output_bias.as_deref().map_or(Add::None, Add::Columns);
    let end = Epilogue { add, residual: Some(&work.x), ..Epilogue::default() };
    layer.output.apply(exec, m, &work.o, &mut work.y, &end);
    std::mem::swap(&mut work.x, &mut work.y);
}

/// How many of `rows` follow each other in one sequence, from the first on.
fn run(rows: &[Row<'_>]) -> usize {
    let follows = |pair: &&[Row<'_>]| {
        std::ptr::eq(pair[0].table, pair[1].table) && pair[1].position == pair[0].position + 1
    };
    1 + rows.windows(2).take_while(follows).count()
}

/// What attention of one layer is computed from.
struct Parts<'a> {
    exec: &'a Exec,
    weights: &'a Weights,
    /// The layer.
    index: usize,
    pages: &'a Pages,
    rows: &'a [Row<'a>],
    qkv: &'a [f32],
}

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    counts: Vec<usize>,
    mixed: Vec<f32>,
    inner: AttentionScratch,
}

impl Parts<'_> {
    /// Attention of some rows that follow each other in one sequence; `out` has for each of them the query heads of each of `heads`.
    fn attend(&self, rows: Range<usize>, heads: Range<usize>, out: &mut [f32], scratch: &mut Scratch) {
        let (a, layout) = (&self.weights.architecture, self.pages.layout());
        let (d, group) = (a.head_dim, a.query() / a.kv_heads);
        let width = a.query() + 2 * a.key();
        let Scratch { queries, counts, mixed, inner } = scratch;
        let last = &self.rows[rows.end - 1];
        let used = &last.table[..=last.position / PAGE];
        counts.clear();
        for row in &self.rows[rows.clone()] {
            counts.extend(std::iter::repeat_n(row.position + 1, group / d));
        }
        mixed.resize(rows.len() * group, 0.0);
        let table = Ctx::new(self.exec.isa, &self.exec.pool).table();
        for (place, head) in heads.clone().enumerate() {
            queries.clear();
            for row in rows.clone() {
                queries.extend_from_slice(&self.qkv[row * width + head * group..][..group]);
            }
            let keys: Vec<&[f32]> =
                used.iter().map(|&page| self.pages.keys(page, self.index, head)).collect();
            let values: Vec<&[f32]> =
                used.iter().map(|&page| self.pages.values(page, self.index, head)).collect();
            let head = Head { keys: &keys, values: &values, head_dim: d, padded: layout.padded };
            attend((self.exec.isa, table), &head, queries, counts, mixed, inner);
            for (out, mixed) in out.chunks_exact_mut(heads.len() * group).zip(mixed.chunks_exact(group)) {
                out[place * group..][..group].copy_from_slice(mixed);
            }
        }
    }
}

fn mlp(exec: &Exec, weights: &Weights, layer: &Layer, m: usize, work: &mut Workspace) {
    let a = &weights.architecture;
    let wide = a.intermediate;
    normalise(exec, &work.x, &mut work.n, &layer.mlp_norm, a.epsilon);
    layer.gate_up.apply(exec, m, &work.n, &mut work.gate_up, &Epilogue::default());
    work.a.resize(m * wide, 0.0);
    let gate_up = &work.gate_up;
    // Parts of 64 elements lie within one row where a row is a multiple of it; others go row by row.
    let grain = if wide.is_multiple_of(64) { 64 } else { wide };
    par::chunks(exec, &mut work.a, grain, 20, |start, out| {
        let mut at = start;
        for out in out.chunks_mut(grain) {
            let from = at / wide * 2 * wide + at % wide;
            gated(
                exec.isa,
                &gate_up[from..from + out.len()],
                &gate_up[from + wide..from + wide + out.len()],
                out,
            );
            at += out.len();
        }
    });
    let end = Epilogue { residual: Some(&work.x), ..Epilogue::default() };
    layer.down.apply(exec, m, &work.a, &mut work.y, &end);
    std::mem::swap(&mut work.x, &mut work.y);
}

/// RMSNorm of each row of `x`.
fn normalise(exec: &Exec, x: &[f32], out: &mut Vec<f32>, scale: &[f32], epsilon: f32) {
    out.resize(x.len(), 0.0);
    par::chunks(exec, out, scale.len(), 5, |start, out| {
        out.copy_from_slice(&x[start..start + out.len()]);
        rows::norm(exec.isa, out, scale, None, epsilon, Form::Rms);
    });
}

#[inline(always)]
fn turn_body(x: &mut [f32], c: &[f32], s: &[f32]) {
    for head in x.chunks_exact_mut(2 * c.len()) {
        let (low, high) = head.split_at_mut(c.len());
        for (((x, y), c), s) in low.iter_mut().zip(high).zip(c).zip(s) {
            (*x, *y) = (canonical_f32(*x * c - *y * s), canonical_f32(*y * c + *x * s));
        }
    }
}

per_isa! {
    /// The rotary embedding of each head of `x`, in place.
    fn turn = turn_body(x: &mut [f32], c: &[f32], s: &[f32])
}

#[inline(always)]
fn gated_body<const FUSED: bool>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((y, &g), &u) in out.iter_mut().zip(gate).zip(up) {
        *y = canonical_f32((g * (1.0 / (1.0 + lanes::exp::<FUSED>(-g)))) * u);
    }
}

per_isa! {
    /// `SiLU(gate) * up`.
    fn gated = gated_body<FUSED>(gate: &[f32], up: &[f32], out: &mut [f32])
}
