//! What an environment puts into its report: its keys, its policy, the verifier's nonce (`attestation.md` §10).

use std::collections::BTreeMap;

use hallmark_receipt::domain::BINDING;
use hallmark_receipt::dsse::PayloadType;
use hallmark_receipt::{Digest, PublicKey, Purpose};

use crate::Kind;
use crate::bytes::Bytes;
use crate::producer::Request;

/// The most bytes of a bound key.
pub const MAX_KEY: usize = 1024;
/// The most bytes of a bound nonce.
pub const MAX_NONCE: usize = 64;

/// The keys that live in an environment, and what they were bound for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    keys: BTreeMap<Purpose, Vec<u8>>,
    policy: Option<Digest>,
    nonce: Vec<u8>,
}

/// Why something cannot be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    /// No bytes, or too many.
    #[error("a key of {got} bytes, where 1 to {MAX_KEY} can be bound")]
    KeyLength {
        /// How many.
        got: usize,
    },
    /// A second key of a purpose.
    #[error("a second key for `{}`", .0.name())]
    Twice(Purpose),
    /// Too many bytes.
    #[error("a nonce of {got} bytes, where at most {MAX_NONCE} can be bound")]
    NonceLength {
        /// How many.
        got: usize,
    },
}

/// Why bytes are not an encoded binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes end inside it.
    #[error("it ends early")]
    Truncated,
    /// A purpose without a name here.
    #[error("a key of an unknown purpose")]
    Purpose,
    /// Keys in another order than their purposes', or two of one.
    #[error("keys that are not in the order of their purposes")]
    Order,
    /// Something that cannot be bound.
    #[error(transparent)]
    Binding(#[from] BindingError),
}

impl Binding {
    /// Binds a key that signs.
    pub fn with_key(self, purpose: Purpose, key: &PublicKey) -> Result<Self, BindingError> {
        self.with_bytes(purpose, signing_key(key))
    }

    /// Binds a key in the form that its purpose has (§10.1).
    pub fn with_bytes(mut self, purpose: Purpose, key: Vec<u8>) -> Result<Self, BindingError> {
        if !(1..=MAX_KEY).contains(&key.len()) {
            return Err(BindingError::KeyLength { got: key.len() });
        }
        match self.keys.insert(purpose, key) {
            None => Ok(self),
            Some(_) => Err(BindingError::Twice(purpose)),
        }
    }

    /// Binds the SHA-256 of the policy that the environment judges others by.
    pub fn with_policy(self, policy: Digest) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Binds the verifier's nonce.
    pub fn with_nonce(self, nonce: Vec<u8>) -> Result<Self, BindingError> {
        if nonce.len() > MAX_NONCE {
            return Err(BindingError::NonceLength { got: nonce.len() });
        }
        Ok(Self { nonce, ..self })
    }

    /// The keys, each with its purpose.
    pub fn keys(&self) -> &BTreeMap<Purpose, Vec<u8>> {
        &self.keys
    }

    /// The policy, if the environment has one.
    pub fn policy(&self) -> Option<Digest> {
        self.policy
    }

    /// The verifier's nonce.
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// Whether `key` is the one bound for `purpose`.
    pub fn holds(&self, purpose: Purpose, key: &PublicKey) -> bool {
        self.keys.get(&purpose).is_some_and(|bound| *bound == signing_key(key))
    }

    /// §10.1: what the report says.
    pub fn digest(&self) -> Digest {
        BINDING.hash(&[&self.encode()])
    }

    /// §10.1: what is hashed behind the domain.
    pub fn encode(&self) -> Vec<u8> {
        let mut data = vec![byte(self.keys.len())];
        for (purpose, key) in &self.keys {
            data.push(byte(purpose.name().len()));
            data.extend_from_slice(purpose.name().as_bytes());
            data.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
            data.extend_from_slice(key);
        }
        data.extend_from_slice(self.policy.unwrap_or(Digest([0; 32])).as_bytes());
        data.push(byte(self.nonce.len()));
        data.extend_from_slice(&self.nonce);
        data
    }

    /// Reads an encoded binding off the front of `bytes`. It has one encoding: purposes in order, none twice.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Result<Self, ReadError> {
        let mut binding = Self::default();
        for _ in 0..all(bytes.u8())? {
            let length = all(bytes.u8())?.into();
            let name = std::str::from_utf8(all(bytes.take(length))?).ok();
            let purpose = name.and_then(Purpose::from_name).ok_or(ReadError::Purpose)?;
            if binding.keys.last_key_value().is_some_and(|(last, _)| *last >= purpose) {
                return Err(ReadError::Order);
            }
            let length = all(bytes.u16_be())?.into();
            binding = binding.with_bytes(purpose, all(bytes.take(length))?.to_vec())?;
        }
        let policy = Digest(*all(bytes.array())?);
        binding.policy = (policy != Digest([0; 32])).then_some(policy);
        let length = all(bytes.u8())?.into();
        Ok(binding.with_nonce(all(bytes.take(length))?.to_vec())?)
    }

    /// The report data (user data, of Nitro) of this kind: what a verifier expects ([`crate::Context::binding`]). `None` for
    /// devices, which answer the digest as a nonce.
    pub fn report_data(&self, kind: Kind) -> Option<Vec<u8>> {
        let digest = self.digest().0;
        match kind {
            Kind::Nitro => Some(digest.to_vec()),
            Kind::Tdx | Kind::Sgx | Kind::SevSnp => Some([digest, [0; 32]].concat()),
            Kind::Nvidia => None,
        }
    }

    /// What a producer is asked for. `at` is in seconds since 1970.
    pub fn request(&self, kind: Kind, at: u64) -> Request {
        let (report_data, nonce) = match self.report_data(kind) {
            None => (Vec::new(), self.digest().0.to_vec()),
            Some(data) if kind == Kind::Nitro => (data, self.nonce.clone()),
            Some(data) => (data, Vec::new()),
        };
        Request { report_data, nonce, at }
    }
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Who accepted it.
    Server,
    /// Who opened it.
    Client,
}

/// A TLS session, as one side's attested key signs it (§10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// Who signs.
    pub role: Role,
    /// `EXPORTER-Channel-Binding` of TLS 1.3.
    pub exporter: &'a [u8; 32],
    /// The SHA-256 of the `SubjectPublicKeyInfo` of the server's certificate.
    pub server_leaf: Digest,
    /// The same of the client's, if it showed one.
    pub client_leaf: Option<Digest>,
    /// The nonce of the other side.
    pub nonce: &'a [u8; 32],
}

impl Session<'_> {
    /// The leaf of who signs.
    pub fn leaf(&self) -> Option<Digest> {
        match self.role {
            Role::Server => Some(self.server_leaf),
            Role::Client => self.client_leaf,
        }
    }

    /// The bytes that are signed.
    pub fn to_be_signed(&self) -> Vec<u8> {
        let role = match self.role {
            Role::Server => 1,
            Role::Client => 2,
        };
        let client_leaf = self.client_leaf.unwrap_or(Digest([0; 32]));
        let leaves = [self.server_leaf.as_bytes(), client_leaf.as_bytes()];
        let nonce = [&[byte(self.nonce.len())][..], self.nonce].concat();
        PayloadType::Session.encode(&[&[role][..], self.exporter, leaves[0], leaves[1], &nonce].concat())
    }
}

/// Something that is there whole.
fn all<T>(read: Option<T>) -> Result<T, ReadError> {
    read.ok_or(ReadError::Truncated)
}

/// §10.1: `alg || 0x00 || public key`.
fn signing_key(key: &PublicKey) -> Vec<u8> {
    [key.alg().name().as_bytes(), &[0], &key.to_bytes()].concat()
}

/// Lengths that are bounded below 256 when a binding is made.
fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
