//! How exact bfloat16 is: against what its roundings alone do to exact arithmetic.

use super::*;
use crate::simd::math;

/// The root of the mean squared difference.
fn rms(got: &[f64], expected: &[f64]) -> f64 {
    let sum: f64 = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    (sum / got.len() as f64).sqrt()
}

#[test]
fn errors_are_those_of_rounding() {
    for case in [
        Case::square(130, 32),
        Case::square(97, 64).spread(2.0),
        Case::new(2, (4, 2), (70, 200), 24).window(60),
        Case::new(1, (2, 2), (90, 90), 40).softcap(5.0, 0.3),
        Case::new(1, (17, 17), (64, 530), 8),
    ] {
        let c = Computed::<bf16>::new(&case);
        let exact = c.expected(&case.naive);
        let rounded = c.expected(&case.naive.in_bf16());
        for (i, (name, got)) in c.outputs().into_iter().enumerate() {
            // What is rounded where is the same in both, down to which neighbour a tie of two errors falls on.
            let (ours, theirs) = (rms(&got, &exact[i]), rms(&rounded[i], &exact[i]));
            assert!(ours <= 1.1 * theirs + 3e-6, "{name}: {ours:.3e} with {theirs:.3e} of rounding, {case:?}");
        }
    }
}

#[test]
fn a_query_with_one_key_copies_its_value() {
    let c = Computed::<bf16>::new(&Case::square(40, 33).window(1));
    assert_eq!(c.out.flat(), c.v.flat());
    assert_eq!(c.dv.flat(), c.dout.flat());
}

#[test]
fn rounded_powers_of_two_are_within_their_error() {
    struct Power([f32; LANES]);
    impl Kernel for Power {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            s.to_array(math::exp2_rounded(s, s.load(&self.0)))
        }
    }
    for isa in isa::available() {
        for start in -4000..200 {
            let x: [f32; LANES] = std::array::from_fn(|i| start as f32 * 0.03 + i as f32 * 0.0019);
            let got = dispatch(isa, Power(x));
            for i in 0..LANES {
                let error = f64::from(got[i]) / f64::from(x[i]).exp2() - 1.0;
                assert!(error.abs() < 3.2e-6, "2^{} on {}: {error:.2e}", x[i], isa.name());
            }
        }
        assert_eq!(dispatch(isa, Power([f32::NEG_INFINITY; LANES])), [0.0; LANES]);
        assert_eq!(dispatch(isa, Power([0.0; LANES])), [1.0; LANES]);
    }
}
