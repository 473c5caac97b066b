//! The user's keys: one identity, which *is* the node, and short-lived receipt keys that it certifies.
//!
//! ```text
//! keys/identity          {"alg", "seed", "created"}                the identity key; may be kept elsewhere
//! keys/<id>.receipt      {"alg", "seed", "created", "certificate"} a receipt key with its certificate
//! revoked/<id>           a signed revocation: ours, and those that came with a pinned identity
//! trusted/<id>           {"key", "label"}                          a pinned identity
//! ```
//! Private keys are files of mode 0600 and are overwritten in memory when dropped.

use hallmark_receipt::certificate::RevocationReason;
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::keys::KeyError;
use hallmark_receipt::wire::{Fields, to_hex};
use hallmark_receipt::{
    Alg, Certificate, CertificateError, Digest, Envelope, FormatError, KeyId, PayloadType, PublicKey,
    Purpose, Revocation, SecretKey, Signer,
};
use zeroize::Zeroizing;

use crate::store::{Area, Home, StoreError, Writer};

/// How long a receipt key is certified for, in milliseconds: 90 days.
pub const VALIDITY: u64 = 90 * 86_400_000;
const IDENTITY: &str = "identity";
const SUFFIX: &str = ".receipt";
const MAX_LABEL: usize = 64;

/// Why a key is not there, or not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The home.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key file that is not one.
    #[error("the key file `{name}` is damaged")]
    File {
        /// The file.
        name: String,
        /// Why.
        source: FormatError,
    },
    /// A key file whose bytes are no key.
    #[error("the key file `{name}` holds no key")]
    Key {
        /// The file.
        name: String,
        /// Why.
        source: KeyError,
    },
    /// The certificate beside a key is not for it.
    #[error("the certificate in `{name}` is not for its key")]
    OtherKey {
        /// The file.
        name: String,
    },
    /// A certificate or revocation does not hold.
    #[error("the certificate or revocation does not hold")]
    Certificate(#[from] CertificateError),
    /// There is an identity already.
    #[error("there is an identity already: {id}")]
    Exists {
        /// The identity.
        id: KeyId,
    },
    /// The identity's private key is not in this home.
    #[error("the identity key is not in this home")]
    NoIdentity,
    /// No key of this id.
    #[error("there is no key `{id}` here")]
    Unknown {
        /// The id or prefix given.
        id: String,
    },
    /// A label that is too long or has control characters.
    #[error("a label has at most {MAX_LABEL} printable characters")]
    Label,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {why}")]
    Random {
        /// Its word.
        why: String,
    },
}

/// A receipt key that may sign.
#[derive(Debug)]
pub struct ReceiptKey {
    /// The private key.
    pub secret: SecretKey,
    /// Its certificate.
    pub certificate: Envelope,
    /// What the certificate says.
    pub certified: Certificate,
}

/// A pinned identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The identity's public key.
    pub key: PublicKey,
    /// The user's name for it.
    pub label: String,
}

/// 32 random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeysError::Random { why: error.to_string() })?;
    Ok(bytes)
}

/// The identity key, if its private half is here.
pub fn identity(home: &Home) -> Result<Option<SecretKey>, KeysError> {
    let Some(bytes) = home.get(Area::Keys, IDENTITY)?.map(Zeroizing::new) else { return Ok(None) };
    let (key, fields) = parse_key(&bytes, IDENTITY)?;
    finish(fields, IDENTITY)?;
    Ok(Some(key))
}

/// All receipt keys, the youngest first.
pub fn receipt_keys(home: &Home) -> Result<Vec<ReceiptKey>, KeysError> {
    let mut keys = Vec::new();
    for name in home.list(Area::Keys)? {
        if !name.ends_with(SUFFIX) {
            continue;
        }
        let Some(bytes) = home.get(Area::Keys, &name)?.map(Zeroizing::new) else { continue };
        let (secret, mut fields) = parse_key(&bytes, &name)?;
        let envelope = fields
            .value("certificate")
            .and_then(|value| Envelope::from_value(value, "certificate", PayloadType::Certificate));
        let certificate = envelope.map_err(|source| KeysError::File { name: name.clone(), source })?;
        finish(fields, &name)?;
        let certified = Certificate::verify(&certificate)?;
        if certified.key != secret.public_key() {
            return Err(KeysError::OtherKey { name });
        }
        keys.push(ReceiptKey { secret, certificate, certified });
    }
    keys.sort_by_key(|key| std::cmp::Reverse((key.certified.not_before, key.certified.key.id())));
    Ok(keys)
}

/// The revocations that this home knows.
pub fn revocations(home: &Home) -> Result<Vec<(Envelope, Revocation)>, KeysError> {
    let mut revocations = Vec::new();
    for name in home.list(Area::Revoked)? {
        let Some(bytes) = home.get(Area::Revoked, &name)? else { continue };
        let envelope = Envelope::parse(&bytes, PayloadType::Revocation)
            .map_err(|source| KeysError::File { name: name.clone(), source })?;
        let revocation = Revocation::verify(&envelope)?;
        revocations.push((envelope, revocation));
    }
    Ok(revocations)
}

/// The pinned identities.
pub fn pins(home: &Home) -> Result<Vec<Pin>, KeysError> {
    let mut pins = Vec::new();
    for name in home.list(Area::Trusted)? {
        let Some(bytes) = home.get(Area::Trusted, &name)? else { continue };
        let parse = || {
            let mut fields = Fields::signed(&bytes, "trusted", 4096)?;
            let key = fields.text("key", 128)?;
            let label = if fields.has("label") { fields.text("label", MAX_LABEL)? } else { String::new() };
            fields.finish()?;
            let expected = "a public key";
            let wrong = |_| FormatError::Value { path: "trusted.key".to_owned(), expected };
            Ok(Pin { key: key.parse().map_err(wrong)?, label })
        };
        pins.push(parse().map_err(|source| KeysError::File { name: name.clone(), source })?);
    }
    Ok(pins)
}

/// The receipt key that signs at `now`: the youngest that is valid and not revoked.
pub fn current(home: &Home, now: u64) -> Result<Option<ReceiptKey>, KeysError> {
    let revocations = revocations(home)?;
    let usable = |key: &ReceiptKey| {
        key.certified.is_valid_at(now) && !revocations.iter().any(|(_, r)| r.applies(&key.certified, now))
    };
    Ok(receipt_keys(home)?.into_iter().find(usable))
}

/// What [`ready`] had to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// A new identity.
    pub identity: Option<KeyId>,
    /// A new receipt key.
    pub receipt: KeyId,
}

/// The receipt key that signs now; makes one, and an identity, where there is none. What it signs is from after this call.
pub fn ready(home: &Home, clock: &dyn Fn() -> u64) -> Result<(ReceiptKey, Option<Made>), KeysError> {
    if let Some(key) = current(home, clock())? {
        return Ok((key, None));
    }
    let writer = home.write()?;
    // Another process may have made one while this one waited for the lock: look again, at a later time.
    let now = clock();
    if let Some(key) = current(home, now)? {
        return Ok((key, None));
    }
    let (identity, made) = match identity(home)? {
        Some(identity) => (identity, None),
        // Receipt keys without an identity: it is kept elsewhere, and a second one would be another node.
        None if !receipt_keys(home)?.is_empty() => return Err(KeysError::NoIdentity),
        None => {
            let identity = new_identity(home, &writer, Alg::Ed25519, now)?;
            let id = identity.public_key().id();
            (identity, Some(id))
        }
    };
    let key = new_receipt_key(&writer, &identity, now)?;
    let made = Made { identity: made, receipt: key.certified.key.id() };
    Ok((key, Some(made)))
}

/// Makes an identity.
pub fn new_identity(home: &Home, writer: &Writer<'_>, alg: Alg, now: u64) -> Result<SecretKey, KeysError> {
    if let Some(identity) = identity(home)? {
        return Err(KeysError::Exists { id: identity.public_key().id() });
    }
    let (seed, key) = draw(alg)?;
    writer.put(Area::Keys, IDENTITY, &key_file(alg, &seed, now, Object::new()))?;
    Ok(key)
}

/// Makes a receipt key that `identity` certifies from `now` on.
pub fn new_receipt_key(writer: &Writer<'_>, identity: &SecretKey, now: u64) -> Result<ReceiptKey, KeysError> {
    let alg = identity.public_key().alg();
    let (seed, secret) = draw(alg)?;
    let certified = Certificate {
        identity: identity.public_key(),
        key: secret.public_key(),
        purpose: Purpose::Receipt,
        not_before: now,
        not_after: now.saturating_add(VALIDITY),
    };
    let certificate = certified.sign(identity)?;
    let more = object([("certificate", certificate.to_value())]);
    let name = format!("{}{SUFFIX}", certified.key.id());
    writer.put(Area::Keys, &name, &key_file(alg, &seed, now, more))?;
    Ok(ReceiptKey { secret, certificate, certified })
}

/// Revokes `key` in the identity's name.
pub fn revoke(
    writer: &Writer<'_>,
    identity: &SecretKey,
    key: KeyId,
    reason: RevocationReason,
    now: u64,
) -> Result<Envelope, KeysError> {
    let revocation = Revocation { identity: identity.public_key(), key, reason, time: now };
    let envelope = revocation.sign(identity)?;
    put_revocation(writer, &envelope)?;
    Ok(envelope)
}

/// Keeps a revocation. All are kept: an identity may revoke a key twice, and a compromise is not undone by a retirement.
pub fn put_revocation(writer: &Writer<'_>, envelope: &Envelope) -> Result<(), KeysError> {
    Revocation::verify(envelope)?;
    let name = Digest::of(&[&envelope.payload]).to_string();
    Ok(writer.put(Area::Revoked, &name, envelope.to_value().pretty().as_bytes())?)
}

/// Pins an identity.
pub fn pin(writer: &Writer<'_>, pin: &Pin) -> Result<(), KeysError> {
    if pin.label.len() > MAX_LABEL || pin.label.chars().any(char::is_control) {
        return Err(KeysError::Label);
    }
    let mut file = object([("key", pin.key.to_string().as_str().into())]);
    if !pin.label.is_empty() {
        file.insert("label".to_owned(), pin.label.as_str().into());
    }
    let text = Value::Object(file).canonical();
    Ok(writer.put(Area::Trusted, &pin.key.id().to_string(), text.as_bytes())?)
}

/// Removes a pin.
pub fn unpin(writer: &Writer<'_>, key: KeyId) -> Result<(), KeysError> {
    Ok(writer.remove(Area::Trusted, &key.to_string())?)
}

fn draw(alg: Alg) -> Result<(Zeroizing<[u8; 32]>, SecretKey), KeysError> {
    loop {
        let seed = Zeroizing::new(random::<32>()?);
        // For P-256 one seed in 2^32 is no key; another is drawn.
        if let Ok(key) = SecretKey::from_seed(alg, &seed) {
            return Ok((seed, key));
        }
    }
}

fn key_file(alg: Alg, seed: &[u8; 32], now: u64, more: Object) -> Zeroizing<Vec<u8>> {
    let mut file = object([
        ("alg", alg.name().into()),
        ("created", Value::int(now).unwrap_or(Value::Int(0))),
        ("seed", to_hex(seed).into()),
    ]);
    file.extend(more);
    Zeroizing::new(Value::Object(file).canonical().into_bytes())
}

fn parse_key(bytes: &[u8], name: &str) -> Result<(SecretKey, Fields), KeysError> {
    let parse = || {
        let mut fields = Fields::signed(bytes, "key", 64 << 10)?;
        let alg = fields.text("alg", 16)?;
        let expected = "ed25519 or p256";
        let alg = Alg::from_name(&alg).ok_or(FormatError::Value { path: fields.path("alg"), expected })?;
        fields.integer("created")?;
        let seed = Zeroizing::new(fields.hex::<32>("seed")?);
        Ok((alg, seed, fields))
    };
    let (alg, seed, fields) = parse().map_err(|source| KeysError::File { name: name.to_owned(), source })?;
    let key = SecretKey::from_seed(alg, &seed)
        .map_err(|source| KeysError::Key { name: name.to_owned(), source })?;
    Ok((key, fields))
}

fn finish(fields: Fields, name: &str) -> Result<(), KeysError> {
    fields.finish().map_err(|source| KeysError::File { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("home"), Duration::ZERO);
        (folder, home)
    }

    #[test]
    fn first_use_makes_keys_and_the_second_uses_them() {
        let (_folder, home) = home();
        let (first, made) = ready(&home, &|| 1000).unwrap();
        assert!(made.unwrap().identity.is_some());
        let (second, made) = ready(&home, &|| 2000).unwrap();
        assert_eq!((made, second.certified), (None, first.certified));
    }

    #[test]
    fn an_expired_or_revoked_key_is_replaced_under_the_same_identity() {
        let (_folder, home) = home();
        let (first, _) = ready(&home, &|| 1000).unwrap();
        let later = 1001 + VALIDITY;
        let (second, made) = ready(&home, &|| later).unwrap();
        assert_eq!(made.unwrap().identity, None);
        assert_eq!(first.certified.identity, second.certified.identity);
        let identity = identity(&home).unwrap().unwrap();
        let id = second.certified.key.id();
        revoke(&home.write().unwrap(), &identity, id, RevocationReason::Retired, later).unwrap();
        let (third, _) = ready(&home, &|| later + 1).unwrap();
        assert_ne!(third.certified.key, second.certified.key);
        // Without the identity's private half nothing new is made.
        home.write().unwrap().remove(Area::Keys, IDENTITY).unwrap();
        assert!(ready(&home, &|| later + 2).is_ok());
        assert!(matches!(ready(&home, &|| later + VALIDITY * 2), Err(KeysError::NoIdentity)));
    }

    #[test]
    fn damaged_and_swapped_key_files_are_named() {
        let (_folder, home) = home();
        let (key, _) = ready(&home, &|| 1000).unwrap();
        let writer = home.write().unwrap();
        let name = format!("{}{SUFFIX}", key.certified.key.id());
        let more = object([("certificate", key.certificate.to_value())]);
        writer.put(Area::Keys, &name, &key_file(Alg::Ed25519, &[9; 32], 1000, more)).unwrap();
        assert!(matches!(receipt_keys(&home), Err(KeysError::OtherKey { .. })));
        writer.put(Area::Keys, &name, b"{}").unwrap();
        assert!(matches!(receipt_keys(&home), Err(KeysError::File { .. })));
    }

    #[test]
    fn pins_round_trip() {
        let (_folder, home) = home();
        let (key, _) = ready(&home, &|| 1000).unwrap();
        let one = Pin { key: key.certified.identity, label: "me".to_owned() };
        let writer = home.write().unwrap();
        pin(&writer, &one).unwrap();
        assert_eq!(pins(&home).unwrap(), std::slice::from_ref(&one));
        let bare = Pin { label: String::new(), ..one.clone() };
        pin(&writer, &bare).unwrap();
        assert_eq!(pins(&home).unwrap(), [bare]);
        assert!(matches!(pin(&writer, &Pin { label: "x".repeat(65), ..one.clone() }), Err(KeysError::Label)));
        unpin(&writer, one.key.id()).unwrap();
        assert_eq!(pins(&home).unwrap(), []);
    }
}
