//! AWS Nitro: the document.

use hallmark_attestation::Kind;

use crate::Subject;
use crate::vectors::Vector;

const OG_EVM: Vector = Vector {
    kind: Kind::Nitro,
    evidence: "nitro/og-evm-attestation_doc.bin",
    certificates: &[],
    collateral: &[],
    at: 1_770_918_962,
    policy: "",
};
const EVERVAULT: Vector =
    Vector { evidence: "nitro/evervault/beta/valid-attestation-doc-bytes", at: 1_665_651_482, ..OG_EVM };

#[test]
fn nitro() {
    for vector in [OG_EVM, EVERVAULT] {
        let Some(subject) = Subject::unwrapped(&vector) else { return };
        subject.check(61);
    }
}
