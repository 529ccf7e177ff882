//! Rows that hold several documents, which see nothing of each other: where each begins, and the positions that follow.

use crate::error::{Error, Result};
use crate::kernels::check;

/// The id of a place that belongs to no document.
pub const NO_DOCUMENT: i64 = -1;

/// The documents in a batch of rows (B, T), checked: each is a run of places in one row, and its positions begin at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    t: usize,
    starts: Vec<u32>,
    positions: Vec<u32>,
}

impl Documents {
    /// Takes for each place of `b` rows of `t` the place in its row where its document begins.
    pub fn new(starts: Vec<u32>, b: usize, t: usize) -> Result<Self> {
        check::starts("documents", &starts, b, t)?;
        let positions = starts.iter().enumerate().map(|(at, start)| (at % t) as u32 - start).collect();
        Ok(Documents { t, starts, positions })
    }

    /// Takes for each place the number of its document in its row. Numbers never fall along a row; a place with
    /// [`NO_DOCUMENT`] sees itself alone, and a document does not go on behind it.
    pub fn numbered(numbers: &[i64], b: usize, t: usize) -> Result<Self> {
        const OP: &str = "documents";
        check::len(OP, "documents", numbers.len(), b * t)?;
        let mut starts = Vec::with_capacity(numbers.len());
        for (row, numbers) in numbers.chunks(t.max(1)).enumerate() {
            let (mut last, mut start) = (NO_DOCUMENT, 0);
            for (at, &number) in numbers.iter().enumerate() {
                let goes_on = number != NO_DOCUMENT && at > 0 && numbers[at - 1] == number;
                if number < NO_DOCUMENT || (number != NO_DOCUMENT && !goes_on && number <= last) {
                    let got = format!("{number} at place {at} of row {row}");
                    let remedy = "number the documents of a row upwards from 0, each in one piece, and write -1 where there \
                                  is none";
                    return Err(Error::value(OP, "documents", got, remedy));
                }
                if !goes_on {
                    start = at as u32;
                }
                last = last.max(number);
                starts.push(start);
            }
        }
        Self::new(starts, b, t)
    }

    /// Must be those of `b` rows of `t`.
    pub(super) fn check(&self, op: &'static str, b: usize, t: usize) -> Result<()> {
        let rows = self.starts.len() / self.t.max(1);
        check::shape(op, "documents", &[rows, self.t], &[b, t])
    }

    /// For each place the place in its row where its document begins.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// For each place its position in its document.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// How many places of its document a place sees, its own included, on average.
    pub(super) fn seen(&self) -> f64 {
        let sum: f64 = self.positions.iter().map(|&position| f64::from(position) + 1.0).sum();
        sum / self.positions.len().max(1) as f64
    }
}
