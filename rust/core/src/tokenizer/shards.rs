//! A text file as token shards: files of ids that can be mapped into memory as they are.
//!
//! A shard is a header of 64 bytes and then ids, little-endian, of 2 bytes each where the vocabulary has no more than
//! 65,536 and of 4 otherwise. The header: the eight bytes `subgptok`, the version (u32), the bytes of an id (u32), the
//! number of ids (u64), the fingerprint of the tokenizer (32 bytes), and zeros.

use super::Tokenizer;
use super::encode::EncodeOptions;
use crate::error::{Error, Result};
use crate::io::atomic;
use crate::progress::Listener;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The first bytes of a shard.
pub const MAGIC: &[u8; 8] = b"subgptok";
/// The version of the format.
pub const VERSION: u32 = 1;
/// Bytes before the first id.
pub const HEADER: usize = 64;

impl Tokenizer {
    /// Encodes the text file `path`, of any size, into shards in the directory `output` with at most `shard_tokens` ids
    /// each: `00000.bin`, `00001.bin`, …. Gives their paths and the number of ids. Each is there whole or not at all.
    /// Shards that are there already are removed before the first is written: who reads the directory must not find the
    /// end of an earlier, longer text in it.
    /// The file is read block by block, or whole if the tokenizer changes text before it cuts it (at most 4 GB, then), puts
    /// a space before it, cuts it in several steps other than digits first, or by a regular expression of one's own.
    pub fn encode_file(
        &self,
        path: &Path,
        output: &Path,
        shard_tokens: usize,
        options: EncodeOptions<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<(Vec<PathBuf>, u64)> {
        std::fs::create_dir_all(output).map_err(Error::io("write", output))?;
        let (mut ids, mut shards, mut count) = (Vec::new(), Vec::new(), 0);
        self.encode_blocks(path, options, listener, |block| {
            ids.extend(block);
            let full = ids.len() - ids.len() % shard_tokens;
            for shard in ids[..full].chunks(shard_tokens) {
                self.write_shard(output, &mut shards, shard)?;
            }
            count += full as u64;
            ids.drain(..full);
            Ok(())
        })?;
        if !ids.is_empty() || shards.is_empty() {
            self.write_shard(output, &mut shards, &ids)?;
            count += ids.len() as u64;
        }
        Ok((shards, count))
    }

    fn write_shard(&self, directory: &Path, shards: &mut Vec<PathBuf>, ids: &[u32]) -> Result<()> {
        if shards.is_empty() {
            remove_shards(directory)?;
        }
        let width: u32 = if self.vocab_size() <= 1 << 16 { 2 } else { 4 };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&width.to_le_bytes());
        header.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        let digits = self.fingerprint().as_bytes().chunks(2);
        let byte = |two: &[u8]| std::str::from_utf8(two).ok().and_then(|two| u8::from_str_radix(two, 16).ok());
        header.extend(digits.map(|two| byte(two).unwrap_or_default()));
        header.resize(HEADER, 0);
        let path = directory.join(format!("{:05}.bin", shards.len()));
        atomic::write_with(&path, |temporary| {
            let fill = || -> io::Result<()> {
                let mut file = BufWriter::with_capacity(1 << 20, File::create(temporary)?);
                file.write_all(&header)?;
                for id in ids {
                    file.write_all(&id.to_le_bytes()[..width as usize])?;
                }
                file.flush()
            };
            fill().map_err(Error::io("write", &path))
        })?;
        shards.push(path);
        Ok(())
    }
}

/// Removes all shards of a directory: what is named like one and begins like one.
fn remove_shards(directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".bin"));
        if number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
            && path.is_file()
            && begins_as_shard(&path).map_err(Error::io("read", &path))?
        {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn begins_as_shard(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress;
    use crate::tokenizer::special::Which;
    use crate::tokenizer::train::tests::trained;

    #[test]
    fn shards_hold_the_ids_of_the_whole_file() {
        let text = "a wörd, and\n\nanother one<|end|> 123 ".repeat(300_000);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.txt");
        std::fs::write(&file, &text).unwrap();
        for pattern in ["gpt4", "o200k"] {
            let tokenizer = trained(pattern, &text[..1000]);
            let options = EncodeOptions { allowed: Which::All, ..EncodeOptions::ORDINARY };
            let expected = tokenizer.encode(&text, options, &mut progress::ignore).unwrap();
            let output = folder.path().join(pattern);
            let (shards, count) =
                tokenizer.encode_file(&file, &output, 1_000_000, options, &mut progress::ignore).unwrap();
            assert_eq!(count as usize, expected.len());
            let mut ids = Vec::new();
            for shard in &shards {
                let bytes = std::fs::read(shard).unwrap();
                assert_eq!(&bytes[..8], MAGIC);
                ids.extend(bytes[HEADER..].chunks(2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]]))));
            }
            assert_eq!(shards.len(), expected.len().div_ceil(1_000_000));
            assert!(ids == expected);
            assert_eq!(tokenizer.count_file(&file, options, &mut progress::ignore).unwrap(), count);
        }
        std::fs::write(&file, "").unwrap();
        let (shards, count) = trained("gpt2", "a")
            .encode_file(&file, folder.path(), 9, EncodeOptions::ORDINARY, &mut progress::ignore)
            .unwrap();
        assert_eq!((shards.len(), count), (1, 0));
    }

    #[test]
    fn shards_of_a_longer_text_go_and_files_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (file, output) = (folder.path().join("text.txt"), folder.path().join("shards"));
        let tokenizer = trained("gpt2", "a");
        let encode = |text: &str| {
            std::fs::write(&file, text).unwrap();
            tokenizer.encode_file(&file, &output, 4, EncodeOptions::ORDINARY, &mut progress::ignore).unwrap().0
        };
        assert_eq!(encode(&"x".repeat(30)).len(), 8);
        for (name, content) in [("00009.bin", "not ours"), ("0001.bin", "subgptok"), ("00000.idx", "subgptdx")] {
            std::fs::write(output.join(name), content).unwrap();
        }
        let shards = encode(&"x".repeat(8));
        let mut left: Vec<_> = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        let mut expected = shards;
        assert_eq!(expected.len(), 2);
        expected.extend(["00009.bin", "0001.bin", "00000.idx"].map(|name| output.join(name)));
        expected.sort();
        assert_eq!(left, expected);
    }
}
