//! NVIDIA GPUs and NVSwitches: signed SPDM measurements (`attestation.md` §7), as NVIDIA's verifiers
//! [nvtrust](https://github.com/NVIDIA/nvtrust) and [attestation-sdk](https://github.com/NVIDIA/attestation-sdk) read them.
//!
//! A file holds one report or a list of several. Each is judged; a row passes if it passes for every device.

mod claims;
mod dice;
mod opaque;
mod rim;
mod spdm;
mod wrapper;

use hallmark_receipt::json::{Object, Value, object};
use serde::Deserialize;

pub use dice::Firmware;
pub use opaque::{MARK_FIELD, Opaque, OpaqueError};
pub use rim::{Component, ReferenceManifest, RimError, XmlError};
pub use spdm::{Block, Report as DeviceReport, ReportError};
pub use wrapper::{Device, WrapperError, devices};

use crate::check::{CheckId, Reason, Why};
use crate::crypto::{self, Form, Scheme};
use crate::measurement::{Measurements, Register};
use crate::report::{Common, Context, Judgement, Report};
use crate::x509::{Certificate, Chain, Rules, certificate_text};
use crate::{Input, Kind, encoding};

/// What a policy may ask of NVIDIA's reports alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// The driver's versions, as `590.12`; none named, none asked for.
    pub driver_versions: Vec<String>,
    /// The firmware's versions, as `96.00.a5.00.01`.
    pub vbios_versions: Vec<String>,
    /// How many distinct devices have to report.
    pub devices: Option<usize>,
}

/// Device, boot ROM, provisioner, product, root is what NVIDIA issues.
const RULES: Rules =
    Rules { longest: 8, schemes: &[Scheme::EcdsaP384], known: &[dice::TCB_INFO, dice::TCB_INFO_ALIAS] };

/// The certificates that somebody can revoke start here: the leaf is made by the device itself.
pub(crate) const FIRST_REVOCABLE: usize = 1;

const ALWAYS: &[CheckId] = &[
    CheckId::Format,
    CheckId::Root,
    CheckId::Chain,
    CheckId::Validity,
    CheckId::Signature,
    CheckId::Serials,
];

/// Judges the reports in a file.
pub fn verify(input: &Input<'_>, context: &Context<'_>) -> Report {
    let common: Common<'_> = (&context.policy.nvidia).into();
    let mut judgement = Judgement::new(Kind::Nvidia, context, common);
    let files = devices(input).and_then(|devices| Ok((devices, Collateral::read(input)?)));
    let (devices, collateral) = match files {
        Ok(files) => files,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return judgement.finish(ALWAYS, None);
        }
    };
    let mut found = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        let mut own = Judgement::new(Kind::Nvidia, context, common);
        found.extend(judge(device, &collateral, &mut own, context));
        if devices.len() == 1 {
            judgement = own;
        } else {
            judgement.absorb(number.saturating_add(1), own);
        }
    }
    distinct(&mut judgement, &devices, context);
    let attested = (found.len() == devices.len()).then(|| together(found));
    judgement.finish(ALWAYS, attested)
}

/// Every field of the reports in a file, for people.
pub fn show(file: &[u8]) -> Result<Object, Reason> {
    let mut shown = Vec::new();
    for device in devices(&Input::of(file))? {
        let mut fields = DeviceReport::parse(&device.report)?.fields();
        let certificates = device.certificates.iter().map(|der| certificate_text(der)).collect();
        fields.insert("certificates".to_owned(), Value::Array(certificates));
        let leaf = device.certificates.first().and_then(|der| Certificate::parse(der).ok());
        if let Some(firmware) = leaf.and_then(|leaf| Firmware::of(&leaf).ok().flatten()) {
            fields.insert("certified_firmware".to_owned(), Value::Object(firmware.fields()));
        }
        shown.push(Value::Object(fields));
    }
    Ok(object([("devices", Value::Array(shown))]))
}

/// What a device's report says, once it could be read: measurements, nonce.
type Found = (Measurements, Vec<u8>);

/// What authorities say of certificates, and reference manifests.
struct Collateral {
    revocations: Vec<Vec<u8>>,
    manifests: Result<Vec<ReferenceManifest>, RimError>,
}

impl Collateral {
    fn read(input: &Input<'_>) -> Result<Self, WrapperError> {
        let items = encoding::items(input.collateral)?;
        let (manifests, revocations): (Vec<_>, _) =
            items.into_iter().partition(|item| ReferenceManifest::is_one(item));
        let manifests = manifests.iter().map(|file| ReferenceManifest::parse(file)).collect();
        Ok(Self { revocations, manifests })
    }
}

/// Judges one device.
fn judge(
    device: &Device,
    collateral: &Collateral,
    judgement: &mut Judgement<'_>,
    context: &Context<'_>,
) -> Option<Found> {
    // 1. The form: every byte of the report has its place.
    let report = match DeviceReport::parse(&device.report) {
        Ok(report) => report,
        Err(error) => {
            judgement.record(CheckId::Format, Err::<&str, _>(error));
            return None;
        }
    };
    judgement.marked = report.opaque.is_marked();
    // 2. - 4. The certificates.
    let chain = chain(judgement, device);
    let chip = chain.as_ref().map(|chain| chip(chain.leaf())).unwrap_or_default();
    format(judgement, device, &report, chain.as_ref());
    // 5. - 8. What stands on them.
    match chain.filter(|_| judgement.passed(CheckId::Chain)) {
        Some(chain) => {
            judgement.revocation(FIRST_REVOCABLE, &[&chain], &collateral.revocations);
            signature(judgement, &report, &chain);
            firmware(judgement, &report, &chain);
            serials(judgement, &chain);
        }
        None => {
            for id in [
                CheckId::Revocation,
                CheckId::Signature,
                CheckId::Debug,
                CheckId::FirmwareId,
                CheckId::Serials,
            ] {
                judgement.skip(id, Why::After(CheckId::Chain));
            }
        }
    }
    // 9. - 11. What runs.
    let measurements: Measurements =
        report.blocks.iter().map(|block| (Register::Block(block.index), block.value.to_vec())).collect();
    judgement.measurements(&measurements);
    judgement.claim(|| claims::of(&report));
    versions(judgement, &report, &context.policy.nvidia.own);
    rim::compare(judgement, &report, &chip, &collateral.manifests, &collateral.revocations);
    judgement.skip(CheckId::Log, Why::NoLog);
    // 12. - 15. For whom, and when.
    judgement.nonce(report.nonce);
    pairing(judgement, &report, context);
    judgement.skip(CheckId::Token, Why::NoTokenKey);
    judgement.skip(CheckId::Binding, Why::BindsNonceOnly);
    judgement.age(None);
    Some((measurements, report.nonce.to_vec()))
}

/// The chip that a device's own certificate names: the first word of its subject.
pub(crate) fn chip(leaf: &Certificate<'_>) -> String {
    leaf.subject_text().split(' ').next().unwrap_or_default().to_owned()
}

/// Step 1, its end: what the list says of the device is what the device signed.
fn format(
    judgement: &mut Judgement<'_>,
    device: &Device,
    report: &DeviceReport<'_>,
    chain: Option<&Chain<'_>>,
) {
    let leaf = chain.map(Chain::leaf);
    let agrees = device
        .agrees(report)
        .and_then(|()| leaf.map_or(Ok(()), |leaf| device.agrees_with_leaf(leaf)))
        .map(|()| format!("report of {} measurements", report.blocks.len()));
    judgement.record(CheckId::Format, agrees);
}

/// Steps 2 to 4: root, chain, validity.
fn chain<'a>(judgement: &mut Judgement<'_>, device: &'a Device) -> Option<Chain<'a>> {
    match Chain::parse(device.certificates.iter().map(Vec::as_slice), &RULES) {
        Err(error) => {
            judgement.record(CheckId::Chain, Err::<&str, _>(error));
            None
        }
        Ok(chain) => {
            judgement.chain(&chain, &RULES);
            Some(chain)
        }
    }
}

/// Step 5: the leaf's key signed request and response (DSP0274 §10.11.2).
fn signature(judgement: &mut Judgement<'_>, report: &DeviceReport<'_>, chain: &Chain<'_>) {
    let (key, signed) = (chain.leaf().key, report.signed);
    let result = crypto::verify(key, Scheme::EcdsaP384, Form::Fixed, signed, report.signature);
    let result = result
        .map(|()| format!("by the key of {}", chain.leaf().subject_text()))
        .map_err(|_| Reason::Signature);
    judgement.record(CheckId::Signature, result);
}

/// Steps 6 and 7: no certificate says that the device is open to debugging; the reported firmware is the certified one.
fn firmware(judgement: &mut Judgement<'_>, report: &DeviceReport<'_>, chain: &Chain<'_>) {
    let found: Result<Vec<_>, _> = chain.certificates().iter().map(Firmware::of).collect();
    let Ok(found) = found else {
        judgement.skip(CheckId::Debug, Why::After(CheckId::FirmwareId));
        return judgement.record(CheckId::FirmwareId, Err::<&str, _>(Reason::Firmware));
    };
    let debug = found.iter().flatten().find_map(Firmware::debug);
    if found.iter().flatten().any(|firmware| firmware.flags.is_some()) {
        judgement.debug(debug, "the certificate's flags say so");
    } else {
        judgement.skip(CheckId::Debug, Why::NoDebugFlag);
    }
    let Some(got) = report.opaque.firmware_id() else {
        return judgement.skip(CheckId::FirmwareId, Why::NoFirmwareId);
    };
    let certified = found.first().copied().flatten().and_then(|firmware| firmware.id);
    let result = match certified {
        Some(expected) if expected == got => Ok("the certified firmware reports"),
        other => Err(Reason::FirmwareId { expected: other.unwrap_or_default().to_vec(), got: got.to_vec() }),
    };
    judgement.record(CheckId::FirmwareId, result);
}

/// Step 8: serial numbers are distinct.
fn serials(judgement: &mut Judgement<'_>, chain: &Chain<'_>) {
    let serials: Vec<_> = chain.certificates().iter().map(|certificate| certificate.serial).collect();
    let twice = serials.iter().enumerate().find_map(|(second, serial)| {
        let first = serials.iter().position(|earlier| earlier == serial)?;
        (first < second).then_some(Reason::Serials { first, second })
    });
    judgement.record(CheckId::Serials, twice.map_or(Ok("distinct"), Err));
}

/// Step 10: driver and firmware.
fn versions(judgement: &mut Judgement<'_>, report: &DeviceReport<'_>, policy: &Policy) {
    let components = [
        ("driver", report.opaque.driver_version(), &policy.driver_versions),
        ("VBIOS", report.opaque.vbios_version(), &policy.vbios_versions),
    ];
    let runs = || {
        let named = components
            .iter()
            .filter_map(|(component, got, _)| Some(format!("{component} {}", got.as_ref()?)));
        named.collect::<Vec<_>>().join(", ")
    };
    if components.iter().all(|(.., allowed)| allowed.is_empty()) {
        return judgement.skip(CheckId::Versions, Why::NoVersions { got: runs() });
    }
    let refused = components.iter().find_map(|(component, got, allowed)| {
        // A switch has no driver of its own; a policy about drivers is about GPUs.
        let got = got.as_ref()?;
        let fits = allowed.is_empty() || allowed.iter().any(|version| version.eq_ignore_ascii_case(got));
        (!fits).then(|| Reason::Versions { component, got: got.clone() })
    });
    judgement.record(CheckId::Versions, refused.map_or_else(|| Ok(runs()), Err));
}

/// Step 13: the device answers the nonce that the CPU's evidence binds.
fn pairing(judgement: &mut Judgement<'_>, report: &DeviceReport<'_>, context: &Context<'_>) {
    match context.pairing {
        None => judgement.skip(CheckId::Pairing, Why::NoPairing),
        Some(expected) if expected == report.nonce => {
            judgement.record(CheckId::Pairing, Ok::<_, Reason>("the nonce that the CPU's evidence binds"));
        }
        Some(expected) => {
            let (expected, got) = (expected.to_vec(), report.nonce.to_vec());
            judgement.record(CheckId::Pairing, Err::<&str, _>(Reason::Pairing { expected, got }));
        }
    }
}

/// Step 16, of all together: a device that reports twice counts once.
fn distinct(judgement: &mut Judgement<'_>, devices: &[Device], context: &Context<'_>) {
    let mut leaves: Vec<_> = devices.iter().filter_map(|device| device.certificates.first()).collect();
    leaves.sort();
    leaves.dedup();
    let got = leaves.len();
    match context.policy.nvidia.own.devices {
        None => judgement.skip(CheckId::Devices, Why::NoDevices { got }),
        Some(expected) if got < expected => {
            judgement.record(CheckId::Devices, Err::<&str, _>(Reason::Devices { expected, got }));
        }
        Some(_) => judgement.record(CheckId::Devices, Ok::<_, Reason>(format!("{got} distinct devices"))),
    }
}

/// What all devices have in common: the measurements that are equal everywhere, the nonce if it is.
fn together(found: Vec<Found>) -> Found {
    let mut found = found.into_iter();
    let Some((mut measurements, mut nonce)) = found.next() else { return Found::default() };
    for (other, other_nonce) in found {
        measurements.retain(|register, value| other.get(register) == Some(value));
        if other_nonce != nonce {
            nonce.clear();
        }
    }
    (measurements, nonce)
}

#[cfg(test)]
mod tests;
