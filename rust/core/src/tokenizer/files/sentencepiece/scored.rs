//! Pieces with scores as a tokenizer: what SentencePiece models and llama2.c's files have in common.
//!
//! Where a merge list says the same as the scores, and the text is prepared in a way that a `tokenizer.json` has words
//! for, the tokenizer is made as from such a file, so that it can be written as one. Others are applied as they are.

use crate::error::{Error, Result};
use crate::tokenizer::added::Flags;
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::bpe::symbols::{Chars, Settle};
use crate::tokenizer::decoders::{Decoder, Step, byte_of};
use crate::tokenizer::files::{only, tokenizer_json};
use crate::tokenizer::normalize::Normalizer;
use crate::tokenizer::normalize::sentencepiece::{SPACE, SentencePiece};
use crate::tokenizer::pipeline::{Original, Pipeline, Source};
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::delimiters::Delimiter;
use crate::tokenizer::special::Specials;
use crate::tokenizer::template::Template;
use crate::tokenizer::vocab::Vocab;
use crate::tokenizer::{Level, Model, Parts, Tokenizer};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value, json};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Normal,
    /// What stands for the unknown.
    Unknown,
    /// A special token.
    Control,
    /// Text that is never taken apart.
    UserDefined,
    /// A byte.
    Byte,
}

/// A piece.
#[derive(Debug)]
pub struct Piece {
    /// Its text.
    pub text: String,
    /// Higher ones merge first.
    pub score: f32,
    /// What it is.
    pub kind: Kind,
}

/// What a file says.
#[derive(Debug)]
pub struct Scored {
    /// The file, for messages.
    pub place: String,
    /// Pieces in the order of their ids.
    pub pieces: Vec<Piece>,
    /// How text is prepared.
    pub prepare: SentencePiece,
    /// Whether unknown characters become bytes.
    pub byte_fallback: bool,
    /// The token that belongs before a text, if there is one.
    pub begin: Option<u32>,
    /// What such a file is called, and what is in it.
    pub file: (&'static str, Vec<u8>),
}

type Named = Vec<(String, u32)>;

impl Scored {
    /// Makes the tokenizer.
    pub fn build(self) -> Result<Tokenizer> {
        self.check()?;
        let ordinary = self.of_kind(&[Kind::Normal]);
        let named = self.of_kind(&[Kind::Unknown, Kind::Control, Kind::UserDefined, Kind::Byte]);
        let vocab = Vocab::new(&ordinary, &named, &self.place)?;
        let bpe = Bpe::from_scores(self.ranks(), &vocab).over(self.chars(&vocab));
        match self.as_json(&vocab, &bpe) {
            Ok(json) => tokenizer_json::parse(json.to_string().as_bytes(), &self.place),
            Err(problem) => self.native(vocab, bpe, problem),
        }
    }

    fn check(&self) -> Result<()> {
        let fail = |id: usize, problem: String, remedy: &str| {
            Err(Error::tokenizer(format!("{}, piece {id}", self.place), problem, remedy))
        };
        for (id, Piece { text, score, kind }) in self.pieces.iter().enumerate() {
            if text.is_empty() {
                return fail(id, "is empty".into(), "use an undamaged file");
            }
            if text.contains('\0') {
                return fail(id, format!("{text:?} contains a zero byte"), "use an undamaged file");
            }
            if score.is_nan() {
                return fail(id, format!("{text:?} has no number as its score"), "use an undamaged file");
            }
            if *kind == Kind::Byte && byte_of(text.as_bytes()).is_none() {
                return fail(id, format!("{text:?} is no byte"), "name bytes as \"<0x0A>\"");
            }
        }
        Ok(())
    }

    fn of_kind(&self, kinds: &[Kind]) -> Named {
        let pieces = self.pieces.iter().zip(0..).filter(|(piece, _)| kinds.contains(&piece.kind));
        pieces.map(|(piece, id)| (piece.text.clone(), id)).collect()
    }

    fn unknown(&self) -> Option<u32> {
        self.of_kind(&[Kind::Unknown]).first().map(|(_, id)| *id)
    }

    /// The place of each piece in the order of scores; the same for equal ones.
    fn ranks(&self) -> Vec<u32> {
        let mut scores: Vec<f32> = self.pieces.iter().map(|piece| piece.score).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        scores.dedup();
        let rank = |piece: &Piece| scores.partition_point(|score| *score > piece.score) as u32;
        self.pieces.iter().map(rank).collect()
    }

    fn space(&self) -> char {
        if self.prepare.escape { SPACE } else { ' ' }
    }

    fn chars(&self, vocab: &Vocab) -> Chars {
        let single = self.of_kind(&[Kind::Normal]).into_iter().filter_map(|(text, id)| Some((only(&text)?, id)));
        let chars = Chars::new(single.collect(), Settle::After).with_unknown(self.unknown(), true);
        let chars = if self.byte_fallback { chars.with_bytes(|name| vocab.id(name.as_bytes())) } else { chars };
        chars.cut_at(self.space(), vocab.ordinary_entries().map(|(_, token)| token))
    }

    /// The `tokenizer.json` that gives the same ids; if there is none, why.
    fn as_json(&self, vocab: &Vocab, bpe: &Bpe) -> std::result::Result<Value, String> {
        if self.prepare.charsmap.is_some() {
            return Err("it normalizes by a character map".into());
        }
        if let Some((name, _)) = self.of_kind(&[Kind::UserDefined]).first() {
            return Err(format!("the user-defined piece {name:?} is found without regard to spaces"));
        }
        let merges = self.merges(vocab, bpe)?;
        let token = |id: u32| self.pieces[id as usize].text.as_str();
        let special = |(name, id): &(String, u32)| {
            json!({
                "id": id, "content": name, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        };
        let vocabulary: serde_json::Map<String, Value> =
            self.pieces.iter().zip(0..).map(|(piece, id)| (piece.text.clone(), json!(id))).collect();
        Ok(json!({
            "version": "1.0",
            "added_tokens": self.of_kind(&[Kind::Unknown, Kind::Control]).iter().map(special).collect::<Vec<_>>(),
            "normalizer": self.normalizer(),
            "post_processor": self.post_processor(),
            "decoder": self.decoder(),
            "model": {
                "type": "BPE",
                "unk_token": self.unknown().map(token),
                "fuse_unk": true,
                "byte_fallback": self.byte_fallback,
                "vocab": vocabulary,
                "merges": merges.iter().map(|&(left, right)| [token(left), token(right)]).collect::<Vec<_>>(),
            },
        }))
    }

    /// The pairs that merge, in order. A piece that its own characters merge into always does so by the same last pair,
    /// wherever it stands; others never come up.
    fn merges(&self, vocab: &Vocab, bpe: &Bpe) -> std::result::Result<Vec<(u32, u32)>, String> {
        let known: FxHashSet<char> = self.of_kind(&[Kind::Normal]).iter().filter_map(|(text, _)| only(text)).collect();
        let ranks = self.ranks();
        let mut merges = Vec::new();
        for (text, id) in self.of_kind(&[Kind::Normal]).iter().filter(|(text, _)| only(text).is_none()) {
            let Some((left, right)) = bpe.last_pair(text, vocab) else { continue };
            if let Some(c) = text.chars().find(|c| !known.contains(c)) {
                return Err(format!("the piece {text:?} has the character {c:?}, which is no piece"));
            }
            merges.push((ranks[*id as usize], left, right));
        }
        merges.sort_unstable();
        match merges.windows(2).find(|two| two[0].0 == two[1].0) {
            Some(_) => Err("several of its pieces have the same score".into()),
            None => Ok(merges.into_iter().map(|(_, left, right)| (left, right)).collect()),
        }
    }

    fn normalizer(&self) -> Value {
        let SentencePiece { dummy_prefix, remove_extra, escape, .. } = self.prepare;
        let space = self.space();
        let replace =
            |regex: String, content: &str| json!({"type": "Replace", "pattern": {"Regex": regex}, "content": content});
        let mut steps = Vec::new();
        if remove_extra {
            steps.push(replace(r"\A +".into(), ""));
            steps.push(replace(" {2,}".into(), " "));
        }
        if dummy_prefix {
            steps.push(json!({"type": "Prepend", "prepend": space}));
        }
        if escape {
            steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": space}));
        }
        if remove_extra {
            steps.push(replace(format!("{space}+\\z"), ""));
        }
        json!({"type": "Sequence", "normalizers": steps})
    }

    fn decoder(&self) -> Value {
        let mut steps = Vec::new();
        if self.prepare.escape {
            steps.push(json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}));
        }
        if self.byte_fallback {
            // Of bytes that are no text `tokenizers` gives up all beside them, where SentencePiece keeps the text among
            // them (`native`). There are no words for that in a file, and what is loaded and what is saved must agree.
            steps.push(json!({"type": "ByteFallback"}));
        }
        steps.push(json!({"type": "Fuse"}));
        if let Some(start) = self.spaces_in_front() {
            steps.push(json!({"type": "Strip", "content": " ", "start": start, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps})
    }

    /// How many spaces in front of a decoded text are none of its own, at most: where extra ones are removed, all.
    fn spaces_in_front(&self) -> Option<usize> {
        match (self.prepare.remove_extra, self.prepare.dummy_prefix) {
            (true, _) => Some(u32::MAX as usize),
            (false, true) => Some(1),
            (false, false) => None,
        }
    }

    fn post_processor(&self) -> Value {
        let Some(id) = self.begin else { return Value::Null };
        let name = &self.pieces[id as usize].text;
        let text = |which: &str, kind: u32| json!({"Sequence": {"id": which, "type_id": kind}});
        let begin = |kind: u32| json!({"SpecialToken": {"id": name, "type_id": kind}});
        let mut special_tokens = serde_json::Map::new();
        special_tokens.insert(name.clone(), json!({"id": name, "ids": [id], "tokens": [name]}));
        json!({
            "type": "TemplateProcessing",
            "single": [begin(0), text("A", 0)],
            "pair": [begin(0), text("A", 0), begin(1), text("B", 1)],
            "special_tokens": special_tokens,
        })
    }

    /// The tokenizer that applies scores as they are.
    fn native(self, vocab: Vocab, bpe: Bpe, problem: String) -> Result<Tokenizer> {
        let template = Template { before: self.begin.into_iter().collect(), ..Template::default() };
        let (specials, added) = (self.of_kind(&[Kind::Unknown, Kind::Control]), self.of_kind(&[Kind::UserDefined]));
        // Found in the prepared text, like all that is not taken apart there.
        let found = Flags { normalized: true, ..Flags::default() };
        let flags: FxHashMap<u32, Flags> = added.iter().map(|(_, id)| (*id, found)).collect();
        let mut steps = Vec::new();
        if self.prepare.escape {
            steps.push(Step::Replace { pattern: Delimiter::Literal(SPACE.into()), content: " ".into() });
        }
        if self.byte_fallback {
            // As SentencePiece; where there is a `tokenizer.json`, as that has it (`decoder`).
            steps.push(Step::ByteFallback { each: true });
        }
        steps.push(Step::Fuse);
        if let Some(start) = self.spaces_in_front() {
            steps.push(Step::Strip { content: ' ', start, stop: 0 });
        }
        let model: Vec<_> = self.pieces.iter().map(|piece| (piece.score.to_bits(), piece.kind as u32)).collect();
        let source = Source {
            normalizer: json!(format!("{:?}", self.prepare)),
            model: json!([model, self.byte_fallback]),
            original: Some(Original { name: self.file.0, bytes: self.file.1, problem }),
            ..Source::default()
        };
        let normalizers = vec![Normalizer::SentencePiece(Box::new(self.prepare))];
        let names = (specials.as_slice(), added.as_slice());
        let pipeline = Pipeline::new(normalizers, Vec::new(), Some(Decoder::new(steps)), flags, source, names)?;
        Ok(Tokenizer::new(Parts {
            level: Level::Subword,
            split: Pretokenizer::default(),
            vocab,
            model: Model::Bpe(Box::new(bpe)),
            specials: Specials::new(specials, added),
            pipeline: Some(Box::new(pipeline)),
            template,
        }))
    }
}
