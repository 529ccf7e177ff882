//! The character level: every character of the corpus is an entry, in the order of code points.

use crate::error::{Error, Result};

/// The alphabet that `counts` (characters and how often) gives, with characters seen less than `min_frequency` times
/// left to `<unk>`. `reserved` entries are special tokens; together they must fit `vocab_size`, where one is given.
pub fn alphabet(
    counts: Vec<(Box<[u8]>, u64)>,
    min_frequency: u64,
    vocab_size: Option<usize>,
    reserved: usize,
) -> Result<Vec<Vec<u8>>> {
    // UTF-8 sorts as code points do, and `counts` come sorted.
    let entries: Vec<Vec<u8>> =
        counts.into_iter().filter(|(_, count)| *count >= min_frequency).map(|(c, _)| c.into_vec()).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Vec<(Box<[u8]>, u64)> {
        [("a", 3), ("b", 1), ("é", 2)].into_iter().map(|(c, n)| (c.as_bytes().into(), n)).collect()
    }

    #[test]
    fn the_alphabet_is_whole_or_refused() {
        assert_eq!(alphabet(counts(), 1, None, 2).unwrap().len(), 3);
        assert_eq!(alphabet(counts(), 2, Some(4), 2).unwrap(), [b"a".to_vec(), "é".into()]);
        let error = alphabet(counts(), 1, Some(4), 2).unwrap_err().to_string();
        assert!(error.contains("is 4") && error.contains("3 different") && error.contains("5 entries"), "{error}");
    }
}
