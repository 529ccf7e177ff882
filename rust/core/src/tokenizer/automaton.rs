//! Finding the leftmost, then longest, of strings that files name.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, StartKind};

/// Strings of more bytes than this together are found by states that list what follows, not by a table.
const TABLE: usize = 1 << 13;

/// An automaton for these strings. The quickest kind is a table that takes up to a kilobyte for each of their bytes: a
/// hostile file must not ask for gigabytes, so that it is left to the few short names that files have in earnest.
pub fn leftmost_longest<S: AsRef<str>>(strings: &[S], start: StartKind) -> AhoCorasick {
    let build = |kind| {
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest).start_kind(start).kind(kind);
        builder.build(strings.iter().map(|string| string.as_ref()))
    };
    let built = if strings.iter().map(|string| string.as_ref().len()).sum::<usize>() <= TABLE {
        build(None)
    } else {
        // The first is quicker, but has room for half a billion states only.
        build(Some(AhoCorasickKind::ContiguousNFA)).or_else(|_| build(Some(AhoCorasickKind::NoncontiguousNFA)))
    };
    built.expect("strings of a file are far from two billion states")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_get_no_table() {
        let kind = |len: usize| leftmost_longest(&["<a>".into(), "x".repeat(len)], StartKind::Unanchored).kind();
        assert_eq!(kind(100), AhoCorasickKind::DFA);
        assert_eq!(kind(TABLE), AhoCorasickKind::ContiguousNFA);
    }
}
