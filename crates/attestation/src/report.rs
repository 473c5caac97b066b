//! Reports: the checks of one piece of evidence, and what follows from them.

use hallmark_receipt::Digest;
use hallmark_receipt::time::when;

use crate::bytes::is_zero;
use crate::check::{Check, CheckId, Outcome, Reason, Why};
use crate::measurement::Measurements;
use crate::policy::{Policy, Section};
use crate::x509::ocsp::{self, Status};
use crate::x509::{Certificate, Chain, Crl, CrlError, Memo, Rules};
use crate::{Kind, anchors, rego};

/// What the verifier knows and wants.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time to judge at, in seconds since 1970.
    pub at: u64,
    /// What is asked for.
    pub policy: &'a Policy,
    /// The nonce that the verifier chose.
    pub nonce: Option<&'a [u8]>,
    /// The report data (user data, of Nitro) that binds the keys which the verifier knows.
    pub binding: Option<&'a [u8]>,
    /// The nonce that the CPU's evidence binds for the devices attached to it.
    pub pairing: Option<&'a [u8]>,
    /// A policy in Rego, which must take what all else accepts.
    pub rego: Option<&'a rego::Policy>,
    /// What is accepted beyond production hardware.
    pub dangers: Dangers<'a>,
    /// Checks of what came with the evidence, which belong into its report.
    pub beside: &'a [Check],
    /// Signatures of authorities that held before, for a verifier of much evidence. Without one every signature is checked; with
    /// one the report is the same.
    pub memo: Option<&'a Memo>,
}

/// What no verifier should accept but to try things out. Nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dangers<'a> {
    /// The SHA-256 of development roots, which anybody can sign with; reports then say SIMULATED.
    pub accept_simulated: &'a [Digest],
    /// Evidence of debug mode, where the policy says so too.
    pub accept_debug: bool,
}

impl<'a> Context<'a> {
    /// Judges at `at` by `policy`, and knows nothing else.
    pub fn new(at: u64, policy: &'a Policy) -> Self {
        Self {
            at,
            policy,
            nonce: None,
            binding: None,
            pairing: None,
            rego: None,
            dangers: Dangers::default(),
            beside: &[],
            memo: None,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The kind of evidence.
    pub kind: Kind,
    /// The policy's name.
    pub policy: String,
    /// The time it was judged at, in seconds since 1970.
    pub at: u64,
    /// Whether it ends in a development root: then nothing in it comes from hardware.
    pub simulated: bool,
    /// Every check, in the order of [`CheckId`].
    pub checks: Vec<Check>,
    /// What follows.
    pub decision: Decision,
}

/// What follows from the checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing failed, and all that is required passed.
    Accepted(Box<Attested>),
    /// A check failed.
    Rejected,
    /// Nothing failed, but these required checks were not made.
    Undecided(Vec<CheckId>),
}

/// What accepted evidence attests. Only a report can make one.
#[derive(Clone, Debug, PartialEq)]
pub struct Attested {
    kind: Kind,
    simulated: bool,
    measurements: Measurements,
    data: Vec<u8>,
    made: Option<u64>,
}

impl Attested {
    /// The kind of evidence.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether no hardware stands behind it.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// What runs.
    pub fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// The report data (user data, of Nitro): what the environment binds itself to.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// When the hardware made it, in seconds since 1970, where it says so.
    pub fn made(&self) -> Option<u64> {
        self.made
    }
}

impl Report {
    /// The check `id`, if the evidence could be read that far.
    pub fn check(&self, id: CheckId) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }

    /// Whether the evidence is accepted.
    pub fn is_accepted(&self) -> bool {
        matches!(self.decision, Decision::Accepted(_))
    }

    /// The process exit code: 0 accepted, 1 rejected, 3 undecided.
    pub fn exit_code(&self) -> u8 {
        match self.decision {
            Decision::Accepted(_) => 0,
            Decision::Rejected => 1,
            Decision::Undecided(_) => 3,
        }
    }

    /// The reasons of the checks that failed.
    pub fn reasons(&self) -> impl Iterator<Item = (CheckId, &Reason)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            crate::Outcome::Failed(reason) => Some((check.id, reason)),
            _ => None,
        })
    }
}

/// A report in the making: the checks as they are made, and the rows that every kind has.
pub(crate) struct Judgement<'a> {
    kind: Kind,
    context: &'a Context<'a>,
    /// The section of the policy.
    common: Common<'a>,
    checks: Vec<Check>,
    simulated: bool,
    made: Option<u64>,
    /// What the evidence says, of each device: for a policy in Rego alone.
    claims: Vec<rego::Claims>,
    /// Whether the signed part says SIMULATED; to be set before the root is looked at.
    pub marked: bool,
}

/// What every section of a policy has.
#[derive(Clone, Copy)]
pub(crate) struct Common<'a> {
    require: &'a [CheckId],
    measurements: &'a [crate::measurement::Release],
    max_age_seconds: Option<u64>,
    accept_debug: bool,
}

impl<'a, S> From<&'a Section<S>> for Common<'a> {
    fn from(section: &'a Section<S>) -> Self {
        Self {
            require: &section.require,
            measurements: &section.measurements,
            max_age_seconds: section.max_age_seconds,
            accept_debug: section.dangerously_accept_debug,
        }
    }
}

impl<'a> Judgement<'a> {
    pub fn new(kind: Kind, context: &'a Context<'a>, common: Common<'a>) -> Self {
        let (checks, claims) = (context.beside.to_vec(), Vec::new());
        Self { kind, context, common, checks, simulated: false, made: None, claims, marked: false }
    }

    /// Records a check that was made.
    pub fn record<R: Into<Reason>>(&mut self, id: CheckId, result: Result<impl Into<String>, R>) {
        self.checks.push(Check::of(id, result));
    }

    /// Records a check that was not made.
    pub fn skip(&mut self, id: CheckId, why: Why) {
        self.checks.push(Check::not_checked(id, why));
    }

    /// Whether `id` was made and passed.
    pub fn passed(&self, id: CheckId) -> bool {
        self.checks.iter().any(|check| check.id == id && check.has_passed())
    }

    /// The name of the pinned root of this kind that the certificate is. A development root goes with the mark, and no other does.
    pub fn find_root(&mut self, certificate: &[u8]) -> Result<&'static str, Reason> {
        let found = anchors::find(self.kind, certificate, self.context.dangers.accept_simulated);
        self.anchored(found, self.marked, certificate)
    }

    /// The same of a reference manifest, which has a mark of its own.
    pub fn find_reference_root(&mut self, certificate: &[u8], marked: bool) -> Result<&'static str, Reason> {
        let found = anchors::find_reference(certificate, self.context.dangers.accept_simulated);
        self.anchored(found, marked, certificate)
    }

    fn anchored(
        &mut self,
        found: Option<anchors::Anchor>,
        marked: bool,
        certificate: &[u8],
    ) -> Result<&'static str, Reason> {
        self.simulated |= found.is_some_and(|anchor| anchor.simulated);
        match found {
            Some(anchor) if anchor.simulated && !marked => Err(Reason::Unmarked),
            Some(anchor) if !anchor.simulated && marked => Err(Reason::Marked),
            Some(anchor) => Ok(anchor.name),
            None => {
                let got = Digest::of(&[certificate]);
                Err(if anchors::is_development(got) {
                    Reason::SimulatedRoot { got }
                } else {
                    Reason::UnknownRoot { got }
                })
            }
        }
    }

    /// Whether the row `id` is there.
    pub fn made(&self, id: CheckId) -> bool {
        self.checks.iter().any(|check| check.id == id)
    }

    /// The time it is judged at.
    pub fn at(&self) -> u64 {
        self.context.at
    }

    /// Whether the policy asks for `id`.
    pub fn requires(&self, id: CheckId) -> bool {
        self.common.require.contains(&id)
    }

    /// What is known of signatures under pinned roots; of others nothing is looked up and nothing kept.
    pub fn memo(&self) -> Option<&'a Memo> {
        self.context.memo.filter(|_| self.passed(CheckId::Root))
    }

    /// §3.2: the certificate is a pinned root of this kind.
    pub fn root(&mut self, certificate: &[u8]) {
        let root = self.find_root(certificate);
        self.record(CheckId::Root, root);
    }

    /// §3.2 to §3.4: root, chain, validity.
    pub fn chain(&mut self, chain: &Chain<'_>, rules: &Rules) {
        self.root(chain.root().der);
        let length = chain.certificates().len();
        let holds = chain.verify(rules, self.memo());
        self.record(CheckId::Chain, holds.map(|()| format!("{length} certificates")));
        let validity = chain.verify_validity(self.context.at).map(|()| {
            let (from, to) = chain.validity();
            format!("all in force from {} to {}", when(from), when(to))
        });
        self.record(CheckId::Validity, validity);
    }

    /// §3.5: no certificate below a root is revoked, by the lists and responses in `collateral`. Of each chain, leaf first, the
    /// certificates below `first` have nobody who answers for them.
    pub fn revocation<'c>(&mut self, first: usize, chains: &[&'c Chain<'c>], collateral: &'c [Vec<u8>]) {
        let mut known = match Revocations::parse(collateral) {
            Ok(known) => known,
            Err(reason) => return self.record(CheckId::Revocation, Err::<&str, _>(reason)),
        };
        let pairs = || {
            chains.iter().flat_map(|chain| {
                let certificates = chain.certificates();
                certificates.iter().zip(certificates.iter().skip(1)).enumerate()
            })
        };
        let mut oldest = u64::MAX;
        for (at, (certificate, issuer)) in pairs().filter(|(at, _)| *at >= first) {
            match known.unrevoked(at, certificate, issuer, self.context.at) {
                Err(reason) => return self.record(CheckId::Revocation, Err::<&str, _>(reason)),
                // A list of nobody in the chains may be the missing one, changed.
                Ok(None)
                    if known.has_stranger(|name| pairs().any(|(_, (_, known))| known.subject == name)) =>
                {
                    return self.record(CheckId::Revocation, Err::<&str, _>(CrlError::Issuer));
                }
                Ok(None) => return self.skip(CheckId::Revocation, Why::NoRevocationList { at }),
                Ok(Some(as_of)) => oldest = oldest.min(as_of),
            }
        }
        self.record(CheckId::Revocation, Ok::<_, Reason>(format!("none revoked, as of {}", when(oldest))));
    }

    /// §3.5, of a chain beside the evidence's own: as of when none of its certificates is revoked, where that is known of each.
    pub fn unrevoked<'c>(&self, chain: &Chain<'c>, collateral: &'c [Vec<u8>]) -> Result<Option<u64>, Reason> {
        let mut known = Revocations::parse(collateral)?;
        let certificates = chain.certificates();
        let mut oldest = Some(u64::MAX);
        for (at, (certificate, issuer)) in certificates.iter().zip(certificates.iter().skip(1)).enumerate() {
            let as_of = known.unrevoked(at, certificate, issuer, self.context.at)?;
            oldest = oldest.zip(as_of).map(|(earlier, as_of)| earlier.min(as_of));
        }
        Ok(oldest)
    }

    /// §3.7: `debug` says how debug mode shows, if it does.
    pub fn debug(&mut self, debug: Option<&'static str>, off: &str) {
        let accepted = self.common.accept_debug && self.context.dangers.accept_debug;
        let result = match debug {
            None => Ok(off.to_owned()),
            Some(what) if accepted => Ok(format!("DEBUG MODE, accepted as you asked: {what}")),
            Some(what) => Err(Reason::Debug { what }),
        };
        self.record(CheckId::Debug, result);
    }

    /// §3.8: a release of the policy runs.
    pub fn measurements(&mut self, got: &Measurements) {
        let releases = self.common.measurements;
        if releases.is_empty() {
            return self.skip(CheckId::Measurements, Why::NoMeasurements);
        }
        let results: Vec<_> = releases.iter().map(|release| difference(release, got)).collect();
        let fits = results.iter().zip(releases).find(|(result, _)| result.is_none());
        let result = match (fits, results.first()) {
            (Some((_, release)), _) => Ok(format!("release `{}`", release.name)),
            // What differs is said of the first release: a policy has one more often than not.
            (None, Some(Some(reason))) => Err(reason.clone()),
            (None, _) => return self.skip(CheckId::Measurements, Why::NoMeasurements),
        };
        self.record(CheckId::Measurements, result);
    }

    /// §3.10: `got` is the verifier's nonce.
    pub fn nonce(&mut self, got: &[u8]) {
        match self.context.nonce {
            None => self.skip(CheckId::Nonce, Why::NoNonce),
            Some(expected) if expected == got => self.record(CheckId::Nonce, Ok::<_, Reason>("yours")),
            Some(expected) => {
                let (expected, got) = (expected.to_vec(), got.to_vec());
                self.record(CheckId::Nonce, Err::<&str, _>(Reason::Nonce { expected, got }));
            }
        }
    }

    /// §3.10, where the nonce is the beginning of `field`, and there are zeros behind it.
    pub fn padded_nonce(&mut self, field: &[u8]) {
        self.nonce(self.context.nonce.filter(|nonce| is_padded(field, nonce)).unwrap_or(field));
    }

    /// §3.11: `field` binds the keys that the verifier knows.
    pub fn binding(&mut self, field: &'static str, got: &[u8]) {
        match self.context.binding {
            None => self.skip(CheckId::Binding, Why::NoBinding),
            Some(expected) if expected == got => {
                self.record(CheckId::Binding, Ok::<_, Reason>(format!("{field} is as expected")));
            }
            Some(expected) => {
                let (expected, got) = (expected.to_vec(), got.to_vec());
                self.record(CheckId::Binding, Err::<&str, _>(Reason::Binding { field, expected, got }));
            }
        }
    }

    /// §3.12: made at `made` (seconds since 1970), if the evidence says so.
    pub fn age(&mut self, made: Option<u64>) {
        self.made = made;
        let Some(made) = made else { return self.skip(CheckId::Age, Why::Timeless) };
        let text = when(made);
        let result = match self.common.max_age_seconds {
            _ if made > self.context.at => Err(Reason::FromTheFuture { made: text }),
            None => return self.skip(CheckId::Age, Why::NoAgeLimit { made: text }),
            Some(limit_seconds) if self.context.at.saturating_sub(made) > limit_seconds => {
                Err(Reason::TooOld { made: text, limit_seconds })
            }
            Some(_) => Ok(format!("made {text}")),
        };
        self.record(CheckId::Age, result);
    }

    /// Keeps what the evidence says for a policy in Rego, if there is one (§13).
    pub fn claim(&mut self, claims: impl FnOnce() -> rego::Claims) {
        if self.context.rego.is_some() {
            self.claims.push(claims());
        }
    }

    /// §13: the policy in Rego takes what all else accepts: nothing failed, and `lacking` is empty.
    fn rego(&self, lacking: &[CheckId], measurements: Option<&Measurements>) -> Option<Check> {
        let Some(policy) = self.context.rego else {
            let required = self.common.require.contains(&CheckId::Rego);
            return required.then(|| Check::not_checked(CheckId::Rego, Why::NoRego));
        };
        let believed = lacking.is_empty() && !self.checks.iter().any(Check::has_failed);
        let Some(measurements) = measurements.filter(|_| believed) else {
            return Some(Check::not_checked(CheckId::Rego, Why::NotBelieved));
        };
        let (kind, at, simulated) = (self.kind, self.context.at, self.simulated);
        let common = rego::common(kind, at, simulated, &self.checks, measurements);
        let result = policy.judge(&self.claims, &common, at);
        Some(Check::of(CheckId::Rego, result))
    }

    /// Takes over the checks of one of several devices: a check passes if it passed for every device.
    pub fn absorb(&mut self, device: usize, other: Self) {
        self.simulated |= other.simulated;
        self.claims.extend(other.claims);
        for check in other.checks {
            let check = match check.outcome {
                Outcome::Failed(reason) => {
                    Check::failed(check.id, Reason::Device { device, reason: Box::new(reason) })
                }
                _ => check,
            };
            let weight = |check: &Check| (check.has_failed(), !check.has_passed());
            match self.checks.iter_mut().find(|earlier| earlier.id == check.id) {
                None => self.checks.push(check),
                Some(earlier) if weight(&check) > weight(earlier) => *earlier = check,
                Some(_) => {}
            }
        }
    }

    /// The decision. `always` must pass whatever the policy says; `attested` is what the evidence says if it is accepted.
    pub fn finish(mut self, always: &[CheckId], attested: Option<(Measurements, Vec<u8>)>) -> Report {
        self.checks.sort_by_key(|check| check.id);
        let mut required: Vec<CheckId> = always.iter().chain(self.common.require).copied().collect();
        required.retain(|id| !self.passed(*id) && *id != CheckId::Rego);
        let row = self.rego(&required, attested.as_ref().map(|(measurements, _)| measurements));
        // The row is there because it is required.
        required.extend(row.iter().filter(|row| !row.has_passed()).map(|row| row.id));
        self.checks.extend(row);
        required.sort();
        required.dedup();
        let (kind, simulated, made) = (self.kind, self.simulated, self.made);
        let decision = match attested {
            _ if self.checks.iter().any(Check::has_failed) => Decision::Rejected,
            Some((measurements, data)) if required.is_empty() => {
                Decision::Accepted(Box::new(Attested { kind, simulated, measurements, data, made }))
            }
            _ => Decision::Undecided(required),
        };
        let (policy, at) = (self.context.policy.name.clone(), self.context.at);
        Report { kind, policy, at, simulated, checks: self.checks, decision }
    }
}

/// What authorities say of their certificates.
struct Revocations<'a> {
    /// Each with the certificate of the issuer that it has been verified by.
    lists: Vec<(Crl<'a>, Option<&'a [u8]>)>,
    responses: Vec<ocsp::Response<'a>>,
}

impl<'a> Revocations<'a> {
    fn parse(collateral: &'a [Vec<u8>]) -> Result<Self, Reason> {
        let (mut lists, mut responses) = (Vec::new(), Vec::new());
        for item in collateral {
            if ocsp::is_response(item) {
                responses.push(ocsp::Response::parse(item)?);
            } else {
                lists.push((Crl::parse(item)?, None));
            }
        }
        Ok(Self { lists, responses })
    }

    /// Whether there is a list of an authority that is not `known`.
    fn has_stranger(&self, known: impl Fn(&[u8]) -> bool) -> bool {
        self.lists.iter().any(|(list, _)| !known(list.issuer))
    }

    /// As of when `certificate` is known not to be revoked. One word that it is revoked counts more than any that it is not.
    fn unrevoked(
        &mut self,
        at: usize,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'a>,
        now: u64,
    ) -> Result<Option<u64>, Reason> {
        let mut as_of = None;
        for response in &self.responses {
            match response.status(certificate, issuer, now)? {
                Some(Status::Good { this_update }) => as_of = as_of.max(Some(this_update)),
                Some(Status::Revoked { since, reason }) => {
                    return Err(Reason::Revoked { at, since: format!("{}: {reason}", when(since)) });
                }
                None => {}
            }
        }
        for (list, verified_by) in self.lists.iter_mut().filter(|(list, _)| list.issuer == issuer.subject) {
            if *verified_by != Some(issuer.der) {
                list.verify(issuer, now)?;
                *verified_by = Some(issuer.der);
            }
            if let Some(since) = list.revocation(certificate.serial) {
                return Err(Reason::Revoked { at, since: when(since) });
            }
            as_of = as_of.max(Some(list.this_update));
        }
        Ok(as_of)
    }
}

/// Whether `field` is `start`, which is not empty, and zeros.
pub(crate) fn is_padded(field: &[u8], start: &[u8]) -> bool {
    !start.is_empty() && field.strip_prefix(start).is_some_and(is_zero)
}

/// How what runs differs from a release.
fn difference(release: &crate::measurement::Release, got: &Measurements) -> Option<Reason> {
    release.registers.iter().find_map(|(&register, expected)| match got.get(&register) {
        None => Some(Reason::NoRegister { register }),
        Some(got) if got == expected => None,
        Some(got) => Some(Reason::Measurements { register, expected: expected.clone(), got: got.clone() }),
    })
}
