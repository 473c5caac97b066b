//! Strict bytes of proofs (`proof.md` §A): fixed widths, canonical elements, counts that the reader knows
//! beforehand, nothing left over. Whatever decodes encodes to the same bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::field::{self, BASE_BYTES, E, EXTENSION_BYTES, F};

/// Why bytes are not a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end before what the statement implies.
    #[error("the proof ends early: {wanted} more bytes wanted, {left} left")]
    Short {
        /// Bytes that the next item takes.
        wanted: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the last item.
    #[error("{0} bytes follow the proof")]
    Trailing(usize),
    /// A limb is the characteristic or above.
    #[error("a field element is not canonical")]
    NotCanonical,
    /// A count or length is above its bound.
    #[error("a count of {got} is above its bound of {limit}")]
    TooMany {
        /// The count in the proof.
        got: usize,
        /// The most that the statement allows.
        limit: usize,
    },
}

/// Reads a proof from the front. Nothing is allocated before its bytes are known to be there.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let short = CodecError::Short { wanted: count, left: self.bytes.len() };
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(short)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let short = CodecError::Short { wanted: N, left: self.bytes.len() };
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// A count of 4 little-endian bytes, at most `limit`.
    pub fn count(&mut self, limit: usize) -> Result<usize, CodecError> {
        let got = u32::from_le_bytes(self.array()?) as usize;
        if got > limit { Err(CodecError::TooMany { got, limit }) } else { Ok(got) }
    }

    /// An element of the base field.
    pub fn base(&mut self) -> Result<F, CodecError> {
        field::decode_base(self.array()?).ok_or(CodecError::NotCanonical)
    }

    /// `count` elements of the base field.
    pub fn bases(&mut self, count: usize) -> Result<Vec<F>, CodecError> {
        let bytes = self.take(count.saturating_mul(BASE_BYTES))?;
        let items = bytes.as_chunks().0.iter();
        items.map(|item| field::decode_base(*item).ok_or(CodecError::NotCanonical)).collect()
    }

    /// An element of the extension.
    pub fn extension(&mut self) -> Result<E, CodecError> {
        field::decode(&self.array()?).ok_or(CodecError::NotCanonical)
    }

    /// `count` elements of the extension.
    pub fn extensions(&mut self, count: usize) -> Result<Vec<E>, CodecError> {
        let bytes = self.take(count.saturating_mul(EXTENSION_BYTES))?;
        let items = bytes.as_chunks().0.iter();
        items.map(|item| field::decode(item).ok_or(CodecError::NotCanonical)).collect()
    }

    /// Bytes behind a count, at most `limit` of them.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], CodecError> {
        let count = self.count(limit)?;
        self.take(count)
    }

    /// The end.
    ///
    /// # Errors
    /// [`CodecError::Trailing`] if bytes are left.
    pub fn finish(self) -> Result<(), CodecError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.bytes.len())) }
    }
}

/// Writes what [`Reader`] reads.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Empty.
    pub fn new() -> Self {
        Writer::default()
    }

    /// Bytes as they are; the reader knows how many.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A count of 4 little-endian bytes. Counts are lengths of things that were sized by the prover itself,
    /// below 2^32.
    pub fn count(&mut self, count: usize) {
        self.raw(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }

    /// An element of the base field.
    pub fn base(&mut self, element: F) {
        self.raw(&field::encode_base(element));
    }

    /// Elements of the base field; the reader knows how many.
    pub fn bases(&mut self, elements: &[F]) {
        for element in elements {
            self.base(*element);
        }
    }

    /// An element of the extension.
    pub fn extension(&mut self, element: E) {
        self.raw(&field::encode(element));
    }

    /// Elements of the extension; the reader knows how many.
    pub fn extensions(&mut self, elements: &[E]) {
        for element in elements {
            self.extension(*element);
        }
    }

    /// Bytes behind their count.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{CHARACTERISTIC, PrimeCharacteristicRing};

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::new();
        writer.base(F::TWO);
        writer.extensions(&[E::ONE, E::TWO]);
        writer.bytes(b"abc");
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.bases(1), Ok(vec![F::TWO]));
        assert_eq!(reader.extension(), Ok(E::ONE));
        assert_eq!(reader.extensions(1), Ok(vec![E::TWO]));
        assert_eq!(reader.clone().finish(), Err(CodecError::Trailing(7)));
        assert_eq!(reader.bytes(3), Ok(&b"abc"[..]));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn each_fault_has_its_error() {
        let huge = [0xff; 8];
        assert_eq!(
            Reader::new(&huge).count(1 << 20),
            Err(CodecError::TooMany { got: 0xffff_ffff, limit: 1 << 20 })
        );
        assert_eq!(Reader::new(&huge).base(), Err(CodecError::NotCanonical));
        assert_eq!(Reader::new(&huge).bases(3), Err(CodecError::Short { wanted: 12, left: 8 }));
        let most = Reader::new(&huge).extensions(usize::MAX);
        assert_eq!(most, Err(CodecError::Short { wanted: usize::MAX, left: 8 }));
        let mut limb = [0; EXTENSION_BYTES];
        limb[16..].copy_from_slice(&CHARACTERISTIC.to_le_bytes());
        assert_eq!(Reader::new(&limb).extension(), Err(CodecError::NotCanonical));
    }
}
