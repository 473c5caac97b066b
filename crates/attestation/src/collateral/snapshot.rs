//! The file: items, sorted, none twice, in canonical JSON.

use std::collections::BTreeMap;

use hallmark_receipt::json::{Value, object};
use hallmark_receipt::wire::{Fields, FormatError};

use super::item::ItemError;
use super::needs::MAX_NEEDS;
use super::{Item, Need, NeedError, Update, Wanted, needs};
use crate::snp::Product;
use crate::{Input, Kind};

/// The first member of every snapshot.
pub const FORMAT: &str = "hallmark-collateral/1";
/// The most bytes of a snapshot.
pub const MAX_SNAPSHOT: usize = 16 << 20;

/// Collateral, frozen: what a verifier is given in place of a network. Items are sorted by kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    items: BTreeMap<(String, String), Item>,
}

/// Why bytes are no snapshot.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not canonical JSON, or other members.
    #[error("not a snapshot of collateral: {0}")]
    Format(#[from] FormatError),
    /// An item that is none.
    #[error("item {number} of the snapshot: {error}")]
    Item {
        /// Which, from 1.
        number: usize,
        /// Why.
        error: ItemError,
    },
    /// Items out of order, or one twice.
    #[error("item {number} of the snapshot is out of order, or there twice")]
    Order {
        /// Which, from 1.
        number: usize,
    },
}

/// What a snapshot has for a piece of evidence: what is to be added to its [`Input`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection<'a> {
    /// Certificates.
    pub certificates: Vec<&'a [u8]>,
    /// Collateral.
    pub collateral: Vec<&'a [u8]>,
    /// What the evidence needs and the snapshot does not have.
    pub missing: Vec<Need>,
}

impl Snapshot {
    /// Of these items; of two for one need the later one.
    pub fn new(items: impl IntoIterator<Item = Item>) -> Self {
        let mut snapshot = Self::default();
        items.into_iter().for_each(|item| snapshot.insert(item));
        snapshot
    }

    /// Adds an item, in place of one for the same need.
    pub fn insert(&mut self, item: Item) {
        self.items.insert(key(item.need()), item);
    }

    /// The items, sorted by kind and name.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.items.values()
    }

    /// The item for `need`.
    pub fn find(&self, need: &Need) -> Option<&Item> {
        self.items.get(&key(need)).filter(|item| item.need() == need)
    }

    /// The earliest second, since 1970, in which an item ceases to hold.
    pub fn expires(&self) -> Option<u64> {
        self.items().map(Item::expires).min()
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let items = self.items().map(|item| Value::Object(item.object())).collect();
        Value::Object(object([("format", FORMAT.into()), ("items", Value::Array(items))])).canonical()
    }

    /// Reads a file of at most 16 MiB.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut fields = Fields::signed(bytes, "", MAX_SNAPSHOT)?;
        fields.constant("format", FORMAT)?;
        let mut snapshot = Self::default();
        for ((path, value), number) in fields.array("items", MAX_NEEDS)?.into_iter().zip(1..) {
            let item = Fields::new(value, &path).map_err(ItemError::from).and_then(Item::read);
            let item = item.map_err(|error| SnapshotError::Item { number, error })?;
            let last = snapshot.items.last_key_value();
            if last.is_some_and(|(last, _)| *last >= key(item.need())) {
                return Err(SnapshotError::Order { number });
            }
            snapshot.insert(item);
        }
        fields.finish()?;
        Ok(snapshot)
    }

    /// What of it belongs to a piece of evidence of `kind`, and nothing else: lists of strangers would make a verifier doubt. Where the
    /// evidence leaves something open ([`Wanted`]), it is read the way that most is there for.
    pub fn for_evidence(&self, kind: Kind, input: &Input<'_>) -> Result<Selection<'_>, NeedError> {
        let products = [None, Some(Product::Milan), Some(Product::Genoa)];
        let wanted =
            products.into_iter().flat_map(|product| Update::ALL.map(|update| Wanted { update, product }));
        let mut best: Result<Selection<'_>, NeedError> = Err(NeedError::NoProduct);
        for wanted in wanted {
            let selection = needs(kind, input, &wanted).map(|needs| self.select(needs));
            let is_better = match (&best, &selection) {
                (Ok(best), Ok(other)) => other.missing.len() < best.missing.len(),
                (Ok(_), Err(_)) => false,
                (Err(_), _) => true,
            };
            if is_better {
                best = selection;
            }
            // No snapshot has reference manifests.
            if best.as_ref().is_ok_and(|best| best.missing.iter().all(|need| matches!(need, Need::Rim(_)))) {
                break;
            }
        }
        best
    }

    fn select(&self, needs: Vec<Need>) -> Selection<'_> {
        let mut selection = Selection::default();
        for need in needs {
            let Some(item) = self.find(&need) else {
                selection.missing.push(need);
                continue;
            };
            match need {
                Need::Vcek { .. } | Need::AmdChain { .. } => selection.certificates.push(item.content()),
                _ => selection.collateral.push(item.content()),
            }
            // Only Intel's collateral has signers who are not in the evidence.
            if matches!(need, Need::PckCrl(_) | Need::TcbInfo { .. } | Need::QeIdentity { .. }) {
                selection.collateral.extend(item.issuers().iter().map(Vec::as_slice));
            }
        }
        selection
    }
}

/// Gives `judge` the input with what its snapshots have for the evidence in their place. What begins like a snapshot and is none stays
/// as it is: no verifier knows it.
pub(crate) fn unfolded<R>(kind: Kind, input: &Input<'_>, judge: impl FnOnce(&Input<'_>) -> R) -> R {
    let begins = |item: &[u8]| item.starts_with(format!("{{\"format\":\"{FORMAT}\"").as_bytes());
    let (mut snapshots, mut collateral) = (Vec::new(), Vec::new());
    for item in input.collateral {
        match Some(*item).filter(|item| begins(item)).map(Snapshot::parse) {
            Some(Ok(snapshot)) => snapshots.push(snapshot),
            _ => collateral.push(*item),
        }
    }
    if snapshots.is_empty() {
        return judge(input);
    }
    let mut certificates = input.certificates.to_vec();
    for snapshot in &snapshots {
        let selection = snapshot.for_evidence(kind, input).unwrap_or_default();
        certificates.extend(selection.certificates);
        collateral.extend(selection.collateral);
    }
    judge(&Input { certificates: &certificates, collateral: &collateral, ..*input })
}

fn key(need: &Need) -> (String, String) {
    (need.kind().to_owned(), need.name())
}
