//! Constants in float64, with broadcasting: what folding computes with.

use hallmark_receipt::{DType, Tensor};

use crate::ops::cast::cast;
use crate::ops::index::{View, broadcast, broadcast_strides};

/// A row-major constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    /// One number.
    pub fn scalar(value: f64) -> Self {
        Self { shape: Vec::new(), values: vec![value] }
    }

    /// A float tensor; `None` for any other.
    pub fn of(tensor: &Tensor) -> Option<Self> {
        let shape = tensor.shape().to_vec();
        let values = match tensor.dtype() {
            DType::F64 => tensor.as_slice::<f64>()?.to_vec(),
            DType::F32 => tensor.as_slice::<f32>()?.iter().map(|&x| x.into()).collect(),
            DType::F16 | DType::BF16 => {
                cast(tensor, DType::F32).ok()?.as_slice::<f32>()?.iter().map(|&x| x.into()).collect()
            }
            _ => return None,
        };
        Some(Self { shape, values })
    }

    /// `f` of each pair of elements, broadcast; `None` where the shapes do not.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Option<Self> {
        let shape = broadcast(&[&self.shape, &other.shape]).ok()?;
        let stretched = |array: &Self| {
            let strides = broadcast_strides(&array.shape, &shape).ok()?;
            Some(View { offset: 0, shape: shape.clone(), strides }.copy(&array.values))
        };
        let values = stretched(self)?.into_iter().zip(stretched(other)?).map(|(a, b)| f(a, b)).collect();
        Some(Self { shape, values })
    }

    /// `f` of each element.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), values: self.values.iter().map(|&x| f(x)).collect() }
    }

    /// The number that all elements are.
    pub fn uniform(&self) -> Option<f64> {
        let first = *self.values.first()?;
        self.values.iter().all(|x| x.to_bits() == first.to_bits()).then_some(first)
    }

    /// The number of an array of one element.
    pub fn single(&self) -> Option<f64> {
        if let [value] = self.values.as_slice() { Some(*value) } else { None }
    }

    /// One number for each of `n` slices of `axis` of a tensor of `rank` axes; `None` where they differ along another axis.
    pub fn along(&self, axis: usize, rank: usize, n: usize) -> Option<Vec<f64>> {
        if let Some(value) = self.single() {
            return (self.shape.len() <= rank).then(|| vec![value; n]);
        }
        let missing = rank.checked_sub(self.shape.len())?;
        let alone = |i: usize, size: usize| size == if i + missing == axis { n } else { 1 };
        self.shape.iter().enumerate().all(|(i, &size)| alone(i, size)).then(|| self.values.clone())
    }

    /// With so many zeros before and behind along `axis` of `rank` axes.
    pub fn between_zeros(&self, axis: usize, rank: usize, before: usize, behind: usize) -> Option<Self> {
        let mut shape = self.shape.clone();
        let inner: usize = shape.get(axis + 1..)?.iter().product();
        let slot = shape.get_mut(axis).filter(|_| self.shape.len() == rank)?;
        let run = slot.checked_mul(inner)?;
        *slot += before + behind;
        let mut values = Vec::new();
        for row in self.values.chunks(run.max(1)) {
            values.extend(std::iter::repeat_n(0.0, before * inner));
            values.extend(row);
            values.extend(std::iter::repeat_n(0.0, behind * inner));
        }
        Some(Self { shape, values })
    }

    /// The greatest magnitude of a finite element; 0 where there is none.
    pub fn most(&self) -> f64 {
        self.values.iter().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()))
    }
}
