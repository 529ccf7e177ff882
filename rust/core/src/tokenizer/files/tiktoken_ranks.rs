//! tiktoken's rank files: a line for each token, its bytes in base64 and its rank. Pattern and special tokens are not in
//! the file; those of the published ones are known.

use super::{GivenSpecials, only_bytes, read};
use crate::error::{Error, Result};
use crate::tokenizer::bpe::Bpe;
use crate::tokenizer::bpe::encode::Encoder;
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::patterns::{GPT2, GPT4, Pattern};
use crate::tokenizer::special::Specials;
use crate::tokenizer::template::Template;
use crate::tokenizer::vocab::{Vocab, show};
use crate::tokenizer::{Level, Model, Parts, Tokenizer};
use std::path::Path;

/// Special tokens of the published vocabularies, with the number of ranks by which one knows them.
const PUBLISHED: &[(Pattern, usize, &[(&str, u32)])] = &[
    (GPT2, 50256, &[("<|endoftext|>", 50256)]),
    (GPT2, 50280, &[("<|endoftext|>", 50256)]),
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
    let file = read(path)?;
    let mut bytes = Vec::with_capacity(file.len());
    let ranks = parse(&file, &mut bytes, &place)?;
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
    let specials = number_specials(
        special_tokens.unwrap_or_else(|| published(split.pattern(), ranks.len())),
        ranks.iter().map(|(_, id)| *id),
    );
    let vocab = Vocab::new(&ranks, &specials, &place)?;
    let bpe = Bpe::from_ranks(&vocab);
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
        specials: Specials::new(specials, Vec::new()),
        pipeline: None,
        template: Template::default(),
    }))
}

/// The ranks of a tokenizer: its tokens of bytes in the order of their ids. Pattern and special tokens have no place in
/// the format. What encodes by a merge list is refused where ranks would give other ids.
pub fn write(tokenizer: &Tokenizer) -> Result<Vec<u8>> {
    let bpe = only_bytes(tokenizer, "tiktoken ranks")?;
    let ranked = Bpe::from_ranks(&tokenizer.vocab);
    if let Some(byte) = ranked.missing_byte() {
        return Err(cannot(format!("the single byte 0x{byte:02x} has no token")));
    }
    let (mut listed, mut by_rank) = (Encoder::new(bpe, &tokenizer.vocab), Encoder::new(&ranked, &tokenizer.vocab));
    let mut file = Vec::new();
    // Every token is reached by the merges, from its bytes: then two neighbours whose bytes are a token are always those
    // that the list merges.
    for (id, bytes) in tokenizer.vocab.ordinary_entries() {
        if !bpe.goes_by_ranks() && (listed.merged(bytes)? != Some(id) || by_rank.merged(bytes)? != Some(id)) {
            return Err(cannot(format!("its merges do not lead to the token {:?}", show(bytes))));
        }
        file.extend_from_slice(to_base64(bytes).as_bytes());
        file.extend_from_slice(format!(" {id}\n").as_bytes());
    }
    if !bpe.makes_tokens_in_order() {
        return Err(cannot("its merges do not make tokens in the order of their ids".into()));
    }
    Ok(file)
}

fn cannot(problem: String) -> Error {
    Error::tokenizer("tiktoken ranks", format!("cannot hold this tokenizer: {problem}"), "save it as a tokenizer.json")
}

/// Standard base64 with padding.
fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let sextet = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(sextet) } else { '=' });
        }
    }
    text
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

/// Ids for the special tokens that came without: after everything else, of which `ids` are the ids.
pub(super) fn number_specials(given: GivenSpecials, ids: impl Iterator<Item = u32>) -> Vec<(String, u32)> {
    let largest = ids.chain(given.iter().filter_map(|(_, id)| *id)).max();
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

/// The tokens, which are put into `bytes` one after the other, and their ranks.
fn parse<'b>(file: &[u8], bytes: &'b mut Vec<u8>, place: &str) -> Result<Vec<(&'b [u8], u32)>> {
    let mut ranks = Vec::with_capacity(file.len() / 16);
    for (number, line) in file.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let rank = parse_line(line, bytes).map_err(|problem| {
            Error::tokenizer(
                format!("{place}, line {}", number + 1),
                problem,
                "a line is a token's bytes in base64, a space, and its rank",
            )
        })?;
        ranks.push((bytes.len(), rank));
    }
    if ranks.is_empty() {
        return Err(Error::tokenizer(place, "there are no ranks in it", "name a complete rank file"));
    }
    let mut start = 0;
    let token = |(end, rank)| (&bytes[std::mem::replace(&mut start, end)..end], rank);
    Ok(ranks.into_iter().map(token).collect())
}

/// Appends a line's token to `bytes` and gives its rank.
fn parse_line(line: &[u8], bytes: &mut Vec<u8>) -> std::result::Result<u32, String> {
    let space = line.iter().position(u8::is_ascii_whitespace);
    let (token, rank) = space.map_or((line, &[][..]), |at| (&line[..at], line[at..].trim_ascii_start()));
    if rank.is_empty() || rank.iter().any(u8::is_ascii_whitespace) {
        return Err(format!("expected two fields, found {:?}", String::from_utf8_lossy(&line[..line.len().min(80)])));
    }
    let before = bytes.len();
    base64(token, bytes).ok_or_else(|| format!("{:?} is not base64", String::from_utf8_lossy(token)))?;
    if bytes.len() == before {
        return Err("the token is empty".into());
    }
    let number = std::str::from_utf8(rank).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("the rank {:?} is not a number that ids can have", String::from_utf8_lossy(rank)))
}

/// Appends what standard base64 with padding stands for.
fn base64(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    for group in body.chunks(4) {
        let mut bits = 0u32;
        for &c in group {
            let sextet = SEXTETS[usize::from(c)];
            if sextet == NOT_BASE64 {
                return None;
            }
            bits = bits << 6 | u32::from(sextet);
        }
        bits <<= 6 * (4 - group.len());
        let whole = group.len() * 6 / 8;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(())
}

const NOT_BASE64: u8 = 64;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The six bits that a character stands for.
const SEXTETS: [u8; 256] = {
    let mut table = [NOT_BASE64; 256];
    let mut i = 0;
    while i < ALPHABET.len() {
        table[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_all_lengths() {
        let cases: [(&[u8], &[u8]); 5] =
            [(b"", b""), (b"IQ==", b"!"), (b"IGE=", b" a"), (b"YWJj", b"abc"), (b"/+8=", b"\xff\xef")];
        for (text, bytes) in cases {
            let mut decoded = Vec::new();
            assert_eq!(base64(text, &mut decoded), Some(()));
            assert_eq!(decoded, bytes);
            assert_eq!(to_base64(bytes).as_bytes(), text);
        }
        for bad in [&b"IQ"[..], b"I===", b"I Q=", b"-_==", b"===="] {
            let mut decoded = Vec::new();
            assert!(base64(bad, &mut decoded).is_none() || decoded.is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn lines_are_checked() {
        let parse = |file: &[u8]| {
            parse(file, &mut Vec::new(), "x")
                .map(|ranks| ranks.iter().map(|(b, id)| (b.to_vec(), *id)).collect::<Vec<_>>())
        };
        assert_eq!(parse(b"IQ== 0\r\nIGE= 1\n\n").unwrap(), [(b"!".to_vec(), 0), (b" a".to_vec(), 1)]);
        for bad in [&b"IQ== 0\n?? 1"[..], b"IQ==", b"IQ== -1", b"IQ== 4294967296", b"IQ== 1 2", b"= 1", b"", b"==== 3"]
        {
            assert!(matches!(parse(bad), Err(Error::Tokenizer { .. })), "{bad:?}");
        }
        assert!(parse(b"IQ== 0\n?? 1").unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn special_tokens_are_numbered_after_the_rest() {
        let given = vec![("x".into(), None), ("y".into(), Some(20)), ("z".into(), None)];
        let numbered = number_specials(given, [7].into_iter());
        assert_eq!(numbered, [("x".to_string(), 21), ("y".into(), 20), ("z".into(), 22)]);
    }
}
