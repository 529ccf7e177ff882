//! How often each piece occurs in a corpus: cut, counted in parallel, added up.
//!
//! A document is cut into tasks at places where no pattern has a piece across (`Pretokenizer::cut`), so the counts are
//! those of the whole document, and are the same for any number of threads. Special tokens are cut out: what separates
//! documents is no text to learn from.

use crate::error::Result;
use crate::parallel;
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::scanner::floor_boundary;
use crate::tokenizer::special::Matcher;
use rustc_hash::FxHashMap;

/// Bytes that one task counts, about.
const TASK: usize = 1 << 18;

/// A corpus that is being counted.
pub struct Counter {
    split: Pretokenizer,
    specials: Matcher,
    counts: FxHashMap<Box<[u8]>, u64>,
    bytes: u64,
}

impl Counter {
    /// Counts the pieces that `split` cuts.
    pub fn new(split: Pretokenizer, specials: Matcher) -> Self {
        Counter { split, specials, counts: FxHashMap::default(), bytes: 0 }
    }

    /// Counts whole documents.
    pub fn add(&mut self, documents: &[&str]) -> Result<()> {
        let tasks = self.tasks(documents);
        let counted = parallel::collect(tasks.len(), |i| self.count(&tasks[i]));
        for counts in counted {
            for (piece, count) in counts? {
                match self.counts.get_mut(piece.as_bytes()) {
                    Some(known) => *known = known.saturating_add(count),
                    None => {
                        self.counts.insert(piece.as_bytes().into(), count);
                    }
                }
            }
        }
        self.bytes += documents.iter().map(|d| d.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Bytes of text so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where `text`, the beginning of a longer document, may be cut so that both parts can be counted on their own: the
    /// last such place.
    pub fn safe_cut(&self, text: &str) -> Option<usize> {
        // A special token that begins before the cut has to be whole in `text` to be seen.
        self.cut_before(text, text.len().saturating_sub(self.specials.longest()))
    }

    /// The pieces and their counts, sorted by their bytes.
    pub fn into_counts(self) -> Vec<(Box<[u8]>, u64)> {
        self.into_parts().1
    }

    /// What cut the pieces, and the pieces as [`Counter::into_counts`] gives them.
    pub fn into_parts(self) -> (Pretokenizer, Vec<(Box<[u8]>, u64)>) {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable();
        (self.split, counts)
    }

    /// Tasks of about [`TASK`] bytes: small documents together, large ones in parts.
    fn tasks<'t>(&self, documents: &[&'t str]) -> Vec<Vec<&'t str>> {
        let mut tasks = Vec::new();
        let (mut task, mut size) = (Vec::new(), 0);
        for &document in documents {
            let mut rest = document;
            while !rest.is_empty() {
                let cut = if rest.len() > TASK { self.cut_after(rest, TASK) } else { rest.len() };
                task.push(&rest[..cut]);
                size += cut;
                rest = &rest[cut..];
                if size >= TASK / 2 {
                    tasks.push(std::mem::take(&mut task));
                    size = 0;
                }
            }
        }
        if !task.is_empty() {
            tasks.push(task);
        }
        tasks
    }

    /// A safe cut at or before `limit`, else the first one that a doubled limit finds, else the end.
    fn cut_after(&self, text: &str, mut limit: usize) -> usize {
        while limit < text.len() {
            if let Some(cut) = self.cut_before(text, limit) {
                return cut;
            }
            limit *= 2;
        }
        text.len()
    }

    fn cut_before(&self, text: &str, mut limit: usize) -> Option<usize> {
        loop {
            let cut = self.split.cut(text, limit)?;
            match self.straddling(text, cut) {
                None => return Some(cut),
                Some(start) => limit = start,
            }
        }
    }

    /// Where a special token begins that `cut` would cut in two.
    fn straddling(&self, text: &str, cut: usize) -> Option<usize> {
        let longest = self.specials.longest();
        let mut at = floor_boundary(text, cut.saturating_sub(longest));
        let end = floor_boundary(text, cut + longest);
        while let Some((start, found, _)) = self.specials.find(&text[..end], at) {
            if start >= cut {
                break;
            }
            if start + found.len() > cut {
                return Some(start);
            }
            at = start + found.len();
        }
        None
    }

    fn count<'t>(&self, documents: &[&'t str]) -> Result<FxHashMap<&'t str, u64>> {
        let mut counts = FxHashMap::default();
        for document in documents {
            self.specials.split(
                document,
                &mut counts,
                |counts, text| {
                    self.split.for_each(text, |piece| {
                        *counts.entry(piece).or_insert(0) += 1;
                        Ok(())
                    })
                },
                |_, _| (),
            )?;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::pretokenize::patterns::GPT4;

    fn counter(specials: &[&str]) -> Counter {
        Counter::new(Pretokenizer::known(GPT4), Matcher::new(specials.iter().map(|s| (s.to_string(), 0))))
    }

    #[test]
    fn pieces_are_counted_without_special_tokens() {
        let mut c = counter(&["<|x|>"]);
        c.add(&["a b<|x|>a", " b b"]).unwrap();
        let counts: Vec<_> =
            c.into_counts().into_iter().map(|(p, n)| (String::from_utf8(p.to_vec()).unwrap(), n)).collect();
        assert_eq!(counts, [(" b".to_string(), 3), ("a".to_string(), 2)]);
    }

    #[test]
    fn tasks_are_cut_where_nothing_changes() {
        let text = "It's 12 o'clock,\n\n and <x y> all's well. ".repeat(20_000);
        let mut whole = counter(&["<x y>"]);
        let single = whole.count(&[&text]).unwrap();
        assert!(whole.tasks(&[&text]).len() > 2);
        whole.add(&[&text]).unwrap();
        let counts = whole.into_counts();
        assert_eq!(counts.len(), single.len());
        assert!(counts.iter().all(|(p, n)| single[std::str::from_utf8(p).unwrap()] == *n));
    }

    #[test]
    fn a_special_token_is_never_cut() {
        let c = counter(&["a b c"]);
        assert_eq!(c.safe_cut("x a b c y 12345"), Some(9));
        assert_eq!(c.safe_cut("x a b c 123"), Some(1));
        assert_eq!(c.safe_cut("x a b 123"), Some(3));
        assert_eq!(c.safe_cut("x a b"), None);
        let nowhere = "中".repeat(1 << 18);
        assert_eq!(c.tasks(&[&nowhere]).len(), 1);
    }
}
