//! Text to ids and back: the fast ways against the slow one, and against each other.

use crate::files::with_file;
use crate::reference::Rule;
use crate::subject::Subject;
use serde_json::{Value, json};
use std::cell::LazyCell;
use subgpt_core::progress;
use subgpt_core::tokenizer::files::tokenizer_json;
use subgpt_core::tokenizer::train::{TrainOptions, Trainer};
use subgpt_core::tokenizer::{Level, Tokenizer, files};

/// A little of everything to learn from.
const CORPUS: &str = include_str!("corpus.txt");

/// A text that is longer is encoded by several threads.
const SHARED: usize = 300_000;

thread_local! {
    static SUBJECTS: LazyCell<Vec<Subject>> = const { LazyCell::new(subjects) };
}

/// Any text, with one of the tokenizers: the first byte says which. A second byte of 255 makes the text a long one.
pub fn texts(data: &[u8]) {
    let [which, long, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    SUBJECTS.with(|subjects| {
        let subject = &subjects[usize::from(*which) % subjects.len()];
        if *long == 255 && !text.is_empty() {
            subject.long_text(&text.repeat(SHARED / text.len() + 1));
            return;
        }
        subject.text(&text);
        let words = rest.chunks_exact(2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]])));
        subject.numbers(&words.collect::<Vec<_>>());
    });
}

/// Any merges, and text of few letters that they apply to. The first byte says how many tokens there are above the bytes;
/// each is two bytes, the tokens that it joins. What follows is text.
pub fn merges(data: &[u8]) {
    let [count, rest @ ..] = data else { return };
    let count = usize::from(*count % 64).min(rest.len() / 2);
    let (joined, rest) = rest.split_at(2 * count);
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut listed = Vec::new();
    // Tokens are made of the letters a to d and of each other.
    let named = |n: u8, tokens: &[Vec<u8>]| match usize::from(n) % (4 + tokens.len() - 256) {
        letter @ 0..4 => usize::from(b'a') + letter,
        token => 252 + token,
    };
    for pair in joined.chunks_exact(2) {
        let (left, right) = (named(pair[0], &tokens), named(pair[1], &tokens));
        let token = [tokens[left].as_slice(), &tokens[right]].concat();
        if token.len() < 256 && !tokens.contains(&token) {
            listed.push((left, right));
            tokens.push(token);
        }
    }
    let few = rest.iter().map(|byte| char::from(b'a' + byte % 4)).collect::<String>();
    let ranked = ranked(&tokens);
    for (tokenizer, rule) in [(list(&tokens, &listed), Rule::Listed), (ranked, Rule::Ranked)] {
        let subject = Subject::new(tokenizer, rule);
        subject.text(&few);
        subject.text(&String::from_utf8_lossy(rest));
    }
}

/// A tokenizer of a merge list.
fn list(tokens: &[Vec<u8>], merges: &[(usize, usize)]) -> Tokenizer {
    let alphabet = files::ByteAlphabet::get();
    let names: Vec<String> = tokens.iter().map(|token| alphabet.write(token)).collect();
    let vocab: serde_json::Map<_, _> = names.iter().cloned().zip((0..names.len()).map(Into::into)).collect();
    let pairs: Vec<_> = merges.iter().map(|(left, right)| [&names[*left], &names[*right]]).collect();
    let json = json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": pairs},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
        "decoder": {"type": "ByteLevel"},
    });
    tokenizer_json::parse(json.to_string().as_bytes(), "merges").expect("merges of tokens are fine")
}

/// A tokenizer of tiktoken's ranks, in the order given.
fn ranked(tokens: &[Vec<u8>]) -> Tokenizer {
    let lines = tokens.iter().zip(0..).map(|(token, rank): (_, u32)| format!("{} {rank}\n", base64(token)));
    let ranks = lines.collect::<String>();
    with_file(&[("ranks.tiktoken", ranks.as_bytes())], |path| {
        files::load(path, Some("gpt2"), Some(vec![("<|endoftext|>".into(), None)])).expect("complete ranks are fine")
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
        let digit = |at: usize| match at <= bytes.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// Puts a space before a text that does not begin with one.
fn prefix_space(json: &mut Value) {
    let split = &mut json["pre_tokenizer"];
    let bytes = match split["type"] == "Sequence" {
        true => split["pretokenizers"].as_array_mut().and_then(|steps| steps.last_mut()).expect("it has steps"),
        false => split,
    };
    bytes["add_prefix_space"] = true.into();
}

/// Takes pieces that are tokens as they are.
fn whole_first(json: &mut Value) {
    json["model"]["ignore_merges"] = true.into();
}

/// Cuts out every digit before all else.
fn digits_apart(json: &mut Value) {
    let digits = json!({"type": "Digits", "individual_digits": true});
    let split = json["pre_tokenizer"].take();
    json["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [digits, split]});
}

/// One tokenizer of every kind: patterns, levels, merges by list and by rank, special tokens that begin alike.
fn subjects() -> Vec<Subject> {
    let specials = ["<|endoftext|>", "<|end|>", "<|end|><|end|>"];
    let train = |level, pattern: &str| {
        let options = TrainOptions {
            level,
            vocab_sizes: vec![700],
            pattern: pattern.into(),
            special_tokens: specials.map(String::from).to_vec(),
            min_frequency: 1,
            max_token_length: usize::MAX,
            limit_alphabet: None,
            max_memory: None,
        };
        let mut trainer = Trainer::new(options).expect("the options are fine");
        trainer.add(&[CORPUS]).expect("the corpus is small");
        trainer.finish(&mut progress::ignore).expect("the corpus has text").tokenizers.remove(0)
    };
    let mut subjects = Vec::new();
    for pattern in ["gpt2", "gpt4", "o200k"] {
        let listed = train(Level::Subword, pattern);
        let json = listed.to_json(false).expect("any tokenizer can be written");
        let given = listed.special_tokens().iter().map(|(name, id)| (name.clone(), Some(*id))).collect();
        let file = with_file(&[], |folder| {
            let file = folder.join("ranks.tiktoken");
            files::save(&listed, &file, files::Format::Tiktoken).expect("trained merges are ranks");
            files::load(&file, Some(pattern), Some(given)).expect("what was saved loads")
        });
        subjects.push(Subject::new(file, Rule::Ranked));
        let written: Value = serde_json::from_str(&json).expect("JSON was written");
        let changes: [fn(&mut Value); 3] = [prefix_space, whole_first, digits_apart];
        let changed = changes.map(|change| {
            let mut changed = written.clone();
            change(&mut changed);
            assert_ne!(changed, written, "nothing was changed");
            changed.to_string()
        });
        for json in changed.iter().chain([&json]) {
            let tokenizer = tokenizer_json::parse(json.as_bytes(), "changed").expect("all of it is implemented");
            subjects.push(Subject::new(tokenizer, Rule::Listed));
        }
        subjects.push(Subject::new(listed, Rule::Listed));
    }
    for level in [Level::Char, Level::Word] {
        subjects.push(Subject::new(train(level, ""), Rule::Listed));
    }
    subjects.push(Subject::new(train(Level::Subword, r"\p{L}+|\s+|\d{1,2}"), Rule::Listed));
    subjects
}
