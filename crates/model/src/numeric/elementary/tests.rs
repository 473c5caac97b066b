//! Special values, and hard cases with their expected bits.

use super::*;

#[test]
fn specials() {
    assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
    assert_eq!(log(-1.0).to_bits(), 0x7fc0_0000);
    assert_eq!(rsqrt(-0.0).to_bits(), f32::NEG_INFINITY.to_bits());
    assert_eq!(rsqrt(f32::INFINITY).to_bits(), 0);
    assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
}

#[test]
fn pow_by_hand() {
    assert_eq!(pow(2.0, 10.0), 1024.0);
    assert_eq!(pow(3.0, 4.0), 81.0);
    assert_eq!(pow(-2.0, 3.0), -8.0);
    assert_eq!(pow(10.0, -45.0).to_bits(), 1);
    assert_eq!(pow(2.0, -149.0).to_bits(), 1);
    assert_eq!(pow(2.0, -150.0).to_bits(), 0);
}
