//! The residual stream: sums of slices, and what scales it at its beginning.
//!
//! ```text
//! x += y        the gradient passes to both unchanged
//! x *= factor   the gradient is multiplied as well
//! ```

use super::{check, rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};

/// `x += y`
pub fn add_assign<X: Element, Y: Element>(x: &mut [X], y: &[Y]) -> Result<()> {
    check::len("add_assign", "y", y.len(), x.len())?;
    let isa = isa::current();
    let parts = x.chunks_mut(rows::TASK).zip(y.chunks(rows::TASK));
    rows::each(y.len(), parts, |_, (x, y)| dispatch(isa, AddAssign { x, y }));
    Ok(())
}

/// `x *= factor`
pub fn scale_assign(x: &mut [f32], factor: f32) {
    let (isa, len) = (isa::current(), x.len());
    rows::each(len, x.chunks_mut(rows::TASK), |_, x| dispatch(isa, ScaleAssign { x, factor }));
}

struct ScaleAssign<'a> {
    x: &'a mut [f32],
    factor: f32,
}

impl Kernel for ScaleAssign<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.x.len()).step_by(LANES) {
            let scaled = s.mul(s.load_at(self.x, at, 0.0), s.splat(self.factor));
            s.store_at(self.x, at, scaled);
        }
    }
}

struct AddAssign<'a, X, Y> {
    x: &'a mut [X],
    y: &'a [Y],
}

impl<X: Element, Y: Element> Kernel for AddAssign<'_, X, Y> {
    type Output = ();
    const BF16: bool = X::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add(s, self.x, self.y);
    }
}

/// `x += y`, inside of a kernel.
#[inline(always)]
pub(super) fn add<S: Simd, X: Element, Y: Element>(s: S, x: &mut [X], y: &[Y]) {
    for at in (0..x.len()).step_by(LANES) {
        let sum = s.add(X::load_at(s, x, at, 0.0), Y::load_at(s, y, at, 0.0));
        X::store_at(s, x, at, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::on_each_isa;
    use super::*;
    use crate::simd::{bf16, round_to_bf16};
    use subgpt_testkit::noise::Noise;

    #[test]
    fn sums_are_exact_for_every_length() {
        let mut noise = Noise::new(1);
        for n in [0, 1, 15, 16, 17, 97, 40_001] {
            let (x, y) = (noise.normal(n, 1.0), noise.normal(n, 1.0));
            on_each_isa(|| {
                let mut z = x.clone();
                add_assign(&mut z, &y).unwrap();
                assert!((0..n).all(|i| z[i] == x[i] + y[i]));
            });
        }
    }

    #[test]
    fn bfloat16_is_added_and_rounded_to() {
        let mut noise = Noise::new(2);
        let (x, y): (Vec<f32>, Vec<f32>) = (noise.normal(97, 1.0), noise.normal(97, 1.0));
        let y: Vec<bf16> = y.into_iter().map(round_to_bf16).collect();
        let half: Vec<bf16> = x.iter().map(|&x| round_to_bf16(x)).collect();
        on_each_isa(|| {
            let (mut wide, mut narrow) = (x.clone(), half.clone());
            add_assign(&mut wide, &y).unwrap();
            add_assign(&mut narrow, &y).unwrap();
            assert!((0..97).all(|i| wide[i] == x[i] + y[i].to_f32()));
            assert!((0..97).all(|i| narrow[i] == round_to_bf16(half[i].to_f32() + y[i].to_f32())));
        });
    }

    #[test]
    fn every_element_is_scaled() {
        for len in [0, 1, 15, 16, 17, 20_001] {
            let x: Vec<f32> = (0..len).map(|i| i as f32 - 7.5).collect();
            on_each_isa(|| {
                let mut scaled = x.clone();
                scale_assign(&mut scaled, 3.25);
                assert!(scaled.iter().zip(&x).all(|(y, x)| *y == x * 3.25));
            });
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        assert!(add_assign(&mut [0.0; 3], &[0.0; 4]).is_err());
    }
}
