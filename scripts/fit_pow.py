#!/usr/bin/env python3
"""Writes the tables of `pow` (`numeric.md` §6.1): `crates/model/src/numeric/elementary/pow_tables.rs`.

    pip install mpmath==1.4.1
    python3 scripts/fit_pow.py > crates/model/src/numeric/elementary/pow_tables.rs

A pair is a number to 106 bits: its float64, and the float64 of what that leaves.
"""
from mpmath import mp, mpf, log

mp.dps = 60


def pair(x):
    hi = float(x)
    return hi, float(x - mpf(hi))


def show(name, pairs, doc):
    print(f"\n/// {doc}")
    print(f"pub(super) const {name}: [(f64, f64); {len(pairs)}] = [")
    for hi, lo in pairs:
        print(f"    ({hi!r}, {lo!r}),")
    print("];")


print("//! Tables of `pow`, written by `scripts/fit_pow.py`.")
print("#![allow(clippy::approx_constant)]")

# m in [1/sqrt(2), sqrt(2)) has i = round(64 m) in 45..=91; c = 1/m to 9 bits, and 1 where i = 64.
cs = [mpf(round(mpf(64) / i * 256)) / 256 for i in range(45, 92)]
assert cs[64 - 45] == 1
assert all(max(abs(c * mpf(2 * i - 1) / 128 - 1), abs(c * mpf(2 * i + 1) / 128 - 1)) < mpf(1) / 70 for c, i in zip(cs, range(45, 92)))
print(f"\n/// c close to 64 / i for i in 45..=91, a multiple of 2^-8: c m - 1 is exact for a float32 m, and below 1/70.")
print(f"pub(super) const INVERSE: [f64; {len(cs)}] = [")
for c in cs:
    print(f"    {float(c)!r},")
print("];")
show("LOG2_INVERSE", [pair(-log(c, 2)) for c in cs], "-log2(c).")
show("LOG", [pair(mpf((-1) ** j) / (j + 1) / log(2)) for j in range(18)], "log2(1 + r) = r (LOG[0] + LOG[1] r + ...), the Taylor series.")
show("EXP2", [pair(mpf(2) ** (mpf(j) / 32)) for j in range(32)], "2^(j/32).")
show("EXP", [pair(log(2) ** j / mp.factorial(j)) for j in range(14)], "2^r = EXP[0] + EXP[1] r + ..., the Taylor series.")
