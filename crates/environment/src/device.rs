//! Devices that make evidence, on Linux: [`Nsm`] in AWS Nitro enclaves, [`Tsm`] in TDX and SEV-SNP guests. Each is a [`Producer`](hallmark_attestation::Producer);
//! [`detect`] finds those that are here.
//!
//! Devices block: an asynchronous caller asks them on a thread of its own.

mod nsm;
mod tsm;

use std::path::Path;

use hallmark_attestation::{DeviceError, ProduceError};

pub use nsm::Nsm;
pub use tsm::Tsm;

use crate::SharedProducer;

/// No device here makes evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device here makes evidence: {}", .tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct NoDevice {
    /// What each device that was looked for says.
    pub tried: Vec<ProduceError>,
}

/// The devices that are here, at their usual places.
pub fn detect() -> Result<Vec<SharedProducer>, NoDevice> {
    detect_at(Path::new(Nsm::PATH), Path::new(Tsm::ROOT))
}

fn detect_at(nsm: &Path, tsm: &Path) -> Result<Vec<SharedProducer>, NoDevice> {
    let (mut found, mut tried): (Vec<SharedProducer>, _) = (Vec::new(), Vec::new());
    match Nsm::open(nsm) {
        Ok(device) => found.push(Box::new(device)),
        Err(error) => tried.push(error),
    }
    match Tsm::open(tsm) {
        Ok(device) => found.push(Box::new(device)),
        Err(error) => tried.push(error),
    }
    if found.is_empty() { Err(NoDevice { tried }) } else { Ok(found) }
}

/// Says which file went wrong, and at what.
fn failed(device: &Path, what: &'static str) -> impl FnOnce(DeviceError) -> ProduceError {
    let device = device.display().to_string();
    move |why| ProduceError::Device { device, what, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hallmark_attestation::Producer as _;

    #[test]
    fn where_there_is_no_device_each_one_says_so() {
        let nowhere = tempfile::tempdir().unwrap();
        let error = detect_at(&nowhere.path().join("nsm"), &nowhere.path().join("report")).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.tried.len(), 2);
        assert!(text.contains("nsm: open: entity not found (error 2)"), "{text}");
        assert!(text.contains("report: create an entry: entity not found (error 2)"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_device_gives_no_evidence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nsm");
        std::fs::write(&path, b"").unwrap();
        let nsm = Nsm::open(&path).unwrap();
        let error = nsm.produce(&hallmark_attestation::Request::default()).unwrap_err();
        // ENOTTY: a file that knows no such call.
        let ProduceError::Device { what: "ask", why: DeviceError::System { code: Some(25), .. }, .. } = error
        else {
            panic!("{error}");
        };
    }
}
