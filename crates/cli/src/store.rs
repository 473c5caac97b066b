//! The home: models by id with their local names, receipts, keys, revocations and pins, in one folder.
//!
//! ```text
//! HOME/lock                          held by the one process that writes
//!      models/<id>/manifest.json     what the id hashes
//!      models/<id>/files/...         the model's files
//!      names/<name>                  the id that a local name stands for
//!      receipts/<id>.receipt.json    bundles with their openings, for the user alone
//!      keys/, revoked/, trusted/     see `keys`
//! ```
//!
//! *Invariant*: every document is one file (a model: one folder) that appears by a rename, and nothing refers to what is
//! written after it; so a kill at any moment leaves a home that reads. Readers take no lock. Nothing is made before the
//! first write.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use hallmark_receipt::Digest;

use crate::disk::{self, Access, Disk, DiskError, TEMPORARY};

/// The most bytes of a document that is no model.
pub const MAX_DOCUMENT: u64 = 256 << 20;

/// Why the home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("the home {} is not usable", home.display())]
    Disk {
        /// The home.
        home: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// Another process writes and did not finish in time.
    #[error("another process is writing to {}; waited {seconds} s", home.display())]
    Busy {
        /// The home.
        home: PathBuf,
        /// How long this one waited.
        seconds: u64,
    },
    /// A document that is there and not what it should be.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The document.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A name that cannot be one.
    #[error(
        "`{name}` is not a name: expected 1 to 64 letters, digits, `-`, `_` or `.`, a letter first, not an id"
    )]
    Name {
        /// The name given.
        name: String,
    },
    /// A name that stands for something else already.
    #[error("the name `{name}` stands for model {id} already")]
    NameTaken {
        /// The name.
        name: String,
        /// The model that has it.
        id: Digest,
    },
}

/// Kinds of documents, one folder each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Local names of models.
    Names,
    /// Bundles.
    Receipts,
    /// Private keys and their certificates.
    Keys,
    /// Revocations.
    Revoked,
    /// Pinned identities.
    Trusted,
}

impl Area {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Names, Self::Receipts, Self::Keys, Self::Revoked, Self::Trusted];

    fn folder(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Receipts => "receipts",
            Self::Keys => "keys",
            Self::Revoked => "revoked",
            Self::Trusted => "trusted",
        }
    }

    fn access(self) -> Access {
        match self {
            Self::Names | Self::Revoked | Self::Trusted => Access::Public,
            Self::Receipts | Self::Keys => Access::Private,
        }
    }
}

/// The folder of a user.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
    disk: Disk,
    lock_wait: Duration,
}

impl Home {
    /// The home in `root`, which need not exist.
    pub fn new(root: PathBuf, lock_wait: Duration) -> Self {
        Self::on(Disk::default(), root, lock_wait)
    }

    /// The home in `root` on a disk of one's own.
    pub fn on(disk: Disk, root: PathBuf, lock_wait: Duration) -> Self {
        Self { root, disk, lock_wait }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The documents of `area`, by name, sorted.
    pub fn list(&self, area: Area) -> Result<Vec<String>, StoreError> {
        self.entries(&self.root.join(area.folder()))
    }

    /// A document; `None` if there is none of this name.
    pub fn get(&self, area: Area, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&self.path(area, name))
    }

    /// Where a document is or would be.
    pub fn path(&self, area: Area, name: &str) -> PathBuf {
        self.root.join(area.folder()).join(name)
    }

    /// The ids of all models, sorted.
    pub fn models(&self) -> Result<Vec<Digest>, StoreError> {
        let folder = self.root.join("models");
        let entries = self.entries(&folder)?;
        let parse = |name: String| {
            let why = "its name is no model id";
            Digest::from_str(&name).map_err(|_| StoreError::Damaged { path: folder.join(&name), why })
        };
        entries.into_iter().map(parse).collect()
    }

    /// The folder of a model.
    pub fn model_folder(&self, id: &Digest) -> PathBuf {
        self.root.join("models").join(id.to_string())
    }

    /// The local names, sorted, with the ids that they stand for.
    pub fn names(&self) -> Result<Vec<(String, Digest)>, StoreError> {
        let mut names = Vec::new();
        for name in self.list(Area::Names)? {
            if let Some(id) = self.id_of(&name)? {
                names.push((name, id));
            }
        }
        Ok(names)
    }

    /// The id that a local name stands for.
    pub fn id_of(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(bytes) = self.get(Area::Names, name)? else { return Ok(None) };
        let id = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
        let damaged =
            || StoreError::Damaged { path: self.path(Area::Names, name), why: "it holds no model id" };
        id.map(Some).ok_or_else(damaged)
    }

    /// Takes the lock for writing; makes the folder if it is not there.
    pub fn write(&self) -> Result<Writer<'_>, StoreError> {
        let fail = |source| self.fail(source);
        self.disk.create_folder(&self.root, Access::Private).map_err(fail)?;
        let path = self.root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| fail(DiskError::new("write", &path, error)))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < self.lock_wait => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Busy {
                        home: self.root.clone(),
                        seconds: self.lock_wait.as_secs(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(fail(DiskError::new("lock", &path, error))),
            }
        }
        self.sweep();
        Ok(Writer { home: self, _lock: lock })
    }

    /// Removes what a killed process left half-written. Only ever done by the holder of the lock.
    fn sweep(&self) {
        for folder in Area::ALL.map(Area::folder).into_iter().chain(["models"]) {
            let Ok(entries) = fs::read_dir(self.root.join(folder)) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    let _ = Disk::default().remove(&entry.path());
                }
            }
        }
    }

    fn entries(&self, folder: &Path) -> Result<Vec<String>, StoreError> {
        let fail = |error| self.fail(DiskError::new("read", folder, error));
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match disk::read(path, MAX_DOCUMENT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DiskError::Missing { .. }) => Ok(None),
            Err(source) => Err(self.fail(source)),
        }
    }

    fn fail(&self, source: DiskError) -> StoreError {
        StoreError::Disk { home: self.root.clone(), source }
    }
}

/// The right to write, as long as it lives.
#[derive(Debug)]
pub struct Writer<'h> {
    home: &'h Home,
    _lock: File,
}

impl Writer<'_> {
    /// Writes a document.
    pub fn put(&self, area: Area, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let fail = |source| self.home.fail(source);
        let path = self.home.path(area, name);
        self.home.disk.create_folder(disk::folder_of(&path), area.access()).map_err(fail)?;
        self.home.disk.write(&path, bytes, area.access()).map_err(fail)
    }

    /// Removes a document.
    pub fn remove(&self, area: Area, name: &str) -> Result<(), StoreError> {
        self.home.disk.remove(&self.home.path(area, name)).map_err(|source| self.home.fail(source))
    }

    /// Writes a model's manifest and files (relative paths), then lets `name` stand for it.
    pub fn add_model(
        &self,
        id: &Digest,
        manifest: &[u8],
        files: &[(String, Vec<u8>)],
        name: Option<&str>,
    ) -> Result<(), StoreError> {
        let fail = |source| self.home.fail(source);
        if let Some(name) = name {
            self.check_name(name, id)?;
        }
        let folder = self.home.model_folder(id);
        if !folder.is_dir() {
            let temporary = disk::folder_of(&folder).join(format!("{TEMPORARY}{id}"));
            let disk = &self.home.disk;
            let files = files.iter().map(|(path, bytes)| (format!("files/{path}"), bytes.as_slice()));
            let all = files.chain([("manifest.json".to_owned(), manifest)]);
            let written =
                all.map(|(path, bytes)| (temporary.join(path), bytes)).try_for_each(|(path, bytes)| {
                    disk.create_folder(disk::folder_of(&path), Access::Public)?;
                    disk.write(&path, bytes, Access::Public)
                });
            let done = written.and_then(|()| disk.rename_folder(&temporary, &folder));
            if let Err(source) = done {
                let _ = disk.remove(&temporary);
                return Err(fail(source));
            }
        }
        match name {
            Some(name) => self.put(Area::Names, name, format!("{id}\n").as_bytes()),
            None => Ok(()),
        }
    }

    fn check_name(&self, name: &str, id: &Digest) -> Result<(), StoreError> {
        if !is_name(name) {
            return Err(StoreError::Name { name: name.to_owned() });
        }
        match self.home.id_of(name)? {
            Some(other) if other != *id => Err(StoreError::NameTaken { name: name.to_owned(), id: other }),
            _ => Ok(()),
        }
    }
}

/// Whether `text` can be a local name: it must not look like an id or a path.
pub fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !text.ends_with(".onnx")
        && Digest::from_str(text).is_err()
}

#[cfg(test)]
mod tests;
