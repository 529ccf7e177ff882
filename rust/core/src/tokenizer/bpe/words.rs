//! The distinct pieces of a corpus and how often each occurs, in two blocks of memory however many they are.

/// Pieces in the order of their bytes.
#[derive(Debug, Default)]
pub struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    counts: Vec<u64>,
}

impl Words {
    /// Adds a piece, which comes after those that are there.
    pub fn push(&mut self, piece: &[u8], count: u64) {
        self.bytes.extend_from_slice(piece);
        self.ends.push(self.bytes.len());
        self.counts.push(count);
    }

    /// The pieces and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let pieces = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]);
        pieces.zip(self.counts.iter().copied())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<B: AsRef<[u8]>> FromIterator<(B, u64)> for Words {
    fn from_iter<I: IntoIterator<Item = (B, u64)>>(pieces: I) -> Self {
        let mut words = Words::default();
        pieces.into_iter().for_each(|(piece, count)| words.push(piece.as_ref(), count));
        words
    }
}
