//! Q4_0: 32 values as `d * (q - 8)`, with a float16 scale `d` and 4-bit `q`.
//!
//! Bytes: `d` (2), `q` (16), where byte i holds values i (low bits) and i + 16 (high bits). The scale, which may be
//! negative, takes the value of largest magnitude (the first of several) to -8, the one end of the scale that no other
//! can pass.

use super::half_at;
use half::f16;

/// The largest magnitude of `q - 8`.
pub const STEPS: f32 = 8.0;

/// One block.
#[inline(always)]
pub fn encode(x: &[f32; 32], bytes: &mut [u8; 18]) {
    let extreme = x.iter().fold(0f32, |extreme, &x| if x.abs() > extreme.abs() { x } else { extreme });
    let d = extreme / -STEPS;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    // Half a step more than the shift, so that truncation rounds.
    let q = |x: f32| ((x * inverse + (STEPS + 0.5)) as u8).min(15);
    bytes[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (i, byte) in bytes[2..].iter_mut().enumerate() {
        *byte = q(x[i]) | q(x[i + 16]) << 4;
    }
}

/// How many steps of a scale that is tried the largest magnitude is away from 0: fewer cut it off, and leave finer steps to
/// the others.
const TRIED: [f32; 12] = [5.0, 5.5, 6.0, 6.5, 7.0, 7.25, 7.5, 7.75, 8.0, 8.25, 8.5, 9.0];

/// One block, with the scale of those tried whose numbers are closest to `x`, by the sum of squares. Where they are numbers
/// of this format already, they stay what they are.
#[inline(always)]
pub fn encode_closest(x: &[f32; 32], bytes: &mut [u8; 18]) {
    encode(x, bytes);
    let largest = x.iter().fold(0f32, |largest, &x| largest.max(x.abs()));
    let (mut closest, mut scale) = (off(x, half_at(bytes, 0)), None);
    for steps in TRIED.into_iter().flat_map(|steps| [steps, -steps]) {
        // With these steps the best scale is another; with that, the best steps may be.
        let (mut products, mut squares) = (0.0, 0.0);
        for &x in x {
            let q = step(x, steps / largest);
            (products, squares) = (products + q * x, squares + q * q);
        }
        let fitted = f16::from_f32(if squares > 0.0 { products / squares } else { 0.0 }).to_f32();
        let off = off(x, fitted);
        if off < closest {
            (closest, scale) = (off, Some(fitted));
        }
    }
    if let Some(scale) = scale {
        let q = |x: f32| (step(x, 1.0 / scale) + STEPS) as u8;
        bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (i, byte) in bytes[2..].iter_mut().enumerate() {
            *byte = q(x[i]) | q(x[i + 16]) << 4;
        }
    }
}

/// The step nearest to `x` with a scale whose inverse is given.
#[inline(always)]
fn step(x: f32, inverse: f32) -> f32 {
    f32::from(((x * inverse + (STEPS + 0.5)) as u8).min(15)) - STEPS
}

/// The sum of squares by which the steps of `scale` miss `x`.
#[inline(always)]
fn off(x: &[f32; 32], scale: f32) -> f32 {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    x.iter().fold(0.0, |sum, &x| {
        let missed = x - scale * step(x, inverse);
        sum + missed * missed
    })
}

/// One block.
#[inline(always)]
pub fn decode(bytes: &[u8; 18], x: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    let value = |q: u8| f32::from(q as i8 - 8) * d;
    for (i, byte) in bytes[2..].iter().enumerate() {
        (x[i], x[i + 16]) = (value(byte & 15), value(byte >> 4));
    }
}
