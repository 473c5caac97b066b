//! The registry of domain-separation strings (`receipt.md` §2). Every hash of this system that is not the plain SHA-256 of a
//! file's bytes starts with one of them, so that bytes made for one purpose never hash to the digest of another.

use crate::Digest;
use crate::digest::Hasher;

/// The purpose of a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Domain(&'static str);

macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Domain = Domain($text);)*
        /// Every domain there is.
        pub const ALL: &[Domain] = &[$($name),*];
    };
}

registry! {
    /// A leaf of a Merkle tree.
    MERKLE_LEAF = "hallmark.merkle-leaf.v1";
    /// An inner node of a Merkle tree.
    MERKLE_NODE = "hallmark.merkle-node.v1";
    /// The salted commitment to one named tensor.
    TENSOR = "hallmark.tensor.v1";
    /// The root over the commitments to a request's inputs.
    INPUTS = "hallmark.inputs.v1";
    /// The root over the commitments to an answer's outputs.
    OUTPUTS = "hallmark.outputs.v1";
    /// The root over a claim's fields: the claim's id.
    CLAIM = "hallmark.claim.v1";
    /// The id of a public key.
    KEY = "hallmark.key.v1";
    /// The digest of one piece of evidence, as a receipt signs it.
    EVIDENCE = "hallmark.evidence.v1";
    /// The first head of a signed stream's chain.
    STREAM = "hallmark.stream.v1";
    /// A later head of a signed stream's chain.
    STREAM_EVENT = "hallmark.stream-event.v1";
    /// The digest of a model's graph without its weights.
    GRAPH = "hallmark.graph.v1";
    /// A leaf of a model's weight tree.
    WEIGHT_LEAF = "hallmark.weight-leaf.v1";
    /// The root over one weight's leaves.
    WEIGHT = "hallmark.weight.v1";
    /// The root over a model's weights.
    WEIGHTS = "hallmark.weights.v1";
    /// The root over committed columns of field elements that are sent whole.
    COLUMNS = "hallmark.columns.v1";
    /// The bytes that draw one token of an answer.
    SAMPLING = "hallmark.sampling.v1";
    /// The key that such draws come from.
    SEED = "hallmark.seed.v1";
    /// Hardware evidence with all that belongs to it, as a receipt carries it.
    ENVIRONMENT = "hallmark.environment.v1";
    /// The report data by which hardware binds an environment's keys.
    BINDING = "hallmark.binding.v1";
    /// Keys and values of development evidence, which no hardware made.
    SIMULATED = "hallmark.simulated.v1";
}

impl Domain {
    /// The registered text: ASCII, without NUL.
    pub fn text(self) -> &'static str {
        self.0
    }

    /// SHA-256 of the domain's text, a zero byte, and the concatenation of `parts`.
    pub fn hash(self, parts: &[&[u8]]) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(self.0.as_bytes());
        hasher.update(&[0]);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_unique_printable_and_prefix_free() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(a.text().bytes().all(|b| b.is_ascii_graphic()), "{a:?}");
            for b in &ALL[i + 1..] {
                assert_ne!(a.text(), b.text());
            }
        }
        // The zero byte ends every domain, so no domain with data is another domain with other data.
        assert_ne!(TENSOR.hash(&[b"x"]), INPUTS.hash(&[b"x"]));
        assert_eq!(TENSOR.hash(&[b"ab", b"c"]), TENSOR.hash(&[b"a", b"bc"]));
    }
}
