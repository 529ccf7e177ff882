//! Bytes to token, for every token there is: the table that whole pieces and tiktoken's merges are looked up in.

use super::key::Key;
use crate::pages::prefer_huge;
use crate::simd::prefetch_line;
use bytemuck::Zeroable;
use rustc_hash::FxHashMap;

/// How many tokens ahead memory is asked for while a table is filled.
const AHEAD: usize = 16;

/// Tokens by their bytes.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Tokens of two bytes, by these as a number: where every merge begins. One more than the id, 0 for none.
    two: Box<[u32]>,
    /// A byte for each place of `short`, 0 where it is free: most of what is looked up is not there, and this is small
    /// enough to tell so from a near cache.
    tags: Box<[u8]>,
    /// Tokens of up to [`Key::MOST`] bytes: open addressing with linear steps, at most half full.
    short: Box<[Place]>,
    /// How far a hash is shifted to give a place.
    shift: u32,
    long: FxHashMap<Box<[u8]>, u32>,
    longest: usize,
}

/// A token of up to [`Key::MOST`] bytes.
#[derive(Clone, Copy, Debug, Zeroable)]
struct Place {
    key: Key,
    id: u32,
}

impl Tokens {
    /// A table of `tokens`. Of two with the same bytes, the places in `tokens` are the error.
    pub fn new<B: AsRef<[u8]>>(tokens: &[(B, u32)]) -> std::result::Result<Self, (usize, usize)> {
        let places = (2 * tokens.len()).next_power_of_two().max(2);
        let mut short: Box<[Place]> = bytemuck::zeroed_slice_box(places);
        prefer_huge(&mut short);
        let mut table = Tokens {
            two: bytemuck::zeroed_slice_box(1 << 16),
            tags: bytemuck::zeroed_slice_box(places),
            short,
            shift: 64 - places.trailing_zeros(),
            long: FxHashMap::default(),
            longest: 0,
        };
        let mut lookahead = tokens.iter().skip(AHEAD);
        for (at, (bytes, id)) in tokens.iter().enumerate() {
            // Places are far apart in memory: a table of a vocabulary waits for nothing else.
            if let Some(key) = lookahead.next().and_then(|(bytes, _)| Key::of(bytes.as_ref())) {
                let place = (key.hash() >> table.shift) as usize;
                prefetch_line(table.short.as_ptr().wrapping_add(place));
            }
            if let Some(known) = table.insert(bytes.as_ref(), *id) {
                let first = tokens.iter().position(|(_, id)| *id == known);
                return Err((first.unwrap_or(at), at));
            }
        }
        Ok(table)
    }

    /// Adds a token; one that has the same bytes already stays, and is returned.
    fn insert(&mut self, bytes: &[u8], id: u32) -> Option<u32> {
        self.longest = self.longest.max(bytes.len());
        let Some(key) = Key::of(bytes) else {
            return self.long.insert(bytes.into(), id);
        };
        if bytes.is_empty() {
            return None;
        }
        if let &[first, second] = bytes
            && let Some(two) = self.two.get_mut(usize::from(u16::from_le_bytes([first, second])))
        {
            *two = id.wrapping_add(1);
        }
        let (hash, mask) = (key.hash(), self.short.len() - 1);
        let mut at = (hash >> self.shift) as usize;
        while self.tags[at & mask] != 0 {
            let place = &self.short[at & mask];
            if place.key == key {
                return Some(place.id);
            }
            at += 1;
        }
        self.tags[at & mask] = tag(hash);
        self.short[at & mask] = Place { key, id };
        None
    }

    /// The token of two bytes.
    #[inline(always)]
    pub fn two(&self, bytes: u16) -> Option<u32> {
        self.two.get(usize::from(bytes))?.checked_sub(1)
    }

    /// The token of a short string.
    #[inline(always)]
    pub fn short(&self, key: Key) -> Option<u32> {
        let (hash, mask) = (key.hash(), self.tags.len().wrapping_sub(1));
        let wanted = tag(hash);
        let mut at = (hash >> self.shift) as usize;
        loop {
            let found = *self.tags.get(at & mask)?;
            if found == wanted && self.short[at & mask].key == key {
                return Some(self.short[at & mask].id);
            }
            if found == 0 {
                return None;
            }
            at += 1;
        }
    }

    /// The token of a string of any length.
    #[inline]
    pub fn get(&self, bytes: &[u8]) -> Option<u32> {
        match Key::of(bytes) {
            Some(key) => self.short(key),
            None if bytes.len() > self.longest => None,
            None => self.long.get(bytes).copied(),
        }
    }
}

/// A byte of a hash that places do not depend on; never 0.
#[inline(always)]
fn tag(hash: u64) -> u8 {
    hash as u8 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_tokens_are_found() {
        let texts: Vec<Vec<u8>> = (0..40).map(|n| (0..n).collect()).collect();
        let listed: Vec<_> = texts.iter().zip(0..).collect();
        let tokens = Tokens::new(&listed).unwrap();
        for (id, text) in texts.iter().enumerate().skip(1) {
            assert_eq!(tokens.get(text), Some(id as u32));
            let twice = [(&texts[1], 7), (&texts[0], 8), (text, 9)];
            assert_eq!(Tokens::new(&twice).err(), (id == 1).then_some((0, 2)));
        }
        assert_eq!(
            (tokens.get(b""), tokens.get(b"x"), tokens.get(&[9; 16]), tokens.get(&[9; 99])),
            (None, None, None, None)
        );
        assert_eq!(Tokens::default().get(b"a"), None);
    }
}
