#![allow(clippy::unwrap_used)]

use super::*;
use crate::x509::write::{
    Entity, Span, authority_extensions, extension, good, leaf_extensions, oid, revoked, sequence, unknown,
};

const NOW: u64 = 1_767_225_600;
const SPAN: Span = Span { from: NOW - 1000, to: NOW + 1000 };
const PAST: Span = Span { from: NOW - 1000, to: NOW - 10 };
const FUTURE: Span = Span { from: NOW + 10, to: NOW + 1000 };

fn ocsp_signing(id: &'static str) -> Vec<Vec<u8>> {
    let mut extensions = leaf_extensions();
    extensions.push(extension("2.5.29.37", true, &sequence(&[oid(id)])));
    extensions
}

#[test]
fn an_answer_counts_if_issuer_or_delegate_gave_it_and_it_is_current() {
    let (issuer, subject, delegate) =
        (Entity::new("issuer", 1), Entity::new("subject", 2), Entity::new("delegate", 3));
    let other = Entity::new("issuer", 4);
    let issuer_der = issuer.certify(&issuer, SPAN, &authority_extensions());
    let subject_der = issuer.certify(&subject, SPAN, &leaf_extensions());
    let certified = |span, extensions: &[Vec<u8>]| vec![issuer.certify(&delegate, span, extensions)];
    let (ours, server) = ("1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.1");
    let about = |status, span| [subject.answer(&issuer, status, span)];
    let hold = || revoked(SPAN.from, 6);

    let good_now = Ok(Some(Status::Good { this_update: SPAN.from }));
    let on_hold = Ok(Some(Status::Revoked { since: SPAN.from, reason: "certificateHold" }));
    for (case, response, expected) in [
        ("by the issuer", issuer.respond(&about(good(), SPAN), NOW, &[]), good_now),
        ("on hold", issuer.respond(&about(hold(), SPAN), NOW, &[]), on_hold),
        ("unknown", issuer.respond(&about(unknown(), SPAN), NOW, &[]), Err(OcspError::Unknown)),
        (
            "by a delegate",
            delegate.respond(&about(good(), SPAN), NOW, &certified(SPAN, &ocsp_signing(ours))),
            good_now,
        ),
        (
            "by a web server",
            delegate.respond(&about(good(), SPAN), NOW, &certified(SPAN, &ocsp_signing(server))),
            Err(OcspError::Delegate("no extended key usage OCSPSigning")),
        ),
        (
            "by a delegate of the past",
            delegate.respond(&about(good(), SPAN), NOW, &certified(PAST, &ocsp_signing(ours))),
            Err(OcspError::Delegate("it is out of force")),
        ),
        (
            "by an authority below",
            delegate.respond(
                &about(good(), SPAN),
                NOW,
                &certified(SPAN, &[authority_extensions(), ocsp_signing(ours)[1..].to_vec()].concat()),
            ),
            Err(OcspError::Delegate("it may not sign")),
        ),
        ("by nobody", delegate.respond(&about(good(), SPAN), NOW, &[]), Err(OcspError::Signature)),
        (
            "by the issuer's namesake",
            other.respond(&about(good(), SPAN), NOW, &[]),
            Err(OcspError::Signature),
        ),
        (
            "by a namesake's delegate",
            delegate.respond(
                &about(good(), SPAN),
                NOW,
                &[other.certify(&delegate, SPAN, &ocsp_signing(ours))],
            ),
            Err(OcspError::Signature),
        ),
        (
            "stale",
            issuer.respond(&about(good(), PAST), NOW, &[]),
            Err(OcspError::Stale { next_update: PAST.to }),
        ),
        (
            "of tomorrow",
            issuer.respond(&about(good(), FUTURE), NOW, &[]),
            Err(OcspError::NotYet { this_update: FUTURE.from }),
        ),
        (
            "about another certificate",
            issuer.respond(&[delegate.answer(&issuer, good(), SPAN)], NOW, &[]),
            Ok(None),
        ),
        ("about a namesake's", issuer.respond(&[subject.answer(&other, good(), SPAN)], NOW, &[]), Ok(None)),
    ] {
        let (certificate, issuer) =
            (Certificate::parse(&subject_der).unwrap(), Certificate::parse(&issuer_der).unwrap());
        assert!(is_response(&response), "{case}");
        let parsed = Response::parse(&response).unwrap();
        assert_eq!(parsed.status(&certificate, &issuer, NOW), expected, "{case}");
    }
}

#[test]
fn no_bit_of_a_response_may_change() {
    let (issuer, subject, delegate) =
        (Entity::new("issuer", 1), Entity::new("subject", 2), Entity::new("delegate", 3));
    let issuer_der = issuer.certify(&issuer, SPAN, &authority_extensions());
    let subject_der = issuer.certify(&subject, SPAN, &leaf_extensions());
    let certificates = [issuer.certify(&delegate, SPAN, &ocsp_signing("1.3.6.1.5.5.7.3.9"))];
    let response = delegate.respond(&[subject.answer(&issuer, good(), SPAN)], NOW, &certificates);
    let (certificate, issuer) =
        (Certificate::parse(&subject_der).unwrap(), Certificate::parse(&issuer_der).unwrap());
    for bit in 0..response.len() * 8 {
        let mut changed = response.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let found =
            Response::parse(&changed).and_then(|response| response.status(&certificate, &issuer, NOW));
        assert!(!matches!(found, Ok(Some(_))), "bit {bit}");
    }
    assert!(!is_response(&issuer_der));
    assert_eq!(Response::parse(&[0x30, 3, 0x0a, 1, 6]), Err(OcspError::Unsuccessful(6)));
}
