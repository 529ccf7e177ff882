//! What processes that share an update do with the numbers they send each other.
//!
//! ```text
//! sum[i] = (parts[0][i] + parts[1][i]) + parts[2][i] + ...          in the order of the processes
//! sent = bf16(x + residual)        residual = (x + residual) - sent
//! ```
//!
//! The sum is made by the process that owns its place and not by the messages' library, whose order may depend on their
//! size and the network: so all processes have the same bits, run after run.
//!
//! Numbers of 16 bits are half of the traffic. What rounding takes from a gradient is added to the next one, so that
//! nothing is lost for good (Seide et al.: "1-bit stochastic gradient descent", 2014; Karimireddy et al.: "Error feedback
//! fixes SignSGD", 2019).
//!
//! Both run on the thread that calls: it sends and receives while the pool computes.

use super::check;
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, bf16, dispatch, isa};
use std::marker::PhantomData;

/// Numbers of all parts that are summed before the next: they stay in the first cache.
const STRETCH: usize = 2048;

/// `sum` (N) = the sum of the parts in `parts` (P x N, one behind the other), in their order. An error where `parts` is no
/// multiple of `sum`.
pub fn sum_parts<E: Element>(parts: &[E], sum: &mut [f32]) -> Result<()> {
    const OP: &str = "sum_parts";
    if sum.is_empty() {
        return check::len(OP, "parts", parts.len(), 0);
    }
    check::len(OP, "parts", parts.len(), parts.len().next_multiple_of(sum.len()))?;
    dispatch(isa::current(), Sum { parts, sum, element: PhantomData });
    Ok(())
}

struct Sum<'a, E> {
    parts: &'a [E],
    sum: &'a mut [f32],
    element: PhantomData<E>,
}

impl<E: Element> Kernel for Sum<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.sum.len();
        for (k, out) in self.sum.chunks_mut(STRETCH).enumerate() {
            out.fill(0.0);
            for part in self.parts.chunks(n) {
                let part = &part[k * STRETCH..][..out.len()];
                for at in (0..out.len()).step_by(LANES) {
                    let sum = s.add(s.load_at(out, at, 0.0), E::load_at(s, part, at, 0.0));
                    s.store_at(out, at, sum);
                }
            }
        }
    }
}

/// `x` and what is left of the last one, rounded into `sent`; `residual` is what rounding takes. One that is not finite
/// is sent as it is and leaves nothing.
pub fn narrow_with_feedback(x: &[f32], residual: &mut [f32], sent: &mut [bf16]) -> Result<()> {
    const OP: &str = "narrow_with_feedback";
    check::len(OP, "residual", residual.len(), x.len())?;
    check::len(OP, "sent", sent.len(), x.len())?;
    dispatch(isa::current(), Narrow { x, residual, sent });
    Ok(())
}

struct Narrow<'a> {
    x: &'a [f32],
    residual: &'a mut [f32],
    sent: &'a mut [bf16],
}

impl Kernel for Narrow<'_> {
    type Output = ();
    const BF16: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Narrow { x, residual, sent } = self;
        let zero = s.splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let whole = s.add(s.load_at(x, at, 0.0), s.load_at(residual, at, 0.0));
            bf16::store_at(s, sent, at, whole);
            let left = s.sub(whole, bf16::load_at(s, sent, at, 0.0));
            // inf - inf, and whatever a NaN makes, must not stay for all steps to come.
            let finite = s.lt(s.abs(left), s.splat(f32::INFINITY));
            s.store_at(residual, at, s.select(finite, left, zero));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::on_each_isa;
    use super::*;
    use subgpt_testkit::noise::Noise;

    #[test]
    fn parts_are_added_in_their_order() {
        on_each_isa(|| {
            for (n, parts) in [(1, 1), (5, 3), (16, 2), (STRETCH + 37, 4)] {
                let x = Noise::new(7).normal(n * parts, 1.0);
                let mut sum = vec![f32::NAN; n];
                sum_parts(&x, &mut sum).unwrap();
                let want = |i: usize| (0..parts).fold(0.0, |sum, part| sum + x[part * n + i]);
                assert!(sum.iter().enumerate().all(|(i, &sum)| sum == want(i)), "{n} {parts}");
                let narrow: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
                sum_parts(&narrow, &mut sum).unwrap();
                let want = |i: usize| (0..parts).fold(0.0, |sum, part| sum + bf16::from_f32(x[part * n + i]).to_f32());
                assert!(sum.iter().enumerate().all(|(i, &sum)| sum == want(i)), "{n} {parts}");
            }
        });
        assert!(sum_parts(&[1.0, 2.0, 3.0], &mut [0.0; 2]).is_err());
        assert!(sum_parts::<f32>(&[], &mut []).is_ok() && sum_parts(&[1.0], &mut []).is_err());
    }

    #[test]
    fn what_rounding_takes_is_sent_later() {
        on_each_isa(|| {
            let x = Noise::new(3).normal(37, 1.0);
            let (mut residual, mut sent) = (vec![0.0; 37], vec![bf16::from_f32(0.0); 37]);
            let mut total = vec![0.0f64; 37];
            for step in 1..=100 {
                narrow_with_feedback(&x, &mut residual, &mut sent).unwrap();
                for i in 0..37 {
                    total[i] += f64::from(sent[i].to_f32());
                    let left = f64::from(x[i]) * f64::from(step) - total[i];
                    assert!((left - f64::from(residual[i])).abs() < 1e-5, "{step} {i}");
                    assert!(left.abs() <= f64::from(x[i].abs()) / 128.0, "{step} {i}");
                }
            }
        });
    }

    #[test]
    fn what_is_not_finite_is_sent_and_forgotten() {
        on_each_isa(|| {
            let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::MAX];
            let (mut residual, mut sent) = ([0.0; 5], [bf16::from_f32(0.0); 5]);
            narrow_with_feedback(&x, &mut residual, &mut sent).unwrap();
            assert!(sent[0].to_f32().is_nan() && sent[1].to_f32() == f32::INFINITY && sent[3].to_f32() == 1.0);
            assert_eq!(residual, [0.0; 5]);
        });
        assert!(narrow_with_feedback(&[1.0], &mut [], &mut [bf16::from_f32(0.0)]).is_err());
    }
}
