//! SentencePiece's `.model`: a message of protocol buffers with pieces, scores and how text is prepared.

mod protobuf;
pub mod scored;

use super::read;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::normalize::charsmap::Charsmap;
use crate::tokenizer::normalize::sentencepiece::{Kept, SentencePiece};
use protobuf::{Fields, Value};
use scored::{Kind, Piece, Scored};
use std::path::Path;

/// What such a file is called.
pub const NAME: &str = "tokenizer.model";

/// The model type of BPE.
const BPE: u64 = 2;

/// The field of a `normalizer_spec` or `denormalizer_spec` with a character map.
const CHARSMAP: u64 = 2;

/// Loads a file.
pub fn load(path: &Path) -> Result<Tokenizer> {
    parse(&read(path)?, &path.display().to_string())
}

/// Reads a model; `place` names it in errors.
pub fn parse(file: &[u8], place: &str) -> Result<Tokenizer> {
    let mut scored = Scored {
        place: place.to_string(),
        pieces: Vec::new(),
        prepare: SentencePiece {
            charsmap: None,
            kept: Kept::default(),
            dummy_prefix: true,
            remove_extra: true,
            escape: true,
        },
        byte_fallback: false,
        begin: None,
        file: (NAME, file.to_vec()),
    };
    let mut model_type = 1;
    for (number, value) in fields(file, place, "the model")? {
        match (number, value.bytes()) {
            (1, Some(piece)) => {
                let piece = read_piece(piece, place, scored.pieces.len())?;
                scored.pieces.push(piece);
            }
            (2, Some(trainer)) => {
                for (number, value) in fields(trainer, place, "trainer_spec")? {
                    match (number, value.number()) {
                        (3, Some(kind)) => model_type = kind,
                        (24, Some(suffix)) if suffix != 0 => {
                            return Err(refused(place, "trainer_spec.treat_whitespace_as_suffix is set"));
                        }
                        (35, Some(fallback)) => scored.byte_fallback = fallback != 0,
                        _ => {}
                    }
                }
            }
            (3, Some(spec)) => read_normalizer(spec, &mut scored.prepare, place)?,
            (5, Some(spec)) => {
                let charsmap = |(number, value): &(u64, Value<'_>)| {
                    *number == CHARSMAP && value.bytes().is_some_and(|blob| !blob.is_empty())
                };
                if fields(spec, place, "denormalizer_spec")?.iter().any(charsmap) {
                    return Err(refused(place, "denormalizer_spec has a precompiled_charsmap"));
                }
            }
            (1..=3 | 5, None) => return Err(damaged(place, format!("field {number} is no message"))),
            _ => {}
        }
    }
    if scored.pieces.is_empty() {
        return Err(damaged(place, "it has no pieces".into()));
    }
    if model_type != BPE {
        let name = match model_type {
            1 => "Unigram",
            3 => "Word",
            4 => "Char",
            _ => "unknown",
        };
        return Err(refused(place, format!("trainer_spec.model_type is {model_type} ({name})")));
    }
    let kept = scored.pieces.iter().filter(|piece| piece.kind == Kind::UserDefined);
    scored.prepare.kept = Kept::new(kept.map(|piece| piece.text.clone()).collect());
    scored.build()
}

fn fields<'m>(message: &'m [u8], place: &str, name: &str) -> Result<Vec<(u64, Value<'m>)>> {
    let fields: std::result::Result<Vec<_>, usize> = Fields::new(message).collect();
    fields.map_err(|left| damaged(place, format!("{name} cannot be read {left} bytes before its end")))
}

fn read_piece(message: &[u8], place: &str, id: usize) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    for (number, value) in fields(message, place, &format!("piece {id}"))? {
        match number {
            1 => {
                let text = value.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
                piece.text = text.ok_or_else(|| damaged(place, format!("piece {id} is not UTF-8")))?.to_string();
            }
            2 => piece.score = value.float().ok_or_else(|| damaged(place, format!("piece {id} has a bad score")))?,
            3 => {
                piece.kind = match value.number() {
                    Some(1) => Kind::Normal,
                    Some(2) => Kind::Unknown,
                    Some(3) => Kind::Control,
                    Some(4) => Kind::UserDefined,
                    Some(5) => return Err(refused(place, format!("piece {id} is of type UNUSED"))),
                    Some(6) => Kind::Byte,
                    _ => return Err(damaged(place, format!("piece {id} is of an unknown type"))),
                }
            }
            _ => {}
        }
    }
    Ok(piece)
}

fn read_normalizer(message: &[u8], prepare: &mut SentencePiece, place: &str) -> Result<()> {
    for (number, value) in fields(message, place, "normalizer_spec")? {
        match (number, value.bytes(), value.truth()) {
            (CHARSMAP, Some(blob), _) if !blob.is_empty() => {
                let charsmap = Charsmap::new(blob);
                let bad = |problem| damaged(place, format!("normalizer_spec.precompiled_charsmap: {problem}"));
                prepare.charsmap = Some(charsmap.map_err(bad)?);
            }
            (3, _, Some(truth)) => prepare.dummy_prefix = truth,
            (4, _, Some(truth)) => prepare.remove_extra = truth,
            (5, _, Some(truth)) => prepare.escape = truth,
            _ => {}
        }
    }
    Ok(())
}

fn damaged(place: &str, problem: String) -> Error {
    Error::tokenizer(place, format!("is no SentencePiece model that can be read: {problem}"), "use an undamaged file")
}

fn refused(place: &str, what: impl std::fmt::Display) -> Error {
    Error::tokenizer(
        place,
        format!("{what}, which is not implemented"),
        "train a model with --model_type=bpe, or convert the tokenizer to a tokenizer.json of BPE",
    )
}
