//! The word level: the most frequent words are entries, and so are single spaces and punctuation marks.

use super::bpe::words::Words;
use std::cmp::Reverse;

/// The most frequent of `counts` that fit `vocab_size` beside `reserved` special tokens, the most frequent first and
/// equally frequent ones in the order of their bytes. Words seen less than `min_frequency` times are left to `<unk>`.
pub fn most_frequent(counts: &Words, min_frequency: u64, vocab_size: usize, reserved: usize) -> Vec<Vec<u8>> {
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| *count >= min_frequency).collect();
    counts.sort_unstable_by(|a, b| (Reverse(a.1), a.0).cmp(&(Reverse(b.1), b.0)));
    counts.truncate(vocab_size - reserved);
    counts.into_iter().map(|(word, _)| word.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_first_and_ties_by_bytes() {
        let counts: Words = [("a", 2), ("b", 2), ("c", 3), ("d", 1)].into_iter().collect();
        assert_eq!(most_frequent(&counts, 1, 5, 2), [b"c", b"a", b"b"]);
        assert_eq!(most_frequent(&counts, 3, 5, 2), [b"c"]);
    }
}
