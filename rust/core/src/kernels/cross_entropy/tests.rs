//! Losses and gradients against their formulas in f64.

use super::*;
use crate::kernels::rows::testing::{assert_same_bits, inner, matrix, nan, on_each_isa, width, within};
use crate::simd::{bf16, round_to_bf16};
use ndarray::{Array2, s};
use proptest::prelude::*;
use subgpt_testkit::gradcheck::{assert_close, gradient, wide};
use subgpt_testkit::{noise::Noise, rows as naive};

const IGNORED: i64 = -100;

/// Losses and gradient by all three calls, which must agree.
fn all(x: &Array2<f32>, targets: &[i64], smoothing: f32, scale: f32) -> (Vec<f32>, Vec<f32>) {
    let (n, v) = x.dim();
    let (mut losses, mut again, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n], nan(n, v));
    let mut place = within(x);
    cross_entropy(inner(&place), targets, IGNORED, smoothing, &mut losses).unwrap();
    cross_entropy_backward(inner(&place), targets, IGNORED, smoothing, scale, dx.view_mut()).unwrap();
    let inside = place.slice_mut(s![.., 2..v + 2]);
    cross_entropy_inplace::<f32>(inside, targets, IGNORED, smoothing, None, scale, &mut again).unwrap();
    let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    assert!(losses.iter().zip(&again).all(|(a, b)| same(a, b)));
    assert!(dx.iter().zip(inner(&place)).all(|(a, b)| same(a, b)));
    let mut narrow = within(x);
    let inside = narrow.slice_mut(s![.., 2..v + 2]);
    cross_entropy_inplace::<bf16>(inside, targets, IGNORED, smoothing, None, scale, &mut again).unwrap();
    assert!(losses.iter().zip(&again).all(|(a, b)| same(a, b)));
    for (row, dx) in narrow.rows().into_iter().zip(dx.rows()) {
        let half: &[bf16] = bytemuck::cast_slice(&row.to_slice().unwrap()[2..v + 2]);
        assert!(dx.iter().zip(half).all(|(d, h)| round_to_bf16(*d).to_bits() == h.to_bits()));
    }
    assert!(narrow.column(1).iter().chain(narrow.column(v + 2)).all(|v| v.is_nan()), "wrote beside the row");
    assert!(place.column(1).iter().chain(place.column(v + 2)).all(|v| v.is_nan()), "wrote beside the row");
    (losses, dx.into_raw_vec_and_offset().0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn loss_and_gradient_are_the_formula_and_its_gradient(
        n in 1usize..6, v in width(), seed: u64, smoothing in prop_oneof![Just(0.0f32), Just(0.1), Just(1.0)],
        offset in prop_oneof![Just(0.0f32), Just(1e4), Just(-1e4)],
    ) {
        let mut noise = Noise::new(seed);
        let x = matrix(&mut noise, n, v, 2.0) + offset;
        let targets: Vec<i64> =
            (0..n).map(|_| if noise.below(4) == 0 { IGNORED } else { noise.below(v) as i64 }).collect();
        let loss = |x: &[f64]| naive::cross_entropy(x, v, &targets, IGNORED, f64::from(smoothing));
        let wide_x = wide(x.as_slice().unwrap());
        let dx = gradient(&wide_x, |x| loss(x).iter().sum::<f64>() * 0.25);
        on_each_isa(|| {
            let (losses, dlogits) = all(&x, &targets, smoothing, 0.25);
            assert_close("losses", &losses, &loss(&wide_x), 1e-6);
            assert_close("dlogits", &dlogits, &dx, 2e-6);
            let quiet = targets.iter().enumerate().filter(|(_, t)| **t == IGNORED);
            for (i, _) in quiet {
                assert!(losses[i] == 0.0 && dlogits[i * v..(i + 1) * v].iter().all(|d| d.to_bits() == 0));
            }
        });
    }
}

#[test]
fn masked_logits_have_no_gradient_and_ignored_rows_may_hold_anything() {
    let mut x = matrix(&mut Noise::new(1), 4, 35, 1.0);
    x.slice_mut(s![0, 20..]).fill(f32::NEG_INFINITY);
    x.row_mut(1).fill(f32::NAN);
    x.row_mut(2).slice_mut(s![5..]).fill(f32::NEG_INFINITY);
    x.row_mut(3).fill(f32::NEG_INFINITY);
    on_each_isa(|| {
        let (losses, dx) = all(&x, &[3, IGNORED, 20, 0], 0.0, 1.0);
        let want = naive::cross_entropy(&wide(&x.as_slice().unwrap()[..35]), 35, &[3], IGNORED, 0.0);
        assert_close("losses", &losses[..1], &want, 1e-6);
        assert!(dx[20..70].iter().all(|&d| d == 0.0) && losses[1] == 0.0);
        // A target that cannot be has an infinite loss, yet a gradient that can be used.
        assert!(losses[2] == f32::INFINITY && dx[70..105].iter().all(|d| d.is_finite()) && dx[90] == -1.0);
        assert!(!losses[3].is_finite(), "a row of only -inf must not look like a good one");
    });
}

#[test]
fn rows_of_many_segments_are_the_formula_wherever_their_maximum_is() {
    let mut noise = Noise::new(6);
    let v = 3 * SEGMENT + 7;
    let mut x = matrix(&mut noise, 4, v, 2.0);
    for (row, at) in [(0, 5), (1, v - 1), (2, SEGMENT + 1)] {
        x[[row, at]] = 20.0;
    }
    x.slice_mut(s![3, ..2 * SEGMENT]).fill(f32::NEG_INFINITY);
    x.slice_mut(s![3, 2 * SEGMENT..]).mapv_inplace(|v| v - 1000.0);
    let targets = [7, (SEGMENT + 1) as i64, 0, (2 * SEGMENT + 9) as i64];
    let wide_x = wide(x.as_slice().unwrap());
    for smoothing in [0.0, 0.1] {
        let want = naive::cross_entropy(&wide_x, v, &targets, IGNORED, f64::from(smoothing));
        let p = naive::softmax(&wide_x, v);
        on_each_isa(|| {
            let (losses, dx) = all(&x, &targets, smoothing, 1.0);
            let finite = if smoothing > 0.0 { 3 } else { 4 };
            assert_close("losses", &losses[..finite], &want[..finite], 1e-6);
            for i in 0..4 * v {
                let hit = f64::from(u8::from(targets[i / v] as usize == i % v));
                let s = f64::from(smoothing);
                let d = p[i] - (1.0 - s) * hit - s / v as f64;
                assert!((f64::from(dx[i]) - d).abs() <= 2e-6, "{i}: {} instead of {d}", dx[i]);
            }
        });
    }
}

#[test]
fn a_nan_reaches_the_loss() {
    let mut x = matrix(&mut Noise::new(2), 2, 40, 1.0);
    x[[0, 39]] = f32::NAN;
    on_each_isa(|| {
        let (losses, dx) = all(&x, &[0, 1], 0.0, 1.0);
        assert!(losses[0].is_nan() && losses[1].is_finite() && dx[..40].iter().all(|d| d.is_nan()));
    });
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = matrix(&mut Noise::new(3), 40, 3001, 3.0);
    let targets: Vec<i64> = (0..40).map(|i| if i % 7 == 0 { IGNORED } else { i * 71 }).collect();
    assert_same_bits(|| {
        let (losses, dx) = all(&x, &targets, 0.1, 0.5);
        [losses, dx].concat()
    });
}

#[test]
fn the_gradient_goes_back_through_a_cap() {
    let (n, v, cap) = (4, 70, 3.0f32);
    let x = matrix(&mut Noise::new(4), n, v, 4.0);
    let targets = [5, IGNORED, 69, 0];
    let loss = |x: &[f64]| {
        let capped: Vec<f64> = x.iter().map(|x| f64::from(cap) * (x / f64::from(cap)).tanh()).collect();
        let rows = capped.chunks(v).zip(targets).filter(|(_, t)| *t != IGNORED);
        rows.map(|(row, t)| row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[t as usize]).sum::<f64>()
    };
    let expected = gradient(&wide(x.as_slice().unwrap()), |x| 0.5 * loss(x));
    on_each_isa(|| {
        let (mut place, mut losses) = (x.clone(), [f32::NAN; 4]);
        crate::kernels::softcap::softcap(cap, place.view_mut()).unwrap();
        cross_entropy_inplace::<f32>(place.view_mut(), &targets, IGNORED, 0.0, Some(cap), 0.5, &mut losses).unwrap();
        assert_close("dx", place.as_slice().unwrap(), &expected, 2e-6);
    });
}

#[test]
fn wrong_targets_and_shapes_are_errors() {
    let x = Array2::<f32>::zeros((2, 3));
    let call = |targets: &[i64], smoothing| cross_entropy(x.view(), targets, IGNORED, smoothing, &mut [0.0; 2]);
    assert!(call(&[0, IGNORED], 0.0).is_ok());
    assert!(call(&[0, 3], 0.0).unwrap_err().to_string().contains("3 at position 1"));
    for (targets, smoothing) in [(&[0, -1][..], 0.0), (&[0], 0.0), (&[0, 1], -0.1), (&[0, 1], 1.1), (&[0, 1], f32::NAN)]
    {
        assert!(call(targets, smoothing).is_err());
        assert!(
            cross_entropy_inplace::<f32>(nan(2, 3).view_mut(), targets, IGNORED, smoothing, None, 1.0, &mut [0.0; 2])
                .is_err()
        );
    }
    assert!(cross_entropy(x.view(), &[0, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
    assert!(cross_entropy(x.t(), &[0, 1, 1], IGNORED, 0.0, &mut [0.0; 3]).is_err());
    assert!(cross_entropy_backward(x.view(), &[0, 1], IGNORED, 0.0, 1.0, nan(2, 4).view_mut()).is_err());
}
