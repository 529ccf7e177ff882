//! The character map of a SentencePiece model: strings and what they become, in a double-array trie.
//!
//! The blob is the size of the trie in bytes, its units of 32 bits, and the strings that they point to, each ended by a
//! zero byte. All numbers are little-endian. Nothing in it is trusted: what leads outside is no match.

/// A character map.
#[derive(Clone, Debug)]
pub struct Charsmap {
    units: Vec<u32>,
    strings: String,
}

impl Charsmap {
    /// Reads a blob; the error says what is wrong with it.
    pub fn new(blob: &[u8]) -> Result<Self, String> {
        let (size, rest) = blob.split_first_chunk::<4>().ok_or("it is shorter than 4 bytes")?;
        let size = u32::from_le_bytes(*size) as usize;
        if !size.is_multiple_of(4) || size > rest.len() {
            return Err(format!("its trie is said to have {size} bytes of {}", rest.len()));
        }
        let (trie, strings) = rest.split_at(size);
        let units = trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]));
        let strings = std::str::from_utf8(strings).map_err(|e| format!("its strings are not UTF-8: {e}"))?;
        Ok(Charsmap { units: units.collect(), strings: strings.to_string() })
    }

    /// The longest string of the map that `text` begins with: its length and what it becomes.
    pub fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut found = None;
        let mut node = offset(*self.units.first()?);
        for (at, byte) in text.bytes().enumerate() {
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            // A unit that has a value has it where the next byte would be 0.
            if unit & 1 << 8 != 0 {
                let value = self.units.get(node as usize).map(|unit| (unit & !(1 << 31)) as usize);
                let string = value.and_then(|value| self.strings.get(value..)?.split('\0').next());
                found = string.map(|string| (at + 1, string)).or(found);
            }
        }
        found.filter(|(len, _)| text.is_char_boundary(*len))
    }
}

/// How far the children of a unit are.
fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A trie of one string of one byte: the root, its child, and the child's value.
    fn blob(byte: u8, becomes: &str) -> Vec<u8> {
        let mut units = vec![0u32; 256];
        units[0] = 1 << 10;
        let child = 1 ^ usize::from(byte);
        units[child] = u32::from(byte) | 1 << 8 | ((child as u32 ^ 200) << 10);
        units[200] = 1 << 31;
        let mut blob = 1024u32.to_le_bytes().to_vec();
        blob.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        blob.extend_from_slice(becomes.as_bytes());
        blob.push(0);
        blob
    }

    #[test]
    fn strings_are_found() {
        let map = Charsmap::new(&blob(b'a', "é")).unwrap();
        assert_eq!(map.longest("abc"), Some((1, "é")));
        assert_eq!(map.longest("b"), None);
        assert_eq!(map.longest(""), None);
    }

    #[test]
    fn damaged_blobs_are_no_harm() {
        let good = blob(b'a', "b");
        for cut in 0..good.len() {
            if let Ok(map) = Charsmap::new(&good[..cut]) {
                map.longest("abc");
            }
        }
        assert!(Charsmap::new(&[0xff; 8]).unwrap_err().contains("trie"));
        let mut wild = good.clone();
        wild[4..12].fill(0xff);
        assert_eq!(Charsmap::new(&wild).unwrap().longest("a"), None);
    }
}
