//! Items on disk, one file each: the SHA-256 of what follows, a line feed, a snapshot of the one item.
//!
//! A file is written under another name, flushed and renamed: whoever reads while somebody writes, or after a kill, finds the old file,
//! the new one or none. Several processes may use one folder.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hallmark_attestation::collateral::{Item, MAX_SNAPSHOT, Need, Snapshot};
use hallmark_receipt::Digest;

/// How files of items end, and how unfinished ones start.
const SUFFIX: &str = "collateral";
const TEMPORARY: &str = ".hallmark-";
/// What is unfinished for so long was left by somebody who is gone.
const ABANDONED: Duration = Duration::from_secs(3600);
/// The most items, and the most files that are looked at.
const MAX_ITEMS: usize = 4096;
const MAX_FILES: usize = 4 * MAX_ITEMS;

/// Where items are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The folder; it is made when it is needed.
    pub folder: PathBuf,
    /// The most bytes of all items: beyond them, and beyond 4,096 items, the oldest go.
    pub max_bytes: u64,
    /// How long an item is used before the maker is asked again, if it does not expire before. Certificates of AMD's do not age: under
    /// one name there is never another.
    pub max_age: Duration,
}

impl Cache {
    /// In `folder`: at most 64 MiB, asked again after a day.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), max_bytes: 64 << 20, max_age: Duration::from_secs(86_400) }
    }

    /// Whether an item is as good at `at` as one that is fetched then.
    pub(super) fn is_fresh(&self, item: &Item, at: u64) -> bool {
        let ages = !matches!(item.need(), Need::Vcek { .. } | Need::AmdChain { .. });
        let age = at.checked_sub(item.fetched());
        item.current(at).is_ok() && age.is_some_and(|age| !ages || age <= self.max_age.as_secs())
    }

    /// The item for `need`, whole and of its form; anything else counts as none.
    pub(super) fn load(&self, need: &Need) -> Option<Item> {
        read(&self.path(need)).filter(|item| item.need() == need)
    }

    /// Every item that can be read.
    pub(super) fn items(&self) -> Vec<Item> {
        self.files().iter().filter_map(|(_, entry)| read(&entry.path())).collect()
    }

    /// Keeps an item, and makes room for it.
    pub(super) fn store(&self, item: &Item) -> Result<(), CacheError> {
        self.store_by_steps(item, &|_| Ok(()))
    }

    /// Forgets an item.
    pub(super) fn remove(&self, need: &Need) {
        let _ = fs::remove_file(self.path(need));
    }

    fn store_by_steps(&self, item: &Item, step: Steps<'_>) -> Result<(), CacheError> {
        let snapshot = Snapshot::new([item.clone()]).to_json();
        let file = format!("{}\n{snapshot}", Digest::of(&[snapshot.as_bytes()]));
        let path = self.path(item.need());
        write(&self.folder, &path, file.as_bytes(), step)
            .map_err(|error| CacheError { path, why: error.to_string() })?;
        self.sweep();
        Ok(())
    }

    fn path(&self, need: &Need) -> PathBuf {
        let name = Digest::of(&[need.kind().as_bytes(), b" ", need.name().as_bytes()]);
        self.folder.join(format!("{name}.{SUFFIX}"))
    }

    /// The files of items by their age, oldest first.
    fn files(&self) -> Vec<(SystemTime, DirEntry)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().take(MAX_FILES);
        let is_item = |entry: &DirEntry| entry.path().extension().is_some_and(|end| end == SUFFIX);
        let dated = |entry: DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry));
        let mut files: Vec<_> = entries.filter(is_item).filter_map(dated).collect();
        files.sort_by_key(|(modified, _)| *modified);
        files
    }

    /// Removes the oldest items while there are too many, or too many bytes, and what kills have left.
    fn sweep(&self) {
        let files = self.files();
        let size = |entry: &DirEntry| entry.metadata().map_or(0, |meta| meta.len());
        let mut bytes: u64 = files.iter().map(|(_, entry)| size(entry)).fold(0, u64::saturating_add);
        let mut count = files.len();
        for (_, entry) in files {
            if bytes <= self.max_bytes && count <= MAX_ITEMS {
                break;
            }
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(size(&entry));
            let _ = fs::remove_file(entry.path());
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten().take(MAX_FILES) {
            let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
            if is_temporary && matches!(age, Ok(Ok(age)) if age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// An item could not be kept. It is used all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not write {}: {why}", path.display())]
pub struct CacheError {
    /// The file.
    pub path: PathBuf,
    /// The system's word.
    pub why: String,
}

/// A step of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Folder,
    Create,
    Half,
    Written,
    Sync,
    Rename,
    SyncFolder,
}

/// Is told before every step, so that a test can cut any of them off.
type Steps<'a> = &'a dyn Fn(Step) -> io::Result<()>;

fn write(folder: &Path, path: &Path, bytes: &[u8], step: Steps<'_>) -> io::Result<()> {
    step(Step::Folder)?;
    let mut builder = fs::DirBuilder::new();
    // Which platforms somebody verifies is nobody else's business.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let temporary = folder.join(format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)));
    step(Step::Create)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let mut finish = || {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        step(Step::Half)?;
        file.write_all(second)?;
        step(Step::Written)?;
        file.sync_all()?;
        step(Step::Sync)?;
        fs::rename(&temporary, path)?;
        step(Step::Rename)
    };
    if let Err(error) = finish() {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Not every system opens folders; where it does not, the rename is as durable as it gets.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    step(Step::SyncFolder)
}

/// The item in a file, if the file is whole.
fn read(path: &Path) -> Option<Item> {
    // The digest, a line feed.
    const HEAD: usize = 65;
    let most = MAX_SNAPSHOT.saturating_add(HEAD);
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most as u64).read_to_end(&mut bytes).ok()?;
    let (head, snapshot) = bytes.split_at_checked(HEAD)?;
    if format!("{}\n", Digest::of(&[snapshot])).as_bytes() != head {
        return None;
    }
    Snapshot::parse(snapshot).ok()?.items().next().cloned()
}

#[cfg(test)]
mod tests;
