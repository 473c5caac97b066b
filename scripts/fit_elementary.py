#!/usr/bin/env python3
"""Fits the polynomials and rational functions of `crates/model/src/numeric/elementary/coefficients.rs` and writes that file.

    pip install mpmath==1.4.1
    python3 scripts/fit_elementary.py > crates/model/src/numeric/elementary/coefficients.rs

Each fit interpolates the function at Chebyshev nodes in 60-digit arithmetic, which is within a small factor of the best
approximation, and rounds each coefficient to float64. The error that is printed beside it is measured after that rounding, on a
grid, relative to the function that the fit serves. Correct rounding does not rest on these figures: it is shown by comparing
all 2^32 inputs (`docs/elementary.md`).
"""
from mpmath import mp, mpf, matrix, lu_solve, erf, sqrt, pi, cos, sin, exp, log, tanh

mp.dps = 60


def nodes(lo, hi, count):
    return [lo + (hi - lo) * (1 - cos(pi * (2 * i + 1) / (2 * count))) / 2 for i in range(count)]


def horner(c, x):
    r = mpf(0)
    for a in reversed(c):
        r = r * x + mpf(a)
    return r


def polynomial(f, lo, hi, degree):
    """Coefficients of the interpolating polynomial, rounded to float64."""
    xs = nodes(lo, hi, degree + 1)
    a, b = matrix(degree + 1, degree + 1), matrix(degree + 1, 1)
    for i, x in enumerate(xs):
        b[i] = f(x)
        for j in range(degree + 1):
            a[i, j] = x**j
    s = lu_solve(a, b)
    return [float(s[j]) for j in range(degree + 1)]


def rational(f, hi, n, m):
    """Coefficients of P (degree n) and Q (degree m, Q(0) = 1) with P/Q interpolating f on [0, hi], rounded to float64."""
    count = n + m + 1
    a, b = matrix(count, count), matrix(count, 1)
    for i, x in enumerate(nodes(mpf(0), hi, count)):
        u, v = x / hi, f(x)
        for j in range(n + 1):
            a[i, j] = u**j
        for j in range(1, m + 1):
            a[i, n + j] = -v * u**j
        b[i] = v
    s = lu_solve(a, b)
    p = [float(s[j] / hi**j) for j in range(n + 1)]
    q = [1.0] + [float(s[n + j] / hi**j) for j in range(1, m + 1)]
    assert min(p + q) > 0, "a negative coefficient would cost accuracy"
    return p, q


def worst(f, g, lo, hi):
    """log2 of the greatest relative difference of g from f."""
    xs = [lo + (hi - lo) * mpf(i) / 2001 for i in range(1, 2001)]
    return float(log(max(abs(g(x) / f(x) - 1) for x in xs), 2))


def show(name, coefficients, doc):
    print(f"\n/// {doc}")
    print(f"pub(super) const {name}: [f64; {len(coefficients)}] = [")
    for c in coefficients:
        print(f"    {c!r},")
    print("];")


print("//! Coefficients, lowest degree first, written by `scripts/fit_elementary.py`; errors are relative to the function served.")
print("#![allow(clippy::approx_constant)]")

half = log(2) / 2 * mpf("1.0001")
q = polynomial(lambda r: sum(r**j / mp.factorial(j + 2) for j in range(40)), -half, half, 9)
e = worst(exp, lambda r: 1 + r + r * r * horner(q, r), -half, half)
show("EXP", q, f"q of `exp(r) = 1 + r + r^2 q(r)`, |r| <= ln(2)/2: 2^{e:.1f}.")

zmax = ((sqrt(2) - 1) / (sqrt(2) + 1)) ** 2 * mpf("1.0001")
r = polynomial(lambda z: sum(2 * z**j / (2 * j + 3) for j in range(60)), mpf(0), zmax, 7)
e = worst(lambda z: 2 * mp.atanh(sqrt(z)), lambda z: sqrt(z) * (2 + z * horner(r, z)), mpf(0), zmax)
show("LOG", r, f"r of `log((1 + s)/(1 - s)) = s (2 + z r(z))`, z = s^2, 1 + s over 1 - s in [1/sqrt(2), sqrt(2)]: 2^{e:.1f}.")

hi = mpf("15.5")
p, q = rational(lambda t: erf(sqrt(t)) / sqrt(t), hi, 11, 12)
e = worst(lambda t: erf(sqrt(t)) / sqrt(t), lambda t: horner(p, t) / horner(q, t), mpf(0), hi)
show("ERF_P", p, f"Numerator of `erf(x) = x P(x^2) / Q(x^2)`, x^2 <= 15.5: 2^{e:.1f}.")
show("ERF_Q", q, "Its denominator.")

hi = mpf("82")
p, q = rational(lambda t: tanh(sqrt(t)) / sqrt(t), hi, 8, 9)
e = worst(lambda t: tanh(sqrt(t)) / sqrt(t), lambda t: horner(p, t) / horner(q, t), mpf(0), hi)
show("TANH_P", p, f"Numerator of `tanh(x) = x P(x^2) / Q(x^2)`, x^2 <= 82: 2^{e:.1f}.")
show("TANH_Q", q, "Its denominator.")

zmax = (pi / 4) ** 2 * mpf("1.001")
s = polynomial(lambda z: sum((-1) ** (j + 1) * z**j / mp.factorial(2 * j + 3) for j in range(30)), mpf(0), zmax, 6)
e = worst(lambda z: sin(sqrt(z)), lambda z: sqrt(z) * (1 + z * horner(s, z)), mpf(0), zmax)
show("SIN", s, f"s of `sin(r) = r + r z s(z)`, z = r^2, |r| <= pi/4: 2^{e:.1f}.")
c = polynomial(lambda z: sum((-1) ** j * z**j / mp.factorial(2 * j + 4) for j in range(30)), mpf(0), zmax, 6)
e = worst(lambda z: cos(sqrt(z)), lambda z: 1 - z / 2 + z * z * horner(c, z), mpf(0), zmax)
show("COS", c, f"c of `cos(r) = 1 - z/2 + z^2 c(z)`, z = r^2, |r| <= pi/4: 2^{e:.1f}.")
