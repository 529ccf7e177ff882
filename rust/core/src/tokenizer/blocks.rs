//! Text files, encoded block by block where they can be cut.

use super::Tokenizer;
use super::corpus::Blocks;
use super::cutting::last_cut;
use super::encode::EncodeOptions;
use crate::error::{Error, Result};
use crate::progress::{self, Listener, Progress};
use std::path::Path;

impl Tokenizer {
    /// The number of ids of the text file `path`, which is read whole where it cannot be cut, as by
    /// [`Tokenizer::encode_file`]. `listener` hears the bytes done.
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
        let rules = self.rules(options)?;
        let mut blocks = Blocks::open(path, options.unknown)?;
        let (mut done, total) = (0, blocks.size);
        progress::report(listener, 0, total)?;
        // A split that tells no place to cut needs the whole file, and so does what is done to its beginning alone.
        let cuttable = self.cuttable().is_some() && !self.split.prefix_space && self.pipeline.is_none();
        let whole = [rules.found(), rules.refused()];
        let cut = |text: &str, seen| match cuttable {
            true => last_cut(&self.split, &whole, text, seen).unwrap_or(0),
            false => 0,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::corpus::BLOCK;
    use crate::tokenizer::special::Which;
    use crate::tokenizer::train::tests::trained;

    #[test]
    fn what_is_refused_is_found_across_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.txt");
        let tokenizer = trained("gpt2", "words");
        // The last place to cut in the first block is in the middle of the string.
        let text = format!("{}two {}", "x ".repeat(BLOCK / 2 - 10), "w".repeat(50));
        std::fs::write(&path, &text).unwrap();
        let refused = ["two w".to_string(), "other".to_string()];
        let options = EncodeOptions { disallowed: Which::Only(&refused), ..EncodeOptions::ORDINARY };
        let error = tokenizer.count_file(&path, options, &mut progress::ignore).unwrap_err().to_string();
        assert!(error.contains("two w") && error.contains("text.txt"), "{error}");
        let options = EncodeOptions { disallowed: Which::Only(&refused[1..]), ..options };
        let expected = tokenizer.encode(&text, options, &mut progress::ignore).unwrap();
        assert_eq!(tokenizer.count_file(&path, options, &mut progress::ignore).unwrap(), expected.len() as u64);
    }
}
