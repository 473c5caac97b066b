//! One IEEE float32 fused multiply-add out of float64 operations, for machines without the instruction (`numeric.md` §3).

/// Whether every processor of the target has fused multiply-adds, so that `mul_add` is one instruction.
pub const FMA: bool = cfg!(any(
    target_feature = "fma",
    target_arch = "aarch64",
    all(target_arch = "riscv64", target_feature = "d")
));

/// `a * b + c` with a single rounding, equal to `f32::mul_add` but for the payload of a NaN.
///
/// The float64 product of two float32 is exact. The sum's rounding error is found exactly (Knuth's 2Sum) and makes an inexact sum
/// *odd*: with its last bit set it stands for everything strictly between its neighbours, and 53 bits are enough above 24 that the
/// second rounding, to float32, is then right (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms
/// using rounding to odd", 2008), subnormal results included. No branch, so loops over it become vector code.
#[inline(always)]
pub fn fma_f32_emulated(a: f32, b: f32, c: f32) -> f32 {
    let p = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = p + c;
    let c_part = sum - p;
    let error = (p - (sum - c_part)) + (c - c_part);
    // An infinite or NaN sum has a NaN error, which compares false: it stays as it is.
    let inexact = u64::from((error > 0.0) | (error < 0.0));
    let inward = ((error.to_bits() ^ sum.to_bits()) >> 63) & inexact;
    f64::from_bits((sum.to_bits() - inward) | inexact) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: f32, b: f32, c: f32) {
        let (want, got) = (a.mul_add(b, c), fma_f32_emulated(a, b, c));
        assert!(
            want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(),
            "fma({:#010x}, {:#010x}, {:#010x}): {:#010x}, want {:#010x}",
            a.to_bits(),
            b.to_bits(),
            c.to_bits(),
            got.to_bits(),
            want.to_bits()
        );
    }

    /// xorshift64*: the inputs need variety, no more.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u32 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
        }

        /// A float32 whose exponent is near `near` and whose significand has few bits set, so that ties occur.
        fn sparse(&mut self, near: u32) -> f32 {
            let exponent = (near + self.next() % 8).clamp(0, 254);
            let keep = u32::MAX << (self.next() % 23);
            f32::from_bits(
                (self.next() & 0x8000_0000) | (exponent << 23) | (self.next() & keep & 0x007f_ffff),
            )
        }
    }

    #[test]
    fn special_values() {
        let specials = [
            0,
            1,
            2,
            0x7f_ffff,
            0x80_0000,
            0x80_0001,
            0x3380_0000,
            0x3f00_0000,
            0x3f7f_ffff,
            0x3f80_0000,
            0x3f80_0001,
            0x4b80_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7fc0_0000,
        ];
        let all: Vec<f32> = specials.iter().flat_map(|&u| [u, u | 0x8000_0000]).map(f32::from_bits).collect();
        for &a in &all {
            for &b in &all {
                all.iter().for_each(|&c| check(a, b, c));
            }
        }
    }

    #[test]
    fn random_bits_and_near_ties() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..200_000 {
            check(
                f32::from_bits(random.next()),
                f32::from_bits(random.next()),
                f32::from_bits(random.next()),
            );
            // Results around 1, subnormal results, results near overflow, and addends that end 24 to 48 bits below the product.
            for (a, b, c) in
                [(123, 123, 119), (60, 60, 0), (185, 188, 247), (127, 127, 96), (100, 100, 130), (30, 30, 0)]
            {
                check(random.sparse(a), random.sparse(b), random.sparse(c));
            }
        }
    }
}
