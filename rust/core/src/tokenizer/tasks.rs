//! A long text in parts that can be encoded each on its own, in order.

use super::Tokenizer;
use super::cutting::cut_near;
use super::special::Matcher;
use std::ops::Range;

/// A part of a text, special tokens in it and all.
pub(super) struct Task<'t> {
    /// The part.
    pub text: &'t str,
    /// Where it begins in the whole text.
    pub at: usize,
    /// Whether a stretch between special tokens begins with it, or goes on.
    pub first: bool,
}

impl<'t> Task<'t> {
    /// All of a text.
    pub fn whole(text: &'t str) -> Self {
        Task { text, at: 0, first: true }
    }
}

/// Parts of a text, made one by one.
pub(super) struct Tasks<'a, 't> {
    tokenizer: &'a Tokenizer,
    matcher: &'a Matcher,
    text: &'t str,
    /// Whether there is but one part, since more is done to the text than to cut it.
    whole: bool,
    at: usize,
    first: bool,
    /// The first special token that does not end before `at`.
    special: Option<Range<usize>>,
}

impl<'a, 't> Tasks<'a, 't> {
    /// The parts of `text`, in which `matcher` finds special tokens.
    pub fn new(tokenizer: &'a Tokenizer, text: &'t str, matcher: &'a Matcher) -> Self {
        let whole = tokenizer.pipeline.as_ref().is_some_and(|pipeline| !pipeline.leaves(text));
        let mut tasks = Tasks { tokenizer, matcher, text, whole, at: 0, first: true, special: None };
        tasks.look(0);
        tasks
    }

    /// Finds the next special token from a place on.
    fn look(&mut self, from: usize) {
        self.special = self.matcher.find(self.text, from).map(|(start, name, _)| start..start + name.len());
    }

    /// The next part, of about `size` bytes where the text can be cut there; more where it cannot.
    pub fn next(&mut self, size: usize) -> Option<Task<'t>> {
        let (at, first) = (self.at, self.first);
        if at == self.text.len() {
            return None;
        }
        if self.whole {
            self.at = self.text.len();
            return Some(Task::whole(self.text));
        }
        let limit = at.saturating_add(size);
        // The last stretch that begins before the limit: special tokens before it are taken whole.
        let mut stretch = at;
        while stretch < limit
            && let Some(special) = self.special.clone().filter(|special| special.start < limit)
        {
            stretch = special.end;
            self.look(stretch);
        }
        let end = self.special.as_ref().map_or(self.text.len(), |special| special.start);
        self.at = if stretch >= limit { stretch } else { self.cut(at, stretch..end, limit) };
        self.first = self.at == stretch || self.at == end;
        Some(Task { text: &self.text[at..self.at], at, first })
    }

    /// Where to cut within a stretch, near `limit`: a place that changes no piece. The beginning of the stretch is one as
    /// well, if the part does not begin there.
    fn cut(&self, at: usize, stretch: Range<usize>, limit: usize) -> usize {
        let Some(pattern) = self.tokenizer.cuttable() else { return stretch.end };
        let (text, near) = (&self.text[stretch.clone()], limit - stretch.start);
        if near >= text.len() {
            return stretch.end;
        }
        let cut = |limit| pattern.safe_cut(text, 0..=limit);
        match cut(near) {
            Some(cut) => stretch.start + cut,
            None if stretch.start > at => stretch.start,
            None => stretch.start + cut_near(text, 2 * near, cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::progress::{self, Progress};
    use crate::tokenizer::corpus::OnInvalid;
    use crate::tokenizer::encode::{EncodeOptions, Job, TASK, WAVE};
    use crate::tokenizer::files::tokenizer_json;
    use crate::tokenizer::special::Which;
    use crate::tokenizer::train::tests::trained;
    use proptest::prelude::*;
    use std::ops::ControlFlow;
    use std::sync::LazyLock;

    /// With and without a space before the text, one that cannot be cut, one that cuts out digits before, and one with a
    /// normalizer, for which some texts cannot be cut.
    static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
        let plain = trained("gpt2", "a text with words, and more words");
        let json = plain.to_json(false).unwrap();
        let spaced = json.replacen("\"add_prefix_space\":false", "\"add_prefix_space\":true", 1);
        let uncut = trained("[a-z]+| ", "a text with words, and more words");
        let mut digits: serde_json::Value = serde_json::from_str(&json).unwrap();
        let step = serde_json::json!({"type": "Digits", "individual_digits": true});
        let cut = digits["pre_tokenizer"].take();
        digits["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [step, cut]});
        let mut composed: serde_json::Value = serde_json::from_str(&json).unwrap();
        composed["normalizer"] = serde_json::json!({"type": "NFC"});
        let [spaced, digits, composed] = [spaced, digits.to_string(), composed.to_string()]
            .map(|json| tokenizer_json::parse(json.as_bytes(), "test").unwrap());
        vec![plain, spaced, uncut, digits, composed]
    });

    #[test]
    fn digits_apart_leave_places_to_cut() {
        assert!(TOKENIZERS[3].tasks(&"in 1984, ".repeat(100_000), &Matcher::default()).len() > 1);
    }

    #[test]
    fn a_text_that_nobody_can_cut_can_be_interrupted() {
        let words = "some words ".repeat(100_000);
        for (tokenizer, text) in [(2, words.clone()), (4, words + "e\u{301}")] {
            let mut heard = 0;
            let mut at_the_third = |progress: Progress| {
                heard += 1;
                assert!(progress.done <= progress.total && progress.total == text.len() as u64);
                if heard == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let encoded = TOKENIZERS[tokenizer].encode(&text, EncodeOptions::ORDINARY, &mut at_the_third);
            assert!(matches!(encoded, Err(Error::Interrupted)));
        }
    }

    /// What a listener heard.
    fn heard(encode: impl FnOnce(&mut progress::Listener<'_>)) -> Vec<(u64, u64)> {
        let mut heard = Vec::new();
        encode(&mut |progress: Progress| {
            heard.push((progress.done, progress.total));
            ControlFlow::Continue(())
        });
        heard
    }

    #[test]
    fn a_listener_hears_of_every_task_or_every_wave() {
        let words = "some words ".repeat(100_000);
        let of = |text: &str, tokenizer: &Tokenizer| {
            heard(|listener| drop(tokenizer.encode(text, EncodeOptions::ORDINARY, listener).unwrap()))
        };
        // Of one that nobody can cut: after so many bytes each time, and a word or a batch of them.
        let accented = words.clone() + "e\u{301}";
        for (text, tokenizer, more) in [(&words, 2, 16), (&accented, 4, 4096)] {
            let seen = of(text, &TOKENIZERS[tokenizer]);
            assert_eq!(seen.len(), text.len() / TASK);
            for (times, &(done, total)) in (1..).zip(&seen) {
                assert!(done >= times * TASK as u64 && done < times * (TASK as u64 + more), "{seen:?}");
                assert_eq!(total, text.len() as u64);
            }
        }
        // Of others before each wave: of one long text, and of many short ones.
        let texts = words.repeat(16);
        let total = texts.len() as u64;
        let wave = (WAVE * TASK) as u64;
        assert!(wave < total && total < 2 * wave);
        let batch = heard(|listener| {
            let texts: Vec<&str> = texts.as_bytes().chunks(11_000).map(|text| str::from_utf8(text).unwrap()).collect();
            TOKENIZERS[0].encode_batch(&texts, EncodeOptions::ORDINARY, listener).unwrap();
        });
        for seen in [of(&texts, &TOKENIZERS[0]), batch] {
            assert!(seen.len() == 2 && seen[0] == (0, total) && seen[1].1 == total, "{seen:?}");
            assert!(seen[1].0 > wave - wave / 10 && seen[1].0 < wave + wave / 10, "{seen:?}");
        }
    }

    #[test]
    fn the_first_ids_are_as_many_as_are_asked_for_and_little_more() {
        let text = "some words ".repeat(100_000);
        for least in [0, 1, 1000] {
            let all = TOKENIZERS[0].encode(&text, EncodeOptions::ORDINARY, &mut progress::ignore).unwrap();
            let front = TOKENIZERS[0].encode_front(&text, EncodeOptions::ORDINARY, least).unwrap();
            assert!(
                front.len() >= least && front.len() <= 10 * least.max(26 * least.min(1)),
                "{least}: {}",
                front.len()
            );
            assert_eq!(front, all[..front.len()]);
        }
    }

    proptest! {
        #[test]
        fn parts_give_the_ids_of_the_whole(
            parts in prop::collection::vec(prop::sample::select(vec!["a", " words", "<|end|>", "\n", "  ", "é", "e\u{301}", ", ", "19"]), 0..60),
            size in 1usize..40,
        ) {
            let text = parts.concat();
            for tokenizer in TOKENIZERS.iter() {
                let options = EncodeOptions { allowed: Which::All, ..EncodeOptions::ORDINARY };
                let expected = tokenizer.encode(&text, options, &mut progress::ignore).unwrap();
                let rules = tokenizer.rules(options).unwrap();
                let mut tasks = Tasks::new(tokenizer, &text, rules.found());
                let (mut ids, mut at) = (Vec::new(), 0);
                while let Some(task) = tasks.next(size) {
                    prop_assert_eq!(task.at, at);
                    prop_assert!(!task.text.is_empty());
                    at += task.text.len();
                    Job::new(tokenizer, OnInvalid::Replace, &mut ids).task(&task, &rules).unwrap();
                }
                prop_assert_eq!(at, text.len());
                prop_assert_eq!(ids, expected);
            }
        }
    }
}
