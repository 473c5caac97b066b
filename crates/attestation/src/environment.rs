//! Evidence as receipts carry it (`receipt.md` §9.1): from a producer into an [`Environment`], and judged from there.

use std::sync::Arc;

use hallmark_receipt::Environment;

use crate::binding::{Binding, BindingError};
use crate::producer::{ProduceError, Producer};
use crate::report::{Context, Report};
use crate::{Input, Kind, verify};

/// Why an environment says nothing about a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// A kind that is not known here.
    #[error("`{0}` is no known kind of evidence")]
    UnknownKind(String),
    /// A device answers nonces, and holds no keys.
    #[error("evidence of {} binds no keys", .0.name())]
    BindsNothing(Kind),
    /// Keys or a nonce that no report can bind.
    #[error(transparent)]
    Binding(#[from] BindingError),
}

/// Has `producer` make evidence that binds `binding`, with all that a receipt carries. `at` is in seconds since 1970.
pub fn produce(
    producer: &dyn Producer,
    binding: &Binding,
    at: u64,
) -> Result<Arc<Environment>, ProduceError> {
    let evidence = producer.produce(&binding.request(producer.kind(), at))?;
    Ok(Arc::new(Environment {
        kind: producer.kind().name().to_owned(),
        simulated: producer.is_simulated(),
        keys: binding.keys().clone(),
        policy: binding.policy(),
        nonce: binding.nonce().to_vec(),
        evidence: evidence.evidence,
        certificates: evidence.certificates,
        collateral: evidence.collateral,
        event_log: evidence.event_log,
    }))
}

/// What the environment says it binds.
pub fn binding(environment: &Environment) -> Result<Binding, BindingError> {
    let bind = |binding: Binding, (purpose, key): (_, &Vec<u8>)| binding.with_bytes(purpose, key.clone());
    let mut keys = environment.keys.iter().map(|(purpose, key)| (*purpose, key));
    let binding = keys.try_fold(Binding::default(), bind)?;
    let binding = binding.with_nonce(environment.nonce.clone())?;
    Ok(match environment.policy {
        Some(policy) => binding.with_policy(policy),
        None => binding,
    })
}

/// Judges it, with `collateral` in place of its own if there is any. The rows include `binding`: whether the report binds what the
/// environment says, in place of what `context` says.
pub fn judge(
    environment: &Environment,
    collateral: Option<&[Vec<u8>]>,
    context: &Context<'_>,
) -> Result<Report, EnvironmentError> {
    let kind = Kind::from_name(&environment.kind)
        .ok_or_else(|| EnvironmentError::UnknownKind(environment.kind.clone()))?;
    let expected = binding(environment)?.report_data(kind).ok_or(EnvironmentError::BindsNothing(kind))?;
    let certificates: Vec<_> = environment.certificates.iter().map(Vec::as_slice).collect();
    let collateral = collateral.unwrap_or(&environment.collateral);
    let collateral: Vec<_> = collateral.iter().map(Vec::as_slice).collect();
    let input = Input {
        evidence: &environment.evidence,
        certificates: &certificates,
        collateral: &collateral,
        event_log: environment.event_log.as_deref(),
    };
    Ok(verify(kind, &input, &Context { binding: Some(&expected), ..*context }))
}
