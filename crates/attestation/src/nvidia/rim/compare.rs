//! The row `rim`: what a device measured is what NVIDIA published about what it runs (`attestation.md` §7.13).

use std::collections::BTreeMap;

use hallmark_receipt::time::when;

use super::{Component, ReferenceManifest, RimError};
use crate::check::{CheckId, Reason, Why};
use crate::crypto::{self, Form, Scheme};
use crate::nvidia::DeviceReport;
use crate::report::Judgement;
use crate::x509::{Chain, Rules};

/// Signer, two authorities, root is what NVIDIA issues.
const RULES: Rules = Rules { longest: 8, schemes: &[Scheme::EcdsaP384], known: &[] };

/// The block that says nothing while the first decoder is off (NVIDIA's verifiers: index 35, counted from 0).
const DECODER_BLOCK: u8 = 36;

/// How the row comes out unless it fails: passed, or not made.
type Outcome = Result<String, Why>;

/// Makes the row of one device, whose chip is `chip`.
pub(in crate::nvidia) fn compare(
    judgement: &mut Judgement<'_>,
    report: &DeviceReport<'_>,
    chip: &str,
    manifests: &Result<Vec<ReferenceManifest>, RimError>,
    revocations: &[Vec<u8>],
) {
    let manifests = manifests.as_ref().map_err(|error| Reason::Rim(error.clone()));
    match manifests.and_then(|manifests| outcome(judgement, report, chip, manifests, revocations)) {
        Ok(Ok(found)) => judgement.record(CheckId::Rim, Ok::<_, Reason>(found)),
        Ok(Err(why)) => judgement.skip(CheckId::Rim, why),
        Err(reason) => judgement.record(CheckId::Rim, Err::<&str, _>(reason)),
    }
}

fn outcome(
    judgement: &mut Judgement<'_>,
    report: &DeviceReport<'_>,
    chip: &str,
    manifests: &[ReferenceManifest],
    revocations: &[Vec<u8>],
) -> Result<Outcome, Reason> {
    if manifests.is_empty() {
        return Ok(Err(Why::NoRim));
    }
    // 1. The manifests of what runs. A switch has no driver of its own.
    let (mut found, mut missing) = (Vec::new(), None);
    let versions = [
        (Component::Driver, report.opaque.driver_version()),
        (Component::Firmware, report.opaque.vbios_version()),
    ];
    for (component, version) in versions {
        let Some(version) = version else { continue };
        match choose(manifests, component, &version, chip)? {
            Some(manifest) => found.push(manifest),
            None => missing = missing.or(Some(Why::NoRimOf { component, version })),
        }
    }
    // 2. Who signed them.
    let mut as_of = Some(u64::MAX);
    for manifest in &found {
        let known = signed(judgement, manifest, revocations)?;
        as_of = as_of.zip(known).map(|(earlier, known)| earlier.min(known));
    }
    // 3. Each reference and the report's block.
    let equal = equal(report, &found)?;
    // 4. What is not known after all.
    let unread = found.iter().find_map(|manifest| manifest.unread.clone());
    let unrevoked = match as_of {
        Some(as_of) => format!("none of its signers revoked, as of {}", when(as_of)),
        None => "whether its signers are revoked is not known".to_owned(),
    };
    Ok(match (missing, unread) {
        (Some(why), _) => Err(why),
        _ if found.is_empty() => Err(Why::NoRim),
        (_, Some(got)) => Err(Why::RimUnread { got }),
        _ if as_of.is_none() && judgement.requires(CheckId::Revocation) => Err(Why::NoRimRevocation),
        _ => {
            let about: Vec<_> =
                found.iter().map(|rim| format!("{} {}", rim.component, rim.version)).collect();
            Ok(format!("{equal} measurements as published for {}; {unrevoked}", about.join(" and ")))
        }
    })
}

/// The manifest of this version, of this chip's where there are several; an error where all that are there are of others.
fn choose<'m>(
    manifests: &'m [ReferenceManifest],
    component: Component,
    version: &str,
    chip: &str,
) -> Result<Option<&'m ReferenceManifest>, RimError> {
    let mut of_component = manifests.iter().filter(|manifest| manifest.component == component);
    let fits = |manifest: &&ReferenceManifest| manifest.version.eq_ignore_ascii_case(version);
    let own = of_component.clone().filter(fits).find(|manifest| manifest.product == chip);
    match own.or_else(|| of_component.clone().find(fits)) {
        Some(manifest) => Ok(Some(manifest)),
        None => match of_component.next() {
            None => Ok(None),
            Some(other) => {
                Err(RimError::Version { component, expected: version.to_owned(), got: other.version.clone() })
            }
        },
    }
}

/// NVIDIA signed it. As of when none of its signer's certificates is revoked, where that is known.
pub(super) fn signed(
    judgement: &mut Judgement<'_>,
    manifest: &ReferenceManifest,
    revocations: &[Vec<u8>],
) -> Result<Option<u64>, Reason> {
    let (whose, signature) = (manifest.component.whose(), &manifest.signature);
    let refuse = |error| Reason::ChainOf { whose, error };
    let certificates = signature.certificates.iter().map(Vec::as_slice);
    let chain = Chain::parse(certificates, &RULES).map_err(refuse)?;
    judgement.find_reference_root(chain.root().der, manifest.is_marked)?;
    chain.verify(&RULES, judgement.memo()).map_err(refuse)?;
    chain.verify_validity(judgement.at()).map_err(refuse)?;
    let (key, message) = (chain.leaf().key, signature.signed.as_bytes());
    crypto::verify(key, Scheme::EcdsaP384, Form::Fixed, message, &signature.value)
        .map_err(|_| RimError::Signature(whose))?;
    judgement.unrevoked(&chain, revocations)
}

/// How many blocks have references, all of which are one of them.
pub(super) fn equal(report: &DeviceReport<'_>, manifests: &[&ReferenceManifest]) -> Result<usize, RimError> {
    let mut references = BTreeMap::new();
    for manifest in manifests {
        if manifest.references.is_empty() {
            return Err(RimError::Empty(manifest.component.whose()));
        }
        for (index, values) in &manifest.references {
            if references.insert(*index, (manifest.component.whose(), values)).is_some() {
                return Err(RimError::Collision(*index));
            }
        }
    }
    if report.opaque.is_decoder_off() {
        references.remove(&DECODER_BLOCK);
    }
    for (&index, &(manifest, values)) in &references {
        let block = report.blocks.iter().find(|block| block.index == index);
        let block = block.ok_or(RimError::NoBlock { index, manifest })?;
        if !values.iter().any(|value| value == block.value) {
            let (expected, got) = (values.clone(), block.value.to_vec());
            return Err(RimError::Measurement { index, manifest, expected, got });
        }
    }
    Ok(references.len())
}
