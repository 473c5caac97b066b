//! AMD SEV-SNP: attestation reports (`attestation.md` §6), as AMD describes them in 56860, "SEV Secure Nested Paging Firmware ABI
//! Specification", and 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification".

mod claims;
mod endorsement;
mod fault;
mod flags;
mod policy;
mod report;
mod table;
mod tcb;
#[cfg(test)]
mod tests;

pub use endorsement::EndorsementError;
pub use fault::Fault;
pub use flags::{GuestFlag, PlatformFlag};
pub use policy::Policy;
pub use report::{AttestationReport, Cpuid, Firmware, GuestPolicy, REPORT, ReportError, SigningKey};
pub use table::TableError;
pub use tcb::{MinimumTcb, Part, Product, Tcb};

use hallmark_receipt::json::{Object, Value};
use hallmark_receipt::wire::to_hex;

use crate::check::{CheckId, Reason, Why};
use crate::crypto::{self, Form, Scheme};
use crate::encoding::{self, EncodingError};
use crate::measurement::{Measurements, Register, SnpRegister};
use crate::report::{Context, Judgement, Report, is_padded};
use crate::x509::{Certificate, Chain, Rules, certificate_text};
use crate::{Input, Kind};

/// ARK, ASK (or ASVK), and the key that signs. AMD's authorities have RSA keys; those of development roots are of P-384 (§11).
const RULES: Rules = Rules { longest: 3, schemes: &[Scheme::RsaPss384, Scheme::EcdsaP384], known: &[] };

const ALWAYS: &[CheckId] = &[
    CheckId::Format,
    CheckId::Root,
    CheckId::Chain,
    CheckId::Validity,
    CheckId::Signature,
    CheckId::Debug,
    CheckId::Product,
    CheckId::Key,
    CheckId::CertifiedTcb,
    CheckId::Tcb,
    CheckId::Vmpl,
    CheckId::GuestPolicy,
];

/// What came with a report.
struct Files {
    evidence: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
}

impl Files {
    /// The report, without the table behind it.
    fn report(&self) -> &[u8] {
        self.evidence.get(..REPORT).unwrap_or(&self.evidence)
    }
}

/// Judges a report, alone or with the certificate table of an extended one behind it.
pub fn verify(input: &Input<'_>, context: &Context<'_>) -> Report {
    let policy = &context.policy.sev_snp.own;
    let mut judgement = Judgement::new(Kind::SevSnp, context, (&context.policy.sev_snp).into());
    // 1. The form: every byte of report and table has its place.
    let files = match files(input) {
        Ok(files) => files,
        Err(reason) => {
            judgement.record(CheckId::Format, Err::<&str, _>(reason));
            return judgement.finish(ALWAYS, None);
        }
    };
    let report = match AttestationReport::parse(files.report()) {
        Ok(report) => report,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(ALWAYS, None);
        }
    };
    judgement.record(CheckId::Format, Ok::<_, Reason>(format!("report of version {}", report.version)));
    judgement.marked = report.is_marked();
    // 2. The certificates.
    let chain = chain(&mut judgement, &report, &files);
    if let Some(chain) = &chain {
        // AMD publishes a list of its roots alone; leaves are replaced with the security versions that they certify.
        judgement.revocation(1, &[chain], &files.lists);
    }
    // 3. - 7. What the certificate says of the report, if AMD says it.
    let chain = chain.filter(|_| judgement.passed(CheckId::Root) && judgement.passed(CheckId::Chain));
    let leaf = chain.as_ref().map(Chain::leaf);
    let product = product(&mut judgement, &report, chain.as_ref(), policy);
    key(&mut judgement, &report, leaf, policy);
    signature(&mut judgement, &report, leaf);
    security_versions(&mut judgement, &report, leaf, product, policy);
    chip(&mut judgement, &report, leaf);
    // 8. - 10. What runs where.
    let debug =
        report.guest_policy.has(GuestFlag::Debug).then_some("its guest policy allows the host to read it");
    judgement.debug(debug, "its guest policy forbids it");
    judgement.record(CheckId::Vmpl, vmpl(&report, policy));
    judgement.record(CheckId::GuestPolicy, guest_policy(&report, policy));
    platform(&mut judgement, &report, policy);
    // 11. Registers, and for whom.
    let measurements = measurements(&report);
    judgement.measurements(&measurements);
    if let Some(product) = product {
        judgement.claim(|| claims::of(&report, product));
    }
    judgement.skip(CheckId::Log, Why::NoLog);
    judgement.padded_nonce(report.report_data);
    judgement.binding("report data", report.report_data);
    judgement.age(None);
    judgement.finish(ALWAYS, Some((measurements, report.report_data.to_vec())))
}

/// Every field of a report, and the certificates behind it, for people.
pub fn show(file: &[u8]) -> Result<Object, Reason> {
    let files = files(&Input::of(file))?;
    let mut fields = AttestationReport::parse(files.report())?.fields();
    let certificates = files.certificates.iter().map(|der| certificate_text(der)).collect();
    fields.insert("certificates".to_owned(), Value::Array(certificates));
    Ok(fields)
}

/// What AMD is asked for with a report.
pub(crate) struct Asked {
    pub signing_key: SigningKey,
    /// As the leaf says, else the processor; a report of version 2 does not say which that is.
    pub product: Option<Product>,
    /// None where the host masks it.
    pub chip_id: Option<[u8; 64]>,
    pub reported_tcb: Tcb,
    /// Whether the certificate of the signing key came along.
    pub has_leaf: bool,
}

/// Reads what AMD is to be asked for.
pub(crate) fn asked(input: &Input<'_>) -> Result<Asked, Reason> {
    let files = files(input)?;
    let report = AttestationReport::parse(files.report())?;
    let mut leaves = files.certificates.iter().filter_map(|der| Certificate::parse(der).ok());
    let leaf = leaves.find(|leaf| endorsement::kind(leaf) == Some(report.signing_key));
    let name = leaf.as_ref().and_then(endorsement::product_name);
    Ok(Asked {
        signing_key: report.signing_key,
        product: match name {
            Some(name) => Product::from_certificate(&name),
            None => report.cpuid.and_then(Product::of_cpu),
        },
        chip_id: (!report.is_chip_id_masked()).then_some(*report.chip_id),
        reported_tcb: report.reported_tcb,
        has_leaf: leaf.is_some(),
    })
}

/// Whether `leaf` is the VCEK of this chip and of these security versions.
pub(crate) fn is_vcek(leaf: &Certificate<'_>, product: Product, chip_id: &[u8; 64], tcb: Tcb) -> bool {
    endorsement::kind(leaf) == Some(SigningKey::Vcek)
        && endorsement::product_name(leaf).and_then(|name| Product::from_certificate(&name)) == Some(product)
        && endorsement::hardware_id(leaf).is_some_and(|id| is_padded(chip_id, id))
        && endorsement::certified_tcb(leaf, product) == Some(tcb)
}

/// Decodes what came: certificates may stand in a table behind the report or in one of the files (the kernel's `auxblob`).
fn files(input: &Input<'_>) -> Result<Files, Reason> {
    let evidence = encoding::decode(input.evidence)?;
    let mut files = Files { evidence, certificates: Vec::new(), lists: encoding::items(input.collateral)? };
    let mut tables: Vec<Vec<u8>> = Vec::new();
    for item in encoding::items(input.certificates)? {
        // DER of a certificate begins with the tag of a SEQUENCE, no GUID of a table does.
        match item.first() {
            Some(0x30) => files.certificates.push(item),
            _ => tables.push(item),
        }
    }
    if let Some(table) = files.evidence.get(REPORT..).filter(|table| !table.is_empty()) {
        tables.push(table.to_vec());
    }
    for table in &tables {
        for (label, item) in table::parse(table).map_err(Reason::SevSnpTable)? {
            let items: Result<_, EncodingError> = encoding::der(item);
            match label {
                table::Label::Certificate => files.certificates.extend(items?),
                table::Label::Crl => files.lists.extend(items?),
            }
        }
    }
    Ok(files)
}

/// Step 2: root, chain, validity.
fn chain<'a>(
    judgement: &mut Judgement<'_>,
    report: &AttestationReport<'_>,
    files: &'a Files,
) -> Option<Chain<'a>> {
    match endorsement::chain(&files.certificates, report.signing_key) {
        Err(error) => {
            judgement.record(CheckId::Chain, Err::<&str, _>(error));
            None
        }
        Ok(None) => {
            judgement.skip(CheckId::Chain, Why::NoCertificate { of: report.signing_key.name() });
            None
        }
        Ok(Some(chain)) => {
            judgement.chain(&chain, &RULES);
            Some(chain)
        }
    }
}

/// Step 3: certificates and processor are of one product.
fn product(
    judgement: &mut Judgement<'_>,
    report: &AttestationReport<'_>,
    chain: Option<&Chain<'_>>,
    policy: &Policy,
) -> Option<Product> {
    let Some(chain) = chain else {
        judgement.skip(CheckId::Product, Why::After(CheckId::Chain));
        return None;
    };
    let product = endorsement::product(chain);
    let result = product.ok_or(Fault::Hierarchy).and_then(|product| {
        let name = endorsement::product_name(chain.leaf()).ok_or(Fault::Extensions)?;
        if Product::from_certificate(&name) != Some(product) {
            return Err(Fault::ProductName { expected: product, got: name });
        }
        match report.cpuid {
            Some(got) if Product::of_cpu(got) != Some(product) => {
                Err(Fault::Processor { expected: product, got })
            }
            _ if !policy.products.contains(&product) => Err(Fault::ProductForbidden { got: product }),
            _ => Ok(name),
        }
    });
    judgement.record(CheckId::Product, result);
    product
}

/// Step 4: the certificate is of the kind of key that signed, and the policy allows it.
fn key(
    judgement: &mut Judgement<'_>,
    report: &AttestationReport<'_>,
    leaf: Option<&Certificate<'_>>,
    policy: &Policy,
) {
    let Some(leaf) = leaf else { return judgement.skip(CheckId::Key, Why::After(CheckId::Chain)) };
    let signing = report.signing_key;
    let result = || match endorsement::kind(leaf) {
        _ if signing == SigningKey::None => Err(Fault::Unsigned),
        None => Err(Fault::Hierarchy),
        Some(got) if got != signing => Err(Fault::KeyKind { expected: signing, got }),
        Some(got) if !policy.keys.contains(&got) => Err(Fault::KeyForbidden { got }),
        _ if policy.require_author_key && !report.author_key => Err(Fault::NoAuthorKey),
        Some(SigningKey::Vlek) => {
            let got = endorsement::provider(leaf).ok_or(Fault::Extensions)?;
            let allowed = &policy.vlek_providers;
            if allowed.is_empty() || allowed.contains(&got) {
                Ok(format!("VLEK, which a cloud shares among its chips: {got}"))
            } else {
                Err(Fault::Provider { got })
            }
        }
        Some(_) => Ok("VCEK, the chip's own".to_owned()),
    };
    judgement.record(CheckId::Key, result());
}

/// Step 5: the leaf's key signed the first 0x2a0 bytes.
fn signature(judgement: &mut Judgement<'_>, report: &AttestationReport<'_>, leaf: Option<&Certificate<'_>>) {
    let Some(leaf) = leaf else { return judgement.skip(CheckId::Signature, Why::After(CheckId::Chain)) };
    let result = crypto::verify(leaf.key, Scheme::EcdsaP384, Form::Fixed, report.signed, &report.signature);
    judgement
        .record(CheckId::Signature, result.map(|()| "by the certified key").map_err(|_| Reason::Signature));
}

/// Step 6: the certificate's security versions are the reported ones; none is newer than what runs, or below the policy's.
fn security_versions(
    judgement: &mut Judgement<'_>,
    report: &AttestationReport<'_>,
    leaf: Option<&Certificate<'_>>,
    product: Option<Product>,
    policy: &Policy,
) {
    let (Some(leaf), Some(product)) = (leaf, product) else {
        judgement.skip(CheckId::CertifiedTcb, Why::After(CheckId::Product));
        return judgement.skip(CheckId::Tcb, Why::After(CheckId::Product));
    };
    let reported = report.reported_tcb;
    let certified = match endorsement::certified_tcb(leaf, product) {
        None => Err(Fault::Extensions),
        Some(certified) if certified == reported => Ok(reported.text(product)),
        Some(certified) => {
            Err(Fault::CertifiedTcb { expected: reported.text(product), got: certified.text(product) })
        }
    };
    judgement.record(CheckId::CertifiedTcb, certified);
    judgement.record(CheckId::Tcb, tcb(report, product, policy));
}

fn tcb(report: &AttestationReport<'_>, product: Product, policy: &Policy) -> Result<String, Fault> {
    let (reported, current) = (report.reported_tcb, report.current_tcb);
    let (committed, launch) = (report.committed_tcb, report.launch_tcb);
    for (this, tcb) in [("REPORTED_TCB", reported), ("COMMITTED_TCB", committed)] {
        if !tcb.is_at_most(current) {
            return Err(Fault::Newer { this, expected: current.text(product), got: tcb.text(product) });
        }
    }
    let (now, kept) = (report.current_firmware, report.committed_firmware);
    let text = |[major, minor, build]: Firmware| format!("{major}.{minor}.{build}");
    if kept > now {
        return Err(Fault::Newer { this: "the committed firmware", expected: text(now), got: text(kept) });
    }
    if !policy.minimum_tcb.is_empty() {
        let minimum = policy.minimum_tcb.get(&product).ok_or(Fault::NoMinimum { got: product })?;
        for (tcb, versions) in
            [("REPORTED_TCB", reported), ("COMMITTED_TCB", committed), ("LAUNCH_TCB", launch)]
        {
            if let Some((part, expected)) = versions.below(product, minimum) {
                let (part, got) = (part.name().unwrap_or_default(), part.version);
                return Err(Fault::Below { tcb, part, expected, got });
            }
        }
    }
    if kept < policy.minimum_firmware {
        let (expected, got) = (text(policy.minimum_firmware), text(kept));
        return Err(Fault::Firmware { this: "the committed firmware", expected, got });
    }
    Ok(format!("firmware {}; runs {}", text(now), current.text(product)))
}

/// Step 7: the certificate's chip is the report's.
fn chip(judgement: &mut Judgement<'_>, report: &AttestationReport<'_>, leaf: Option<&Certificate<'_>>) {
    let Some(leaf) = leaf else { return judgement.skip(CheckId::ChipId, Why::After(CheckId::Chain)) };
    if report.signing_key == SigningKey::Vlek {
        return judgement.skip(CheckId::ChipId, Why::SharedKey);
    }
    if report.is_chip_id_masked() {
        return judgement.skip(CheckId::ChipId, Why::MaskedChip);
    }
    let result = match endorsement::hardware_id(leaf) {
        None => Err(Fault::Extensions),
        // Turin's have 8 bytes, the rest of the field is zero.
        Some(id) if is_padded(report.chip_id, id) => Ok(to_hex(id)),
        Some(id) => Err(Fault::Chip { expected: report.chip_id.to_vec(), got: id.to_vec() }),
    };
    judgement.record(CheckId::ChipId, result);
}

/// Step 8: the privilege level that asked is one of the policy's.
fn vmpl(report: &AttestationReport<'_>, policy: &Policy) -> Result<String, Fault> {
    let got = report.vmpl;
    if policy.vmpl.contains(&got) {
        Ok(format!("level {got} asked for it"))
    } else {
        Err(Fault::Vmpl { got })
    }
}

/// Step 9: what the guest's owner allowed the host.
fn guest_policy(report: &AttestationReport<'_>, policy: &Policy) -> Result<String, Fault> {
    let guest = report.guest_policy;
    if let Some(flag) = policy.forbid_guest_policy.iter().find(|flag| guest.has(**flag)) {
        return Err(Fault::GuestForbidden { flag: flag.name() });
    }
    if let Some(flag) = policy.require_guest_policy.iter().find(|flag| !guest.has(**flag)) {
        return Err(Fault::GuestLacks { flag: flag.name() });
    }
    let text = |[major, minor]: [u8; 2]| format!("{major}.{minor}");
    if guest.abi() < policy.minimum_abi {
        let (expected, got) = (text(policy.minimum_abi), text(guest.abi()));
        return Err(Fault::Firmware { this: "the guest's least ABI", expected, got });
    }
    if report.guest_svn < policy.minimum_guest_svn {
        return Err(Fault::GuestSvn { expected: policy.minimum_guest_svn, got: report.guest_svn });
    }
    Ok(format!("ABI {} or later; {}", text(guest.abi()), GuestFlag::names(guest.0).join(", ")))
}

/// Step 10: the platform's settings, if the policy asks for any.
fn platform(judgement: &mut Judgement<'_>, report: &AttestationReport<'_>, policy: &Policy) {
    let bits = report.platform_info;
    let got = format!("{} ({bits:#x})", PlatformFlag::names(bits).join(", "));
    if policy.forbid_platform.is_empty() && policy.require_platform.is_empty() {
        return judgement.skip(CheckId::Platform, Why::NothingAsked { got });
    }
    let forbidden = policy.forbid_platform.iter().find(|flag| bits & flag.mask() != 0);
    let lacking = policy.require_platform.iter().find(|flag| bits & flag.mask() == 0);
    let result = match (forbidden, lacking) {
        (Some(flag), _) => Err(Fault::PlatformForbidden { flag: flag.name() }),
        (None, Some(flag)) => Err(Fault::PlatformLacks { flag: flag.name() }),
        (None, None) => Ok(got),
    };
    judgement.record(CheckId::Platform, result);
}

fn measurements(report: &AttestationReport<'_>) -> Measurements {
    let registers: [(SnpRegister, &[u8]); 9] = [
        (SnpRegister::Measurement, report.measurement),
        (SnpRegister::HostData, report.host_data),
        (SnpRegister::IdKeyDigest, report.id_key_digest),
        (SnpRegister::AuthorKeyDigest, report.author_key_digest),
        (SnpRegister::FamilyId, report.family_id),
        (SnpRegister::ImageId, report.image_id),
        (SnpRegister::ReportId, report.report_id),
        (SnpRegister::ReportIdMa, report.report_id_ma),
        (SnpRegister::ChipId, report.chip_id),
    ];
    registers.into_iter().map(|(register, bytes)| (Register::Snp(register), bytes.to_vec())).collect()
}
