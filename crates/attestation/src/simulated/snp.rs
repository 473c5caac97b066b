//! SEV-SNP reports, as AMD's firmware writes them. AMD's authorities have keys of RSA-4096; the simulated ones are of P-384.

use super::pki::{self, Curve, Hierarchy, Rung, flip_last};
use super::{Draft, Flaw, Form, MARK};
use crate::measurement::{Register, SnpRegister};
use crate::producer::{Evidence, ProduceError};
use crate::snp::Product;
use crate::x509::write::{extension, integer, item, octet_string};

/// Bit 17 is always set; threads may share cores; ABI 0.0.
const GUEST_POLICY: u64 = 1 << 17 | 1 << 16;
const DEBUG: u64 = 1 << 19;
/// Security versions: they lie as the product says. The last one is the microcode's everywhere.
const TCB: [u8; 8] = [4, 3, 2, 1, 0, 0, 0, 210];
const OLD_TCB: [u8; 8] = [4, 3, 2, 1, 0, 0, 0, 209];
const NEW_TCB: [u8; 8] = [4, 3, 2, 1, 0, 0, 0, 211];
/// Firmware 1.55 build 21, as the report has it.
const FIRMWARE: [u8; 4] = [21, 55, 1, 0];

/// What a form is about.
struct Model {
    version: u32,
    product: Product,
    /// The name in the leaf, stepping included.
    stepping: &'static str,
    /// Family, model, stepping.
    cpu: [u8; 3],
    vlek: bool,
}

fn model(form: Form) -> Model {
    let milan =
        Model { version: 2, product: Product::Milan, stepping: "Milan-B0", cpu: [0x19, 1, 1], vlek: false };
    match form {
        Form::SnpV3 => {
            Model { version: 3, product: Product::Genoa, stepping: "Genoa-B1", cpu: [0x19, 0x11, 1], ..milan }
        }
        Form::SnpV5 => {
            Model { version: 5, product: Product::Turin, stepping: "Turin-C1", cpu: [0x1a, 2, 1], ..milan }
        }
        Form::SnpVlek => Model { version: 3, vlek: true, ..milan },
        _ => milan,
    }
}

pub(super) fn root(form: Form) -> Rung {
    match model(form).product {
        Product::Milan => Rung::authority("milan root", "ARK-Milan", None),
        Product::Genoa => Rung::authority("genoa root", "ARK-Genoa", None),
        Product::Turin => Rung::authority("turin root", "ARK-Turin", None),
    }
}

pub(super) fn produce(draft: &Draft<'_>) -> Result<Evidence, ProduceError> {
    let model = model(draft.form);
    let product = model.product.name();
    let signer = if model.vlek != draft.has(Flaw::Hierarchy) {
        Rung::authority("snp vlek signer", format!("SEV-VLEK-{product}"), Some(0))
    } else {
        Rung::authority("snp signer", format!("SEV-{product}"), Some(0))
    };
    let mut leaf = Rung::leaf("snp key", if model.vlek { "SEV-VLEK" } else { "SEV-VCEK" });
    leaf.extensions = extensions(draft, &model);
    let hierarchy = Hierarchy::new(draft, Curve::P384, &[leaf, signer, root(draft.form)])?;
    let mut evidence = report(draft, &model)?;
    let mut signature = hierarchy.signer().sign_fixed(&evidence);
    if draft.has(Flaw::Signature) {
        flip_last(&mut signature);
    }
    // Each number little-endian, in 72 bytes; then what is reserved.
    for number in signature.chunks(48) {
        evidence.extend(number.iter().rev());
        evidence.extend([0; 24]);
    }
    evidence.extend([0; 368]);
    match draft.flaw {
        Some(Flaw::TableBounds) => evidence.extend(entry(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd, 48, 1)),
        Some(Flaw::TableLeftover) => evidence.extend([entry(0, 0, 0), vec![1]].concat()),
        _ => {}
    }
    if draft.has(Flaw::TableBounds) {
        evidence.extend(entry(0, 0, 0));
    }
    let mut certificates = hierarchy.certificates();
    if draft.has(Flaw::Stranger) {
        certificates.push(pki::root(
            &draft.seed,
            Curve::P384,
            &Rung::authority("stranger", "SEV-Milan", None),
        )?);
    }
    if draft.has(Flaw::MakersRoot) {
        // AMD's own authorities are known to every verifier.
        certificates.truncate(1);
        return Ok(Evidence { evidence, certificates, ..Evidence::default() });
    }
    Ok(Evidence { evidence, certificates, collateral: hierarchy.lists(1), ..Evidence::default() })
}

/// An entry of a certificate table: GUID, offset, length.
fn entry(guid: u128, offset: u32, length: u32) -> Vec<u8> {
    [&guid.to_be_bytes()[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
}

/// What AMD certifies of a key: product, security versions, chip or cloud.
fn extensions(draft: &Draft<'_>, model: &Model) -> Vec<Vec<u8>> {
    let name = if draft.has(Flaw::ProductName) { "Rome-B0" } else { model.stepping };
    let certified = match draft.flaw {
        Some(Flaw::OtherTcb) => OLD_TCB,
        Some(Flaw::TcbNewer) => NEW_TCB,
        _ => TCB,
    };
    let mut out = vec![
        extension("1.3.6.1.4.1.3704.1.1", false, &integer(&[0])),
        extension("1.3.6.1.4.1.3704.1.2", false, &item(0x16, name.as_bytes())),
    ];
    for part in crate::snp::Tcb(certified).parts(model.product) {
        let id = match part.arc {
            1 => "1.3.6.1.4.1.3704.1.3.1",
            2 => "1.3.6.1.4.1.3704.1.3.2",
            3 => "1.3.6.1.4.1.3704.1.3.3",
            8 if draft.has(Flaw::ExtensionMissing) => continue,
            8 => "1.3.6.1.4.1.3704.1.3.8",
            9 => "1.3.6.1.4.1.3704.1.3.9",
            4 => "1.3.6.1.4.1.3704.1.3.4",
            5 => "1.3.6.1.4.1.3704.1.3.5",
            6 => "1.3.6.1.4.1.3704.1.3.6",
            _ => "1.3.6.1.4.1.3704.1.3.7",
        };
        out.push(extension(id, false, &integer(&[part.version])));
    }
    if model.vlek && !draft.has(Flaw::CloudMissing) {
        out.push(extension("1.3.6.1.4.1.3704.1.5", false, &item(0x16, b"SIMULATED cloud")));
    }
    if !model.vlek {
        let chip = chip(draft, model);
        let chip = if model.product == Product::Turin { chip.get(..8).unwrap_or_default() } else { &chip };
        out.push(extension("1.3.6.1.4.1.3704.1.4", false, &octet_string(chip)));
    }
    out
}

/// The chip's id: 64 bytes, of Turin eight and zeros.
fn chip(draft: &Draft<'_>, model: &Model) -> [u8; 64] {
    let mut chip = [0; 64];
    let length = if model.product == Product::Turin { 8 } else { 64 };
    let bytes = pki::bytes(&draft.seed, "snp chip").into_iter().cycle();
    chip.iter_mut().zip(bytes).take(length).for_each(|(to, from)| *to = from);
    chip
}

/// The signed part.
fn report(draft: &Draft<'_>, model: &Model) -> Result<Vec<u8>, ProduceError> {
    use SnpRegister::{AuthorKeyDigest, FamilyId, HostData, IdKeyDigest};
    let registers =
        [SnpRegister::Measurement, HostData, IdKeyDigest, AuthorKeyDigest, FamilyId].map(Register::Snp);
    draft.only(&registers)?;
    let version = match draft.flaw {
        Some(Flaw::ReportVersion) => 6,
        // Only later versions name the processor.
        Some(Flaw::Processor) => model.version.max(3),
        _ => model.version,
    };
    let guest_policy = match draft.flaw {
        Some(Flaw::Debug) => GUEST_POLICY | DEBUG,
        Some(Flaw::PolicyBit) => GUEST_POLICY & !(1 << 17),
        _ => GUEST_POLICY,
    };
    let mut image_id = [0; 16];
    if !draft.has(Flaw::MarkMissing) {
        image_id.iter_mut().zip(MARK.bytes()).for_each(|(to, from)| *to = from);
    }
    let signing_key: u32 = match draft.flaw {
        Some(Flaw::SigningKey) => 5,
        Some(Flaw::Unsigned) => 7,
        Some(Flaw::KeyKind) => u32::from(!model.vlek),
        _ => u32::from(model.vlek),
    };
    let reported = match draft.flaw {
        Some(Flaw::TcbNewer) => NEW_TCB,
        _ => TCB,
    };
    let cpu = match (draft.flaw, version) {
        (Some(Flaw::Processor), _) => [0x17, 0x31, 0],
        (_, 2) => [0; 3],
        _ => model.cpu,
    };
    let mut measurement: [u8; 48] = draft.measurement(Register::Snp(SnpRegister::Measurement))?;
    if draft.has(Flaw::OtherCode) {
        flip_last(&mut measurement);
    }
    let mut chip = chip(draft, model);
    if draft.has(Flaw::ChipId) {
        chip.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    }
    let mut out = Vec::new();
    out.extend(version.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(guest_policy.to_le_bytes());
    out.extend(draft.asked::<16>(Register::Snp(FamilyId))?);
    out.extend(image_id);
    out.extend(if draft.has(Flaw::Vmpl) { 2_u32 } else { 0 }.to_le_bytes());
    out.extend(if draft.has(Flaw::HeaderAlgorithm) { 2_u32 } else { 1 }.to_le_bytes());
    out.extend(TCB);
    // Threads share cores.
    out.extend(1_u64.to_le_bytes());
    out.extend((signing_key << 2).to_le_bytes());
    out.extend(if draft.has(Flaw::Reserved) { 1_u32 } else { 0 }.to_le_bytes());
    out.extend(draft.report_data()?);
    out.extend(measurement);
    out.extend(draft.asked::<32>(Register::Snp(HostData))?);
    out.extend(draft.asked::<48>(Register::Snp(IdKeyDigest))?);
    out.extend(draft.asked::<48>(Register::Snp(AuthorKeyDigest))?);
    out.extend(pki::bytes(&draft.seed, "snp report id").iter().take(32));
    // No migration agent.
    out.extend([0xff; 32]);
    out.extend(reported);
    out.extend(cpu);
    out.extend([0; 21]);
    out.extend(chip);
    out.extend(TCB);
    out.extend(FIRMWARE);
    out.extend(FIRMWARE);
    out.extend(TCB);
    // Mitigations, from version 4 on; then what is reserved.
    out.extend([0; 16]);
    out.extend([0; 152]);
    Ok(out)
}
