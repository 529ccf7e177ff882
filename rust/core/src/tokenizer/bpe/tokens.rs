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
    /// Tokens of up to [`Key::MOST`] bytes: open addressing with linear steps, at most half full.
    short: Box<[Place]>,
    /// How far a hash is shifted to give a place.
    shift: u32,
    long: FxHashMap<Box<[u8]>, u32>,
    longest: usize,
}

/// A token of up to [`Key::MOST`] bytes; a length of zero marks a free place.
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
        let mut table = Tokens { short, shift: 64 - places.trailing_zeros(), long: FxHashMap::default(), longest: 0 };
        let mut lookahead = tokens.iter().skip(AHEAD);
        for (at, (bytes, id)) in tokens.iter().enumerate() {
            // Places are far apart in memory: a table of a vocabulary waits for nothing else.
            if let Some(key) = lookahead.next().and_then(|(bytes, _)| Key::of(bytes.as_ref())) {
                prefetch_line(table.short.as_ptr().wrapping_add(table.place(key)));
            }
            if let Some(known) = table.insert(bytes.as_ref(), *id) {
                let first = tokens.iter().position(|(_, id)| *id == known);
                return Err((first.unwrap_or(at), at));
            }
        }
        Ok(table)
    }

    #[inline(always)]
    fn place(&self, key: Key) -> usize {
        (key.hash() >> self.shift) as usize
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
        let mask = self.short.len() - 1;
        let mut at = self.place(key);
        loop {
            let place = &mut self.short[at & mask];
            if place.key == key {
                return Some(place.id);
            }
            if place.key.high == 0 {
                *place = Place { key, id };
                return None;
            }
            at += 1;
        }
    }

    /// The token of a short string.
    #[inline(always)]
    pub fn short(&self, key: Key) -> Option<u32> {
        let mask = self.short.len().wrapping_sub(1);
        let mut at = self.place(key);
        loop {
            let &Place { key: found, id } = self.short.get(at & mask)?;
            if found.high == 0 {
                return None;
            }
            if found == key {
                return Some(id);
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
        assert_eq!((tokens.get(b""), tokens.get(b"x"), tokens.get(&[9; 16]), tokens.get(&[9; 99])), (None, None, None, None));
        assert_eq!(Tokens::default().get(b"a"), None);
    }
}
