//! llama2.c's `tokenizer.bin`: the length of the longest token, then for each token its score, its length and its bytes.
//!
//! The first three tokens are unknown, begin and end, the next 256 are bytes. Spaces are themselves. How many tokens
//! there are stands in the file of the model; here they end with the file.

use super::read;
use super::sentencepiece::scored::{Kind, Piece, Scored};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::decoders::byte_of;
use crate::tokenizer::normalize::sentencepiece::{Kept, SentencePiece};
use std::path::Path;

/// What such a file is called.
pub const NAME: &str = "tokenizer.bin";

/// Where the tokens of bytes begin.
const FIRST_BYTE: usize = 3;

/// Loads a file.
pub fn load(path: &Path) -> Result<Tokenizer> {
    parse(&read(path)?, &path.display().to_string())
}

/// Reads a file; `place` names it in errors.
pub fn parse(file: &[u8], place: &str) -> Result<Tokenizer> {
    let bad = |problem: String| {
        Error::tokenizer(
            place,
            format!("is no tokenizer of llama2.c: {problem}"),
            "export it again with llama2.c's tokenizer.py",
        )
    };
    let (longest, mut rest) = file.split_first_chunk::<4>().ok_or_else(|| bad("it is shorter than 4 bytes".into()))?;
    let longest = i32::from_le_bytes(*longest);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let id = pieces.len();
        let cut = || bad(format!("token {id} is cut off"));
        let (score, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (len, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
        let len = i32::from_le_bytes(*len);
        let fits = usize::try_from(len).ok().filter(|_| (1..=longest).contains(&len));
        let fits = fits.ok_or_else(|| bad(format!("token {id} has {len} bytes, of 1 to {longest}")))?;
        let (bytes, after) = after.split_at_checked(fits).ok_or_else(cut)?;
        let text = std::str::from_utf8(bytes).map_err(|_| bad(format!("token {id} is not UTF-8")))?;
        pieces.push(read_piece(id, text, f32::from_le_bytes(*score)).map_err(bad)?);
        rest = after;
    }
    if pieces.len() < FIRST_BYTE + 256 {
        return Err(bad(format!("it has {} tokens, fewer than {}", pieces.len(), FIRST_BYTE + 256)));
    }
    let prepare =
        SentencePiece { charsmap: None, kept: Kept::default(), dummy_prefix: true, remove_extra: false, escape: false };
    let (place, file) = (place.to_string(), (NAME, file.to_vec()));
    Scored { place, pieces, prepare, byte_fallback: true, begin: Some(1), file }.build()
}

fn read_piece(id: usize, text: &str, score: f32) -> std::result::Result<Piece, String> {
    let kind = match id {
        0 => Kind::Unknown,
        1 | 2 => Kind::Control,
        _ if id < FIRST_BYTE + 256 => Kind::Byte,
        _ => Kind::Normal,
    };
    if kind == Kind::Byte && byte_of(text.as_bytes()).map(usize::from) != Some(id - FIRST_BYTE) {
        return Err(format!("token {id} is {text:?}, not {:?}", format!("<0x{:02X}>", id - FIRST_BYTE)));
    }
    // The names of special tokens are spelt with line ends, so that no text contains them.
    let text = if kind == Kind::Control { text.trim_matches('\n') } else { text };
    Ok(Piece { text: text.to_string(), score, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::files;

    fn file(more: &[(&str, f32)]) -> Vec<u8> {
        let mut tokens: Vec<(String, f32)> =
            ["<unk>", "\n<s>\n", "\n</s>\n"].into_iter().map(|name| (name.to_string(), 0.0)).collect();
        tokens.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
        tokens.extend(more.iter().map(|(text, score)| (text.to_string(), *score)));
        let mut file = 9i32.to_le_bytes().to_vec();
        for (text, score) in tokens {
            file.extend_from_slice(&score.to_le_bytes());
            file.extend_from_slice(&(text.len() as i32).to_le_bytes());
            file.extend_from_slice(text.as_bytes());
        }
        file
    }

    #[test]
    fn tokens_merge_by_their_scores() {
        let singles = [("a", -9.0), ("b", -9.0), (" ", -9.0)];
        let tokenizer = parse(&file(&[&singles[..], &[(" a", -2.0), ("ab", -1.0)]].concat()), "test").unwrap();
        assert_eq!(tokenizer.encode_ordinary("ab").unwrap(), [261, 263]);
        assert_eq!(tokenizer.encode_ordinary("a\u{e9}").unwrap(), [262, 3 + 0xc3, 3 + 0xa9]);
        assert_eq!(tokenizer.template().before, [1]);
        assert_eq!(tokenizer.special_tokens()[1], ("<s>".to_string(), 1));
        let again =
            crate::tokenizer::files::tokenizer_json::parse(tokenizer.to_json(false).unwrap().as_bytes(), "json");
        assert_eq!(again.unwrap().fingerprint(), tokenizer.fingerprint());
    }

    #[test]
    fn equal_scores_merge_from_left_to_right() {
        let tokens = [("a", -9.0), ("b", -9.0), (" ", -9.0), ("ab", -1.0), ("ba", -1.0)];
        let tokenizer = parse(&file(&tokens), "test").unwrap();
        assert_eq!(tokenizer.encode_ordinary("bab").unwrap(), [261, 263, 260]);
        assert!(tokenizer.to_json(false).unwrap_err().to_string().contains("same score"));
    }

    #[test]
    fn a_kept_file_is_not_put_where_another_would_be_loaded() {
        let tokens = [("a", -9.0), ("b", -9.0), (" ", -9.0), ("ab", -1.0), ("ba", -1.0)];
        let tokenizer = parse(&file(&tokens), "test").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let save = || files::save(&tokenizer, folder.path(), files::Format::TokenizerJson);
        (0..2).for_each(|_| save().unwrap());
        assert_eq!(files::load(folder.path(), None, None).unwrap().fingerprint(), tokenizer.fingerprint());
        for other in ["tokenizer.model", "encoder.json", "tokenizer.json"] {
            std::fs::write(folder.path().join(other), "{}").unwrap();
            let error = save().unwrap_err().to_string();
            assert!(error.contains(&format!("a {other}, which would be loaded instead of the {NAME}")), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        let good = file(&[("a", -1.0)]);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut], "test").is_err() || cut == good.len() - 9, "{cut}");
        }
        let mut huge = good.clone();
        huge[8..12].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(parse(&huge, "test").unwrap_err().to_string().contains("token 0 has 2147483647 bytes"));
    }
}
