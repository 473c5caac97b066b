//! The form of reference manifests and, where NVIDIA's own are at hand, those.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use hallmark_receipt::wire::to_hex;

use super::compare::{equal, signed};
use super::xml::{Element, Namespaces};
use super::*;
use crate::nvidia::{DeviceReport, ReportError};
use crate::report::{Context, Judgement};
use crate::{Kind, Policy, encoding};

/// When the signers' certificates of the manifests that NVIDIA published in 2023 were in force.
const IN_2024: u64 = 1_717_200_000;

#[test]
fn the_canonical_form_is_the_standards() {
    let document = b"<?xml version='1.0' encoding='UTF-8'?>\n<a xmlns=\"u:a\" xmlns:z=\"u:z\" xmlns:b=\"u:b\" z:k=\"1\" b:k=\"2\" \
        c=\"3\" B=\"it's > \">\n  <z:e xmlns:z=\"u:z\" xmlns:y=\"u:a\"/>\t<e xmlns=\"u:e\"><f/></e></a>\n\n";
    let root = Element::parse(document).unwrap();
    // Canonical XML 1.1 §2.3: namespaces by prefix, then attributes by namespace and name; none declared again.
    let expected = "<a xmlns=\"u:a\" xmlns:b=\"u:b\" xmlns:z=\"u:z\" B=\"it's > \" c=\"3\" b:k=\"2\" z:k=\"1\">\n  \
        <z:e xmlns:y=\"u:a\"></z:e>\t<e xmlns=\"u:e\"><f></f></e></a>";
    assert_eq!(root.canonical(&Namespaces::new(), None), expected);
    let part = root.elements().next().unwrap();
    let scope = root.scope(&Namespaces::new());
    let expected = "<z:e xmlns=\"u:a\" xmlns:b=\"u:b\" xmlns:y=\"u:a\" xmlns:z=\"u:z\"></z:e>";
    assert_eq!(part.canonical(&scope, None), expected);
    assert!(!root.canonical(&scope, Some(part)).contains("z:e"));
    assert_eq!((root.count("u:a", "e"), root.count("u:e", "e"), root.count("u:z", "e")), (0, 1, 1));
}

#[test]
fn what_is_not_in_the_subset_is_refused() {
    let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
    let wide = format!("<a>{}</a>", "<b/>".repeat(3000));
    let many: String = (0..70).map(|number| format!(" a{number}=\"\"")).collect();
    for bad in [
        "",
        "text",
        "<a>",
        "<a></b>",
        "<a></a >",
        "<a/><a/>",
        "<a/> ",
        " <a/>",
        "<a/>\n<!-- -->",
        "<a><!-- --></a>",
        "<a><![CDATA[b]]></a>",
        "<a><?b?></a>",
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>",
        "<a>&lt;</a>",
        "<a>&#65;</a>",
        "<a b=\"&amp;\"/>",
        "<a b=\"<\"/>",
        "<a b=\"c\nd\"/>",
        "<a b=\"c\td\"/>",
        "<a>></a>",
        "<a b='c'/>",
        "<a  b=\"c\"/>",
        "<a\nb=\"c\"/>",
        "<a b = \"c\"/>",
        "<a />",
        "<a b=\"c\"d=\"e\"/>",
        "<a b=\"c\" b=\"d\"/>",
        "<a xmlns:p=\"u\" xmlns:q=\"u\" p:b=\"c\" q:b=\"d\"/>",
        "<a xmlns=\"u\" xmlns=\"v\"/>",
        "<a xmlns=\"\"/>",
        "<a xmlns:p=\"\"/>",
        "<a xmlns:xml=\"http://www.w3.org/XML/1998/namespace\"/>",
        "<a xml:id=\"b\"/>",
        "<p:a/>",
        "<a p:b=\"c\"/>",
        "<a:b:c xmlns:a=\"u\"/>",
        "<1/>",
        "<a>\r\n</a>",
        "<a>\u{e9}</a>",
        "<a>\0</a>",
        "<?xml version=\"1.1\" encoding=\"UTF-8\"?><a/>",
        "<?xml version=\"1.0\"?><a/>",
        &deep,
        &wide,
        &format!("<a{many}/>"),
        &format!("<a>{}</a>", " ".repeat(xml::MAX_DOCUMENT)),
    ] {
        assert!(Element::parse(bad.as_bytes()).is_err(), "{}", bad.get(..80).unwrap_or(bad));
    }
}

#[test]
fn a_version_says_what_it_is_of() {
    for (version, component) in [
        ("550.90.07", Component::Driver),
        ("545.00", Component::Driver),
        ("96.00.74.00.1A", Component::Firmware),
        ("96.10.55.00.01", Component::Firmware),
        ("96.00.74.00", Component::Driver),
        ("596.00.74.00.11", Component::Driver),
    ] {
        assert_eq!(Component::of(version), component, "{version}");
    }
}

/// NVIDIA's own manifests, of the folder that `HALLMARK_RIM_FOLDER` names. None is part of the repository.
fn published() -> Vec<(PathBuf, Vec<u8>)> {
    let Some(folder) = std::env::var_os("HALLMARK_RIM_FOLDER") else {
        println!("skipped: HALLMARK_RIM_FOLDER is not set");
        return Vec::new();
    };
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|end| end == "swidtag"));
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn published_manifests_hold() {
    let policy = Policy::genuine();
    let (context, later) = (Context::new(IN_2024, &policy), Context::new(IN_2024 + (3 << 25), &policy));
    for (path, file) in published() {
        let judgement = |context| Judgement::new(Kind::Nvidia, context, (&policy.nvidia).into());
        let rim = ReferenceManifest::parse(&file).unwrap();
        println!(
            "{}: {} {}, {} references",
            path.display(),
            rim.component,
            rim.version,
            rim.references.len()
        );
        assert_eq!(signed(&mut judgement(&context), &rim, &[]), Ok(None), "{}", path.display());
        assert!(signed(&mut judgement(&later), &rim, &[]).is_err(), "its certificates expired");
        assert!(!rim.references.is_empty() && rim.unread.is_none() && !rim.is_marked);
        for bit in (0..file.len() * 8).step_by(61) {
            let mut changed = file.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let holds = ReferenceManifest::parse(&changed)
                .is_ok_and(|rim| signed(&mut judgement(&context), &rim, &[]).is_ok());
            assert!(!holds, "{}: bit {bit}", path.display());
        }
    }
}

#[test]
fn published_references_are_what_a_device_reports() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation-vectors");
    let Ok(file) = std::fs::read(folder.join("nvidia-gpu/trustee/hopper_coco_report1.txt")) else { return };
    let mut bytes = encoding::decode(&file).unwrap();
    // The file has bytes behind the report.
    if let Err(ReportError::Trailing(more)) = DeviceReport::parse(&bytes) {
        bytes.truncate(bytes.len() - more);
    }
    let report = DeviceReport::parse(&bytes).unwrap();
    for (path, file) in published() {
        let mut rim = ReferenceManifest::parse(&file).unwrap();
        let is_own = Some(rim.version.to_ascii_lowercase()) == report.opaque.vbios_version();
        let differs = match equal(&report, &[&rim]) {
            Err(RimError::Measurement { index, got, .. }) => {
                println!("{}: block {index} is {}", path.display(), to_hex(&got));
                Some(index)
            }
            other => {
                assert_eq!(other, Ok(rim.references.len()), "{}", path.display());
                None
            }
        };
        // The manifest of this device's firmware in NVIDIA's repository is of 2023, its block 10 has another value since.
        if is_own {
            assert!(matches!(differs, None | Some(10)), "{}", path.display());
            rim.references.remove(&10);
            assert_eq!(equal(&report, &[&rim]), Ok(rim.references.len()), "{}", path.display());
        } else {
            assert!(differs.is_some(), "{}", path.display());
        }
    }
}
