//! One pass of some texts through the layers (`numeric.md` §12). A row's numbers depend on the rows of its own text only.

use hallmark_model::numeric::canonical_f32;

use super::weights::{Layer, Linear, Norm, Weights};
use crate::decoder::pages::{Layout, PageId, Pages};
use crate::kernels::attention::{AttentionScratch, Head, PAGE, attend};
use crate::kernels::gemm::{Ctx, Epilogue};
use crate::kernels::map::{self, Map};
use crate::kernels::par;
use crate::kernels::rows::{self, Form};
use crate::program::Exec;

/// Queries that are weighed at a time, of one head.
const TILE: usize = PAGE;

/// A text's rows, and the pages that its keys and values pass through.
struct Text {
    start: usize,
    count: usize,
    table: Vec<PageId>,
}

/// Up to [`TILE`] queries of one head of one text.
#[derive(Clone, Copy)]
struct Tile<'a> {
    text: &'a Text,
    head: usize,
    /// First row, within the pass.
    first: usize,
    rows: usize,
}

/// The vectors of `texts`, none of them empty or longer than the table of positions.
pub(super) fn forward(exec: &Exec, weights: &Weights, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    let a = &weights.architecture;
    let (hidden, total) = (a.hidden, texts.iter().map(|text| text.len()).sum::<usize>());
    let mut x = Vec::with_capacity(total * hidden);
    for text in texts {
        for (position, &token) in text.iter().enumerate() {
            let row = |table: &[f32], at: usize| table[at * hidden..(at + 1) * hidden].to_vec();
            let (word, place) = (row(&weights.words, token as usize), row(&weights.positions, position));
            let sum =
                |((word, kind), place): ((f32, &f32), f32)| canonical_f32(canonical_f32(word + kind) + place);
            x.extend(word.into_iter().zip(&weights.kind).zip(place).map(sum));
        }
    }
    normalise(exec, &mut x, &weights.norm, a.epsilon);
    // Every layer writes its keys and values into the same pages.
    let layout = Layout::new(1, a.heads, a.head_dim());
    let needed = texts.iter().map(|text| text.len().div_ceil(PAGE)).sum();
    let mut pages = Pages::new(layout, needed);
    let mut start = 0;
    let texts: Vec<Text> = texts
        .iter()
        .map(|text| {
            let table = (0..text.len().div_ceil(PAGE)).filter_map(|_| pages.take()).collect();
            let one = Text { start, count: text.len(), table };
            start += text.len();
            one
        })
        .collect();
    let mut work = Work::default();
    for layer in &weights.layers {
        attention(exec, weights, layer, &texts, &mut pages, &mut x, &mut work);
        mlp(exec, weights, layer, &mut x, &mut work);
    }
    texts.iter().map(|text| a.pool(&x[text.start * hidden..(text.start + text.count) * hidden])).collect()
}

/// Buffers that layers use again.
#[derive(Default)]
struct Work {
    qkv: Vec<f32>,
    q: Vec<f32>,
    mixed: Vec<f32>,
    o: Vec<f32>,
    wide: Vec<f32>,
    h: Vec<f32>,
    y: Vec<f32>,
}

fn attention(
    exec: &Exec,
    weights: &Weights,
    layer: &Layer,
    texts: &[Text],
    pages: &mut Pages,
    x: &mut Vec<f32>,
    work: &mut Work,
) {
    let a = &weights.architecture;
    let (hidden, d) = (a.hidden, a.head_dim());
    let m = x.len() / hidden;
    apply(exec, m, x, &layer.qkv, &mut work.qkv, None);
    for text in texts {
        for position in 0..text.count {
            let row = &work.qkv[(text.start + position) * 3 * hidden..][..3 * hidden];
            let (k, v) = row[hidden..].split_at(hidden);
            pages.write(text.table[position / PAGE], 0, position % PAGE, k, v);
        }
    }
    // Queries, and after them what is mixed for them, by text, head and position: a tile is one piece.
    let tiles = tiles(texts, a.heads);
    work.q.clear();
    for tile in &tiles {
        for row in tile.first..tile.first + tile.rows {
            work.q.extend_from_slice(&work.qkv[row * 3 * hidden + tile.head * d..][..d]);
        }
    }
    work.mixed.resize(m * hidden, 0.0);
    let (pages, q) = (&*pages, &work.q);
    let padded = pages.layout().padded;
    let table = Ctx::new(exec.isa, &exec.pool).table();
    // Where each tile starts among the elements, to find those of a chunk.
    let starts: Vec<usize> = tiles
        .iter()
        .scan(0, |at, tile| {
            let start = *at;
            *at += tile.rows * d;
            Some(start)
        })
        .collect();
    let longest = texts.iter().map(|text| text.count).max().unwrap_or(0);
    par::pieces(exec, &mut work.mixed, &starts, longest.max(64), |piece, out| {
        let mut scratch = AttentionScratch::default();
        let (tile, start) = (tiles[piece], starts[piece]);
        let keys: Vec<&[f32]> = tile.text.table.iter().map(|&page| pages.keys(page, 0, tile.head)).collect();
        let values: Vec<&[f32]> =
            tile.text.table.iter().map(|&page| pages.values(page, 0, tile.head)).collect();
        let head = Head { keys: &keys, values: &values, head_dim: d, padded };
        let queries = &q[start..start + out.len()];
        let counts = vec![tile.text.count; tile.rows];
        attend((exec.isa, table), &head, queries, &counts, out, &mut scratch);
    });
    work.o.resize(m * hidden, 0.0);
    for (tile, start) in tiles.iter().zip(&starts) {
        for (i, row) in (tile.first..tile.first + tile.rows).enumerate() {
            let from = &work.mixed[start + i * d..][..d];
            work.o[row * hidden + tile.head * d..][..d].copy_from_slice(from);
        }
    }
    apply(exec, m, &work.o, &layer.output, &mut work.y, Some(x));
    normalise(exec, &mut work.y, &layer.attention_norm, a.epsilon);
    std::mem::swap(x, &mut work.y);
}

fn tiles(texts: &[Text], heads: usize) -> Vec<Tile<'_>> {
    let mut tiles = Vec::new();
    for text in texts {
        for head in 0..heads {
            for first in (0..text.count).step_by(TILE) {
                let rows = TILE.min(text.count - first);
                tiles.push(Tile { text, head, first: text.start + first, rows });
            }
        }
    }
    tiles
}

fn mlp(exec: &Exec, weights: &Weights, layer: &Layer, x: &mut Vec<f32>, work: &mut Work) {
    let a = &weights.architecture;
    let m = x.len() / a.hidden;
    apply(exec, m, x, &layer.up, &mut work.wide, None);
    work.h.resize(work.wide.len(), 0.0);
    let wide = &work.wide;
    par::chunks(exec, &mut work.h, 64, 24, |start, out| {
        map::apply(exec.isa, Map::Gelu, &wide[start..start + out.len()], &[], out);
    });
    apply(exec, m, &work.h, &layer.down, &mut work.y, Some(x));
    normalise(exec, &mut work.y, &layer.norm, a.epsilon);
    std::mem::swap(x, &mut work.y);
}

fn apply(exec: &Exec, m: usize, x: &[f32], layer: &Linear, out: &mut Vec<f32>, residual: Option<&[f32]>) {
    let end = Epilogue { residual, ..Epilogue::columns(&layer.bias) };
    layer.weight.apply(exec, m, x, out, &end);
}

/// LayerNorm of each row, in place.
fn normalise(exec: &Exec, x: &mut [f32], norm: &Norm, epsilon: f32) {
    par::chunks(exec, x, norm.scale.len(), 4, |_, x| {
        rows::norm(exec.isa, x, &norm.scale, Some(&norm.bias), epsilon, Form::Layer);
    });
}
