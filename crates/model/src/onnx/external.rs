//! Tensor data in files beside the model.

/// Gives the bytes of files that lie beside the model.
///
/// The importer refuses every path that is not a plain relative one *before* it asks. What it cannot see is the file
/// system: an implementation over one must also refuse symbolic links that lead out of the model's folder.
pub trait ExternalData {
    /// Exactly `length` bytes from byte `offset` of the file at `path`, relative to the model's folder, `/`-separated.
    fn read(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, ExternalDataError>;

    /// Bytes in the file at `path`.
    fn size(&self, path: &str) -> Result<u64, ExternalDataError>;
}

/// A model that is one file: any external data is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExternalData;

impl ExternalData for NoExternalData {
    fn read(&self, _: &str, _: u64, _: u64) -> Result<Vec<u8>, ExternalDataError> {
        Err(ExternalDataError::Missing)
    }

    fn size(&self, _: &str) -> Result<u64, ExternalDataError> {
        Err(ExternalDataError::Missing)
    }
}

/// Files by path, in memory.
impl ExternalData for std::collections::BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, ExternalDataError> {
        let file = self.get(path).ok_or(ExternalDataError::Missing)?;
        let range = || {
            let start = usize::try_from(offset).ok()?;
            file.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        let short = ExternalDataError::TooShort { offset, length, size: file.len() as u64 };
        range().map(<[u8]>::to_vec).ok_or(short)
    }

    fn size(&self, path: &str) -> Result<u64, ExternalDataError> {
        self.get(path).map(|file| file.len() as u64).ok_or(ExternalDataError::Missing)
    }
}

/// Why external data is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalDataError {
    /// No such file.
    #[error("the file is missing")]
    Missing,
    /// The file ends before the data does.
    #[error("the file has {size} bytes, too few for {length} bytes at offset {offset}")]
    TooShort {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        length: u64,
        /// Bytes in the file.
        size: u64,
    },
    /// The path leads out of the model's folder, by a symbolic link.
    #[error("the path leaves the model's folder")]
    Escapes,
    /// The file cannot be read.
    #[error("the file cannot be read: {why}")]
    Unreadable {
        /// The system's words.
        why: String,
    },
}

/// Why a path is not one inside the model's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum PathFault {
    #[error("is empty")]
    Empty,
    #[error("is longer than {PATH_LIMIT} bytes")]
    TooLong,
    #[error("is absolute")]
    Absolute,
    #[error("has a `..` part")]
    Parent,
    #[error("has an empty or `.` part")]
    Part,
    #[error("has a backslash")]
    Backslash,
    #[error("names a drive or a stream")]
    Colon,
    #[error("has a control character")]
    Control,
}

/// Bytes that a path may have.
pub const PATH_LIMIT: usize = 1024;

/// Checks that `path` is plain: relative, `/`-separated, below the model's folder whatever the platform.
pub fn check_path(path: &str) -> Result<(), PathFault> {
    match path {
        "" => Err(PathFault::Empty),
        _ if path.len() > PATH_LIMIT => Err(PathFault::TooLong),
        _ if path.chars().any(char::is_control) => Err(PathFault::Control),
        _ if path.contains('\\') => Err(PathFault::Backslash),
        _ if path.contains(':') => Err(PathFault::Colon),
        _ if path.starts_with('/') => Err(PathFault::Absolute),
        _ if path.split('/').any(|part| part == "..") => Err(PathFault::Parent),
        _ if path.split('/').any(|part| part.is_empty() || part == ".") => Err(PathFault::Part),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in ["w.bin", "data/w.bin", "..w", "a..b/c", "ü.bin"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        let bad = [
            ("", PathFault::Empty),
            ("/etc/passwd", PathFault::Absolute),
            ("../w", PathFault::Parent),
            ("a/../../w", PathFault::Parent),
            ("a\\..\\w", PathFault::Backslash),
            ("C:/w", PathFault::Colon),
            ("w:stream", PathFault::Colon),
            ("./w", PathFault::Part),
            ("a//w", PathFault::Part),
            ("w\0", PathFault::Control),
        ];
        for (path, fault) in bad {
            assert_eq!(check_path(path), Err(fault), "{path:?}");
        }
        assert_eq!(check_path(&"a".repeat(PATH_LIMIT + 1)), Err(PathFault::TooLong));
    }
}
