//! Claims: what was computed (`receipt.md` §8).

use std::fmt;

use crate::Digest;
use crate::canonical::Members;
use crate::domain::CLAIM;
use crate::json::{Object, Value, canonical_object, write_text};
use crate::keys::KeyId;
use crate::merkle::{self, Proof};
use crate::wire::{Fields, FormatError, as_digest, to_hex, verify_length};

/// The most bytes of a network's, provider's or model's name.
pub const MAX_NAME: usize = 128;
/// The most parents.
pub const MAX_PARENTS: usize = 64;
/// The most bytes of the parameters' canonical form.
pub const MAX_PARAMETERS: usize = 64 << 10;

/// 16 random bytes that name a request. Drawn by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

/// 32 random bytes that make a claim unlike any other. Drawn by the requester where there is one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; 32]);

macro_rules! hex_text {
    ($($t:ty)*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($t), "({})"), self)
            }
        }
        impl std::str::FromStr for $t {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                crate::wire::as_hex(&text.into(), stringify!($t)).map(Self)
            }
        }
    )*};
}
hex_text!(RequestId Nonce);

/// Which model answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Model {
    /// The model whose manifest has this SHA-256.
    Id(Digest),
    /// A model that nobody outside its provider can hash: only a name.
    Claimed {
        /// The provider's name.
        provider: String,
        /// The model's name there.
        name: String,
    },
}

/// What was computed, by whom, for which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The network that the receipt is for.
    pub network: String,
    /// The node: the id of its identity key.
    pub node: KeyId,
    /// The request.
    pub request_id: RequestId,
    /// The request's nonce.
    pub nonce: Nonce,
    /// The model.
    pub model: Model,
    /// Commitment to the inputs.
    pub inputs: Digest,
    /// Commitment to the outputs.
    pub outputs: Digest,
    /// How the model was run, beyond its inputs: sampling, seed and who chose it; empty for a plain ONNX run.
    pub parameters: Object,
    /// Ids of the claims whose outputs went into this one.
    pub parents: Vec<Digest>,
}

/// The fields of a claim, in the order of its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ClaimField {
    Network,
    Node,
    RequestId,
    Nonce,
    Model,
    Inputs,
    Outputs,
    Parameters,
    Parents,
}

impl ClaimField {
    /// Every field, in order.
    pub const ALL: [Self; 9] = [
        Self::Network,
        Self::Node,
        Self::RequestId,
        Self::Nonce,
        Self::Model,
        Self::Inputs,
        Self::Outputs,
        Self::Parameters,
        Self::Parents,
    ];
}

impl Claim {
    /// The claim's id: the Merkle root over [`Claim::leaves`].
    pub fn id(&self) -> Digest {
        merkle::root(CLAIM, &self.leaves())
    }

    /// The bytes of every field, each after the byte of its place.
    pub fn leaves(&self) -> [Vec<u8>; 9] {
        let model = match &self.model {
            Model::Id(id) => [&[1], id.as_bytes().as_slice()].concat(),
            Model::Claimed { provider, name } => {
                // Names hold no NUL (`parse` and `check` refuse it), so the first one ends the provider.
                [&[2], provider.as_bytes(), &[0], name.as_bytes()].concat()
            }
        };
        let parents: Vec<u8> = self.parents.iter().flat_map(|id| id.0).collect();
        [
            [&[0], self.network.as_bytes()].concat(),
            [&[1], self.node.0.as_bytes().as_slice()].concat(),
            [&[2], self.request_id.0.as_slice()].concat(),
            [&[3], self.nonce.0.as_slice()].concat(),
            [&[4], model.as_slice()].concat(),
            [&[5], self.inputs.as_bytes().as_slice()].concat(),
            [&[6], self.outputs.as_bytes().as_slice()].concat(),
            [&[7], canonical_object(&self.parameters).as_bytes()].concat(),
            [&[8], parents.as_slice()].concat(),
        ]
    }

    /// The leaf and the path that show one field under [`Claim::id`].
    pub fn open(&self, field: ClaimField) -> Option<(Vec<u8>, Proof)> {
        let leaves = self.leaves();
        let index = field as usize;
        Some((leaves.get(index)?.clone(), merkle::prove(&leaves, index)?))
    }

    /// Whether the claim is within the format's bounds.
    pub fn check(&self) -> Result<(), FormatError> {
        verify_name(&self.network, "claim.network")?;
        if let Model::Claimed { provider, name } = &self.model {
            verify_name(provider, "claim.model.provider")?;
            verify_name(name, "claim.model.name")?;
        }
        if self.parents.len() > MAX_PARENTS {
            let (path, limit, got) = ("claim.parents".to_owned(), MAX_PARENTS, self.parents.len());
            return Err(FormatError::TooLong { path, limit, got });
        }
        if self.parameters.is_empty() {
            return Ok(());
        }
        let text = canonical_object(&self.parameters);
        let path = || "claim.parameters".to_owned();
        if text.len() > MAX_PARAMETERS {
            return Err(FormatError::TooLong { path: path(), limit: MAX_PARAMETERS, got: text.len() });
        }
        // A statement holds a predicate, which holds a claim, which holds them.
        let parsed = Value::parse_within(text.as_bytes(), MAX_PARAMETERS, 3);
        parsed.map(drop).map_err(|source| FormatError::Json { path: path(), source })
    }

    /// The members in their canonical order.
    pub(crate) fn write(&self, claim: &mut Members<'_>) {
        claim.hex("inputs", self.inputs.as_bytes());
        claim.object("model", |model| match &self.model {
            Model::Id(id) => model.hex("id", id.as_bytes()),
            Model::Claimed { provider, name } => {
                model.text("name", name);
                model.text("provider", provider);
            }
        });
        claim.text("network", &self.network);
        claim.hex("node", self.node.0.as_bytes());
        claim.hex("nonce", &self.nonce.0);
        claim.hex("outputs", self.outputs.as_bytes());
        claim.members("parameters", &self.parameters);
        claim.list("parents", &self.parents, |out, id| write_text(out, &id.to_string()));
        claim.hex("request_id", &self.request_id.0);
    }

    pub(crate) fn from_fields(mut fields: Fields) -> Result<Self, FormatError> {
        let network = name(&mut fields, "network")?;
        let node = KeyId(fields.digest("node")?);
        let request_id = RequestId(fields.hex("request_id")?);
        let nonce = Nonce(fields.hex("nonce")?);
        let mut model = fields.fields("model")?;
        let claimed = if model.has("id") {
            Model::Id(model.digest("id")?)
        } else {
            Model::Claimed { provider: name(&mut model, "provider")?, name: name(&mut model, "name")? }
        };
        model.finish()?;
        let inputs = fields.digest("inputs")?;
        let outputs = fields.digest("outputs")?;
        let parameters = fields.object("parameters")?;
        let got = canonical_object(&parameters).len();
        if got > MAX_PARAMETERS {
            return Err(FormatError::TooLong { path: fields.path("parameters"), limit: MAX_PARAMETERS, got });
        }
        let parents = fields
            .array("parents", MAX_PARENTS)?
            .iter()
            .map(|(path, value)| as_digest(value, path))
            .collect::<Result<_, _>>()?;
        fields.finish()?;
        Ok(Self { network, node, request_id, nonce, model: claimed, inputs, outputs, parameters, parents })
    }
}

/// A name that is safe to show: no control characters.
pub(crate) fn name(fields: &mut Fields, member: &str) -> Result<String, FormatError> {
    let text = fields.text(member, MAX_NAME)?;
    verify_name(&text, &fields.path(member))?;
    Ok(text)
}

/// Whether `text` is such a name.
pub(crate) fn verify_name(text: &str, path: &str) -> Result<(), FormatError> {
    verify_length(text, path, MAX_NAME)?;
    if text.chars().any(char::is_control) {
        return Err(FormatError::Value {
            path: path.to_owned(),
            expected: "text without control characters",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use crate::json::object;

    fn claim() -> Claim {
        Claim {
            network: "local".into(),
            node: KeyId(Digest([1; 32])),
            request_id: RequestId([2; 16]),
            nonce: Nonce([3; 32]),
            model: Model::Id(Digest([4; 32])),
            inputs: Digest([5; 32]),
            outputs: Digest([6; 32]),
            parameters: object([("seed", Value::Int(7))]),
            parents: vec![Digest([8; 32]), Digest([9; 32])],
        }
    }

    #[test]
    fn claims_round_trip() {
        let named = Claim { model: Model::Claimed { provider: "p".into(), name: "n".into() }, ..claim() };
        for claim in [claim(), named] {
            let mut text = String::new();
            canonical::object(&mut text, |members| claim.write(members));
            let back = Claim::from_fields(Fields::signed(text.as_bytes(), "claim", 4096).unwrap());
            assert_eq!(back, Ok(claim));
        }
    }

    #[test]
    fn the_id_binds_every_field_and_opens_each() {
        let id = claim().id();
        let changed = [
            Claim { network: "locan".into(), ..claim() },
            Claim { node: KeyId(Digest([0; 32])), ..claim() },
            Claim { request_id: RequestId([0; 16]), ..claim() },
            Claim { nonce: Nonce([0; 32]), ..claim() },
            Claim { model: Model::Id(Digest([0; 32])), ..claim() },
            Claim { model: Model::Claimed { provider: "a".into(), name: "b".into() }, ..claim() },
            Claim { inputs: Digest([0; 32]), ..claim() },
            Claim { outputs: Digest([0; 32]), ..claim() },
            Claim { parameters: Object::new(), ..claim() },
            Claim { parents: vec![Digest([8; 32])], ..claim() },
        ];
        for changed in changed {
            assert_ne!(changed.id(), id, "{changed:?}");
        }
        for field in ClaimField::ALL {
            let (leaf, proof) = claim().open(field).unwrap();
            assert_eq!(usize::from(leaf[0]), field as usize);
            assert_eq!(proof.root(CLAIM, &leaf), Some(id));
        }
    }

    #[test]
    fn names_with_control_characters_are_refused() {
        for network in ["", "a\u{1b}[31m", "a\0b", &"x".repeat(129)] {
            assert!(Claim { network: network.to_owned(), ..claim() }.check().is_err(), "{network:?}");
        }
        assert_eq!(claim().check(), Ok(()));
    }
}
