//! Devices of our own: what no evidence at hand shows.
#![allow(clippy::unwrap_used)]

use hallmark_receipt::Digest;
use hallmark_receipt::check::Cause as _;
use hallmark_receipt::wire::to_hex;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::report::Dangers;
use crate::x509::write::{
    self, Entity, Span, authority_extensions, explicit, extension, item, leaf_extensions, octet_string, oid,
    sequence,
};

const NOW: u64 = 1_767_225_600;
const SPAN: Span = Span { from: NOW - 1000, to: NOW + 1000 };
const NONCE: [u8; 32] = [0x5a; 32];
const FIRMWARE: [u8; 48] = [0xf1; 48];
/// The operational flags of Blackwell's certificates: notConfigured, fixedWidth.
const FLAGS: [u8; 5] = [0, 0x80, 0, 0, 1];

/// A device whose chain ends in our root.
struct Maker {
    leaf: Entity,
    boot_rom: Entity,
    root: Entity,
}

impl Maker {
    fn new() -> Self {
        let [leaf, boot_rom, root] = [("GB100 A01 GSP FMC LF", 11), ("GB100 A01 GSP BROM", 12), ("root", 13)]
            .map(|(name, seed)| Entity::new(name, seed));
        Self { leaf, boot_rom, root }
    }

    /// Leaf first. `flags` is the content of `OperationalFlags`.
    fn chain(&self, flags: &[u8]) -> Vec<Vec<u8>> {
        let firmware = sequence(&[oid("2.16.840.1.101.3.4.2.2"), octet_string(&FIRMWARE)]);
        let tcb_info = sequence(&[
            item(0x80, b"NVIDIA"),
            item(0x83, &[1]),
            explicit(6, &firmware),
            item(0x87, flags),
            item(0x88, &[0xc0]),
        ]);
        let mut extensions = leaf_extensions();
        extensions.push(extension("2.23.133.5.4.1.1", false, &tcb_info));
        vec![
            self.boot_rom.certify(&self.leaf, SPAN, &extensions),
            self.root.certify(&self.boot_rom, SPAN, &authority_extensions()),
            self.root.certify(&self.root, SPAN, &authority_extensions()),
        ]
    }

    /// A signed report with these measurement blocks and this opaque data.
    fn report(&self, count: u8, record: &[u8], opaque: &[u8]) -> Vec<u8> {
        let mut report = vec![0x11, 0xe0, 0x01, 0xff];
        report.extend_from_slice(&NONCE);
        report.extend_from_slice(&[0, 0x11, 0x60, 0, 0, count]);
        report.extend_from_slice(&(record.len() as u32).to_le_bytes()[..3]);
        report.extend_from_slice(record);
        report.extend_from_slice(&[7; 32]);
        report.extend_from_slice(&(opaque.len() as u16).to_le_bytes());
        report.extend_from_slice(opaque);
        report.extend(self.leaf.key.sign_fixed(&report));
        report
    }
}

fn block(index: u8, value_type: u8, value: &[u8]) -> Vec<u8> {
    let size = value.len() as u16;
    let mut block = vec![index, 1];
    block.extend_from_slice(&(size + 3).to_le_bytes());
    block.push(value_type);
    block.extend_from_slice(&size.to_le_bytes());
    block.extend_from_slice(value);
    block
}

/// Opaque data in its older form.
fn opaque(fields: &[(u16, &[u8])]) -> Vec<u8> {
    let field = |(number, value): &(u16, &[u8])| {
        [&number.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat()
    };
    fields.iter().flat_map(field).collect()
}

/// The same in its newer form.
fn typed_opaque(fields: &[(u16, &[u8])]) -> Vec<u8> {
    let field = |(number, value): &(u16, &[u8])| {
        [&number.to_le_bytes()[..], &[0x86, 0], &(value.len() as u16).to_le_bytes(), value].concat()
    };
    let header = [&b"NVDAOD"[..], &[0, 0, 2, 0, 0, 0]].concat();
    [header, fields.iter().flat_map(field).collect()].concat()
}

/// The roots here are development roots.
const MARK: (u16, &[u8]) = (MARK_FIELD, b"SIMULATED");

const VERSIONS: &[(u16, &[u8])] =
    &[(3, b"575.32\0"), (6, &[0x00, 0x57, 0x00, 0x97, 0x01, 0, 0, 0]), (20, &FIRMWARE), MARK];

fn plain_report(maker: &Maker) -> Vec<u8> {
    maker.report(1, &block(1, 0, &[3; 48]), &opaque(VERSIONS))
}

/// Judges one report under our root.
fn judged(report: &[u8], chain: &[Vec<u8>], change: impl Fn(&mut Context<'_>)) -> Report {
    judged_by(&crate::Policy::genuine(), report, chain, &[], change)
}

fn judged_by(
    policy: &crate::Policy,
    report: &[u8],
    chain: &[Vec<u8>],
    collateral: &[&[u8]],
    change: impl Fn(&mut Context<'_>),
) -> Report {
    let certificates: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let roots = [Digest(Sha256::digest(Maker::new().chain(&FLAGS).last().unwrap()).into())];
    let mut context = Context::new(NOW, policy);
    context.dangers = Dangers { accept_simulated: &roots, accept_debug: false };
    change(&mut context);
    let input = Input { certificates: &certificates, collateral, ..Input::of(report) };
    verify(&input, &context)
}

/// The rows that failed and their reasons.
fn failed(report: &Report) -> Vec<(CheckId, &'static str)> {
    report.reasons().map(|(id, reason)| (id, reason.code())).collect()
}

#[test]
fn each_form_of_a_report_is_read_or_refused_with_its_reason() {
    let maker = Maker::new();
    let chain = maker.chain(&FLAGS);
    let digest = block(1, 0, &[3; 48]);
    let two = [digest.clone(), block(240, 0x8a, b"a manifest as it is")].concat();
    for (case, report, code) in [
        ("older opaque data", maker.report(1, &digest, &opaque(VERSIONS)), None),
        ("newer opaque data", maker.report(1, &digest, &typed_opaque(VERSIONS)), None),
        ("a raw value, a gap", maker.report(2, &two, &opaque(VERSIONS)), None),
        ("no blocks", maker.report(0, &[], &[]), Some("report-no-blocks")),
        ("one block too few", maker.report(2, &digest, &[]), Some("report-truncated")),
        ("one block too many", maker.report(1, &two, &[]), Some("report-trailing")),
        ("a block twice", maker.report(2, &digest.repeat(2), &[]), Some("report-order")),
        ("block 0", maker.report(1, &block(0, 0, &[3; 48]), &[]), Some("report-order")),
        ("a digest of 20 bytes", maker.report(1, &block(1, 0, &[3; 20]), &[]), Some("report-digest")),
        ("a field twice", maker.report(1, &digest, &opaque(&[(3, b"1"), (3, b"2")])), Some("report-opaque")),
        ("a field cut off", maker.report(1, &digest, &[3, 0, 9, 0, 1]), Some("report-opaque")),
        ("a later form", maker.report(1, &digest, b"NVDAOD\0\0\x03\0\0\0"), Some("report-opaque")),
        ("a byte more", [plain_report(&maker), vec![0]].concat(), Some("report-trailing")),
    ] {
        let found = judged(&report, &chain, |_| {});
        let expected: Vec<_> = code.map(|code| (CheckId::Format, code)).into_iter().collect();
        assert_eq!(failed(&found), expected, "{case}");
        assert_eq!((found.is_accepted(), found.simulated), (code.is_none(), code.is_none()), "{case}");
    }
    let report = plain_report(&maker);
    for cut in 0..report.len() {
        assert!(DeviceReport::parse(&report[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn certificate_and_report_agree() {
    let maker = Maker::new();
    let chain = maker.chain(&FLAGS);
    let other = maker.report(1, &block(1, 0, &[3; 48]), &opaque(&[(20, &[0xf2; 48]), MARK]));
    assert_eq!(failed(&judged(&other, &chain, |_| {})), [(CheckId::FirmwareId, "firmware-id")]);

    let mut boot_rom = Entity::new("GB100 A01 GSP BROM", 12);
    boot_rom.serial.clone_from(&maker.leaf.serial);
    let same_serial = Maker { boot_rom, ..Maker::new() }.chain(&FLAGS);
    assert_eq!(
        failed(&judged(&plain_report(&maker), &same_serial, |_| {})),
        [(CheckId::Serials, "same-serial")]
    );

    let without_root = judged(&plain_report(&maker), &chain, |context| context.dangers = Dangers::default());
    assert_eq!(failed(&without_root), [(CheckId::Root, "unknown-root")]);
}

#[test]
fn debug_mode_is_refused_by_the_certificates_flags() {
    let maker = Maker::new();
    let report = plain_report(&maker);
    for (flags, refused) in [
        (&FLAGS[..], false),
        (&[0, 0x00, 0, 0, 1], false),
        (&[0, 0x90, 0, 0, 1], true),
        (&[0, 0xa0, 0, 0, 1], true),
        (&[0, 0xc0, 0, 0, 1], true),
        (&[4, 0x10], true),
        (&[5, 0x10], false),
        (&[0], false),
    ] {
        let found = judged(&report, &maker.chain(flags), |_| {});
        assert_eq!(failed(&found).contains(&(CheckId::Debug, "debug")), refused, "{flags:?}");
        assert_eq!(found.is_accepted(), !refused, "{flags:?}");
    }
    let found = judged(&report, &maker.chain(&[9, 0]), |_| {});
    assert_eq!(failed(&found), [(CheckId::FirmwareId, "firmware-extension")]);
}

#[test]
fn nonce_pairing_versions_and_measurements_are_as_asked() {
    let maker = Maker::new();
    let (report, chain) = (plain_report(&maker), maker.chain(&FLAGS));
    for (given, id, code) in [(&NONCE, CheckId::Nonce, None), (&[0; 32], CheckId::Nonce, Some("nonce"))] {
        let found = judged(&report, &chain, |context| context.nonce = Some(given));
        assert_eq!(failed(&found), code.map(|code| (id, code)).into_iter().collect::<Vec<_>>());
    }
    for (given, code) in [(&NONCE, None), (&[0; 32], Some("pairing"))] {
        let found = judged(&report, &chain, |context| context.pairing = Some(given));
        assert_eq!(failed(&found), code.map(|code| (CheckId::Pairing, code)).into_iter().collect::<Vec<_>>());
    }
    let value = to_hex(&[3; 48]);
    for (policy, expected) in [
        ("driver_versions = ['575.32']\nvbios_versions = ['97.00.57.00.01']".to_owned(), None),
        ("driver_versions = ['575.33']".to_owned(), Some((CheckId::Versions, "version"))),
        ("vbios_versions = ['97.00.57.00.02']".to_owned(), Some((CheckId::Versions, "version"))),
        ("devices = 1".to_owned(), None),
        ("devices = 2".to_owned(), Some((CheckId::Devices, "too-few-devices"))),
        (format!("measurements = [{{ name = 'a', 'block.1' = '{value}' }}]"), None),
        (
            format!("measurements = [{{ name = 'a', 'block.1' = '{value}', 'block.2' = '{value}' }}]"),
            Some((CheckId::Measurements, "no-register")),
        ),
        (
            "measurements = [{ name = 'a', 'block.1' = '00' }]".to_owned(),
            Some((CheckId::Measurements, "measurement")),
        ),
    ] {
        let parsed = crate::Policy::parse(&format!("name = 'test'\n[nvidia]\n{policy}")).unwrap();
        let found = judged_by(&parsed, &report, &chain, &[], |_| {});
        assert_eq!(failed(&found), expected.into_iter().collect::<Vec<_>>(), "{policy}");
    }
    assert!(crate::Policy::parse("name = 'test'\n[nvidia]\ndriver = '1'").is_err());
}

#[test]
fn a_certificate_on_hold_is_revoked() {
    let maker = Maker::new();
    let (report, chain) = (plain_report(&maker), maker.chain(&FLAGS));
    let answer = |status| maker.root.respond(&[maker.boot_rom.answer(&maker.root, status, SPAN)], NOW, &[]);
    let list = |revoked: &[&[u8]]| maker.root.revocation_list(revoked, SPAN);
    let good = answer(write::good());
    let revoked = Some((CheckId::Revocation, "revoked"));
    let mut policy = crate::Policy::genuine();
    policy.nvidia.require = vec![CheckId::Revocation];
    for (case, collateral, expected) in [
        ("good", vec![good.clone()], None),
        ("on hold", vec![answer(write::revoked(SPAN.from, 6))], revoked),
        ("good and on hold", vec![good.clone(), answer(write::revoked(SPAN.from, 6))], revoked),
        ("not on the list", vec![list(&[])], None),
        ("on the list", vec![list(&[&maker.boot_rom.serial])], revoked),
        ("good, and on the list", vec![good.clone(), list(&[&maker.boot_rom.serial])], revoked),
        ("cut off", vec![good[..good.len() - 1].to_vec()], Some((CheckId::Revocation, "revocation-list"))),
    ] {
        let collateral: Vec<&[u8]> = collateral.iter().map(Vec::as_slice).collect();
        let found = judged_by(&policy, &report, &chain, &collateral, |_| {});
        assert_eq!(failed(&found), expected.into_iter().collect::<Vec<_>>(), "{case}");
        assert_eq!(found.is_accepted(), expected.is_none(), "{case}");
    }
    let found = judged_by(&policy, &report, &chain, &[b"<SoftwareIdentity/>"], |_| {});
    // It is no word about revocation, nor a reference manifest.
    assert_eq!(failed(&found), [(CheckId::Rim, "rim-form")]);
    assert!(found.check(CheckId::Revocation).is_some_and(|check| !check.has_passed() && !check.has_failed()));
}

#[test]
fn every_device_of_a_list_is_judged() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    let maker = Maker::new();
    let label = "CERTIFICATE";
    let pem =
        |der: &Vec<u8>| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    let pem: String = maker.chain(&FLAGS).iter().map(pem).collect();
    let (report, mut bad) = (plain_report(&maker), plain_report(&maker));
    *bad.last_mut().unwrap() ^= 1;
    let device = |report: &[u8], more: &str| {
        format!(
            "{{\"evidence\":\"{}\",\"certificate\":\"{}\"{more}}}",
            STANDARD.encode(report),
            STANDARD.encode(&pem)
        )
    };
    let (good, bad) = (device(&report, ""), device(&bad, ""));
    let (nonce, other) = (to_hex(&NONCE), to_hex(&[0; 32]));
    let record =
        |kind: &str, bytes: &[u8]| format!("[\"application/{kind}\",\"{}\"]", URL_SAFE_NO_PAD.encode(bytes));
    let collection = |nonce: &[u8]| {
        format!(
            "{{\"__cmwc_t\":\"{}\",\"nonce\":{},\"gpu_0\":{{\"__cmwc_t\":\"{}\",\"evidence\":{},\"certificate\":{}}}}}",
            "tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0",
            record("octet-stream", nonce),
            "tag:nvidia.com,2026:evidence-item/v1",
            record("vnd.nvidia.spdm-measurement-transcript", &report),
            record("vnd.nvidia.pem-cert-chain", pem.as_bytes()),
        )
    };
    let format = |code| Some((CheckId::Format, code));
    for (list, expected) in [
        (format!("[{good}]"), None),
        (format!("[{good},{good}]"), None),
        (format!("[{good},{bad}]"), Some((CheckId::Signature, "signature"))),
        (
            format!(
                "[{}]",
                device(&report, ",\"arch\":\"BLACKWELL\",\"version\":\"1.0\",\"driver_version\":\"575.32\"")
            ),
            None,
        ),
        (format!("[{}]", device(&report, ",\"arch\":\"HOPPER\"")), format("list-differs")),
        (format!("[{}]", device(&report, ",\"arch\":\"VOLTA\"")), format("list-architecture")),
        (format!("[{}]", device(&report, ",\"vbios_version\":\"97.00.57.00.02\"")), format("list-differs")),
        (format!("[{}]", device(&report, ",\"nonse\":\"\"")), format("list-unknown-member")),
        (format!("{{\"arch\":\"BLACKWELL\",\"nonce\":\"{nonce}\",\"evidence_list\":[{good}]}}"), None),
        (format!("{{\"nonce\":\"{other}\",\"evidence_list\":[{good}]}}"), format("list-differs")),
        (format!("{{\"device_evidence_list\":[{good}]}}"), None),
        (format!("{{\"result_code\":0,\"result_message\":\"Ok\",\"evidences\":[{good}]}}"), None),
        (format!("{{\"result_code\":1,\"evidences\":[{good}]}}"), format("list-member")),
        (collection(&NONCE), None),
        (collection(&[0; 32]), format("list-differs")),
        ("[]".to_owned(), format("list-devices")),
        ("[[\"JWT\",\"eyJh.e30.\"]]".to_owned(), format("token")),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), format("token")),
        ("[{\"evidence\":1}]".to_owned(), format("list-member")),
        ("[".to_owned(), format("list-json")),
    ] {
        let found = judged(list.as_bytes(), &[], |_| {});
        assert_eq!(failed(&found), expected.into_iter().collect::<Vec<_>>(), "{list}");
        assert_eq!(found.is_accepted(), expected.is_none(), "{list}");
    }
    let shown = Value::Object(show(format!("[{good}]").as_bytes()).unwrap()).canonical();
    for part in [
        "\"driver_version\":\"575.32\"",
        "\"vbios_version\":\"97.00.57.00.01\"",
        "\"block.1\":{\"digest\":\"0303",
        "\"subject\":\"GB100 A01 GSP FMC LF\"",
        "\"certified_firmware\":{\"flags\":[\"notConfigured\"],\"fwid\":\"f1f1",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
