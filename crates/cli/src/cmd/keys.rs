//! `hallmark keys`.

use std::path::Path;

use anyhow::{Context, Result};
use hallmark_receipt::certificate::RevocationReason;
use hallmark_receipt::json::{Value as Strict, object};
use hallmark_receipt::wire::Fields;
use hallmark_receipt::{Alg, Envelope, KeyId, PayloadType, PublicKey, Revocation, SecretKey, Signer};
use hallmark_verdict::time;
use serde_json::{Value, json};

use super::App;
use crate::args::{AlgArg, KeysCommand, ReasonArg};
use crate::console::{self, table};
use crate::disk::{self, Access, Disk};
use crate::fault::{Exit, Note};
use crate::keys::{self, KeysError, Pin};
use crate::time::now;

/// The format of an exported identity.
const FORMAT: &str = "hallmark-identity/1";
const MAX_EXPORT: u64 = 4 << 20;

/// Runs `keys COMMAND`.
pub fn run(app: &App, command: KeysCommand) -> Result<Exit> {
    match command {
        KeysCommand::New { alg } => new(app, alg),
        KeysCommand::Show => show(app),
        KeysCommand::Rotate => rotate(app),
        KeysCommand::Revoke { key, reason } => revoke(app, &key, reason),
        KeysCommand::Trust { key, label, remove } => trust(app, &key, &label, remove),
        KeysCommand::Export { output } => export(app, output.as_deref()),
    }
    .map(|()| Exit::Accepted)
}

fn new(app: &App, alg: AlgArg) -> Result<()> {
    let alg = match alg {
        AlgArg::Ed25519 => Alg::Ed25519,
        AlgArg::P256 => Alg::P256,
    };
    let now = now();
    let writer = app.home.write()?;
    let identity = keys::new_identity(&app.home, &writer, alg, now)
        .context(Note::new("no keys were made").hint("`hallmark keys rotate` replaces the receipt key"))?;
    let key = keys::new_receipt_key(&writer, &identity, now)?;
    let (identity, receipt) = (identity.public_key(), key.certified.key.id());
    app.show(
        || json!({ "identity": identity.id().to_string(), "public_key": identity.to_string(), "receipt_key": receipt.to_string() }),
        || {
            vec![
                format!("identity     {}", identity.id()),
                format!("receipt key  {receipt}, valid until {}", time::text(key.certified.not_after)),
                format!("public key   {identity}"),
            ]
        },
    );
    Ok(())
}

fn show(app: &App) -> Result<()> {
    let now = now();
    let keys = keys::receipt_keys(&app.home)?;
    let secret = keys::identity(&app.home)?;
    let identity = public_identity(app, secret.as_ref())?;
    let revocations = keys::revocations(&app.home)?;
    let pins = keys::pins(&app.home)?;
    let current = keys::current(&app.home, now)?.map(|key| key.certified.key.id());
    let state = |key: &keys::ReceiptKey| {
        let id = key.certified.key.id();
        let revoked = revocations.iter().find(|(_, revocation)| revocation.key == id);
        match revoked {
            Some((_, revocation)) => revocation.reason.name(),
            None if !key.certified.is_valid_at(now) => "expired",
            None if current == Some(id) => "current",
            None => "valid",
        }
    };
    app.show(
        || {
            let keys: Vec<Value> = keys
                .iter()
                .map(|key| {
                    json!({
                        "id": key.certified.key.id().to_string(),
                        "not_before": key.certified.not_before,
                        "not_after": key.certified.not_after,
                        "state": state(key),
                    })
                })
                .collect();
            let pins: Vec<Value> = pins
                .iter()
                .map(|pin| json!({ "id": pin.key.id().to_string(), "public_key": pin.key.to_string(), "label": pin.label }))
                .collect();
            json!({
                "identity": identity.map(|key| key.id().to_string()),
                "public_key": identity.map(|key| key.to_string()),
                "identity_here": secret.is_some(),
                "receipt_keys": keys,
                "trusted": pins,
            })
        },
        || {
            let mut lines = Vec::new();
            match identity {
                None => lines.push("no identity yet; the first receipt makes one, or `hallmark keys new`".to_owned()),
                Some(key) => {
                    let place = if secret.is_some() { "" } else { "  (its private half is kept elsewhere)" };
                    lines.push(format!("identity {}{place}", key.id()));
                }
            }
            let rows: Vec<Vec<String>> = keys
                .iter()
                .map(|key| {
                    let period =
                        format!("{} to {}", time::text(key.certified.not_before), time::text(key.certified.not_after));
                    vec!["  receipt key".to_owned(), key.certified.key.id().to_string(), state(key).to_owned(), period]
                })
                .collect();
            lines.extend(table(&rows));
            let rows: Vec<Vec<String>> = pins
                .iter()
                .map(|pin| vec!["trusted".to_owned(), pin.key.id().to_string(), pin.label.clone()])
                .collect();
            lines.extend(table(&rows));
            lines
        },
    );
    Ok(())
}

fn rotate(app: &App) -> Result<()> {
    let now = now();
    let writer = app.home.write()?;
    let identity = own_identity(app)?;
    let old = keys::current(&app.home, now)?.map(|key| key.certified.key.id());
    let key = keys::new_receipt_key(&writer, &identity, now)?;
    // The new key first: a kill in between leaves two good keys, not none.
    if let Some(old) = old {
        keys::revoke(&writer, &identity, old, RevocationReason::Retired, now)?;
    }
    let id = key.certified.key.id();
    app.show(
        || json!({ "receipt_key": id.to_string(), "retired": old.map(|old| old.to_string()), "not_after": key.certified.not_after }),
        || {
            let mut lines = vec![format!("receipt key  {id}, valid until {}", time::text(key.certified.not_after))];
            lines.extend(old.map(|old| format!("retired      {old}; what it signed before now still counts")));
            lines
        },
    );
    Ok(())
}

fn revoke(app: &App, key: &str, reason: ReasonArg) -> Result<()> {
    let now = now();
    let writer = app.home.write()?;
    let identity = own_identity(app)?;
    let id = if key == "identity" { identity.public_key().id() } else { find_key(app, key)? };
    let reason = match reason {
        ReasonArg::Compromised => RevocationReason::Compromised,
        ReasonArg::Retired => RevocationReason::Retired,
    };
    keys::revoke(&writer, &identity, id, reason, now)?;
    app.show(
        || json!({ "revoked": id.to_string(), "reason": reason.name(), "time": now }),
        || vec![format!("revoked {id} ({})", reason.name())],
    );
    console::note("others learn of it from the file that `hallmark keys export --output FILE` writes");
    Ok(())
}

fn trust(app: &App, key: &str, label: &str, remove: bool) -> Result<()> {
    if remove {
        let pins = keys::pins(&app.home)?;
        let named: Vec<&Pin> = pins
            .iter()
            .filter(|pin| {
                pin.key.to_string() == key || pin.key.id().to_string().starts_with(key) || pin.label == key
            })
            .collect();
        let [pin] = named.as_slice() else {
            return Err(Note::usage(format!("{} pinned identities match `{key}`", named.len()))
                .hint("`hallmark keys show` lists them")
                .error());
        };
        let id = pin.key.id();
        keys::unpin(&app.home.write()?, id)?;
        app.show(|| json!({ "removed": id.to_string() }), || vec![format!("no longer trusted: {id}")]);
        return Ok(());
    }
    let (key, revocations) = match key.parse::<PublicKey>() {
        Ok(key) => (key, Vec::new()),
        Err(_) if Path::new(key).exists() => read_export(Path::new(key))?,
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context(Note::usage("neither a public key nor a file").hint(
                    "a public key looks like ed25519:5f2c..; `hallmark keys export` prints one's own",
                )));
        }
    };
    let writer = app.home.write()?;
    // Pinned again without a name, an identity keeps the one that it has.
    let old = keys::pins(&app.home)?.into_iter().find(|pin| pin.key == key).map(|pin| pin.label);
    let label = if label.is_empty() { old.unwrap_or_default() } else { label.to_owned() };
    for envelope in &revocations {
        keys::put_revocation(&writer, envelope)?;
    }
    keys::pin(&writer, &Pin { key, label: label.clone() })?;
    let id = key.id();
    app.show(
        || json!({ "trusted": id.to_string(), "label": label, "revocations": revocations.len() }),
        || vec![format!("trusted: {id}, with {} revocations", revocations.len())],
    );
    Ok(())
}

fn export(app: &App, output: Option<&Path>) -> Result<()> {
    let secret = keys::identity(&app.home)?;
    let identity = public_identity(app, secret.as_ref())?.ok_or(KeysError::NoIdentity);
    let identity =
        identity.context(Note::new("there is nothing to export").hint("`hallmark keys new` makes keys"))?;
    let revocations = keys::revocations(&app.home)?;
    let own: Vec<&Envelope> = revocations
        .iter()
        .filter(|(_, revocation)| revocation.identity == identity)
        .map(|(e, _)| e)
        .collect();
    let file = Strict::Object(object([
        ("format", FORMAT.into()),
        ("identity", identity.to_string().as_str().into()),
        ("revocations", Strict::Array(own.iter().map(|envelope| envelope.to_value()).collect())),
    ]));
    if let Some(path) = output {
        Disk::default().write(path, file.pretty().as_bytes(), Access::Public)?;
    }
    app.show(
        || json!({ "identity": identity.id().to_string(), "public_key": identity.to_string(), "revocations": own.len() }),
        || vec![identity.to_string()],
    );
    Ok(())
}

/// Reads what `keys export --output` wrote: the identity and its revocations, each checked.
fn read_export(path: &Path) -> Result<(PublicKey, Vec<Envelope>)> {
    let bytes = disk::read(path, MAX_EXPORT)?;
    let what = || format!("{} is no exported identity", path.display());
    let limit = usize::try_from(MAX_EXPORT).unwrap_or(usize::MAX);
    let value = Strict::parse(&bytes, limit).with_context(what)?;
    let mut fields = Fields::new(value, "").with_context(what)?;
    fields.constant("format", FORMAT).with_context(what)?;
    let key: PublicKey = fields.text("identity", 128).with_context(what)?.parse().with_context(what)?;
    let mut revocations = Vec::new();
    for (path, value) in fields.array("revocations", 1024).with_context(what)? {
        let envelope = Envelope::from_value(value, &path, PayloadType::Revocation).with_context(what)?;
        let revocation = Revocation::verify(&envelope).with_context(what)?;
        if revocation.identity != key {
            return Err(Note::new(what()).hint("it holds the revocation of another identity").error());
        }
        revocations.push(envelope);
    }
    fields.finish().with_context(what)?;
    Ok((key, revocations))
}

fn own_identity(app: &App) -> Result<SecretKey> {
    let identity = keys::identity(&app.home)?.ok_or(KeysError::NoIdentity);
    identity.context(
        Note::new("the identity's private key is needed").hint(
            "`hallmark keys new` makes one; if it is kept elsewhere, put its file `keys/identity` back",
        ),
    )
}

/// The identity by its private key, or by a receipt key's certificate where that is kept elsewhere.
fn public_identity(app: &App, secret: Option<&SecretKey>) -> Result<Option<PublicKey>> {
    if let Some(secret) = secret {
        return Ok(Some(secret.public_key()));
    }
    Ok(keys::receipt_keys(&app.home)?.first().map(|key| key.certified.identity))
}

fn find_key(app: &App, prefix: &str) -> Result<KeyId> {
    let ids: Vec<KeyId> = keys::receipt_keys(&app.home)?.iter().map(|key| key.certified.key.id()).collect();
    let found: Vec<&KeyId> = ids.iter().filter(|id| id.to_string().starts_with(prefix)).collect();
    match found.as_slice() {
        [one] if prefix.len() >= 4 => Ok(**one),
        _ => Err(anyhow::Error::new(KeysError::Unknown { id: prefix.to_owned() }).context(
            Note::usage("which key?").hint("`hallmark keys show` lists them; four digits or more name one"),
        )),
    }
}
