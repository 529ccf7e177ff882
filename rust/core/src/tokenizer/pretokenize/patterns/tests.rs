//! Scanners against the regular expressions they stand for, on the borders of their classes.

use super::*;
use fancy_regex::Regex;
use proptest::prelude::*;
use subgpt_testkit::texts::BORDERS;

const TIKTOKEN_GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";
const TIKTOKEN_GPT4: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";

pub(in super::super) fn scanned(pattern: Pattern, text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    pattern
        .for_each(text, |piece| {
            pieces.push(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
    pieces
}

fn matched<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    regex.find_iter(text).map(|m| m.unwrap().as_str()).collect()
}

/// All spellings with the pattern they should equal, tiktoken's own included.
fn spellings() -> Vec<(Regex, Pattern)> {
    let tiktokens = [(TIKTOKEN_GPT2, GPT2), (TIKTOKEN_GPT4, GPT4)];
    SPELLINGS.iter().chain(&tiktokens).map(|(regex, pattern)| (Regex::new(regex).unwrap(), *pattern)).collect()
}

/// Text that lives on the borders of the patterns' classes.
pub(in super::super) fn border_text() -> impl Strategy<Value = String> {
    let atoms = prop::sample::select(BORDERS);
    let any = any::<char>().prop_map(|c| c.to_string());
    prop::collection::vec(prop_oneof![6 => atoms.prop_map(str::to_string), 1 => any], 0..24)
        .prop_map(|parts| parts.concat())
}

#[test]
fn pieces_one_by_one_are_those_of_a_scan() {
    let text = "Whose 1984's\n\n  café_au lait?! 123456 ";
    for pattern in spellings_once().iter().map(|(_, pattern)| *pattern).chain([Pattern::Chars, Pattern::Words]) {
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let end = pattern.end_of_piece(&Text::new(text), at);
            pieces.push(&text[at..end]);
            at = end;
        }
        assert_eq!(pieces, scanned(pattern, text), "{pattern:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn scanners_equal_the_regular_expressions(text in border_text()) {
        for (regex, pattern) in spellings_once() {
            prop_assert_eq!(scanned(*pattern, &text), matched(regex, &text), "{:?}", pattern);
        }
    }

    #[test]
    fn a_safe_cut_changes_no_piece(text in border_text(), limit in 0usize..80) {
        let digits_first = Pattern::Gpt2 { digits: true };
        for pattern in spellings_once().iter().map(|(_, pattern)| *pattern).chain([digits_first]) {
            if let Some(cut) = pattern.safe_cut(&text, 0..=limit.min(text.len())) {
                let halves = [scanned(pattern, &text[..cut]), scanned(pattern, &text[cut..])].concat();
                prop_assert_eq!(scanned(pattern, &text), halves, "{:?} cut at {}", pattern, cut);
                // Places before the first that is asked for are not looked at.
                prop_assert_eq!(pattern.safe_cut(&text, cut..=limit.min(text.len())), Some(cut));
                prop_assert_eq!(pattern.safe_cut(&text, cut + 1..=limit.min(text.len())), None);
            }
        }
    }
}

fn spellings_once() -> &'static [(Regex, Pattern)] {
    static ONCE: std::sync::LazyLock<Vec<(Regex, Pattern)>> = std::sync::LazyLock::new(spellings);
    &ONCE
}

#[test]
fn every_pattern_has_one_spelling_that_names_it() {
    for (spelling, pattern) in SPELLINGS {
        assert_eq!(Pattern::from_regex(spelling), Some(*pattern));
        assert_eq!(Pattern::from_regex(pattern.regex()), Some(*pattern));
    }
}

#[test]
fn pieces_of_an_english_sentence() {
    assert_eq!(scanned(GPT2, "I'll  be 123 !?\n x"), ["I", "'ll", " ", " be", " 123", " !?", "\n", " x"]);
    assert_eq!(scanned(GPT4, "I'LL be 12345\n\n  x"), ["I", "'LL", " be", " ", "123", "45", "\n\n", " ", " x"]);
    assert_eq!(scanned(Pattern::O200k, "HelloWorld isn't"), ["Hello", "World", " isn't"]);
    assert_eq!(scanned(Pattern::Words, "don't  stop_1!"), ["don", "'", "t", " ", " ", "stop_1", "!"]);
}
