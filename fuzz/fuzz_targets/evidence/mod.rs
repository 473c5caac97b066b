//! What the targets of evidence share: good development evidence of each form, and what must hold however one of its files is changed.

use hallmark_attestation::simulated::{Form, Provider};
use hallmark_attestation::{
    Attested, Context, Dangers, Decision, Evidence, Kind, Policy, Producer as _, Report, Request, show,
};
use hallmark_receipt::Digest;

/// Before any evidence of real hardware at hand was in force, so that none in the corpus is accepted.
const AT: u64 = 1_590_000_000;

/// Good evidence.
pub struct Seed {
    kind: Kind,
    good: Evidence,
    roots: [Digest; 1],
    policy: Policy,
    attested: Attested,
}

impl Seed {
    pub fn of(form: Form) -> Self {
        let provider = Provider::new(form);
        let nonce = if form.kind() == Kind::Nvidia { vec![7; 32] } else { Vec::new() };
        let good = provider.produce(&Request { nonce, at: AT, ..Request::default() }).unwrap();
        let (roots, policy, kind) = ([provider.root().unwrap()], Policy::genuine(), form.kind());
        let report = judge(kind, &good, &policy, &roots);
        let Decision::Accepted(attested) = report.decision else { panic!("{form:?}: {:?}", report.checks) };
        Self { kind, attested: *attested, good, roots, policy }
    }

    pub fn all(kinds: &[Kind]) -> Vec<Self> {
        Form::ALL.into_iter().filter(|form| kinds.contains(&form.kind())).map(Self::of).collect()
    }

    /// The good evidence with a change: a verifier of hardware takes none of it, and one that takes development roots accepts
    /// nothing but what the good evidence attests.
    pub fn check(&self, change: impl FnOnce(&mut Evidence)) {
        let mut evidence = self.good.clone();
        change(&mut evidence);
        let _ = show(self.kind, &evidence.evidence);
        assert!(!judge(self.kind, &evidence, &self.policy, &[]).is_accepted());
        if let Decision::Accepted(attested) = judge(self.kind, &evidence, &self.policy, &self.roots).decision
        {
            assert_eq!(*attested, self.attested);
        }
    }
}

fn judge(kind: Kind, evidence: &Evidence, policy: &Policy, roots: &[Digest]) -> Report {
    let mut context = Context::new(AT, policy);
    context.dangers = Dangers { accept_simulated: roots, ..Dangers::default() };
    evidence.judge(kind, &context)
}
