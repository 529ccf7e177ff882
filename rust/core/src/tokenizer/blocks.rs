//! Text files of any size, encoded block by block.

use super::Tokenizer;
use super::corpus::Blocks;
use super::cutting::last_cut;
use super::encode::EncodeOptions;
use super::special::Which;
use crate::error::{Error, Result};
use crate::progress::{self, Listener, Progress};
use std::path::Path;

impl Tokenizer {
    /// The number of ids of the text file `path`. A tokenizer that changes text before it cuts it is given the whole file,
    /// of at most 4 GB. `listener` hears the bytes done.
    pub fn count_file(&self, path: &Path, options: EncodeOptions<'_>, listener: &mut Listener<'_>) -> Result<u64> {
        let mut count = 0;
        self.encode_blocks(path, options, listener, |ids| {
            count += ids.len() as u64;
            Ok(())
        })?;
        Ok(count)
    }

    /// Encodes the text file `path` and gives `each` the ids of one block after the other; together they are those of the
    /// whole text. `listener` hears the bytes done.
    pub(super) fn encode_blocks(
        &self,
        path: &Path,
        options: EncodeOptions<'_>,
        listener: &mut Listener<'_>,
        mut each: impl FnMut(Vec<u32>) -> Result<()>,
    ) -> Result<()> {
        let every = EncodeOptions { allowed: Which::All, disallowed: Which::Only(&[]), ..options };
        let every = self.rules(every)?;
        let mut blocks = Blocks::open(path, options.unknown)?;
        let (mut done, total) = (0, blocks.size);
        progress::report(listener, 0, total)?;
        // A pattern that tells no place to cut needs the whole file, and so does what is done to its beginning alone.
        let cuttable = self.cuttable().is_some() && !self.split.prefix_space && self.pipeline.is_none();
        let cut = |text: &str| if cuttable { last_cut(&self.split, every.found(), text).unwrap_or(0) } else { 0 };
        while let Some(text) = blocks.next(cut)? {
            // The end is reported once, at the end.
            let most = total.saturating_sub(1);
            let mut within = |block: Progress| listener(Progress { done: most.min(done + block.done), total });
            each(self.encode(text, options, &mut within).map_err(|e| in_file(e, path, done))?)?;
            done += text.len() as u64;
            progress::report(listener, done.min(most), total)?;
        }
        progress::report(listener, total, total)
    }
}

/// Adds to an error which file it came from, and where the block began that its place counts from.
fn in_file(error: Error, path: &Path, begin: u64) -> Error {
    let after = if begin > 0 { format!(" after byte {begin}") } else { String::new() };
    error.within(format_args!("{}{after}: ", path.display()))
}
