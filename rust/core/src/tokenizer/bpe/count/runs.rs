//! Counts that do not fit into memory: sorted runs in temporary files, read back in one pass that adds them up.

use super::table::Table;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Bytes that each run is read by.
const BUFFER: usize = 1 << 16;

/// Runs that were written. Their files have no name and go with them.
#[derive(Default)]
pub struct Runs {
    files: Vec<File>,
}

impl Runs {
    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes the counts of a table.
    pub fn write(&mut self, table: &Table) -> Result<()> {
        let directory = std::env::temp_dir();
        let write = || -> io::Result<File> {
            let mut out = BufWriter::new(tempfile::tempfile()?);
            table.sorted(|piece, count| {
                out.write_all(&(piece.len() as u64).to_le_bytes())?;
                out.write_all(&count.to_le_bytes())?;
                out.write_all(piece)
            })?;
            out.into_inner().map_err(io::IntoInnerError::into_error)
        };
        self.files.push(write().map_err(Error::io("write", &directory))?);
        Ok(())
    }

    /// Calls `each` with every piece of all runs and its count, sorted by the bytes of the piece.
    pub fn sorted(&mut self, mut each: impl FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
        let directory = std::env::temp_dir();
        let io = || Error::io("read", &directory);
        let mut readers = Vec::new();
        let mut heap = BinaryHeap::new();
        for file in &mut self.files {
            file.seek(SeekFrom::Start(0)).map_err(io())?;
            let mut reader = BufReader::with_capacity(BUFFER, &*file);
            if let Some((piece, count)) = next(&mut reader).map_err(io())? {
                heap.push(Reverse((piece, readers.len(), count)));
            }
            readers.push(reader);
        }
        let mut last: Option<(Vec<u8>, u64)> = None;
        while let Some(Reverse((piece, run, count))) = heap.pop() {
            if let Some((following, count)) = next(&mut readers[run]).map_err(io())? {
                heap.push(Reverse((following, run, count)));
            }
            match &mut last {
                Some((known, sum)) if *known == piece => *sum = sum.saturating_add(count),
                _ => {
                    if let Some((piece, count)) = last.replace((piece, count)) {
                        each(&piece, count)?;
                    }
                }
            }
        }
        last.map_or(Ok(()), |(piece, count)| each(&piece, count))
    }
}

/// The next piece of a run and its count.
fn next(reader: &mut impl Read) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut number = [0; 8];
    match reader.read_exact(&mut number) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut piece = vec![0; u64::from_le_bytes(number) as usize];
    reader.read_exact(&mut number)?;
    reader.read_exact(&mut piece)?;
    Ok(Some((piece, u64::from_le_bytes(number))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up() {
        let mut runs = Runs::default();
        assert!(runs.is_empty());
        for texts in [&["b", "a", "a"][..], &["c", "a"], &[]] {
            let mut table = Table::new();
            texts.iter().for_each(|text| table.add(text.as_bytes(), 2));
            runs.write(&table).unwrap();
        }
        for _ in 0..2 {
            let mut all = Vec::new();
            runs.sorted(|piece, count| {
                all.push((piece.to_vec(), count));
                Ok(())
            })
            .unwrap();
            assert_eq!(all, [(b"a".to_vec(), 6), (b"b".to_vec(), 2), (b"c".to_vec(), 2)]);
        }
    }
}
