//! A short string of bytes in two registers: what tables of pieces and tokens are searched by.

/// Up to [`Key::MOST`] bytes, the last byte of `high` is their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
pub struct Key {
    /// The first eight bytes, zeros where there are fewer.
    pub low: u64,
    /// Seven more, and the length in the highest byte: never zero but for the empty string.
    pub high: u64,
}

/// The bytes that strings of each length have, as masks of `low` and `high`.
const MASKS: [(u64, u64); 16] = {
    let mut masks = [(0, 0); 16];
    let mut len = 1;
    while len < 16 {
        let mask = (1u128 << (8 * len)) - 1;
        masks[len] = (mask as u64, (mask >> 64) as u64);
        len += 1;
    }
    masks
};

impl Key {
    /// Longest string that fits.
    pub const MOST: usize = 15;

    /// The key of nothing.
    pub const NONE: Key = Key { low: u64::MAX, high: u64::MAX };

    /// The first `len` of 16 bytes; at most [`Key::MOST`].
    #[inline(always)]
    pub fn front(bytes: &[u8; 16], len: usize) -> Key {
        let (low, high) = MASKS[len & 15];
        let [a, b] = [&bytes[..8], &bytes[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap_or_default()));
        Key { low: a & low, high: b & high | (len as u64) << 56 }
    }

    /// The last [`Key::MOST`] of 16 bytes.
    #[inline(always)]
    pub fn back(bytes: &[u8; 16]) -> Key {
        let bytes = u128::from_le_bytes(*bytes) >> 8;
        Key { low: bytes as u64, high: (bytes >> 64) as u64 | (Key::MOST as u64) << 56 }
    }

    /// All of `bytes`, if they fit.
    #[inline]
    pub fn of(bytes: &[u8]) -> Option<Key> {
        if bytes.len() > Key::MOST {
            return None;
        }
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        Some(Key::front(&padded, bytes.len()))
    }

    /// The bytes, in a buffer.
    pub fn bytes(self, buffer: &mut [u8; 16]) -> &[u8] {
        *buffer = (u128::from(self.low) | u128::from(self.high) << 64).to_le_bytes();
        let len = usize::from(buffer[15]);
        &buffer[..len.min(Key::MOST)]
    }

    /// A number that orders keys as their bytes are ordered.
    pub fn ordered(self) -> u128 {
        (u128::from(self.low) | u128::from(self.high) << 64).swap_bytes() & !0xff | u128::from(self.high >> 56)
    }

    /// The bytes from `start` to `end`.
    #[inline(always)]
    pub fn part(self, start: usize, end: usize) -> Key {
        let (low, high) = MASKS[(end - start) & 15];
        let bytes = (u128::from(self.low) | u128::from(self.high) << 64) >> (8 * start);
        Key { low: bytes as u64 & low, high: (bytes >> 64) as u64 & high | ((end - start) as u64) << 56 }
    }

    /// The bytes at `at` and behind it.
    #[inline(always)]
    pub fn two(self, at: usize) -> u16 {
        ((u128::from(self.low) | u128::from(self.high) << 64) >> (8 * at)) as u16
    }

    /// A well mixed number; its upper half is the better one.
    #[inline(always)]
    pub fn hash(self) -> u64 {
        fold(self.low ^ 0x9e37_79b9_7f4a_7c15, self.high ^ 0xa076_1d64_78bd_642f)
    }
}

/// Both halves of a product on top of each other.
#[inline(always)]
pub fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A hash of more than [`Key::MOST`] bytes.
pub fn hash_long(bytes: &[u8]) -> u64 {
    let mix = |state: u64, chunk: &[u8; 16]| {
        let [low, high] = [&chunk[..8], &chunk[8..]].map(|h| u64::from_le_bytes(h.try_into().unwrap_or_default()));
        fold(state ^ low ^ 0x9e37_79b9_7f4a_7c15, high ^ state.rotate_left(32) ^ 0xa076_1d64_78bd_642f)
    };
    let (chunks, _) = bytes.as_chunks::<16>();
    let state = chunks.iter().fold(bytes.len() as u64, mix);
    // What is left over, and some of it again.
    bytes.last_chunk().map_or(state, |last| mix(state, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_bytes() {
        let texts = ["", "\0", "a", "a\0", "abcdefg", "abcdefgh", "abcdefgh\0", "abcdefgha", "abcdefghbbbbbbb", "b"];
        let ordered: Vec<u128> = texts.iter().map(|text| Key::of(text.as_bytes()).unwrap().ordered()).collect();
        assert!(ordered.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn parts_are_keys_of_parts() {
        let text = b"abcdefghijklmno";
        let key = Key::of(text).unwrap();
        for start in 0..15 {
            for end in start + 1..=15 {
                assert_eq!(Some(key.part(start, end)), Key::of(&text[start..end]));
            }
        }
        assert_eq!(Key::of(&[0; 16]), None);
        assert_ne!(Key::of(b"\0"), Key::of(b"\0\0"));
        assert_eq!(Key::back(b"_abcdefghijklmno"), key);
        assert_eq!(Key::front(b"abcdefghijklmnop", 3), Key::of(b"abc").unwrap());
    }

    #[test]
    fn hashes_of_long_strings_differ() {
        let texts: Vec<Vec<u8>> = (16..116).map(|n| vec![b'x'; n]).collect();
        let mut seen: Vec<_> = texts.iter().map(|t| hash_long(t)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}
