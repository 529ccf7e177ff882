//! tiktoken's rank files: a line for each token, its bytes in base64 and its rank. Pattern and special tokens are not in
//! the file; those of the published ones are known.

use super::{GivenSpecials, read};
use crate::error::{Error, Result};
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::patterns::{GPT4, Pattern};
use crate::tokenizer::special::Specials;
use crate::tokenizer::vocab::Vocab;
use crate::tokenizer::{Level, Model, Parts, Tokenizer};
use std::path::Path;

/// Special tokens of the published vocabularies, with the number of ranks by which one knows them.
const PUBLISHED: &[(Pattern, usize, &[(&str, u32)])] = &[
    (Pattern::Gpt2, 50256, &[("<|endoftext|>", 50256)]),
    (Pattern::Gpt2, 50280, &[("<|endoftext|>", 50256)]),
    (
        GPT4,
        100256,
        &[
            ("<|endoftext|>", 100257),
            ("<|fim_prefix|>", 100258),
            ("<|fim_middle|>", 100259),
            ("<|fim_suffix|>", 100260),
            ("<|endofprompt|>", 100276),
        ],
    ),
    (Pattern::O200k, 199998, &[("<|endoftext|>", 199999), ("<|endofprompt|>", 200018)]),
];

/// Loads ranks with `pattern`, by default the one that the file's name tells.
pub fn load(path: &Path, split: Option<Pretokenizer>, special_tokens: Option<GivenSpecials>) -> Result<Tokenizer> {
    let place = path.display().to_string();
    let ranks = parse(&read(path)?, &place)?;
    let split = match split.or_else(|| from_file_name(path).map(Pretokenizer::known)) {
        Some(split) => split,
        None => {
            return Err(Error::tokenizer(
                place,
                "a rank file does not say how text is split",
                "pass pattern=\"gpt2\", \"cl100k\" or \"o200k\"",
            ));
        }
    };
    let specials = number_specials(special_tokens.unwrap_or_else(|| published(split.pattern(), ranks.len())), &ranks);
    let special_entries = specials.iter().map(|(name, id)| (name.clone().into_bytes(), *id));
    let vocab = Vocab::new(ranks.into_iter().chain(special_entries), &place)?;
    let specials = Specials::new(specials);
    let bpe = Bpe::from_ranks(&vocab, |id| specials.contains(id));
    if let Some(byte) = bpe.missing_byte() {
        return Err(Error::tokenizer(
            place,
            format!("the single byte 0x{byte:02x} has no rank"),
            "use a complete rank file: any text has to be encodable",
        ));
    }
    Ok(Tokenizer::new(Parts {
        level: Level::Subword,
        split,
        vocab,
        model: Model::Bpe(Box::new(bpe)),
        specials,
        added: Vec::new(),
    }))
}

fn from_file_name(path: &Path) -> Option<Pattern> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    ["r50k", "p50k", "gpt2", "cl100k", "o200k"]
        .into_iter()
        .find(|known| name.contains(known))
        .and_then(Pattern::from_name)
}

fn published(pattern: Option<Pattern>, ranks: usize) -> GivenSpecials {
    let known = PUBLISHED.iter().find(|(p, n, _)| Some(*p) == pattern && *n == ranks);
    known.map_or(Vec::new(), |(_, _, names)| names.iter().map(|(name, id)| (name.to_string(), Some(*id))).collect())
}

/// Ids for the special tokens that came without: after everything else.
pub(super) fn number_specials(given: GivenSpecials, entries: &[(Vec<u8>, u32)]) -> Vec<(String, u32)> {
    let largest = entries.iter().map(|(_, id)| *id).chain(given.iter().filter_map(|(_, id)| *id)).max();
    let mut next = largest.map_or(0, |id| id.saturating_add(1));
    given
        .into_iter()
        .map(|(name, id)| {
            let id = id.unwrap_or(next);
            next = next.max(id.saturating_add(1));
            (name, id)
        })
        .collect()
}

fn parse(file: &[u8], place: &str) -> Result<Vec<(Vec<u8>, u32)>> {
    let mut ranks = Vec::new();
    for (number, line) in file.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        ranks.push(parse_line(line).map_err(|problem| {
            Error::tokenizer(
                format!("{place}, line {}", number + 1),
                problem,
                "a line is a token's bytes in base64, a space, and its rank",
            )
        })?);
    }
    if ranks.is_empty() {
        return Err(Error::tokenizer(place, "there are no ranks in it", "name a complete rank file"));
    }
    Ok(ranks)
}

fn parse_line(line: &[u8]) -> std::result::Result<(Vec<u8>, u32), String> {
    let mut fields = line.split(|b| b.is_ascii_whitespace()).filter(|f| !f.is_empty());
    let (Some(token), Some(rank), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(format!("expected two fields, found {:?}", String::from_utf8_lossy(&line[..line.len().min(80)])));
    };
    let bytes = base64(token).ok_or_else(|| format!("{:?} is not base64", String::from_utf8_lossy(token)))?;
    let text = String::from_utf8_lossy(rank);
    let rank = text.parse().map_err(|_| format!("the rank {text:?} is not a number that ids can have"))?;
    if bytes.is_empty() { Err("the token is empty".into()) } else { Ok((bytes, rank)) }
}

/// Decodes standard base64 with padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            bits = bits << 6 | u32::from(sextet(c)?);
        }
        bits <<= 6 * (4 - group.len());
        let whole = group.len() * 6 / 8;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

fn sextet(c: u8) -> Option<u8> {
    match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        let cases: [(&[u8], &[u8]); 5] =
            [(b"", b""), (b"IQ==", b"!"), (b"IGE=", b" a"), (b"YWJj", b"abc"), (b"/+8=", b"\xff\xef")];
        for (text, bytes) in cases {
            assert_eq!(base64(text).unwrap(), bytes);
        }
        for bad in [&b"IQ"[..], b"I===", b"I Q=", b"-_==", b"===="] {
            assert_eq!(base64(bad).filter(|b| !b.is_empty()), None, "{bad:?}");
        }
    }

    #[test]
    fn lines_are_checked() {
        assert_eq!(parse(b"IQ== 0\r\nIGE= 1\n\n", "x").unwrap(), [(b"!".to_vec(), 0), (b" a".to_vec(), 1)]);
        for bad in [&b"IQ== 0\n?? 1"[..], b"IQ==", b"IQ== -1", b"IQ== 4294967296", b"IQ== 1 2", b"= 1", b"", b"==== 3"]
        {
            assert!(matches!(parse(bad, "x"), Err(Error::Tokenizer { .. })), "{bad:?}");
        }
        assert!(parse(b"IQ== 0\n?? 1", "x").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn special_tokens_are_numbered_after_the_rest() {
        let entries = [(b"a".to_vec(), 7)];
        let given = vec![("x".into(), None), ("y".into(), Some(20)), ("z".into(), None)];
        let numbered = number_specials(given, &entries);
        assert_eq!(numbered, [("x".to_string(), 21), ("y".into(), 20), ("z".into(), 22)]);
    }
}
