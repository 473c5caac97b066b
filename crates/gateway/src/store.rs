//! Where receipts are kept. A store never gives out an opening without the requester's capability, and gives it out once.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallmark_receipt::bundle::MAX_BUNDLE;
use hallmark_receipt::{Bundle, Data, Digest};

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
    fn remove_oldest(&mut self) {
        if let Some(filed) = self.order.pop_front().and_then(|oldest| self.filed.remove(&oldest)) {
            self.bytes = self.bytes.saturating_sub(size(&filed.bundle));
        }
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
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let more = size(&filed.bundle);
        let full =
            |inner: &Inner| inner.order.len() >= self.limit || inner.bytes.saturating_add(more) > self.bytes;
        while full(&inner) && !inner.order.is_empty() {
            inner.remove_oldest();
        }
        // A claim's id holds random bytes: it is never filed twice.
        if inner.filed.insert(id, filed).is_none() {
            inner.order.push_back(id);
            inner.bytes = inner.bytes.saturating_add(more);
        }
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

/// Receipts in a folder: `<id>.receipt.json` without openings, and `<id>.openings` (mode 0600) until they are handed out.
/// Each file appears by a rename; the openings first, so that a receipt which is there has them.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The store in `root`, which is made if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&root).map_err(|error| disk("create", &root, &error))?;
        Ok(Self { root })
    }

    fn path(&self, id: &Digest, suffix: &str) -> PathBuf {
        self.root.join(format!("{id}.{suffix}"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = path.with_extension("new");
        let fail = |error| disk("write", path, &error);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary).map_err(fail)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&temporary, path).map_err(fail)?;
        // Not every system opens folders; where it does not, the rename is as durable as it gets.
        if let Ok(folder) = fs::File::open(&self.root) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match fs::metadata(path) {
            Ok(meta) if meta.len() > MAX_BUNDLE as u64 + 65 => {
                return Err(StoreError::Damaged { path: path.to_owned() });
            }
            _ => {}
        }
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk("read", path, &error)),
        }
    }

    /// The whole bundle, if `capability` is the right one and nobody took it before.
    fn take(&self, id: &Digest, capability: &Capability) -> Result<Option<Bundle>, StoreError> {
        let path = self.path(id, "openings");
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        let damaged = || StoreError::Damaged { path: path.clone() };
        let (digest, bundle) = bytes.split_at_checked(65).ok_or_else(damaged)?;
        let digest = std::str::from_utf8(digest).ok().and_then(|text| text.trim_end().parse::<Digest>().ok());
        if !is_same(&digest.ok_or_else(damaged)?, &capability.digest()) {
            return Ok(None);
        }
        let bundle = Bundle::parse(bundle).map_err(|_| damaged())?;
        // Of two who come at once, one removes the file, and only that one gets what was in it.
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(bundle)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk("remove", &path, &error)),
        }
    }
}

impl ReceiptStore for Folder {
    fn put(&self, id: Digest, filed: Filed) -> Result<(), StoreError> {
        let whole = format!("{}\n{}", filed.capability, filed.bundle.to_json());
        self.write(&self.path(&id, "openings"), whole.as_bytes())?;
        self.write(&self.path(&id, "receipt.json"), filed.bundle.redact().to_json().as_bytes())
    }

    fn fetch(&self, id: &Digest, capability: Option<&Capability>) -> Result<Option<Bundle>, StoreError> {
        if let Some(capability) = capability
            && let Some(whole) = self.take(id, capability)?
        {
            return Ok(Some(whole));
        }
        let path = self.path(id, "receipt.json");
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        Bundle::parse(&bytes).map(Some).map_err(|_| StoreError::Damaged { path })
    }

    fn blocks(&self) -> bool {
        true
    }
}

fn disk(action: &'static str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Disk { action, path: path.to_owned(), kind: error.kind() }
}
