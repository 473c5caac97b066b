//! Where receipts are kept. A store never gives out an opening without the requester's capability, and gives it out once.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallmark_receipt::{Bundle, Data, Digest};

mod again;
mod folder;

pub(crate) use again::Again;
pub use folder::{Folder, Keep};

/// 32 secret random bytes that fetch a receipt's openings, once.
#[derive(Clone, PartialEq, Eq)]
pub struct Capability(pub [u8; 32]);

impl std::fmt::Debug for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capability(..)")
    }
}

impl Capability {
    /// The header's text: base64url without padding.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads the header's text.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 43 {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// What a store keeps of it.
    pub fn digest(&self) -> Digest {
        Digest::of(&[b"hallmark capability", &self.0])
    }
}

/// A receipt as it is filed: with its openings.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The whole bundle.
    pub bundle: Bundle,
    /// The digest of the requester's capability.
    pub capability: Digest,
}

/// Why a receipt is not kept or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed.
    #[error("cannot {action} {}: {kind}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        kind: std::io::ErrorKind,
    },
    /// A file that is not what it should be.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Keeps receipts.
pub trait ReceiptStore: Send + Sync + 'static {
    /// Keeps a receipt. When this returns, `fetch` finds it.
    fn put(&self, id: Digest, filed: Filed) -> Result<(), StoreError>;
    /// The receipt: with its openings if `capability` is the requester's and they were not handed out before, else without.
    fn fetch(&self, id: &Digest, capability: Option<&Capability>) -> Result<Option<Bundle>, StoreError>;
    /// Whether calls wait for a disk, so that they belong on a thread that may.
    fn blocks(&self) -> bool;
}

/// The newest receipts, in memory: at most `limit`, whose openings have at most `bytes` together. The oldest goes first.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    bytes: usize,
    /// Every id of `order` is in `filed`, and the reverse; `bytes` is the sum of their sizes.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    filed: HashMap<Digest, Filed>,
    order: VecDeque<Digest>,
    bytes: usize,
}

impl Inner {
    fn remove_oldest(&mut self) -> Option<Filed> {
        let filed = self.order.pop_front().and_then(|oldest| self.filed.remove(&oldest))?;
        self.bytes = self.bytes.saturating_sub(size(&filed.bundle));
        Some(filed)
    }
}

impl Memory {
    /// A store of at most `limit` receipts, whose openings have at most `bytes` together.
    pub fn new(limit: usize, bytes: usize) -> Self {
        Self { limit: limit.max(1), bytes, inner: Mutex::default() }
    }
}

/// About how many bytes the openings hold.
fn size(bundle: &Bundle) -> usize {
    let sides = [&bundle.inputs, &bundle.outputs].into_iter().flatten().flatten();
    let tensors = sides.map(|opening| match opening.tensor().data() {
        Data::Str(texts) => texts.iter().map(String::len).sum(),
        // No element is wider.
        other => other.len().saturating_mul(8),
    });
    tensors.fold(0, usize::saturating_add)
}

impl ReceiptStore for Memory {
    fn put(&self, id: Digest, filed: Filed) -> Result<(), StoreError> {
        let more = size(&filed.bundle);
        // Freed only when the lock is, which every answer takes.
        let mut gone = Vec::new();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let full =
            |inner: &Inner| inner.order.len() >= self.limit || inner.bytes.saturating_add(more) > self.bytes;
        while full(&inner) && !inner.order.is_empty() {
            gone.extend(inner.remove_oldest());
        }
        // A claim's id holds random bytes: it is never filed twice.
        if inner.filed.insert(id, filed).is_none() {
            inner.order.push_back(id);
            inner.bytes = inner.bytes.saturating_add(more);
        }
        drop(inner);
        Ok(())
    }

    fn fetch(&self, id: &Digest, capability: Option<&Capability>) -> Result<Option<Bundle>, StoreError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filed) = inner.filed.get_mut(id) else { return Ok(None) };
        if !opens(filed, capability) {
            return Ok(Some(filed.bundle.clone().redact()));
        }
        let whole = filed.bundle.clone();
        filed.bundle.inputs = None;
        filed.bundle.outputs = None;
        inner.bytes = inner.bytes.saturating_sub(size(&whole));
        Ok(Some(whole))
    }

    fn blocks(&self) -> bool {
        false
    }
}

fn opens(filed: &Filed, capability: Option<&Capability>) -> bool {
    capability.is_some_and(|given| is_same(&given.digest(), &filed.capability))
}

fn is_same(a: &Digest, b: &Digest) -> bool {
    verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
