//! Q8_0: 32 values as `d * q`, with a float16 scale `d` and 8-bit `q` in -127..=127.
//!
//! Bytes: `d` (2), `q` (32). The scale makes the largest magnitude 127; quotients are taken with the scale before it is
//! rounded to float16, and rounded to nearest with ties away from zero.

use super::half_at;
use half::f16;

/// The largest `q`.
pub const STEPS: f32 = 127.0;

/// Behind it floats have no place for fractions: a small whole number that is added is in the lowest bits.
const WHOLE: f32 = 12_582_912.0;

/// One block.
#[inline(always)]
pub fn encode(x: &[f32; 32], bytes: &mut [u8; 34]) {
    let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let d = largest / STEPS;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (q, x) in bytes[2..].iter_mut().zip(x) {
        // As `round` does, in operations that there are vectors of.
        let (whole, x) = ((x * inverse).trunc(), x * inverse);
        let rounded = whole + if (x - whole).abs() >= 0.5 { 1.0f32.copysign(x) } else { 0.0 };
        *q = (rounded + WHOLE).to_bits() as u8;
    }
}

/// One block.
#[inline(always)]
pub fn decode(bytes: &[u8; 34], x: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    for (x, q) in x.iter_mut().zip(&bytes[2..]) {
        *x = f32::from(*q as i8) * d;
    }
}
