//! Blocks of integers that share a scale (`numeric.md` §11.1), in the most obvious form.

use super::canonical_f32;

/// Elements of a block.
pub const INT8_BLOCK: usize = 32;

/// A row in blocks of [`INT8_BLOCK`] integers, the last one perhaps shorter.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    /// Integers, -127 to 127.
    pub integers: Vec<i8>,
    /// One scale a block.
    pub scales: Vec<f32>,
}

impl Quantised {
    /// Quantises each block of `row` by itself.
    pub fn of(row: &[f32]) -> Self {
        let (mut integers, mut scales) = (Vec::with_capacity(row.len()), Vec::new());
        for block in row.chunks(INT8_BLOCK) {
            let scale = if block.iter().all(|x| x.is_finite()) {
                block.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0
            } else {
                f32::NAN
            };
            let quantise = |x: &f32| match scale > 0.0 {
                true => (x / scale).clamp(-127.0, 127.0).round_ties_even() as i8,
                false => 0,
            };
            integers.extend(block.iter().map(quantise));
            scales.push(scale);
        }
        Self { integers, scales }
    }

    /// The values that the blocks stand for.
    pub fn values(&self) -> Vec<f32> {
        let blocks = self.integers.chunks(INT8_BLOCK).zip(&self.scales);
        blocks
            .flat_map(|(block, scale)| block.iter().map(move |q| canonical_f32(scale * f32::from(*q))))
            .collect()
    }

    /// The product with a weight's row, which is cut alike.
    pub fn dot(&self, weight: &Self) -> f32 {
        let integers = self.integers.chunks(INT8_BLOCK).zip(weight.integers.chunks(INT8_BLOCK));
        let scales = self.scales.iter().zip(&weight.scales);
        let mut y = 0.0_f32;
        for ((a, w), (a_scale, w_scale)) in integers.zip(scales) {
            let sum: i32 = a.iter().zip(w).map(|(a, w)| i32::from(*a) * i32::from(*w)).sum();
            y = (sum as f32).mul_add(a_scale * w_scale, y);
        }
        canonical_f32(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_as_specified() {
        let mut row = vec![0.0; 33];
        (row[0], row[1], row[2], row[32]) = (-127.0, 2.5, 3.5, 5.0);
        let q = Quantised::of(&row);
        assert_eq!(q.scales, [1.0, 5.0 / 127.0]);
        assert_eq!((q.integers[0], q.integers[1], q.integers[2], q.integers[32]), (-127, 2, 4, 127));
        assert_eq!(q.dot(&q), 127.0 * 127.0 + 4.0 + 16.0 + (127.0 * 127.0) * ((5.0 / 127.0) * (5.0 / 127.0)));

        // Scales that vanish, or lose most of their bits, overflow nothing.
        let tiny = f32::from_bits(1);
        assert_eq!(Quantised::of(&[tiny, 0.0]), Quantised { integers: vec![0, 0], scales: vec![0.0] });
        let few = Quantised::of(&[f32::from_bits(190), f32::from_bits(1)]);
        assert_eq!(few, Quantised { integers: vec![127, 1], scales: vec![tiny] });

        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let q = Quantised::of(&[1.0, bad]);
            assert!(q.integers == [0, 0] && q.scales[0].is_nan());
            assert_eq!(q.dot(&Quantised::of(&[1.0, 1.0])).to_bits(), 0x7fc0_0000);
        }
    }

    #[test]
    fn q8_0_comes_out_as_it_went_in() {
        // Every scale that a float16 can be, and the largest integer in the block.
        for bits in (0..0x7c00_u16).step_by(7) {
            let d = half(bits);
            let integers: Vec<i8> =
                (0..32).map(|i| if i == 9 { -127 } else { (i * 37 % 251 - 125) as i8 }).collect();
            let values: Vec<f32> = integers.iter().map(|q| d * f32::from(*q)).collect();
            let q = Quantised::of(&values);
            assert!(bits == 0 || (q.integers == integers && q.scales == [d]), "{bits:04x}");
            assert_eq!(q.values(), values);
        }
    }

    fn half(bits: u16) -> f32 {
        let (exponent, fraction) = (i32::from(bits >> 10), f32::from(bits & 0x3ff) / 1024.0);
        if exponent == 0 { fraction * 2_f32.powi(-14) } else { (1.0 + fraction) * 2_f32.powi(exponent - 15) }
    }
}
