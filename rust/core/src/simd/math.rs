//! exp, tanh, sigmoid and erf over sixteen lanes.
//!
//! The coefficients are minimax fits of our own (weighted least squares, reweighted until the error is level). Errors are
//! in ulp (units in the last place of the correct result); each is the largest that the tests below find in a sweep over
//! all bit patterns and around every edge, on every instruction set, and each test states its bound again. (`exp2` and
//! `exp2_rounded` are held by the tests of attention, which has most use for them.)

use super::Simd;

/// `e^x` within 1.0 ulp. Below -87.336 the result is flushed to 0 (no denormals), above 88.722 it is infinite; NaN stays NaN.
///
/// `x = n ln 2 + r` with `ln 2` in two parts (Cody and Waite), then `e^r = 1 + (r + r^2 q(r))` on `[-ln 2 / 2, ln 2 / 2]`.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // Above its range all of this is nonsense that the comparison throws away; a NaN comes through either way.
    s.select(s.lt(x, s.splat(88.722_84)), exp_below(s, x), s.add(x, s.splat(f32::INFINITY)))
}

/// [`exp`], the same bits, for `x` up to 88.72: what lies below a row's largest number needs no check for overflow.
#[inline(always)]
pub fn exp_below<S: Simd>(s: S, x: S::V) -> S::V {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // 0.693359375 has nine bits: its product with `n` is exact even without a fused multiply-add.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let q = polynomial(s, r, [1.381_455_9e-3, 8.368_735e-3, 4.166_839e-2, 0.166_665_21, 0.499_999_94]);
    let p = s.add(s.fma(s.mul(r, r), q, r), s.splat(1.0));
    // Below its range all of this is nonsense that the comparison throws away. A NaN may have lost its bits by now:
    // `x * 0` brings it back, and adds nothing to others.
    let y = s.fma(x, s.splat(0.0), s.add_exponent(p, n));
    s.select(s.lt(x, s.splat(-87.336_54)), s.splat(0.0), y)
}

/// `2^x` for `x` up to about 100, within 2 ulp; 0 below -126.5; NaN stays NaN.
///
/// `2^x = 2^n 2^r` with a minimax polynomial of degree 5 for `2^r` on `[-1/2, 1/2]` (relative error 9e-8), exact at 0.
#[inline(always)]
#[allow(clippy::approx_constant)] // 0.693147 is the minimax coefficient, which is not ln 2
pub fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    power(s, x, [0.001_326_472_8, 0.009_671_513, 0.055_507_337, 0.240_222_42, 0.693_147, 1.0])
}

/// [`exp2`] with a relative error of 3e-6 (degree 4): a thousandth of what rounding the result to bfloat16 adds, and little
/// enough for the log-sum-exp.
#[inline(always)]
#[allow(clippy::approx_constant)]
pub fn exp2_rounded<S: Simd>(s: S, x: S::V) -> S::V {
    power(s, x, [0.009_582_855, 0.055_906_422, 0.240_240_99, 0.693_124_2, 1.0])
}

/// `2^x` by a polynomial for the fraction. The exponent -127 is biased to 0, whose bits are the number 0: underflow needs
/// no select.
#[inline(always)]
fn power<S: Simd, const N: usize>(s: S, x: S::V, polynomial: [f32; N]) -> S::V {
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut p = s.splat(polynomial[0]);
    for c in &polynomial[1..] {
        p = s.fma(p, r, s.splat(*c));
    }
    s.mul(p, s.exp2i(n))
}

/// `1 / sqrt x` within 1.5 ulp, as the rounded quotient of the rounded root: nothing estimated, so that every instruction
/// set gives the same bits. 0 for infinity, infinity for 0, NaN below.
#[inline(always)]
pub fn rsqrt<S: Simd>(s: S, x: S::V) -> S::V {
    s.div(s.splat(1.0), s.sqrt(x))
}

/// `1 / (1 + e^-x)` within 2.5 ulp where the result is normal; 0 below -88.7.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(s.splat(1.0), s.add(s.splat(1.0), e))
}

/// `tanh x` within 1.4 ulp: an odd polynomial to 0.625, `1 - 2 / (e^2|x| + 1)` from there on.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.abs(x);
    let z = s.mul(x, x);
    let p =
        polynomial(s, z, [2.147_207_3e-3, -8.182_327e-3, 2.170_283_3e-2, -5.394_718e-2, 0.133_332_09, -0.333_333_3]);
    let small = s.fma(s.mul(p, z), x, x);
    let e = exp(s, s.add(t, t));
    let large = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));
    s.select(s.lt(t, s.splat(0.625)), small, s.copysign(large, x))
}

/// `erf x` within 1.5 ulp: an odd polynomial to 0.9277, `1 - e^(t q(t) - t)` from there on.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let z = s.mul(x, x);
    let p = polynomial(s, z, [-5.963_817e-4, 4.987_919_7e-3, -2.676_307e-2, 0.112_817_2, -0.376_124_86, 0.128_379_15]);
    let small = s.fma(p, x, x);
    // From 3.92 on erf is 1 in f32; the order of the operands lets NaN through.
    let t = s.min(s.splat(4.0), s.abs(x));
    let q = polynomial(
        s,
        t,
        [-1.152_573_3e-5, 3.257_534_5e-4, -3.654_463_4e-3, 2.378_747_8e-2, -0.106_266_42, -0.635_133_45, -0.128_652_9],
    );
    let large = s.sub(s.splat(1.0), exp(s, s.fma(q, t, s.sub(s.splat(0.0), t))));
    s.select(s.lt(s.abs(x), s.splat(0.9277)), small, s.copysign(large, x))
}

/// Horner's scheme, the coefficient of the highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut p = s.splat(coefficients[0]);
    let mut i = 1;
    while i < N {
        p = s.fma(p, x, s.splat(coefficients[i]));
        i += 1;
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, LANES, dispatch, isa};
    use subgpt_testkit::special;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        ExpBelow,
        Rsqrt,
        Sigmoid,
        Tanh,
        Erf,
    }

    struct Apply<'a>(Function, &'a mut [f32]);
    impl Kernel for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for at in (0..self.1.len()).step_by(LANES) {
                let x = s.load_at(self.1, at, 0.0);
                let y = match self.0 {
                    Function::Exp => exp(s, x),
                    Function::ExpBelow => exp_below(s, s.min(s.splat(88.0), x)),
                    Function::Rsqrt => rsqrt(s, x),
                    Function::Sigmoid => sigmoid(s, x),
                    Function::Tanh => tanh(s, x),
                    Function::Erf => erf(s, x),
                };
                s.store_at(self.1, at, y);
            }
        }
    }

    /// All bit patterns with a stride, and every pattern near the edges.
    fn inputs() -> Vec<f32> {
        let edges = [
            0.0,
            1.17549e-38,
            1e-7,
            0.346_57,
            0.625,
            0.9277,
            1.0,
            3.92,
            4.0,
            8.66,
            9.01,
            87.336_54,
            88.0,
            88.722_83,
            89.0,
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
        ];
        let sweep = (0..u32::MAX / 1031).map(|i| i * 1031);
        let near = edges.iter().flat_map(|e| (0..4001).map(|d| (e.to_bits() + d).saturating_sub(2000)));
        let near: Vec<u32> = near.collect();
        let mirrored = near.iter().map(|b| b ^ (1 << 31));
        sweep.chain(near.iter().copied()).chain(mirrored).map(f32::from_bits).collect()
    }

    /// The largest error in ulp on one instruction set, and where it is; results below `floor` may be flushed to 0.
    fn worst(function: Function, isa: Isa, exact: fn(f64) -> f64, floor: f64) -> (f64, f32) {
        let x = inputs();
        let mut y = x.clone();
        dispatch(isa, Apply(function, &mut y));
        let mut worst = (0.0, 0.0);
        for (&x, &y) in x.iter().zip(&y) {
            let want = exact(f64::from(x));
            if want.abs() < floor && y >= 0.0 && f64::from(y) <= floor {
                continue;
            }
            let error = special::ulps(y, want);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    fn assert_within(bound: f64, function: Function, exact: fn(f64) -> f64, floor: f64) {
        for isa in isa::available() {
            let (error, at) = worst(function, isa, exact, floor);
            eprintln!("{function:?} on {}: {error:.3} ulp at {at:e}", isa.name());
            assert!(error <= bound, "{function:?} on {}: {error} ulp at {at:e}", isa.name());
        }
    }

    const NORMAL: f64 = f32::MIN_POSITIVE as f64;

    #[test]
    fn exp_is_within_its_bound_everywhere() {
        assert_within(1.0, Function::Exp, f64::exp, NORMAL);
    }

    #[test]
    fn exp_below_has_the_bits_of_exp() {
        for isa in isa::available() {
            let x: Vec<f32> = inputs().into_iter().filter(|x| x.is_nan() || *x <= 88.0).collect();
            let [a, b] = [Function::Exp, Function::ExpBelow].map(|function| {
                let mut y = x.clone();
                dispatch(isa, Apply(function, &mut y));
                y
            });
            assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())));
        }
    }

    #[test]
    fn rsqrt_is_within_its_bound_everywhere() {
        assert_within(1.5, Function::Rsqrt, |x| 1.0 / x.sqrt(), 0.0);
    }

    /// All two thousand million positive floats, in the lanes of every instruction set: minutes.
    #[test]
    #[ignore = "minutes; run with --ignored after a change to rsqrt"]
    fn rsqrt_is_within_its_bound_for_every_float() {
        for isa in isa::available() {
            for first in (0..f32::INFINITY.to_bits()).step_by(1 << 20) {
                let x: Vec<f32> = (first..first + (1 << 20)).map(f32::from_bits).collect();
                let mut y = x.clone();
                dispatch(isa, Apply(Function::Rsqrt, &mut y));
                for (&x, &y) in x.iter().zip(&y).filter(|(x, _)| **x > 0.0 && x.is_finite()) {
                    let error = special::ulps(y, 1.0 / f64::from(x).sqrt());
                    assert!(error <= 1.5, "{}: {error} ulp at {x:e}", isa.name());
                }
            }
        }
    }

    #[test]
    fn sigmoid_is_within_its_bound_everywhere() {
        assert_within(2.5, Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), NORMAL);
    }

    #[test]
    fn tanh_is_within_its_bound_everywhere() {
        assert_within(1.4, Function::Tanh, f64::tanh, 0.0);
    }

    #[test]
    fn erf_is_within_its_bound_everywhere() {
        assert_within(1.5, Function::Erf, special::erf, 0.0);
    }

    #[test]
    fn avx2_and_avx512_give_the_same_bits() {
        if !Isa::Avx512.is_available() {
            return;
        }
        for function in [Function::Exp, Function::Rsqrt, Function::Sigmoid, Function::Tanh, Function::Erf] {
            let [a, b] = [Isa::Avx2, Isa::Avx512].map(|isa| {
                let mut y = inputs();
                dispatch(isa, Apply(function, &mut y));
                y
            });
            assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())));
        }
    }
}
