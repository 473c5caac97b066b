//! NVIDIA: the report and every certificate, out of their wrappers.

use hallmark_attestation::{Input, Kind, nvidia};

use crate::Subject;
use crate::vectors::{Files, Vector};

const HOPPER: Vector = Vector {
    kind: Kind::Nvidia,
    evidence: "nvidia-gpu/attestation-sdk/hopper_evidence.json",
    certificates: &[],
    collateral: &[],
    at: 1_767_225_600,
    policy: "",
};
const ON_HOLD: Vector =
    Vector { evidence: "nvidia-gpu/attestation-sdk/hopper_evidence_cert_hold.json", ..HOPPER };
const SWITCH: Vector = Vector { evidence: "nvidia-gpu/attestation-sdk/switch_evidence_ls10.json", ..HOPPER };
const APART: Vector = Vector {
    evidence: "nvidia-gpu/trustee/hopperAttestationReport.txt",
    certificates: &["nvidia-gpu/trustee/hopper_cert_chain_case1.txt"],
    ..HOPPER
};

#[test]
fn nvidia() {
    for vector in [HOPPER, ON_HOLD, SWITCH, APART] {
        let Some(files) = vector.read() else { return };
        let certificates: Vec<&[u8]> = files.certificates.iter().map(Vec::as_slice).collect();
        let input = Input { certificates: &certificates, ..Input::of(&files.evidence) };
        let device = nvidia::devices(&input).unwrap().remove(0);
        let files = Files { evidence: device.report, certificates: device.certificates, ..files };
        Subject::raw(&vector, files).check(61);
    }
}
