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
            offset: distance(at, first),
            end: distance(at, first + self.window),
            starts: starts.map(|starts| {
                // Lanes without a query do as the last one, so that each sees something.
                let mut firsts = [0.0; LANES];
                for (lane, first) in firsts.iter_mut().enumerate() {
                    *first = distance(tile * KEYS, starts[lane.min(starts.len() - 1)] as usize);
                }
                firsts
            }),
        })
    }
}

/// What the lanes of a half do not see of a tile. Places are counted from near ones, so that float32 has them exactly
/// wherever a lane or a key of the tile is compared with them; of those far away the sign is all that counts.
pub(super) struct Hidden {
    /// The first key of the tile, from the position of the half's first query on.
    pub offset: f32,
    /// The first position that does not see this key any more, counted in the same way.
    pub end: f32,
    /// The first key of each lane's document, from the first key of the tile on, where one begins behind that.
    pub starts: Option<[f32; LANES]>,
}

/// How far `to` is behind `from`.
fn distance(from: usize, to: usize) -> f32 {
    if to < from { -((from - to) as f32) } else { (to - from) as f32 }
}

#[cfg(test)]
mod tests {
    use super::super::tile::QUERIES;
    use super::*;

    /// Places that float32 does not tell apart.
    const FAR: usize = 1 << 24;

    #[test]
    fn places_beyond_what_float32_counts_are_told_apart() {
        for position in [FAR - 3, FAR + 1, FAR + 3, 2 * FAR + 5] {
            for window in [1, 5, 3 * FAR] {
                let starts: Vec<u32> = (0..QUERIES).map(|i| (position + i / 3) as u32).collect();
                for starts in [None, Some(&starts[..])] {
                    let group = Group { first: 0, live: QUERIES, position, window, starts };
                    let tiles = group.half_tiles(0).start..group.half_tiles(HALVES - 1).end;
                    for tile in tiles.end.saturating_sub(4)..tiles.end {
                        for half in group.halves(tile) {
                            check(&group, tile, half);
                        }
                    }
                }
            }
        }
    }

    fn check(group: &Group<'_>, tile: usize, half: usize) {
        let hidden = group.hidden(tile, half);
        for lane in 0..LANES {
            let query = group.position + half * LANES + lane;
            for m in 0..KEYS {
                let (key, at) = (tile * KEYS + m, m as f32);
                let seen = hidden.as_ref().is_none_or(|hidden| {
                    let lane_at = lane as f32;
                    let later = hidden.starts.is_some_and(|starts| at < starts[lane]);
                    lane_at >= hidden.offset + at && lane_at < hidden.end + at && !later
                });
                let start = group.starts.map_or(0, |starts| starts[half * LANES + lane] as usize);
                let expected = key <= query && key + group.window > query && key >= start;
                assert_eq!(seen, expected, "key {key}, query {query}, window {}", group.window);
            }
        }
    }
}
