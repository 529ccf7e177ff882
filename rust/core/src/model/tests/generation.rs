//! With a cache, token by token and window by window: as without.

use super::*;
use crate::model::adapter::spec::{Module, Spec};
use crate::model::quantized::Kind;
use crate::model::rows::{Labels, Rows};
use crate::model::session::Session;
use crate::progress;
use crate::sampling::Options;
use subgpt_testkit::gradcheck::{assert_close, wide};

#[test]
fn a_cached_decode_equals_the_whole_forward() {
    for config in [tiny(), modern(), gemma()] {
        let model = lively(Config { block_size: 24, ..config });
        let ids = some_ids(24, 11);
        let whole = model.forward(&mut Arena::new(), Rows::new(&ids, 1, 24)).unwrap();
        for chunk in [1, 2, 5, 24] {
            let mut session = Session::new(&model).unwrap();
            let mut seen = 0;
            for new in ids.chunks(chunk) {
                session.append(&model, new).unwrap();
                seen += new.len();
                assert_close("logits", session.logits(), &wide(&whole[(seen - 1) * 11..seen * 11]), 1e-5);
            }
            assert_eq!(session.ids(), ids);
        }
    }
}

#[test]
fn the_cache_grows_with_the_sequence() {
    for config in [tiny(), gemma()] {
        let model = lively(Config { block_size: 300, ..config });
        let ids = some_ids(290, 11);
        let mut session = Session::new(&model).unwrap();
        for new in [&ids[..1], &ids[1..70], &ids[70..150], &ids[150..151], &ids[151..]] {
            session.append(&model, new).unwrap();
        }
        let whole = model.last_logits(&mut Arena::new(), &ids).unwrap();
        assert_close("logits", session.logits(), &wide(&whole), 1e-5);
    }
}

#[test]
fn a_layer_with_a_window_keeps_little_more_than_that() {
    let windowed = lively(Config { block_size: 1000, layer_types: None, sliding_window: Some(40), ..gemma() });
    let full = lively(Config { sliding_window: None, ..windowed.config.clone() });
    let ids = some_ids(700, 11);
    let read = |model: &Gpt, chunks: &[usize]| {
        let (mut session, mut rest) = (Session::new(model).unwrap(), &ids[..]);
        for &chunk in chunks.iter().cycle() {
            let (new, others) = rest.split_at(chunk.min(rest.len()));
            session.append(model, new).unwrap();
            rest = others;
            if rest.is_empty() {
                break;
            }
        }
        session
    };
    let (whole, mut slow) = (read(&windowed, &[700]), read(&windowed, &[1, 1, 1, 30, 90, 1, 7]));
    assert_eq!(bits(whole.logits()), bits(slow.logits()));
    let (kept, all) = (slow.cache_bytes(), read(&full, &[1, 50]).cache_bytes());
    assert!(kept * 4 < all, "{kept} of {all}");
    // The end is there, also to go on from; what the window has left is read again.
    assert!(slow.prefix(400).unwrap().is_none() && slow.prefix(690).unwrap().is_some());
    let mut fork = slow.fork().unwrap();
    for session in [&mut fork, &mut slow] {
        session.follow(&windowed, &ids[..690]).unwrap();
        assert_eq!(bits(session.logits()), bits(&windowed.last_logits(&mut Arena::new(), &ids[..690]).unwrap()));
    }
    slow.follow(&windowed, &[&ids[..300], &[3, 1]].concat()).unwrap();
    let again = windowed.last_logits(&mut Arena::new(), &[&ids[..300], &[3, 1]].concat()).unwrap();
    assert_eq!(bits(slow.logits()), bits(&again));
}

#[test]
fn a_session_goes_on_when_its_model_gets_fewer_bits() {
    let mut model = lively(modern());
    let mut session = Session::new(&model).unwrap();
    session.append(&model, &[1, 2]).unwrap();
    model.quantize(Kind::Int8, true).unwrap();
    session.append(&model, &[3]).unwrap();
    let whole = model.last_logits(&mut Arena::new(), &[1, 2, 3]).unwrap();
    assert_eq!(bits(session.logits()), bits(&whole));
}

#[test]
fn a_sliding_window_equals_the_forward_of_the_last_tokens() {
    let ids = some_ids(20, 11);
    for (model, first) in [1, 7, 8, 13].into_iter().flat_map(|n| [(lively(tiny()), n), (lively(modern()), n)]) {
        let mut session = Session::new(&model).unwrap();
        session.append(&model, &ids[..first]).unwrap();
        for at in first..ids.len() {
            session.append(&model, &ids[at..=at]).unwrap();
            let window = &ids[(at + 1).saturating_sub(7)..=at];
            let whole = model.forward(&mut Arena::new(), Rows::one(window)).unwrap();
            assert_close("logits", session.logits(), &wide(&whole[whole.len() - 11..]), 1e-5);
            let last = model.last_logits(&mut Arena::new(), &ids[..=at]).unwrap();
            assert_close("last logits", &last, &wide(&whole[whole.len() - 11..]), 1e-5);
        }
    }
}

#[test]
fn a_refused_token_leaves_the_session_as_it_was() {
    let model = lively(tiny());
    let mut session = Session::new(&model).unwrap();
    assert!(session.sample(&Options::default(), None).is_err());
    session.append(&model, &[1, 2]).unwrap();
    let before = session.logits().to_vec();
    assert!(session.append(&model, &[3, 11]).is_err());
    session.append(&model, &[]).unwrap();
    assert_eq!((session.ids(), session.logits()), (&[1, 2][..], &before[..]));
}

#[test]
fn a_run_is_the_same_for_the_same_seed_and_stops() {
    let model = lively(tiny());
    let run = |seed, stop: &[u32]| {
        let mut session = Session::new(&model).unwrap();
        session.append(&model, &[4]).unwrap();
        let options = Options { seed, ..Options::default() };
        session.run(&model, 30, &options, stop, &mut progress::ignore).unwrap()
    };
    let new = run(1, &[]);
    assert!(new.len() == 30 && new == run(1, &[]) && new != run(2, &[]));
    let end = new.iter().position(|id| *id == new[9]).unwrap();
    assert_eq!(run(1, &[new[9]]), new[..end]);
}

#[test]
fn a_listener_can_end_a_run() {
    let model = lively(tiny());
    let mut session = Session::new(&model).unwrap();
    session.append(&model, &[4]).unwrap();
    let mut stop = |progress: progress::Progress| match progress.done {
        3 => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    };
    let ended = session.run(&model, 30, &Options::default(), &[], &mut stop);
    assert!(matches!(ended, Err(crate::Error::Interrupted)));
    assert_eq!(session.ids().len(), 4);
}

#[test]
fn a_fork_goes_on_as_its_origin_would_have() {
    for config in [tiny(), modern(), gemma()] {
        let model = lively(Config { block_size: 24, ..config });
        let options = Options { seed: 3, ..Options::default() };
        let mut origin = Session::new(&model).unwrap();
        origin.append(&model, &[4, 2, 9]).unwrap();
        let mut forks = [origin.fork().unwrap(), origin.fork().unwrap()];
        forks[1].append(&model, &[7]).unwrap(); // the others do not hear of it
        let expected = origin.run(&model, 30, &options, &[], &mut progress::ignore).unwrap();
        assert_eq!(forks[0].run(&model, 30, &options, &[], &mut progress::ignore).unwrap(), expected);
        assert_eq!(forks[1].ids(), [4, 2, 9, 7]);
    }
}

#[test]
fn log_probabilities_of_a_text_are_those_met_on_the_way() {
    let model = lively(Config { block_size: 24, ..modern() });
    let ids = some_ids(20, 11);
    let scored = model.token_logprobs(&mut Arena::new(), &ids, 3).unwrap();
    let losses = model.token_losses(
        &mut Arena::new(),
        Rows::new(&ids[..19], 1, 19),
        Labels::new(&ids[1..].iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), -1),
    );
    let mut session = Session::new(&model).unwrap();
    assert!(session.logprobs(1, 0).is_err());
    assert_eq!(scored.len(), 19);
    for ((at, found), loss) in scored.iter().enumerate().zip(losses.unwrap()) {
        session.append(&model, &ids[at..=at]).unwrap();
        let met = session.logprobs(ids[at + 1], 3).unwrap();
        assert!((met.logprob - found.logprob).abs() < 1e-5 && (found.logprob + f64::from(loss)).abs() < 1e-5);
        assert_eq!(
            met.top.iter().map(|one| one.0).collect::<Vec<_>>(),
            found.top.iter().map(|one| one.0).collect::<Vec<_>>()
        );
        assert!(found.top.windows(2).all(|two| two[0].1 >= two[1].1));
    }
    assert!(session.logprobs(11, 0).is_err());
    assert!(model.token_logprobs(&mut Arena::new(), &ids[..1], 3).unwrap().is_empty());
}

#[test]
fn what_was_read_under_other_weights_is_read_again() {
    let mut model = lively(Config { block_size: 16, ..tiny() });
    let module = Module { name: model.linear_modules().next().unwrap().to_string(), r: 2, scale: 1.0 };
    model.add_adapter("a", Spec { modules: vec![module], dropout: 0.0, dora: false }, 7).unwrap();
    model.adapter_mut("a").unwrap().params_mut().fill(0.3);
    let changes: [fn(&mut Gpt); 5] = [
        |model| model.params_mut().iter_mut().for_each(|w| *w *= 1.1),
        |model| model.tensor_mut("transformer.wpe.weight").unwrap().1.iter_mut().for_each(|w| *w += 1.0),
        |model| model.set_adapter(Some("a")).unwrap(),
        |model| model.update_parts().0.into_iter().for_each(|slot| slot.w.fill(0.2)),
        |model| model.set_adapter(None).unwrap(),
    ];
    let read = |model: &Gpt, ids: &[u32]| {
        let mut session = Session::new(model).unwrap();
        session.append(model, ids).unwrap();
        session
    };
    let mut ids = vec![1, 2, 3];
    let mut session = read(&model, &ids);
    for change in changes {
        let before = session.logits().to_vec();
        change(&mut model);
        let beginning = session.prefix(2).unwrap().unwrap();
        for mut old in [beginning, session.fork().unwrap()] {
            old.follow(&model, &ids).unwrap();
            assert_eq!(old.logits(), read(&model, &ids).logits());
            assert_ne!(old.logits(), before, "the change is one that shows");
        }
        session.append(&model, &[4]).unwrap();
        ids.push(4);
        assert_eq!(session.logits(), read(&model, &ids).logits());
    }
}
