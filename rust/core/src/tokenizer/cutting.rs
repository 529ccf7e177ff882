//! Where a text may be cut in two so that both parts can be encoded or counted on their own: between pieces, and never
//! within a special token or a string that is refused.

use super::pretokenize::Pretokenizer;
use super::pretokenize::scanner::floor_boundary;
use super::special::Matcher;
use std::ops::RangeInclusive;

/// The last of some places that is one, if any is: not within what one of `matchers` finds.
pub fn cut_within(
    split: &Pretokenizer,
    matchers: &[&Matcher],
    text: &str,
    places: RangeInclusive<usize>,
) -> Option<usize> {
    let (first, mut last) = places.into_inner();
    loop {
        let cut = split.cut(text, first..=last)?;
        match matchers.iter().find_map(|matcher| straddling(matcher, text, cut)) {
            None => return Some(cut),
            Some(start) => last = start,
        }
    }
}

/// Where to cut a long text: at the last place that `cut_before` finds up to `limit`, or else up to the first of its
/// doubles for which there is any, else at the end.
pub fn cut_near(text: &str, mut limit: usize, cut_before: impl Fn(usize) -> Option<usize>) -> usize {
    while limit < text.len() {
        if let Some(cut) = cut_before(limit) {
            return cut;
        }
        limit *= 2;
    }
    text.len()
}

/// The last such place in `text`, which is the beginning of a longer one. In its first `seen` bytes alone there was none.
pub fn last_cut(split: &Pretokenizer, matchers: &[&Matcher], text: &str, seen: usize) -> Option<usize> {
    // What begins before the cut has to be whole in `text` to be seen.
    let longest = matchers.iter().map(|matcher| matcher.longest()).max().unwrap_or(0);
    cut_within(split, matchers, text, seen.saturating_sub(longest)..=text.len().saturating_sub(longest))
}

/// Where a string begins that `cut` would cut in two.
fn straddling(matcher: &Matcher, text: &str, cut: usize) -> Option<usize> {
    let longest = matcher.longest();
    let mut at = floor_boundary(text, cut.saturating_sub(longest));
    let end = floor_boundary(text, cut + longest);
    while let Some((start, found, _)) = matcher.find(&text[..end], at) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::pretokenize::patterns::GPT4;

    #[test]
    fn a_special_token_is_never_cut() {
        let (split, specials) = (Pretokenizer::known(GPT4), Matcher::new([("a b c".to_string(), 0)]));
        let cut = |text| last_cut(&split, &[&specials], text, 0);
        assert_eq!(cut("x a b c y 12345"), Some(9));
        assert_eq!(cut("x a b c 123"), Some(1));
        assert_eq!(cut("x a b 123"), Some(3));
        assert_eq!(cut("x a b"), None);
        let other = Matcher::new([("c y".to_string(), 0)]);
        assert_eq!(cut("x a b c yyyyyy"), Some(7));
        assert_eq!(last_cut(&split, &[&specials, &other], "x a b c yyyyyy", 0), Some(1));
    }

    #[test]
    fn what_was_seen_is_not_looked_at_again() {
        let specials = Matcher::new([("b b".to_string(), 0), ("1 2\n".to_string(), 1)]);
        let text = "bbbb b bé1 2\n\nbé b\n12bb 1 2\nb'bb b b\n".repeat(3);
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for pattern in ["gpt2", "gpt4", "o200k", "[b]+"] {
            let split = Pretokenizer::from_argument(pattern, "test").unwrap();
            let cut = |text: &str, seen| last_cut(&split, &[&specials], text, seen);
            for (i, &from) in ends.iter().enumerate() {
                let mut seen = from;
                for &end in &ends[i..] {
                    let found = cut(&text[from..end], seen - from);
                    assert_eq!(found, cut(&text[from..end], 0), "{pattern} {from}..{end} {seen}");
                    if found.is_some() {
                        break;
                    }
                    seen = end;
                }
            }
        }
    }
}
