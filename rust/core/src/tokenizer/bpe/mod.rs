//! Byte-pair encoding: applying merges, learning them, and remembering what they made.

mod batch;
pub mod cache;
pub mod count;
pub mod encode;
mod key;
mod merge;
mod pairs;
pub mod symbols;
pub mod tokens;
pub mod train;
pub mod words;

pub use encode::Bpe;

/// Two neighbouring tokens as one key.
#[inline]
pub fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The tokens of a key.
#[inline]
pub fn unpair(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}
