//! Which keys a group of queries sees: position, window and document, tile by tile.

#[cfg(doc)]
use super::tile::QUERIES;
use super::tile::{HALVES, KEYS, SLICE};
use crate::simd::LANES;
use std::ops::Range;

/// Which keys a group of queries sees, tile by tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    /// The first query, counted in its head.
    pub first: usize,
    /// Its queries, at most [`QUERIES`].
    pub live: usize,
    /// The position of the first query: the last key that it sees.
    pub position: usize,
    /// Keys that a query sees, its own included; more than there are where there is no window.
    pub window: usize,
    /// The first key of each query's document, where there are documents; they never fall.
    pub starts: Option<&'a [u32]>,
}

impl Group<'_> {
    /// The first key that query `i` of the group sees. It never falls from one query to the next, so that the first of
    /// some queries sees what the others see of the past.
    fn low(&self, i: usize) -> usize {
        let low = (self.position + i + 1).saturating_sub(self.window);
        self.starts.map_or(low, |starts| low.max(starts[i] as usize))
    }

    /// The keys that some query sees.
    pub fn keys(&self) -> Range<usize> {
        self.low(0)..self.position + self.live
    }

    /// The tiles of keys that some query of half `half` sees; empty where the half has no queries.
    pub fn half_tiles(&self, half: usize) -> Range<usize> {
        let first = half * LANES;
        if first >= self.live {
            return 0..0;
        }
        let queries = first..self.live.min(first + LANES);
        let end = self.position + queries.end;
        self.low(first) / KEYS..end.div_ceil(KEYS)
    }

    /// The halves that see tile `tile`.
    pub fn halves(&self, tile: usize) -> Range<usize> {
        let sees = |half: usize| self.half_tiles(half).contains(&tile);
        let start = (0..HALVES).find(|&half| sees(half)).unwrap_or(HALVES);
        start..(start..HALVES).find(|&half| !sees(half)).unwrap_or(HALVES)
    }

    /// The keys of [`SLICE`] queries from `first` on, within the tiles of their half.
    pub fn slice_keys(&self, slice: usize) -> Range<usize> {
        let first = slice * SLICE;
        self.low(first)..self.position + self.live.min(first + SLICE)
    }

    /// What lanes of `half` do not see of `tile`; nothing where they see it all.
    pub fn hidden(&self, tile: usize, half: usize) -> Option<Hidden> {
        let at = self.position + half * LANES;
        let (first, last) = (tile * KEYS, tile * KEYS + KEYS - 1);
        let in_future = last > at;
        let out_of_window = first + self.window < at + LANES;
        let starts = self.starts.map(|starts| &starts[half * LANES..self.live.min((half + 1) * LANES)]);
        // Where the last query's document has begun, all have.
        let starts = starts.filter(|starts| starts.last().is_some_and(|&start| start as usize > first));
        (in_future || out_of_window || starts.is_some()).then(|| Hidden {
            offset: first as f32 - at as f32,
            window: self.window as f32,
            starts: starts.map(|starts| {
                // Lanes without a query do as the last one, so that each sees something.
                let mut firsts = [0.0; LANES];
                for (lane, first) in firsts.iter_mut().enumerate() {
                    *first = starts[lane.min(starts.len() - 1)] as f32 - at as f32;
                }
                firsts
            }),
        })
    }
}

/// What the lanes of a half do not see of a tile; places are counted from the first query of the half.
pub(super) struct Hidden {
    /// The first key of the tile.
    pub offset: f32,
    /// Keys that a query sees.
    pub window: f32,
    /// The first key of each lane's document, where one begins behind the tile's first key.
    pub starts: Option<[f32; LANES]>,
}
