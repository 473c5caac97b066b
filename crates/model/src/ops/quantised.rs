//! The integer operators of the domain `ai.hallmark` (`quantised.md` §2): exact, with one rounding rule.

use hallmark_receipt::{DType, Data, Tensor};

use super::dispatch::{dtype_attr, like, one};
use super::index::{axis, split, strides};
use super::infer::info;
use super::{Domain, EvalCx, InferCx, OpDef, OpError};
use crate::graph::{Attrs, Dim, TypeInfo};

/// The family's table.
pub const OPS: &[OpDef] = &[
    row("Requantize", &["axis", "bits", "high", "low", "shift", "to"], infer_requantize, requantize),
    row("Table", &["table", "to"], infer_table, table),
    row("IntegerSoftmax", &["axis", "table"], infer_softmax, softmax),
    row("IntegerNormalize", &["axis", "center", "epsilon", "gain", "shift"], infer_normalize, normalize),
];

const fn row(
    name: &'static str,
    attrs: &'static [&'static str],
    infer: super::dispatch::Infer,
    eval: super::dispatch::Eval,
) -> OpDef {
    OpDef { domain: Domain::Hallmark, name, versions: &[1], attrs, infer, eval }
}

/// The greatest multiplier of [`Requantize`].
pub const MAX_MULTIPLIER: i32 = 1 << 15;
/// The greatest entry of IntegerSoftmax's table.
pub const MAX_EXPONENTIAL: i32 = 4095;
/// The greatest gain of IntegerNormalize.
pub const MAX_GAIN: i64 = (1 << 12) - 1;
/// What the squares of one row of IntegerNormalize, and its epsilon, stay below: the bound of every integer (§4).
pub const MAX_SQUARES: i64 = (1 << 30) - (1 << 24);

/// The parameters of Requantize (§2.1), checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requantize {
    /// The axis that multipliers run along, where there are several; may be negative.
    pub axis: i64,
    /// Bits that the product is shifted down by: 1 to 30.
    pub shift: u32,
    /// The promise of provers: before the clamp a result lies in [-2^bits, 2^bits). 1 to 24; it changes nothing.
    pub bits: u32,
    /// The least result.
    pub low: i32,
    /// The greatest result.
    pub high: i32,
    /// The result's type: int8, uint8 or int16.
    pub to: DType,
}

impl Requantize {
    /// The parameters that a node's attributes state.
    pub fn of(attrs: &Attrs) -> Result<Self, OpError> {
        let (shift, bits) = (bounded(attrs, "shift", 1, 30)?, bounded(attrs, "bits", 1, 24)?);
        let to = dtype_attr(attrs, "to", 0)?;
        let (least, greatest) = match to {
            DType::I8 => (-128, 127),
            DType::U8 => (0, 255),
            DType::I16 => (-32_768, 32_767),
            _ => return Err(OpError::Attribute { name: "to", why: "must be int8, uint8 or int16" }),
        };
        let (low, high) = (bounded(attrs, "low", least, 0)?, bounded(attrs, "high", 0, greatest)?);
        let small = |value: i64| i32::try_from(value).unwrap_or(0);
        let [shift, bits] = [shift, bits].map(|value| small(value).unsigned_abs());
        Ok(Self { axis: attrs.int("axis", 1), shift, bits, low: small(low), high: small(high), to })
    }

    /// `clamp((x * multiplier + 2^(shift-1)) >> shift, low, high)`, computed in 64 bits.
    #[inline(always)]
    pub fn apply(&self, x: i32, multiplier: i32) -> i32 {
        let product = i64::from(x) * i64::from(multiplier);
        let rounded = (product + (1 << (self.shift - 1))) >> self.shift;
        // Within `low` and `high`, which are 32 bits.
        rounded.clamp(self.low.into(), self.high.into()) as i32
    }
}

/// The integer attribute `name`, which must be there and lie in `least..=greatest`.
fn bounded(attrs: &Attrs, name: &'static str, least: i64, greatest: i64) -> Result<i64, OpError> {
    let value = attrs.opt_int(name).ok_or(OpError::Attribute { name, why: "is missing" })?;
    if (least..=greatest).contains(&value) {
        Ok(value)
    } else {
        Err(OpError::Attribute { name, why: "out of range" })
    }
}

/// Checks that `values` lie in `least..=greatest`.
fn within(values: &[i32], least: i32, greatest: i32, what: &'static str) -> Result<(), OpError> {
    match values.iter().find(|value| !(least..=greatest).contains(*value)) {
        Some(&got) => Err(OpError::Value { what, got: got.into() }),
        None => Ok(()),
    }
}

fn infer_requantize(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let parameters = Requantize::of(cx.attrs())?;
    if let Some(multiplier) = cx.constant(1) {
        multipliers(multiplier)?;
        if let Some(shape) = cx.input(0)?.shape.as_deref()
            && multiplier.len() != 1
        {
            let at = axis(parameters.axis, shape.len())?;
            if matches!(shape.get(at), Some(Dim::Known(n)) if *n != multiplier.len()) {
                return Err(along(multiplier.shape()));
            }
        }
    }
    Ok(vec![info(Some(parameters.to), cx.input(0)?.shape.clone())])
}

fn along(got: &[usize]) -> OpError {
    OpError::Shape { what: "one multiplier, or one for each slice of the axis", got: got.to_vec() }
}

/// The multipliers: a scalar or a vector, all in 1..=[`MAX_MULTIPLIER`].
fn multipliers(tensor: &Tensor) -> Result<&[i32], OpError> {
    let values = tensor.as_slice::<i32>().ok_or(OpError::InputType { index: 1, got: tensor.dtype() })?;
    if tensor.shape().len() > 1 || values.is_empty() {
        return Err(along(tensor.shape()));
    }
    within(values, 1, MAX_MULTIPLIER, "multipliers from 1 to 32768")?;
    Ok(values)
}

/// §2.1.
fn requantize(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let parameters = Requantize::of(cx.attrs())?;
    let (x, multipliers) = (cx.slice::<i32>(0)?, multipliers(cx.input(1)?)?);
    let shape = cx.input(0)?.shape();
    cx.charge(shape, parameters.to)?;
    let inner = if multipliers.len() == 1 {
        1
    } else {
        let at = axis(parameters.axis, shape.len())?;
        if shape.get(at) != Some(&multipliers.len()) {
            return Err(along(cx.input(1)?.shape()));
        }
        strides(shape).get(at).map_or(1, |step| step.unsigned_abs()).max(1)
    };
    let of = |i: usize| multipliers.get(i / inner % multipliers.len()).copied().unwrap_or(1);
    let values = x.iter().enumerate().map(|(i, &x)| parameters.apply(x, of(i)));
    // `apply` keeps within the type.
    like(
        cx,
        match parameters.to {
            DType::U8 => Data::U8(values.map(|v| v as u8).collect()),
            DType::I8 => Data::I8(values.map(|v| v as i8).collect()),
            _ => Data::I16(values.map(|v| v as i16).collect()),
        },
    )
}

/// The parameters of Table (§2.2), checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// The entries.
    pub entries: &'a [i64; 256],
    /// The result's type, which holds every entry.
    pub to: DType,
}

impl<'a> Table<'a> {
    /// The parameters that a node's attributes state.
    pub fn of(attrs: &'a Attrs) -> Result<Self, OpError> {
        let to = dtype_attr(attrs, "to", 0)?;
        let (least, greatest) = match to {
            DType::I8 => (-128, 127),
            DType::U8 => (0, 255),
            DType::I16 => (-32_768, 32_767),
            DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            _ => return Err(OpError::Attribute { name: "to", why: "must be int8, uint8, int16 or int32" }),
        };
        Ok(Self { entries: entries(attrs, least, greatest)?, to })
    }
}

/// The attribute `table`: 256 entries within bounds.
fn entries(attrs: &Attrs, least: i64, greatest: i64) -> Result<&[i64; 256], OpError> {
    let wrong = |why| OpError::Attribute { name: "table", why };
    let values = attrs.ints("table").ok_or(wrong("is missing"))?;
    let values: &[i64; 256] = values.try_into().map_err(|_| wrong("must have 256 entries"))?;
    if values.iter().all(|v| (least..=greatest).contains(v)) {
        Ok(values)
    } else {
        Err(wrong("has an entry out of range"))
    }
}

fn infer_table(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    Ok(vec![info(Some(Table::of(cx.attrs())?.to), cx.input(0)?.shape.clone())])
}

/// §2.2: `table[x - min(type of x)]`.
fn table(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let table = Table::of(cx.attrs())?;
    cx.charge(cx.input(0)?.shape(), table.to)?;
    let values: Vec<i64> = match cx.input(0)?.data() {
        Data::I8(x) => x.iter().map(|&x| table.entries[place(x)]).collect(),
        Data::U8(x) => x.iter().map(|&x| table.entries[usize::from(x)]).collect(),
        other => return Err(OpError::InputType { index: 0, got: other.dtype() }),
    };
    // Every entry is within the type.
    let values = values.into_iter();
    like(
        cx,
        match table.to {
            DType::U8 => Data::U8(values.map(|v| v as u8).collect()),
            DType::I8 => Data::I8(values.map(|v| v as i8).collect()),
            DType::I16 => Data::I16(values.map(|v| v as i16).collect()),
            _ => Data::I32(values.map(|v| v as i32).collect()),
        },
    )
}

/// Where the entry of `x` stands in a table of int8.
fn place(x: i8) -> usize {
    usize::from(x.cast_unsigned() ^ 0x80)
}

fn infer_softmax(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    exponentials(cx.attrs())?;
    Ok(vec![info(Some(DType::U8), cx.input(0)?.shape.clone())])
}

/// The table of IntegerSoftmax (§2.3): 256 entries up to [`MAX_EXPONENTIAL`], the first one at least 1.
pub fn exponentials(attrs: &Attrs) -> Result<&[i64; 256], OpError> {
    let values = entries(attrs, 0, MAX_EXPONENTIAL.into())?;
    if values[0] < 1 {
        return Err(OpError::Attribute { name: "table", why: "must begin with at least 1" });
    }
    Ok(values)
}

/// Applies `row` to each vector along `at` of row-major `x`, gathered and put back.
fn along_axis<T: Copy, U: Copy + Default>(
    x: &[T],
    shape: &[usize],
    at: usize,
    mut row: impl FnMut(&[T], &mut [U]),
) -> Vec<U> {
    let (outer, n, inner) = split(shape, at, at + 1);
    let mut y = vec![U::default(); x.len()];
    let (mut from, mut to) = (Vec::with_capacity(n), vec![U::default(); n]);
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let start = o * n * inner + i;
        from.clear();
        from.extend(x.iter().skip(start).step_by(inner.max(1)).take(n));
        row(&from, &mut to);
        for (y, &value) in y.iter_mut().skip(start).step_by(inner.max(1)).zip(&to) {
            *y = value;
        }
    }
    y
}

/// §2.3.
fn softmax(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (x, table) = (cx.slice::<i8>(0)?, exponentials(cx.attrs())?);
    let shape = cx.input(0)?.shape();
    let at = axis(cx.attrs().int("axis", -1), shape.len())?;
    cx.charge(shape, DType::U8)?;
    one(shape.to_vec(), Data::U8(along_axis(x, shape, at, |x, y| softmax_row(x, table, y))))
}

/// `floor((510 e + S) / (2 S))` with `e = table[max - x]` and S their sum.
pub fn softmax_row(x: &[i8], table: &[i64; 256], y: &mut [u8]) {
    let most = x.iter().copied().max().unwrap_or(0);
    let e = |x: i8| table[usize::from(most.abs_diff(x))];
    let sum: i64 = x.iter().map(|&x| e(x)).sum();
    for (y, &x) in y.iter_mut().zip(x) {
        // At most 255, as no summand is above the sum; the sum is above 0, as the maximum is among the elements.
        *y = ((510 * e(x) + sum) / (2 * sum).max(1)) as u8;
    }
}

/// The parameters of IntegerNormalize (§2.4), checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalize {
    /// The axis; may be negative.
    pub axis: i64,
    /// Whether the mean is taken off.
    pub center: bool,
    /// Bits that differences are shifted down by: 0 to 24.
    pub shift: u32,
    /// What is added to the sum of squares.
    pub epsilon: i64,
    /// What 1 becomes: 1 to [`MAX_GAIN`].
    pub gain: i64,
}

impl Normalize {
    /// The parameters that a node's attributes state.
    pub fn of(attrs: &Attrs) -> Result<Self, OpError> {
        Ok(Self {
            axis: attrs.int("axis", -1),
            center: bounded(attrs, "center", 0, 1)? == 1,
            shift: bounded(attrs, "shift", 0, 24)?.unsigned_abs() as u32,
            epsilon: bounded(attrs, "epsilon", 1, MAX_SQUARES)?,
            gain: bounded(attrs, "gain", 1, MAX_GAIN)?,
        })
    }

    /// The greatest magnitude of a shifted difference of rows of `n` elements in -128..=127; `None` where its squares
    /// could reach [`MAX_SQUARES`].
    pub fn most(&self, n: usize) -> Option<i64> {
        let n = i64::try_from(n).ok().filter(|n| *n < MAX_SQUARES)?;
        let most = self.down(if self.center { 255 * (n - 1).max(0) } else { 128 * n });
        let squares = most.checked_mul(most)?.checked_mul(n)?.checked_add(self.epsilon)?;
        (squares < MAX_SQUARES).then_some(most)
    }

    fn down(&self, c: i64) -> i64 {
        if self.shift == 0 { c } else { (c + (1 << (self.shift - 1))) >> self.shift }
    }

    /// One row: `floor((2 gain d + S) / (2 S))`, S the root of the squares' sum.
    pub fn row(&self, x: &[i8], y: &mut [i16]) {
        let n = i64::try_from(x.len()).unwrap_or(i64::MAX);
        let sum: i64 = if self.center { x.iter().map(|&x| i64::from(x)).sum() } else { 0 };
        let d = |x: i8| self.down(n * i64::from(x) - sum);
        let squares: i64 = x.iter().map(|&x| d(x) * d(x)).sum::<i64>() + self.epsilon;
        let root = squares.isqrt();
        for (y, &x) in y.iter_mut().zip(x) {
            // No difference is above the root of the squares' sum but by less than 1, so it fits.
            *y = (2 * self.gain * d(x) + root).div_euclid(2 * root.max(1)) as i16;
        }
    }
}

fn too_long(got: usize) -> OpError {
    let what = "rows whose squares stay below 2^30 (a greater shift does that)";
    OpError::Value { what, got: i64::try_from(got).unwrap_or(i64::MAX) }
}

fn infer_normalize(cx: &InferCx<'_>) -> Result<Vec<TypeInfo>, OpError> {
    let parameters = Normalize::of(cx.attrs())?;
    if let Some(shape) = cx.input(0)?.shape.as_deref() {
        let at = axis(parameters.axis, shape.len())?;
        if let Some(Dim::Known(n)) = shape.get(at)
            && parameters.most(*n).is_none()
        {
            return Err(too_long(*n));
        }
    }
    Ok(vec![info(Some(DType::I16), cx.input(0)?.shape.clone())])
}

/// §2.4.
fn normalize(cx: &EvalCx<'_>) -> Result<Vec<Tensor>, OpError> {
    let parameters = Normalize::of(cx.attrs())?;
    let (x, shape) = (cx.slice::<i8>(0)?, cx.input(0)?.shape());
    let at = axis(parameters.axis, shape.len())?;
    let n = shape.get(at).copied().unwrap_or(0);
    parameters.most(n).ok_or_else(|| too_long(n))?;
    cx.charge(shape, DType::I16)?;
    one(shape.to_vec(), Data::I16(along_axis(x, shape, at, |x, y| parameters.row(x, y))))
}

#[cfg(test)]
mod tests;
