//! Policies: what a verifier asks of each kind of evidence (`attestation.md` §8). A TOML file with one section a kind.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::check::CheckId;
use crate::measurement::{Measurements, Register, Release};
use crate::{Kind, dcap, nitro, nvidia, snp};

/// The most bytes of a policy file.
pub const MAX_POLICY: usize = 1 << 20;

/// A policy file with every key, explained: it asks for what `genuine` asks for.
pub const TEMPLATE: &str = include_str!("policy.toml");

/// What a verifier asks for. The default is `genuine`: authentic, in date, not in debug mode, under the makers' roots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Its name, for the closing sentence.
    pub name: String,
    /// Of Nitro documents.
    pub nitro: Section<nitro::Policy>,
    /// Of SEV-SNP reports.
    pub sev_snp: Section<snp::Policy>,
    /// Of TDX quotes.
    pub tdx: Section<dcap::TdxPolicy>,
    /// Of SGX quotes.
    pub sgx: Section<dcap::SgxPolicy>,
    /// Of NVIDIA's reports.
    pub nvidia: Section<nvidia::Policy>,
}

/// What is asked of one kind: what every kind has, and what only this one has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section<S> {
    /// The checks that must pass beyond those that always must.
    pub require: Vec<CheckId>,
    /// The releases that may run; none pins nothing.
    pub measurements: Vec<Release>,
    /// The oldest evidence, in seconds before the time it is judged at.
    pub max_age_seconds: Option<u64>,
    /// Takes evidence of debug mode, if the caller says so too ([`crate::Dangers`]).
    pub dangerously_accept_debug: bool,
    /// What only this kind has.
    pub own: S,
}

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too long.
    #[error("{got} bytes are more than the {MAX_POLICY} of a policy")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not TOML, or not of its form.
    #[error("{message}")]
    Toml {
        /// What the reader says.
        message: String,
    },
    /// A key that policies do not have.
    #[error("`{0}` is no key of a policy")]
    UnknownKey(String),
    /// A check that does not exist.
    #[error("`{0}` is no check")]
    UnknownCheck(String),
    /// A register that this kind does not have.
    #[error("`{register}` is no register of {}", kind.name())]
    UnknownRegister {
        /// The kind.
        kind: Kind,
        /// The name.
        register: String,
    },
    /// A measurement that is not hexadecimal.
    #[error("`{register}`: not lower-case hexadecimal digits")]
    Hex {
        /// The register.
        register: Register,
    },
    /// A release without a register.
    #[error("release `{0}` names no register")]
    EmptyRelease(String),
}

impl Policy {
    /// The policy `genuine`.
    pub fn genuine() -> Self {
        Self { name: "genuine".to_owned(), ..Self::default() }
    }

    /// Reads a policy file.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::TooLong { got: text.len() });
        }
        let mut table: Table = toml::from_str(text).map_err(toml_error)?;
        let name = match table.remove("name") {
            Some(Value::String(name)) if !name.is_empty() => name,
            _ => return Err(PolicyError::Toml { message: "`name`: expected a text".to_owned() }),
        };
        Self::from_table(name, table)
    }

    /// Reads the sections of a policy, which are part of a larger file.
    pub fn from_table(name: String, mut table: Table) -> Result<Self, PolicyError> {
        let policy = Self {
            name,
            nitro: section(&mut table, Kind::Nitro)?,
            sev_snp: section(&mut table, Kind::SevSnp)?,
            tdx: section(&mut table, Kind::Tdx)?,
            sgx: section(&mut table, Kind::Sgx)?,
            nvidia: section(&mut table, Kind::Nvidia)?,
        };
        match table.keys().next() {
            Some(key) => Err(PolicyError::UnknownKey(key.clone())),
            None => Ok(policy),
        }
    }
}

fn toml_error(error: impl ToString) -> PolicyError {
    PolicyError::Toml { message: error.to_string() }
}

/// Reads a kind's section; without one, the kind's default stands.
fn section<S: DeserializeOwned + Default>(table: &mut Table, kind: Kind) -> Result<Section<S>, PolicyError> {
    let Some(section) = table.remove(kind.name()) else { return Ok(Section::default()) };
    let Value::Table(mut section) = section else {
        return Err(PolicyError::Toml { message: format!("`{}`: expected a table", kind.name()) });
    };
    let require: Vec<String> = common(&mut section, "require")?;
    let require = require
        .into_iter()
        .map(|name| CheckId::from_name(&name).ok_or(PolicyError::UnknownCheck(name)))
        .collect::<Result<_, _>>()?;
    let releases: Vec<Table> = common(&mut section, "measurements")?;
    let measurements =
        releases.into_iter().map(|release| read_release(release, kind)).collect::<Result<_, _>>()?;
    Ok(Section {
        require,
        measurements,
        max_age_seconds: common(&mut section, "max_age_seconds")?,
        dangerously_accept_debug: common(&mut section, "dangerously_accept_debug")?,
        own: Value::Table(section).try_into().map_err(toml_error)?,
    })
}

fn common<T: DeserializeOwned + Default>(section: &mut Table, key: &str) -> Result<T, PolicyError> {
    match section.remove(key) {
        Some(value) => value
            .try_into()
            .map_err(|error: toml::de::Error| PolicyError::Toml { message: format!("`{key}`: {error}") }),
        None => Ok(T::default()),
    }
}

fn read_release(mut table: Table, kind: Kind) -> Result<Release, PolicyError> {
    let name: String = common(&mut table, "name")?;
    let mut registers = Measurements::new();
    for (key, value) in table {
        let register = Register::from_name(&key).filter(|register| register.is_of(kind));
        let register = register.ok_or(PolicyError::UnknownRegister { kind, register: key })?;
        let bytes = value.as_str().and_then(hallmark_receipt::wire::from_hex);
        registers.insert(register, bytes.ok_or(PolicyError::Hex { register })?);
    }
    if registers.is_empty() { Err(PolicyError::EmptyRelease(name)) } else { Ok(Release { name, registers }) }
}

#[cfg(test)]
mod tests;
