//! What evidence from real hardware needs, and that the collateral which was published for it then is that.
#![allow(clippy::unwrap_used, clippy::panic)]

// Of which the folder alone is of use here.
#[allow(dead_code)]
mod vectors;

use hallmark_attestation::collateral::{
    ContentError, Item, Need, NeedError, Snapshot, Update, Wanted, needs,
};
use hallmark_attestation::snp::{Product, SigningKey};
use hallmark_attestation::{Context, Input, Kind, Policy, encoding, verify};
use hallmark_receipt::wire::from_hex;
use serde_json::Value;

const MILAN: Wanted = Wanted { update: Update::Standard, product: Some(Product::Milan) };

fn named(kind: Kind, evidence: &[u8], certificates: &[&[u8]]) -> Vec<String> {
    let input = Input { certificates, ..Input::of(evidence) };
    needs(kind, &input, &Wanted::default()).unwrap().iter().map(Need::to_string).collect()
}

/// The answers of Intel's service that a file with everything was put together from.
fn answers(kind: Kind, needs: Vec<Need>, bundle: &Value) -> Vec<Item> {
    let text = |name: &str| bundle[name].as_str().unwrap();
    let signed = |name: &str, member: &str| {
        let (text, signature) = (text(member), text(&format!("{member}_signature")));
        format!("{{\"{name}\":{text},\"signature\":\"{signature}\"}}").into_bytes()
    };
    let chain = |name: &str| encoding::pem(text(name).trim_end_matches('\0')).unwrap();
    let item = |need: Need| {
        let (content, issuers) = match &need {
            Need::PckCrl(_) => (from_hex(text("pck_crl")).unwrap(), chain("pck_crl_issuer_chain")),
            Need::SgxRootCrl => (from_hex(text("root_ca_crl")).unwrap(), Vec::new()),
            Need::TcbInfo { .. } => (signed("tcbInfo", "tcb_info"), chain("tcb_info_issuer_chain")),
            _ => (signed("enclaveIdentity", "qe_identity"), chain("qe_identity_issuer_chain")),
        };
        Item::new(need, content, issuers, 0).unwrap_or_else(|error| panic!("{kind:?}: {error}"))
    };
    needs.into_iter().map(item).collect()
}

#[test]
fn quotes_need_what_was_published_about_their_platforms() {
    let Some(folder) = vectors::folder() else { return };
    let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
    let configured =
        Policy::parse("name = 'configured'\n[sgx.tcb]\nallow = ['ConfigurationAndSWHardeningNeeded']");
    let configured = configured.unwrap();
    for (kind, quote, collateral, at, accepted) in [
        (Kind::Tdx, "tdx/dcap-qvl/tdx_quote", "tdx/dcap-qvl/tdx_quote_collateral.json", 1_750_329_200, true),
        (
            Kind::Tdx,
            "tdx/dcap-qvl/tdx_quote_td15ex",
            "tdx/dcap-qvl/tdx_quote_td15ex_collateral.json",
            1_791_419_400,
            false,
        ),
        (
            Kind::Tdx,
            "tdx/dcap-qvl/tdx_quote_outdated",
            "tdx/dcap-qvl/tdx_quote_outdated_collateral.json",
            1_771_498_731,
            false,
        ),
        (
            Kind::Tdx,
            "tdx/trustee/tdx_quote_4.dat",
            "tdx/composed/trustee-tdx_quote_4-DEBUG.collateral.json",
            1_773_786_090,
            false,
        ),
        (Kind::Sgx, "sgx/dcap-qvl/sgx_quote", "sgx/dcap-qvl/sgx_quote_collateral.json", 1_750_330_600, true),
    ] {
        let (evidence, bundle): (_, Value) =
            (read(quote), serde_json::from_slice(&read(collateral)).unwrap());
        let input = Input::of(&evidence);
        let needed = needs(kind, &input, &Wanted::default()).unwrap();
        // Each was published about this platform, or this would panic.
        let snapshot = Snapshot::new(answers(kind, needed, &bundle));
        let file = snapshot.to_json();
        let snapshot = Snapshot::parse(file.as_bytes()).unwrap();
        assert_eq!(snapshot.to_json(), file);
        let selection = snapshot.for_evidence(kind, &input).unwrap();
        assert_eq!(selection.missing, [], "{quote}");
        // And the verdict is that of the file with everything.
        let judged = |collateral: &[&[u8]]| {
            verify(kind, &Input { collateral, ..input }, &Context::new(at, &configured))
        };
        let (by_snapshot, by_file) = (judged(&selection.collateral), judged(&[&read(collateral)]));
        assert_eq!(by_snapshot.is_accepted(), accepted, "{quote}: {:?}", by_snapshot.checks);
        let failed = |report: &hallmark_attestation::Report| {
            report.reasons().map(|(id, reason)| (id, reason.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(failed(&by_snapshot), failed(&by_file), "{quote}");
    }
    // The collateral of another platform is not what is needed.
    let other: Value = serde_json::from_slice(&read("sgx/dcap-qvl/sgx_quote_collateral.json")).unwrap();
    let info = format!("{{\"tcbInfo\":{},\"signature\":\"00\"}}", other["tcb_info"].as_str().unwrap());
    let needed = needs(Kind::Tdx, &Input::of(&read("tdx/dcap-qvl/tdx_quote")), &Wanted::default()).unwrap();
    let info_needed = needed.iter().find(|need| matches!(need, Need::TcbInfo { .. })).unwrap();
    let refused = Item::new(info_needed.clone(), info.into_bytes(), Vec::new(), 0);
    assert!(matches!(refused, Err(ContentError::Other { .. })), "{refused:?}");
    // The service's answers as they came, which are about two platforms.
    let evidence = read("tdx/trustee/tdx_quote_4.dat");
    assert_eq!(
        named(Kind::Tdx, &evidence, &[]),
        [
            "pck-crl platform",
            "sgx-root-crl root",
            "tcb-info tdx/50806f000000/standard",
            "qe-identity tdx/standard"
        ]
    );
    let needed = needs(Kind::Tdx, &Input::of(&evidence), &Wanted::default()).unwrap();
    let folder = "tdx/attestation-rs/collateral/";
    for (need, file) in needed.into_iter().zip([
        "pck_crl_platform.der",
        "root_ca_crl.der",
        "tcb_info_50806f000000.json",
        "td_qe_identity.json",
    ]) {
        let issuers = encoding::der(&read(&format!("{folder}tcb_signing_chain.pem"))).unwrap();
        Item::new(need, read(&format!("{folder}{file}")), issuers, 0).unwrap();
    }
    // Of a platform with one processor the other authority's.
    assert_eq!(named(Kind::Sgx, &read("sgx/dcap-qvl/sgx_quote"), &[])[0], "pck-crl processor");
}

#[test]
fn reports_of_sev_snp_need_their_keys_certificate_and_the_roots_list() {
    let Some(folder) = vectors::folder() else { return };
    let read = |file: &str| std::fs::read(folder.join("sev-snp").join(file)).unwrap();
    for (report, vcek) in [
        ("virtee-sev/report_milan.hex", "virtee-sev/vcek_milan.der"),
        ("trustee/test-report.bin", "trustee/test-vcek.der"),
        ("go-sev-guest/attestation.bin", "go-sev-guest/vcek.testcer"),
    ] {
        let (report, vcek) = (read(report), read(vcek));
        let input = Input::of(&report);
        // Version 2 does not say which product it is of.
        assert_eq!(needs(Kind::SevSnp, &input, &Wanted::default()), Err(NeedError::NoProduct));
        let needed = needs(Kind::SevSnp, &input, &MILAN).unwrap();
        let [Need::Vcek { .. }, Need::AmdChain { .. }, Need::AmdCrl { .. }] = &needed[..] else {
            panic!("{needed:?}")
        };
        let item = Item::new(needed[0].clone(), vcek.clone(), Vec::new(), 0).unwrap();
        // A file without anything else makes the verifier find the certificate.
        let snapshot = Snapshot::new([item]);
        let selection = snapshot.for_evidence(Kind::SevSnp, &input).unwrap();
        assert_eq!((selection.certificates, selection.missing), (vec![&vcek[..]], needed[1..].to_vec()));
        // With the certificate it is known.
        assert_eq!(named(Kind::SevSnp, &report, &[&vcek]), ["amd-chain VCEK/Milan", "amd-crl VCEK/Milan"]);
        // Another chip's certificate is not it.
        let other = read("virtee-sev/vcek_turin.der");
        let refused = Item::new(needed[0].clone(), other, Vec::new(), 0);
        assert!(matches!(refused, Err(ContentError::Other { .. })), "{refused:?}");
    }
    let chain = Need::AmdChain { product: Product::Milan, key: SigningKey::Vcek };
    Item::new(chain.clone(), read("virtee-sev/cert_chain_milan"), Vec::new(), 0).unwrap();
    assert!(Item::new(chain, read("virtee-sev/cert_chain_turin"), Vec::new(), 0).is_err());
    let vlek = read("trustee/test-vlek-report.bin");
    assert_eq!(
        needs(Kind::SevSnp, &Input::of(&vlek), &MILAN),
        Err(NeedError::NoLeaf { of: "VLEK" }),
        "AMD gives a cloud's certificate to that cloud alone"
    );
    assert_eq!(
        named(Kind::SevSnp, &vlek, &[&read("trustee/test-vlek.der")]),
        ["amd-chain VLEK/Milan", "amd-crl VLEK/Milan"]
    );
}

#[test]
fn nitro_documents_need_the_lists_that_their_certificates_name() {
    let Some(folder) = vectors::folder() else { return };
    let root =
        "crl http://aws-nitro-enclaves-crl.s3.amazonaws.com/crl/ab4960cc-7d63-42bd-9e9f-59338cb67f84.crl";
    for (file, zone) in [
        (
            "nitro/og-evm-attestation_doc.bin",
            "crl http://crl-us-east-2-aws-nitro-enclaves.s3.us-east-2.amazonaws.com/crl/33f34a1e-9403-41f2-ad43-296cc6b9d5dd.crl",
        ),
        (
            "nitro/evervault/beta/valid-attestation-doc-bytes",
            "crl http://crl-us-east-1-aws-nitro-enclaves.s3.us-east-1.amazonaws.com/crl/571379f4-0958-4ee7-8616-d0e25db52a14.crl",
        ),
    ] {
        assert_eq!(named(Kind::Nitro, &std::fs::read(folder.join(file)).unwrap(), &[]), [root, zone]);
    }
}

#[test]
fn nvidias_devices_need_an_answer_about_each_certificate_above_the_leaf() {
    let Some(folder) = vectors::folder() else { return };
    let read = |file: &str| std::fs::read(folder.join("nvidia-gpu").join(file)).unwrap();
    for (file, certificates, manifests) in [
        (
            "attestation-sdk/hopper_evidence.json",
            None,
            &["rim NV_GPU_DRIVER_GH100_590.12", "rim NV_GPU_VBIOS_G520_0200_885_9600A50001"][..],
        ),
        (
            "trustee/hopperAttestationReport.txt",
            Some("trustee/hopper_cert_chain_case1.txt"),
            &["rim NV_GPU_DRIVER_GH100_550.90.07", "rim NV_GPU_VBIOS_1010_0200_882_96009F0001"],
        ),
        // As NVIDIA's own verifier names it (its configuration has the board).
        ("attestation-sdk/switch_evidence_ls10.json", None, &["rim NV_SWITCH_BIOS_5612_0002_890_9610550001"]),
    ] {
        let certificates = certificates.map(read);
        let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let names = named(Kind::Nvidia, &read(file), &certificates);
        let answers = names.iter().filter(|name| name.starts_with("ocsp ")).count();
        let rims: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| name.starts_with("rim ")).collect();
        assert_eq!((answers, rims), (3, manifests.to_vec()), "{file}");
    }
}
