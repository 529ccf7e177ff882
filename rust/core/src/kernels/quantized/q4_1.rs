//! Q4_1: 32 values as `d * q + m`, with a float16 scale `d`, a float16 minimum `m` and 4-bit `q`.
//!
//! Bytes: `d` (2), `m` (2), `q` (16) in the order of Q4_0.

use super::half_at;

/// One block.
#[inline(always)]
pub fn decode(bytes: &[u8; 20], x: &mut [f32; 32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    let value = |q: u8| f32::from(q) * d + m;
    for (i, byte) in bytes[4..].iter().enumerate() {
        (x[i], x[i + 16]) = (value(byte & 15), value(byte >> 4));
    }
}
