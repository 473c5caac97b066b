//! Intel TDX and SGX: quotes and their collateral. Changed are the bits of both files as they came and, inside them, of every
//! certificate, list and signature.

use hallmark_attestation::Kind;

use crate::vectors::Vector;
use crate::{File, Form, Part, Subject};

const TDX: Vector = Vector {
    kind: Kind::Tdx,
    evidence: "tdx/dcap-qvl/tdx_quote",
    certificates: &[],
    collateral: &["tdx/dcap-qvl/tdx_quote_collateral.json"],
    at: 1_750_329_200,
    policy: "",
};
const TDX_15: Vector = Vector {
    evidence: "tdx/dcap-qvl/tdx_quote_td15ex",
    collateral: &["tdx/dcap-qvl/tdx_quote_td15ex_collateral.json"],
    at: 1_791_419_400,
    policy: "[tdx]\nallow_service_td = true",
    ..TDX
};
const SGX: Vector = Vector {
    kind: Kind::Sgx,
    evidence: "sgx/dcap-qvl/sgx_quote",
    collateral: &["sgx/dcap-qvl/sgx_quote_collateral.json"],
    at: 1_750_330_600,
    policy: "[sgx.tcb]\nallow = ['ConfigurationAndSWHardeningNeeded']",
    ..TDX
};

/// The blocks of PEM in `file`, each with the places of its base64 digits. Line breaks may be escaped.
fn blocks(file: &[u8]) -> Vec<Vec<usize>> {
    // One character a byte.
    let text: String =
        file.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect();
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(begin) = text[at..].find("-----BEGIN CERTIFICATE-----") {
        let begin = at + begin + 27;
        let end = begin + text[begin..].find("-----END").unwrap();
        let escaped = |place: usize| file[place] == b'\\' || file[place - 1] == b'\\';
        blocks.push((begin..end).filter(|&place| !escaped(place) && file[place] != b'\n').collect());
        at = end;
    }
    blocks
}

/// The runs of 100 hexadecimal digits or more in `file`: lists and signatures.
fn runs(file: &[u8]) -> Vec<Vec<usize>> {
    let digits = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut runs = vec![Vec::new()];
    for (place, byte) in file.iter().enumerate() {
        if digits(byte) {
            runs.last_mut().unwrap().push(place);
        } else if !runs.last().unwrap().is_empty() {
            runs.push(Vec::new());
        }
    }
    runs.retain(|run| run.len() >= 100);
    runs
}

#[test]
fn dcap() {
    for vector in [TDX, TDX_15, SGX] {
        let Some(files) = vector.read() else { return };
        let mut subject = Subject::raw(&vector, files);
        for file in File::all(&subject.files) {
            let bytes = file.of(&subject.files);
            let runs = if bytes.first() == Some(&b'{') { runs(bytes) } else { Vec::new() };
            let inside = blocks(bytes).into_iter().map(Form::Base64).chain(runs.into_iter().map(Form::Hex));
            subject.parts.extend(inside.map(|form| Part { file, form }).collect::<Vec<_>>());
        }
        subject.check(127);
    }
}
