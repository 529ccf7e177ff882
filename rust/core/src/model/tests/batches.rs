//! Many sequences in one pass, prompts in pieces, beginnings that were read before: bit for bit as alone in one piece.

use super::*;
use crate::model::quantized::Kind;
use crate::model::session::{Part, Session, append_all, sample_all};
use crate::sampling::Options;
use proptest::prelude::*;

fn bits(session: &Session) -> Vec<u32> {
    session.logits().iter().map(|x| x.to_bits()).collect()
}

/// A session that has read `ids` in one piece.
fn alone(model: &Gpt, ids: &[u32]) -> Session {
    let mut session = Session::new(model).unwrap();
    session.append(model, ids).unwrap();
    session
}

/// The families, as they are and in few bits.
fn models(block_size: usize) -> Vec<Gpt> {
    let mut models: Vec<_> = [tiny(), modern(), gemma()].map(|config| lively(Config { block_size, ..config })).into();
    for kind in [Kind::Bfloat16, Kind::Int8, Kind::Int4] {
        let mut model = lively(Config { block_size, ..modern() });
        model.quantize(kind, true).unwrap();
        models.push(model);
    }
    models
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_sequence_in_a_batch_has_the_bits_that_it_has_alone(
        lengths in proptest::collection::vec(1..60usize, 1..6),
        cuts in proptest::collection::vec(0..23usize, 1..9),
    ) {
        for model in models(40) {
            let texts: Vec<_> = lengths.iter().enumerate().map(|(i, &n)| some_ids(n + i, 11)[i..].to_vec()).collect();
            let mut sessions: Vec<_> = texts.iter().map(|_| Session::new(&model).unwrap()).collect();
            let (mut arena, mut cuts) = (Arena::new(), cuts.iter().cycle());
            let mut idle = 0;
            while sessions.iter().zip(&texts).any(|(session, text)| session.ids().len() < text.len()) {
                let mut parts: Vec<_> = sessions
                    .iter_mut()
                    .zip(&texts)
                    .map(|(session, text)| {
                        let left = &text[session.ids().len()..];
                        // A text of zeros alone would never end.
                        let cut = cuts.next().map_or(1, |&cut| if idle > 9 { cut.max(1) } else { cut });
                        Part { session, new: &left[..cut.min(left.len())] }
                    })
                    .collect();
                append_all(&model, &mut arena, &mut parts).unwrap();
                idle += 1;
            }
            for (session, text) in sessions.iter().zip(&texts) {
                prop_assert_eq!(session.ids(), &text[..]);
                prop_assert_eq!(bits(session), bits(&alone(&model, text)), "{:?}", text.len());
            }
        }
    }

    #[test]
    fn what_follows_a_beginning_that_was_read_before_has_the_same_bits(kept in 0..30usize, more in 1..9usize) {
        for model in models(40) {
            let text = some_ids(30 + more, 11);
            let read = alone(&model, &text[..30]);
            let mut prefix = read.prefix(kept).unwrap().unwrap();
            prop_assert_eq!(prefix.ids(), &text[..kept]);
            prop_assert!(prefix.logits().is_empty());
            prefix.append(&model, &text[kept..]).unwrap();
            prop_assert_eq!(bits(&prefix), bits(&alone(&model, &text)));
        }
    }
}

#[test]
fn a_window_that_slid_has_no_beginning() {
    let model = lively(tiny());
    let session = alone(&model, &some_ids(9, 11)); // of a block of 7
    assert!(session.prefix(3).unwrap().is_none());
    let short = alone(&model, &some_ids(5, 11));
    assert!(short.prefix(6).unwrap().is_none() && short.prefix(5).unwrap().is_some());
}

#[test]
fn a_token_that_cannot_be_leaves_all_sequences_as_they_were() {
    let model = lively(tiny());
    let mut sessions = [alone(&model, &[1, 2]), alone(&model, &[3])];
    let before = sessions.each_ref().map(bits);
    let [first, second] = &mut sessions;
    let mut parts = [Part { session: first, new: &[4] }, Part { session: second, new: &[11] }];
    assert!(append_all(&model, &mut Arena::new(), &mut parts).is_err());
    assert_eq!(sessions.each_ref().map(bits), before);
    assert_eq!(sessions.each_ref().map(|session| session.ids().len()), [2, 1]);
}

#[test]
fn draws_together_are_those_alone() {
    let model = lively(tiny());
    let options: Vec<_> = (0..5).map(|seed| Options { seed, ..Options::default() }).collect();
    let mut sessions: Vec<_> = (0..5).map(|i| alone(&model, &[i, 3])).collect();
    let expected: Vec<_> = (0..5).map(|i| alone(&model, &[i, 3]).sample(&options[i as usize], None).unwrap()).collect();
    let empty = &mut Session::new(&model).unwrap();
    let mut draws: Vec<_> = sessions.iter_mut().zip(&options).map(|(s, o)| (s, o, None)).collect();
    draws.insert(2, (empty, &options[0], None));
    let mut drawn = sample_all(draws);
    assert!(drawn.remove(2).is_err());
    assert_eq!(drawn.into_iter().map(|id| id.unwrap()).collect::<Vec<_>>(), expected);
}
