//! TDX and SGX quotes with all that Intel publishes about the platform: TCB info, identity of the quoting enclave, revocation lists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_receipt::wire::to_hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::pki::{self, Curve, Hierarchy, Rung, flip_last};
use super::{Draft, Flaw, Form, MARK};
use crate::Kind;
use crate::measurement::Register;
use crate::producer::{Evidence, ProduceError};
use crate::x509::write::{Key, extension, integer, item, octet_string, oid, sequence};

/// Intel's quoting enclaves.
const VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Family, model, stepping, platform type, custom product: none of Intel's.
const FMSPC: [u8; 6] = [0x51, 0x4d, 0x55, 0x4c, 0, 0];
/// Security version of each component of the platform.
const SVN: u8 = 5;
const PCE_SVN: u8 = 13;
const QE_SVN: u16 = 4;
const DAY: u64 = 86_400;
/// `SEPT_VE_DISABLE`; of bits 1 and 3 none is defined, 29 is `MIGRATABLE`.
const TD_ATTRIBUTES: u64 = 1 << 28;
/// x87, SSE, AVX and later.
const XFAM: u64 = 0x6_00e7;
/// Flags INIT and MODE64BIT.
const ENCLAVE_FLAGS: u64 = 5;

pub(super) fn root() -> Rung {
    Rung::authority("intel root", "SIMULATED Intel SGX Root CA", None)
}

pub(super) fn produce(draft: &Draft<'_>) -> Result<Evidence, ProduceError> {
    let mut leaf = Rung::leaf("intel platform", "Intel SGX PCK Certificate");
    leaf.extensions.extend((!draft.has(Flaw::ExtensionMissing)).then(|| platform(draft)));
    let authority = Rung::authority("intel platform authority", "Intel SGX PCK Platform CA", Some(0));
    let hierarchy = Hierarchy::new(draft, Curve::P256, &[leaf, authority, root()])?;
    // The texts' signer has no flaws: those of certificates are the platform's.
    let sound = Draft { flaw: None, ..*draft };
    let signer = Rung { around: (30 * DAY, 30 * DAY), ..Rung::leaf("intel signer", "Intel SGX TCB Signing") };
    let signer = Hierarchy::new(&sound, Curve::P256, &[signer, root()])?;
    let evidence = quote(draft, &hierarchy)?;
    let collateral = collateral(draft, &hierarchy, &signer);
    Ok(Evidence { evidence, collateral: vec![collateral], ..Evidence::default() })
}

/// Whether the evidence is, or says that it is, of a trust domain.
fn is_td(draft: &Draft<'_>) -> bool {
    (draft.form.kind() == Kind::Tdx) != draft.has(Flaw::OtherKind)
}

fn version(draft: &Draft<'_>) -> u16 {
    match draft.form {
        Form::TdxV5 => 5,
        // Version 3 has no trust domains.
        Form::Sgx if !draft.has(Flaw::OtherKind) => 3,
        _ => 4,
    }
}

/// The SGX extension: identifier, security versions, kind of platform.
fn platform(draft: &Draft<'_>) -> Vec<u8> {
    const TCB: [&str; 16] = [
        "1.2.840.113741.1.13.1.2.1",
        "1.2.840.113741.1.13.1.2.2",
        "1.2.840.113741.1.13.1.2.3",
        "1.2.840.113741.1.13.1.2.4",
        "1.2.840.113741.1.13.1.2.5",
        "1.2.840.113741.1.13.1.2.6",
        "1.2.840.113741.1.13.1.2.7",
        "1.2.840.113741.1.13.1.2.8",
        "1.2.840.113741.1.13.1.2.9",
        "1.2.840.113741.1.13.1.2.10",
        "1.2.840.113741.1.13.1.2.11",
        "1.2.840.113741.1.13.1.2.12",
        "1.2.840.113741.1.13.1.2.13",
        "1.2.840.113741.1.13.1.2.14",
        "1.2.840.113741.1.13.1.2.15",
        "1.2.840.113741.1.13.1.2.16",
    ];
    let pair = |id: &'static str, value: Vec<u8>| sequence(&[oid(id), value]);
    let svn = match draft.flaw {
        Some(Flaw::OldTcb) => SVN.saturating_sub(1),
        Some(Flaw::TcbRevoked) => SVN.saturating_sub(2),
        Some(Flaw::NoTcbLevel) => 0,
        _ => SVN,
    };
    let mut tcb: Vec<Vec<u8>> = TCB.into_iter().map(|id| pair(id, integer(&[svn]))).collect();
    tcb.push(pair("1.2.840.113741.1.13.1.2.17", integer(&[PCE_SVN])));
    tcb.push(pair("1.2.840.113741.1.13.1.2.18", octet_string(&[svn; 16])));
    let mut ppid = pki::bytes(&draft.seed, "intel ppid").to_vec();
    ppid.truncate(16);
    let value = sequence(&[
        pair("1.2.840.113741.1.13.1.1", octet_string(&ppid)),
        pair("1.2.840.113741.1.13.1.2", sequence(&tcb)),
        pair("1.2.840.113741.1.13.1.3", octet_string(&[0, 0])),
        pair("1.2.840.113741.1.13.1.4", octet_string(&FMSPC)),
        pair("1.2.840.113741.1.13.1.5", item(0x0a, &[0])),
    ]);
    extension("1.2.840.113741.1.13.1", false, &value)
}

/// Header and body, signed; then the quoting enclave's report, signed by the platform's key.
fn quote(draft: &Draft<'_>, hierarchy: &Hierarchy<'_>) -> Result<Vec<u8>, ProduceError> {
    let attestation = pki::key(&draft.seed, "intel attestation key", Curve::P256)?;
    let mut signed = header(draft);
    signed.extend(body(draft)?);
    let mut signature = attestation.sign_fixed(&signed);
    if draft.has(Flaw::Signature) {
        flip_last(&mut signature);
    }
    let key = attestation.point();
    let key = key.get(1..).unwrap_or_default();
    let mut certified = quoting_enclave(draft, key, hierarchy.signer());
    let kind: u16 = if draft.has(Flaw::Certification) { 4 } else { 5 };
    let chain = pem(&hierarchy.certificates());
    certified.extend(kind.to_le_bytes());
    certified.extend(prefixed(chain.as_bytes()));
    let mut data = [&signature, key].concat();
    if version(draft) > 3 {
        data.extend(6_u16.to_le_bytes());
        data.extend(prefixed(&certified));
    } else {
        data.extend(certified);
    }
    let mut quote = [signed, prefixed(&data)].concat();
    if draft.has(Flaw::TooLong) {
        quote.resize(129 << 10, 0);
    }
    Ok(quote)
}

/// As many bytes as the four in front say.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()[..], bytes].concat()
}

fn header(draft: &Draft<'_>) -> Vec<u8> {
    let version = if draft.has(Flaw::ReportVersion) { 6 } else { version(draft) };
    let key_type: u16 = if draft.has(Flaw::HeaderAlgorithm) { 3 } else { 2 };
    let environment: u32 = match (draft.flaw, is_td(draft)) {
        (Some(Flaw::Environment), _) => 0x82,
        (_, true) => 0x81,
        _ => 0,
    };
    let mut vendor = VENDOR;
    if draft.has(Flaw::Vendor) {
        flip_last(&mut vendor);
    }
    let mut user_data = [0; 20];
    if !draft.has(Flaw::MarkMissing) {
        user_data.iter_mut().zip(MARK.bytes()).for_each(|(to, from)| *to = from);
    }
    let mut out = Vec::new();
    out.extend(version.to_le_bytes());
    out.extend(key_type.to_le_bytes());
    out.extend(environment.to_le_bytes());
    out.extend(QE_SVN.to_le_bytes());
    out.extend(u16::from(PCE_SVN).to_le_bytes());
    out.extend(vendor);
    out.extend(user_data);
    out
}

fn body(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    let body = if is_td(draft) { trust_domain(draft)? } else { enclave(draft)? };
    if version(draft) < 5 {
        return Ok(body);
    }
    let kind: u16 = match (draft.flaw, is_td(draft)) {
        (Some(Flaw::BodyType), _) => 9,
        (_, true) => 3,
        _ => 1,
    };
    Ok([&kind.to_le_bytes()[..], &prefixed(&body)].concat())
}

/// The report of a trust domain: of TDX 1.0, in version 5 of 1.5.
fn trust_domain(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    let rtmrs = [0, 1, 2, 3].map(Register::Rtmr);
    let named = [Register::MrConfigId, Register::MrOwner, Register::MrOwnerConfig];
    if draft.form.kind() == Kind::Tdx {
        draft.only(&[&[Register::MrTd, Register::MrSeam][..], &named, &rtmrs].concat())?;
    }
    let newer = version(draft) == 5;
    let mut attributes = TD_ATTRIBUTES;
    match draft.flaw {
        Some(Flaw::Debug) => attributes |= 1,
        Some(Flaw::ReservedBits) => attributes |= 1 << 3,
        Some(Flaw::AttributeMissing) => attributes = 0,
        Some(Flaw::AttributeRefused) => attributes |= 1 << 29,
        _ => {}
    }
    let mut module_signer = [0_u8; 48];
    if draft.has(Flaw::OtherModule) {
        flip_last(&mut module_signer);
    }
    // The module's version, its major version, and what it stands on.
    let mut tee_tcb_svn = [SVN; 16];
    tee_tcb_svn.iter_mut().skip(1).take(1).for_each(|major| *major = u8::from(newer));
    let mut mr_td: [u8; 48] = draft.measurement(Register::MrTd)?;
    if draft.has(Flaw::OtherCode) {
        flip_last(&mut mr_td);
    }
    let mut out = Vec::new();
    out.extend(tee_tcb_svn);
    out.extend(draft.measurement::<48>(Register::MrSeam)?);
    out.extend(module_signer);
    out.extend([0; 8]);
    out.extend(attributes.to_le_bytes());
    out.extend(XFAM.to_le_bytes());
    out.extend(mr_td);
    for register in named {
        out.extend(draft.asked::<48>(register)?);
    }
    for register in rtmrs {
        out.extend(draft.measurement::<48>(register)?);
    }
    out.extend(draft.report_data()?);
    if newer {
        out.extend(tee_tcb_svn);
        out.extend(if draft.has(Flaw::ServiceTd) { [1; 48] } else { [0; 48] });
    }
    Ok(out)
}

/// The report of the enclave that is attested.
fn enclave(draft: &Draft<'_>) -> Result<Vec<u8>, ProduceError> {
    if draft.form.kind() == Kind::Sgx {
        draft.only(&[Register::MrEnclave, Register::MrSigner, Register::IsvProdId, Register::ConfigId])?;
    }
    let flags = match draft.flaw {
        Some(Flaw::Debug) => ENCLAVE_FLAGS | 2,
        Some(Flaw::AttributeMissing) => ENCLAVE_FLAGS & !1,
        _ => ENCLAVE_FLAGS,
    };
    let mut measured: [u8; 32] = draft.measurement(Register::MrEnclave)?;
    if draft.has(Flaw::OtherCode) {
        flip_last(&mut measured);
    }
    let mut product = draft.asked::<2>(Register::IsvProdId)?;
    product.reverse();
    Ok(enclave_report(&EnclaveFields {
        flags,
        measured,
        signer: draft.measurement(Register::MrSigner)?,
        config_id: draft.asked(Register::ConfigId)?,
        product,
        svn: 1,
        data: draft.report_data()?,
    }))
}

struct EnclaveFields {
    flags: u64,
    measured: [u8; 32],
    signer: [u8; 32],
    config_id: [u8; 64],
    product: [u8; 2],
    svn: u16,
    data: [u8; 64],
}

/// 384 bytes.
fn enclave_report(fields: &EnclaveFields) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend([SVN; 16]);
    out.extend([0; 4 + 12 + 16]);
    out.extend(fields.flags.to_le_bytes());
    out.extend(XFAM.to_le_bytes());
    out.extend(fields.measured);
    out.extend([0; 32]);
    out.extend(fields.signer);
    out.extend([0; 32]);
    out.extend(fields.config_id);
    out.extend(fields.product);
    out.extend(fields.svn.to_le_bytes());
    out.extend([0; 2 + 42 + 16]);
    out.extend(fields.data);
    out
}

/// Who signed the quoting enclave.
fn quoting_signer(draft: &Draft<'_>) -> [u8; 32] {
    let mut signer = [0; 32];
    let bytes = pki::bytes(&draft.seed, "intel quoting enclave's signer");
    signer.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    signer
}

/// The quoting enclave's report for the attestation key, the platform's signature, authentication data.
fn quoting_enclave(draft: &Draft<'_>, key: &[u8], platform: &Key) -> Vec<u8> {
    let authentication = [0x51; 32];
    let mut data = [0; 64];
    let digest = Sha256::new().chain_update(key).chain_update(authentication).finalize();
    data.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    if draft.has(Flaw::QeBinding) {
        flip_last(&mut data);
    }
    let report = enclave_report(&EnclaveFields {
        flags: ENCLAVE_FLAGS,
        measured: [0x51; 32],
        signer: quoting_signer(draft),
        config_id: [0; 64],
        product: [1, 0],
        svn: QE_SVN,
        data,
    });
    let signature = platform.sign_fixed(&report);
    let length = u16::try_from(authentication.len()).unwrap_or(u16::MAX).to_le_bytes();
    [&report[..], &signature, &length, &authentication].concat()
}

/// A file with everything, as `dcap-qvl` writes it.
fn collateral(draft: &Draft<'_>, platform: &Hierarchy<'_>, signer: &Hierarchy<'_>) -> Vec<u8> {
    let (info, identity) = (tcb_info(draft), identity(draft));
    let sign = |text: &str, flaw| {
        let mut signature = signer.signer().sign_fixed(text.as_bytes());
        if draft.has(flaw) {
            flip_last(&mut signature);
        }
        to_hex(&signature)
    };
    let (info_signature, identity_signature) =
        (sign(&info, Flaw::TcbInfoSignature), sign(&identity, Flaw::QeIdentitySignature));
    let authorities = platform.issued();
    let authorities = pem(authorities.get(1..).unwrap_or_default());
    let signers = pem(&signer.certificates());
    let mut lists = platform.lists(0).into_iter().map(|list| to_hex(&list));
    let (pck_crl, root_ca_crl) = (lists.next(), lists.next());
    let mut file = json!({
        "pck_crl_issuer_chain": authorities,
        "root_ca_crl": root_ca_crl,
        "pck_crl": pck_crl,
        "tcb_info_issuer_chain": signers,
        "tcb_info": info,
        "tcb_info_signature": info_signature,
        "qe_identity_issuer_chain": signers,
        "qe_identity": identity,
        "qe_identity_signature": identity_signature,
    });
    if let Value::Object(members) = &mut file {
        match draft.flaw {
            Some(Flaw::UnknownField) => {
                members.insert("more".to_owned(), Value::Null);
            }
            Some(Flaw::CollateralForm) => {
                members.remove("tcb_info");
            }
            Some(Flaw::CollateralHex) => {
                members.insert("pck_crl".to_owned(), "no digits".into());
            }
            _ => {}
        }
    }
    file.to_string().into_bytes()
}

fn date(seconds: u64) -> String {
    hallmark_receipt::time::when(seconds).replace(' ', "T")
}

/// Issued a day before, due in thirty, unless the flaw is about that.
fn dates(draft: &Draft<'_>, stale: Flaw, later: Flaw) -> (String, String) {
    let at = draft.request.at;
    let issued = if draft.has(later) { at.saturating_add(1) } else { at.saturating_sub(DAY) };
    let due = if draft.has(stale) { at.saturating_sub(1) } else { at.saturating_add(30 * DAY) };
    (date(issued), date(due))
}

/// What platforms of this kind are worth: the newest level, an older one, one that is revoked.
fn tcb_info(draft: &Draft<'_>) -> String {
    let (issued, due) = dates(draft, Flaw::TcbInfoStale, Flaw::TcbInfoNotYet);
    let is_td = draft.form.kind() == Kind::Tdx;
    let id = if is_td != draft.has(Flaw::TcbInfoId) { "TDX" } else { "SGX" };
    let mut fmspc = FMSPC;
    if draft.has(Flaw::OtherPlatform) {
        flip_last(&mut fmspc);
    }
    let level = |lower: u8, status: &str, advisories: &[&str]| {
        let component = json!({ "svn": SVN.saturating_sub(lower) });
        let mut tcb = json!({ "sgxtcbcomponents": vec![component; 16], "pcesvn": PCE_SVN });
        if let (Value::Object(tcb), true) = (&mut tcb, is_td) {
            tcb.insert("tdxtcbcomponents".to_owned(), vec![json!({ "svn": 0 }); 16].into());
        }
        json!({ "tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories })
    };
    let module = json!({
        "id": "TDX_01", "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "ff".repeat(8),
        "tcbLevels": [{ "tcb": { "isvsvn": SVN }, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate" }],
    });
    let mut info = json!({
        "id": id,
        "version": if draft.has(Flaw::TcbInfoVersion) { 4 } else { 3 },
        "issueDate": issued,
        "nextUpdate": due,
        "fmspc": to_hex(&fmspc),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 17,
        "tcbLevels": [
            level(0, "UpToDate", &[]),
            level(1, "OutOfDate", &["INTEL-SA-00000"]),
            level(2, "Revoked", &[]),
        ],
    });
    if let (Value::Object(info), true) = (&mut info, is_td) {
        info.insert("tdxModule".to_owned(), module.clone());
        info.insert("tdxModuleIdentities".to_owned(), json!([module]));
    }
    if let (Value::Object(info), true) = (&mut info, draft.has(Flaw::MissingField)) {
        info.remove("tcbType");
    }
    info.to_string()
}

/// The quoting enclave.
fn identity(draft: &Draft<'_>) -> String {
    let (issued, due) = dates(draft, Flaw::QeIdentityStale, Flaw::QeIdentityNotYet);
    let mut signer = quoting_signer(draft);
    if draft.has(Flaw::OtherEnclave) {
        flip_last(&mut signer);
    }
    json!({
        "id": if draft.form.kind() == Kind::Tdx { "TD_QE" } else { "QE" },
        "version": if draft.has(Flaw::QeIdentityVersion) { 9 } else { 2 },
        "issueDate": issued,
        "nextUpdate": due,
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000",
        "miscselectMask": "ffffffff",
        "attributes": "05000000000000000000000000000000",
        "attributesMask": "fbffffffffffffff0000000000000000",
        "mrsigner": to_hex(&signer),
        "isvprodid": 1,
        "tcbLevels": [{ "tcb": { "isvsvn": QE_SVN }, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate" }],
    })
    .to_string()
}

fn pem(certificates: &[Vec<u8>]) -> String {
    let label = "CERTIFICATE";
    let block =
        |der: &Vec<u8>| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    certificates.iter().map(block).collect()
}
