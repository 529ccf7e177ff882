//! Pieces that were encoded before, with their ids: the text of a language is few words many times.
//!
//! One table serves all threads without a lock. A place is written once, by the thread that claims it, and is published
//! by its key's upper half; readers see it whole or not at all. A table that is half full is replaced by a larger one
//! with the same content, and the largest, when it is full, by an empty one; who still reads the old one keeps it alive.
//! Memory is bounded by [`BUDGET`].

use super::key::{Key, fold, hash_long};
use crate::pages::prefer_huge;
use crate::simd::prefetch_line;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Memory that the pieces of one tokenizer take at most, in bytes. While a table is replaced there are two.
pub const BUDGET: usize = LARGEST * (size_of::<Place>() + WORDS_A_PLACE * size_of::<u32>());

/// Places of the first and of the largest table; each table has four times those of the one before.
const SMALLEST: usize = 1 << 16;
const LARGEST: usize = 1 << 20;

/// Longest piece that is kept.
const LONGEST: usize = 1024;

/// Most ids that a place holds itself. Also the mask of their count, so one less than a power of two.
const INLINE: usize = 3;

/// Words for what places do not hold, a place.
const WORDS_A_PLACE: usize = 2;

/// In place of a length: the place is being written.
const CLAIMED: u64 = 0xff << 56;
/// In place of a length: the key is a hash of a long piece, and the piece is among the words.
const LONG: u64 = 0xfe << 56;
/// In place of the number of ids: they are among the words.
const ELSEWHERE: u32 = u32::MAX;

/// Key and ids of a piece, two places to a cache line: lower and upper half of its [`Key`], zero for a free place; the
/// first two ids; the third and their number. Or, with [`ELSEWHERE`] for that, where words begin, and how many bytes and
/// ids there are.
type Place = [AtomicU64; 4];

/// Words of eight bytes in a large page, which begins a cache line.
const HUGE: usize = (2 << 20) / 8;

/// What a place says.
#[derive(Clone, Copy)]
pub struct Found {
    ids: [u64; 2],
}

impl Found {
    /// The number of ids, if they are here: in the lower and upper half of [`Found::words`].
    #[inline(always)]
    pub fn count(self) -> Option<usize> {
        let count = (self.ids[1] >> 32) as u32;
        (count != ELSEWHERE).then_some(count as usize & INLINE)
    }

    /// The ids and what follows them, four numbers.
    #[inline(always)]
    pub fn words(self) -> [u32; 4] {
        let [a, b] = self.ids;
        [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
    }
}

/// A table of one size.
pub struct Table {
    /// The places, from `first` on, which begins a large page.
    memory: Box<[AtomicU64]>,
    first: usize,
    places: usize,
    words: Box<[AtomicU32]>,
    used_places: AtomicUsize,
    used_words: AtomicUsize,
}

impl Table {
    fn new(places: usize) -> Self {
        // Zeros that the system gives untouched, so that they can be in large pages: not of a type that is aligned.
        let mut memory: Box<[AtomicU64]> = bytemuck::zeroed_slice_box(places * 4 + HUGE);
        prefer_huge(&mut memory);
        let misplaced = memory.as_ptr().addr() % (HUGE * 8) / 8;
        Table {
            memory,
            first: (HUGE - misplaced) % HUGE,
            places,
            words: bytemuck::zeroed_slice_box(places * WORDS_A_PLACE),
            used_places: AtomicUsize::new(0),
            used_words: AtomicUsize::new(0),
        }
    }

    /// A place, the first one again behind the last.
    #[inline(always)]
    fn place(&self, at: usize) -> &Place {
        let start = self.first + 4 * (at & (self.places - 1));
        self.memory[start..].first_chunk().expect("there is memory for every place")
    }

    /// Where a hash's search begins: the place that begins a cache line.
    #[inline(always)]
    fn begin(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.places - 2)
    }

    /// The lines that searches begin at.
    pub fn lines(&self) -> Lines<'_> {
        Lines { memory: &self.memory[self.first..][..4 * self.places], mask: self.places - 2 }
    }

    /// The piece of `key`, wherever it is.
    pub fn find(&self, key: Key) -> Option<Found> {
        let mut at = self.begin(key.hash());
        for _ in 0..self.places {
            let place = self.place(at);
            match place[1].load(Ordering::Acquire) {
                0 => return None,
                high if high == key.high && place[0].load(Ordering::Relaxed) == key.low => return Some(found(place)),
                _ => at += 1,
            }
        }
        None
    }

    /// Appends the ids of a short piece, if it is known.
    pub fn find_short(&self, key: Key, out: &mut Vec<u32>) -> bool {
        let Some(found) = self.find(key) else { return false };
        match found.count() {
            Some(count) => out.extend_from_slice(&found.words()[..count]),
            None => out.extend(self.elsewhere(found, 0)),
        }
        true
    }

    /// Appends the ids of a piece longer than [`Key::MOST`], if it is known.
    pub fn find_long(&self, piece: &[u8], out: &mut Vec<u32>) -> bool {
        if piece.len() > LONGEST {
            return false;
        }
        let Some(found) = self.find(long_key(piece)) else { return false };
        let [start, shape, ..] = found.words();
        let (whole, rest) = piece.as_chunks::<4>();
        let words = &self.words[start as usize..];
        let same = shape >> 16 == piece.len() as u32
            && whole.iter().zip(words).all(|(bytes, w)| w.load(Ordering::Relaxed) == u32::from_le_bytes(*bytes))
            && (rest.is_empty() || words[whole.len()].load(Ordering::Relaxed) == word(rest));
        if same {
            out.extend(self.elsewhere(found, piece.len().div_ceil(4)));
        }
        same
    }

    /// The ids that are among the words, behind `skip` others.
    #[inline]
    pub fn elsewhere(&self, found: Found, skip: usize) -> impl Iterator<Item = u32> {
        let [start, shape, ..] = found.words();
        let start = start as usize + skip;
        self.words[start..start + (shape & 0xffff) as usize].iter().map(|id| id.load(Ordering::Relaxed))
    }

    /// Keeps a piece; `false` when the table is full. A piece that is too long for it is passed over.
    pub fn insert(&self, piece: &[u8], ids: &[u32]) -> bool {
        if piece.is_empty() || piece.len() > LONGEST || ids.len() > 0xffff {
            return true;
        }
        match Key::of(piece) {
            Some(key) => self.insert_as(key, &[], ids),
            None => self.insert_as(long_key(piece), piece, ids),
        }
    }

    fn insert_as(&self, key: Key, piece: &[u8], ids: &[u32]) -> bool {
        if self.used_places.load(Ordering::Relaxed) >= self.places / 2 {
            return false;
        }
        let inline = piece.is_empty() && ids.len() <= INLINE;
        let words = if inline {
            let at = |i: usize| u64::from(ids.get(i).copied().unwrap_or(0));
            [at(0) | at(1) << 32, at(2) | (ids.len() as u64) << 32]
        } else {
            let bytes = piece.len().div_ceil(4);
            let start = self.used_words.fetch_add(bytes + ids.len(), Ordering::Relaxed);
            let Some(room) = self.words.get(start..start + bytes + ids.len()) else { return false };
            for (place, word) in room.iter().zip(piece.chunks(4).map(word).chain(ids.iter().copied())) {
                place.store(word, Ordering::Relaxed);
            }
            let shape = (piece.len() as u64) << 16 | ids.len() as u64;
            [start as u64 | shape << 32, u64::from(ELSEWHERE) << 32]
        };
        self.claim(key, words);
        true
    }

    fn claim(&self, key: Key, ids: [u64; 2]) {
        let mut at = self.begin(key.hash());
        for _ in 0..self.places {
            let [low, high, a, b] = self.place(at);
            match high.compare_exchange(0, CLAIMED, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    low.store(key.low, Ordering::Relaxed);
                    a.store(ids[0], Ordering::Relaxed);
                    b.store(ids[1], Ordering::Relaxed);
                    high.store(key.high, Ordering::Release);
                    self.used_places.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // Another thread was faster.
                Err(other) if other == key.high && low.load(Ordering::Relaxed) == key.low => return,
                Err(_) => at += 1,
            }
        }
    }

    /// Adds everything that is published in `other`, which is smaller.
    fn take_over(&self, other: &Table) {
        let mut words = Vec::new();
        for place in (0..other.places).map(|at| other.place(at)) {
            let high = place[1].load(Ordering::Acquire);
            if high == 0 || high == CLAIMED {
                continue;
            }
            let (key, mut found) = (Key { low: place[0].load(Ordering::Relaxed), high }, found(place));
            if found.count().is_none() {
                let [start, shape, ..] = found.words();
                let bytes = ((shape >> 16) as usize).div_ceil(4);
                words.clear();
                words.extend(
                    other.words[start as usize..][..bytes + (shape & 0xffff) as usize]
                        .iter()
                        .map(|w| w.load(Ordering::Relaxed)),
                );
                let start = self.used_words.fetch_add(words.len(), Ordering::Relaxed);
                let Some(room) = self.words.get(start..start + words.len()) else { return };
                room.iter().zip(&words).for_each(|(place, &word)| place.store(word, Ordering::Relaxed));
                found.ids[0] = start as u64 | u64::from(shape) << 32;
            }
            self.claim(key, found.ids);
        }
    }
}

#[inline(always)]
fn found(place: &Place) -> Found {
    Found { ids: [place[2].load(Ordering::Relaxed), place[3].load(Ordering::Relaxed)] }
}

/// The places of a table, in the hands of the loops that read millions of them.
#[derive(Clone, Copy)]
pub struct Lines<'a> {
    memory: &'a [AtomicU64],
    mask: usize,
}

impl Lines<'_> {
    /// The line where the search for `key` begins. It is fetched ahead of its use.
    #[inline(always)]
    pub fn line(self, key: Key) -> u32 {
        let line = 4 * ((key.hash() >> 32) as usize & self.mask);
        prefetch_line(self.memory.as_ptr().wrapping_add(line));
        line as u32
    }

    /// The piece of `key`, if it is in that line.
    #[inline(always)]
    pub fn find(self, key: Key, line: u32) -> Option<Found> {
        let [low, high, a, b, other_low, other_high, c, d] = self.memory.get(line as usize..)?.first_chunk()?;
        let is = |low: &AtomicU64, high: &AtomicU64| {
            (high.load(Ordering::Acquire) ^ key.high) | (low.load(Ordering::Relaxed) ^ key.low) == 0
        };
        let (in_first, in_second) = (is(low, high), is(other_low, other_high));
        if !(in_first | in_second) {
            return None;
        }
        let (a, b) = if in_second { (c, d) } else { (a, b) };
        Some(Found { ids: [a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)] })
    }
}

/// The key of a piece that does not fit into one: a hash. The piece itself is compared as well.
fn long_key(piece: &[u8]) -> Key {
    let hash = hash_long(piece);
    Key { low: hash, high: fold(hash, 0x8bb8_4b93_962e_acc9) >> 8 | LONG }
}

/// Up to four bytes as a number.
fn word(bytes: &[u8]) -> u32 {
    let mut padded = [0; 4];
    padded[..bytes.len()].copy_from_slice(bytes);
    u32::from_le_bytes(padded)
}

/// The table that is used now.
pub struct Cache {
    /// Not behind a lock: a forked child would inherit it held by a thread that it does not have.
    table: ArcSwap<Table>,
    /// Changes with the table, after it.
    generation: AtomicUsize,
    replacing: Mutex<()>,
}

impl Cache {
    /// A cache of nothing.
    pub fn new() -> Self {
        Cache {
            table: ArcSwap::from_pointee(Table::new(SMALLEST)),
            generation: AtomicUsize::new(0),
            replacing: Mutex::new(()),
        }
    }

    /// The table of now, and its generation.
    pub fn table(&self) -> (Arc<Table>, usize) {
        let generation = self.generation.load(Ordering::Acquire);
        (self.table.load_full(), generation)
    }

    /// Which table is used now.
    #[inline]
    pub fn generation(&self) -> usize {
        self.generation.load(Ordering::Relaxed)
    }

    /// Replaces `full` by a larger table, or the largest one by an empty one. Another thread that does so already is not
    /// waited for.
    pub fn replace(&self, full: &Arc<Table>) {
        let Ok(_only_one) = self.replacing.try_lock() else { return };
        if !Arc::ptr_eq(full, &self.table.load_full()) {
            return;
        }
        let larger = full.places * 4;
        let table = Table::new(larger.min(LARGEST));
        if larger <= LARGEST {
            table.take_over(full);
        }
        self.table.store(Arc::new(table));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        let (table, _) = self.table();
        table.places * size_of::<Place>() + size_of_val(&*table.words)
    }
}

impl Default for Cache {
    fn default() -> Self {
        Cache::new()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(cache: &Cache, piece: &[u8]) -> Option<Vec<u32>> {
        let (table, _) = cache.table();
        let mut ids = Vec::new();
        let known = match Key::of(piece) {
            Some(key) => table.find_short(key, &mut ids),
            None => table.find_long(piece, &mut ids),
        };
        known.then_some(ids)
    }

    fn insert(cache: &Cache, piece: &[u8], ids: &[u32]) {
        let (table, _) = cache.table();
        if !table.insert(piece, ids) {
            cache.replace(&table);
        }
    }

    #[test]
    fn pieces_of_all_lengths_come_back() {
        let cache = Cache::new();
        let pieces: Vec<Vec<u8>> = (1..=LONGEST + 2)
            .step_by(5)
            .chain([LONGEST, LONGEST + 1])
            .map(|len| (0..len).map(|i| i as u8).collect())
            .collect();
        for (i, piece) in pieces.iter().enumerate() {
            assert_eq!(find(&cache, piece), None);
            insert(&cache, piece, &vec![7; i % 9]);
        }
        for (i, piece) in pieces.iter().enumerate() {
            assert_eq!(find(&cache, piece), (piece.len() <= LONGEST).then(|| vec![7; i % 9]));
        }
        insert(&cache, b"", &[1]);
    }

    #[test]
    fn a_piece_is_told_from_another_of_its_hash() {
        let table = Table::new(SMALLEST);
        let piece = b"a piece of two dozen bytes";
        for other in [&b"a piece of two dozen bytez"[..], b"a peace of two dozen bytes", b"a piece of two dozen byte"] {
            assert!(table.insert_as(long_key(other), piece, &[1, 2]));
            let mut ids = Vec::new();
            assert!(!table.find_long(other, &mut ids) && ids.is_empty(), "{}", String::from_utf8_lossy(other));
        }
        assert!(table.insert(b"one of more ids than are counted", &vec![0; 0x1_0000]));
        assert!(!table.find_long(b"one of more ids than are counted", &mut Vec::new()));
    }

    #[test]
    fn a_full_table_grows_and_keeps_what_it_holds_until_the_largest_starts_anew() {
        let cache = Cache::new();
        let piece = |i: u32| {
            if i.is_multiple_of(10) { format!("a rather long piece {i}") } else { format!("{i}") }.into_bytes()
        };
        let count = LARGEST as u32 / 4;
        for i in 0..count {
            insert(&cache, &piece(i), &vec![i; i as usize % 5]);
        }
        let kept = (0..count).filter(|&i| find(&cache, &piece(i)) == Some(vec![i; i as usize % 5])).count();
        assert!(kept > count as usize - 10, "{kept} of {count}");
        for i in count..8 * count {
            insert(&cache, &piece(i), &[i]);
            assert!(cache.bytes() <= BUDGET);
        }
        assert_eq!(cache.bytes(), BUDGET);
        assert_eq!(find(&cache, &piece(0)), None);
        assert_eq!(find(&cache, &piece(8 * count - 1)), Some(vec![8 * count - 1]));
    }

    #[test]
    fn threads_see_pieces_whole() {
        let cache = Cache::new();
        std::thread::scope(|scope| {
            for start in 0..4u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for i in (0..60_000).map(|i| (i * 7 + start * 15_000) % 60_000) {
                        let (piece, ids) = (format!("piece number {i}"), vec![i; 1 + i as usize % 6]);
                        match find(cache, piece.as_bytes()) {
                            Some(found) => assert_eq!(found, ids),
                            None => insert(cache, piece.as_bytes(), &ids),
                        }
                    }
                });
            }
        });
    }
}
