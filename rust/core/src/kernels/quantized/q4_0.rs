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

/// One block.
#[inline(always)]
pub fn decode(bytes: &[u8; 18], x: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    let value = |q: u8| f32::from(q as i8 - 8) * d;
    for (i, byte) in bytes[2..].iter().enumerate() {
        (x[i], x[i + 16]) = (value(byte & 15), value(byte >> 4));
    }
}
