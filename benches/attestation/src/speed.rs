//! Our full verification beside the floor: the time that AWS-LC alone takes for the signatures that have to be checked.
//!
//! Full verification starts from the files as they come and ends with the report. The floor has keys, messages and signatures ready,
//! and checks each signature once. Both run in turns, one after the other, and medians are compared.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use hallmark_attestation::crypto::PublicKey;
use hallmark_attestation::dcap::{Certification, Collateral, Quote};
use hallmark_attestation::nitro::Document;
use hallmark_attestation::nvidia::{DeviceReport, devices};
use hallmark_attestation::snp::AttestationReport;
use hallmark_attestation::x509::{Certificate, Crl};
use hallmark_attestation::{Input, Kind, Memo, encoding};

use crate::cases::Case;
use crate::{Result, peers};

/// The most that full verification may take of the floor.
const BAR: f64 = 1.2;

/// What is timed: the case, by its evidence, and whether the chain is known already.
const ROWS: &[(&str, bool)] = &[
    ("nitro/og-evm-attestation_doc.bin", false),
    ("tdx/dcap-qvl/tdx_quote", false),
    ("sgx/dcap-qvl/sgx_quote", false),
    ("sev-snp/trustee/test-report.bin", false),
    ("sev-snp/trustee/test-report.bin", true),
    ("nvidia-gpu/attestation-sdk/hopper_evidence.json", false),
];

/// One signature to check.
struct Signature {
    algorithm: &'static dyn VerificationAlgorithm,
    kind: &'static str,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signature {
    fn check(&self) -> Result<()> {
        let key = UnparsedPublicKey::new(self.algorithm, &self.key);
        key.verify(black_box(&self.message), &self.signature)
            .map_err(|_| "a signature of the floor does not hold".into())
    }

    fn new(key: PublicKey<'_>, is_der: bool, message: &[u8], signature: &[u8]) -> Self {
        let (algorithm, kind, key): (&'static dyn VerificationAlgorithm, _, _) = match key {
            PublicKey::P256(key) if is_der => (&ECDSA_P256_SHA256_ASN1, "P-256", key),
            PublicKey::P256(key) => (&ECDSA_P256_SHA256_FIXED, "P-256", key),
            PublicKey::P384(key) if is_der => (&ECDSA_P384_SHA384_ASN1, "P-384", key),
            PublicKey::P384(key) => (&ECDSA_P384_SHA384_FIXED, "P-384", key),
            PublicKey::Rsa(key) => (&RSA_PSS_2048_8192_SHA384, "RSA-4096", key),
        };
        Self { algorithm, kind, key: key.to_vec(), message: message.to_vec(), signature: signature.to_vec() }
    }
}

/// Times everything; whether each row is within the bar.
pub fn run(cases: &[Case], rounds: usize) -> Result<bool> {
    println!(
        "medians of {rounds} rounds in turns, microseconds; chain known: the signatures of its certificates held before\n"
    );
    println!(
        "| evidence | chain known | signatures | AWS-LC alone | hallmark | ratio | peer |\n|---|---|---|---|---|---|---|"
    );
    let mut holds = true;
    for (name, is_known) in ROWS {
        let case = cases.iter().find(|case| case.name == *name && (case.accepted || case.kind == Kind::Sgx));
        let case = case.ok_or("a row without its case")?;
        let (policy, memo) = (case.allowed.policy()?, Memo::default());
        let memo = is_known.then_some(&memo);
        let floor = floor(case, *is_known)?;
        let (mut alone, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        if !case.judge(&policy, memo).is_accepted() {
            return Err(format!("{name} is not accepted").into());
        }
        for _ in 0..rounds {
            alone.push(time(|| floor.iter().try_for_each(Signature::check))?);
            ours.push(time(|| Ok(drop(black_box(case.judge(&policy, memo)))))?);
            if !is_known {
                theirs.push(time(|| Ok(drop(black_box(peers::judge(case)))))?);
            }
        }
        let [alone, ours] = [alone, ours].map(median);
        let ratio = ours / alone;
        holds &= ratio <= BAR;
        let peer = match case.kind {
            Kind::Tdx | Kind::Sgx => format!("dcap-qvl {:.0}", median(theirs)),
            Kind::SevSnp if !is_known => format!("sev {:.0}", median(theirs)),
            _ => String::new(),
        };
        let known = if *is_known { "yes" } else { "no" };
        println!("| `{name}` | {known} | {} | {alone:.0} | {ours:.0} | {ratio:.2} | {peer} |", kinds(&floor));
    }
    if !holds {
        println!("\na ratio is above {BAR}");
    }
    Ok(holds)
}

/// Microseconds that it takes.
fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn kinds(floor: &[Signature]) -> String {
    let count = |kind| floor.iter().filter(|signature| signature.kind == kind).count();
    let kinds = ["P-256", "P-384", "RSA-4096"].map(|kind| (count(kind), kind));
    kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The signatures of a case, each once. If the chain is known, that of the evidence alone.
fn floor(case: &Case, is_known: bool) -> Result<Vec<Signature>> {
    let mut floor = match case.kind {
        Kind::Nitro => nitro(case)?,
        Kind::SevSnp => snp(case)?,
        Kind::Nvidia => nvidia(case)?,
        _ => dcap(case)?,
    };
    if is_known {
        floor.drain(1..);
    }
    floor.iter().try_for_each(Signature::check)?;
    Ok(floor)
}

/// The signature of each certificate but the last, by the one behind it.
fn chain<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Signature>> {
    let certificates =
        certificates.into_iter().map(Certificate::parse).collect::<std::result::Result<Vec<_>, _>>()?;
    let pairs = certificates.iter().zip(certificates.iter().skip(1));
    Ok(pairs.map(|(leaf, issuer)| Signature::new(issuer.key, true, leaf.tbs, leaf.signature)).collect())
}

fn nitro(case: &Case) -> Result<Vec<Signature>> {
    let bytes = encoding::decode(&case.evidence)?;
    let document = Document::parse(&bytes)?;
    let leaf = Certificate::parse(document.certificate)?;
    let mut floor = vec![Signature::new(leaf.key, false, &document.signed_bytes(), document.signature)];
    let leaf_first = std::iter::once(document.certificate).chain(document.cabundle.iter().rev().copied());
    floor.extend(chain(leaf_first)?);
    Ok(floor)
}

fn snp(case: &Case) -> Result<Vec<Signature>> {
    const ASK: &[u8] = include_bytes!("../../../crates/attestation/src/roots/milan-ask.der");
    const ARK: &[u8] = include_bytes!("../../../crates/attestation/src/roots/milan-ark.der");
    let bytes = encoding::decode(&case.evidence)?;
    let report = AttestationReport::parse(&bytes)?;
    let leaf = case.certificates.first().ok_or("no certificate")?;
    let mut floor =
        vec![Signature::new(Certificate::parse(leaf)?.key, false, report.signed, &report.signature)];
    floor.extend(chain([leaf, ASK, ARK])?);
    Ok(floor)
}

fn nvidia(case: &Case) -> Result<Vec<Signature>> {
    let devices = devices(&Input::of(&case.evidence))?;
    let mut floor = Vec::new();
    for device in &devices {
        let report = DeviceReport::parse(&device.report)?;
        let leaf = Certificate::parse(device.certificates.first().ok_or("no certificate")?)?;
        floor.push(Signature::new(leaf.key, false, report.signed, report.signature));
        floor.extend(chain(device.certificates.iter().map(Vec::as_slice))?);
    }
    Ok(floor)
}

fn dcap(case: &Case) -> Result<Vec<Signature>> {
    let bytes = encoding::decode(&case.evidence)?;
    let quote = Quote::parse(&bytes)?;
    let collateral: Vec<&[u8]> = case.collateral.iter().map(Vec::as_slice).collect();
    let collateral = Collateral::read(&Input { collateral: &collateral, ..Input::of(&bytes) })?;
    let Certification::Chain(pem) = quote.certification else { return Err("no chain in the quote".into()) };
    let platform = encoding::pem(std::str::from_utf8(pem)?.trim_end_matches('\0'))?;
    let leaf = Certificate::parse(platform.first().ok_or("no certificate")?)?;
    let attestation_key = [&[4], &quote.attestation_key[..]].concat();
    let mut floor = vec![
        Signature::new(PublicKey::P256(&attestation_key), false, quote.signed, quote.signature),
        Signature::new(leaf.key, false, quote.qe_report.bytes, quote.qe_report_signature),
    ];
    floor.extend(chain(platform.iter().map(Vec::as_slice))?);
    // Both texts have one signer, whose chain counts once.
    let mut authorities = platform.clone();
    for (number, text) in collateral.tcb_infos.iter().chain(&collateral.identities).enumerate() {
        let signer = text.chain.as_ref().ok_or("no chain")?;
        let key = Certificate::parse(signer.first().ok_or("no certificate")?)?.key;
        floor.push(Signature::new(key, false, text.text.as_bytes(), &text.signature));
        if number == 0 {
            floor.extend(chain(signer.iter().map(Vec::as_slice))?);
            authorities.extend(signer.iter().cloned());
        }
    }
    for list in &collateral.lists {
        let list = Crl::parse(list)?;
        let parsed = authorities.iter().filter_map(|der| Certificate::parse(der).ok());
        let issuer =
            parsed.into_iter().find(|issuer| issuer.subject == list.issuer).ok_or("a list of nobody")?;
        floor.push(Signature::new(issuer.key, true, list.tbs, list.signature));
    }
    Ok(floor)
}
