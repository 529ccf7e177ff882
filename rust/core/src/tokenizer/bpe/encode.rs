//! Text to ids: pieces are looked up among those seen before, and merged where they are new.
//!
//! Text is cut by a [`Scanner`] in batches ([`Batch`]) whose pieces are mostly in the table. What is not there takes the
//! way through [`Encoder::piece`].

use super::batch::Batch;
use super::cache::{Cache, Table};
use super::key::Key;
use super::merge::{Rule, Scratch, merge_key};
use super::pairs::Pairs;
use super::symbols::Chars;
use crate::error::{Error, Result};
use crate::tokenizer::pretokenize::window::Scanner;
use crate::tokenizer::vocab::Vocab;
use rustc_hash::FxHashSet;
use std::ops::Range;
use std::sync::Arc;

/// "No token".
const NONE: u32 = u32::MAX;

/// Most ids that the table gives at once, and what one of its places writes.
const AT_ONCE: usize = 4;

/// Merges and what is needed to apply them.
#[derive(Debug)]
pub struct Bpe {
    rule: Rule,
    /// The token of each single byte; [`NONE`] where there is none.
    bytes: Box<[u32; 256]>,
    ignore_merges: bool,
    /// How a piece begins where its first symbols are characters.
    chars: Option<Box<Chars>>,
    cache: Cache,
}

impl Bpe {
    /// Merges as pairs in rank order with the token each makes. With `ignore_merges` a piece that is a token of `vocab`
    /// is looked up whole whether or not merges lead there.
    pub fn new(merges: &[(u64, u32)], vocab: &Vocab, ignore_merges: bool) -> Self {
        Bpe::with_rule(Rule::Pairs(Pairs::new(merges)), vocab, ignore_merges)
    }

    /// tiktoken's rule: the rank of a token is its id, any two tokens whose bytes make up a token can merge, and a piece
    /// that is a token is that one.
    pub fn from_ranks(vocab: &Vocab) -> Self {
        Bpe::with_rule(Rule::Ranks(None), vocab, true)
    }

    /// The rule of SentencePiece: any two neighbours whose text is a token can merge, of which `ranks` tells the order by
    /// id. Equal ranks merge from left to right.
    pub fn from_scores(ranks: Vec<u32>, vocab: &Vocab) -> Self {
        Bpe::with_rule(Rule::Ranks(Some(ranks.into_boxed_slice())), vocab, false)
    }

    /// The same over characters instead of bytes.
    pub fn over(self, chars: Chars) -> Self {
        Bpe { chars: Some(Box::new(chars)), ..self }
    }

    /// What the first symbols are, where they are characters.
    pub fn chars(&self) -> Option<&Chars> {
        self.chars.as_deref()
    }

    fn with_rule(rule: Rule, vocab: &Vocab, ignore_merges: bool) -> Self {
        let bytes = Box::new(std::array::from_fn(|byte| vocab.ordinary(&[byte as u8]).unwrap_or(NONE)));
        Bpe { rule, bytes, ignore_merges, chars: None, cache: Cache::new() }
    }

    /// Whether a piece that is a token is looked up whole whatever the merges say.
    pub fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// The pairs that merge, in rank order; pairs of equal rank (they make the same token) by their tokens.
    pub fn merges(&self, vocab: &Vocab) -> Vec<(u32, u32)> {
        match &self.rule {
            Rule::Pairs(pairs) => pairs.list(),
            Rule::Ranks(_) => splits(vocab).into_iter().map(|(_, left, right)| (left, right)).collect(),
        }
    }

    /// The last two symbols that a token's characters merge into before they are that token, by ranks; `None` if they
    /// never are.
    pub fn last_pair(&self, token: &str, vocab: &Vocab) -> Option<(u32, u32)> {
        let (Rule::Ranks(ranks), Some(chars)) = (&self.rule, &self.chars) else { return None };
        let mut scratch = Scratch::default();
        chars.begin(token, |id, at| scratch.push(id, at));
        scratch.merge_short_of_whole(ranks.as_deref(), vocab.tokens(), token.as_bytes());
        let mut symbols = scratch.symbols();
        let (left, right) = (symbols.next()?.0, symbols.next()?.0);
        symbols.next().is_none().then_some((left, right))
    }

    /// Whether a token that merges earlier has a smaller id, as where ids are ranks.
    pub fn makes_tokens_in_order(&self) -> bool {
        match &self.rule {
            Rule::Pairs(pairs) => pairs.makes_tokens_in_order(),
            Rule::Ranks(ranks) => ranks.is_none(),
        }
    }

    /// Whether any two neighbours whose bytes are a token merge, in the order of ids: tiktoken's rule.
    pub fn goes_by_ranks(&self) -> bool {
        matches!(self.rule, Rule::Ranks(None))
    }

    /// A byte that has no token, if there is one.
    pub fn missing_byte(&self) -> Option<u8> {
        (0..=255).find(|&byte| !self.has_byte(byte))
    }

    /// The first character of `text` that has no token, neither itself nor by its bytes.
    pub fn missing(&self, text: &str) -> Option<(usize, char)> {
        let known = |c: char| match &self.chars {
            Some(chars) => chars.knows(c),
            None => c.encode_utf8(&mut [0; 4]).bytes().all(|byte| self.has_byte(byte)),
        };
        text.char_indices().find(|(_, c)| !known(*c))
    }

    /// Whether every text can be encoded.
    pub fn is_total(&self) -> bool {
        self.chars.as_ref().map_or_else(|| self.missing_byte().is_none(), |chars| chars.is_total())
    }

    /// Whether `byte` has a token.
    pub fn has_byte(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)] != NONE
    }
}

/// Every way to make a token of two, as rank, left and right, sorted.
fn splits(vocab: &Vocab) -> Vec<(u32, u32, u32)> {
    let mut splits = Vec::new();
    // A cut is tried only where tokens of both lengths exist: one long token costs a few look-ups, not its square.
    let lengths: FxHashSet<usize> = vocab.entries().map(|(_, bytes)| bytes.len()).collect();
    let mut ordered: Vec<usize> = lengths.iter().copied().collect();
    ordered.sort_unstable();
    for (id, bytes) in vocab.ordinary_entries() {
        let cuts = ordered.iter().copied().take_while(|&cut| cut < bytes.len());
        for cut in cuts.filter(|cut| *cut > 0 && lengths.contains(&(bytes.len() - cut))) {
            if let (Some(left), Some(right)) = (vocab.ordinary(&bytes[..cut]), vocab.ordinary(&bytes[cut..])) {
                splits.push((id, left, right));
            }
        }
    }
    splits.sort_unstable();
    splits
}

/// One thread's way through a text.
pub struct Encoder<'a> {
    bpe: &'a Bpe,
    vocab: &'a Vocab,
    table: Arc<Table>,
    generation: usize,
    scratch: Scratch,
    ids: Vec<u32>,
    batch: Batch,
}

impl<'a> Encoder<'a> {
    /// An encoder by `bpe`, whose tokens are those of `vocab`.
    pub fn new(bpe: &'a Bpe, vocab: &'a Vocab) -> Self {
        let (table, generation) = bpe.cache.table();
        Encoder { bpe, vocab, table, generation, scratch: Scratch::default(), ids: Vec::new(), batch: Batch::new() }
    }

    /// Appends the ids of `text`, cut by `scanner`. `done` hears of every few pieces how many bytes they have, and may end
    /// it.
    pub fn text(
        &mut self,
        scanner: Scanner,
        text: &str,
        out: &mut Vec<u32>,
        mut done: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < text.len() {
            if self.generation != self.bpe.cache.generation() {
                (self.table, self.generation) = self.bpe.cache.table();
            }
            let rest = &text.as_bytes()[at..];
            let lines = self.table.lines();
            at = self.batch.fill(scanner, text, at, |key| lines.line(key));
            let count = self.batch.keys().len();
            let mut next = 0;
            while next < count {
                next = self.known(next, out);
                if next < count {
                    let piece = self.batch.piece(rest, next);
                    match self.batch.keys()[next].0 {
                        Key::NONE => self.piece(piece, out)?,
                        key => self.new_piece(piece, Some(key), out)?,
                    }
                    next += 1;
                }
            }
            done(rest.len() - (text.len() - at))?;
        }
        Ok(())
    }

    /// Appends the ids of pieces of the batch that are in the table, from `next` on; gives the first that is not.
    #[inline]
    fn known(&self, next: usize, out: &mut Vec<u32>) -> usize {
        let keys = &self.batch.keys()[next..];
        out.reserve(Key::MOST * keys.len() + AT_ONCE);
        let lines = self.table.lines();
        let len = out.len();
        let room = out.spare_capacity_mut();
        let mut at = 0;
        let mut done = next;
        for (key, line) in keys {
            let found = match lines.find(*key, *line) {
                Some(found) => found,
                None if *key == Key::NONE => break,
                None => match self.table.find(*key) {
                    Some(found) => found,
                    None => break,
                },
            };
            let Some(ids) = found.count() else {
                let mut ids = 0;
                for (place, id) in room[at..].iter_mut().zip(self.table.elsewhere(found, 0)) {
                    place.write(id);
                    ids += 1;
                }
                at += ids;
                done += 1;
                continue;
            };
            let places = room[at..].first_chunk_mut::<AT_ONCE>().expect("there is room for every piece");
            for (place, id) in places.iter_mut().zip(found.words()) {
                place.write(id);
            }
            at += ids;
            done += 1;
        }
        // SAFETY: `at` places behind the end were written: four from `at` on before it grows by at most three, or as many
        // as it grows by.
        unsafe { out.set_len(len + at) };
        done
    }

    /// Appends the ids of one piece. Bytes without a token are left out, as in `tokenizers`.
    pub fn piece(&mut self, piece: &[u8], out: &mut Vec<u32>) -> Result<()> {
        let key = Key::of(piece);
        let known = match key {
            Some(key) => self.table.find_short(key, out),
            None => self.table.find_long(piece, out),
        };
        if known { Ok(()) } else { self.new_piece(piece, key, out) }
    }

    /// Appends the ids of a piece that may be very long, cut where no merge reaches over.
    pub fn stretch(&mut self, piece: &str, out: &mut Vec<u32>) -> Result<()> {
        match &self.bpe.chars {
            None => self.piece(piece.as_bytes(), out),
            Some(chars) => chars.for_each_part(piece, |part| self.piece(part.as_bytes(), out)),
        }
    }

    /// The ids of a piece with the bytes of it that each stands for.
    pub fn located(&mut self, piece: &str) -> Result<Vec<(u32, Range<usize>)>> {
        if self.bpe.ignore_merges
            && let Some(id) = self.vocab.ordinary(piece.as_bytes())
        {
            return Ok(vec![(id, 0..piece.len())]);
        }
        self.symbols(piece.as_bytes())?;
        let mut located: Vec<(u32, Range<usize>)> = Vec::new();
        let close = |located: &mut Vec<(u32, Range<usize>)>, end: usize| {
            if let Some((_, last)) = located.last_mut() {
                last.end = end.max(last.start);
            }
        };
        let mut add = |id, start| {
            close(&mut located, start);
            located.push((id, start..piece.len()));
        };
        match &self.bpe.chars {
            Some(chars) => chars.finish(piece, self.scratch.symbols(), &mut add),
            None => self.scratch.symbols().for_each(|(id, start)| add(id, start)),
        }
        Ok(located)
    }

    /// The token that the bytes of a piece merge into, if they do into one, whatever is known of the whole piece.
    pub fn merged(&mut self, piece: &[u8]) -> Result<Option<u32>> {
        self.symbols(piece)?;
        let mut symbols = self.scratch.symbols();
        Ok(symbols.next().filter(|_| symbols.next().is_none()).map(|(id, _)| id))
    }

    /// Appends the ids of a piece that the table does not know, and keeps them there.
    #[cold]
    fn new_piece(&mut self, piece: &[u8], key: Option<Key>, out: &mut Vec<u32>) -> Result<()> {
        self.ids.clear();
        self.merge(piece, key)?;
        out.extend_from_slice(&self.ids);
        if !self.table.insert(piece, &self.ids) {
            self.bpe.cache.replace(&self.table);
            (self.table, self.generation) = self.bpe.cache.table();
        }
        Ok(())
    }

    /// Puts the ids of a new piece into `self.ids`.
    fn merge(&mut self, piece: &[u8], key: Option<Key>) -> Result<()> {
        let Bpe { rule, bytes, ignore_merges, .. } = self.bpe;
        if *ignore_merges && let Some(id) = self.vocab.ordinary(piece) {
            self.ids.push(id);
            return Ok(());
        }
        if let (Rule::Ranks(None), Some(key), false) = (rule, key, piece.is_empty()) {
            merge_key(key, piece.len(), self.vocab.tokens(), bytes, &mut self.ids);
            return Ok(());
        }
        self.symbols(piece)?;
        match &self.bpe.chars {
            // Pieces over characters come from texts.
            Some(chars) => {
                let piece = std::str::from_utf8(piece).unwrap_or_default();
                chars.finish(piece, self.scratch.symbols(), |id, _| self.ids.push(id));
            }
            None => self.ids.extend(self.scratch.symbols().map(|(id, _)| id)),
        }
        Ok(())
    }

    /// Leaves what a piece merges into in `self.scratch`.
    fn symbols(&mut self, piece: &[u8]) -> Result<()> {
        let Bpe { rule, bytes, chars, .. } = self.bpe;
        if piece.len() >= i32::MAX as usize {
            return Err(Error::tokenizer(
                "text",
                format!("a single piece of {} bytes, without a place to cut it", piece.len()),
                "split the text into documents of less than 2 GB",
            ));
        }
        self.scratch.clear();
        match chars {
            Some(chars) => {
                let piece = std::str::from_utf8(piece).unwrap_or_default();
                chars.begin(piece, |id, at| self.scratch.push(id, at));
            }
            None => {
                for (at, &byte) in piece.iter().enumerate() {
                    if bytes[usize::from(byte)] != NONE {
                        self.scratch.push(bytes[usize::from(byte)], at);
                    }
                }
            }
        }
        self.scratch.merge(rule, self.vocab.tokens(), piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
