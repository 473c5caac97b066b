//! Sampling parameters, and their form in a claim (`sampling.md` §5).

use hallmark_receipt::domain::SEED;
use hallmark_receipt::json::{Object, Value, object};
use hallmark_receipt::wire::{Fields, FormatError, as_integer, to_hex};
use hallmark_receipt::{Digest, Nonce};

/// The version of `spec/sampling.md` that this crate implements.
pub const VERSION: u32 = 1;
/// The most stop tokens.
pub const MAX_STOP: usize = 64;
/// The most bytes of a number's text: the least float32 has 149 digits after the point.
const MAX_NUMBER: usize = 160;

/// Where the randomness comes from, and so who could choose it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seed {
    /// A number of the client's.
    Client(u64),
    /// Of the request's commitment and the client's nonce: nobody's choice alone.
    Request {
        /// The commitment to the request's inputs.
        request: Digest,
        /// The client's nonce.
        nonce: Nonce,
    },
    /// Bytes of the node's.
    Node([u8; 32]),
}

impl Seed {
    /// The generator's key.
    pub fn bytes(&self) -> [u8; 32] {
        match self {
            Self::Client(number) => SEED.hash(&[&[0], &number.to_be_bytes()]).0,
            Self::Request { request, nonce } => SEED.hash(&[&[1], request.as_bytes(), &nonce.0]).0,
            Self::Node(bytes) => *bytes,
        }
    }

    /// `seed_from`: `client`, `request` or `node`.
    pub fn from(&self) -> &'static str {
        match self {
            Self::Client(_) => "client",
            Self::Request { .. } => "request",
            Self::Node(_) => "node",
        }
    }
}

/// How tokens are drawn. [`Parameters::check`] gives the bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// 0: greedy. Otherwise logits are divided by it.
    pub temperature: f32,
    /// The most likely tokens that stay; 0: all.
    pub top_k: u32,
    /// The least total probability of the tokens that stay; 1: all.
    pub top_p: f32,
    /// The least probability, as a part of the greatest; 0: any.
    pub min_p: f32,
    /// Divides (or multiplies, below 0) the logits of tokens that occurred; 1: nothing.
    pub repetition: f32,
    /// Subtracted from the logits of generated tokens.
    pub presence: f32,
    /// Subtracted from the logits of generated tokens, once for each time.
    pub frequency: f32,
    /// Tokens that end the sequence, ascending.
    pub stop: Vec<u32>,
    /// Tokens generated, at most.
    pub max_tokens: u32,
    /// Needed unless temperature is 0.
    pub seed: Option<Seed>,
}

/// A parameter outside its bounds.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ParameterError {
    #[error("{name} is {got}, expected {expected}")]
    Bound { name: &'static str, expected: &'static str, got: f32 },
    #[error("stop tokens must ascend, at most {MAX_STOP} of them")]
    Stop,
    #[error("max_tokens must be 1 or more")]
    MaxTokens,
    #[error("top_k is {got}, above 2^31 - 1")]
    TopK { got: u32 },
    #[error("a temperature above 0 needs a seed, and 0 takes none")]
    Seed,
}

impl Parameters {
    /// The most likely token each time.
    pub fn greedy(max_tokens: u32) -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition: 1.0,
            presence: 0.0,
            frequency: 0.0,
            stop: Vec::new(),
            max_tokens,
            seed: None,
        }
    }

    /// Checks every bound of `sampling.md` §5.
    ///
    /// # Errors
    /// The first parameter that is outside.
    pub fn check(&self) -> Result<(), ParameterError> {
        let within = |name, got: f32, expected, fits: bool| {
            let zero = got.to_bits() == (-0.0_f32).to_bits();
            if fits && !zero { Ok(()) } else { Err(ParameterError::Bound { name, expected, got }) }
        };
        let &Self { temperature: t, top_p, min_p, repetition, presence, frequency, .. } = self;
        within("temperature", t, "0 to 100", (0.0..=100.0).contains(&t))?;
        within("top_p", top_p, "above 0, at most 1", top_p > 0.0 && top_p <= 1.0)?;
        within("min_p", min_p, "0 to 1", (0.0..=1.0).contains(&min_p))?;
        within("repetition", repetition, "above 0, at most 100", repetition > 0.0 && repetition <= 100.0)?;
        within("presence", presence, "-100 to 100", (-100.0..=100.0).contains(&presence))?;
        within("frequency", frequency, "-100 to 100", (-100.0..=100.0).contains(&frequency))?;
        if self.top_k > i32::MAX as u32 {
            return Err(ParameterError::TopK { got: self.top_k });
        }
        if self.stop.len() > MAX_STOP || self.stop.windows(2).any(|pair| pair.first() >= pair.last()) {
            return Err(ParameterError::Stop);
        }
        if self.max_tokens == 0 {
            return Err(ParameterError::MaxTokens);
        }
        if self.seed.is_some() == (t == 0.0) { Err(ParameterError::Seed) } else { Ok(()) }
    }

    /// The generator's key; zeros where nothing is drawn.
    pub(super) fn seed_bytes(&self) -> [u8; 32] {
        self.seed.as_ref().map_or([0; 32], Seed::bytes)
    }

    /// Members of a claim's `parameters`.
    pub fn to_object(&self) -> Object {
        let text = |x: f32| Value::Str(x.to_string());
        let mut members = object([
            ("frequency", text(self.frequency)),
            ("max_tokens", Value::Int(self.max_tokens.into())),
            ("min_p", text(self.min_p)),
            ("presence", text(self.presence)),
            ("repetition", text(self.repetition)),
            ("sampling", Value::Int(VERSION.into())),
            ("stop", Value::Array(self.stop.iter().map(|&id| Value::Int(id.into())).collect())),
            ("temperature", text(self.temperature)),
            ("top_k", Value::Int(self.top_k.into())),
            ("top_p", text(self.top_p)),
        ]);
        if let Some(seed) = &self.seed {
            let value = match seed {
                Seed::Client(number) => object([("client", number.to_string().into())]),
                Seed::Request { request, nonce } => {
                    object([("nonce", nonce.to_string().into()), ("request", request.to_string().into())])
                }
                Seed::Node(bytes) => object([("node", to_hex(bytes).into())]),
            };
            members.insert("seed".to_owned(), Value::Object(value));
            members.insert("seed_from".to_owned(), seed.from().into());
        }
        members
    }

    /// Reads a claim's `parameters`: exactly what [`Parameters::to_object`] writes.
    ///
    /// # Errors
    /// A member that is missing, unknown, in another form or outside its bounds.
    pub fn from_object(members: &Object) -> Result<Self, FormatError> {
        let parameters = Self::take(&mut Fields::new(Value::Object(members.clone()), "parameters")?)?;
        // One form only: what is read must be what would be written.
        if parameters.to_object() == *members {
            Ok(parameters)
        } else {
            Err(FormatError::NotCanonical { path: "parameters".to_owned() })
        }
    }

    fn take(fields: &mut Fields) -> Result<Self, FormatError> {
        let value =
            |fields: &Fields, name, expected| FormatError::Value { path: fields.path(name), expected };
        if fields.integer("sampling")? != u64::from(VERSION) {
            return Err(value(fields, "sampling", "1"));
        }
        let mut stop = Vec::new();
        for (path, item) in fields.array("stop", MAX_STOP)? {
            let id = u32::try_from(as_integer(&item, &path)?);
            stop.push(id.map_err(|_| FormatError::Value { path, expected: "a token's id" })?);
        }
        let seed = if fields.has("seed") { Some(seed(fields)?) } else { None };
        let parameters = Self {
            temperature: number(fields, "temperature")?,
            top_k: integer(fields, "top_k")?,
            top_p: number(fields, "top_p")?,
            min_p: number(fields, "min_p")?,
            repetition: number(fields, "repetition")?,
            presence: number(fields, "presence")?,
            frequency: number(fields, "frequency")?,
            stop,
            max_tokens: integer(fields, "max_tokens")?,
            seed,
        };
        match parameters.check() {
            Ok(()) => Ok(parameters),
            Err(ParameterError::Bound { name, expected, .. }) => Err(value(fields, name, expected)),
            Err(ParameterError::Stop) => Err(value(fields, "stop", "ascending ids")),
            Err(ParameterError::MaxTokens) => Err(value(fields, "max_tokens", "1 or more")),
            Err(ParameterError::TopK { .. }) => Err(value(fields, "top_k", "at most 2^31 - 1")),
            Err(ParameterError::Seed) => Err(value(fields, "seed", "a seed unless temperature is 0")),
        }
    }
}

/// A float32 as text in its one form.
fn number(fields: &mut Fields, name: &'static str) -> Result<f32, FormatError> {
    let text = fields.text(name, MAX_NUMBER)?;
    let number = text.parse::<f32>().ok().filter(|x| x.is_finite() && x.to_string() == text);
    let expected = "the shortest decimal text of a float32";
    number.ok_or_else(|| FormatError::Value { path: fields.path(name), expected })
}

fn integer(fields: &mut Fields, name: &'static str) -> Result<u32, FormatError> {
    let expected = "an integer below 2^32";
    u32::try_from(fields.integer(name)?).map_err(|_| FormatError::Value { path: fields.path(name), expected })
}

fn seed(fields: &mut Fields) -> Result<Seed, FormatError> {
    let from = fields.text("seed_from", 8)?;
    let mut seed = fields.fields("seed")?;
    let read = match from.as_str() {
        "client" => {
            let text = seed.text("client", 20)?;
            let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
            let expected = "a decimal number below 2^64";
            Seed::Client(number.ok_or_else(|| FormatError::Value { path: seed.path("client"), expected })?)
        }
        "request" => Seed::Request { request: seed.digest("request")?, nonce: Nonce(seed.hex("nonce")?) },
        "node" => Seed::Node(seed.hex("node")?),
        _ => {
            let expected = "client, request or node";
            return Err(FormatError::Value { path: fields.path("seed_from"), expected });
        }
    };
    seed.finish()?;
    Ok(read)
}
