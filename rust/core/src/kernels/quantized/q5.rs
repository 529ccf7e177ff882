//! Q5_0 and Q5_1: Q4_0 and Q4_1 with a fifth bit.
//!
//! Q5_0 is `d * (q - 16)`, Q5_1 is `d * q + m`. Bytes: `d` (2), in Q5_1 `m` (2), the fifth bits (4; bit i is that of
//! value i), the low four bits (16) in the order of Q4_0.

use super::half_at;

/// One block of Q5_0.
#[inline(always)]
pub fn decode_0(bytes: &[u8; 22], x: &mut [f32; 32]) {
    let d = half_at(bytes, 0);
    five_bits(&bytes[2..], x, |q| f32::from(q as i8 - 16) * d);
}

/// One block of Q5_1.
#[inline(always)]
pub fn decode_1(bytes: &[u8; 24], x: &mut [f32; 32]) {
    let (d, m) = (half_at(bytes, 0), half_at(bytes, 2));
    five_bits(&bytes[4..], x, |q| f32::from(q) * d + m);
}

/// The values of 4 bytes of fifth bits and 16 bytes of low bits.
#[inline(always)]
fn five_bits(bytes: &[u8], x: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let (high, low) = bytes.split_at(4);
    let fifth = |i: usize| (high[i / 8] >> (i % 8) & 1) << 4;
    for (i, byte) in low.iter().enumerate() {
        (x[i], x[i + 16]) = (value(byte & 15 | fifth(i)), value(byte >> 4 | fifth(i + 16)));
    }
}
