//! `pow` and the emulated fma: too many inputs to try all, so special values by special values, and random ones of several kinds.

use core::hint::black_box;

use hallmark_model::numeric::{elementary, fma_f32_emulated};

use crate::canonical;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// Any bits.
    fn any(&mut self) -> f32 {
        f32::from_bits(self.next())
    }

    /// Between `lo` and `hi`.
    fn within(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * (self.next() >> 8) as f32 / 16_777_216.0
    }

    /// An exponent near `near`, and a significand of few bits.
    fn sparse(&mut self, near: u32) -> f32 {
        let keep = u32::MAX << (self.next() % 23);
        let exponent = (near + self.next() % 8).clamp(0, 254);
        f32::from_bits((self.next() & 0x8000_0000) | (exponent << 23) | (self.next() & keep & 0x007f_ffff))
    }
}

/// Zeros, ones, small integers, halves, limits, infinities, NaN, both signs.
fn specials() -> Vec<f32> {
    let positive = [
        0.0,
        1e-45,
        1.1754942e-38,
        1.1754944e-38,
        0.1,
        0.25,
        0.33333334,
        0.5,
        0.75,
        0.99999994,
        1.0,
        1.0000001,
        1.5,
        2.0,
        2.5,
        3.0,
        4.0,
        5.0,
        7.0,
        8.0,
        9.0,
        10.0,
        15.0,
        16.0,
        31.0,
        75.0,
        127.0,
        128.0,
        149.0,
        149.5,
        150.0,
        151.0,
        1e3,
        8388607.5,
        8388609.0,
        16777215.0,
        16777216.0,
        1e30,
        3.4028235e38,
        f32::INFINITY,
        f32::NAN,
    ];
    positive.into_iter().flat_map(|x| [x, -x]).collect()
}

/// Pairs for the golden vectors of `pow`: special values by special values, some exact ties, and random pairs whose results lie
/// close to a tie by `distance`.
pub fn hard_powers(distance: impl Fn(f64) -> u64) -> Vec<(f32, f32)> {
    let specials = [0.0, 1e-45, 0.5, 1.0, 1.5, 2.0, 3.0, 16777215.0, 16777216.0, f32::INFINITY, f32::NAN];
    let both: Vec<f32> = specials.into_iter().flat_map(|x| [x, -x]).collect();
    let mut pairs: Vec<(f32, f32)> = both.iter().flat_map(|&x| both.iter().map(move |&y| (x, y))).collect();
    pairs.extend([
        (4097.0, 2.0),
        (4099.0, 2.0),
        (293.0, 3.0),
        (71.0, 4.0),
        (27.0, 5.0),
        (2.0, -149.5),
        (2.0, -150.0),
        (10.0, -45.0),
    ]);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut hard: Vec<(u64, f32, f32)> = Vec::new();
    for _ in 0..4_000_000 {
        for (x, y) in [
            (random.any().abs(), random.within(-3.0, 3.0)),
            (random.within(0.0, 8.0), random.within(-40.0, 40.0)),
            (random.within(0.99, 1.01), random.within(-8000.0, 8000.0)),
        ] {
            let d = distance(core_math::pow(x.into(), y.into()));
            if d < 1024 {
                hard.push((d, x, y));
            }
        }
    }
    hard.sort_by_key(|&(d, x, y)| (d, x.to_bits(), y.to_bits()));
    pairs.extend(hard.into_iter().take(64).map(|(_, x, y)| (x, y)));
    pairs
}

/// Compares `pow` on `count` random pairs of each kind; gives the number of differences.
pub fn pow(count: u64) -> u64 {
    let mut differ = 0;
    let mut tried = 0_u64;
    let mut check = |x: f32, y: f32| {
        tried += 1;
        let (want, got) = (canonical(core_math::powf(x, y)), elementary::pow(x, y).to_bits());
        if want != got {
            differ += 1;
            println!(
                "    pow({:#010x}, {:#010x}) = pow({x:e}, {y:e}) want {want:#010x} got {got:#010x}",
                x.to_bits(),
                y.to_bits()
            );
        }
    };
    let specials = specials();
    for &x in &specials {
        specials.iter().for_each(|&y| check(x, y));
    }
    // Exact powers and ties: all of x^(n/4) for x^(1/4) up to 64 with up to 4 fractional bits.
    for root in 1..1024_u32 {
        let root = root as f32 / 16.0;
        for quarters in -64..=64 {
            check(root * root * root * root, quarters as f32 / 4.0);
            check(root, quarters as f32);
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        check(random.any(), random.any());
        let (x, y) = (random.any().abs(), random.within(-3.0, 3.0));
        check(x, y);
        let (x, y) = (random.within(0.0, 8.0), random.within(-40.0, 40.0));
        check(x, y);
        let (x, y) = (random.within(0.99, 1.01), random.within(-8000.0, 8000.0));
        check(x, y);
        let (x, y) = (random.sparse(120), random.sparse(124));
        check(x, y);
        let (x, n) = (random.within(-20.0, 20.0), random.next() % 33);
        check(x, n as f32 - 16.0);
    }
    println!("pow    {tried} pairs, differences: {differ}");
    differ
}

/// Compares the emulated fma with the instruction (or the standard library's) on `count` random triples of each kind.
pub fn fma(count: u64) -> u64 {
    let mut differ = 0;
    let mut tried = 0_u64;
    let mut check = |a: f32, b: f32, c: f32| {
        tried += 1;
        let want = canonical(black_box(a).mul_add(b, c));
        let got = canonical(fma_f32_emulated(a, b, c));
        if want != got {
            differ += 1;
            println!("    fma({a:e}, {b:e}, {c:e}) want {want:#010x} got {got:#010x}");
        }
    };
    let specials = specials();
    for &a in &specials {
        for &b in &specials {
            specials.iter().for_each(|&c| check(a, b, c));
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..count {
        check(random.any(), random.any(), random.any());
        for (a, b, c) in
            [(123, 123, 119), (60, 60, 0), (185, 188, 247), (127, 127, 96), (100, 100, 130), (30, 30, 0)]
        {
            check(random.sparse(a), random.sparse(b), random.sparse(c));
        }
    }
    println!("fma    {tried} triples, differences: {differ}");
    differ
}
