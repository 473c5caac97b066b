//! Receipts in a folder.

use std::collections::VecDeque;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hallmark_receipt::bundle::MAX_BUNDLE;
use hallmark_receipt::{Bundle, Digest};

use super::{Capability, Filed, ReceiptStore, StoreError, is_same};

/// How long what a crash left half written is spared: another process may be writing it.
const HALF_WRITTEN: Duration = Duration::from_secs(3600);
const RECEIPT: &str = "receipt.json";
const OPENINGS: &str = "openings";
const TEMPORARY: &str = "new";

/// How much a [`Folder`] keeps; beyond either bound the oldest receipts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Receipts.
    pub receipts: usize,
    /// Bytes of their files, openings included.
    pub bytes: u64,
}

impl Default for Keep {
    /// 100,000 receipts, 4 GiB.
    fn default() -> Self {
        Self { receipts: 100_000, bytes: 4 << 30 }
    }
}

/// Receipts in a folder: `<id>.receipt.json` without openings, and `<id>.openings` (mode 0600) until they are handed out.
/// Each file appears by a rename; the openings first, so that a receipt which is there has them. When the oldest receipt goes, its
/// openings go first, for the same reason. A crash at any moment leaves whole receipts, and at most files that the next start removes.
///
/// Several processes may use one folder; each then counts what it found at its start and what it filed itself.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    keep: Keep,
    /// Locked for moments, never while a file is written.
    index: Mutex<Index>,
}

/// What is there, the oldest first.
#[derive(Debug, Default)]
struct Index {
    order: VecDeque<Entry>,
    /// The sum over `order`; openings that were handed out count until their receipt goes.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: Digest,
    bytes: u64,
}

impl Index {
    fn push(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.order.push_back(entry);
    }

    /// Takes out what is too much; the newest stays in any case.
    fn overflow(&mut self, keep: Keep) -> Vec<Digest> {
        let mut gone = Vec::new();
        while self.order.len() > 1 && (self.order.len() > keep.receipts || self.bytes > keep.bytes) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            gone.push(oldest.id);
        }
        gone
    }
}

impl Folder {
    /// The store in `root`, which is made if it is not there, and brought within `keep`.
    pub fn open(root: impl Into<PathBuf>, keep: Keep) -> Result<Self, StoreError> {
        let root = root.into();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&root).map_err(|error| disk("create", &root, &error))?;
        let found = scan(&root, SystemTime::now())?;
        let folder = Self { root, keep, index: Mutex::new(Index::default()) };
        {
            let mut index = folder.index();
            found.into_iter().for_each(|entry| index.push(entry));
        }
        folder.shrink();
        Ok(folder)
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what is too much. A file that cannot be removed is found again at the next start.
    fn shrink(&self) {
        let gone = self.index().overflow(self.keep);
        for id in gone {
            for suffix in [OPENINGS, RECEIPT] {
                remove(&self.path(&id, suffix));
            }
        }
    }

    fn path(&self, id: &Digest, suffix: &str) -> PathBuf {
        self.root.join(format!("{id}.{suffix}"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = path.with_extension(TEMPORARY);
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
        let path = self.path(id, OPENINGS);
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
        let redacted = filed.bundle.redact().to_json();
        self.write(&self.path(&id, OPENINGS), whole.as_bytes())?;
        self.write(&self.path(&id, RECEIPT), redacted.as_bytes())?;
        self.index().push(Entry { id, bytes: (whole.len() as u64).saturating_add(redacted.len() as u64) });
        self.shrink();
        Ok(())
    }

    fn fetch(&self, id: &Digest, capability: Option<&Capability>) -> Result<Option<Bundle>, StoreError> {
        if let Some(capability) = capability
            && let Some(whole) = self.take(id, capability)?
        {
            return Ok(Some(whole));
        }
        let path = self.path(id, RECEIPT);
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

/// The receipts of a folder, the oldest first. What a crash left half written is removed.
fn scan(root: &Path, now: SystemTime) -> Result<Vec<Entry>, StoreError> {
    let fail = |error: &std::io::Error| disk("read", root, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(|error| fail(&error))? {
        let entry = entry.map_err(|error| fail(&error))?;
        let name = entry.file_name();
        // Files that are not the store's stay, and are not counted.
        let Some((id, suffix)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let Ok(id) = id.parse::<Digest>() else { continue };
        // Another process may have removed it meanwhile.
        let Ok(meta) = entry.metadata() else { continue };
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let receipt = root.join(format!("{id}.{RECEIPT}"));
        if suffix == RECEIPT {
            let openings = fs::metadata(root.join(format!("{id}.{OPENINGS}"))).map_or(0, |meta| meta.len());
            found.push((modified, Entry { id, bytes: meta.len().saturating_add(openings) }));
        } else if (suffix.ends_with(TEMPORARY) || (suffix == OPENINGS && !receipt.exists()))
            && now.duration_since(modified).is_ok_and(|age| age > HALF_WRITTEN)
        {
            remove(&entry.path());
        }
    }
    found.sort_by_key(|(modified, entry)| (*modified, entry.id));
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(kind = ?error.kind(), "an old receipt was not removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Digest {
        Digest([n; 32])
    }

    /// A receipt's two files, `bytes` in all, written `age` seconds ago.
    fn file(root: &Path, n: u8, suffix: &str, bytes: usize, age: u64) -> PathBuf {
        let path = root.join(format!("{}.{suffix}", id(n)));
        fs::write(&path, vec![b'x'; bytes]).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        path
    }

    #[test]
    fn the_oldest_go_and_half_written_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for n in 1..=4 {
            file(root, n, RECEIPT, 10, 100 - u64::from(n));
            file(root, n, OPENINGS, 20, 100 - u64::from(n));
        }
        let strangers = root.join("notes.txt");
        fs::write(&strangers, "mine").unwrap();
        let stale = file(root, 9, OPENINGS, 20, 4000);
        let stale_temporary = file(root, 9, "receipt.new", 5, 4000);
        let fresh = file(root, 8, OPENINGS, 20, 0);
        let there =
            |n: u8| [OPENINGS, RECEIPT].map(|suffix| root.join(format!("{}.{suffix}", id(n))).exists());
        let open = |receipts, bytes| Folder::open(root, Keep { receipts, bytes }).unwrap();
        assert_eq!(open(4, 120).index().bytes, 120);
        assert!(!stale.exists() && !stale_temporary.exists() && fresh.exists() && strangers.exists());
        assert_eq!(open(3, 120).index().order.len(), 3);
        assert_eq!((there(1), there(2)), ([false; 2], [true; 2]));
        // Openings that a crash removed before their receipt do not count.
        fs::remove_file(root.join(format!("{}.{OPENINGS}", id(2)))).unwrap();
        assert_eq!(open(3, 70).index().order.len(), 3);
        assert_eq!(open(3, 69).index().order.len(), 2);
        assert_eq!((there(2), there(3), there(4)), ([false; 2], [true; 2], [true; 2]));
        assert_eq!(open(0, 0).index().order.len(), 1, "the newest stays");
    }
}
