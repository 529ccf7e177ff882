//! Q4_K, Q5_K and Q6_K: 256 values in one block, whose groups have scales that are themselves small whole numbers.
//!
//! | format | value | groups | bytes |
//! |---|---|---|---|
//! | Q4_K | `d s q - e m` | 8 of 32 | `d`, `e` (float16), `s` and `m` (6 bits each, 12), `q` (4 bits, 128) |
//! | Q5_K | `d s q - e m` | 8 of 32 | `d`, `e`, `s` and `m` (12), fifth bits (32), low four bits (128) |
//! | Q6_K | `d s (q - 32)` | 16 of 16 | low four bits (128), high two bits (64), `s` (8 bits, 16), `d` |

use super::half_at;

/// Scale `s` and minimum `m` of group `j` of 8: six bits each. The first four of both have bytes of their own, in whose
/// two spare bits are the high bits of the other four.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        return (packed[j] & 63, packed[j + 4] & 63);
    }
    let both = packed[j + 4];
    (both & 15 | packed[j - 4] >> 6 << 4, both >> 4 | packed[j] >> 6 << 4)
}

/// One block of Q4_K.
#[inline(always)]
pub fn decode_4(bytes: &[u8; 144], x: &mut [f32; 256]) {
    eight_groups(bytes, &bytes[16..], x, |_, _| 0);
}

/// One block of Q5_K.
#[inline(always)]
pub fn decode_5(bytes: &[u8; 176], x: &mut [f32; 256]) {
    // Fifth bits are by place in the group, then by group.
    let fifth = |group: usize, i: usize| (bytes[16 + i] >> group & 1) << 4;
    eight_groups(bytes, &bytes[48..], x, fifth);
}

/// Groups of 32 with scales and minima from `head`; byte i of each 32 of `low` belongs to value i of two groups.
#[inline(always)]
fn eight_groups(head: &[u8], low: &[u8], x: &mut [f32; 256], high: impl Fn(usize, usize) -> u8) {
    let (d, e) = (half_at(head, 0), half_at(head, 2));
    for (group, x) in x.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, m) = scale_and_minimum(&head[4..16], group);
        let (scale, minimum) = (d * f32::from(s), e * f32::from(m));
        let low = &low[group / 2 * 32..][..32];
        for (i, x) in x.iter_mut().enumerate() {
            let q = low[i] >> (group % 2 * 4) & 15 | high(group, i);
            *x = scale * f32::from(q) - minimum;
        }
    }
}

/// One block of Q6_K: each half of it has four runs of 32 values, whose low bits share 64 bytes and whose high bits
/// share 32.
#[inline(always)]
pub fn decode_6(bytes: &[u8; 210], x: &mut [f32; 256]) {
    let (low, high, scales, d) = (&bytes[..128], &bytes[128..192], &bytes[192..208], half_at(bytes, 208));
    for (run, x) in x.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (half, part) = (run / 4, run % 4);
        let low = &low[half * 64 + part % 2 * 32..][..32];
        let high = &high[half * 32..][..32];
        for (i, x) in x.iter_mut().enumerate() {
            let q = low[i] >> (part / 2 * 4) & 15 | (high[i] >> (part * 2) & 3) << 4;
            let scale = d * f32::from(scales[run * 2 + i / 16] as i8);
            *x = scale * f32::from(q as i8 - 32);
        }
    }
}
