//! Rotations against their formula in f64, by both conventions.

use super::*;
use crate::kernels::rows::testing::{assert_same_bits, full, half, inner, matrix, on_each_isa, within};
use crate::simd::round_to_bf16;
use ndarray::{Array2, s};
use proptest::prelude::*;
use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
use subgpt_testkit::{noise::Noise, rows as naive};

fn pairs(pairing: Pairing, dim: usize) -> Vec<(usize, usize)> {
    let pair = |i| if pairing == Pairing::Half { (i, i + dim / 2) } else { (2 * i, 2 * i + 1) };
    (0..dim / 2).map(pair).collect()
}

fn exact(pairing: Pairing, dim: usize, theta: f64, positions: &[usize], x: &[f64], width: usize) -> Vec<f64> {
    let row = |(r, row): (usize, &[f64])| {
        let position = positions[r % positions.len()] as f64;
        row.chunks(dim).flat_map(|h| naive::rope(h, position, theta, &pairs(pairing, dim))).collect::<Vec<_>>()
    };
    x.chunks(width).enumerate().flat_map(row).collect()
}

fn rotated(rope: &Rope, direction: Direction, x: &Array2<f32>) -> Vec<f32> {
    let mut wide = within(x);
    rope.apply(direction, wide.slice_mut(s![.., 2..x.ncols() + 2])).unwrap();
    inner(&wide).iter().copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn both_ways_are_the_formula_and_its_gradient(
        half in 1usize..40, heads in 1usize..4, b in 1usize..3, t in 1usize..4, seed: u64,
        pairing in prop_oneof![Just(Pairing::Half), Just(Pairing::Interleaved)],
    ) {
        let (dim, theta, mut noise) = (2 * half, 10_000.0, Noise::new(seed));
        let positions: Vec<usize> = (0..t).map(|_| noise.below(200_000)).collect();
        let (x, dy) = (matrix(&mut noise, b * t, heads * dim, 1.0), matrix(&mut noise, b * t, heads * dim, 1.0));
        let rope = Rope::new(pairing, Waves::new(dim, theta), &positions).unwrap();
        let twin = |x: &[f64]| exact(pairing, dim, theta, &positions, x, heads * dim);
        let wide_x = wide(x.as_slice().unwrap());
        let dx = gradient(&wide_x, |x| weighted(&twin(x), dy.as_slice().unwrap()));
        on_each_isa(|| {
            assert_close("y", &rotated(&rope, Direction::Forward, &x), &twin(&wide_x), 3e-7);
            assert_close("dx", &rotated(&rope, Direction::Backward, &dy), &dx, 3e-7);
        });
    }
}

#[test]
fn the_conventions_are_one_under_a_permutation() {
    let (dim, x) = (38, matrix(&mut Noise::new(1), 3, 38, 1.0));
    let split: Vec<usize> = (0..dim).step_by(2).chain((1..dim).step_by(2)).collect();
    let halves = x.select(ndarray::Axis(1), &split);
    let table = |pairing| Rope::new(pairing, Waves::new(dim, 500_000.0), &[7, 0, 1003]).unwrap();
    on_each_isa(|| {
        let a = rotated(&table(Pairing::Interleaved), Direction::Forward, &x);
        let b = rotated(&table(Pairing::Half), Direction::Forward, &halves);
        for r in 0..3 {
            assert!((0..dim).all(|i| b[r * dim + i] == a[r * dim + split[i]]));
        }
        assert_eq!(a[dim..2 * dim], x.as_slice().unwrap()[dim..2 * dim], "position 0 does not turn");
    });
}

#[test]
fn shared_tables_are_those_of_their_shape_and_bfloat16_is_the_rounded_output() {
    let x = half(&matrix(&mut Noise::new(4), 6, 40, 1.0));
    for (t, theta) in [(6, 1e4), (3, 1e4), (6, 5e5), (2, 1e4), (1, 1e4), (6, 1e4)] {
        for pairing in [Pairing::Half, Pairing::Interleaved] {
            let shared = Rope::shared(pairing, Waves::new(20, theta), t).unwrap();
            let own = Rope::new(pairing, Waves::new(20, theta), &(0..t).collect::<Vec<_>>()).unwrap();
            on_each_isa(|| {
                let want = rotated(&own, Direction::Forward, &full(&x));
                assert_eq!(rotated(&shared, Direction::Forward, &full(&x)), want);
                let mut narrow = x.clone();
                shared.apply(Direction::Forward, narrow.view_mut()).unwrap();
                assert!(narrow.iter().zip(want).all(|(y, want)| *y == round_to_bf16(want)));
            });
        }
    }
    assert!(Rope::shared(Pairing::Half, Waves::new(5, 1e4), 2).is_err());
}

#[test]
fn long_waves_are_stretched_and_short_ones_are_not() {
    let plain = Waves::new(64, 5e5);
    let llama3 = Scaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    let of = |scaling| Waves { scaling, ..plain }.inverse_frequencies().unwrap();
    let (from, linear, llama3) = (of(None), of(Some(Scaling::Linear { factor: 8.0 })), of(Some(llama3)));
    assert!(from.iter().zip(&linear).all(|(a, b)| a / 8.0 == *b));
    for (a, b) in from.iter().zip(&llama3) {
        let length = TAU / a;
        match length {
            _ if length < 2048.0 => assert_eq!(a, b),
            _ if length > 8192.0 => assert_eq!(a / 8.0, *b),
            _ => assert!(a / 8.0 < *b && b < a),
        }
    }
    assert!(llama3.iter().zip(&llama3[1..]).all(|(a, b)| a > b));
}

#[test]
fn bits_do_not_depend_on_threads() {
    let x = matrix(&mut Noise::new(2), 600, 96, 1.0);
    for pairing in [Pairing::Half, Pairing::Interleaved] {
        let rope = Rope::new(pairing, Waves::new(32, 10_000.0), &(0..200).collect::<Vec<_>>()).unwrap();
        assert_same_bits(|| rotated(&rope, Direction::Forward, &x));
    }
}

#[test]
fn wrong_shapes_are_errors() {
    assert!(Rope::new(Pairing::Half, Waves::new(5, 1e4), &[0]).is_err());
    assert!(Rope::new(Pairing::Half, Waves::new(0, 1e4), &[0]).is_err());
    assert!(Rope::new(Pairing::Half, Waves::new(4, f64::NAN), &[0]).is_err());
    let linear = Waves { scaling: Some(Scaling::Linear { factor: 0.0 }), ..Waves::new(4, 1e4) };
    assert!(Rope::new(Pairing::Half, linear, &[0]).is_err());
    let rope = Rope::new(Pairing::Half, Waves::new(4, 1e4), &[0, 1]).unwrap();
    for shape in [(2, 6), (3, 8), (2, 3)] {
        assert!(rope.apply(Direction::Forward, Array2::<f32>::zeros(shape).view_mut()).is_err());
    }
    assert!(rope.apply(Direction::Forward, Array2::<f32>::zeros((4, 4)).view_mut().reversed_axes()).is_err());
    rope.apply(Direction::Forward, Array2::<f32>::zeros((0, 8)).view_mut()).unwrap();
}
