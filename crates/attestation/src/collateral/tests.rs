#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::x509::write::{
    Entity, Span, authority_extensions, explicit, extension, good, item as der_item, leaf_extensions,
    octet_string, oid, sequence,
};
use crate::x509::{Certificate, crl};

const AT: u64 = 1_770_000_000;
const SPAN: Span = Span { from: AT - 100, to: AT + 100 };

fn root() -> (Entity, Vec<u8>) {
    let root = Entity::new("a root", 1);
    let certificate = root.certify(&root, SPAN, &authority_extensions());
    (root, certificate)
}

/// A list at `url`.
fn list(url: &str) -> Item {
    let (root, certificate) = root();
    let need = Need::Crl { url: url.to_owned(), issuer: certificate.clone() };
    Item::new(need, root.revocation_list(&[], SPAN), vec![certificate], AT).unwrap()
}

fn every_need() -> Vec<Need> {
    let (root, certificate) = root();
    let leaf = Entity::new("a leaf", 2);
    let leaf = root.certify(&leaf, SPAN, &leaf_extensions());
    let id =
        CertificateId::of(&Certificate::parse(&leaf).unwrap(), &Certificate::parse(&certificate).unwrap());
    let mut turin = [0; 64];
    turin[..8].fill(3);
    let mut needs = vec![
        Need::PckCrl(PckAuthority::Platform),
        Need::SgxRootCrl,
        Need::TcbInfo { kind: Kind::Tdx, fmspc: [1, 2, 3, 4, 5, 0xab], update: Update::Early },
        Need::QeIdentity { kind: Kind::Sgx, update: Update::Standard },
        Need::Vcek { product: Product::Milan, chip_id: [9; 64], tcb: Tcb([4, 0, 0, 0, 0, 0, 24, 217]) },
        Need::Vcek { product: Product::Turin, chip_id: turin, tcb: Tcb([1; 8]) },
        Need::AmdChain { product: Product::Genoa, key: SigningKey::Vlek },
        Need::AmdCrl { product: Product::Turin, key: SigningKey::Vcek },
        Need::Ocsp(id),
        Need::Crl { url: "http://a.example/b/c.crl?d".to_owned(), issuer: certificate },
        Need::Rim("NV_GPU_DRIVER_GH100_550.90.07".to_owned()),
    ];
    needs.sort();
    needs
}

#[test]
fn a_need_is_known_by_its_kind_and_name() {
    let (_, certificate) = root();
    let needs = every_need();
    for need in &needs {
        let (kind, name) = (need.kind(), need.name());
        assert_eq!(
            Need::from_name(kind, &name, std::slice::from_ref(&certificate)).as_ref(),
            Some(need),
            "{need}"
        );
        // In another kind's place, or written otherwise, it is none.
        if kind != "crl" {
            for other in needs.iter().filter(|other| other.kind() != kind && other.kind() != "crl") {
                assert_ne!(Need::from_name(other.kind(), &name, &[]).as_ref(), Some(need));
            }
            for name in
                [name.to_ascii_uppercase() + "x", format!("{name}/"), format!("0{name}"), String::new()]
            {
                assert!(kind == "rim" || Need::from_name(kind, &name, &[]).is_none(), "{kind} {name}");
            }
        }
    }
    assert_eq!(Need::from_name("crl", "http://a.example/a.crl", &[]), None);
    assert_eq!(Need::from_name("list", "root", &[]), None);
}

#[test]
fn a_snapshot_is_one_sequence_of_bytes() {
    let snapshot = Snapshot::new([list("http://b.example/b.crl"), list("http://a.example/a.crl")]);
    let file = snapshot.to_json();
    assert_eq!(Snapshot::parse(file.as_bytes()).unwrap(), snapshot);
    assert_eq!(snapshot.expires(), Some(SPAN.to));
    let names: Vec<_> = snapshot.items().map(|item| item.need().name()).collect();
    assert_eq!(names, ["http://a.example/a.crl", "http://b.example/b.crl"]);
    let one = Snapshot::new([list("http://a.example/a.crl")]).to_json();
    let item = one
        .strip_prefix("{\"format\":\"hallmark-collateral/1\",\"items\":[")
        .unwrap()
        .strip_suffix("]}")
        .unwrap();
    let of = |items: &str| format!("{{\"format\":\"hallmark-collateral/1\",\"items\":[{items}]}}");
    assert_eq!(of(item), one);
    let second = item.replace("a.example", "b.example");
    for bad in [
        // Twice, out of order, a space, another format.
        of(&format!("{item},{item}")),
        of(&format!("{second},{item}")),
        format!("{one} "),
        one.replace("collateral/1", "collateral/2"),
        one.replace("\"items\"", "\"more\":1,\"items\""),
        // Members of an item that are missing, unknown, or of another form.
        one.replace("\"fetched\":1770000000,", ""),
        one.replace("\"fetched\"", "\"fetchef\""),
        one.replace("\"fetched\":1770000000", "\"fetched\":-1"),
        one.replace("\"kind\":\"crl\"", "\"kind\":\"pck-crl\""),
        one.replace("\"issuer_chain\":[\"", "\"issuer_chain\":[],\"j\":[\""),
        // Another time than the content's.
        one.replace(&SPAN.to.to_string(), &(SPAN.to + 1).to_string()),
    ] {
        assert!(bad != one && Snapshot::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    // No change of one bit is taken for the same.
    for at in 0..one.len() {
        let mut bad = one.clone().into_bytes();
        bad[at] ^= 1;
        if let Ok(parsed) = Snapshot::parse(&bad) {
            assert_ne!(parsed, Snapshot::parse(one.as_bytes()).unwrap(), "byte {at}");
            assert_eq!(parsed.to_json().into_bytes(), bad);
        }
    }
}

#[test]
fn an_item_is_about_what_was_asked_for() {
    let (root, certificate) = root();
    let other = Entity::new("a root", 9);
    let need = Need::Crl { url: "http://a.example/a.crl".to_owned(), issuer: certificate };
    let refused = |content: Vec<u8>| Item::new(need.clone(), content, Vec::new(), AT).unwrap_err();
    assert!(matches!(
        refused(other.revocation_list(&[], SPAN)),
        ContentError::Crl(crate::x509::CrlError::Signature)
    ));
    assert!(matches!(refused(b"garbage".to_vec()), ContentError::Crl(_)));
    assert!(matches!(refused(vec![0; (4 << 20) + 1]), ContentError::Encoding(_)));
    for need in every_need().into_iter().filter(|need| !matches!(need, Need::Crl { .. })) {
        for content in [root.revocation_list(&[], SPAN), b"{}".to_vec(), b"<xml/>".to_vec(), Vec::new()] {
            assert!(Item::new(need.clone(), content, Vec::new(), AT).is_err(), "{need}");
        }
    }
    let item = list("http://a.example/a.crl");
    for (at, holds) in [(SPAN.from - 1, false), (SPAN.from, true), (SPAN.to, true), (SPAN.to + 1, false)] {
        assert_eq!(item.current(at).is_ok(), holds);
    }
}

#[test]
fn an_answer_is_known_by_the_certificate_it_is_about() {
    let (root, certificate) = root();
    let (leaf, other) = (Entity::new("a leaf", 2), Entity::new("another", 3));
    let der = root.certify(&leaf, SPAN, &leaf_extensions());
    let id =
        CertificateId::of(&Certificate::parse(&der).unwrap(), &Certificate::parse(&certificate).unwrap());
    let response = |of: &Entity, span| root.respond(&[of.answer(&root, good(), span)], span.from, &[]);
    let item = Item::new(Need::Ocsp(id.clone()), response(&leaf, SPAN), Vec::new(), AT).unwrap();
    assert_eq!(item.expires(), SPAN.to);
    assert!(Item::new(Need::Ocsp(id.clone()), response(&other, SPAN), Vec::new(), AT).is_err());
    // RFC 6960 §4.1.1, byte for byte.
    let expected = sequence(&[sequence(&[sequence(&[sequence(&[sequence(&[
        sequence(&[oid("2.16.840.1.101.3.4.2.2"), der_item(5, &[])]),
        octet_string(&id.issuer_name_hash),
        octet_string(&id.issuer_key_hash),
        der_item(2, &id.serial),
    ])])])])]);
    assert_eq!(id.request(), expected);
}

#[test]
fn distribution_points_are_bounded_and_only_urls_count() {
    let (root, _) = root();
    let leaf = Entity::new("a leaf", 2);
    let point = |names: &[Vec<u8>]| sequence(&[explicit(0, &explicit(0, &names.concat()))]);
    let url = |text: &str| der_item(0x86, text.as_bytes());
    let urls = |value: Vec<u8>| {
        let mut extensions = leaf_extensions();
        extensions.push(extension("2.5.29.31", false, &value));
        let der = root.certify(&leaf, SPAN, &extensions);
        let certificate = Certificate::parse(&der).unwrap();
        crl::distribution_points(&certificate)
            .map(|urls| urls.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let two = sequence(&[point(&[url("http://a")]), point(&[der_item(0x82, b"b"), url("http://c")])]);
    assert_eq!(urls(two).unwrap(), ["http://a", "http://c"]);
    // Reasons alone, too long a URL, too many.
    assert_eq!(urls(sequence(&[sequence(&[der_item(0x81, &[0, 1])])])).unwrap(), [""; 0]);
    assert_eq!(urls(sequence(&[point(&[url(&"x".repeat(401))])])).unwrap(), [""; 0]);
    assert_eq!(urls(sequence(&vec![point(&[url("http://a")]); 20])).unwrap().len(), 8);
    for bad in [vec![0x30], vec![0x05, 0], sequence(&[vec![0x04, 1, 0]]), Vec::new()] {
        assert!(urls(bad).is_err());
    }
}
