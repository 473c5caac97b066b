//! Files, read with limits and written whole or not at all.
//!
//! A file is written to a temporary name in its own folder, flushed, and renamed: a kill at any moment leaves the old
//! content or the new. [`Disk`] tells a hook before every step, so that a test can cut any of them off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// No such file or folder.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// No room left: disk, quota or file size.
    #[error("no room left to write {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A read-only file system.
    #[error("{} is on a read-only file system", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The system forbids it.
    #[error("no permission to {action} {}", path.display())]
    Denied {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// More bytes than are read.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A folder or a device where a file was expected.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl DiskError {
    /// Sorts the system's errors.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            io::ErrorKind::PermissionDenied => Self::Denied { action, path, source },
            io::ErrorKind::IsADirectory => Self::NotAFile { path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// The whole of a file of at most `limit` bytes; `-` is standard input.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        let read = io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| DiskError::new("read", path, error))?;
    } else {
        let file = File::open(path).map_err(|error| DiskError::new("read", path, error))?;
        let meta = file.metadata().map_err(|error| DiskError::new("read", path, error))?;
        if meta.is_dir() {
            return Err(DiskError::NotAFile { path: path.to_owned() });
        }
        if meta.len() > limit {
            return Err(DiskError::TooLarge { path: path.to_owned(), limit });
        }
        let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(size).map_err(|error| DiskError::new("read", path, error.into()))?;
        // A file that grows meanwhile, or a device without an end, is cut off all the same.
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| DiskError::new("read", path, error))?;
    }
    if bytes.len() as u64 > limit {
        return Err(DiskError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// A step of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a folder.
    Folder,
    /// Make the temporary file.
    Create,
    /// Half of the bytes are written.
    Half,
    /// All bytes are written.
    Written,
    /// Flush to the device.
    Sync,
    /// Give it its name.
    Rename,
    /// Flush the folder.
    SyncFolder,
    /// Remove something.
    Remove,
}

type Hook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// Writes files.
#[derive(Clone, Default)]
pub struct Disk {
    hook: Option<Hook>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

/// Who may read what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// As the user's mask says.
    Public,
    /// The user alone: 0600 for files, 0700 for folders.
    Private,
}

/// The prefix of temporary names; what a kill leaves behind starts with it.
pub const TEMPORARY: &str = ".hallmark-";

/// A file that is written but does not have its name yet; dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    temporary: Option<PathBuf>,
    path: PathBuf,
    disk: Disk,
}

impl Disk {
    /// A disk that asks `hook` before every step and fails where it does.
    pub fn with_hook(hook: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }

    /// Makes `path` and the folders above it.
    pub fn create_folder(&self, path: &Path, access: Access) -> Result<(), DiskError> {
        if path.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        if access == Access::Private {
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        }
        #[cfg(not(unix))]
        let _ = access;
        self.step(Step::Folder)
            .and_then(|()| builder.create(path))
            .map_err(|error| DiskError::new("create", path, error))
    }

    /// Writes `bytes` beside `path`. A path that exists and is no regular file (a device, a pipe) is written to at
    /// once instead.
    pub fn stage(&self, path: &Path, bytes: &[u8], access: Access) -> Result<Staged, DiskError> {
        let fail = |error| DiskError::new("write", path, error);
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            if path.is_dir() {
                return Err(DiskError::NotAFile { path: path.to_owned() });
            }
            let mut device = OpenOptions::new().write(true).open(path).map_err(fail)?;
            device.write_all(bytes).and_then(|()| device.flush()).map_err(fail)?;
            return Ok(Staged { temporary: None, path: path.to_owned(), disk: self.clone() });
        }
        let mut staged = Staged { temporary: None, path: path.to_owned(), disk: self.clone() };
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|error| fail(io::Error::other(error.to_string())))?;
        let name = format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random));
        let temporary = folder_of(path).join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if access == Access::Private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        #[cfg(not(unix))]
        let _ = access;
        self.step(Step::Create).map_err(fail)?;
        let mut file = options.open(&temporary).map_err(fail)?;
        staged.temporary = Some(temporary);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first).and_then(|()| self.step(Step::Half)).map_err(fail)?;
        file.write_all(second).and_then(|()| self.step(Step::Written)).map_err(fail)?;
        self.step(Step::Sync).and_then(|()| file.sync_all()).map_err(fail)?;
        Ok(staged)
    }

    /// Writes `bytes` to `path`, whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8], access: Access) -> Result<(), DiskError> {
        self.stage(path, bytes, access)?.commit()
    }

    /// Gives a finished folder its name.
    pub fn rename_folder(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let fail = |error| DiskError::new("write", to, error);
        self.step(Step::Rename).and_then(|()| fs::rename(from, to)).map_err(fail)?;
        self.sync_folder(to)
    }

    /// Removes a file or a folder with all that it holds; one that is not there is fine.
    pub fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let result = self.step(Step::Remove).and_then(|()| match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
        result.map_err(|error| DiskError::new("remove", path, error))
    }

    /// Makes the names in the folder of `path` durable.
    fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.step(Step::SyncFolder).map_err(|error| DiskError::new("write", path, error))?;
        // Not every system opens folders; where it does not, the rename is as durable as it gets.
        if let Ok(folder) = File::open(folder_of(path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn step(&self, step: Step) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(step))
    }
}

impl Staged {
    /// Gives the file its name.
    pub fn commit(mut self) -> Result<(), DiskError> {
        let Some(temporary) = self.temporary.take() else { return Ok(()) };
        let renamed = self.disk.step(Step::Rename).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = renamed {
            self.temporary = Some(temporary);
            return Err(DiskError::new("write", &self.path, error));
        }
        self.disk.sync_folder(&self.path)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The folder that holds `path`.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
