//! The entries of a vocabulary laid out for decoding: one look at memory for a token.

use super::vocab::Vocab;
use crate::error::{Error, Result};
use crate::pages::prefer_huge;
use std::mem::MaybeUninit;

/// How an id without an entry reads (vocabularies may have gaps): U+FFFD, so that decoding is total.
pub(super) const GAP: &[u8] = "\u{fffd}".as_bytes();

/// Bytes of a record.
const SIZE: usize = 16;

/// The length of an entry that has no room in a record.
const LONG: u8 = u8::MAX;

/// Ids that are decoded between two looks at how much room there is.
const BLOCK: usize = 1024;

/// Bytes of a token, about.
const USUAL: usize = 5;

/// The bytes of a short entry and, last, their number, or [`LONG`]. One array, so that it is one vector to load and store:
/// fifteen bytes and one go through memory again, which the processor waits for.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
struct Record([u8; SIZE]);

impl Record {
    #[inline(always)]
    fn len(&self) -> u8 {
        self.0[SIZE - 1]
    }
}

/// A record for every id.
#[derive(Debug)]
pub struct Records(Box<[Record]>);

impl Records {
    /// The records of the entries of `vocab`.
    pub fn new(vocab: &Vocab) -> Self {
        let record = |id| {
            let entry = vocab.bytes(id).unwrap_or(GAP);
            let mut record = [0; SIZE];
            record[SIZE - 1] = LONG;
            if entry.len() < SIZE {
                record[..entry.len()].copy_from_slice(entry);
                record[SIZE - 1] = entry.len() as u8;
            }
            Record(record)
        };
        Records((0..vocab.size() as u32).map(record).collect())
    }

    /// Appends what `ids` decode to with `vocab`; an id beyond the end is an error that names it.
    pub fn decode_into(&self, vocab: &Vocab, ids: &[u32], out: &mut Vec<u8>) -> Result<()> {
        reserve(out, USUAL * ids.len())?;
        prefer_huge(out.spare_capacity_mut());
        let mut at = 0;
        while at < ids.len() {
            let block = &ids[at..ids.len().min(at + BLOCK)];
            reserve(out, SIZE * block.len())?;
            let short = self.decode_short(block, out);
            at += short;
            if short < block.len() {
                let id = ids[at];
                let entry = vocab.token(id, at)?;
                reserve(out, entry.len())?;
                out.extend_from_slice(entry);
                at += 1;
            }
        }
        Ok(())
    }

    /// Appends the entries of `ids` up to the first that is not short; gives their number. There is room for a record each.
    #[inline]
    fn decode_short(&self, ids: &[u32], out: &mut Vec<u8>) -> usize {
        let before = out.len();
        let room = &mut out.spare_capacity_mut()[..SIZE * ids.len()];
        let (mut len, mut done) = (0, 0);
        for &id in ids {
            let Some(record) = self.0.get(id as usize).filter(|record| record.len() != LONG) else { break };
            // All sixteen bytes are copied, of which the next entry overwrites what is too many.
            let Some(room) = room[len..].first_chunk_mut::<SIZE>() else { break };
            *room = record.0.map(MaybeUninit::new);
            len += usize::from(record.len());
            done += 1;
        }
        // SAFETY: `len` bytes were written, one entry after the other.
        unsafe { out.set_len(before + len) };
        done
    }
}

/// A foreign vocabulary may have entries of megabytes: few ids can ask for more memory than there is.
fn reserve(out: &mut Vec<u8>, bytes: usize) -> Result<()> {
    out.try_reserve(bytes).map_err(|_| Error::OutOfMemory { what: "decoded text", bytes: out.len() + bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_every_length_and_gaps_in_any_order() {
        let entries: Vec<(String, u32)> = (0..40).map(|n| ("ab".repeat(20)[..n].to_string(), 2 * n as u32)).collect();
        let vocab = Vocab::new(&entries[1..], &[], "test").unwrap();
        let records = Records::new(&vocab);
        let ids: Vec<u32> = (0..30_000).map(|i| i * 7919 % 79).collect();
        let expected: Vec<u8> = ids.iter().flat_map(|&id| vocab.bytes(id).unwrap_or(GAP)).copied().collect();
        let mut out = b"before".to_vec();
        records.decode_into(&vocab, &ids, &mut out).unwrap();
        assert!(out.strip_prefix(b"before").unwrap() == expected);
        let error = records.decode_into(&vocab, &[0, 2, 79], &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("79 at position 2") && error.contains("0 to 78"), "{error}");
    }
}
