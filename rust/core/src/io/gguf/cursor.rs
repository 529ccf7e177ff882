//! A place in a file's bytes that moves on as far as there are bytes, and no further.

/// What is wrong with a file, and what to do.
#[derive(Debug)]
pub(super) struct Fault {
    pub problem: String,
    pub remedy: &'static str,
}

/// What to do about files that say what cannot be.
pub(super) const DAMAGED: &str = "copy or download it again";

impl Fault {
    /// A fault of a damaged file.
    pub fn damaged(problem: String) -> Self {
        Fault { problem, remedy: DAMAGED }
    }
}

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    /// Where the next byte is; at most the length.
    pub at: usize,
    /// What is being read, for messages: the metadata entry or tensor.
    pub place: String,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0, place: "the header".to_string() }
    }

    /// The whole file.
    pub fn all(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// A fault here.
    pub fn fault(&self, problem: String) -> Fault {
        Fault::damaged(format!("{} (before byte {}): {problem}", self.place, self.at))
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], Fault> {
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| self.bytes[self.at..].get(..len))
            .ok_or_else(|| self.fault(format!("{what} has {len} bytes where the file has {} more", self.left())))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// The bytes of `n` things of `size` bytes each.
    pub fn bytes_of(&mut self, n: u64, size: usize, what: &str) -> Result<&'a [u8], Fault> {
        self.count(n, size, what).and_then(|n| self.take((n * size) as u64, what))
    }

    /// `n`, for which there must be room if each takes at least `size` bytes: checked before anything is kept for them.
    pub fn count(&self, n: u64, size: usize, what: &str) -> Result<usize, Fault> {
        let fits = usize::try_from(n).ok().filter(|&n| n <= self.left() / size);
        fits.ok_or_else(|| self.fault(format!("{n} {what} are more than the file's other {} bytes hold", self.left())))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        let low = self.u32(what)?;
        Ok(u64::from(self.u32(what)?) << 32 | u64::from(low))
    }

    /// A text behind its length.
    pub fn string(&mut self, what: &str) -> Result<String, Fault> {
        let len = self.u64(what)?;
        // A copy first: the file may be changed between the look whether this is UTF-8 and its use.
        let bytes = self.take(len, what)?.to_vec();
        String::from_utf8(bytes).map_err(|error| self.fault(format!("{what} is no UTF-8 ({})", error.utf8_error())))
    }
}
