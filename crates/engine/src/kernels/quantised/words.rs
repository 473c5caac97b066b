//! Operands of products in the order in which tiles read them: neighbours along k side by side in words of 32 bits, two int16 or four bytes.
//! What fills the last word up meets weights of 0, so its values do not matter.

use crate::kernels::simd::per_isa;

/// Words of a vector, and columns of a panel.
pub(super) const LANES: usize = 16;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Two int16, of either operand.
    Pairs,
    /// Four activations as unsigned bytes (int8 plus 128), or four weights of int8.
    Quads,
}

impl Form {
    /// Elements of a word.
    pub(super) fn elements(self) -> usize {
        match self {
            Self::Pairs => 2,
            Self::Quads => 4,
        }
    }

    /// Words of `k` elements.
    pub(super) fn words(self, k: usize) -> usize {
        k.div_ceil(self.elements())
    }

    /// The word of up to as many values as it has elements, each within int16 or int8.
    pub(super) fn word(self, values: impl Iterator<Item = i16>) -> i32 {
        let bits = 32 / self.elements();
        let place = |(i, value): (usize, i16)| (i32::from(value) & ((1 << bits) - 1)) << (i * bits);
        values.enumerate().map(place).fold(0, |word, part| word | part)
    }

    /// The word of activations that are 0, where bytes are combined with `flip`.
    pub(super) fn zero(self, flip: u8) -> i32 {
        match self {
            Self::Pairs => 0,
            Self::Quads => i32::from_ne_bytes([flip; 4]),
        }
    }
}

/// Rows of words.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    /// Words of a row.
    pub(super) words: usize,
    pub(super) data: Vec<i32>,
}

impl Rows {
    /// So many rows of `k` elements, all 0.
    pub(super) fn zeroed(form: Form, rows: usize, k: usize) -> Self {
        let words = form.words(k);
        Self { words, data: vec![0; rows * words] }
    }

    /// Rows of weights.
    pub(super) fn of(form: Form, rows: usize, k: usize, weight: impl Fn(usize, usize) -> i16) -> Self {
        let (mut laid, each) = (Self::zeroed(form, rows, k), form.elements());
        for (i, row) in laid.data.chunks_mut(form.words(k).max(1)).enumerate() {
            for (g, word) in row.iter_mut().enumerate() {
                *word = form.word((g * each..k.min((g + 1) * each)).map(|p| weight(i, p)));
            }
        }
        laid
    }

    /// 128 times the sum of each row of signed bytes, modulo 2^32.
    pub(super) fn excess(&self) -> impl Iterator<Item = i32> + '_ {
        self.data
            .chunks(self.words.max(1))
            .map(|row| row.iter().fold(0_i32, |all, word| all.wrapping_add(sum(*word) << 7)))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.data.len() / self.words.max(1)
    }
}

/// One word of each column of a panel: a cache line, so that no load reads two.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i32; LANES]);

/// Columns of words, [`LANES`] side by side: panels of one line a word, one after the other, the last one filled up with 0.
#[derive(Clone, Debug)]
pub(super) struct Panels {
    /// Words of a column.
    pub(super) words: usize,
    pub(super) columns: usize,
    pub(super) lines: Vec<Line>,
}

impl Panels {
    /// So many columns of `words` words, all 0.
    pub(super) fn zeroed(columns: usize, words: usize) -> Self {
        Self { words, columns, lines: vec![Line([0; LANES]); columns.div_ceil(LANES) * words] }
    }

    /// Columns of weights.
    pub(super) fn of(form: Form, columns: usize, k: usize, weight: impl Fn(usize, usize) -> i16) -> Self {
        let each = form.elements();
        let mut panels = Self::zeroed(columns, form.words(k));
        for j in 0..columns {
            let panel = &mut panels.lines[j / LANES * panels.words..][..panels.words];
            for (g, line) in panel.iter_mut().enumerate() {
                line.0[j % LANES] = form.word((g * each..k.min((g + 1) * each)).map(|p| weight(p, j)));
            }
        }
        panels
    }

    /// The same of each column.
    pub(super) fn excess(&self) -> Vec<i32> {
        let mut sums = vec![0_i32; self.lines.len() / self.words.max(1) * LANES];
        for (sums, panel) in sums.chunks_mut(LANES).zip(self.lines.chunks(self.words.max(1))) {
            for line in panel {
                sums.iter_mut()
                    .zip(line.0)
                    .for_each(|(total, word)| *total = total.wrapping_add(sum(word) << 7));
            }
        }
        sums.truncate(self.columns);
        sums
    }
}

/// The sum of a word's signed bytes.
fn sum(word: i32) -> i32 {
    word.to_ne_bytes().map(|byte| i32::from(byte.cast_signed())).iter().sum()
}

#[inline(always)]
fn quad(bytes: [u8; 4], flip: u8) -> i32 {
    i32::from_le_bytes(bytes) ^ i32::from_ne_bytes([flip; 4])
}

/// Bytes of int8 are 128 too great after the flip.
#[inline(always)]
fn pair(bytes: [u8; 2], flip: u8) -> i32 {
    let [low, high] = bytes.map(|byte| i32::from(byte ^ flip) - i32::from(flip));
    (low & 0xffff) | (high << 16)
}

#[inline(always)]
fn lay_row_body(form: Form, x: &[u8], flip: u8, to: &mut [i32]) {
    match form {
        Form::Quads => {
            let (whole, rest) = x.as_chunks::<4>();
            to.iter_mut().zip(whole).for_each(|(to, x)| *to = quad(*x, flip));
            if let ([_, ..], Some(to)) = (rest, to.last_mut()) {
                *to = quad(std::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)), flip);
            }
        }
        Form::Pairs => {
            let (whole, rest) = x.as_chunks::<2>();
            to.iter_mut().zip(whole).for_each(|(to, x)| *to = pair(*x, flip));
            if let ([x], Some(to)) = (rest, to.last_mut()) {
                *to = pair([*x, 0], flip);
            }
        }
    }
}

per_isa! {
    /// A row of activations, whose bytes are combined with `flip`: 0x80 for int8, 0 for uint8.
    fn lay_row = lay_row_body(form: Form, x: &[u8], flip: u8, to: &mut [i32])
}

#[inline(always)]
fn interleave_body(form: Form, rows: &[&[u8]; 4], flip: u8, to: &mut [i32]) {
    let [a, b, c, d] = rows;
    match form {
        Form::Quads => {
            for ((to, (a, b)), (c, d)) in to.iter_mut().zip(a.iter().zip(*b)).zip(c.iter().zip(*d)) {
                *to = quad([*a, *b, *c, *d], flip);
            }
        }
        Form::Pairs => {
            to.iter_mut().zip(a.iter().zip(*b)).for_each(|(to, (a, b))| *to = pair([*a, *b], flip));
        }
    }
}

per_isa! {
    /// Words that hold an element of each row (of the first two, where a word has two); `flip` as for [`lay_row`].
    fn interleave = interleave_body(form: Form, rows: &[&[u8]; 4], flip: u8, to: &mut [i32])
}
