//! Linux's configfs-tsm, `/sys/kernel/config/tsm/report`, in guests of TDX and SEV-SNP: a folder is made there, what is to be bound
//! is written into its `inblob`, and `outblob` has the report (Linux's `Documentation/ABI/testing/configfs-tsm-report`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hallmark_attestation::{DeviceError, Evidence, Kind, ProduceError, Producer, Request};

use super::failed;

/// The most bytes of a report or of a certificate table.
const MAX_BLOB: usize = 256 << 10;
/// The most bytes of an attribute of text.
const MAX_TEXT: usize = 256;
/// How often a busy device is asked again, and after which time.
const BUSY: (u32, Duration) = (20, Duration::from_millis(50));
/// How many names are tried for an entry: others may be left of processes that were killed.
const NAMES: u32 = 64;

/// The kernel's interface.
#[derive(Debug)]
pub struct Tsm<F = ConfigFs> {
    root: PathBuf,
    kind: Kind,
    privilege: Option<u8>,
    files: F,
}

impl Tsm {
    /// Its usual place.
    pub const ROOT: &str = "/sys/kernel/config/tsm/report";

    /// The interface at `root`, once it has said which kind of report it gives.
    pub fn open(root: &Path) -> Result<Self, ProduceError> {
        Self::over(ConfigFs, root)
    }
}

impl<F: Files> Tsm<F> {
    fn over(files: F, root: &Path) -> Result<Self, ProduceError> {
        let entry = Entry::make(&files, root)?;
        let kind = entry.kind()?;
        drop(entry);
        Ok(Self { root: root.to_owned(), kind, privilege: None, files })
    }

    /// Asks for reports of this privilege level (of SEV-SNP: VMPL, 0 to 3) instead of the kernel's own.
    #[must_use]
    pub fn with_privilege_level(self, level: u8) -> Self {
        Self { privilege: Some(level), ..self }
    }
}

impl<F: Files> Producer for Tsm<F> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        let data = request.one_field()?;
        let entry = Entry::make(&self.files, &self.root)?;
        let before = entry.generation()?;
        if let Some(level) = self.privilege {
            entry.write("privlevel", level.to_string().as_bytes())?;
        }
        entry.write("inblob", &data)?;
        let evidence = entry.read("outblob", MAX_BLOB)?;
        if evidence.is_empty() {
            return Err(entry.failed("outblob", DeviceError::Empty));
        }
        let certificates = match self.kind {
            Kind::SevSnp => entry.optional("auxblob")?,
            _ => Vec::new(),
        };
        // The entry may have changed its provider since it was opened, and anybody with the right to may have written to it.
        let kind = entry.kind()?;
        if kind != self.kind {
            return Err(entry.failed("provider", DeviceError::Unknown(kind.name().to_owned())));
        }
        let expected = if self.privilege.is_some() { 2 } else { 1 };
        let got = entry.generation()?.wrapping_sub(before);
        if got != expected {
            return Err(entry.failed("generation", DeviceError::Raced { expected, got }));
        }
        let certificates = if certificates.is_empty() { Vec::new() } else { vec![certificates] };
        Ok(Evidence { evidence, certificates, ..Evidence::default() })
    }
}

/// A folder of the interface; removed when dropped, whatever happened.
struct Entry<'a, F: Files> {
    files: &'a F,
    path: PathBuf,
}

impl<'a, F: Files> Entry<'a, F> {
    /// Makes one of a name that nobody has.
    fn make(files: &'a F, root: &Path) -> Result<Self, ProduceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..NAMES {
            let name = format!("hallmark-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = root.join(name);
            match patiently(|| files.make(&path)) {
                Ok(()) => return Ok(Self { files, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(failed(root, "create an entry")(error.into())),
            }
        }
        Err(failed(root, "create an entry")(last.into()))
    }

    /// What kind of report it gives.
    fn kind(&self) -> Result<Kind, ProduceError> {
        let provider = self.text("provider")?;
        match provider.as_str() {
            "tdx_guest" => Ok(Kind::Tdx),
            "sev_guest" => Ok(Kind::SevSnp),
            _ => Err(self.failed("provider", DeviceError::Unknown(provider))),
        }
    }

    /// How often it was written to.
    fn generation(&self) -> Result<u64, ProduceError> {
        let text = self.text("generation")?;
        text.parse().map_err(|_| self.failed("generation", DeviceError::Unknown(text)))
    }

    fn text(&self, attribute: &'static str) -> Result<String, ProduceError> {
        let bytes = self.read(attribute, MAX_TEXT)?;
        Ok(String::from_utf8_lossy(&bytes).trim().chars().filter(|letter| !letter.is_control()).collect())
    }

    /// An attribute that may be missing.
    fn optional(&self, attribute: &'static str) -> Result<Vec<u8>, ProduceError> {
        match self.read(attribute, MAX_BLOB) {
            Err(ProduceError::Device {
                why: DeviceError::System { kind: io::ErrorKind::NotFound, .. },
                ..
            }) => Ok(Vec::new()),
            other => other,
        }
    }

    fn read(&self, attribute: &'static str, most: usize) -> Result<Vec<u8>, ProduceError> {
        let bytes = patiently(|| self.files.read(&self.path.join(attribute), most.saturating_add(1)))
            .map_err(|error| self.failed(attribute, error.into()))?;
        if bytes.len() > most {
            Err(self.failed(attribute, DeviceError::TooLong { most }))
        } else {
            Ok(bytes)
        }
    }

    fn write(&self, attribute: &'static str, bytes: &[u8]) -> Result<(), ProduceError> {
        patiently(|| self.files.write(&self.path.join(attribute), bytes))
            .map_err(|error| self.failed(attribute, error.into()))
    }

    fn failed(&self, what: &'static str, why: DeviceError) -> ProduceError {
        failed(&self.path, what)(why)
    }
}

impl<F: Files> Drop for Entry<'_, F> {
    fn drop(&mut self) {
        // Nobody is left to tell; a name that stays is never taken again.
        let _ = patiently(|| self.files.remove(&self.path));
    }
}

/// Tries again while the device is busy with somebody else's report, or a signal came.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let (times, pause) = BUSY;
    for _ in 0..times {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(pause),
            other => return other,
        }
    }
    attempt()
}

/// What is done to the interface. configfs makes and removes an entry's files with its folder, and answers when `outblob` is read:
/// no ordinary file system does.
pub trait Files {
    /// Makes a folder.
    fn make(&self, path: &Path) -> io::Result<()>;
    /// Reads a file, at most `most` bytes of it.
    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>>;
    /// Writes a file that is there, all at once: what a write has is what the kernel takes for the value.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Removes a folder.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFs;

impl Files for ConfigFs {
    fn make(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn read(&self, path: &Path, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.write_all(bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }
}

#[cfg(test)]
mod tests;
