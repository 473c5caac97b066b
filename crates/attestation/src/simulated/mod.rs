//! The development provider (`attestation.md` §11): evidence of every kind made without hardware, valid or with one flaw, under
//! roots of our own. The same verifiers read it; nothing in them is made for it but the roots and the mark.
//!
//! Everything comes from a seed and from what is asked for: the same request gives the same bytes.
//!
//! ```
//! use hallmark_attestation::simulated::{Flaw, Form, Provider};
//! use hallmark_attestation::{CheckId, Context, Dangers, Kind, Policy, Producer, Request};
//!
//! # fn main() -> Result<(), hallmark_attestation::ProduceError> {
//! let provider = Provider::new(Form::Nitro);
//! let request = Request { report_data: b"a key".to_vec(), nonce: vec![7; 32], at: 1_770_000_000 };
//! let evidence = provider.produce(&request)?;
//! let (policy, roots) = (Policy::genuine(), [provider.root()?]);
//! let mut context = Context::new(request.at, &policy);
//! // Nobody takes it who does not ask for it.
//! assert!(!evidence.judge(Kind::Nitro, &context).is_accepted());
//! context.dangers = Dangers { accept_simulated: &roots, ..Dangers::default() };
//! let report = evidence.judge(Kind::Nitro, &context);
//! assert!(report.is_accepted() && report.simulated);
//! // With a flaw nobody takes it at all.
//! let broken = provider.with_flaw(Flaw::LeafExpired).produce(&request)?;
//! assert!(broken.judge(Kind::Nitro, &context).check(CheckId::Validity).is_some_and(|check| check.has_failed()));
//! # Ok(())
//! # }
//! ```

mod dcap;
mod flaw;
mod nitro;
mod nvidia;
mod pki;
mod rim;
mod snp;

use hallmark_receipt::{Digest, domain};

pub use flaw::Flaw;

use crate::Kind;
use crate::measurement::{Measurements, Register};
use crate::producer::{Evidence, ProduceError, Producer, Request};
use pki::{Curve, Rung};

/// What all keys of a provider come from.
pub type Seed = [u8; 32];

/// The seed that everybody has.
pub const DEFAULT_SEED: Seed = *b"SIMULATED hallmark development 1";

/// What every certificate's subject says, and the signed part of all evidence.
pub const MARK: &str = "SIMULATED";

/// The forms of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Form {
    /// A Nitro document.
    Nitro,
    /// A TDX quote of version 4, TDX 1.0.
    TdxV4,
    /// A TDX quote of version 5, TDX 1.5.
    TdxV5,
    /// An SGX quote of version 3.
    Sgx,
    /// A SEV-SNP report of version 2 by a VCEK, of Milan.
    SnpV2,
    /// Of version 3 by a VCEK, of Genoa.
    SnpV3,
    /// Of version 5 by a VCEK, of Turin.
    SnpV5,
    /// Of version 3 by a VLEK, of Milan.
    SnpVlek,
    /// A report of a Hopper GPU.
    Nvidia,
}

impl Form {
    /// Every form, in order; the first one of a kind is its usual one.
    pub const ALL: [Self; 9] = [
        Self::Nitro,
        Self::TdxV4,
        Self::TdxV5,
        Self::Sgx,
        Self::SnpV2,
        Self::SnpV3,
        Self::SnpV5,
        Self::SnpVlek,
        Self::Nvidia,
    ];

    /// Its name, on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nitro => "nitro",
            Self::TdxV4 => "tdx-v4",
            Self::TdxV5 => "tdx-v5",
            Self::Sgx => "sgx-v3",
            Self::SnpV2 => "sev-snp-v2",
            Self::SnpV3 => "sev-snp-v3",
            Self::SnpV5 => "sev-snp-v5",
            Self::SnpVlek => "sev-snp-vlek",
            Self::Nvidia => "nvidia",
        }
    }

    /// The form of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }

    /// The kind of evidence.
    pub fn kind(self) -> Kind {
        match self {
            Self::Nitro => Kind::Nitro,
            Self::TdxV4 | Self::TdxV5 => Kind::Tdx,
            Self::Sgx => Kind::Sgx,
            Self::SnpV2 | Self::SnpV3 | Self::SnpV5 | Self::SnpVlek => Kind::SevSnp,
            Self::Nvidia => Kind::Nvidia,
        }
    }

    /// The usual form of a kind.
    pub fn of(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.kind() == kind)
    }

    fn root(self) -> (Curve, Rung) {
        match self {
            Self::Nitro => (Curve::P384, nitro::root()),
            Self::TdxV4 | Self::TdxV5 | Self::Sgx => (Curve::P256, dcap::root()),
            Self::SnpV2 | Self::SnpV3 | Self::SnpV5 | Self::SnpVlek => (Curve::P384, snp::root(self)),
            Self::Nvidia => (Curve::P384, nvidia::root()),
        }
    }
}

/// Makes evidence of one form.
#[derive(Clone, Debug)]
pub struct Provider {
    seed: Seed,
    form: Form,
    measurements: Measurements,
    flaw: Option<Flaw>,
    distribution_points: bool,
    reference_manifests: bool,
}

impl Provider {
    /// With the default seed and measurements of its own, without a flaw.
    pub fn new(form: Form) -> Self {
        Self {
            seed: DEFAULT_SEED,
            form,
            measurements: Measurements::new(),
            flaw: None,
            distribution_points: false,
            reference_manifests: false,
        }
    }

    /// With another seed.
    #[must_use]
    pub fn with_seed(self, seed: Seed) -> Self {
        Self { seed, ..self }
    }

    /// With these measurements; registers that are not named keep their own.
    #[must_use]
    pub fn with_measurements(self, measurements: Measurements) -> Self {
        Self { measurements, ..self }
    }

    /// With certificates of Nitro's that name the place of their issuer's list, as AWS's do: a host that nobody can have (RFC 2606).
    #[must_use]
    pub fn with_distribution_points(self) -> Self {
        Self { distribution_points: true, ..self }
    }

    /// With NVIDIA's reference manifests of the device's driver and firmware among the collateral. They end in a root of their own
    /// ([`roots`]).
    #[must_use]
    pub fn with_reference_manifests(self) -> Self {
        Self { reference_manifests: true, ..self }
    }

    /// With a flaw. One of reference manifests brings them along.
    #[must_use]
    pub fn with_flaw(self, flaw: Flaw) -> Self {
        Self { flaw: Some(flaw), ..self }
    }

    /// The SHA-256 of the root's certificate, for [`crate::Dangers::accept_simulated`].
    pub fn root(&self) -> Result<Digest, ProduceError> {
        let (curve, rung) = self.form.root();
        Ok(Digest::of(&[&pki::root(&self.seed, curve, &rung)?]))
    }
}

/// The roots of every form and of reference manifests, by their SHA-256.
pub fn roots(seed: Seed) -> Result<Vec<Digest>, ProduceError> {
    let mut roots = Vec::new();
    for form in Form::ALL {
        let root = Provider::new(form).with_seed(seed).root()?;
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots.push(Digest::of(&[&pki::root(&seed, Curve::P384, &rim::root())?]));
    Ok(roots)
}

impl Producer for Provider {
    fn is_simulated(&self) -> bool {
        true
    }

    fn kind(&self) -> Kind {
        self.form.kind()
    }

    fn produce(&self, request: &Request) -> Result<Evidence, ProduceError> {
        if let Some(flaw) = self.flaw.filter(|flaw| !flaw.forms().contains(&self.form)) {
            return Err(ProduceError::Flaw { form: self.form.name(), flaw: flaw.name() });
        }
        let seed = match self.flaw {
            Some(Flaw::OtherRoot) => domain::SIMULATED.hash(&[&self.seed, b"another root"]).0,
            _ => self.seed,
        };
        let draft = Draft {
            seed,
            form: self.form,
            measurements: &self.measurements,
            flaw: self.flaw,
            distribution_points: self.distribution_points,
            reference_manifests: self.reference_manifests || self.flaw.is_some_and(Flaw::is_of_manifests),
            request,
        };
        let mut evidence = match self.form {
            Form::Nitro => nitro::produce(&draft)?,
            Form::TdxV4 | Form::TdxV5 | Form::Sgx => dcap::produce(&draft)?,
            Form::SnpV2 | Form::SnpV3 | Form::SnpV5 | Form::SnpVlek => snp::produce(&draft)?,
            Form::Nvidia => nvidia::produce(&draft)?,
        };
        match self.flaw {
            Some(Flaw::Truncated) => evidence.evidence.truncate(evidence.evidence.len().saturating_sub(1)),
            Some(Flaw::Trailing) => evidence.evidence.push(1),
            Some(Flaw::Empty) => evidence.evidence.clear(),
            _ => {}
        }
        Ok(evidence)
    }
}

/// What one piece of evidence is made from.
#[derive(Clone, Copy)]
struct Draft<'a> {
    seed: Seed,
    form: Form,
    measurements: &'a Measurements,
    flaw: Option<Flaw>,
    distribution_points: bool,
    reference_manifests: bool,
    request: &'a Request,
}

impl Draft<'_> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// A measurement: the one asked for, else one of the seed's own.
    fn measurement<const N: usize>(&self, register: Register) -> Result<[u8; N], ProduceError> {
        let mut out = [0; N];
        match self.measurements.get(&register) {
            Some(asked) => {
                out = asked.as_slice().try_into().map_err(|_| ProduceError::Register {
                    register: register.to_string(),
                    got: asked.len(),
                })?;
            }
            None => {
                let own = pki::bytes(&self.seed, &format!("measurement {register}"));
                out.iter_mut().zip(own).for_each(|(to, from)| *to = from);
            }
        }
        Ok(out)
    }

    /// The measurement that was asked for, else zeros.
    fn asked<const N: usize>(&self, register: Register) -> Result<[u8; N], ProduceError> {
        if self.measurements.contains_key(&register) { self.measurement(register) } else { Ok([0; N]) }
    }

    /// No other register was asked for.
    fn only(&self, registers: &[Register]) -> Result<(), ProduceError> {
        match self.measurements.iter().find(|(register, _)| !registers.contains(register)) {
            Some((register, value)) => {
                Err(ProduceError::Register { register: register.to_string(), got: value.len() })
            }
            None => Ok(()),
        }
    }

    /// The one field of report data or nonce.
    fn report_data(&self) -> Result<[u8; 64], ProduceError> {
        let mut out = self.request.one_field()?;
        if self.has(Flaw::Nonce) || self.has(Flaw::Binding) {
            out.iter_mut().take(1).for_each(|byte| *byte ^= 1);
        }
        Ok(out)
    }

    /// Bytes of the request, at most `most`.
    fn bounded<'b>(
        &self,
        field: &'static str,
        bytes: &'b [u8],
        most: usize,
    ) -> Result<&'b [u8], ProduceError> {
        if bytes.len() > most {
            return Err(ProduceError::TooLong { field, most, got: bytes.len() });
        }
        Ok(bytes)
    }
}
