//! What the targets of evidence share: good development evidence of each form, and what must hold however one of its files is changed.

use hallmark_attestation::simulated::{DEFAULT_SEED, Form, Provider, roots};
use hallmark_attestation::{
    Attested, Context, Dangers, Decision, Evidence, Kind, Policy, Producer as _, Report, Request, show,
};
use hallmark_receipt::Digest;

/// Before any evidence of real hardware at hand was in force, so that none in the corpus is accepted.
const AT: u64 = 1_590_000_000;

/// Good evidence of some kinds, each with what it attests.
pub struct Seeds {
    good: Vec<(Kind, Evidence, Attested)>,
    roots: Vec<Digest>,
    policy: Policy,
}

impl Seeds {
    /// Of every form of these kinds.
    pub fn of(kinds: &[Kind]) -> Self {
        let mut seeds =
            Self { good: Vec::new(), roots: roots(DEFAULT_SEED).unwrap(), policy: Policy::genuine() };
        for form in Form::ALL.into_iter().filter(|form| kinds.contains(&form.kind())) {
            let nonce = if form.kind() == Kind::Nvidia { vec![7; 32] } else { Vec::new() };
            let request = Request { nonce, at: AT, ..Request::default() };
            let evidence = Provider::new(form).produce(&request).unwrap();
            let report = seeds.judge(form.kind(), &evidence, &seeds.roots);
            let Decision::Accepted(attested) = report.decision else {
                panic!("{form:?}: {:?}", report.checks)
            };
            seeds.good.push((form.kind(), evidence, *attested));
        }
        seeds
    }

    /// Each with a change: a verifier of hardware takes none of it, and one that takes development roots accepts nothing but what the
    /// good evidence attests.
    pub fn check(&self, change: impl Fn(&mut Evidence)) {
        for (kind, good, _) in &self.good {
            let mut evidence = good.clone();
            change(&mut evidence);
            let _ = show(*kind, &evidence.evidence);
            if let Decision::Accepted(attested) = self.judge(*kind, &evidence, &self.roots).decision {
                assert!(self.good.iter().any(|(.., known)| *known == *attested));
                assert!(!self.judge(*kind, &evidence, &[]).is_accepted());
            }
        }
    }

    fn judge(&self, kind: Kind, evidence: &Evidence, roots: &[Digest]) -> Report {
        let mut context = Context::new(AT, &self.policy);
        context.dangers = Dangers { accept_simulated: roots, ..Dangers::default() };
        evidence.judge(kind, &context)
    }
}
