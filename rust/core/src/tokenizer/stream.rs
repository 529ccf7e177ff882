//! Bytes to text as they come: characters that are not complete yet are held back.

/// An incremental UTF-8 decoder. What it returns, joined, is the text that decoding all the bytes at once gives, with
/// U+FFFD in place of what is not UTF-8.
#[derive(Debug, Default, Clone)]
pub struct Utf8Stream {
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// Adds `bytes`; returns the characters that are now complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut held = 0;
        let mut text = String::new();
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_incomplete(invalid) {
                held = invalid.len();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - held);
        text
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn flush(&mut self) -> String {
        let rest = if self.pending.is_empty() { "" } else { "\u{fffd}" };
        self.pending.clear();
        rest.to_string()
    }
}

/// Whether more bytes could make a character of these.
fn is_incomplete(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn joined_it_is_the_text(parts in prop::collection::vec(
            prop::collection::vec(prop::sample::select(b"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xed".to_vec()), 0..4), 0..12,
        )) {
            let mut stream = Utf8Stream::default();
            let mut text: String = parts.iter().map(|part| stream.push(part)).collect();
            text += &stream.flush();
            prop_assert_eq!(text, String::from_utf8_lossy(&parts.concat()).into_owned());
        }
    }

    #[test]
    fn a_character_comes_when_it_is_complete() {
        let mut stream = Utf8Stream::default();
        let got = [b"\xf0", b"\x9f", b"\x98", b"\x80"].map(|byte| stream.push(byte));
        assert_eq!(got, ["", "", "", "😀"]);
        assert_eq!(stream.push(b"\xe2\x82"), "");
        assert_eq!(stream.flush(), "\u{fffd}");
        assert_eq!(stream.flush(), "");
    }
}
