use super::*;
use crate::tokenizer::pretokenize::patterns::{GPT4, Pattern};

fn counter(specials: &[&str], max_memory: Option<usize>) -> Counter {
    let specials = Matcher::new(specials.iter().map(|s| (s.to_string(), 0)));
    Counter::new(Pretokenizer::known(GPT4), specials, max_memory)
}

fn listed(counter: Counter) -> Vec<(String, u64)> {
    let (_, words, left_out) = counter.finish().unwrap();
    assert_eq!(left_out.pieces, 0);
    words.iter().map(|(piece, n)| (String::from_utf8(piece.to_vec()).unwrap(), n)).collect()
}

#[test]
fn pieces_are_counted_without_special_tokens() {
    let mut c = counter(&["<|x|>"], None);
    c.add(&["a b<|x|>a", " b b"]).unwrap();
    assert_eq!(listed(c), [(" b".to_string(), 3), ("a".to_string(), 2)]);
}

#[test]
fn tasks_are_cut_where_nothing_changes() {
    let text = "It's 12 o'clock,\n\n and <x y> all's well. ".repeat(20_000);
    let mut whole = counter(&["<x y>"], None);
    assert!(whole.tasks(&[&text]).len() > 2);
    let mut single = Table::new();
    whole.count(&[&text], &mut single).unwrap();
    whole.add(&[&text]).unwrap();
    let mut expected = Vec::new();
    single
        .sorted(|piece, n| -> Result<()> {
            expected.push((String::from_utf8(piece.to_vec()).unwrap(), n));
            Ok(())
        })
        .unwrap();
    assert_eq!(listed(whole), expected);
}

#[test]
fn a_pattern_with_and_without_windows_counts_alike() {
    let text = "a wörd, and 'tis the-word-that-is-longer-than-fifteen-bytes 12345 ".repeat(3000);
    let pattern = Pretokenizer::from_argument(&format!("(?:{})", GPT4.regex()), "test").unwrap();
    assert!(pattern.scanner().is_none());
    let mut general = Counter::new(pattern, Matcher::default(), None);
    let mut known = counter(&[], None);
    general.add(&[&text]).unwrap();
    known.add(&[&text]).unwrap();
    assert_eq!(listed(general), listed(known));
}

#[test]
fn a_text_without_a_place_to_cut_is_one_task() {
    let c = counter(&["a b c"], None);
    let nowhere = "中".repeat(1 << 18);
    assert_eq!(c.tasks(&[&nowhere]).len(), 1);
}

#[test]
fn little_memory_gives_the_same_counts_until_pieces_do_not_fit() {
    let block = |i: usize| -> String { (0..20_000).map(|k| format!("{:x} ", (i * 7 + k * k) % 60_000)).collect() };
    let count = |max_memory| {
        let mut c = Counter::new(Pretokenizer::known(Pattern::Words), Matcher::default(), max_memory);
        (0..20).for_each(|i| c.add(&[&block(i)]).unwrap());
        c
    };
    let small = count(Some(14 << 20));
    assert!(!small.runs.is_empty());
    let all = listed(count(None));
    assert_eq!(listed(small), all);
    let (_, words, left_out) = count(Some(4 << 20)).finish().unwrap();
    let kept: Vec<_> = words.iter().map(|(piece, n)| (String::from_utf8(piece.to_vec()).unwrap(), n)).collect();
    // The most frequent ones, of equally frequent ones the first.
    let least = kept.iter().map(|(_, n)| *n).min().unwrap();
    assert!(all.iter().filter(|(_, n)| *n > least).all(|word| kept.contains(word)));
    assert!(left_out.at_most <= least);
    assert_eq!(left_out.pieces as usize, all.len() - kept.len());
    assert!(left_out.pieces > 0 && words.bytes() <= (4 << 20) / LEARNING);
    let sum = |words: &[(String, u64)]| words.iter().map(|(_, n)| n).sum::<u64>();
    assert_eq!(left_out.occurrences, sum(&all) - sum(&kept));
}
