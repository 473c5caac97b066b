//! AMD SEV-SNP: report, certificates.

use hallmark_attestation::Kind;

use crate::Subject;
use crate::vectors::Vector;

const VCEK: Vector = Vector {
    kind: Kind::SevSnp,
    evidence: "sev-snp/trustee/test-report.bin",
    certificates: &["sev-snp/trustee/test-vcek.der"],
    collateral: &[],
    at: 1_735_689_600,
    policy: "",
};
const WITH_AUTHORITIES: Vector = Vector {
    evidence: "sev-snp/virtee-sev/report_milan.hex",
    certificates: &["sev-snp/virtee-sev/vcek_milan.der", "sev-snp/virtee-sev/cert_chain_milan"],
    ..VCEK
};
const VLEK: Vector = Vector {
    evidence: "sev-snp/trustee/test-vlek-report.bin",
    certificates: &["sev-snp/trustee/test-vlek.der", "sev-snp/go-sev-guest/milanvlek.testcer"],
    policy: "[sev-snp]\nvmpl = [1]",
    ..VCEK
};

#[test]
fn snp() {
    for vector in [WITH_AUTHORITIES, VCEK, VLEK] {
        let Some(subject) = Subject::unwrapped(&vector) else { return };
        subject.check(61);
    }
}
