//! Tokens to text where that is more than joining them: the `decoder` of a `tokenizer.json`, one token after the other.
//!
//! Decoding a whole text is a stream that ends, so that both give the same.

use super::files::ByteAlphabet;
use super::pretokenize::delimiters::{Class, Delimiter};
use super::stream::Utf8Stream;
use crate::error::Result;
use std::borrow::Cow;

/// One step from tokens to text.
#[derive(Clone, Debug)]
pub enum Step {
    /// GPT-2's printable characters stand for bytes; joins all tokens.
    ByteLevel,
    /// A character stands for a space.
    Metaspace {
        /// The character.
        replacement: char,
        /// Whether it stands for nothing in the first token.
        prefix: bool,
    },
    /// Something stands for something else in every token.
    Replace {
        /// What is replaced.
        pattern: Delimiter,
        /// By what.
        content: String,
    },
    /// `<0x0A>` stands for a byte.
    ByteFallback {
        /// Whether bytes that are no text become U+FFFD each for itself, and not all of those beside them.
        each: bool,
    },
    /// Joins all tokens.
    Fuse,
    /// Removes a character at the ends of every token, so many times at most.
    Strip {
        /// The character.
        content: char,
        /// Times at the beginning.
        start: usize,
        /// Times at the end.
        stop: usize,
    },
    /// Puts a space between tokens.
    Spaces,
}

/// All steps, in order.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    steps: Vec<Step>,
}

/// How far a stream has come.
#[derive(Clone, Debug, Default)]
pub struct State {
    steps: Vec<StepState>,
    /// Whether bytes that are no text are given as they are.
    raw: bool,
}

#[derive(Clone, Debug, Default)]
struct StepState {
    /// Whether what comes in is one token in fragments.
    fused: bool,
    /// Tokens or, of a fused one, characters that have come.
    seen: usize,
    /// What cannot be given yet.
    held: Vec<u8>,
    utf8: Utf8Stream,
}

type Token = Vec<u8>;

impl Decoder {
    /// These steps.
    pub fn new(steps: Vec<Step>) -> Self {
        Decoder { steps }
    }

    /// The beginning of a text. If `raw`, bytes that are no text come out as they are instead of as U+FFFD.
    pub fn begin(&self, raw: bool) -> State {
        let mut fused = false;
        let steps = self.steps.iter().map(|step| {
            let state = StepState { fused, ..StepState::default() };
            fused |= matches!(step, Step::ByteLevel | Step::Fuse);
            state
        });
        State { steps: steps.collect(), raw }
    }

    /// Adds a token and appends what is complete.
    pub fn push(&self, state: &mut State, token: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.run(state, vec![token.to_vec()], false, out)
    }

    /// Ends the text and appends what was held back.
    pub fn end(&self, state: &mut State, out: &mut Vec<u8>) -> Result<()> {
        self.run(state, Vec::new(), true, out)
    }

    fn run(&self, state: &mut State, mut tokens: Vec<Token>, end: bool, out: &mut Vec<u8>) -> Result<()> {
        for (step, step_state) in self.steps.iter().zip(&mut state.steps) {
            tokens = step.run(step_state, tokens, end, state.raw)?;
        }
        tokens.iter().for_each(|token| out.extend_from_slice(token));
        Ok(())
    }
}

impl Step {
    fn run(&self, state: &mut StepState, tokens: Vec<Token>, end: bool, raw: bool) -> Result<Vec<Token>> {
        if state.fused && !self.takes_fragments() {
            tokens.iter().for_each(|token| state.held.extend_from_slice(token));
            if !end || state.held.is_empty() {
                return Ok(Vec::new());
            }
            let whole = std::mem::take(&mut state.held);
            return self.run(&mut StepState::default(), vec![whole], true, raw);
        }
        match self {
            Step::Fuse => Ok(tokens),
            Step::ByteLevel => {
                let alphabet = ByteAlphabet::get();
                let mut text = Vec::new();
                for token in tokens {
                    let bytes = std::str::from_utf8(&token).ok().and_then(|token| alphabet.read(token).ok());
                    let bytes = bytes.unwrap_or(token);
                    if raw {
                        text.extend_from_slice(&bytes);
                    } else {
                        text.extend_from_slice(state.utf8.push(&bytes).as_bytes());
                    }
                }
                if end {
                    text.extend_from_slice(state.utf8.flush().as_bytes());
                }
                Ok(vec![text])
            }
            Step::ByteFallback { each } => Ok(byte_fallback(state, tokens, end, *each, raw)),
            Step::Strip { content, start, .. } if state.fused => {
                Ok(tokens.into_iter().map(|token| strip_fragment(state, token, *content, *start)).collect())
            }
            Step::Spaces => Ok(tokens
                .into_iter()
                .map(|token| {
                    state.seen += 1;
                    if state.seen > 1 { [b" ", token.as_slice()].concat() } else { token }
                })
                .collect()),
            _ => tokens
                .into_iter()
                .map(|token| {
                    let first = state.fused || state.seen == 0;
                    state.seen += 1;
                    let Ok(text) = std::str::from_utf8(&token) else { return Ok(token) };
                    Ok(self.map(text, first)?.into_owned().into_bytes())
                })
                .collect(),
        }
    }

    /// Whether a token may come in fragments, each of whole characters.
    fn takes_fragments(&self) -> bool {
        match self {
            Step::Metaspace { .. } | Step::Fuse => true,
            Step::Replace { pattern, .. } => match pattern {
                Delimiter::Literal(literal) => literal.chars().nth(1).is_none(),
                Delimiter::Class(Class::Only(_)) => true,
                _ => false,
            },
            Step::Strip { stop, .. } => *stop == 0,
            Step::ByteLevel | Step::ByteFallback { .. } | Step::Spaces => false,
        }
    }

    /// What a token becomes by itself.
    fn map<'t>(&self, token: &'t str, first: bool) -> Result<Cow<'t, str>> {
        match self {
            Step::Metaspace { replacement, prefix } if token.contains(*replacement) => {
                let stands_for = if first && *prefix { "" } else { " " };
                Ok(token.replace(*replacement, stands_for).into())
            }
            Step::Replace { pattern, content } => {
                let (mut text, mut done) = (String::new(), 0);
                pattern.for_each_match(token, |found| {
                    text.push_str(&token[done..found.start]);
                    text.push_str(content);
                    done = found.end;
                    Ok(())
                })?;
                text.push_str(&token[done..]);
                Ok(text.into())
            }
            Step::Strip { content, start, stop } => {
                let ends = |times: usize, chars: &mut dyn Iterator<Item = char>| {
                    chars.take(times).take_while(|c| c == content).count() * content.len_utf8()
                };
                let front = ends(*start, &mut token.chars());
                let back = ends(*stop, &mut token.chars().rev());
                Ok(token.get(front..token.len() - back).unwrap_or_default().into())
            }
            _ => Ok(token.into()),
        }
    }
}

/// Collects bytes until something else comes, or the end.
fn byte_fallback(state: &mut StepState, tokens: Vec<Token>, end: bool, each: bool, raw: bool) -> Vec<Token> {
    let mut out = Vec::new();
    let close = |held: &mut Vec<u8>, out: &mut Vec<Token>| {
        if held.is_empty() {
            return;
        }
        let bytes = std::mem::take(held);
        out.push(match std::str::from_utf8(&bytes) {
            _ if raw => bytes,
            Ok(_) => bytes,
            Err(_) if each => by_bytes(&bytes),
            Err(_) => "\u{fffd}".repeat(bytes.len()).into_bytes(),
        });
    };
    for token in tokens {
        match byte_of(&token) {
            Some(byte) => state.held.push(byte),
            None => {
                close(&mut state.held, &mut out);
                out.push(token);
            }
        }
    }
    if end {
        close(&mut state.held, &mut out);
    }
    out
}

/// U+FFFD for every byte that belongs to no character.
fn by_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|_| text.push(char::REPLACEMENT_CHARACTER));
    }
    text.into_bytes()
}

/// The byte that a token of the form `<0x0A>` stands for.
pub(super) fn byte_of(token: &[u8]) -> Option<u8> {
    let hex = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let plain = hex.len() == 2 && hex.iter().all(u8::is_ascii_hexdigit);
    u8::from_str_radix(std::str::from_utf8(hex).ok().filter(|_| plain)?, 16).ok()
}

/// Strips the beginning of a token that comes in fragments. `seen` counts what was stripped; it is at its end once
/// something else has come.
fn strip_fragment(state: &mut StepState, token: Token, content: char, start: usize) -> Token {
    let mut encoded = [0; 4];
    let content = content.encode_utf8(&mut encoded).as_bytes();
    let mut rest = token.as_slice();
    while state.seen < start {
        match rest.strip_prefix(content) {
            Some(after) => {
                rest = after;
                state.seen += 1;
            }
            None if rest.is_empty() => break,
            None => state.seen = start,
        }
    }
    rest.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(steps: &[Step], tokens: &[&str]) -> String {
        let decoder = Decoder::new(steps.to_vec());
        let (mut state, mut out) = (decoder.begin(false), Vec::new());
        tokens.iter().for_each(|token| decoder.push(&mut state, token.as_bytes(), &mut out).unwrap());
        decoder.end(&mut state, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn replace() -> Step {
        Step::Replace { pattern: Delimiter::Literal("▁".into()), content: " ".into() }
    }

    #[test]
    fn llamas_decoder() {
        let steps = [
            replace(),
            Step::ByteFallback { each: false },
            Step::Fuse,
            Step::Strip { content: ' ', start: 1, stop: 0 },
        ];
        assert_eq!(decode(&steps, &["▁a", "▁b", "<0xC3>", "<0xA9>", "c"]), "a béc");
        assert_eq!(decode(&steps, &["▁", "▁x"]), " x");
        assert_eq!(decode(&steps, &["<0xC3>", "<0x61>", "x", "<0xE2>"]), "\u{fffd}\u{fffd}x\u{fffd}");
        assert_eq!(decode(&steps, &[]), "");
    }

    #[test]
    fn single_steps() {
        assert_eq!(decode(&[Step::Metaspace { replacement: '▁', prefix: true }], &["▁a▁", "▁b"]), "a b");
        assert_eq!(decode(&[Step::Metaspace { replacement: '▁', prefix: false }], &["▁a", "▁b"]), " a b");
        assert_eq!(decode(&[Step::ByteLevel], &["Ã", "©Ġ", "日"]), "é 日");
        assert_eq!(decode(&[Step::Spaces], &["a", "b"]), "a b");
        assert_eq!(decode(&[Step::ByteFallback { each: true }], &["<0xFF>", "<0x61>"]), "\u{fffd}a");
        let strip = Step::Strip { content: ' ', start: 1, stop: 1 };
        assert_eq!(decode(std::slice::from_ref(&strip), &["  a  ", " ", ""]), " a ");
        assert_eq!(decode(&[Step::Fuse, strip], &[" ", "a", " "]), "a");
        assert_eq!(byte_of(b"<0x+1>"), None);
    }
}
