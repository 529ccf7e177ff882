//! Reading text files block by block: memory is bounded by a block, whatever the size of the file.
//!
//! A byte order mark at the start of a file is dropped. Bytes that are not UTF-8 are an error that names the file and the
//! byte, or become U+FFFD. Nothing else is changed: line ends stay as they are.

use super::bpe::count::Counter;
use crate::error::{Error, Result};
use crate::progress::{self, Listener};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read at a time.
pub(super) const BLOCK: usize = 4 << 20;

/// A text without any place to cut it is counted in parts of this size.
const UNCUT: usize = 64 << 20;

/// What to do about bytes or characters that cannot be represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInvalid {
    /// Put U+FFFD (bytes) or `<unk>` (characters, words) in their place.
    Replace,
    /// Raise an error that names the place.
    Strict,
}

/// Counts the pieces of one file. `listener` hears the counter's bytes, of an unknown total.
pub fn count_file(
    counter: &mut Counter,
    path: &Path,
    on_invalid: OnInvalid,
    listener: &mut Listener<'_>,
) -> Result<()> {
    let mut blocks = Blocks::open(path, on_invalid)?;
    while let Some(text) = blocks.next(|text, seen| cut(counter, text, seen))? {
        counter.add(&[text])?;
        progress::report(listener, counter.bytes(), 0)?;
    }
    Ok(())
}

/// How much of `text` can be counted before the rest of the file is known; of its first `seen` bytes alone, nothing could.
fn cut(counter: &Counter, text: &str, seen: usize) -> usize {
    match counter.safe_cut(text, seen) {
        Some(cut) => cut,
        None if text.len() >= UNCUT => text.len(),
        None => 0,
    }
}

/// A text file, read block by block.
pub struct Blocks<'a> {
    file: File,
    /// Its size when it was opened.
    pub size: u64,
    decoder: Decoder<'a>,
    bytes: Vec<u8>,
    text: String,
    /// How much of `text` was given.
    given: usize,
    ended: bool,
}

impl<'a> Blocks<'a> {
    /// Opens a file.
    pub fn open(path: &'a Path, on_invalid: OnInvalid) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("read", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if !metadata.is_file() {
            return Err(Error::Data {
                place: path.display().to_string(),
                problem: "is not a regular file".into(),
                remedy: "name a text file, a directory or a glob".into(),
            });
        }
        let decoder = Decoder { path, on_invalid, offset: 0, started: false };
        let (bytes, text) = (Vec::new(), String::new());
        Ok(Blocks { file, size: metadata.len(), decoder, bytes, text, given: 0, ended: false })
    }

    /// The next part of the text, after another block was read; empty if none of it can be given yet. `cut` tells how much
    /// of a text can be given before more of it is known, and hears how many bytes of it were left by the part before.
    /// What it leaves comes with the next part, and all of it at the end of the file.
    pub fn next(&mut self, cut: impl Fn(&str, usize) -> usize) -> Result<Option<&str>> {
        self.text.drain(..self.given);
        self.given = 0;
        if self.ended {
            return Ok(None);
        }
        let (path, left) = (self.decoder.path, self.text.len());
        let read = self.file.by_ref().take(BLOCK as u64).read_to_end(&mut self.bytes);
        self.ended = read.map_err(Error::io("read", path))? == 0;
        self.decoder.decode(&mut self.bytes, &mut self.text, self.ended)?;
        self.given = if self.ended { self.text.len() } else { cut(&self.text, left) };
        Ok(Some(&self.text[..self.given]))
    }
}

/// UTF-8 with a position in its file.
struct Decoder<'a> {
    path: &'a Path,
    on_invalid: OnInvalid,
    offset: u64,
    started: bool,
}

impl Decoder<'_> {
    /// Moves what is complete from `bytes` to `text`; everything at the `end` of the file.
    fn decode(&mut self, bytes: &mut Vec<u8>, text: &mut String, end: bool) -> Result<()> {
        let mut done = 0;
        if !self.started && (bytes.len() >= 3 || end) {
            self.started = true;
            done = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        }
        while self.started && done < bytes.len() {
            let (valid, bad) = match std::str::from_utf8(&bytes[done..]) {
                Ok(valid) => (valid.len(), None),
                Err(e) => (e.valid_up_to(), Some(e.error_len())),
            };
            text.push_str(std::str::from_utf8(&bytes[done..done + valid]).unwrap_or_default());
            done += valid;
            let skip = match bad {
                None => continue,
                Some(None) if !end => break,
                Some(None) => bytes.len() - done,
                Some(Some(len)) => len,
            };
            if self.on_invalid == OnInvalid::Strict {
                return Err(self.invalid(bytes[done], done));
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += skip;
        }
        bytes.drain(..done);
        self.offset += done as u64;
        Ok(())
    }

    fn invalid(&self, byte: u8, at: usize) -> Error {
        Error::Data {
            place: self.path.display().to_string(),
            problem: format!("byte 0x{byte:02x} at offset {} is not UTF-8", self.offset + at as u64),
            remedy: "save the file as UTF-8, or pass errors=\"replace\"".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::pretokenize::Pretokenizer;
    use crate::tokenizer::pretokenize::patterns::Pattern;
    use crate::tokenizer::special::Matcher;
    use std::ops::ControlFlow;

    fn count(content: &[u8], on_invalid: OnInvalid) -> Result<Vec<(String, u64)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let mut counter = Counter::new(Pretokenizer::known(Pattern::Words), Matcher::default(), None);
        count_file(&mut counter, file.path(), on_invalid, &mut progress::ignore)?;
        let (_, words, _) = counter.finish()?;
        Ok(words.iter().map(|(p, n)| (String::from_utf8(p.to_vec()).unwrap(), n)).collect())
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_line_ends_are_kept() {
        let counts = count("\u{feff}a\r\na".as_bytes(), OnInvalid::Strict).unwrap();
        assert_eq!(counts, [("\n".to_string(), 1), ("\r".to_string(), 1), ("a".to_string(), 2)]);
        assert!(count(b"\xef\xbb\xbf", OnInvalid::Strict).unwrap().is_empty());
        assert!(count(b"", OnInvalid::Strict).unwrap().is_empty());
    }

    #[test]
    fn invalid_bytes_are_named_or_replaced() {
        for (content, offset) in [(&b"ab \xff c"[..], 3), (b"\xe2\x82", 0), (b"\xef\xbb\xbfx\xc0", 4)] {
            let error = count(content, OnInvalid::Strict).unwrap_err().to_string();
            assert!(error.contains(&format!("offset {offset} ")), "{error}");
            assert!(count(content, OnInvalid::Replace).unwrap().iter().any(|(p, n)| p == "\u{fffd}" && *n == 1));
        }
    }

    #[test]
    fn blocks_do_not_show() {
        let text = "wörd and ".repeat(BLOCK / 5);
        let counts = count(text.as_bytes(), OnInvalid::Strict).unwrap();
        let n = (BLOCK / 5) as u64;
        assert_eq!(counts, [(" ".to_string(), 2 * n), ("and".to_string(), n), ("wörd".to_string(), n)]);
        let mut broken = text.into_bytes();
        broken[BLOCK + 100] = 0xff;
        let error = count(&broken, OnInvalid::Strict).unwrap_err().to_string();
        let at = BLOCK + 100;
        assert!(
            error.contains("not UTF-8") && (error.contains(&at.to_string()) || error.contains(&(at - 1).to_string()))
        );
    }

    #[test]
    fn every_block_is_heard_of_and_looked_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(2 * BLOCK + 5)).unwrap();
        let mut blocks = Blocks::open(file.path(), OnInvalid::Strict).unwrap();
        let (looked_at, mut parts) = (std::cell::RefCell::new(Vec::new()), Vec::new());
        let cut = |text: &str, left| {
            looked_at.borrow_mut().push((left, text.len()));
            0
        };
        while let Some(part) = blocks.next(cut).unwrap() {
            parts.push(part.len());
        }
        let ends = [0, BLOCK, 2 * BLOCK, 2 * BLOCK + 5];
        assert_eq!(*looked_at.borrow(), ends.windows(2).map(|two| (two[0], two[1])).collect::<Vec<_>>());
        assert_eq!(parts, [0, 0, 0, 2 * BLOCK + 5]);

        let mut counter = Counter::new(Pretokenizer::known(Pattern::Words), Matcher::default(), None);
        let mut heard = 0;
        let mut listener = |_| {
            heard += 1;
            if heard == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let counted = count_file(&mut counter, file.path(), OnInvalid::Strict, &mut listener);
        assert!(matches!(counted, Err(Error::Interrupted)) && counter.bytes() == 0);
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        assert!(matches!(count_of("/nonexistent"), Err(Error::Io { .. })));
        assert!(count_of("/").is_err());
    }

    fn count_of(path: &str) -> Result<()> {
        let mut counter = Counter::new(Pretokenizer::known(Pattern::Words), Matcher::default(), None);
        count_file(&mut counter, Path::new(path), OnInvalid::Strict, &mut progress::ignore)
    }
}
