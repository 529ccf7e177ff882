//! Where a text may be cut in two so that both parts can be encoded or counted on their own: between pieces, and never
//! within a special token.

use super::pretokenize::Pretokenizer;
use super::pretokenize::scanner::floor_boundary;
use super::special::Matcher;

/// The last such place at or before `limit`, if there is one.
pub fn cut_before(split: &Pretokenizer, specials: &Matcher, text: &str, mut limit: usize) -> Option<usize> {
    loop {
        let cut = split.cut(text, limit)?;
        match straddling(specials, text, cut) {
            None => return Some(cut),
            Some(start) => limit = start,
        }
    }
}

/// Where to cut a long text: where `cut_before` says for `limit`, else for the first of its doubles for which it says
/// anything, else at the end.
pub fn cut_near(text: &str, mut limit: usize, cut_before: impl Fn(usize) -> Option<usize>) -> usize {
    while limit < text.len() {
        if let Some(cut) = cut_before(limit) {
            return cut;
        }
        limit *= 2;
    }
    text.len()
}

/// The last such place in `text`, which is the beginning of a longer one.
pub fn last_cut(split: &Pretokenizer, specials: &Matcher, text: &str) -> Option<usize> {
    // A special token that begins before the cut has to be whole in `text` to be seen.
    cut_before(split, specials, text, text.len().saturating_sub(specials.longest()))
}

/// Where a special token begins that `cut` would cut in two.
fn straddling(specials: &Matcher, text: &str, cut: usize) -> Option<usize> {
    let longest = specials.longest();
    let mut at = floor_boundary(text, cut.saturating_sub(longest));
    let end = floor_boundary(text, cut + longest);
    while let Some((start, found, _)) = specials.find(&text[..end], at) {
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
        let cut = |text| last_cut(&split, &specials, text);
        assert_eq!(cut("x a b c y 12345"), Some(9));
        assert_eq!(cut("x a b c 123"), Some(1));
        assert_eq!(cut("x a b 123"), Some(3));
        assert_eq!(cut("x a b"), None);
    }
}
