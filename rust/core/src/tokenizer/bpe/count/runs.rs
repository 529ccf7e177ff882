//! Counts that do not fit into memory: sorted runs in temporary files, read back in one pass that adds them up.

use super::table::Table;
use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// Bytes that each run is read by.
const BUFFER: usize = 1 << 16;

/// Files that are open at a time, at most: systems allow some hundreds.
const MOST_FILES: usize = 64;

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
        self.write_among(table, MOST_FILES)
    }

    /// The same where the runs become one as soon as there are `most`.
    fn write_among(&mut self, table: &Table, most: usize) -> Result<()> {
        if self.files.len() >= most {
            let one = Self::file(|out| self.sorted(|piece, count| put(out, piece, count)))?;
            self.files = vec![one];
        }
        self.files.push(Self::file(|out| table.sorted(|piece, count| put(out, piece, count)))?);
        Ok(())
    }

    /// A file that `fill` has written.
    fn file(fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<File> {
        let io = |e| Error::io("write", std::env::temp_dir())(e);
        let mut out = BufWriter::new(tempfile::tempfile().map_err(io)?);
        fill(&mut out)?;
        out.into_inner().map_err(|e| io(e.into_error()))
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

/// Writes a piece and its count.
fn put(out: &mut BufWriter<File>, piece: &[u8], count: u64) -> Result<()> {
    let parts = [&(piece.len() as u64).to_le_bytes()[..], &count.to_le_bytes(), piece];
    let written = parts.into_iter().try_for_each(|part| out.write_all(part));
    written.map_err(|e| Error::io("write", std::env::temp_dir())(e))
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
    fn many_runs_become_one() {
        let mut runs = Runs::default();
        for round in 0..20u64 {
            let mut table = Table::new();
            [format!("{}", round % 3), "all".into()].iter().for_each(|text| table.add(text.as_bytes(), round));
            runs.write_among(&table, 3).unwrap();
            assert!(runs.files.len() <= 3);
        }
        let mut all = Vec::new();
        runs.sorted(|piece, count| {
            all.push((String::from_utf8(piece.to_vec()).unwrap(), count));
            Ok(())
        })
        .unwrap();
        let sum = |rest: u64| (0..20).filter(|round| round % 3 == rest).sum::<u64>();
        let pieces = [("0", sum(0)), ("1", sum(1)), ("2", sum(2)), ("all", 190)];
        assert_eq!(all, pieces.map(|(piece, count)| (piece.to_string(), count)));
    }

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
