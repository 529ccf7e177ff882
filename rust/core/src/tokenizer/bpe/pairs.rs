//! Which pairs of tokens merge, in which order, into what: a merge list as a table.

use super::{pair, unpair};

/// What a pair becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Lower ranks merge first.
    pub rank: u32,
    /// The token.
    pub id: u32,
}

impl Merge {
    /// No merge.
    pub const NONE: Merge = Merge { rank: u32::MAX, id: u32::MAX };
}

/// Merges by their pair: open addressing with linear steps, at most half full.
#[derive(Debug)]
pub struct Pairs {
    /// Pair and merge; a rank of [`Merge::NONE`] marks a free place.
    places: Box<[(u64, Merge)]>,
    shift: u32,
}

impl Pairs {
    /// Pairs in rank order, each with the token it makes; of a pair that is there twice the later rank counts, as in
    /// `tokenizers`.
    pub fn new(merges: &[(u64, u32)]) -> Self {
        let places = (2 * merges.len()).next_power_of_two().max(2);
        let mut pairs =
            Pairs { places: vec![(0, Merge::NONE); places].into_boxed_slice(), shift: 64 - places.trailing_zeros() };
        let mask = places - 1;
        for (rank, &(pair, id)) in merges.iter().enumerate() {
            let mut at = pairs.first(pair);
            loop {
                let place = &mut pairs.places[at & mask];
                if place.1 == Merge::NONE || place.0 == pair {
                    *place = (pair, Merge { rank: rank as u32, id });
                    break;
                }
                at += 1;
            }
        }
        pairs
    }

    #[inline(always)]
    fn first(&self, pair: u64) -> usize {
        (super::key::fold(pair ^ 0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f) >> self.shift) as usize
    }

    /// What `left` and `right` become.
    #[inline(always)]
    pub fn get(&self, left: u32, right: u32) -> Merge {
        let wanted = pair(left, right);
        let mask = self.places.len() - 1;
        let mut at = self.first(wanted);
        loop {
            let (found, merge) = self.places[at & mask];
            if found == wanted || merge == Merge::NONE {
                return merge;
            }
            at += 1;
        }
    }

    /// The pairs in rank order.
    pub fn list(&self) -> Vec<(u32, u32)> {
        self.ranked().into_iter().map(|(pair, _)| unpair(pair)).collect()
    }

    /// Whether a token that is made earlier has a smaller id.
    pub fn makes_tokens_in_order(&self) -> bool {
        self.ranked().is_sorted_by_key(|(_, merge)| merge.id)
    }

    fn ranked(&self) -> Vec<(u64, Merge)> {
        let mut ranked: Vec<_> = self.places.iter().copied().filter(|(_, merge)| *merge != Merge::NONE).collect();
        ranked.sort_unstable_by_key(|(_, merge)| merge.rank);
        ranked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_and_listed_in_rank_order() {
        let merges: Vec<_> = (0..100u32).map(|i| (pair(i * 7 % 100, i), 1000 + i)).collect();
        let pairs = Pairs::new(&merges);
        for (rank, &(key, id)) in merges.iter().enumerate() {
            let (left, right) = unpair(key);
            assert_eq!(pairs.get(left, right), Merge { rank: rank as u32, id });
        }
        assert_eq!(pairs.get(5, 5000), Merge::NONE);
        assert_eq!(pairs.list(), merges.iter().map(|&(key, _)| unpair(key)).collect::<Vec<_>>());
        assert!(pairs.makes_tokens_in_order());
        assert!(!Pairs::new(&[(pair(0, 1), 5), (pair(1, 0), 4)]).makes_tokens_in_order());
        assert_eq!(Pairs::new(&[]).get(0, 0), Merge::NONE);
    }
}
