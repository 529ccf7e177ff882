//! The word level: the most frequent words are entries, and so are single spaces and punctuation marks.

use super::bpe::words::Words;
use crate::error::{Error, Result};
use std::cmp::Reverse;

/// The most frequent of `counts` that fit `vocab_size` beside `reserved` special tokens, the most frequent first and
/// equally frequent ones in the order of their bytes. Words seen less than `min_frequency` times are left to `<unk>`.
pub fn most_frequent(counts: &Words, min_frequency: u64, vocab_size: usize, reserved: usize) -> Result<Vec<Vec<u8>>> {
    if vocab_size <= reserved {
        return Err(Error::value(
            "Tokenizer.train",
            "vocab_size",
            vocab_size,
            format!("{reserved} special tokens and at least one word need {} or more", reserved + 1),
        ));
    }
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| *count >= min_frequency).collect();
    counts.sort_unstable_by(|a, b| (Reverse(a.1), a.0).cmp(&(Reverse(b.1), b.0)));
    counts.truncate(vocab_size - reserved);
    Ok(counts.into_iter().map(|(word, _)| word.to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_first_and_ties_by_bytes() {
        let counts: Words = [("a", 2), ("b", 2), ("c", 3), ("d", 1)].into_iter().collect();
        assert_eq!(most_frequent(&counts, 1, 5, 2).unwrap(), [b"c", b"a", b"b"]);
        assert_eq!(most_frequent(&counts, 3, 5, 2).unwrap(), [b"c"]);
        assert!(most_frequent(&counts, 1, 2, 2).unwrap_err().to_string().contains("3 or more"));
    }
}
