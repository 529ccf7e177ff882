//! Numbers in fewer bytes: the formats of ggml, to and from float32.
//!
//! A row is cut into blocks of a fixed number of values, and each block is stored in a fixed number of bytes: its scale
//! and its values as small whole numbers. Rounding is that of ggml's reference quantizers, so that the same weights give
//! the same bytes. A file for each format, encoding beside decoding; those without an encoder are only read.
//!
//! [`QuantizedMatrix`] keeps weights so, in the order of [`layout`]; [`activations`] are what [`micro`] multiplies them
//! with. The product itself is one of [`super::matmul`].
//!
//! Source: the block structures and reference functions of ggml (`ggml-common.h`, `ggml-quants.c`),
//! <https://github.com/ggml-org/ggml>.

pub(in crate::kernels) mod activations;
mod float;
mod k_quants;
mod k_small;
pub(in crate::kernels) mod layout;
mod matrix;
pub(in crate::kernels) mod micro;
mod q4_0;
mod q4_1;
mod q5;
mod q8_0;
#[cfg(test)]
mod tests;

pub use matrix::{QuantizedMatrix, Rows};

use super::{check, rows};
use crate::error::{Error, Result};
use crate::parallel;
use crate::simd::{Kernel, Simd, dispatch, isa};

/// The most values that a block has.
const LARGEST_BLOCK: usize = 256;

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)] // the names that everyone knows them by
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// 4 bits and a scale, 32 values in 18 bytes.
    Q4_0,
    /// 4 bits, a scale and a minimum, 32 values in 20 bytes. Only read.
    Q4_1,
    /// 5 bits and a scale, 32 values in 22 bytes. Only read.
    Q5_0,
    /// 5 bits, a scale and a minimum, 32 values in 24 bytes. Only read.
    Q5_1,
    /// 8 bits and a scale, 32 values in 34 bytes.
    Q8_0,
    /// 2 bits, 256 values in 84 bytes. Only read.
    Q2_K,
    /// 3 bits, 256 values in 110 bytes. Only read.
    Q3_K,
    /// 4 bits, 256 values in 144 bytes. Only read.
    Q4_K,
    /// 5 bits, 256 values in 176 bytes. Only read.
    Q5_K,
    /// 6 bits, 256 values in 210 bytes. Only read.
    Q6_K,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 13] = {
        use Format::*;
        [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K]
    };

    /// Values in a block; the length of a row must be a multiple of it.
    pub const fn values(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::BF16 => 1,
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => 32,
            Format::Q2_K | Format::Q3_K | Format::Q4_K | Format::Q5_K | Format::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::BF16 => 2,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q8_0 => 34,
            Format::Q2_K => 84,
            Format::Q3_K => 110,
            Format::Q4_K => 144,
            Format::Q5_K => 176,
            Format::Q6_K => 210,
        }
    }

    /// Whether [`encode`] writes it.
    pub const fn encodes(self) -> bool {
        matches!(self, Format::F32 | Format::F16 | Format::BF16 | Format::Q4_0 | Format::Q8_0)
    }

    fn check_encodes(self) -> Result<()> {
        if self.encodes() {
            return Ok(());
        }
        Err(Error::value("encode", "format", format!("{self:?}"), "write F32, F16, BF16, Q8_0 or Q4_0"))
    }

    /// The magnitude from which on a number (or the scale of its block) would become infinite.
    fn limit(self) -> f32 {
        const HALF: f32 = 65_520.0; // the middle of the largest float16 and the next power of two
        match self {
            Format::F16 => HALF,
            Format::BF16 => f32::from_bits(0x7F7F_8000),
            Format::Q8_0 => q8_0::STEPS * HALF,
            Format::Q4_0 => q4_0::STEPS * HALF,
            _ => f32::INFINITY,
        }
    }

    /// Whether `x` can be stored: formats of blocks have no NaN and no infinity, and none may arise from large numbers.
    fn holds(self, x: f32) -> bool {
        x.abs() < self.limit() || (!x.is_finite() && self.values() == 1)
    }

    /// Blocks of a task.
    fn task(self) -> usize {
        rows::TASK / self.values()
    }
}

/// `bytes` = `x` in `format`: whole blocks, `x.len() / format.values() * format.bytes()` bytes.
///
/// Fails on lengths that do not fit, on formats that are only read, and on numbers that the format cannot hold.
pub fn encode(format: Format, x: &[f32], bytes: &mut [u8]) -> Result<()> {
    check_lengths("encode", format, x.len(), bytes.len())?;
    format.check_encodes()?;
    if let Some(at) = x.iter().position(|&x| !format.holds(x)) {
        let got = format!("{} at position {at}", x[at]);
        return Err(Error::value("encode", "x", got, format!("{format:?} does not hold that; write F32")));
    }
    let (values, size) = (format.task() * format.values(), format.task() * format.bytes());
    parallel::for_each(x.chunks(values).zip(bytes.chunks_mut(size)), |_, (x, bytes)| encode_blocks(format, x, bytes));
    Ok(())
}

/// [`encode`] on this thread, its arguments checked.
fn encode_blocks(format: Format, x: &[f32], bytes: &mut [u8]) {
    match format {
        Format::F32 => blocks(x, bytes, |[x], bytes| *bytes = x.to_le_bytes()),
        Format::F16 => float::f16_encode(x, bytes),
        Format::BF16 => blocks(x, bytes, float::bf16_encode),
        Format::Q4_0 => blocks(x, bytes, q4_0::encode),
        Format::Q8_0 => blocks(x, bytes, q8_0::encode),
        _ => unreachable!("refused before"),
    }
}

/// `x` = the numbers that `bytes` hold in `format`: the inverse of [`encode`], for every format. Any bytes are numbers,
/// though they may be NaN or infinite.
pub fn decode(format: Format, bytes: &[u8], x: &mut [f32]) -> Result<()> {
    check_lengths("decode", format, x.len(), bytes.len())?;
    let (values, size) = (format.task() * format.values(), format.task() * format.bytes());
    let isa = isa::current();
    if x.len() <= values {
        dispatch(isa, Decode { format, bytes, x });
        return Ok(()); // without a list of tasks
    }
    let tasks = bytes.chunks(size).zip(x.chunks_mut(values));
    parallel::for_each(tasks, |_, (bytes, x)| dispatch(isa, Decode { format, bytes, x }));
    Ok(())
}

/// Whole blocks on their way to numbers. Nothing is rounded, so all instruction sets give the same bits.
struct Decode<'a> {
    format: Format,
    bytes: &'a [u8],
    x: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        decode_blocks(self.format, self.bytes, self.x);
    }
}

/// `x` = consecutive numbers out of those that `bytes` hold, from the one with index `first` on.
pub fn decode_from(format: Format, bytes: &[u8], first: usize, mut x: &mut [f32]) -> Result<()> {
    let (values, size) = (format.values(), format.bytes());
    let there = bytes.len() / size * values;
    if first.checked_add(x.len()).is_none_or(|end| end > there) {
        return Err(Error::shape("decode", "x", [first, x.len()], format!("a part of {there} numbers")));
    }
    let mut last = [0.0; LARGEST_BLOCK];
    let mut block = |b: usize| {
        decode_blocks(format, &bytes[b * size..][..size], &mut last[..values]);
        last
    };
    let mut at = first / values;
    if !first.is_multiple_of(values) {
        let skip = first % values;
        let part = x.split_off_mut(..x.len().min(values - skip)).unwrap_or_default();
        part.copy_from_slice(&block(at)[skip..][..part.len()]);
        at += 1;
    }
    let whole = x.len() / values;
    let (middle, end) = x.split_at_mut(whole * values);
    if !end.is_empty() {
        end.copy_from_slice(&block(at + whole)[..end.len()]);
    }
    decode(format, &bytes[at * size..][..whole * size], middle)
}

/// [`decode`] on this thread, its arguments checked.
#[inline(always)]
fn decode_blocks(format: Format, bytes: &[u8], x: &mut [f32]) {
    match format {
        Format::F32 => blocks(bytes, x, |bytes, x| *x = [f32::from_le_bytes(*bytes)]),
        Format::F16 => float::f16_decode(bytes, x),
        Format::BF16 => blocks(bytes, x, float::bf16_decode),
        Format::Q4_0 => blocks(bytes, x, q4_0::decode),
        Format::Q4_1 => blocks(bytes, x, q4_1::decode),
        Format::Q5_0 => blocks(bytes, x, q5::decode_0),
        Format::Q5_1 => blocks(bytes, x, q5::decode_1),
        Format::Q8_0 => blocks(bytes, x, q8_0::decode),
        Format::Q2_K => blocks(bytes, x, k_small::decode_2),
        Format::Q3_K => blocks(bytes, x, k_small::decode_3),
        Format::Q4_K => blocks(bytes, x, k_quants::decode_4),
        Format::Q5_K => blocks(bytes, x, k_quants::decode_5),
        Format::Q6_K => blocks(bytes, x, k_quants::decode_6),
    }
}

fn check_lengths(op: &'static str, format: Format, values: usize, bytes: usize) -> Result<()> {
    if !values.is_multiple_of(format.values()) {
        let expected = format!("a multiple of {} values, a block of {format:?}", format.values());
        return Err(Error::shape(op, "x", [values], expected));
    }
    // Overflow is a length that no slice has.
    check::len(op, "bytes", bytes, (values / format.values()).saturating_mul(format.bytes()))
}

/// Converts block by block; the sizes of both sides come with the function that does one.
#[inline(always)]
fn blocks<A, B, const N: usize, const M: usize>(from: &[A], to: &mut [B], one: impl Fn(&[A; N], &mut [B; M])) {
    for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
        one(from, to);
    }
}

/// The float16 at `at`, where scales are.
#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
