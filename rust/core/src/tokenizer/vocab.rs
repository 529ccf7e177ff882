//! The entries of a vocabulary: id to bytes and back.

use super::bpe::tokens::Tokens;
use super::records::{GAP, Records};
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

/// Ids may leave gaps, but no more than this and twice the entries: a hostile file must not ask for gigabytes.
const GAPS_ALLOWED: usize = 1 << 16;

/// Entries by id and by their bytes. The bytes of an entry are what it decodes to.
#[derive(Debug, Default)]
pub struct Vocab {
    bytes: Vec<u8>,
    /// Start and end in `bytes` by id; `u32::MAX` as the start marks a gap.
    spans: Vec<(u32, u32)>,
    /// What text may become.
    ordinary: Tokens,
    /// Special and added tokens, which text becomes in ways of their own.
    named: FxHashMap<Box<[u8]>, u32>,
    /// Made when something is decoded for the first time.
    records: OnceLock<Records>,
}

impl Vocab {
    /// A vocabulary of `ordinary` entries and `named` tokens; `place` names their source in errors. Ids and entries must
    /// be distinct.
    pub fn new<B: AsRef<[u8]>>(ordinary: &[(B, u32)], named: &[(String, u32)], place: &str) -> Result<Self> {
        let largest = ordinary.iter().map(|(_, id)| *id).chain(named.iter().map(|(_, id)| *id)).max();
        let count = ordinary.len() + named.len();
        if let Some(largest) = largest
            && largest as usize >= 2 * count + GAPS_ALLOWED
        {
            return Err(Error::tokenizer(
                place,
                format!("id {largest} is far beyond the {count} entries"),
                "number the vocabulary without large gaps",
            ));
        }
        let mut vocab = Vocab {
            bytes: Vec::with_capacity(ordinary.iter().map(|(bytes, _)| bytes.as_ref().len()).sum()),
            spans: vec![(u32::MAX, u32::MAX); largest.map_or(0, |id| id as usize + 1)],
            ordinary: Tokens::default(),
            named: FxHashMap::default(),
            records: OnceLock::new(),
        };
        for (bytes, id) in ordinary {
            vocab.place(bytes.as_ref(), *id, place)?;
        }
        vocab.ordinary = Tokens::new(ordinary).map_err(|(first, second)| {
            let (bytes, id) = &ordinary[second];
            twice(bytes.as_ref(), ordinary[first].1, *id, place)
        })?;
        for (name, id) in named {
            let bytes = name.as_bytes();
            vocab.place(bytes, *id, place)?;
            let known = vocab.ordinary.get(bytes).or_else(|| vocab.named.insert(bytes.into(), *id));
            if let Some(first) = known {
                return Err(twice(bytes, first, *id, place));
            }
        }
        Ok(vocab)
    }

    fn place(&mut self, bytes: &[u8], id: u32, place: &str) -> Result<()> {
        if let Some(first) = self.bytes(id) {
            let (first, second) = (show(first), show(bytes));
            return Err(Error::tokenizer(
                place,
                format!("id {id} is given to {first:?} and to {second:?}"),
                "give every entry an id of its own",
            ));
        }
        let start = self.bytes.len();
        let end = u32::try_from(start + bytes.len()).ok().filter(|&end| end < u32::MAX);
        let Some(end) = end else {
            return Err(Error::tokenizer(place, "the entries have more than 4 GB", "use a smaller vocabulary"));
        };
        self.bytes.extend_from_slice(bytes);
        self.spans[id as usize] = (start as u32, end);
        Ok(())
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.spans.len()
    }

    /// The bytes of `id`; `None` for a gap and beyond the end.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        match self.spans.get(id as usize) {
            Some(&(start, end)) if start != u32::MAX => Some(&self.bytes[start as usize..end as usize]),
            _ => None,
        }
    }

    /// The id of an entry.
    pub fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.ordinary.get(bytes).or_else(|| self.named.get(bytes).copied())
    }

    /// The id of an entry that text may become.
    #[inline]
    pub fn ordinary(&self, bytes: &[u8]) -> Option<u32> {
        self.ordinary.get(bytes)
    }

    /// All of those.
    pub fn tokens(&self) -> &Tokens {
        &self.ordinary
    }

    /// The entries in the order of their ids.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.spans.len() as u32).filter_map(|id| Some((id, self.bytes(id)?)))
    }

    /// Those of them that text may become.
    pub fn ordinary_entries(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.entries().filter(|(_, bytes)| !self.named.contains_key(*bytes))
    }

    /// The bytes of an id in a list of ids, at `at`; U+FFFD for a gap. Beyond the end it is an error that names it.
    pub fn token(&self, id: u32, at: usize) -> Result<&[u8]> {
        if id as usize >= self.size() {
            let expected = format!("the vocabulary has ids 0 to {}", self.size().saturating_sub(1));
            return Err(Error::value("decode", "ids", format!("{id} at position {at}"), expected));
        }
        Ok(self.bytes(id).unwrap_or(GAP))
    }

    /// Appends what `ids` decode to; an id beyond the end is an error that names it.
    pub fn decode_into(&self, ids: &[u32], out: &mut Vec<u8>) -> Result<()> {
        self.records.get_or_init(|| Records::new(self)).decode_into(self, ids, out)
    }
}

fn twice(bytes: &[u8], first: u32, second: u32, place: &str) -> Error {
    let problem = format!("the entry {:?} has two ids, {first} and {second}", show(bytes));
    Error::tokenizer(place, problem, "keep one of them")
}

/// An entry as text: itself where it is UTF-8, else its bytes in hexadecimal, each as `<0xE2>`.
pub fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().map(|b| format!("<0x{b:02X}>")).collect(),
    }
}

/// The bytes that [`show`] writes in hexadecimal; `None` where `text` is not of that form.
pub fn unshow(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    hex.split("><0x")
        .map(|digits| {
            let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocab(entries: &[(&str, u32)]) -> Result<Vocab> {
        Vocab::new(entries, &[], "test")
    }

    #[test]
    fn ids_and_bytes_with_a_gap() {
        let v = vocab(&[("b", 1), ("a", 0), ("cd", 4)]).unwrap();
        assert_eq!((v.size(), v.id(b"cd"), v.id(b"x"), v.bytes(3)), (5, Some(4), None, None));
        let mut out = Vec::new();
        v.decode_into(&[4, 0, 3], &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "cda\u{fffd}");
        let error = v.decode_into(&[0, 5], &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("5 at position 1") && error.contains("0 to 4"), "{error}");
    }

    #[test]
    fn twice_the_same_is_refused() {
        assert!(vocab(&[("a", 0), ("b", 0)]).unwrap_err().to_string().contains("id 0"));
        assert!(vocab(&[("a", 0), ("a", 1)]).unwrap_err().to_string().contains("two ids"));
        assert!(vocab(&[("a", u32::MAX)]).unwrap_err().to_string().contains("far beyond"));
        assert_eq!(vocab(&[]).unwrap().size(), 0);
        let named = |name: &str, id| Vocab::new(&[("a", 0)], &[(name.to_string(), id)], "test");
        assert!(named("a", 1).unwrap_err().to_string().contains("two ids"));
        assert!(named("b", 0).unwrap_err().to_string().contains("id 0"));
        let fine = named("b", 1).unwrap();
        assert_eq!((fine.id(b"b"), fine.ordinary(b"b"), fine.ordinary(b"a")), (Some(1), None, Some(0)));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hexadecimal() {
        assert_eq!(show(b"\xe2\x82"), "<0xE2><0x82>");
        assert_eq!(unshow("<0xE2><0x82>").unwrap(), b"\xe2\x82");
        for other in ["", "<0x>", "<0xE>", "<0x+1>", "<0x-1>", "<0xZZ>", "E2"] {
            assert_eq!(unshow(other), None, "{other}");
        }
    }
}
