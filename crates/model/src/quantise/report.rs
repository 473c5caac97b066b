//! How far a quantised model's outputs are from the float model's.

use hallmark_receipt::{DType, Tensor};

use crate::ops::cast::cast;

/// Differences of one output, over all samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Numbers compared.
    pub count: u64,
    /// The greatest absolute difference.
    pub max: f64,
    /// The sum of absolute differences.
    pub sum: f64,
    /// The sum of squared differences.
    pub squares: f64,
    /// Of the float output, the sum of squares.
    pub float: f64,
    /// Of the quantised output, the sum of squares.
    pub quantised: f64,
    /// The sum of products of both.
    pub products: f64,
}

impl Difference {
    /// Takes one sample's outputs in. A shape or type that differs counts as infinitely far.
    pub fn add(&mut self, float: &Tensor, quantised: &Tensor) {
        let numbers = |tensor: &Tensor| {
            let wide = cast(tensor, DType::F64).ok()?;
            wide.as_slice::<f64>().map(<[f64]>::to_vec)
        };
        let same = float.shape() == quantised.shape() && float.dtype() == quantised.dtype();
        let (Some(a), Some(b), true) = (numbers(float), numbers(quantised), same) else {
            self.squares = f64::INFINITY;
            return;
        };
        for (a, b) in a.into_iter().zip(b) {
            let d = (a - b).abs();
            self.count += 1;
            self.max = self.max.max(d);
            self.sum += d;
            self.squares += d * d;
            self.float += a * a;
            self.quantised += b * b;
            self.products += a * b;
        }
    }

    /// The mean absolute difference.
    pub fn mean(&self) -> f64 {
        self.sum / (self.count.max(1) as f64)
    }

    /// The root of the mean square of the difference, relative to that of the float output.
    pub fn rms_relative(&self) -> f64 {
        if self.squares == 0.0 { 0.0 } else { (self.squares / self.float.max(f64::MIN_POSITIVE)).sqrt() }
    }

    /// The cosine of the angle between both, as vectors over all samples.
    pub fn cosine(&self) -> f64 {
        let norms = (self.float * self.quantised).sqrt();
        if norms > 0.0 { self.products / norms } else { f64::from(u8::from(self.squares == 0.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let mut difference = Difference::default();
        difference.add(&Tensor::vector(vec![3.0_f32, 4.0]), &Tensor::vector(vec![3.0_f32, 3.0]));
        assert_eq!((difference.max, difference.mean()), (1.0, 0.5));
        assert!((difference.rms_relative() - 0.2).abs() < 1e-12);
        assert!((difference.cosine() - 21.0 / (25.0_f64 * 18.0).sqrt()).abs() < 1e-12);
        difference.add(&Tensor::vector(vec![1.0_f32]), &Tensor::scalar(1.0_f32));
        assert_eq!(difference.rms_relative(), f64::INFINITY);
    }
}
