//! Quantised operands in the order in which tiles read them.

use std::sync::{Mutex, PoisonError};

use hallmark_model::numeric::canonical_f32;
use hallmark_model::numeric::int8::INT8_BLOCK;

use super::super::gemm::Ctx;
use super::super::simd::per_isa;
use super::Lines;
use super::tile::{GROUP, GROUPS, Kernels, kernels};
use crate::isa::Isa;

/// Elements that threads share the quantising of: below it, waking them costs more.
const WORTH: usize = 1 << 15;

/// A constant right operand of `k` x `n`, quantised along k and packed for one instruction set: panels of so many columns as a vector has
/// lanes. A panel has for each block the columns' scales, then groups of four k, four integers of each column side by side. What is beyond the
/// matrix is 0.
#[derive(Clone, Debug)]
pub struct PackedInt8 {
    isa: Isa,
    k: usize,
    n: usize,
    panels: Lines,
}

impl PackedInt8 {
    /// Quantises and packs a matrix whose columns lie one after the other, `k` elements each.
    pub fn new(isa: Isa, columns: &[f32], k: usize) -> Self {
        let isa = isa.or_portable();
        let kernels = kernels(isa);
        let (n, blocks) = (columns.len() / k.max(1), k.div_ceil(INT8_BLOCK));
        let panel = kernels.panel(blocks);
        let mut panels = Lines::zeroed(n.div_ceil(kernels.lanes) * panel);
        let (mut scales, mut integers) = (vec![0.0; blocks], vec![0_i8; blocks * INT8_BLOCK]);
        for (column, values) in columns.chunks_exact(k.max(1)).enumerate() {
            quantise(isa, values, &mut integers, &mut scales);
            let lane = column % kernels.lanes;
            let panel = &mut panels.as_mut_slice()[column / kernels.lanes * panel..][..panel];
            let blocks = panel.chunks_exact_mut(kernels.block());
            for ((block, scale), integers) in blocks.zip(&scales).zip(integers.chunks_exact(INT8_BLOCK)) {
                block[lane] = *scale;
                let groups = block[kernels.lanes..].chunks_exact_mut(kernels.lanes);
                for (group, integers) in groups.zip(integers.chunks_exact(GROUP)) {
                    let bytes = std::array::from_fn(|i| integers[i].cast_unsigned() ^ kernels.flip);
                    group[lane] = f32::from_bits(u32::from_ne_bytes(bytes));
                }
            }
        }
        Self { isa, k, n, panels }
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.k, self.n)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    pub(super) fn kernels(&self) -> &'static Kernels {
        kernels(self.isa)
    }

    pub(super) fn at(&self) -> *const f32 {
        self.panels.ptr()
    }

    /// The values that column `column` stands for, to `out` of `k` elements; nothing where there is no such column.
    pub fn column(&self, column: usize, out: &mut [f32]) {
        let kernels = self.kernels();
        if column >= self.n {
            return;
        }
        let (panel, lane) = (kernels.panel(self.k.div_ceil(INT8_BLOCK)), column % kernels.lanes);
        let panel = &self.panels.as_slice()[column / kernels.lanes * panel..][..panel];
        let blocks = panel.chunks_exact(kernels.block());
        for (out, block) in out.chunks_mut(INT8_BLOCK).zip(blocks) {
            for (i, out) in out.iter_mut().enumerate() {
                let group = block[kernels.lanes * (1 + i / GROUP) + lane].to_bits().to_ne_bytes();
                let integer = (group[i % GROUP] ^ kernels.flip).cast_signed();
                *out = canonical_f32(block[lane] * f32::from(integer));
            }
        }
    }
}

/// Rows of activations, quantised.
#[derive(Debug)]
pub(super) struct Rows {
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// Integers, row by row, each filled up to a whole block with 0.
    pub(super) integers: Vec<i8>,
    /// One scale a block, row by row.
    pub(super) scales: Vec<f32>,
    /// What a block's sum starts from: it takes back what flipped weights add; 0 where none are flipped.
    pub(super) starts: Vec<i32>,
}

impl Rows {
    /// Quantises `x`, rows of `k` elements, for weights that are combined with `flip`.
    pub(super) fn of(cx: &Ctx<'_>, x: &[f32], k: usize, flip: u8) -> Self {
        let (m, blocks, isa) = (x.len() / k.max(1), k.div_ceil(INT8_BLOCK), cx.isa());
        let (mut integers, mut scales) = (vec![0; m * blocks * INT8_BLOCK], vec![0.0; m * blocks]);
        let mut starts = vec![0; m * blocks];
        // Threads take rows where there is work for several.
        let parts = if x.len() < WORTH { 1 } else { m.min(4 * cx.pool().threads()) };
        let rows = m.div_ceil(parts.max(1)).max(1);
        let at_once = (rows * blocks).max(1);
        let parts: Vec<_> = x
            .chunks(rows * k.max(1))
            .zip(integers.chunks_mut(at_once * INT8_BLOCK))
            .zip(scales.chunks_mut(at_once).zip(starts.chunks_mut(at_once)))
            // Each part is locked once, by the thread that takes it.
            .map(Mutex::new)
            .collect();
        cx.pool().run(parts.len(), |part| {
            let Some(part) = parts.get(part) else { return };
            let ((x, integers), (scales, starts)) = &mut *part.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = x.chunks_exact(k.max(1)).zip(integers.chunks_exact_mut((blocks * INT8_BLOCK).max(1)));
            for ((x, integers), scales) in rows.zip(scales.chunks_exact_mut(blocks.max(1))) {
                quantise(isa, x, integers, scales);
            }
            if flip != 0 {
                total(isa, integers, starts);
            }
        });
        drop(parts);
        Self { blocks, integers, scales, starts }
    }
}

/// Each block of `x` as integers, the last one filled up with 0, and its scale.
#[inline(always)]
fn quantise_body(x: &[f32], integers: &mut [i8], scales: &mut [f32]) {
    let whole = x.chunks_exact(INT8_BLOCK);
    let mut last = [0.0; INT8_BLOCK];
    last[..whole.remainder().len()].copy_from_slice(whole.remainder());
    let blocks = whole.map(|block| block.try_into().unwrap_or(&[0.0; INT8_BLOCK])).chain([&last]);
    for ((x, q), scale) in blocks.zip(integers.chunks_exact_mut(INT8_BLOCK)).zip(scales) {
        *scale = quantise_block(x, q);
    }
}

/// The rule of `numeric.md` §11.1 in a form without branches.
#[inline(always)]
fn quantise_block(x: &[f32; INT8_BLOCK], q: &mut [i8]) -> f32 {
    /// Adding it leaves the nearest integer, ties to even, in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Magnitudes are ordered as their bits are; above those of the finite ones are infinity and the NaNs.
    let most = x.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
    if most >= f32::INFINITY.to_bits() {
        q.fill(0);
        return f32::NAN;
    }
    let scale = f32::from_bits(most) / 127.0;
    // Where the scale is 0, every x is so small that this gives 0.
    let divisor = if scale > 0.0 { scale } else { 1.0 };
    for (q, x) in q.iter_mut().zip(x) {
        let x = x / divisor;
        let x = if x > 127.0 { 127.0 } else { x };
        let x = if x < -127.0 { -127.0 } else { x };
        *q = (x + ROUND).to_bits() as i8;
    }
    scale
}

per_isa! {
    /// Each block of `x` as integers, the last one filled up with 0, and its scale.
    fn quantise = quantise_body(x: &[f32], integers: &mut [i8], scales: &mut [f32])
}

/// -128 times the sum of each block.
#[inline(always)]
fn total_body(integers: &[i8], totals: &mut [i32]) {
    for (total, block) in totals.iter_mut().zip(integers.chunks_exact(INT8_BLOCK)) {
        *total = -128 * block.iter().map(|q| i32::from(*q)).sum::<i32>();
    }
}

per_isa! {
    /// -128 times the sum of each block.
    fn total = total_body(integers: &[i8], totals: &mut [i32])
}

const _: () = assert!(GROUP * GROUPS == INT8_BLOCK);
