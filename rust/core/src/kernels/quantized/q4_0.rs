//! Q4_0: 32 values as `d * (q - 8)`, with a float16 scale `d` and 4-bit `q`.
//!
//! Bytes: `d` (2), `q` (16), where byte i holds values i (low bits) and i + 16 (high bits). The scale, which may be
//! negative, takes the value of largest magnitude (the first of several) to -8, the one end of the scale that no other
//! can pass.

use super::half_at;
use crate::simd::{LANES, Simd};
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
pub fn encode_closest<S: Simd>(s: S, x: &[f32; 32], bytes: &mut [u8; 18]) {
    encode(x, bytes);
    let x: [S::V; 2] = [s.load_at(x, 0, 0.0), s.load_at(x, LANES, 0.0)];
    let largest = s.reduce_max(s.max(s.abs(x[0]), s.abs(x[1])));
    let (mut most, mut fitted) = (0.0, 0.0);
    for tried in 0..2 * TRIED.len() {
        // With these steps the best scale is `products / squares`, and the squares that it leaves are fewer by this.
        let steps = if tried % 2 == 0 { TRIED[tried / 2] } else { -TRIED[tried / 2] };
        let inverse = s.splat(steps / largest);
        let q = [step(s, x[0], inverse), step(s, x[1], inverse)];
        let products = s.reduce_add(s.fma(q[0], x[0], s.mul(q[1], x[1])));
        let squares = s.reduce_add(s.fma(q[0], q[0], s.mul(q[1], q[1])));
        let gained = products * products / squares;
        if gained > most {
            (most, fitted) = (gained, products / squares);
        }
    }
    let scale = f16::from_f32(fitted).to_f32();
    if scale != 0.0 && off(s, x, scale) < off(s, x, half_at(bytes, 0)) {
        let mut steps = [0.0f32; 32];
        for (x, steps) in x.into_iter().zip(steps.as_chunks_mut().0) {
            s.store(steps, step(s, x, s.splat(1.0 / scale)));
        }
        let q = |x: f32| (x + STEPS) as u8;
        bytes[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        for (i, byte) in bytes[2..].iter_mut().enumerate() {
            *byte = q(steps[i]) | q(steps[i + 16]) << 4;
        }
    }
}

/// The steps nearest to `x` with a scale whose inverse is given.
#[inline(always)]
fn step<S: Simd>(s: S, x: S::V, inverse: S::V) -> S::V {
    s.max(s.min(s.round(s.mul(x, inverse)), s.splat(STEPS - 1.0)), s.splat(-STEPS))
}

/// The sum of squares by which the steps of `scale` miss `x`.
#[inline(always)]
fn off<S: Simd>(s: S, x: [S::V; 2], scale: f32) -> f32 {
    let inverse = s.splat(if scale == 0.0 { 0.0 } else { 1.0 / scale });
    let missed = [
        s.sub(x[0], s.mul(s.splat(scale), step(s, x[0], inverse))),
        s.sub(x[1], s.mul(s.splat(scale), step(s, x[1], inverse))),
    ];
    s.reduce_add(s.fma(missed[0], missed[0], s.mul(missed[1], missed[1])))
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
