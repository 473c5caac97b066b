//! Reports of every version and tables, made here: hardware signed none of them.
#![allow(clippy::unwrap_used)]

use super::{AttestationReport, Cpuid, GuestFlag, MinimumTcb, Product, REPORT, Tcb, table};

/// A report of this version, of a processor of Turin from version 3 on; unsigned.
fn report(version: u8) -> Vec<u8> {
    let mut report = vec![0; REPORT];
    report[0] = version;
    report[0x08..0x10].copy_from_slice(&0x0003_0037_u64.to_le_bytes());
    report[0x34] = 1;
    report[0x180..0x188].copy_from_slice(&[9, 1, 2, 3, 0, 0, 0, 8]);
    if version > 2 {
        report[0x188..0x18b].copy_from_slice(&[0x1a, 0x02, 0x01]);
    }
    report
}

#[test]
fn reserved_bytes_are_zero_where_the_version_says_so() {
    // Version, byte, value, and why it is refused.
    for (version, at, value, refused) in [
        (2, 0x000, 2, None),
        (3, 0x188, 0x19, None),
        (5, 0x208 - 1, 1, None),
        (5, 0x00b, 2, None),
        (2, 0x000, 1, Some("report-version")),
        (2, 0x000, 6, Some("report-version")),
        (2, 0x00a, 0, Some("report-policy-bit-17")),
        (5, 0x00b, 4, Some("report-reserved")),
        (2, 0x00f, 1, Some("report-reserved")),
        (2, 0x034, 2, Some("report-algorithm")),
        (2, 0x048, 0x20, Some("report-reserved")),
        (2, 0x048, 0x08, Some("report-signing-key")),
        (2, 0x04c, 1, Some("report-reserved")),
        (2, 0x188, 0x19, Some("report-reserved")),
        (3, 0x18b, 1, Some("report-reserved")),
        (2, 0x1eb, 1, Some("report-reserved")),
        (2, 0x1ef, 1, Some("report-reserved")),
        (3, 0x1f8, 1, Some("report-reserved")),
        (5, 0x208, 1, Some("report-reserved")),
        (5, 0x29f, 1, Some("report-reserved")),
        (5, 0x2d0, 1, Some("report-reserved")),
        (5, 0x318, 1, Some("report-reserved")),
        (5, 0x49f, 1, Some("report-reserved")),
    ] {
        let mut bytes = report(version);
        bytes[at] = value;
        let found = AttestationReport::parse(&bytes).err().map(|error| error.code());
        assert_eq!(found, refused, "version {version}, byte {at:#x}");
    }
    for length in [0, REPORT - 1] {
        assert!(AttestationReport::parse(&report(2)[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn fields_are_where_the_specification_has_them() {
    let mut bytes = report(5);
    bytes[0x1f8] = 7;
    bytes[0x200] = 5;
    bytes[0x1e8..0x1eb].copy_from_slice(&[29, 55, 1]);
    bytes[0x048] = 0b00111;
    let report = AttestationReport::parse(&bytes).unwrap();
    assert_eq!(report.cpuid, Some(Cpuid { family: 0x1a, model: 2, stepping: 1 }));
    assert_eq!((report.launch_mitigations, report.current_mitigations), (7, 5));
    assert_eq!(report.current_firmware, [1, 55, 29]);
    assert_eq!(report.signing_key.name(), "VLEK");
    assert!(report.author_key && report.mask_chip_key && report.is_chip_id_masked());
    assert_eq!(report.guest_policy.abi(), [0, 55]);
    assert!(report.guest_policy.has(GuestFlag::Smt) && !report.guest_policy.has(GuestFlag::Debug));
    let fields = hallmark_receipt::json::Value::Object(report.fields()).canonical();
    let tcb = r#""reported_tcb":{"bootloader":1,"fmc":9,"microcode":8,"snp":3,"tee":2}"#;
    assert!(fields.contains(tcb), "{fields}");
}

#[test]
fn security_versions_lie_as_the_product_says() {
    let bytes = Tcb([9, 1, 2, 3, 0, 0, 6, 8]);
    for (product, text) in [
        (Product::Turin, "fmc 9, bootloader 1, tee 2, snp 3, microcode 8"),
        (Product::Genoa, "bootloader 9, tee 1, snp 6, microcode 8"),
    ] {
        assert_eq!(bytes.text(product), text);
    }
    let below = |minimum| bytes.below(Product::Turin, &minimum).map(|(part, _)| part.name());
    assert_eq!(below(MinimumTcb { fmc: 9, tee: 2, microcode: 8, ..MinimumTcb::default() }), None);
    assert_eq!(below(MinimumTcb { snp: 4, ..MinimumTcb::default() }), Some(Some("snp")));
    assert!(bytes.is_at_most(bytes) && !bytes.is_at_most(Tcb([9, 1, 2, 3, 0, 0, 6, 7])));
    for (family, model, product) in [
        (0x19, 0x01, Some(Product::Milan)),
        (0x19, 0x11, Some(Product::Genoa)),
        (0x19, 0xa0, Some(Product::Genoa)),
        (0x1a, 0x11, Some(Product::Turin)),
        (0x1a, 0x50, None),
        (0x17, 0x31, None),
    ] {
        assert_eq!(Product::of_cpu(Cpuid { family, model, stepping: 0 }), product, "{family:#x} {model:#x}");
    }
}

#[test]
fn certificates_name_products() {
    for (name, product) in [
        ("Milan-B0", Some(Product::Milan)),
        ("Genoa", Some(Product::Genoa)),
        ("Siena-A1", Some(Product::Genoa)),
        ("Turin", Some(Product::Turin)),
        ("Turing", None),
        ("", None),
    ] {
        assert_eq!(Product::from_certificate(name), product, "{name}");
    }
}

/// An entry of a table.
fn entry(guid: u128, offset: u32, length: u32) -> Vec<u8> {
    [&guid.to_be_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

#[test]
fn every_byte_of_a_table_has_its_place() {
    const VCEK: u128 = 0x63da758d_e664_4564_adc5_f4b93be8accd;
    const TURNED: u128 = 0x8d75da63_64e6_6445_adc5_f4b93be8accd;
    const CRL: u128 = 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea;
    let end = || entry(0, 0, 0);
    let table = |entries: &[Vec<u8>], rest: &[u8]| [&entries.concat()[..], rest].concat();
    for (table, found) in [
        (table(&[entry(VCEK, 48, 2), end()], b"ab"), Ok(1)),
        (table(&[entry(TURNED, 48, 2), end()], b"ab\0\0"), Ok(1)),
        (table(&[entry(CRL, 76, 1), entry(VCEK, 72, 2), end()], b"ab\0\0c"), Ok(2)),
        // A host's own.
        (table(&[entry(5, 48, 2), end()], b"ab"), Ok(0)),
        (table(&[entry(VCEK, 0, 0)], b""), Err("table-unterminated")),
        (table(&[entry(VCEK, 48, 3), end()], b"ab"), Err("table-bounds")),
        (table(&[entry(VCEK, u32::MAX, u32::MAX), end()], b"ab"), Err("table-bounds")),
        (table(&[entry(VCEK, 47, 2), end()], b"ab"), Err("table-bounds")),
        (table(&[entry(VCEK, 72, 2), entry(CRL, 73, 1), end()], b"ab"), Err("table-bounds")),
        (table(&[entry(VCEK, 49, 1), end()], b"ab"), Err("table-leftover")),
        (table(&[entry(VCEK, 48, 1), end()], b"ab"), Err("table-leftover")),
        (table(&vec![entry(VCEK, 48, 0); 33], b""), Err("table-too-many")),
    ] {
        let result = table::parse(&table).map(|items| items.len()).map_err(|error| error.code());
        assert_eq!(result, found, "{table:?}");
    }
}
