//! Evidence from real hardware: where it lies, and which of it is accepted.

use std::path::PathBuf;

use hallmark_attestation::{Context, Input, Kind, Policy, Report, verify};

/// One piece of evidence with what belongs to it: files below the folder of vectors.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    pub kind: Kind,
    pub evidence: &'static str,
    pub certificates: &'static [&'static str],
    pub collateral: &'static [&'static str],
    /// Seconds since 1970.
    pub at: u64,
    /// What a policy file says beyond its name; `genuine` says nothing.
    pub policy: &'static str,
}

/// The files of a vector, read.
#[derive(Clone, Debug)]
pub struct Files {
    pub evidence: Vec<u8>,
    pub certificates: Vec<Vec<u8>>,
    pub collateral: Vec<Vec<u8>>,
}

/// Where evidence from hardware lies, beside the repository; none is part of it.
pub fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not present", folder.display());
    None
}

impl Vector {
    pub fn policy(&self) -> Policy {
        Policy::parse(&format!("name = \"genuine\"\n{}", self.policy)).unwrap()
    }

    /// Its files; none where the folder is not present.
    pub fn read(&self) -> Option<Files> {
        let folder = folder()?;
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let all = |names: &[&str]| names.iter().map(|name| read(name)).collect();
        Some(Files {
            evidence: read(self.evidence),
            certificates: all(self.certificates),
            collateral: all(self.collateral),
        })
    }

    pub fn judge(&self, files: &Files, policy: &Policy) -> Report {
        let certificates: Vec<&[u8]> = files.certificates.iter().map(Vec::as_slice).collect();
        let collateral: Vec<&[u8]> = files.collateral.iter().map(Vec::as_slice).collect();
        let input = Input {
            evidence: &files.evidence,
            certificates: &certificates,
            collateral: &collateral,
            event_log: None,
        };
        verify(self.kind, &input, &Context::new(self.at, policy))
    }
}
