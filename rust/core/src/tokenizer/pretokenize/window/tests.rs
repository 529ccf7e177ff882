//! Windows against the scanners, on every instruction set.

use super::super::patterns::tests::{border_text, scanned};
use super::super::patterns::{GPT4, Pattern};
use super::*;
use proptest::prelude::*;

const PATTERNS: [Pattern; 7] = [
    Pattern::Gpt2 { digits: false },
    Pattern::Gpt2 { digits: true },
    GPT4,
    Pattern::Gpt4 { digits: 3, trailing: false },
    Pattern::Gpt4 { digits: 2, trailing: false },
    Pattern::Gpt4 { digits: 1, trailing: false },
    Pattern::O200k,
];

fn found(scanner: Scanner, text: &str) -> Vec<&str> {
    let (mut at, mut ends, mut pieces) = (0, Ends::new(), Vec::new());
    while at < text.len() {
        let (first, mut start) = (at, at);
        at = scanner.find(text, at, &mut ends);
        for &end in ends.found() {
            pieces.push(&text[start..first + end as usize]);
            start = first + end as usize;
        }
        assert_eq!(start, at);
    }
    pieces
}

fn check(text: &str) {
    for isa in isa::available() {
        for pattern in PATTERNS {
            let scanner = Scanner::on(pattern, isa);
            assert_eq!(found(scanner, text), scanned(pattern, text), "{pattern:?} on {isa:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn windows_equal_scanners(parts in prop::collection::vec(border_text(), 1..6)) {
        check(&parts.concat());
    }

    #[test]
    fn plain_text_too(text in "[ -~\n\r\t]{0,200}", words in "([A-Za-z']{1,12}[ \n.,/0-9]{1,4}){0,40}") {
        check(&text);
        check(&words);
    }
}

#[test]
fn long_pieces_and_edges() {
    for len in [1, 59, 60, 61, 62, 63, 64, 65, 127, 128, 200] {
        for unit in ["a", " ", "\n", "1", "!", "'", "é", "中", "\u{301}", "😀", "\r\n", "/", "aB"] {
            for (before, after) in
                [("", ""), ("x", "y"), (" ", " "), ("!", "a"), ("\n", "\n"), ("中", "中"), ("'s", "'s")]
            {
                check(&format!("{before}{}{after}", unit.repeat(len)));
            }
        }
    }
}

#[test]
fn white_space_goes_on_in_the_next_window() {
    for before in 40..64 {
        for space in ["\n     ", "       ", "\n", " \n  \n "] {
            for after in ["\u{3000}\nx", "\u{3000}x", "\n\nx", " x", "\u{3000}", "中", "\u{3000}\u{3000}\n\n é"] {
                check(&format!("{}{space}{after}", "a".repeat(before)));
                check(&format!("{space}{after}"));
            }
        }
    }
}

#[test]
fn everything_that_is_short() {
    let atoms = ["!", "\u{301}", "a", "B", "'", " ", "中", "1", "\n", "s", "\u{3000}", "\u{661}"];
    for number in 0..12 * 12 * 12 * 12 {
        let parts = [1, 12, 144, 1728].map(|place| atoms[number / place % 12]);
        check(&parts.concat());
    }
}

#[test]
fn more_than_a_batch() {
    check(&"one two, 3 fours ".repeat(BATCH));
}

#[test]
fn contractions_after_contractions() {
    for text in
        ["a's's't", "I'll'll've", "it'S'Tx", "l'homme d'or", "'tis 'Twas", "a'sBC'reD", "a'ſb", "x's\u{301}y", "A'LLb"]
    {
        check(text);
    }
}
