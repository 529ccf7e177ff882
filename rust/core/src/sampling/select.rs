//! The largest of many without sorting them: each function passes over a vocabulary once or twice.

use std::cmp::Ordering;

/// The place of the largest score, the first of equals.
pub fn largest<T: Copy + PartialOrd>(scores: &[T]) -> usize {
    let mut best = 0;
    for (i, x) in scores.iter().enumerate() {
        if *x > scores[best] {
            best = i;
        }
    }
    best
}

/// The `k`-th largest score; `k` is at least 1 and at most their number.
///
/// A list of at most 2k scores is cut back to the k largest whenever it is full; after a while hardly any score is larger
/// than what those are, and the pass is one comparison a score.
pub fn kth_largest<T: Copy + Into<f64>>(scores: &[T], k: usize) -> f64 {
    let mut kept: Vec<f64> = Vec::with_capacity((2 * k).min(scores.len()));
    let mut least = f64::NEG_INFINITY;
    let cut = |kept: &mut Vec<f64>| *kept.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
    for &score in scores {
        let score = score.into();
        if kept.len() < k || score > least {
            kept.push(score);
            if kept.len() == 2 * k {
                least = cut(&mut kept);
                kept.truncate(k);
            }
        }
    }
    cut(&mut kept)
}

/// The ids of the `n` largest scores that are not -inf, the largest first, of equals the smallest id first.
pub fn top<T: Copy + Into<f64>>(scores: &[T], n: usize) -> Vec<(u32, f64)> {
    let n = n.min(scores.len());
    if n == 0 {
        return Vec::new();
    }
    let least = kth_largest(scores, n);
    let all = scores.iter().enumerate().map(|(id, &score)| (id as u32, score.into()));
    let mut found: Vec<(u32, f64)> = all.filter(|(_, x)| *x >= least && *x > f64::NEG_INFINITY).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable, so ids stay in order
    found.truncate(n);
    found
}

/// One of a set that is taken in the order of `key`, then of `place`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The smaller, the sooner it is taken.
    pub key: f64,
    /// Its probability.
    pub prob: f64,
    /// Where it was found.
    pub place: usize,
}

impl Ranked {
    /// Whether it is taken before `other`, after it, or is the same.
    pub fn order(&self, other: &Ranked) -> Ordering {
        self.key.total_cmp(&other.key).then(self.place.cmp(&other.place))
    }
}

/// The last that is taken of `all`, at least one, until their probabilities reach `mass`.
///
/// One pass adds up the probabilities of keys that begin with the same bits, which are in order as the keys are; a second
/// one collects those among which the mass is reached. So no more than these few are put in order.
pub fn last_to_reach(all: impl Iterator<Item = Ranked> + Clone, mass: f64) -> Ranked {
    let (mut masses, mut last) = (vec![0.0; BUCKETS], 0);
    for one in all.clone() {
        let bucket = bucket(one.key);
        masses[bucket] += one.prob;
        last = last.max(bucket);
    }
    let (mut at, mut reached) = (0, 0.0);
    while at < last && reached + masses[at] < mass {
        reached += masses[at];
        at += 1;
    }
    search(&mut all.filter(|one| bucket(one.key) == at).collect::<Vec<_>>(), reached, mass)
}

/// One for each beginning of 16 bits: sign, exponent and a sixteenth of the numbers that share them.
const BUCKETS: usize = 1 << 16;

/// The leading bits of a key as a number that grows with it.
fn bucket(key: f64) -> usize {
    let bits = key.to_bits();
    let ordered = if key.is_sign_negative() { !bits } else { bits | 1 << 63 };
    (ordered >> 48) as usize
}

/// The same by a binary search that selects, with what was `reached` before: each step halves what is looked at.
fn search(all: &mut [Ranked], mut reached: f64, mass: f64) -> Ranked {
    let (mut low, mut high) = (0, all.len());
    while high - low > 1 {
        let half = (high - low) / 2;
        all[low..high].select_nth_unstable_by(half, Ranked::order);
        let sum: f64 = all[low..low + half].iter().map(|one| one.prob).sum();
        if reached + sum >= mass {
            high = low + half;
        } else {
            reached += sum;
            low += half;
        }
    }
    all[low]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranked(probs: &[f64]) -> Vec<Ranked> {
        probs.iter().enumerate().map(|(place, &prob)| Ranked { key: -prob, prob, place }).collect()
    }

    proptest! {
        #[test]
        fn selecting_gives_what_sorting_gives(scores in prop::collection::vec(-4i16..4, 1..200), k in 1usize..220) {
            let scores: Vec<f32> = scores.into_iter().map(f32::from).collect();
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            prop_assert_eq!(largest(&scores), order[0]);
            if k <= scores.len() {
                prop_assert_eq!(kth_largest(&scores, k), f64::from(scores[order[k - 1]]));
            }
            let ids: Vec<usize> = top(&scores, k).iter().map(|one| one.0 as usize).collect();
            prop_assert_eq!(&ids[..], &order[..k.min(scores.len())]);
        }

        #[test]
        fn the_last_to_reach_a_mass_is_that_of_a_sorted_list(counts in prop::collection::vec(0u8..9, 1..80), share in 1u32..=64) {
            // Whole numbers, so that sums in any order are exact.
            let probs: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let mass = f64::from(share) / 64.0 * probs.iter().sum::<f64>();
            prop_assume!(mass > 0.0);
            let mut sorted = ranked(&probs);
            sorted.sort_by(Ranked::order);
            let mut reached = 0.0;
            let expected = sorted.iter().find(|one| { reached += one.prob; reached >= mass }).unwrap();
            prop_assert_eq!(last_to_reach(ranked(&probs).into_iter(), mass), *expected);
            prop_assert_eq!(search(&mut ranked(&probs), 0.0, mass), *expected);
        }
    }

    #[test]
    fn a_mass_that_rounding_keeps_out_of_reach_takes_all() {
        let all = ranked(&[0.25, 0.5]);
        assert_eq!(last_to_reach(all.clone().into_iter(), 0.75 + f64::EPSILON), all[0]);
        let spread = |key: f64| Ranked { key, prob: 0.1, place: 0 };
        let all = [-f64::MAX, f64::MAX].map(spread);
        assert_eq!(last_to_reach(all.into_iter(), 1.0), all[1]);
    }

    #[test]
    fn buckets_are_in_the_order_of_keys() {
        let keys = [f64::NEG_INFINITY, -2.0, -1.0, -1e-300, -0.0, 0.0, 1e-300, 0.5, 1.0, 3.0, f64::INFINITY];
        assert!(keys.windows(2).all(|two| bucket(two[0]) < bucket(two[1])));
        assert!(bucket(f64::INFINITY) < BUCKETS);
    }

    #[test]
    fn what_is_ruled_out_is_not_among_the_largest() {
        assert_eq!(top(&[f64::NEG_INFINITY, 1.0, f64::NEG_INFINITY], 3), [(1, 1.0)]);
        assert_eq!(top(&[1.0f32], 0), []);
    }
}
