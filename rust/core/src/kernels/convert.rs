//! Float32 rows as narrower numbers, rounded to nearest.

use super::{check, rows};
use crate::error::Result;
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};

/// `y = x`, rounded to `E`; slices of one length.
pub fn convert<E: Element>(x: &[f32], y: &mut [E]) -> Result<()> {
    check::len("convert", "y", y.len(), x.len())?;
    let isa = isa::current();
    let parts = y.chunks_mut(rows::TASK).zip(x.chunks(rows::TASK));
    rows::each(x.len(), parts, |_, (y, x)| dispatch(isa, Convert { x, y }));
    Ok(())
}

struct Convert<'a, E> {
    x: &'a [f32],
    y: &'a mut [E],
}

impl<E: Element> Kernel for Convert<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ((x, x_tail), (y, y_tail)) = (self.x.as_chunks::<LANES>(), self.y.as_chunks_mut::<LANES>());
        for (x, y) in x.iter().zip(y) {
            E::store(s, y, s.load(x));
        }
        E::store_tail(s, y_tail, s.load_tail(x_tail, 0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::on_each_isa;
    use super::*;
    use crate::simd::{bf16, round_to_bf16};
    use subgpt_testkit::noise::Noise;

    #[test]
    fn every_number_is_rounded_and_nothing_else_written() {
        for n in [0, 1, 15, 16, 17, 1000, 50_001] {
            let x = Noise::new(n as u64).normal(n, 3.0);
            on_each_isa(|| {
                let mut y = vec![bf16::NAN; n + 2];
                convert(&x, &mut y[1..n + 1]).unwrap();
                assert!(y[0].is_nan() && y[n + 1].is_nan());
                assert!(x.iter().zip(&y[1..]).all(|(&x, &y)| round_to_bf16(x) == y));
                let mut same = vec![0.0f32; n];
                convert(&x, &mut same).unwrap();
                assert_eq!(x, same);
            });
        }
        assert!(convert(&[1.0], &mut [0f32; 2]).is_err());
    }
}
