//! The certificate table behind an extended report, also the kernel's `auxblob` (AMD 56421, "SEV-ES Guest-Hypervisor Communication
//! Block Standardization", §4.1.8.1): entries of GUID, offset and length, an entry of zeros, then what they point to.
//!
//! The host fills it, and nothing signs it. What counts is inside its items; entries with GUIDs that are not AMD's belong to the
//! host and are passed over.

use crate::bytes::is_zero;

/// The most entries.
const MAX_ENTRIES: usize = 32;
/// The bytes of an entry.
const ENTRY: usize = 24;

/// What an item is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A certificate: of a VCEK, VLEK, ASK (also an ASVK) or ARK.
    Certificate,
    /// A revocation list.
    Crl,
}

/// GUIDs in the order of their digits, as hosts write them; some write the first three groups backwards.
const LABELS: &[([u8; 16], Label)] = &[
    // VCEK: 63da758d-e664-4564-adc5-f4b93be8accd
    (0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes(), Label::Certificate),
    // VLEK: a8074bc2-a25a-483e-aae6-39c045a0b8a1
    (0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes(), Label::Certificate),
    // ASK: 4ab7b379-bbac-4fe4-a02f-05aef327c782
    (0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes(), Label::Certificate),
    // ARK: c0b406a4-a803-4952-9743-3fb6014cd0ae
    (0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes(), Label::Certificate),
    // CRL: 92f81bc3-5811-4d3d-97ff-d19f88dc67ea
    (0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes(), Label::Crl),
];

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// It ends before its entry of zeros.
    #[error("it ends before its entry of zeros")]
    Unterminated,
    /// More entries than any.
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    /// An entry that points into another one's bytes, into the entries, or out of the table.
    #[error("entry {number} points out of the table, or where something else is")]
    Bounds {
        /// Which, from 1.
        number: usize,
    },
    /// Bytes that no entry points to and that are not zero.
    #[error("bytes that no entry points to are not zero")]
    Leftover,
}

impl TableError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unterminated => "table-unterminated",
            Self::TooMany => "table-too-many",
            Self::Bounds { .. } => "table-bounds",
            Self::Leftover => "table-leftover",
        }
    }
}

/// The items of a table that have a label, in the order of its entries; every byte has its place.
pub fn parse(table: &[u8]) -> Result<Vec<(Label, &[u8])>, TableError> {
    let mut spans = Vec::new();
    let mut items = Vec::new();
    let mut left = table;
    for number in 1.. {
        let (guid, offset, length);
        (guid, offset, length, left) = entry(left).ok_or(TableError::Unterminated)?;
        if guid == [0; 16] && offset == 0 && length == 0 {
            break;
        }
        if number > MAX_ENTRIES {
            return Err(TableError::TooMany);
        }
        let end = offset.checked_add(length).ok_or(TableError::Bounds { number })?;
        let item = table.get(offset..end).ok_or(TableError::Bounds { number })?;
        spans.push((offset, end, number));
        items.extend(label(guid).map(|label| (label, item)));
    }
    spans.sort_unstable();
    // Behind the entries, in order, without overlaps, and zeros between.
    let mut at = table.len().saturating_sub(left.len());
    for (offset, end, number) in spans {
        let gap = table.get(at..offset).ok_or(TableError::Bounds { number })?;
        zeros(gap)?;
        at = end;
    }
    zeros(table.get(at..).unwrap_or_default())?;
    Ok(items)
}

type Entry<'a> = ([u8; 16], usize, usize, &'a [u8]);

fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let (entry, left) = bytes.split_first_chunk::<ENTRY>()?;
    let (guid, numbers) = entry.split_first_chunk::<16>()?;
    let (offset, length) = numbers.split_first_chunk::<4>()?;
    let number = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).ok();
    Some((*guid, number(*offset)?, number(length.try_into().ok()?)?, left))
}

fn label(guid: [u8; 16]) -> Option<Label> {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let turned: Vec<u8> = [d, c, b, a, f, e, h, g].into_iter().chain(rest).collect();
    LABELS.iter().find(|(known, _)| *known == guid || *known == *turned).map(|(_, label)| *label)
}

fn zeros(bytes: &[u8]) -> Result<(), TableError> {
    if is_zero(bytes) { Ok(()) } else { Err(TableError::Leftover) }
}
