//! Guesses change nothing but the number of passes.

use super::*;
use crate::model::session::{Part, Session, append_all};
use crate::model::speculation::{Count, Guess, Lookup, Speculation, draft};
use crate::progress;
use crate::sampling::Options;
use proptest::prelude::*;

/// Guesses what it was told, from wherever the text has come to, and something else where it was told nothing.
struct Told {
    text: Vec<u32>,
    wrong: usize,
}

impl Guess for Told {
    fn guess(&mut self, ids: &[u32], most: usize) -> crate::Result<Vec<u32>> {
        let mut guesses: Vec<u32> = self.text.iter().copied().skip(ids.len()).take(most).collect();
        if let Some(guess) = guesses.get_mut(self.wrong) {
            *guess = (*guess + 1) % 11;
        }
        Ok(guesses)
    }

    fn fork(&self) -> crate::Result<Box<dyn Guess>> {
        Ok(Box::new(Told { text: self.text.clone(), wrong: self.wrong }))
    }
}

/// Another model's guesses.
struct Drafted(Gpt, Session);

impl Guess for Drafted {
    fn guess(&mut self, ids: &[u32], most: usize) -> crate::Result<Vec<u32>> {
        draft(&self.0, &mut self.1, ids, most)
    }

    fn fork(&self) -> crate::Result<Box<dyn Guess>> {
        Ok(Box::new(Lookup { longest: 1 }))
    }
}

fn bits(session: &Session) -> Vec<u32> {
    session.logits().iter().map(|x| x.to_bits()).collect()
}

fn run(model: &Gpt, options: &Options, guess: Option<(Box<dyn Guess>, usize)>) -> (Vec<u32>, Vec<u32>, Count) {
    let mut session = Session::new(model).unwrap();
    session.speculate(guess.map(|(guess, tokens)| Speculation::new(guess, tokens).unwrap()));
    session.append(model, &[4, 2, 9, 4, 2]).unwrap();
    session.run(model, 60, options, &[], &mut progress::ignore).unwrap();
    (session.ids().to_vec(), bits(&session), session.guesses())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_text_is_the_same_whatever_is_guessed(seed in 0..99u64, tokens in 1..9usize, wrong in 0..9usize, cold in any::<bool>()) {
        let options = Options { seed, temperature: if cold { 0.0 } else { 1.0 }, ..Options::default() };
        // A block that the text outgrows, and one that it does not.
        for (config, block_size) in [(tiny(), 24), (modern(), 80), (gemma(), 80)] {
            let model = lively(Config { block_size, ..config });
            let (ids, last, count) = run(&model, &options, None);
            prop_assert_eq!(count, Count::default());
            let other = lively(Config { block_size: 40, ..modern() });
            let session = Session::new(&other).unwrap();
            let guesses: [Box<dyn Guess>; 4] = [
                Box::new(Lookup { longest: 2 }),
                Box::new(Told { text: ids.clone(), wrong }),
                Box::new(Told { text: vec![7; 99], wrong }),
                Box::new(Drafted(other, session)),
            ];
            for (which, guess) in guesses.into_iter().enumerate() {
                let (got, got_last, count) = run(&model, &options, Some((guess, tokens)));
                prop_assert!(got == ids && got_last == last, "guess {}", which);
                prop_assert!(count.right <= count.made);
                prop_assert!(which != 1 || wrong == 0 || block_size < 60 || count.right > 20, "{:?}", count);
            }
        }
    }
}

#[test]
fn a_model_guesses_itself_rightly() {
    let greedy = Options { temperature: 0.0, ..Options::default() };
    let make = || lively(Config { block_size: 90, ..modern() });
    let (model, twin) = (make(), make());
    let session = Session::new(&twin).unwrap();
    let (_, _, count) = run(&model, &greedy, Some((Box::new(Drafted(twin, session)), 4)));
    assert!(count.right >= 45 && count.made <= count.right + 8, "{count:?}");
}

#[test]
fn guesses_are_for_each_of_a_batch_its_own() {
    let model = lively(Config { block_size: 60, ..modern() });
    let text = some_ids(40, 11);
    let mut sessions: Vec<_> = (0..3).map(|_| Session::new(&model).unwrap()).collect();
    sessions[0].speculate(Some(Speculation::new(Box::new(Told { text: text.clone(), wrong: 2 }), 4).unwrap()));
    sessions[2].speculate(Some(Speculation::new(Box::new(Lookup { longest: 3 }), 2).unwrap()));
    for at in 0..text.len() {
        let mut parts: Vec<_> = sessions.iter_mut().map(|session| Part { session, new: &text[at..=at] }).collect();
        append_all(&model, &mut Arena::new(), &mut parts).unwrap();
        let mut alone = Session::new(&model).unwrap();
        alone.append(&model, &text[..=at]).unwrap();
        for session in &sessions {
            assert_eq!((session.ids(), bits(session)), (&text[..=at], bits(&alone)));
            let mut fork = session.fork().unwrap();
            fork.append(&model, &[3]).unwrap();
            assert_eq!(fork.ids().len(), at + 2);
        }
        let mut prefix = sessions[0].prefix(at).unwrap().unwrap();
        prefix.append(&model, &text[at..=at]).unwrap();
        assert_eq!(bits(&prefix), bits(&alone));
    }
    assert!(sessions[0].guesses().right > 10);
}

#[test]
fn what_came_last_is_looked_up() {
    let guess = |ids: &[u32], longest, most| Lookup { longest }.guess(ids, most).unwrap();
    assert_eq!(guess(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 3, 2), [9, 2]); // three alike before two
    assert_eq!(guess(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 2, 2), [8, 1]); // the newest two alike
    assert_eq!(guess(&[5, 5, 5], 2, 4), [5]);
    assert!(guess(&[1, 2, 3], 2, 4).is_empty() && guess(&[], 2, 4).is_empty() && guess(&[7], 2, 4).is_empty());
    assert!(Speculation::new(Box::new(Lookup { longest: 1 }), 0).is_err());
}
