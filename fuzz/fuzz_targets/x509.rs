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
    let (certificate, list, response) =
        (Certificate::parse(bytes), Crl::parse(bytes), Response::parse(bytes));
    let read = [certificate.is_ok(), list.is_ok(), response.is_ok()];
    assert!(read.iter().filter(|read| **read).count() <= 1);
    assert!(response.is_err() || is_response(bytes));
    if let Ok(certificate) = certificate {
        assert_eq!(certificate.der, bytes);
        let _ = certificate.verify_signature(&certificate);
        SEEDS.check(|evidence| evidence.certificates.push(bytes.to_vec()));
    }
    if let Ok(list) = &list {
        let _ = list.revocation(&[1]);
    }
    if list.is_ok() || response.is_ok() {
        SEEDS.check(|evidence| evidence.collateral.push(bytes.to_vec()));
    }
});
