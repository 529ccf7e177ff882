//! Gated linear units: SwiGLU of the Llama family, GeGLU of Gemma.
//!
//! ```text
//! y = f(gate) * up        dgate = dy * up * f'(gate),  dup = dy * f(gate)
//! ```
//!
//! `gate`, `up` and `y` are `(rows, F)`, and their rows may lie apart: the two halves of the rows `[gate | up]` of one
//! fused projection. `f` is one of the [`activation`](super::activation)s.
//!
//! Shazeer: "GLU variants improve transformer", 2020.

use super::activation::Activation;
use super::rows::{self, check_rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use rows::Tile;

/// `y = f(gate) * up`
pub fn glu<E: Element>(
    activation: Activation,
    gate: ArrayView2<E>,
    up: ArrayView2<E>,
    y: ArrayViewMut2<E>,
) -> Result<()> {
    let (n, f) = gate.dim();
    check_rows!("glu", [n, f], gate, up, y);
    let isa = isa::current();
    rows::each(n * f, rows::tiles_mut(y), |_, (tile, y)| dispatch(isa, Forward { activation, tile, gate, up, y }));
    Ok(())
}

/// The gradients of [`glu`].
pub fn glu_backward<E: Element>(
    activation: Activation,
    gate: ArrayView2<E>,
    up: ArrayView2<E>,
    dy: ArrayView2<E>,
    dgate: ArrayViewMut2<E>,
    dup: ArrayViewMut2<E>,
) -> Result<()> {
    let (n, f) = gate.dim();
    check_rows!("glu_backward", [n, f], gate, up, dy, dgate, dup);
    let isa = isa::current();
    let parts = rows::tiles_mut(dgate).into_iter().zip(rows::tiles_mut(dup));
    rows::each(n * f, parts, |_, ((tile, dgate), (_, dup))| {
        dispatch(isa, Backward { activation, tile, gate, up, dy, dgate, dup });
    });
    Ok(())
}

struct Forward<'a, E> {
    activation: Activation,
    tile: Tile,
    gate: ArrayView2<'a, E>,
    up: ArrayView2<'a, E>,
    y: ArrayViewMut2<'a, E>,
}

impl<E: Element> Kernel for Forward<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.y.nrows() {
            let (gate, up) = (self.tile.row(&self.gate, i), self.tile.row(&self.up, i));
            let y = rows::row_mut(&mut self.y, i);
            for at in (0..y.len()).step_by(LANES) {
                let value = self.activation.value::<E, S>(s, E::load_at(s, gate, at, 0.0));
                E::store_at(s, y, at, s.mul(value, E::load_at(s, up, at, 0.0)));
            }
        }
    }
}

struct Backward<'a, E> {
    activation: Activation,
    tile: Tile,
    gate: ArrayView2<'a, E>,
    up: ArrayView2<'a, E>,
    dy: ArrayView2<'a, E>,
    dgate: ArrayViewMut2<'a, E>,
    dup: ArrayViewMut2<'a, E>,
}

impl<E: Element> Kernel for Backward<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.dgate.nrows() {
            let [gate, up, dy] = [&self.gate, &self.up, &self.dy].map(|x| self.tile.row(x, i));
            let (dgate, dup) = (rows::row_mut(&mut self.dgate, i), rows::row_mut(&mut self.dup, i));
            for at in (0..dgate.len()).step_by(LANES) {
                let (value, slope) = self.activation.value_and_slope::<E, S>(s, E::load_at(s, gate, at, 0.0));
                let dy = E::load_at(s, dy, at, 0.0);
                E::store_at(s, dup, at, s.mul(dy, value));
                E::store_at(s, dgate, at, s.mul(s.mul(dy, E::load_at(s, up, at, 0.0)), slope));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, full, half, matrix, nan, on_each_isa};
    use super::*;
    use crate::simd::bf16;
    use ndarray::Axis;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    fn line<E>(x: &[E]) -> ArrayView2<'_, E> {
        ArrayView2::from_shape((1, x.len()), x).unwrap()
    }

    fn line_mut<E>(x: &mut [E]) -> ArrayViewMut2<'_, E> {
        ArrayViewMut2::from_shape((1, x.len()), x).unwrap()
    }

    const KINDS: [(Activation, fn(f64) -> f64); 3] = [
        (Activation::Silu, naive::silu),
        (Activation::GeluTanh, naive::gelu_tanh),
        (Activation::Gelu, naive::gelu_erf),
    ];

    fn forward(kind: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; gate.len()];
        glu(kind, line(gate), line(up), line_mut(&mut y)).unwrap();
        y
    }

    fn backward(kind: Activation, gate: &[f32], up: &[f32], dy: &[f32]) -> [Vec<f32>; 2] {
        let (mut dgate, mut dup) = (vec![f32::NAN; gate.len()], vec![f32::NAN; gate.len()]);
        glu_backward(kind, line(gate), line(up), line(dy), line_mut(&mut dgate), line_mut(&mut dup)).unwrap();
        [dgate, dup]
    }

    fn exact(f: fn(f64) -> f64, gate: &[f64], up: &[f64]) -> Vec<f64> {
        gate.iter().zip(up).map(|(&g, u)| f(g) * u).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(n in 1usize..70, seed: u64, std in 0.1f64..8.0) {
            let mut noise = Noise::new(seed);
            let [gate, up, dy] = [std, 1.0, 1.0].map(|std| noise.normal(n, std));
            let (g, u) = (wide(&gate), wide(&up));
            for (kind, f) in KINDS {
                let dgate = gradient(&g, |g| weighted(&exact(f, g, &u), &dy));
                let dup = gradient(&u, |u| weighted(&exact(f, &g, u), &dy));
                on_each_isa(|| {
                    assert_close("y", &forward(kind, &gate, &up), &exact(f, &g, &u), 1e-6);
                    let [got_gate, got_up] = backward(kind, &gate, &up, &dy);
                    assert_close("dgate", &got_gate, &dgate, 2e-6);
                    assert_close("dup", &got_up, &dup, 1e-6);
                });
            }
        }
    }

    #[test]
    fn halves_of_wide_rows_and_bfloat16_give_the_same() {
        let mut noise = Noise::new(3);
        for (n, f) in [(1, 1), (5, 33), (3, 2 * rows::TASK + 5), (700, 16)] {
            let (pair, dy) = (half(&matrix(&mut noise, n, 2 * f, 2.0)), half(&matrix(&mut noise, n, f, 1.0)));
            on_each_isa(|| {
                let (wide, wide_dy) = (full(&pair), full(&dy));
                let (mut y, mut d) = (nan(n, f), nan(n, 2 * f));
                let (gate, up) = wide.view().split_at(Axis(1), f);
                let (dgate, dup) = d.view_mut().split_at(Axis(1), f);
                glu(Activation::Silu, gate, up, y.view_mut()).unwrap();
                glu_backward(Activation::Silu, gate, up, wide_dy.view(), dgate, dup).unwrap();
                let [gate, up] = [gate, up].map(|x| x.iter().copied().collect::<Vec<_>>());
                assert_eq!(y.as_slice().unwrap(), forward(Activation::Silu, &gate, &up));
                let [dgate, dup] = backward(Activation::Silu, &gate, &up, wide_dy.as_slice().unwrap());
                let (left, right) = d.view().split_at(Axis(1), f);
                assert!(left.iter().eq(&dgate) && right.iter().eq(&dup));
                let (mut narrow, mut narrow_d) = (half(&y), half(&d));
                narrow.fill(bf16::NAN);
                narrow_d.fill(bf16::NAN);
                let (gate, up) = pair.view().split_at(Axis(1), f);
                let (dgate, dup) = narrow_d.view_mut().split_at(Axis(1), f);
                glu(Activation::Silu, gate, up, narrow.view_mut()).unwrap();
                glu_backward(Activation::Silu, gate, up, dy.view(), dgate, dup).unwrap();
                assert!(narrow == half(&y) && narrow_d == half(&d));
            });
        }
    }

    #[test]
    fn edges_are_the_limits() {
        on_each_isa(|| {
            let x = [0.0, 1e-40, 100.0, -100.0, 1e30, -1e30, f32::NAN];
            let y = forward(Activation::Silu, &x, &[1.0; 7]);
            assert!(
                y[..2] == [0.0, 5e-41] && y[2] == 100.0 && y[3] == 0.0 && y[4] == 1e30 && y[5] == 0.0 && y[6].is_nan()
            );
            let [slope, _] = backward(Activation::Silu, &x, &[1.0; 7], &[1.0; 7]);
            assert!(slope[..6] == [0.5, 0.5, 1.0, 0.0, 1.0, 0.0] && slope[6].is_nan());
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(9);
        let [gate, up, dy] = [3.0, 1.0, 1.0].map(|std| noise.normal(50_003, std));
        assert_same_bits(|| {
            [forward(Activation::Silu, &gate, &up), backward(Activation::Silu, &gate, &up, &dy).concat()].concat()
        });
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let [a, b] = [[0.0; 3], [1.0; 3]];
        let (a, b) = (line(&a), line(&b));
        assert!(glu(Activation::Silu, a, line(&[1.0; 2]), line_mut(&mut [0.0; 3])).is_err());
        assert!(glu(Activation::Silu, a, b, line_mut(&mut [0.0; 4])).is_err());
        assert!(glu_backward(Activation::Silu, a, b, a, line_mut(&mut [0.0; 3]), line_mut(&mut [0.0; 2])).is_err());
        glu::<f32>(Activation::Silu, line(&[]), line(&[]), line_mut(&mut [])).unwrap();
    }
}
