//! Reading binary structures to their last byte. Numbers are little-endian where the name says nothing.

/// What is left of some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

/// Fewer bytes than the structure has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

impl<'a> Bytes<'a> {
    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Short> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Short> {
        self.array().map(|bytes| u8::from_le_bytes(*bytes))
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16, Short> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The next two bytes, big-endian.
    pub fn u16_be(&mut self) -> Result<u16, Short> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// As many bytes as the next four say, big-endian.
    pub fn prefixed_be(&mut self) -> Result<&'a [u8], Short> {
        let length = self.array().map(|bytes| u32::from_be_bytes(*bytes))?;
        self.take(usize::try_from(length).map_err(|_| Short)?)
    }

    /// As many bytes as the next four say.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.u32()?).map_err(|_| Short)?;
        self.take(length)
    }
}

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
