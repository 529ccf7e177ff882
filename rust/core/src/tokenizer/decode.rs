//! Ids to text, all at once or one by one.

use super::decoders::{Decoder, State};
use super::stream::Utf8Stream;
use super::{Tokenizer, Undecodable};
use crate::error::{Error, Result};

/// How far ids have been turned into text; see [`Tokenizer::decode_stream`].
#[derive(Debug, Default)]
pub struct DecodeStream {
    state: State,
    utf8: Utf8Stream,
}

impl Tokenizer {
    /// The bytes that `ids` stand for, special tokens by their names. An id without an entry gives U+FFFD, one beyond
    /// the vocabulary is an error.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.decoder() {
            None => self.vocab.decode_into(ids, &mut bytes)?,
            Some(decoder) => self.decode_through(decoder, ids, true, &mut bytes)?,
        }
        Ok(bytes)
    }

    /// The text that `ids` stand for. Bytes that are not UTF-8 (an incomplete character) become U+FFFD, are left out, or
    /// are an error.
    pub fn decode(&self, ids: &[u32], on_invalid: Undecodable) -> Result<String> {
        let bytes = match self.decoder() {
            Some(decoder) if on_invalid == Undecodable::Replace => {
                let mut bytes = Vec::new();
                self.decode_through(decoder, ids, false, &mut bytes)?;
                bytes
            }
            _ => self.decode_bytes(ids)?,
        };
        let invalid = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let (bytes, valid) = (invalid.as_bytes(), invalid.utf8_error().valid_up_to());
        match on_invalid {
            Undecodable::Replace => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Undecodable::Ignore => Ok(bytes.utf8_chunks().map(|chunk| chunk.valid()).collect()),
            Undecodable::Strict => Err(Error::tokenizer(
                "ids",
                format!("byte {valid} of the {} that they stand for is not UTF-8", bytes.len()),
                "decode whole characters, or pass errors=\"replace\"",
            )),
        }
    }

    /// The bytes that each id adds to a text that has begun: some tokenizers begin a text otherwise than they go on. Empty
    /// in a gap of the vocabulary.
    pub fn token_bytes(&self) -> Result<Vec<Vec<u8>>> {
        const BEFORE: &[u8] = b"x";
        let ids = 0..self.vocab.size() as u32;
        ids.map(|id| match (self.vocab.bytes(id), self.decoder()) {
            (None, _) => Ok(Vec::new()),
            (Some(bytes), None) => Ok(bytes.to_vec()),
            (Some(_), Some(decoder)) => {
                let (mut state, mut text) = (decoder.begin(true), Vec::new());
                decoder.push(&mut state, BEFORE, &mut text)?;
                decoder.push(&mut state, self.token_to_decode(id, 0)?, &mut text)?;
                decoder.end(&mut state, &mut text)?;
                Ok(text.strip_prefix(BEFORE).map(<[u8]>::to_vec).unwrap_or_default())
            }
        })
        .collect()
    }

    /// How tokens become text where they are not joined as bytes.
    fn decoder(&self) -> Option<&Decoder> {
        self.pipeline.as_ref()?.decoder.as_ref()
    }

    fn decode_through(&self, decoder: &Decoder, ids: &[u32], raw: bool, out: &mut Vec<u8>) -> Result<()> {
        let mut state = decoder.begin(raw);
        for (at, &id) in ids.iter().enumerate() {
            decoder.push(&mut state, self.token_to_decode(id, at)?, out)?;
        }
        decoder.end(&mut state, out)
    }

    /// What a decoder gets for an id, the one at `at` of a list.
    fn token_to_decode(&self, id: u32, at: usize) -> Result<&[u8]> {
        let text = self.pipeline.as_ref().and_then(|pipeline| pipeline.text(id));
        text.map_or_else(|| self.vocab.token(id, at), |text| Ok(text.as_bytes()))
    }

    /// A stream that begins a text. What [`Tokenizer::decode_next`] and [`Tokenizer::decode_rest`] return, joined, is
    /// what decoding all ids at once gives.
    pub fn decode_stream(&self) -> DecodeStream {
        let state = self.decoder().map(|decoder| decoder.begin(false)).unwrap_or_default();
        DecodeStream { state, utf8: Utf8Stream::default() }
    }

    /// Adds ids; returns the text that is now complete.
    pub fn decode_next(&self, stream: &mut DecodeStream, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        match self.decoder() {
            None => self.vocab.decode_into(ids, &mut bytes)?,
            Some(decoder) => {
                for (at, &id) in ids.iter().enumerate() {
                    decoder.push(&mut stream.state, self.token_to_decode(id, at)?, &mut bytes)?;
                }
            }
        }
        Ok(stream.utf8.push(&bytes))
    }

    /// Ends the text; returns what was held back.
    pub fn decode_rest(&self, stream: &mut DecodeStream) -> Result<String> {
        let mut bytes = Vec::new();
        if let Some(decoder) = self.decoder() {
            decoder.end(&mut stream.state, &mut bytes)?;
        }
        let rest = std::mem::replace(stream, self.decode_stream());
        let mut utf8 = rest.utf8;
        Ok(utf8.push(&bytes) + &utf8.flush())
    }
}
