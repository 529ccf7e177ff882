use super::super::pair;
use super::super::symbols::Settle;
use super::*;
use proptest::prelude::*;

/// Bytes a to d as tokens 0 to 3, and merges that make 4, 5, ….
fn toy(merges: &[(u32, u32)], ignore_merges: bool) -> (Bpe, Vocab) {
    let mut tokens: Vec<Vec<u8>> = b"abcd".iter().map(|&b| vec![b]).collect();
    for &(l, r) in merges {
        tokens.push([tokens[l as usize].clone(), tokens[r as usize].clone()].concat());
    }
    let listed: Vec<_> = merges.iter().zip(4..).map(|(&(l, r), made)| (pair(l, r), made)).collect();
    let entries: Vec<_> = tokens.into_iter().zip(0..).collect();
    let vocab = Vocab::new(&entries, &[], "test").unwrap();
    (Bpe::new(&listed, &vocab, ignore_merges), vocab)
}

fn encode((bpe, vocab): &(Bpe, Vocab), piece: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    Encoder::new(bpe, vocab).piece(piece, &mut out).unwrap();
    out
}

#[test]
fn lowest_rank_first_then_leftmost() {
    let bpe = toy(&[(1, 2), (0, 1), (5, 2)], false);
    // "abc": b+c has the lower rank, so "ab"+"c" is never reached, and the token "abc" neither.
    assert_eq!(encode(&bpe, b"abc"), [0, 4]);
    assert_eq!(encode(&bpe, b"abab"), [5, 5]);
    assert_eq!(encode(&toy(&[(0, 0)], false), b"aaa"), [4, 0]);
    assert_eq!(encode(&bpe, b""), Vec::<u32>::new());
    // Looked up whole, the token is reached.
    assert_eq!(encode(&toy(&[(1, 2), (0, 1), (5, 2)], true), b"abc"), [6]);
}

#[test]
fn a_byte_without_a_token_is_left_out() {
    assert_eq!(encode(&toy(&[(0, 1)], false), b"a\xffb"), [4]);
}

#[test]
fn a_long_token_among_ranks_is_no_square() {
    let mut entries: Vec<_> = (0..=255u8).map(|b| (vec![b], u32::from(b))).collect();
    entries.push((b"ab".to_vec(), 256));
    entries.push((b"abc".to_vec(), 257));
    entries.push((vec![b'x'; 4 << 20], 258));
    let vocab = Vocab::new(&entries, &[], "test").unwrap();
    let bpe = Bpe::from_ranks(&vocab);
    assert_eq!(bpe.merges(&vocab), [(97, 98), (256, 99)]);
    assert_eq!(encode(&(bpe, vocab), b"abcab"), [257, 256]);
}

#[test]
fn merges_are_given_back_in_rank_order() {
    let merges = [(1, 2), (0, 1), (5, 2)];
    let (bpe, vocab) = toy(&merges, false);
    assert_eq!(bpe.merges(&vocab), merges);
}

#[test]
fn every_way_to_make_a_token_of_two_is_found() {
    // There are no tokens of two bytes: seven are three and four.
    let mut entries: Vec<_> = (0..=255u8).map(|b| (vec![b], u32::from(b))).collect();
    entries.extend([("abc", 256), ("defg", 257), ("abcdefg", 258)].map(|(token, id)| (token.as_bytes().to_vec(), id)));
    let vocab = Vocab::new(&entries, &[], "test").unwrap();
    assert_eq!(Bpe::from_ranks(&vocab).merges(&vocab), [(256, 257)]);
}

#[test]
fn the_last_pair_is_what_all_other_merges_leave() {
    let tokens = ["a", "b", "c", "d", "e", "f", "cd", "ab", "abcd", "ef", "abcdef", "bc", "abce"];
    let entries: Vec<_> = tokens.iter().map(|token| token.as_bytes().to_vec()).zip(0..).collect();
    let vocab = Vocab::new(&entries, &[], "test").unwrap();
    let chars = Chars::new("abcdef".chars().zip(0..).collect(), Settle::After);
    let bpe = Bpe::from_scores((0..tokens.len() as u32).collect(), &vocab).over(chars);
    let pair = |token: &str| {
        let id = |of: u32| tokens[of as usize];
        bpe.last_pair(token, &vocab).map(|(left, right)| (id(left), id(right)))
    };
    assert_eq!(pair("abcdef"), Some(("abcd", "ef")));
    assert_eq!((pair("cd"), pair("a"), pair("abce")), (Some(("c", "d")), None, None), "of one or of three symbols");
}

#[test]
fn what_a_file_has_to_say_is_known() {
    let merges = [(1, 2), (0, 1)];
    for ignored in [false, true] {
        let (bpe, vocab) = toy(&merges, ignored);
        assert_eq!((bpe.ignores_merges(), bpe.makes_tokens_in_order(), bpe.goes_by_ranks()), (ignored, true, false));
        assert!(Bpe::from_ranks(&vocab).goes_by_ranks() && Bpe::from_ranks(&vocab).makes_tokens_in_order());
    }
    let (_, vocab) = toy(&merges, false);
    assert!(!Bpe::new(&[(pair(0, 1), 5), (pair(1, 2), 4)], &vocab, false).makes_tokens_in_order());
}

/// The rule, word for word.
fn naive(piece: &[u8], rank: impl Fn(&[u8]) -> Option<u32>) -> Vec<u32> {
    let mut parts: Vec<Vec<u8>> = piece.iter().map(|&b| vec![b]).collect();
    loop {
        let ranked = parts.windows(2).enumerate().filter_map(|(at, two)| Some((rank(&two.concat())?, at)));
        let Some((_, at)) = ranked.min() else { break };
        let right = parts.remove(at + 1);
        parts[at].extend(right);
    }
    parts.iter().map(|part| rank(part).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn all_ways_to_merge_by_rank_agree(
        extra in prop::collection::hash_set(prop::collection::vec(prop::sample::select(b"abc".to_vec()), 2..20), 0..30),
        piece in prop::collection::vec(prop::sample::select(b"abc".to_vec()), 1..120),
    ) {
        let mut entries: Vec<_> = (0..=255u8).map(|b| vec![b]).chain(extra).zip(0..).collect();
        entries.sort_by_key(|(bytes, _)| bytes.len());
        let entries: Vec<_> = entries.into_iter().zip(0..).map(|((bytes, _), id)| (bytes, id)).collect();
        let vocab = Vocab::new(&entries, &[], "test").unwrap();
        let bpe = Bpe::from_ranks(&vocab);
        let mut encoder = Encoder::new(&bpe, &vocab);
        for len in [1, 2, 3, 7, 14, 15, 16, 17, 47, 48, 49, 50, piece.len()] {
            let piece = &piece[..len.min(piece.len())];
            let expected = match vocab.ordinary(piece) {
                Some(id) => vec![id],
                None => naive(piece, |bytes| vocab.ordinary(bytes)),
            };
            // New, then remembered.
            for _ in 0..2 {
                let mut ids = Vec::new();
                encoder.piece(piece, &mut ids).unwrap();
                prop_assert_eq!(&ids, &expected);
            }
        }
    }

    #[test]
    fn merge_lists_of_all_lengths_agree(
        merges in prop::collection::hash_set((0u32..10, 0u32..10), 0..14),
        piece in prop::collection::vec(prop::sample::select(b"abcd".to_vec()), 2..120),
    ) {
        let mut made = 4;
        let mut seen = std::collections::HashSet::new();
        let mut tokens: Vec<Vec<u8>> = b"abcd".iter().map(|&b| vec![b]).collect();
        let valid: Vec<_> = merges.into_iter().filter(|&(l, r)| {
            if l >= made || r >= made { return false; }
            let joined = [tokens[l as usize].clone(), tokens[r as usize].clone()].concat();
            let new = seen.insert(joined.clone());
            if new { tokens.push(joined); made += 1; }
            new
        }).collect();
        let (bpe, vocab) = toy(&valid, false);
        let ranks: std::collections::HashMap<(u32, u32), u32> = valid.iter().copied().zip(4..).collect();
        // The whole at once, and by hand.
        let mut ids: Vec<u32> = piece.iter().map(|b| u32::from(b - b'a')).collect();
        while let Some((made, at)) = ids.windows(2).enumerate().filter_map(|(at, w)| Some((*ranks.get(&(w[0], w[1]))?, at))).min() {
            ids[at] = made;
            ids.remove(at + 1);
        }
        prop_assert_eq!(encode(&(bpe, vocab), &piece), ids);
    }
}

#[test]
fn text_by_batches_is_text_by_pieces() {
    use crate::tokenizer::pretokenize::patterns::Pattern;
    let words = ["a", " the", " longer-than-fifteen-bytes", "\n", " ünï", "0", "abcabcab"];
    let text: String = (0..5000usize).map(|i| words[i * i % 7]).collect();
    let mut entries: Vec<_> = (0..=255u8).map(|b| vec![b]).collect();
    entries.extend([" t", "th", "he", " the", "ab", "abc", "\u{fc}n"].map(|s| s.as_bytes().to_vec()));
    let entries: Vec<_> = entries.into_iter().zip(0..).collect();
    let vocab = Vocab::new(&entries, &[], "test").unwrap();
    let (bpe, other) = (Bpe::from_ranks(&vocab), Bpe::from_ranks(&vocab));
    let (mut ids, mut expected) = (Vec::new(), Vec::new());
    Encoder::new(&bpe, &vocab).text(Scanner::new(Pattern::O200k).unwrap(), &text, &mut ids, |_| Ok(())).unwrap();
    let mut single = Encoder::new(&other, &vocab);
    Pattern::O200k.for_each(&text, |piece| single.piece(piece.as_bytes(), &mut expected)).unwrap();
    assert_eq!(ids, expected);
    assert!(bpe.cache.bytes() > 0);
}
