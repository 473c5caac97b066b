//! Writes `vectors/elementary.txt` out of CORE-MATH alone: the specification's tests read it.

use core::fmt::Write;

use crate::{canonical, f64_oracle, pairs, rows};

/// Hard cases kept of each function.
const KEEP: usize = 24;

/// How near the float64 `y` is to a tie between two float32, in units of its last place.
fn distance(y: f64) -> u64 {
    if !y.is_finite() || y.abs() < 1e-37 || y.abs() > 3e38 {
        return u64::MAX;
    }
    (y.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000)
}

/// Prints the file.
pub fn print() {
    println!("# Elementary functions in float32, as CORE-MATH 1.4.0 has them. Written by");
    println!(
        "#     cargo run --release --manifest-path benches/exhaustive/Cargo.toml -- --vectors > vectors/elementary.txt"
    );
    println!(
        "# sample FUNCTION BLAKE3: of the results (little-endian, canonical NaN) at the 2^20 inputs 4099 i mod 2^32, i = 0, 1, ..."
    );
    println!(
        "# at FUNCTION INPUT RESULT: special values, then inputs whose results lie close to a tie; pow takes two inputs."
    );
    let specials = [
        0,
        1,
        2,
        0x007f_ffff,
        0x0080_0000,
        0x3280_0000,
        0x3380_0000,
        0x3f00_0000,
        0x3f7f_ffff,
        0x3f80_0000,
        0x3f80_0001,
        0x3fc9_0fdb,
        0x4000_0000,
        0x4049_0fdb,
        0x4110_2cb4,
        0x42ae_ac4f,
        0x42b1_7218,
        0x42cf_f1b5,
        0x4980_0000,
        0x4980_0001,
        0x7149_f2ca,
        0x7f7f_ffff,
        0x7f80_0000,
        0x7fc0_0000,
        0x7fa0_0000,
    ];
    for row in rows() {
        let mut hasher = blake3::Hasher::new();
        for i in 0..1_u32 << 20 {
            let y = (row.oracle)(f32::from_bits(i.wrapping_mul(4099)));
            hasher.update(&canonical(y).to_le_bytes());
        }
        let mut out = format!("sample {} {}\n", row.name, hasher.finalize().to_hex());
        let mut at = |x: u32| {
            writeln!(out, "at {} {x:08x} {:08x}", row.name, canonical((row.oracle)(f32::from_bits(x))))
                .is_ok()
        };
        specials.iter().all(|&x| at(x) && at(x | 0x8000_0000));
        let wide = f64_oracle(row.name);
        let mut hard: Vec<(u64, u32)> = Vec::new();
        for i in 0..1_u32 << 25 {
            let x = i.wrapping_mul(0x0013_c6ef);
            // The results at tiny arguments are trivially close to a tie or to the argument.
            if x & 0x7fff_ffff > 0x3780_0000 {
                let d = distance(wide(f64::from(f32::from_bits(x))));
                if d < 4096 {
                    hard.push((d, x));
                }
            }
        }
        hard.extend(known(row.name).iter().map(|&x| (0, x)));
        hard.sort_unstable();
        hard.iter().take(KEEP).all(|&(_, x)| at(x));
        print!("{out}");
    }
    for (x, y) in pairs::hard_powers(distance) {
        println!("at pow {:08x} {:08x} {:08x}", x.to_bits(), y.to_bits(), canonical(core_math::powf(x, y)));
    }
}

/// Inputs at which a float64 computation with an error of about one ulp, rounded, gives the wrong float32: found by the sweeps.
fn known(name: &str) -> &'static [u32] {
    match name {
        "exp" => &[0xbbf0_edf1],
        "exp2" => &[0x3b42_9d37, 0xbcf3_a937],
        "erf" => &[0x3940_ead6, 0xb940_ead6],
        "log" => &[0x3c41_3d3a, 0x4117_8feb, 0x4c5d_65a5, 0x65d8_90d3, 0x6f31_a8ec],
        "log10" => &[0x0efe_ee7a],
        "log1p" => &[
            0x3540_0003,
            0x3710_001b,
            0x3efd_81ad,
            0x4107_8feb,
            0x65d8_90d3,
            0x6f31_a8ec,
            0xb53f_fffd,
            0xb70f_ffe5,
            0xbb0e_c8c4,
        ],
        "sin" => &[0x4619_9998, 0xc619_9998],
        "sinh" => &[0x3a12_85ff, 0xba12_85ff],
        "asinh" => &[0x4bdd_65a5, 0x5e68_984e, 0x6558_90d3, 0xcbdd_65a5, 0xde68_984e, 0xe558_90d3],
        "acosh" => &[0x5e68_984e, 0x6558_90d3],
        "cos" => &[0x5f18_b878, 0xdf18_b878],
        "erfc" => &[0xb76c_9f62],
        "acos" => &[0x3288_85a3, 0x3982_6222],
        "atan" => &[0x3d8d_6b23, 0xbd8d_6b23],
        _ => &[],
    }
}
