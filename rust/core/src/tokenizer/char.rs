//! The character level: every character of the corpus is an entry, in the order of code points.

use super::bpe::words::Words;
use crate::error::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;

/// The alphabet that `counts` (characters and how often) gives, with characters seen less than `min_frequency` times
/// left to `<unk>`. `reserved` entries are special tokens; together they must fit `vocab_size`, where one is given.
pub fn alphabet(
    counts: &Words,
    min_frequency: u64,
    vocab_size: Option<usize>,
    reserved: usize,
) -> Result<Vec<Vec<u8>>> {
    // UTF-8 sorts as code points do, and `counts` come sorted.
    let entries: Vec<Vec<u8>> =
        counts.iter().filter(|(_, count)| *count >= min_frequency).map(|(c, _)| c.to_vec()).collect();
    match vocab_size {
        Some(size) if entries.len() + reserved > size => Err(Error::value(
            "Tokenizer.train",
            "vocab_size",
            size,
            format!(
                "the text has {} different characters, with {reserved} special tokens {} entries: \
                 raise vocab_size to that, leave it out, or raise min_frequency",
                entries.len(),
                entries.len() + reserved
            ),
        )),
        _ => Ok(entries),
    }
}

/// The `most` most frequent characters of `counts` (pieces and how often), of equally frequent ones the smallest.
pub fn most_frequent(counts: &Words, min_frequency: u64, most: usize) -> FxHashSet<char> {
    let mut sums: FxHashMap<char, u64> = FxHashMap::default();
    for (piece, count) in counts.iter() {
        for c in String::from_utf8_lossy(piece).chars() {
            let sum = sums.entry(c).or_insert(0);
            *sum = sum.saturating_add(count);
        }
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum >= min_frequency).collect();
    sums.sort_unstable_by_key(|&(c, sum)| (Reverse(sum), c));
    sums.into_iter().take(most).map(|(c, _)| c).collect()
}

/// Whether all characters of a piece are among `chars`.
pub fn all_in(piece: &[u8], chars: &FxHashSet<char>) -> bool {
    String::from_utf8_lossy(piece).chars().all(|c| chars.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Words {
        [("a", 3), ("b", 1), ("é", 2)].into_iter().collect()
    }

    #[test]
    fn the_alphabet_is_whole_or_refused() {
        assert_eq!(alphabet(&counts(), 1, None, 2).unwrap().len(), 3);
        assert_eq!(alphabet(&counts(), 2, Some(5), 3).unwrap(), [b"a".to_vec(), "é".into()]);
        let error = alphabet(&counts(), 1, Some(4), 2).unwrap_err().to_string();
        assert!(error.contains("is 4") && error.contains("3 different") && error.contains("5 entries"), "{error}");
    }

    #[test]
    fn a_limited_alphabet_has_the_most_frequent_characters() {
        let words: Words = [("ab", 3), ("b", 1), ("cé", 3)].into_iter().collect();
        let chars = most_frequent(&words, 1, 2);
        assert!(chars.contains(&'b') && chars.contains(&'a') && chars.len() == 2);
        assert!(all_in(b"abba", &chars) && !all_in("aé".as_bytes(), &chars));
        assert_eq!(most_frequent(&words, 4, 9).len(), 1);
    }
}
