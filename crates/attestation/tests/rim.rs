//! Reference manifests under attack: what is read is what was signed, or the device is not accepted.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::LazyLock;

use hallmark_attestation::nvidia::{ReferenceManifest, RimError};
use hallmark_attestation::simulated::{DEFAULT_SEED, Form, Provider, roots};
use hallmark_attestation::{CheckId, Context, Evidence, Kind, Memo, Policy, Producer as _, Report, Request};
use hallmark_receipt::Digest;
use hallmark_receipt::check::Cause as _;

const AT: u64 = 1_770_000_000;

static ROOTS: LazyLock<Vec<Digest>> = LazyLock::new(|| roots(DEFAULT_SEED).unwrap());
static POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy::parse("name = 'rim'\n[nvidia]\nrequire = ['rim']").unwrap());
static MEMO: LazyLock<Memo> = LazyLock::new(Memo::default);

fn evidence() -> Evidence {
    let request = Request { nonce: vec![7; 32], at: AT, ..Request::default() };
    Provider::new(Form::Nvidia).with_reference_manifests().produce(&request).unwrap()
}

/// Which of the collateral are the manifests: the driver's, the firmware's.
fn places(evidence: &Evidence) -> [usize; 2] {
    let places = evidence.collateral.iter().enumerate().filter(|(_, file)| file.starts_with(b"<"));
    places.map(|(place, _)| place).collect::<Vec<_>>().try_into().unwrap()
}

fn judge(evidence: &Evidence) -> Report {
    let mut context = Context::new(AT, &POLICY);
    context.dangers.accept_simulated = &ROOTS;
    context.memo = Some(&MEMO);
    evidence.judge(Kind::Nvidia, &context)
}

/// The firmware's manifest, changed, and why the device is refused then.
fn refused(change: impl Fn(&str) -> String) -> String {
    let mut evidence = evidence();
    let [_, place] = places(&evidence);
    let text = String::from_utf8(evidence.collateral[place].clone()).unwrap();
    let changed = change(&text);
    assert_ne!(changed, text);
    evidence.collateral[place] = changed.into_bytes();
    let report = judge(&evidence);
    let reasons: Vec<_> = report.reasons().map(|(id, reason)| (id, reason.code())).collect();
    match reasons.as_slice() {
        [(CheckId::Rim, code)] => (*code).to_owned(),
        other => panic!("{other:?}"),
    }
}

/// The part of `text` from `start` to `end`, both counted in.
fn part<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    let from = text.find(start).unwrap();
    let to = text[from..].find(end).unwrap() + from + end.len();
    &text[from..to]
}

/// What is tried, how it changes the manifest, and why the device is refused then.
type Attack<'a> = (&'static str, &'a dyn Fn(&str) -> String, &'static str);

#[test]
fn a_signature_is_over_what_is_read() {
    let signature = |text: &str| part(text, "<ds:Signature ", "</ds:Signature>").to_owned();
    let forged = |text: &str| text.replacen("index=\"1\"", "index=\"99\"", 1);
    let cases: [Attack<'_>; 24] = [
        ("a value that nobody signed", &forged, "rim-digest"),
        ("a second root", &|text| format!("{}{text}", text.trim_end()), "rim-xml"),
        (
            "the signed document in an unsigned one",
            &|text| {
                let unsigned = forged(&text.replacen(&signature(text), "", 1));
                unsigned.replacen(
                    "</SoftwareIdentity>",
                    &format!("{}</SoftwareIdentity>", text.trim_end()),
                    1,
                )
            },
            "rim-form",
        ),
        (
            "the signature around it, over a document in it",
            &|text| {
                let (signature, body) = (signature(text), text.replacen(&signature(text), "", 1));
                let open = part(text, "<SoftwareIdentity", ">");
                format!("{open}{}{signature}</SoftwareIdentity>", body.trim_end())
            },
            "rim-digest",
        ),
        (
            "the signed document as an object of the signature",
            &|text| {
                let (signature, body) = (signature(text), text.replacen(&signature(text), "", 1));
                let object = format!("<ds:Object>{}</ds:Object></ds:Signature>", body.trim_end());
                let signature = signature.replacen("</ds:Signature>", &object, 1);
                forged(text).replacen(part(text, "<ds:Signature ", "</ds:Signature>"), &signature, 1)
            },
            "rim-form",
        ),
        (
            "a reference to an Id that two elements have",
            &|text| {
                let text = text.replacen("URI=\"\"", "URI=\"#x\"", 1);
                text.replacen("<ns0:Meta ", "<ns0:Meta Id=\"x\" ", 1).replacen(
                    "<ns0:Payload",
                    "<ns0:Payload Id=\"x\"",
                    1,
                )
            },
            "rim-reference",
        ),
        (
            "an Id beside the reference",
            &|text| text.replacen("URI=\"\"", "URI=\"\" Id=\"x\"", 1),
            "rim-reference",
        ),
        ("an xml:id", &|text| text.replacen("<ns0:Meta ", "<ns0:Meta xml:id=\"x\" ", 1), "rim-xml"),
        (
            "two signatures",
            &|text| text.replacen(&signature(text), &signature(text).repeat(2), 1),
            "rim-signatures",
        ),
        ("no signature", &|text| text.replacen(&signature(text), "", 1), "rim-signatures"),
        (
            "a signature deeper down",
            &|text| {
                let without = text.replacen(&signature(text), "", 1);
                without.replacen("</ns0:Payload>", &format!("{}</ns0:Payload>", signature(text)), 1)
            },
            "rim-form",
        ),
        (
            "two references",
            &|text| {
                let reference = part(text, "<ds:Reference ", "</ds:Reference>");
                text.replacen(reference, &reference.repeat(2), 1)
            },
            "rim-form",
        ),
        (
            "a third transform",
            &|text| {
                let transform = part(text, "<ds:Transform ", "</ds:Transform>");
                text.replacen(transform, &transform.repeat(2), 1)
            },
            "rim-form",
        ),
        (
            "something in a transform",
            &|text| text.replacen("</ds:Transform>", "<ds:XPath></ds:XPath></ds:Transform>", 1),
            "rim-algorithm",
        ),
        (
            "a comment in the digest",
            &|text| text.replacen("<ds:DigestValue>", "<ds:DigestValue><!---->", 1),
            "rim-xml",
        ),
        (
            "the digest in CDATA",
            &|text| {
                text.replacen("<ds:DigestValue>", "<ds:DigestValue><![CDATA[", 1).replacen(
                    "</ds:DigestValue>",
                    "]]></ds:DigestValue>",
                    1,
                )
            },
            "rim-xml",
        ),
        (
            "an element in the digest",
            &|text| text.replacen("<ds:DigestValue>", "<ds:DigestValue><ds:a></ds:a>", 1),
            "rim-base64",
        ),
        (
            "an attribute twice",
            &|text| text.replacen("product=\"GH100\"", "product=\"GH100\" product=\"GH100\"", 1),
            "rim-xml",
        ),
        (
            "an attribute twice, by two prefixes",
            &|text| {
                text.replacen("<ns0:Resource ", &format!("<ns0:Resource xmlns:ns3=\"http://www.w3.org/2001/04/xmlenc#sha384\" ns3:Hash0=\"{}\" ", "0".repeat(96)), 1)
            },
            "rim-xml",
        ),
        (
            "a prefix that means something else",
            &|text| text.replacen("<ns0:Payload>", "<ns0:Payload xmlns:ns0=\"urn:other\">", 1),
            "rim-digest",
        ),
        (
            "another namespace for the signature",
            &|text| text.replacen("http://www.w3.org/2000/09/xmldsig#\"", "urn:other\"", 1),
            "rim-signatures",
        ),
        ("an entity", &|text| format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{text}"), "rim-xml"),
        ("white space behind it", &|text| format!("{text} "), "rim-xml"),
        ("a version of its own", &|text| text.replacen("96.00.74.00.11", "96.00.74.00.12", 1), "rim-digest"),
    ];
    let mut wrong = Vec::new();
    for (what, change, expected) in cases {
        let got = refused(change);
        if got != expected {
            wrong.push(format!("{what}: {got}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_the_canonical_form_leaves_free_changes_nothing() {
    let evidence = evidence();
    let [_, place] = places(&evidence);
    let text = String::from_utf8(evidence.collateral[place].clone()).unwrap();
    for same in [
        text.replace("></ns0:Resource>", "/>"),
        text.replace("edition=\"GPU\" product=\"GH100\"", "product=\"GH100\" edition=\"GPU\""),
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}"),
        text.trim_end().to_owned(),
    ] {
        let mut evidence = evidence.clone();
        evidence.collateral[place] = same.into_bytes();
        assert!(judge(&evidence).is_accepted());
    }
    assert_eq!(ReferenceManifest::parse(b"<a/>"), Err(RimError::Element { of: "SoftwareIdentity" }));
}

#[test]
fn no_bit_of_a_manifest_can_be_changed() {
    let (evidence, all) = (evidence(), std::env::var("HALLMARK_MUTANTS").is_ok_and(|wish| wish == "all"));
    assert!(judge(&evidence).is_accepted());
    for place in places(&evidence) {
        let (mut tried, mut accepted) = (0, Vec::new());
        for bit in (0..evidence.collateral[place].len() * 8).step_by(if all { 1 } else { 211 }) {
            let mut changed = evidence.clone();
            changed.collateral[place][bit / 8] ^= 1 << (bit % 8);
            tried += 1;
            if judge(&changed).is_accepted() {
                accepted.push(bit);
            }
        }
        println!("manifest {place}: {tried} mutants, {} accepted", accepted.len());
        assert!(accepted.is_empty(), "{accepted:?}");
    }
}
