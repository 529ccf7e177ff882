//! What a pass reads: rows of tokens, and what should follow each of them.

use super::documents::Documents;

/// Ids (b, t), row by row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The tokens.
    pub ids: &'a [u32],
    /// How many rows.
    pub b: usize,
    /// Their length.
    pub t: usize,
    /// Which tokens of a row see each other; `None`: a row is one document.
    pub documents: Option<&'a Documents>,
}

impl<'a> Rows<'a> {
    /// Rows that are a document each.
    pub fn new(ids: &'a [u32], b: usize, t: usize) -> Self {
        Rows { ids, b, t, documents: None }
    }

    /// One row.
    pub fn one(ids: &'a [u32]) -> Self {
        Rows::new(ids, 1, ids.len())
    }

    /// The same rows, with these documents in them.
    pub fn within(self, documents: Option<&'a Documents>) -> Self {
        Rows { documents, ..self }
    }

    /// How many tokens there are room for.
    pub fn n(&self) -> usize {
        self.b * self.t
    }
}

/// The token that should follow each token of some rows.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// One for each token.
    pub ids: &'a [i64],
    /// Those that are this do not count.
    pub ignore_index: i64,
}

impl<'a> Labels<'a> {
    /// Labels of which those that are `ignore_index` do not count.
    pub fn new(ids: &'a [i64], ignore_index: i64) -> Self {
        Labels { ids, ignore_index }
    }
}
