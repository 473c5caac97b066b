//! CBOR as attestation documents use it (RFC 8949): lengths in their shortest form, read without a copy.
//!
//! Readers that take every form of a length would let bytes outside the signature change, so this one takes one. Only a map inside
//! a signed part may be open-ended ([`Reader::open_map`]).

/// A reader over the rest of a document.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// Why bytes are not such CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The bytes end inside an item.
    #[error("it ends inside an item")]
    Truncated,
    /// Another type than is due here.
    #[error("expected {expected}, got major type {got}")]
    Type {
        /// What is due.
        expected: &'static str,
        /// The major type found.
        got: u8,
    },
    /// A length of indefinite or reserved form.
    #[error("a length of indefinite or reserved form")]
    Indefinite,
    /// A length or number that has a shorter form.
    #[error("a length or number that has a shorter form")]
    NotShortest,
    /// A text that is not UTF-8.
    #[error("a text that is not UTF-8")]
    Utf8,
    /// Bytes after the last item.
    #[error("{0} bytes follow the last item")]
    Trailing(usize),
}

/// A byte string, or null.
pub type MaybeBytes<'a> = Option<&'a [u8]>;

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// A tag's number, if one stands here.
    pub fn tag(&mut self) -> Result<Option<u64>, CborError> {
        match self.rest.first() {
            Some(first) if first >> 5 == 6 => self.head().map(|(_, number)| Some(number)),
            _ => Ok(None),
        }
    }

    /// An array's number of items.
    pub fn array(&mut self) -> Result<u64, CborError> {
        self.of_type(4, "an array")
    }

    /// A map's number of pairs.
    pub fn map(&mut self) -> Result<u64, CborError> {
        self.of_type(5, "a map")
    }

    /// A map's number of pairs, or `None` if it goes on until a break: see [`Reader::another`].
    pub fn open_map(&mut self) -> Result<Option<u64>, CborError> {
        match self.rest.split_first() {
            Some((0xbf, rest)) => {
                self.rest = rest;
                Ok(None)
            }
            _ => self.map().map(Some),
        }
    }

    /// Whether another pair follows, of a map with `left` pairs left; takes the break.
    pub fn another(&mut self, left: &mut Option<u64>) -> bool {
        match (left, self.rest.split_first()) {
            (Some(left), _) => {
                let more = *left > 0;
                *left = left.saturating_sub(1);
                more
            }
            (None, Some((0xff, rest))) => {
                self.rest = rest;
                false
            }
            (None, _) => true,
        }
    }

    /// An unsigned number.
    pub fn unsigned(&mut self) -> Result<u64, CborError> {
        self.of_type(0, "an unsigned number")
    }

    /// A number of either sign.
    pub fn signed(&mut self) -> Result<i128, CborError> {
        match self.head()? {
            (0, number) => Ok(i128::from(number)),
            // -1 - n, and n is below 2^64.
            (1, number) => Ok((-1_i128).saturating_sub(i128::from(number))),
            (got, _) => Err(CborError::Type { expected: "a number", got }),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.of_type(2, "a byte string")?;
        self.take(length)
    }

    /// A byte string or null.
    pub fn maybe_bytes(&mut self) -> Result<MaybeBytes<'a>, CborError> {
        if let Some((0xf6, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.of_type(3, "a text")?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError::Utf8)
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing(self.rest.len())) }
    }

    fn of_type(&mut self, major: u8, expected: &'static str) -> Result<u64, CborError> {
        match self.head()? {
            (got, number) if got == major => Ok(number),
            (got, _) => Err(CborError::Type { expected, got }),
        }
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError::Truncated)?;
        self.rest = rest;
        let (major, info) = (first >> 5, first & 0x1f);
        let (bytes, least) = match info {
            0..=23 => return Ok((major, info.into())),
            24 => (self.take(1)?, 24),
            25 => (self.take(2)?, 1 << 8),
            26 => (self.take(4)?, 1 << 16),
            27 => (self.take(8)?, 1 << 32),
            _ => return Err(CborError::Indefinite),
        };
        let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        if number < least { Err(CborError::NotShortest) } else { Ok((major, number)) }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
