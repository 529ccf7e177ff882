//! SiLU, and the gated SwiGLU of the Llama family.
//!
//! ```text
//! silu:   y = x * S,  S = sigmoid x        dy/dx = S * (1 + x * (1 - S))
//! swiglu: y = silu(gate) * up              dgate = dy * up * silu'(gate),  dup = dy * silu(gate)
//! ```
//!
//! Slices of any length.
//!
//! Shazeer: "GLU variants improve transformer", 2020; `torch.nn.functional.silu`.

use super::{check, rows};
use crate::error::Result;
use crate::simd::{Kernel, LANES, Simd, dispatch, isa, math};

/// `y = silu(x)`
pub fn silu(x: &[f32], y: &mut [f32]) -> Result<()> {
    check::len("silu", "y", y.len(), x.len())?;
    let isa = isa::current();
    let parts = y.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, (y, gate)| dispatch(isa, Forward { gate, up: None, y }));
    Ok(())
}

/// `dx = dy * silu'(x)`
pub fn silu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<()> {
    check::len("silu_backward", "dy", dy.len(), x.len())?;
    check::len("silu_backward", "dx", dx.len(), x.len())?;
    let isa = isa::current();
    let parts = dx.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK)).zip(dy.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, ((dx, x), dy)| dispatch(isa, SiluBackward { x, dy, dx }));
    Ok(())
}

/// `y = silu(gate) * up`
pub fn swiglu(gate: &[f32], up: &[f32], y: &mut [f32]) -> Result<()> {
    check::len("swiglu", "up", up.len(), gate.len())?;
    check::len("swiglu", "y", y.len(), gate.len())?;
    let isa = isa::current();
    let parts = y.chunks_mut(rows::TASK).zip(gate.chunks(rows::TASK)).zip(up.chunks(rows::TASK));
    rows::each(gate.len(), parts, |_, ((y, gate), up)| dispatch(isa, Forward { gate, up: Some(up), y }));
    Ok(())
}

/// The gradients of [`swiglu`].
pub fn swiglu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) -> Result<()> {
    const OP: &str = "swiglu_backward";
    for (what, len) in [("up", up.len()), ("dy", dy.len()), ("dgate", dgate.len()), ("dup", dup.len())] {
        check::len(OP, what, len, gate.len())?;
    }
    let isa = isa::current();
    let inputs = gate.chunks(rows::TASK).zip(up.chunks(rows::TASK)).zip(dy.chunks(rows::TASK));
    let parts = inputs.zip(dgate.chunks_mut(rows::TASK)).zip(dup.chunks_mut(rows::TASK));
    rows::each(gate.len(), parts, |_, ((((gate, up), dy), dgate), dup)| {
        dispatch(isa, Backward { gate, up, dy, dgate, dup });
    });
    Ok(())
}

/// `silu(gate)`, times `up` where there is one.
struct Forward<'a> {
    gate: &'a [f32],
    up: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.gate.len()).step_by(LANES) {
            let gate = s.load_at(self.gate, at, 0.0);
            let y = s.mul(gate, math::sigmoid(s, gate));
            let y = match self.up {
                Some(up) => s.mul(y, s.load_at(up, at, 0.0)),
                None => y,
            };
            s.store_at(self.y, at, y);
        }
    }
}

struct SiluBackward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for SiluBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let (_, slope) = value_and_slope(s, s.load_at(self.x, at, 0.0));
            s.store_at(self.dx, at, s.mul(s.load_at(self.dy, at, 0.0), slope));
        }
    }
}

struct Backward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    dy: &'a [f32],
    dgate: &'a mut [f32],
    dup: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.gate.len()).step_by(LANES) {
            let (value, slope) = value_and_slope(s, s.load_at(self.gate, at, 0.0));
            let dy = s.load_at(self.dy, at, 0.0);
            s.store_at(self.dup, at, s.mul(dy, value));
            s.store_at(self.dgate, at, s.mul(s.mul(dy, s.load_at(self.up, at, 0.0)), slope));
        }
    }
}

/// `silu(x)` and `silu'(x)`.
#[inline(always)]
pub(super) fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let part = math::sigmoid(s, x);
    let value = s.mul(x, part);
    // S + x S (1 - S), which stays 0 where S is 0, however large x is.
    (value, s.fma(value, s.sub(s.splat(1.0), part), part))
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, on_each_isa};
    use super::*;
    use proptest::prelude::*;
    use subgpt_testkit::gradcheck::{assert_close, gradient, weighted, wide};
    use subgpt_testkit::{noise::Noise, rows as naive};

    fn forward(gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut y = vec![f32::NAN; gate.len()];
        swiglu(gate, up, &mut y).unwrap();
        y
    }

    fn backward(gate: &[f32], up: &[f32], dy: &[f32]) -> [Vec<f32>; 2] {
        let (mut dgate, mut dup) = (vec![f32::NAN; gate.len()], vec![f32::NAN; gate.len()]);
        swiglu_backward(gate, up, dy, &mut dgate, &mut dup).unwrap();
        [dgate, dup]
    }

    fn exact(gate: &[f64], up: &[f64]) -> Vec<f64> {
        gate.iter().zip(up).map(|(&g, u)| naive::silu(g) * u).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn forward_and_backward_are_the_formula_and_its_gradient(n in 1usize..70, seed: u64, std in 0.1f64..8.0) {
            let mut noise = Noise::new(seed);
            let [gate, up, dy] = [std, 1.0, 1.0].map(|std| noise.normal(n, std));
            let (g, u) = (wide(&gate), wide(&up));
            let dgate = gradient(&g, |g| weighted(&exact(g, &u), &dy));
            let dup = gradient(&u, |u| weighted(&exact(&g, u), &dy));
            let ones = vec![1.0; n];
            let dx = gradient(&g, |g| weighted(&exact(g, &wide(&ones)), &dy));
            on_each_isa(|| {
                assert_close("y", &forward(&gate, &up), &exact(&g, &u), 1e-6);
                let [got_gate, got_up] = backward(&gate, &up, &dy);
                assert_close("dgate", &got_gate, &dgate, 2e-6);
                assert_close("dup", &got_up, &dup, 1e-6);
                let (mut y, mut got) = (vec![f32::NAN; n], vec![f32::NAN; n]);
                silu(&gate, &mut y).unwrap();
                silu_backward(&gate, &dy, &mut got).unwrap();
                assert_eq!(y, forward(&gate, &ones));
                assert_close("dx", &got, &dx, 2e-6);
            });
        }
    }

    #[test]
    fn edges_are_the_limits() {
        on_each_isa(|| {
            let x = [0.0, 1e-40, 100.0, -100.0, 1e30, -1e30, f32::NAN];
            let y = forward(&x, &[1.0; 7]);
            assert!(
                y[..2] == [0.0, 5e-41] && y[2] == 100.0 && y[3] == 0.0 && y[4] == 1e30 && y[5] == 0.0 && y[6].is_nan()
            );
            let [slope, _] = backward(&x, &[1.0; 7], &[1.0; 7]);
            assert!(slope[..6] == [0.5, 0.5, 1.0, 0.0, 1.0, 0.0] && slope[6].is_nan());
        });
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let mut noise = Noise::new(9);
        let [gate, up, dy] = [3.0, 1.0, 1.0].map(|std| noise.normal(50_003, std));
        assert_same_bits(|| [forward(&gate, &up), backward(&gate, &up, &dy).concat()].concat());
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let [a, b] = [[0.0; 3], [1.0; 3]];
        assert!(silu(&a, &mut [0.0; 2]).is_err());
        assert!(silu_backward(&a, &b[..2], &mut [0.0; 3]).is_err());
        assert!(swiglu(&a, &b[..2], &mut [0.0; 3]).is_err());
        assert!(swiglu(&a, &b, &mut [0.0; 4]).is_err());
        assert!(swiglu_backward(&a, &b, &a, &mut [0.0; 3], &mut [0.0; 2]).is_err());
        swiglu(&[], &[], &mut []).unwrap();
    }
}
