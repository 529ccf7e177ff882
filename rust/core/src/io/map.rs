//! A file's bytes without a copy of them.

use crate::error::{Error, Result};
use memmap2::Mmap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::Path;

/// A regular file, mapped into memory to be read.
///
/// The pages come from the system's cache when they are read, and may leave again: a model of any size costs only what
/// it is decoded into. The size is read once, when the file is mapped. If another process cuts the file while it is
/// mapped, reading behind its new end stops this process with SIGBUS (on Windows cutting it is refused). Whoever
/// replaces such a file should give the new one its name by a rename, as [`super::atomic`] does: the mapping then keeps
/// the old bytes.
pub struct Map(Option<Mmap>);

impl Map {
    /// Maps the file at `path`. Anything but a regular file is refused: a pipe would wait for its writer for ever.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = fs::metadata(path).map_err(Error::io("read", path))?;
        if !kind.is_file() {
            let problem = std::io::Error::new(ErrorKind::InvalidInput, "it is not a regular file");
            return Err(Error::io("read", path)(problem));
        }
        let file = File::open(path).map_err(Error::io("read", path))?;
        if file.metadata().map_err(Error::io("read", path))?.len() == 0 {
            return Ok(Map(None)); // not every system maps nothing
        }
        // SAFETY: the bytes are only read, and any bytes are bytes. That nobody writes to or cuts the file meanwhile
        // cannot be had from a system: writes change what is read, which the readers take as numbers, or as texts once they
        // have a copy (the crate that reads headers of safetensors does so in place, as for all who map such files), and
        // cuts end the process, which the documentation above says.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("read", path))?;
        Ok(Map(Some(map)))
    }
}

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// What a file that its reader does not know seems to be, and what to do.
pub(super) fn other_kind(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = bytes.trim_ascii_start();
    if bytes.starts_with(b"version https://git-lfs") {
        Some(("is a Git LFS pointer, not the weights", "fetch the file itself with `git lfs pull`"))
    } else if text.starts_with(b"<") && text.get(1).is_some_and(|&b| b == b'!' || b.is_ascii_alphabetic()) {
        Some(("is a web page, not a weight file", "download the file itself"))
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        let problem = "is an archive or pickle, as PyTorch writes it, which may run any code when it is read";
        Some((problem, "convert it to safetensors where it comes from"))
    } else if bytes.starts_with(b"GGUF") {
        Some(("is a GGUF file", "give it a name that ends in .gguf"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_mapped_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for content in ["", "abc"] {
            fs::write(&path, content).unwrap();
            assert_eq!(&*Map::open(&path).unwrap(), content.as_bytes());
        }
        for (path, word) in [(dir.path(), "regular file"), (&dir.path().join("y"), "y")] {
            let error = Map::open(path).err().unwrap();
            assert!(matches!(error, Error::Io { .. }) && error.to_string().contains(word), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_mapped_file_that_is_replaced_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, [1; 9000]).unwrap();
        let map = Map::open(&path).unwrap();
        crate::io::atomic::write(&path, b"new").unwrap();
        assert!(map.iter().all(|&byte| byte == 1) && map.len() == 9000);
    }
}
