//! erf in f64, and the distance of an f32 from the exact result in units in the last place.

/// `erf x` within a few ulp of f64: the series whose terms are all positive up to 3, a continued fraction from there on.
pub fn erf(x: f64) -> f64 {
    let t = x.abs();
    let value = if t.is_nan() {
        t
    } else if t < 3.0 {
        // 2 / sqrt(pi) e^(-t^2) sum over n of 2^n t^(2n+1) / (1 * 3 * .. * (2n+1))
        let (mut term, mut sum, mut n) = (t, t, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * t * t / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-t * t).exp() * sum
    } else if t > 6.0 {
        1.0
    } else {
        // erfc t = e^(-t^2) / sqrt(pi) / (t + (1/2) / (t + 1 / (t + (3/2) / (t + ..))))
        let fraction = (1..60).rev().fold(t, |below, k| t + 0.5 * f64::from(k) / below);
        1.0 - (-t * t).exp() / (std::f64::consts::PI.sqrt() * fraction)
    };
    value.copysign(x)
}

/// How far `got` is from `want`, in units in the last place of an f32 near `want`. Equal infinities, and NaN for NaN, are
/// 0 apart; a NaN or an infinity in the wrong place is infinitely far.
pub fn ulps(got: f32, want: f64) -> f64 {
    let rounded = want as f32;
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if rounded.is_infinite() || got.is_infinite() {
        // Just below the overflow either side of it is right.
        let edge = (f64::from(f32::MAX) * (1.0 - 3e-7)).min(want.abs());
        let close = edge < want.abs() || got == rounded;
        return if close && f64::from(got.abs()) >= edge * (1.0 - 3e-7) { 0.0 } else { f64::INFINITY };
    }
    let ulp = f64::from(f32::from_bits((rounded.abs().to_bits() & 0x7f80_0000).max(0x0080_0000))) / f64::from(1 << 23);
    (f64::from(got) - want).abs() / ulp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_the_published_values() {
        for (x, want) in [
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (2.0, 0.9953222650189527),
            (2.999_999, 0.999977909363748),
            (3.5, 0.9999992569016276),
            (-4.0, -0.9999999845827421),
        ] {
            assert!((erf(x) - want).abs() < 2e-15, "erf({x}) = {}", erf(x));
        }
        assert!(erf(f64::NAN).is_nan() && erf(f64::INFINITY) == 1.0 && erf(1e-300) > 0.0);
    }

    #[test]
    fn ulps_count_floats_between() {
        assert_eq!(ulps(1.0f32.next_up(), 1.0), 1.0);
        assert_eq!(ulps(f32::NAN, f64::NAN), 0.0);
        assert_eq!(ulps(f32::INFINITY, 1.0), f64::INFINITY);
        assert_eq!(ulps(1.0, f64::INFINITY), f64::INFINITY);
    }
}
