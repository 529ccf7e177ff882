//! Q2_K and Q3_K: 256 values in one block of 16 groups of 16, whose scales are themselves small whole numbers.
//!
//! | format | value | bytes |
//! |---|---|---|
//! | Q2_K | `d s q - e m` | `s` and `m` (4 bits each, 16), `q` (2 bits, 64), `d`, `e` (float16) |
//! | Q3_K | `d (s - 32) (q - 4 + 4 b)` | `b` (1 bit, 32), `q` (2 bits, 64), `s` (6 bits, 12), `d` (float16) |
//!
//! Bytes of two bits hold four runs of 32 values: byte i has value i of each.

use super::half_at;

/// The two bits of value `i` of the run of 32 with number `run`, out of 64 bytes.
#[inline(always)]
fn two_bits(bytes: &[u8], run: usize, i: usize) -> u8 {
    bytes[run / 4 * 32 + i] >> (run % 4 * 2) & 3
}

/// One block of Q2_K.
#[inline(always)]
pub fn decode_2(bytes: &[u8; 84], x: &mut [f32; 256]) {
    let (scales, q) = (&bytes[..16], &bytes[16..80]);
    let (d, e) = (half_at(bytes, 80), half_at(bytes, 82));
    for (group, x) in x.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, minimum) = (d * f32::from(scales[group] & 15), e * f32::from(scales[group] >> 4));
        for (i, x) in x.iter_mut().enumerate() {
            *x = scale * f32::from(two_bits(q, group / 2, group % 2 * 16 + i)) - minimum;
        }
    }
}

/// One block of Q3_K.
#[inline(always)]
pub fn decode_3(bytes: &[u8; 110], x: &mut [f32; 256]) {
    let (third, q, scales, d) = (&bytes[..32], &bytes[32..96], &bytes[96..108], half_at(bytes, 108));
    for (group, x) in x.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // Low four bits in eight bytes, high two bits in four.
        let s = scales[group % 8] >> (group / 8 * 4) & 15 | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4;
        let (scale, run) = (d * f32::from(s as i8 - 32), group / 2);
        for (i, x) in x.iter_mut().enumerate() {
            let place = group % 2 * 16 + i;
            let below = if third[place] >> run & 1 == 0 { 4 } else { 0 };
            *x = scale * f32::from(two_bits(q, run, place) as i8 - below);
        }
    }
}
