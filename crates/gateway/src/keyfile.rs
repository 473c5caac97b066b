//! The file of API keys, in TOML. It holds digests, so who reads it can open nothing with it; who may write it can let anybody in.
//!
//! ```toml
//! [[key]]
//! name = "alice"                   # for the operator: 1 to 64 letters, digits, `-`, `_` and `.`
//! digest = "64 hexadecimal digits" # SHA-256 of `hallmark api key` and the secret, with nothing between
//! requests_per_minute = 60         # leave out for no bound
//! tokens_per_minute = 100000
//! ```

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hallmark_receipt::Digest;
use serde::Deserialize;

use crate::limits::{ApiKey, Quota};

/// The most bytes of the file.
pub const MAX_FILE: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    digest: String,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
}

/// Why a file of keys is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Longer than [`MAX_FILE`].
    #[error("{got} bytes are more than the {MAX_FILE} of a file of keys")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not TOML, or with a member that keys do not have.
    #[error("{why}")]
    Toml {
        /// The parser's word.
        why: String,
    },
    /// A name that cannot be one.
    #[error("`{name}` is no key's name: expected 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name {
        /// The name.
        name: String,
    },
    /// A digest that is none.
    #[error("key `{name}`: the digest is not 64 lower-case hexadecimal digits")]
    Digest {
        /// The key.
        name: String,
    },
    /// A bound of nothing.
    #[error("key `{name}`: a bound is at least 1; leave it out for none")]
    Zero {
        /// The key.
        name: String,
    },
    /// Two keys of one name or digest.
    #[error("key `{name}` is there twice, by its name or its digest")]
    Twice {
        /// The second one's name.
        name: String,
    },
}

/// Reads a file of keys.
///
/// # Errors
/// Anything that is not in the form above.
pub fn parse(text: &str) -> Result<Vec<ApiKey>, KeyFileError> {
    if text.len() > MAX_FILE {
        return Err(KeyFileError::TooLong { got: text.len() });
    }
    let file: File =
        toml::from_str(text).map_err(|error| KeyFileError::Toml { why: error.message().to_owned() })?;
    let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let mut keys = Vec::with_capacity(file.key.len());
    for Entry { name, digest, requests_per_minute, tokens_per_minute } in file.key {
        if !is_name(&name) {
            return Err(KeyFileError::Name { name: name.chars().take(64).collect() });
        }
        if [requests_per_minute, tokens_per_minute].contains(&Some(0)) {
            return Err(KeyFileError::Zero { name });
        }
        let Ok(digest) = digest.parse::<Digest>() else { return Err(KeyFileError::Digest { name }) };
        if !names.insert(name.clone()) || !digests.insert(digest) {
            return Err(KeyFileError::Twice { name });
        }
        keys.push(ApiKey::from_digest(name, digest, Quota { requests_per_minute, tokens_per_minute }));
    }
    Ok(keys)
}

/// A new key's secret from 32 secret random bytes, and the entry that lets it in: text to be added to the file.
///
/// # Errors
/// A name that cannot be one.
pub fn make(name: &str, random: &[u8; 32]) -> Result<(String, String), KeyFileError> {
    if !is_name(name) {
        return Err(KeyFileError::Name { name: name.chars().take(64).collect() });
    }
    let secret = format!("hk-{}", URL_SAFE_NO_PAD.encode(random));
    let entry = format!("[[key]]\nname = \"{name}\"\ndigest = \"{}\"\n", ApiKey::digest(&secret));
    Ok((secret, entry))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_and_what_is_wrong_is_named() {
        let (secret, entry) = make("alice", &[7; 32]).unwrap();
        let keys = parse(&format!("{entry}requests_per_minute = 2\n")).unwrap();
        assert_eq!((keys.len(), keys[0].name.as_str()), (1, "alice"));
        assert_eq!(keys[0].quota, Quota { requests_per_minute: Some(2), tokens_per_minute: None });
        assert!(secret.starts_with("hk-") && !entry.contains(&secret));
        let wrong = |text: &str| parse(text).unwrap_err();
        let name = || "alice".to_owned();
        assert_eq!(wrong(&format!("{entry}{entry}")), KeyFileError::Twice { name: name() });
        assert_eq!(wrong(&format!("{entry}tokens_per_minute = 0\n")), KeyFileError::Zero { name: name() });
        let bad = entry.replace("digest = \"", "digest = \"x");
        assert_eq!(wrong(&bad), KeyFileError::Digest { name: name() });
        assert!(matches!(wrong(&format!("{entry}quota = 3\n")), KeyFileError::Toml { .. }));
        assert!(matches!(wrong(&entry.replace("alice", "a b")), KeyFileError::Name { .. }));
        assert!(make("a\"b", &[7; 32]).is_err());
    }
}
