//! Who signed, and when (`receipt.md` §13.2 - §13.6).

use hallmark_attestation::{Decision, Report};
use hallmark_receipt::{Bundle, Certificate, Purpose, Receipt};

use super::{Context, when};
use crate::check::{Check, CheckId, Reason, Why};
use crate::policy::Policy;

/// Step 2: exactly one certificate, signed by the identity that it names, for receipts, in force at the claimed time, by the
/// node that the claim names. Gives the certificate as soon as its own signature holds.
pub fn certificate(bundle: &Bundle, receipt: &Receipt, checks: &mut Vec<Check>) -> Option<Certificate> {
    let id = CheckId::Certificate;
    let [envelope] = bundle.certificates.as_slice() else {
        checks.push(Check::failed(id, Reason::CertificateCount { got: bundle.certificates.len() }));
        return None;
    };
    let certificate = match Certificate::verify(envelope) {
        Ok(certificate) => certificate,
        Err(error) => {
            checks.push(Check::failed(id, Reason::Certificate(error)));
            return None;
        }
    };
    let (expected, got) = (receipt.claim.node, certificate.identity.id());
    let failed = if certificate.purpose != Purpose::Receipt {
        Some(Reason::Purpose { got: certificate.purpose })
    } else if expected != got {
        Some(Reason::OtherNode { expected, got })
    } else if !certificate.is_valid_at(receipt.time) {
        Some(Reason::NotInForce {
            not_before: when(certificate.not_before),
            not_after: when(certificate.not_after),
            time: when(receipt.time),
        })
    } else {
        None
    };
    checks.push(match failed {
        Some(reason) => Check::failed(id, reason),
        None => Check::passed(
            id,
            format!("node {got} certifies {} key {}", certificate.key.alg(), certificate.key.id()),
        ),
    });
    Some(certificate)
}

/// Step 3: no revocation that the verifier holds applies.
pub fn revocation(certificate: Option<&Certificate>, receipt: &Receipt, context: &Context) -> Check {
    let id = CheckId::Revocation;
    let Some(certificate) = certificate else { return after(id) };
    let Some(revocations) = &context.revocations else { return Check::not_checked(id, Why::NoRevocations) };
    match revocations.iter().find(|revocation| revocation.applies(certificate, receipt.time)) {
        None => Check::passed(id, "not among the revocations given"),
        Some(revocation) => Check::failed(
            id,
            Reason::Revoked { key: revocation.key, reason: revocation.reason, since: when(revocation.time) },
        ),
    }
}

/// Step 4: the identity is one that the verifier trusts. What came with the bundle cannot make this pass.
pub fn identity(certificate: Option<&Certificate>, policy: &Policy, context: &Context) -> Check {
    let id = CheckId::Identity;
    let Some(certificate) = certificate else { return after(id) };
    let got = certificate.identity.id();
    for named in [&context.trust.named, &policy.identities] {
        if !named.is_empty() && !named.contains(&got) {
            return Check::failed(id, Reason::NotTrusted { expected: named.clone(), got });
        }
    }
    let trusted = [&context.trust.named, &policy.identities, &context.trust.known];
    if trusted.iter().any(|list| list.contains(&got)) {
        Check::passed(id, format!("{got}, which you trust"))
    } else {
        Check::not_checked(id, Why::UnknownIdentity(got))
    }
}

/// Step 5: the claimed time is not impossible. That it is true, nothing outside the node says; hardware may say what it is not before.
pub fn time(receipt: &Receipt, policy: &Policy, context: &Context, hardware: Option<&Report>) -> Check {
    let id = CheckId::Time;
    let (time, now) = (receipt.time, context.now);
    if time > now.saturating_add(policy.clock_skew_seconds.saturating_mul(1000)) {
        return Check::failed(id, Reason::FromTheFuture { time: when(time), now: when(now) });
    }
    if let Some(limit_seconds) = policy.max_age_seconds
        && now.saturating_sub(time) > limit_seconds.saturating_mul(1000)
    {
        return Check::failed(id, Reason::TooOld { time: when(time), now: when(now), limit_seconds });
    }
    let time = when(time);
    let made = hardware.and_then(|report| match &report.decision {
        Decision::Accepted(attested) => Some((report.kind, attested.made()?)),
        _ => None,
    });
    Check::not_checked(
        id,
        match made {
            Some((kind, made)) => Why::NotBefore { time, made: hallmark_receipt::time::when(made), kind },
            None => Why::NodesWord { time },
        },
    )
}

/// Step 6: the certified key signed the envelope.
pub fn signature(bundle: &Bundle, certificate: Option<&Certificate>) -> Check {
    let id = CheckId::Signature;
    let Some(certificate) = certificate else { return after(id) };
    match bundle.envelope.verify(&certificate.key) {
        Ok(()) => Check::passed(id, format!("{} by key {}", bundle.envelope.alg, bundle.envelope.key_id)),
        Err(error) => Check::failed(id, Reason::Signature(error)),
    }
}

fn after(id: CheckId) -> Check {
    Check::not_checked(id, Why::After(CheckId::Certificate))
}
