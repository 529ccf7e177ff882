//! How often each piece occurs in a corpus: cut, counted in parallel, added up.
//!
//! A document is cut into tasks at places where no pattern has a piece across (`Pretokenizer::cut`), so the counts are
//! those of the whole document, and are the same for any number of threads. Special tokens are cut out: what separates
//! documents is no text to learn from.
//!
//! Memory grows with the distinct pieces alone, and where it is limited they go to disk ([`runs`]). Counts stay exact.
//! What is given in the end has to fit, however: then the rarest pieces are left out, of equally rare ones those for which
//! there is no room when they are taken in the order of their bytes.

mod runs;
mod table;

use super::batch::Batch;
use super::key::Key;
use super::words::Words;
use crate::error::Result;
use crate::parallel;
use crate::tokenizer::cutting::{cut_near, cut_within, last_cut};
use crate::tokenizer::pretokenize::Pretokenizer;
use crate::tokenizer::pretokenize::window::{BATCH, Scanner, WINDOW};
use crate::tokenizer::special::Matcher;
use runs::Runs;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use table::Table;

/// Bytes that one task counts, about.
const TASK: usize = 1 << 18;

/// Memory that learning merges takes for each byte of distinct pieces, about: symbols, weights and places.
const LEARNING: usize = 40;

/// A corpus that is being counted.
pub struct Counter {
    split: Pretokenizer,
    scanner: Option<Scanner>,
    specials: Matcher,
    /// One for each thread that has counted. Which piece is in which is chance; their sum is not.
    tables: Mutex<Vec<Table>>,
    runs: Runs,
    max_memory: Option<usize>,
    bytes: u64,
}

/// Pieces that did not fit into the memory that was allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Distinct ones.
    pub pieces: u64,
    /// How often they occur together.
    pub occurrences: u64,
    /// None occurs more often than this.
    pub at_most: u64,
}

impl Counter {
    /// Counts the pieces that `split` cuts, with `max_memory` bytes for them, or as many as it takes.
    pub fn new(split: Pretokenizer, specials: Matcher, max_memory: Option<usize>) -> Self {
        let scanner = split.scanner();
        Counter { split, scanner, specials, tables: Mutex::default(), runs: Runs::default(), max_memory, bytes: 0 }
    }

    /// Counts whole documents.
    pub fn add(&mut self, documents: &[&str]) -> Result<()> {
        let tasks = self.tasks(documents);
        let counted = parallel::collect(tasks.len(), |i| {
            let idle = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            let mut table = idle().pop().unwrap_or_else(Table::new);
            let outcome = self.count(&tasks[i], &mut table);
            idle().push(table);
            outcome
        });
        counted.into_iter().collect::<Result<()>>()?;
        self.bytes += documents.iter().map(|d| d.len() as u64).sum::<u64>();
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.max_memory.is_some_and(|most| tables.iter().map(Table::memory).sum::<usize>() > most / 3) {
            self.runs.write(&merged(std::mem::take(tables)))?;
        }
        Ok(())
    }

    /// Bytes of text so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where `text`, the beginning of a longer document, may be cut so that both parts can be counted on their own: the
    /// last such place. In its first `seen` bytes alone there was none.
    pub fn safe_cut(&self, text: &str, seen: usize) -> Option<usize> {
        last_cut(&self.split, &[&self.specials], text, seen)
    }

    /// What cut the pieces, the pieces and their counts, and what was left out of them.
    pub fn finish(self) -> Result<(Pretokenizer, Words, LeftOut)> {
        let Counter { split, tables, mut runs, max_memory, .. } = self;
        let table = merged(tables.into_inner().unwrap_or_else(PoisonError::into_inner));
        let mut words = Words::default();
        if runs.is_empty() && max_memory.is_none() {
            table.sorted(|piece, count| -> Result<()> {
                words.push(piece, count);
                Ok(())
            })?;
            return Ok((split, words, LeftOut::default()));
        }
        runs.write(&table)?;
        drop(table);
        let room = max_memory.map_or(usize::MAX, |most| most / LEARNING);
        let (rarest, mut room) = rarest_count(&mut runs, room)?;
        let mut left_out = LeftOut::default();
        runs.sorted(|piece, count| {
            let fits = count > rarest || (count == rarest && piece.len() <= room);
            if fits {
                room -= if count == rarest { piece.len() } else { 0 };
                words.push(piece, count);
            } else {
                left_out.pieces += 1;
                left_out.occurrences = left_out.occurrences.saturating_add(count);
                left_out.at_most = left_out.at_most.max(count);
            }
            Ok(())
        })?;
        Ok((split, words, left_out))
    }

    /// Tasks of about [`TASK`] bytes: small documents together, large ones in parts.
    fn tasks<'t>(&self, documents: &[&'t str]) -> Vec<Vec<&'t str>> {
        let mut tasks = Vec::new();
        let (mut task, mut size) = (Vec::new(), 0);
        for &document in documents {
            let mut rest = document;
            while !rest.is_empty() {
                let cut = cut_near(rest, TASK, |limit| cut_within(&self.split, &[&self.specials], rest, 0..=limit));
                task.push(&rest[..cut]);
                size += cut;
                rest = &rest[cut..];
                if size >= TASK / 2 {
                    tasks.push(std::mem::take(&mut task));
                    size = 0;
                }
            }
        }
        if !task.is_empty() {
            tasks.push(task);
        }
        tasks
    }

    fn count(&self, documents: &[&str], table: &mut Table) -> Result<()> {
        let mut batch = Batch::new();
        for document in documents {
            self.specials.split(
                document,
                &mut (&mut *table, &mut batch),
                |(table, batch), text| match self.scanner {
                    Some(scanner) => {
                        count_batches(scanner, text, table, batch);
                        Ok(())
                    }
                    None => self.split.for_each(text, |piece| {
                        table.add(piece.as_bytes(), 1);
                        Ok(())
                    }),
                },
                |_, _| (),
            )?;
        }
        Ok(())
    }
}

fn count_batches(scanner: Scanner, text: &str, table: &mut Table, batch: &mut Batch) {
    let mut at = 0;
    while at < text.len() {
        table.grow(BATCH + WINDOW);
        let rest = &text.as_bytes()[at..];
        at = batch.fill(scanner, text, at, |key| table.ask(key));
        for (i, &(key, place)) in batch.keys().iter().enumerate() {
            if key == Key::NONE {
                table.add(batch.piece(rest, i), 1);
            } else {
                table.add_short(key, place as usize, 1);
            }
        }
    }
}

/// All tables as one.
fn merged(tables: Vec<Table>) -> Table {
    // The largest takes in the others.
    let mut tables = tables.into_iter();
    let mut sum = tables.next().unwrap_or_else(Table::new);
    for mut table in tables {
        if table.len() > sum.len() {
            std::mem::swap(&mut sum, &mut table);
        }
        sum.merge(&table);
    }
    sum
}

/// The smallest count of pieces that have, with all more frequent ones, at most `room` bytes, and the room that these
/// leave to the pieces of that count.
fn rarest_count(runs: &mut Runs, room: usize) -> Result<(u64, usize)> {
    // More frequent pieces are not told apart: even a text of terabytes has few of them.
    const MOST: u64 = 1 << 20;
    let mut bytes_by_count = BTreeMap::new();
    runs.sorted(|piece, count| {
        *bytes_by_count.entry(count.min(MOST)).or_insert(0usize) += piece.len();
        Ok(())
    })?;
    let mut left = room;
    for (count, bytes) in bytes_by_count.into_iter().rev() {
        if bytes > left {
            return Ok((count, left));
        }
        left -= bytes;
    }
    Ok((0, left))
}

#[cfg(test)]
mod tests;
