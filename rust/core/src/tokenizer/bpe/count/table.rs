//! Pieces and how often each was seen.

use crate::pages::prefer_huge;
use crate::simd::prefetch_line;
use crate::tokenizer::bpe::key::Key;
use bytemuck::Zeroable;
use rustc_hash::FxHashMap;

/// Places of a new table.
const SMALLEST: usize = 1 << 12;

/// A piece of up to [`Key::MOST`] bytes; a count of zero marks a free place.
#[derive(Clone, Copy, Zeroable)]
struct Place {
    key: Key,
    count: u64,
}

/// Counts by piece.
pub struct Table {
    /// Short pieces: open addressing with linear steps, at most half full.
    short: Box<[Place]>,
    used: usize,
    long: FxHashMap<Box<[u8]>, u64>,
    /// Bytes of the long pieces.
    long_bytes: usize,
}

impl Table {
    /// A table of nothing.
    pub fn new() -> Self {
        Table { short: places(SMALLEST), used: 0, long: FxHashMap::default(), long_bytes: 0 }
    }

    /// Memory that it takes, about.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.short) + self.long.capacity() * (size_of::<(Box<[u8]>, u64)>() + 1) + self.long_bytes
    }

    /// Fetches where `key` will be counted.
    #[inline(always)]
    pub fn ask(&self, key: Key) -> u32 {
        let at = key.hash() as usize & (self.short.len() - 1);
        prefetch_line(self.short.as_ptr().wrapping_add(at));
        at as u32
    }

    /// Counts a short piece `count` times; `at` is what [`Table::ask`] told, as long as the table has not grown since.
    #[inline(always)]
    pub fn add_short(&mut self, key: Key, mut at: usize, count: u64) {
        let mask = self.short.len() - 1;
        loop {
            let place = &mut self.short[at & mask];
            if place.key == key {
                place.count = place.count.saturating_add(count);
                return;
            }
            if place.count == 0 {
                *place = Place { key, count };
                self.used += 1;
                return;
            }
            at += 1;
        }
    }

    /// Makes room for some more pieces. What [`Table::ask`] told before is void if the table grows.
    #[inline]
    pub fn grow(&mut self, more: usize) {
        if 2 * (self.used + more) > self.short.len() {
            let larger = places(4 * self.short.len().max(more));
            let old = std::mem::replace(&mut self.short, larger);
            self.used = 0;
            for place in old.iter().filter(|place| place.count > 0) {
                self.add_short(place.key, place.key.hash() as usize, place.count);
            }
        }
    }

    /// Counts any piece `count` times.
    pub fn add(&mut self, piece: &[u8], count: u64) {
        if count == 0 {
            return;
        }
        match Key::of(piece) {
            Some(key) => {
                self.grow(1);
                self.add_short(key, key.hash() as usize, count);
            }
            None => match self.long.get_mut(piece) {
                Some(known) => *known = known.saturating_add(count),
                None => {
                    self.long_bytes += piece.len();
                    self.long.insert(piece.into(), count);
                }
            },
        }
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Table) {
        for place in other.short.iter().filter(|place| place.count > 0) {
            self.grow(1);
            self.add_short(place.key, place.key.hash() as usize, place.count);
        }
        other.long.iter().for_each(|(piece, &count)| self.add(piece, count));
    }

    /// Calls `each` with every piece and its count, sorted by the bytes of the piece.
    pub fn sorted<E>(&self, mut each: impl FnMut(&[u8], u64) -> Result<(), E>) -> Result<(), E> {
        let mut short: Vec<&Place> = self.short.iter().filter(|place| place.count > 0).collect();
        short.sort_unstable_by_key(|place| place.key.ordered());
        let mut long: Vec<(&[u8], u64)> = self.long.iter().map(|(piece, &count)| (&**piece, count)).collect();
        long.sort_unstable();
        let mut long = long.into_iter().peekable();
        let mut buffer = [0; 16];
        for place in short {
            let piece = place.key.bytes(&mut buffer);
            while let Some((piece, count)) = long.next_if(|(other, _)| *other < piece) {
                each(piece, count)?;
            }
            each(piece, place.count)?;
        }
        long.try_for_each(|(piece, count)| each(piece, count))
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.used + self.long.len()
    }
}

fn places(count: usize) -> Box<[Place]> {
    let mut places = bytemuck::zeroed_slice_box(count.next_power_of_two());
    prefer_huge(&mut places);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn listed(table: &Table) -> Vec<(Vec<u8>, u64)> {
        let mut all = Vec::new();
        table
            .sorted(|piece, count| -> Result<(), ()> {
                all.push((piece.to_vec(), count));
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn counts_are_those_of_a_map_and_sorted() {
        let piece = |i: u64| format!("{}{}", i * 7919 % 10_007, "x".repeat(i as usize % 23)).into_bytes();
        let (mut table, mut other, mut map) = (Table::new(), Table::new(), BTreeMap::new());
        for i in 0..30_000 {
            (if i % 3 == 0 { &mut table } else { &mut other }).add(&piece(i), i % 5);
            if i % 5 > 0 {
                *map.entry(piece(i)).or_insert(0) += i % 5;
            }
        }
        table.merge(&other);
        assert_eq!(table.len(), map.len());
        assert_eq!(listed(&table), map.into_iter().collect::<Vec<_>>());
        assert!(table.memory() > 1 << 16);
    }

    #[test]
    fn zeros_and_prefixes_are_in_order() {
        let mut table = Table::new();
        for piece in [&b"a\0"[..], b"a", b"a\0\0", b"", b"b", b"a-very-long-piece-of-text", b"a-very"] {
            table.add(piece, 1);
        }
        let pieces: Vec<_> = listed(&table).into_iter().map(|(piece, _)| piece).collect();
        let mut sorted = pieces.clone();
        sorted.sort();
        assert_eq!(pieces, sorted);
        assert_eq!(pieces.len(), 7);
    }
}
