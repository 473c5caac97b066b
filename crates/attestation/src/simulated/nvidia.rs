//! NVIDIA's reports: SPDM 1.1 `GET_MEASUREMENTS` and its answer, as Hopper GPUs sign them.

use super::pki::{self, Curve, Hierarchy, Rung, flip_last};
use super::{Draft, Flaw, MARK, rim};
use crate::measurement::Register;
use crate::nvidia::MARK_FIELD;
use crate::producer::{Evidence, ProduceError};
use crate::x509::write::{explicit, extension, item, octet_string, oid, sequence};

/// How many measurements a device reports.
const BLOCKS: u8 = 64;

pub(super) fn root() -> Rung {
    Rung::authority("nvidia root", "SIMULATED NVIDIA Device Identity CA", None)
}

pub(super) fn produce(draft: &Draft<'_>) -> Result<Evidence, ProduceError> {
    if !draft.request.report_data.is_empty() {
        let got = draft.request.report_data.len();
        return Err(ProduceError::TooLong { field: "report data", most: 0, got });
    }
    let mut leaf = Rung::leaf("nvidia device", "GH100 A01 GSP FMC LF");
    leaf.extensions.push(tcb_info(draft));
    let hierarchy = Hierarchy::new(
        draft,
        Curve::P384,
        &[
            leaf,
            Rung::authority("nvidia boot rom", "GH100 A01 GSP BROM", Some(0)),
            Rung::authority("nvidia provisioner", "NVIDIA GH100 Provisioner ICA 1", Some(1)),
            Rung::authority("nvidia product", "NVIDIA GH100 Identity", Some(2)),
            root(),
        ],
    )?;
    let mut evidence = report(draft)?;
    let mut signature = hierarchy.signer().sign_fixed(&evidence);
    if draft.has(Flaw::Signature) {
        flip_last(&mut signature);
    }
    evidence.extend(signature);
    if draft.has(Flaw::TooLong) {
        evidence.resize(257 << 10, 0);
    }
    let (certificates, mut collateral) = (hierarchy.certificates(), hierarchy.answers(1));
    if draft.reference_manifests {
        collateral.extend(rim::collateral(draft)?);
    }
    Ok(Evidence { evidence, certificates, collateral, ..Evidence::default() })
}

/// The firmware's digest.
fn firmware(draft: &Draft<'_>) -> [u8; 48] {
    pki::bytes(&draft.seed, "nvidia firmware")
}

/// `DiceTcbInfo`: the firmware's digest, and flags, of which `debug` is the fourth.
fn tcb_info(draft: &Draft<'_>) -> Vec<u8> {
    let mut digest = firmware(draft);
    if draft.has(Flaw::FirmwareId) {
        flip_last(&mut digest);
    }
    let flags = if draft.has(Flaw::Debug) { 0x10 } else { 0 };
    let mut info = sequence(&[
        item(0x80, b"NVIDIA"),
        explicit(6, &sequence(&[oid("2.16.840.1.101.3.4.2.2"), octet_string(&digest)])),
        item(0x87, &[2, flags, 0, 0, 1]),
    ]);
    if draft.has(Flaw::FirmwareExtension) {
        info.push(0);
    }
    extension("2.23.133.5.4.1.1", false, &info)
}

/// Request and answer, up to the signature.
fn report(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    let asked = draft.request.nonce.as_slice();
    let mut nonce = [0; 32];
    if !asked.is_empty() {
        let length = ProduceError::NonceLength { expected: nonce.len(), got: asked.len() };
        nonce = asked.try_into().map_err(|_| length)?;
    }
    if draft.has(Flaw::Nonce) {
        flip_last(&mut nonce);
    }
    let has = |flaw| draft.has(flaw);
    let version = if has(Flaw::ReportVersion) { 0x12 } else { 0x11 };
    let response = if has(Flaw::MessageCode) { 0x7f } else { 0x60 };
    // All measurements, signed.
    let which = if has(Flaw::Parameter) { 1 } else { 0xff };
    let mut out = vec![version, 0xe0, 0x01, which];
    out.extend(nonce);
    let record = if has(Flaw::NoBlocks) { Vec::new() } else { blocks(draft)? };
    let count = if has(Flaw::NoBlocks) { 0 } else { BLOCKS };
    out.extend([0, 0x11, response, 0, 0, count]);
    out.extend(u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes().iter().take(3));
    out.extend(record);
    out.extend(pki::bytes(&draft.seed, "nvidia responder nonce").iter().take(32));
    let opaque = opaque(draft);
    out.extend(u16::try_from(opaque.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(opaque);
    Ok(out)
}

/// The measurement record: digests of SHA-384.
fn blocks(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    let registers: Vec<Register> = (1..=BLOCKS).map(Register::Block).collect();
    draft.only(&registers)?;
    let mut out = Vec::new();
    for (register, index) in registers.into_iter().zip(1..) {
        let mut value = draft.measurement::<48>(register)?.to_vec();
        let first = index == 1;
        if first && draft.has(Flaw::OtherCode) {
            flip_last(&mut value);
        }
        if first && draft.has(Flaw::DigestLength) {
            value.pop();
        }
        let index = if draft.has(Flaw::DuplicateBlock) && index == 2 { 1 } else { index };
        let specification = if first && draft.has(Flaw::Specification) { 2 } else { 1 };
        let size = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let said = if first && draft.has(Flaw::BlockSize) { size.saturating_sub(1) } else { size };
        out.extend([index, specification]);
        out.extend(size.saturating_add(3).to_le_bytes());
        out.push(0);
        out.extend(said.to_le_bytes());
        out.extend(value);
    }
    Ok(out)
}

/// NVIDIA's own fields, in their older form: number, length, value.
fn opaque(draft: &Draft<'_>) -> Vec<u8> {
    let firmware = firmware(draft);
    let mut fields: Vec<(u16, &[u8])> = vec![
        // Driver 550.90, VBIOS 96.00.74.00.11.
        (3, b"550.90\0"),
        (6, &[0x00, 0x74, 0x00, 0x96, 0x11, 0, 0, 0]),
        (20, &firmware),
    ];
    if !draft.has(Flaw::MarkMissing) {
        fields.push((MARK_FIELD, MARK.as_bytes()));
    }
    if draft.has(Flaw::DuplicateField) {
        fields.push((3, b"550.90\0"));
    }
    let field = |(number, value): &(u16, &[u8])| {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        [&number.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
    };
    fields.iter().flat_map(field).collect()
}
