//! The golden vectors of `vectors/elementary.txt`, which CORE-MATH wrote, through the scalar functions and the slice loops.

use super::*;

const VECTORS: &str = include_str!("../../../../../vectors/elementary.txt");

/// The lines that begin with `kind`, split into their other words.
fn lines(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    VECTORS
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(move |words| words[0] == kind)
        .map(|words| words[1..].to_vec())
}

fn float(hex: &str) -> f32 {
    f32::from_bits(u32::from_str_radix(hex, 16).unwrap())
}

#[test]
fn special_and_hard_inputs() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for words in lines("at") {
        let (name, inputs, want) = (words[0], &words[1..words.len() - 1], float(words[words.len() - 1]));
        let inputs: Vec<f32> = inputs.iter().map(|hex| float(hex)).collect();
        let got = match inputs[..] {
            [x, y] => pow(x, y),
            [x] => FUNCTIONS.iter().find(|(n, ..)| *n == name).unwrap().1(x),
            _ => panic!("{words:?}"),
        };
        if got.to_bits() != want.to_bits() {
            wrong.push(format!("{words:?}: got {:08x}", got.to_bits()));
        }
        tried += 1;
    }
    assert!(tried > 1500);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_million_inputs_of_each_function() {
    let digests: Vec<_> = lines("sample").collect();
    assert_eq!(digests.len(), FUNCTIONS.len());
    let (mut x, mut y, mut wrong) = (vec![0.0; 4096], vec![0.0; 4096], Vec::new());
    for words in digests {
        let (name, scalar, slice) = FUNCTIONS.iter().find(|(name, ..)| *name == words[0]).unwrap();
        let mut hasher = blake3::Hasher::new();
        let mut i = 0_u32;
        while i < 1 << 20 {
            for x in &mut x {
                *x = f32::from_bits(i.wrapping_mul(4099));
                i += 1;
            }
            slice(&x, &mut y);
            let bytes: Vec<u8> = y.iter().flat_map(|y| y.to_bits().to_le_bytes()).collect();
            hasher.update(&bytes);
            for (x, y) in x.iter().zip(&y).step_by(61) {
                assert_eq!(scalar(*x).to_bits(), y.to_bits(), "{name}({x:e})");
            }
        }
        if hasher.finalize().to_hex().as_str() != words[1] {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The vectors hold for `exp` as it is; that the fused one is no different, here on hard inputs and a sample of all, `./x exhaustive` on all.
#[test]
fn fused_exponentials_have_the_same_bits() {
    let hard = lines("at").filter(|words| words[0] == "exp").map(|words| float(words[1]));
    let sample = (0..1_u32 << 18).map(|i| f32::from_bits(i.wrapping_mul(16_411)));
    let mut tried = 0;
    for x in hard.chain(sample) {
        assert_eq!(lanes::exp::<true>(x).to_bits(), exp(x).to_bits(), "exp({x:e})");
        tried += 1;
    }
    assert!(tried > 1 << 18);
}

#[test]
fn slices_of_every_length() {
    for (name, scalar, slice) in FUNCTIONS {
        // Lengths around the chunks, and values on both sides of the limit of the trigonometric lanes.
        for length in [0, 1, 7, 15, 16, 17, 63, 64, 65, 255, 256, 257, 600] {
            let x: Vec<f32> =
                (0..length).map(|i| (i as f32 - 300.0) * if i % 97 == 13 { 1e5 } else { 0.37 }).collect();
            let mut y = vec![-1.0; length];
            slice(&x, &mut y);
            for (x, y) in x.iter().zip(&y) {
                assert_eq!(scalar(*x).to_bits(), y.to_bits(), "{name}({x:e})");
            }
        }
    }
    let x: Vec<f32> = (0..600).map(|i| i as f32 * 9e3 - 1e6).collect();
    let mut y = x.clone();
    sin_in_place(&mut y);
    assert!(x.iter().zip(&y).all(|(x, y)| sin(*x).to_bits() == y.to_bits()));
}
