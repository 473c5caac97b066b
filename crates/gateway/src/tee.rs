//! The `tee_*` fields of OpenGradient's gateways, byte for byte, so that their published clients verify our answers. They are unsalted by their design: they
//! go out with the answer and stay out of receipts.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallmark_receipt::wire::to_hex;
use serde_json::{Map, Value, json};
use sha3::{Digest as _, Keccak256};

use crate::chat::{Completed, Finish};

/// An RSA-2048 signing key, whose public half names the node in OpenGradient's registry.
pub struct TeeKey {
    pair: KeyPair,
    spki: Vec<u8>,
    tee_id: String,
}

impl std::fmt::Debug for TeeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeeKey({})", self.tee_id)
    }
}

/// The RSA key is not one, or could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TeeError {
    /// Not an RSA key in PKCS #8.
    #[error("not a PKCS #8 RSA private key of 2048 bits or more")]
    Key,
    /// Not signed.
    #[error("the RSA key could not sign")]
    Sign,
}

impl TeeKey {
    /// A new RSA-2048 key.
    pub fn generate() -> Result<Self, TeeError> {
        Self::new(KeyPair::generate(KeySize::Rsa2048).map_err(|_| TeeError::Key)?)
    }

    /// The key in a PKCS #8 document.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TeeError> {
        Self::new(KeyPair::from_pkcs8(der).map_err(|_| TeeError::Key)?)
    }

    /// The key as a PKCS #8 document, to keep. Secret.
    pub fn to_pkcs8(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, TeeError> {
        let der: Result<aws_lc_rs::encoding::Pkcs8V1Der<'_>, _> = self.pair.as_der();
        der.map(|der| zeroize::Zeroizing::new(der.as_ref().to_vec())).map_err(|_| TeeError::Key)
    }

    fn new(pair: KeyPair) -> Result<Self, TeeError> {
        let spki: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
        let spki = spki.map_err(|_| TeeError::Key)?.as_ref().to_vec();
        let tee_id = format!("0x{}", to_hex(&keccak(&[&spki])));
        Ok(Self { pair, spki, tee_id })
    }

    /// `0x` and the Keccak-256 of the public key's SubjectPublicKeyInfo.
    pub fn tee_id(&self) -> &str {
        &self.tee_id
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.spki);
        let mut out = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            out.push_str(line);
            out.push('\n');
            rest = tail;
        }
        out.push_str("-----END PUBLIC KEY-----\n");
        out
    }

    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TeeError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| TeeError::Sign)?;
        Ok(signature)
    }

    /// The five fields for an answer at `seconds` since 1970.
    pub fn fields(&self, request: &str, output: &str, seconds: u64) -> Result<Map<String, Value>, TeeError> {
        let (request, output) = (keccak(&[request.as_bytes()]), keccak(&[output.as_bytes()]));
        let mut time = [0; 32];
        if let Some(low) = time.last_chunk_mut::<8>() {
            *low = seconds.to_be_bytes();
        }
        let signature = self.sign(&keccak(&[&request, &output, &time]))?;
        let fields = json!({
            "tee_signature": STANDARD.encode(signature),
            "tee_request_hash": to_hex(&request),
            "tee_output_hash": to_hex(&output),
            "tee_timestamp": seconds,
            "tee_id": self.tee_id,
        });
        match fields {
            Value::Object(fields) => Ok(fields),
            _ => Ok(Map::new()),
        }
    }
}

fn keccak(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The text over which the output's hash goes.
pub fn output_text(done: &Completed) -> String {
    if done.finish() == Finish::ToolCalls && !done.tool_calls.is_empty() {
        crate::json::python(&done.calls())
    } else {
        done.text.clone()
    }
}

/// The text over which a chat request's hash goes.
pub fn chat_text(body: &Map<String, Value>) -> String {
    let mut out = Map::new();
    let given = |name: &str| body.get(name).filter(|value| is_truthy(value)).cloned();
    out.insert("model".into(), body.get("model").cloned().unwrap_or(Value::Null));
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    out.insert("messages".into(), messages.iter().map(canonical_message).collect());
    out.insert("temperature".into(), temperature(body));
    if let Some(limit) = body.get("max_tokens").filter(|limit| !limit.is_null()) {
        out.insert("max_tokens".into(), limit.clone());
    }
    for name in ["stop", "tools", "response_format"] {
        if let Some(value) = given(name) {
            out.insert(name.into(), value);
        }
    }
    if given("web_search").is_some() {
        out.insert("web_search".into(), Value::Bool(true));
    }
    crate::json::python(&Value::Object(out))
}

/// The text over which a completion request's hash goes.
pub fn completion_text(body: &Map<String, Value>) -> String {
    let mut out = Map::new();
    for name in ["model", "prompt"] {
        out.insert(name.into(), body.get(name).cloned().unwrap_or(Value::Null));
    }
    out.insert("temperature".into(), temperature(body));
    if let Some(limit) = body.get("max_tokens").filter(|limit| !limit.is_null()) {
        out.insert("max_tokens".into(), limit.clone());
    }
    if let Some(stop) = body.get("stop").filter(|stop| is_truthy(stop)) {
        out.insert("stop".into(), stop.clone());
    }
    if body.get("web_search").is_some_and(is_truthy) {
        out.insert("web_search".into(), Value::Bool(true));
    }
    crate::json::python(&Value::Object(out))
}

fn temperature(body: &Map<String, Value>) -> Value {
    // Python's float(): an integer becomes one with `.0`.
    body.get("temperature").and_then(Value::as_f64).unwrap_or(0.0).into()
}

/// Python's idea of a value that counts as given.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn canonical_message(message: &Value) -> Value {
    let get = |name: &str| message.get(name).cloned().unwrap_or(Value::Null);
    match message.get("role").and_then(Value::as_str).unwrap_or_default() {
        "system" | "developer" => json!({"role": "system", "content": get("content")}),
        "user" => json!({"role": "user", "content": user_content(&get("content"))}),
        "assistant" => {
            let content = Some(get("content")).filter(is_truthy).unwrap_or_else(|| "".into());
            let mut out = json!({"role": "assistant", "content": content});
            let calls = message.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty());
            if let (Some(calls), Value::Object(members)) = (calls, &mut out) {
                members.insert("tool_calls".into(), calls.iter().map(canonical_call).collect());
            }
            out
        }
        "tool" => json!({"role": "tool", "content": get("content"), "tool_call_id": get("tool_call_id")}),
        role => json!({"role": role, "content": get("content"), "name": get("name")}),
    }
}

fn canonical_call(call: &Value) -> Value {
    let or = |value: Option<&Value>, default: &str| value.cloned().unwrap_or_else(|| default.into());
    let function = call.get("function");
    let part = |name: &str| or(function.and_then(|function| function.get(name)), "");
    json!({
        "id": or(call.get("id"), ""),
        "type": or(call.get("type"), "function"),
        "function": {"name": part("name"), "arguments": part("arguments")},
    })
}

/// Text stays; an attachment is reduced to its type and file name.
fn user_content(content: &Value) -> Value {
    let Value::Array(parts) = content else { return content.clone() };
    parts
        .iter()
        .map(|part| {
            let kind = part.get("type").cloned().unwrap_or(Value::Null);
            if kind == "text" {
                let text = part.get("text").filter(|text| is_truthy(text)).cloned();
                return json!({"type": "text", "text": text.unwrap_or_else(|| "".into())});
            }
            let inner = part.get("file").and_then(|file| file.get("filename")).filter(|name| is_truthy(name));
            let name = inner.or_else(|| part.get("filename").filter(|name| is_truthy(name)));
            match name {
                Some(name) => json!({"type": kind, "filename": name}),
                None => json!({"type": kind}),
            }
        })
        .collect()
}
