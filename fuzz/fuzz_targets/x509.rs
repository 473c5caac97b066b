//! Certificates, revocation lists and OCSP responses of any bytes: no panic; beside good evidence nothing else is accepted with them.
#![no_main]

mod evidence;

use std::sync::LazyLock;

use evidence::Seeds;
use hallmark_attestation::Kind;
use hallmark_attestation::x509::ocsp::{Response, is_response};
use hallmark_attestation::x509::{Certificate, Crl, certificate_text};

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| Seeds::of(&[Kind::Nitro, Kind::SevSnp, Kind::Nvidia]));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = certificate_text(bytes);
    if let Ok(certificate) = Certificate::parse(bytes) {
        assert_eq!(certificate.der, bytes);
        let _ = certificate.verify_signature(&certificate);
    }
    let (list, response) = (Crl::parse(bytes), Response::parse(bytes));
    assert!(list.is_err() || response.is_err());
    assert!(response.is_err() || is_response(bytes));
    if let Ok(list) = list {
        let _ = list.revocation(&[1]);
    }
    SEEDS.check(|evidence| evidence.collateral.push(bytes.to_vec()));
    SEEDS.check(|evidence| evidence.certificates.push(bytes.to_vec()));
});
