//! Nitro documents, as the Nitro hypervisor writes them.

use super::pki::{self, Curve, Hierarchy, Rung};
use super::{Draft, Flaw, MARK};
use crate::measurement::Register;
use crate::producer::{Evidence, ProduceError};
use crate::x509::write::{explicit, extension, item, sequence};

/// The longest user data and nonce.
const MAX_FIELD: usize = 1024;
/// COSE's header {alg: ES384}; the last byte is -35.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// {alg: ES256}.
const PROTECTED_ES256: [u8; 3] = [0xa1, 0x01, 0x26];

pub(super) fn root() -> Rung {
    Rung::authority("nitro root", "SIMULATED aws.nitro-enclaves", None)
}

pub(super) fn produce(draft: &Draft<'_>) -> Result<Evidence, ProduceError> {
    let hierarchy = Hierarchy::new(
        draft,
        Curve::P384,
        &[
            listed(draft, "instance", Rung::leaf("nitro enclave", "i-simulated-enc0.us-east-1.aws")),
            listed(
                draft,
                "zone",
                Rung::authority("nitro instance", "i-simulated.us-east-1.aws.nitro-enclaves", Some(0)),
            ),
            listed(
                draft,
                "region",
                Rung::authority("nitro zone", "zonal.us-east-1.aws.nitro-enclaves", Some(1)),
            ),
            listed(draft, "root", Rung::authority("nitro region", "us-east-1.aws.nitro-enclaves", Some(2))),
            root(),
        ],
    )?;
    let payload = payload(draft, &hierarchy.certificates())?;
    let protected = if draft.has(Flaw::HeaderAlgorithm) { &PROTECTED_ES256[..] } else { &PROTECTED };
    let signed = [&b"\x84\x6aSignature1"[..], &bytes(protected), &bytes(&[]), &bytes(&payload)].concat();
    let mut signature = hierarchy.signer().sign_fixed(&signed);
    if draft.has(Flaw::Signature) {
        pki::flip_last(&mut signature);
    }
    if draft.has(Flaw::SignatureLength) {
        signature.pop();
    }
    let unprotected = if draft.has(Flaw::Unprotected) { vec![0xa1, 0x04, 0x41, 0] } else { vec![0xa0] };
    let mut message = match draft.flaw {
        // COSE_Sign, of many signers.
        Some(Flaw::Tag) => vec![0xd8, 98, 0x84],
        Some(Flaw::Parts) => vec![0x85],
        _ => vec![0x84],
    };
    for part in [bytes(protected), unprotected, bytes(&payload), bytes(&signature)] {
        message.extend(part);
    }
    if draft.has(Flaw::Parts) {
        message.extend(bytes(&[]));
    }
    if draft.has(Flaw::TooLong) {
        message.extend([0; 32 << 10]);
    }
    Ok(Evidence { evidence: message, collateral: hierarchy.lists(0), ..Evidence::default() })
}

/// With the place of its issuer's list, if that is wanted.
fn listed(draft: &Draft<'_>, issuer: &str, mut rung: Rung) -> Rung {
    if !draft.distribution_points {
        return rung;
    }
    let url = format!("http://crl.simulated.invalid/nitro/{issuer}.crl");
    let names = explicit(0, &explicit(0, &item(0x86, url.as_bytes())));
    rung.extensions.push(extension("2.5.29.31", false, &sequence(&[sequence(&[names])])));
    rung
}

/// The signed map.
fn payload(draft: &Draft<'_>, chain: &[Vec<u8>]) -> Result<Vec<u8>, ProduceError> {
    let request = draft.request;
    let mut user_data = draft.bounded("report data", &request.report_data, MAX_FIELD)?.to_vec();
    let mut nonce = draft.bounded("nonce", &request.nonce, MAX_FIELD)?.to_vec();
    let mut made = request.at;
    match draft.flaw {
        Some(Flaw::Oversized) => user_data = vec![0; MAX_FIELD.saturating_add(1)],
        Some(Flaw::Binding) => user_data.push(0),
        Some(Flaw::Nonce) => nonce.push(0),
        Some(Flaw::FromTheFuture) => made = made.saturating_add(1),
        Some(Flaw::Old) => made = made.saturating_sub(86_400),
        _ => {}
    }
    let mark = if draft.has(Flaw::MarkMissing) { "i" } else { MARK };
    let digest = if draft.has(Flaw::DigestFunction) { "SHA256" } else { "SHA384" };
    let (leaf, bundle) = chain.split_first().unwrap_or((const { &Vec::new() }, &[]));
    let bundle = bundle.iter().rev().map(|certificate| bytes(certificate));
    let mut fields = vec![
        field("module_id", text(&format!("{mark}-0123456789abcdef0-enc0123456789abcdef"))),
        field("digest", text(digest)),
        field("timestamp", head(0, made.saturating_mul(1000))),
        field("pcrs", registers(draft)?),
        field("certificate", bytes(leaf)),
        field(
            "cabundle",
            [head(4, chain.len().saturating_sub(1) as u64), bundle.collect::<Vec<_>>().concat()].concat(),
        ),
        field("public_key", vec![0xf6]),
        field("user_data", if user_data.is_empty() { vec![0xf6] } else { bytes(&user_data) }),
        field("nonce", if nonce.is_empty() { vec![0xf6] } else { bytes(&nonce) }),
    ];
    match draft.flaw {
        Some(Flaw::DuplicateField) => fields.push(field("digest", text(digest))),
        Some(Flaw::UnknownField) => fields.push(field("more", vec![0xf6])),
        Some(Flaw::MissingField) => fields.retain(|field| !field.ends_with(digest.as_bytes())),
        // The first field's length in two bytes, where one is enough.
        Some(Flaw::LongForm) => {
            let value = field("module_id", [&[0x79, 0, 12][..], format!("{mark}-0a").as_bytes()].concat());
            fields.iter_mut().take(1).for_each(|field| field.clone_from(&value));
        }
        _ => {}
    }
    Ok([head(5, fields.len() as u64), fields.concat()].concat())
}

/// PCR0 to PCR15: image, kernel and application are measured; 3 (role), 4 (instance) and 8 (signer) are if they were asked for.
fn registers(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    let all: Vec<Register> = (0..16).map(Register::Pcr).collect();
    draft.only(&all)?;
    let mut pcrs = Vec::new();
    for number in 0..16 {
        let register = Register::Pcr(number);
        let is_measured = number < 3 || draft.measurements.contains_key(&register);
        let mut value = if is_measured { draft.measurement(register)? } else { [0; 48] };
        match draft.flaw {
            Some(Flaw::Debug) if number < 3 => value = [0; 48],
            Some(Flaw::OtherCode) if number == 0 => pki::flip_last(&mut value),
            _ => {}
        }
        let number = if draft.has(Flaw::RegisterNumber) && number == 15 { 32 } else { u64::from(number) };
        pcrs.extend([head(0, number), bytes(&value)].concat());
    }
    Ok([head(5, 16), pcrs].concat())
}

/// A CBOR head: major type and number, in its shortest form.
fn head(major: u8, number: u64) -> Vec<u8> {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    match number {
        0..=23 => vec![major | bytes[7]],
        24..=0xff => vec![major | 24, bytes[7]],
        0x100..=0xffff => vec![major | 25, bytes[6], bytes[7]],
        0x1_0000..=0xffff_ffff => [&[major | 26][..], &bytes[4..]].concat(),
        _ => [&[major | 27][..], &bytes].concat(),
    }
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len() as u64), bytes.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
}

fn field(name: &str, value: Vec<u8>) -> Vec<u8> {
    [text(name), value].concat()
}
