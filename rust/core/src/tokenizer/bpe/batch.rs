//! The keys of the next pieces of a text, some dozens at a time.
//!
//! Looking pieces up takes two loops that the processor can predict: this one makes keys and fetches their cache lines,
//! the next reads those.

use super::key::Key;
use crate::tokenizer::pretokenize::window::{BATCH, Ends, Scanner, WINDOW};

/// Keys of pieces.
pub struct Batch {
    ends: Ends,
    keys: Box<[(Key, u32); BATCH + WINDOW]>,
}

impl Batch {
    /// Room for a batch.
    pub fn new() -> Self {
        Batch { ends: Ends::new(), keys: Box::new([(Key::NONE, 0); BATCH + WINDOW]) }
    }

    /// Takes the next pieces of `text` from `at` on, and gives where they end. `ask` is called with every key, to fetch
    /// what it will be looked up in and tell where that is.
    #[inline]
    pub fn fill(&mut self, scanner: Scanner, text: &str, at: usize, ask: impl Fn(Key) -> u32) -> usize {
        let next = scanner.find(text, at, &mut self.ends);
        let text = &text.as_bytes()[at..];
        // Before this place sixteen bytes can be read.
        let readable = text.len().saturating_sub(15);
        let mut start = 0;
        for (&end, place) in self.ends.found().iter().zip(self.keys.iter_mut()) {
            let end = end as usize;
            let len = end - start;
            let key = if start < readable && len <= Key::MOST {
                // SAFETY: `start + 16 <= text.len()`.
                let bytes = unsafe { text.as_ptr().add(start).cast::<[u8; 16]>().read() };
                Key::front(&bytes, len)
            } else {
                near_end(text, start, end)
            };
            *place = (key, ask(key));
            start = end;
        }
        next
    }

    /// The keys, [`Key::NONE`] for pieces that are too long for one, with what `ask` told.
    #[inline]
    pub fn keys(&self) -> &[(Key, u32)] {
        &self.keys[..self.ends.found().len()]
    }

    /// A piece, of the text from where this batch begins.
    #[inline]
    pub fn piece<'t>(&self, text: &'t [u8], at: usize) -> &'t [u8] {
        let ends = self.ends.found();
        let start = at.checked_sub(1).map_or(0, |before| ends[before]);
        &text[start as usize..ends[at] as usize]
    }
}

/// The key of a piece in the last bytes of a text, or of one too long for a key.
#[inline]
fn near_end(text: &[u8], start: usize, end: usize) -> Key {
    match text.last_chunk() {
        Some(bytes) if end - start <= Key::MOST && start > text.len() - 16 => {
            // All but the first of sixteen bytes fit into a key.
            let skipped = text.len() - 15;
            Key::back(bytes).part(start - skipped, end - skipped)
        }
        _ => Key::of(&text[start..end]).unwrap_or(Key::NONE),
    }
}
