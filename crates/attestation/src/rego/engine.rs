//! The interpreter, [regorus](https://github.com/microsoft/regorus), without functions that read anything but `input` and `data`.

use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value as Rego};
use serde_json::{Value, json};

use super::{Claims, Fault, MAX_POLICY, MAX_REFERENCE, PolicyError, REQUIRED_CLAIMS, TRUST_CLAIMS, bounds};
use crate::Reason;

/// How long an evaluation may take, in seconds. Policies in use take milliseconds.
const SECONDS: u64 = 5;
/// How many steps are made between looks at the clock.
const STEPS: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);
/// The stack of an evaluation, in bytes: what the deepest policy within bounds takes, several times.
const STACK: usize = 256 << 20;
/// The most characters of what the interpreter says.
const MAX_MESSAGE: usize = 400;
/// What policies call their own file in messages.
const FILE: &str = "policy";

/// A policy in Rego with its reference values; it was read, and answers one of the known questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    text: String,
    /// The syntax of before Rego 1.0.
    old: bool,
    /// As JSON, an object.
    reference: Value,
    form: Form,
}

/// Where the answer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Form {
    /// In the members of `trust_claims`.
    object: bool,
    /// Else in rules of these names.
    rules: Vec<&'static str>,
    /// In `allow`; with trust claims, in both.
    allow: bool,
}

impl Policy {
    /// Reads a policy, and its reference values: a JSON object, each member a value or a list of those that may be.
    ///
    /// # Errors
    ///
    /// If one is too long, the policy is not Rego of this form (`attestation.md` §13.2), or its rules stand on each other too deep.
    pub fn parse(text: &str, reference: Option<&[u8]>) -> Result<Self, PolicyError> {
        let reference = reference.unwrap_or(b"{}");
        for (what, most, got) in
            [("a policy", MAX_POLICY, text.len()), ("reference values", MAX_REFERENCE, reference.len())]
        {
            if got > most {
                return Err(PolicyError::TooLong { what, most, got });
            }
        }
        let reference = serde_json::from_slice::<Claims>(reference)
            .map_err(|error| PolicyError::Reference { message: error.to_string() })?;
        bounds::nesting(text)?;
        // What is no Rego 1 may still be Rego of before; if it is neither, the newer parser's word counts.
        let parsed = |old| parse(text, old).map(|(engine, package)| (engine, package, old));
        let (engine, package, old) = parsed(false).or_else(|error| parsed(true).map_err(|_| error))?;
        if package != "data.policy" {
            let got = package.trim_start_matches("data.").to_owned();
            return Err(PolicyError::Package { got });
        }
        bounds::check(&engine)?;
        let has = |rule: &str| engine.has_declared_rule_rooted_at(FILE, rule).unwrap_or(false);
        let object = has("trust_claims");
        let rules = TRUST_CLAIMS.into_iter().filter(|rule| !object && has(rule)).collect();
        let form = Form { object, rules, allow: has("allow") };
        if !form.object && form.rules.is_empty() && !form.allow {
            return Err(PolicyError::NoRule);
        }
        Ok(Self { text: text.to_owned(), old, reference: Value::Object(reference), form })
    }

    /// §13.4: takes the evidence, of each device by itself. The row's words if so.
    pub(crate) fn judge(&self, claims: &[Claims], common: &Value, at: u64) -> Result<String, Reason> {
        let mut words = None;
        for (device, own) in (1..).zip(claims) {
            let mut input = own.clone();
            input.insert("hallmark".to_owned(), common.clone());
            let said = self.evaluate(&Value::Object(input), at).map_err(Reason::from);
            words = Some(said.map_err(|reason| match claims.len() {
                1 => reason,
                _ => Reason::Device { device, reason: Box::new(reason) },
            })?);
        }
        words.ok_or(Fault::Undefined("input").into())
    }

    /// What the policy says of an input, on a thread of its own: its stack holds the deepest policy within bounds, and nothing that
    /// goes wrong inside the interpreter goes further.
    fn evaluate(&self, input: &Value, at: u64) -> Result<String, Fault> {
        let failed = |message: &str| Fault::Evaluation { message: message.to_owned() };
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("rego".to_owned()).stack_size(STACK);
            let run = || self.answer(&input.to_string(), at);
            let thread =
                builder.spawn_scoped(scope, run).map_err(|_| failed("no thread could be started"))?;
            thread.join().unwrap_or_else(|_| Err(failed("the interpreter failed")))
        })
    }

    fn answer(&self, input: &str, at: u64) -> Result<String, Fault> {
        let mut engine = self.engine(input, at).map_err(|error| fault(&error))?;
        let mut words = Vec::new();
        if self.form.object {
            let value = eval(&mut engine, "trust_claims")?;
            let form = Fault::Form { rule: "trust_claims", expected: "an object" };
            let members = value.as_object().map_err(|_| form)?;
            let mut claims = Vec::new();
            for (name, value) in members.iter() {
                let name = name.as_string().map(ToString::to_string).unwrap_or_default();
                let known =
                    TRUST_CLAIMS.into_iter().find(|claim| claim.replace('_', "-") == name.replace('_', "-"));
                claims.push((known.ok_or(Fault::UnknownClaim(name))?, value.clone()));
            }
            words.push(affirming(&claims)?);
        } else if !self.form.rules.is_empty() {
            let claims: Result<Vec<_>, _> =
                self.form.rules.iter().map(|rule| Ok((*rule, eval(&mut engine, rule)?))).collect();
            words.push(affirming(&claims?)?);
        }
        if self.form.allow {
            match eval(&mut engine, "allow")? {
                Rego::Bool(true) => words.push("`allow` is true".to_owned()),
                Rego::Bool(false) => return Err(Fault::Denied),
                _ => return Err(Fault::Form { rule: "allow", expected: "true or false" }),
            }
        }
        Ok(words.join("; "))
    }

    fn engine(&self, input: &str, at: u64) -> anyhow::Result<Engine> {
        let (mut engine, _) = parse(&self.text, self.old).map_err(anyhow::Error::new)?;
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: Duration::from_secs(SECONDS),
            check_interval: STEPS,
        });
        bounds::replace_built_ins(&mut engine, at)?;
        let reference = Rego::from_json_str(&self.reference.to_string())?;
        engine.add_data_json(&json!({ "reference": self.reference }).to_string())?;
        let query = move |arguments: Vec<Rego>| {
            let member = arguments.first().zip(reference.as_object().ok());
            Ok(member.and_then(|(name, members)| members.get(name)).cloned().unwrap_or(Rego::Undefined))
        };
        engine.add_extension("query_reference_value".to_owned(), 1, Box::new(query))?;
        engine.set_input_json(input)?;
        Ok(engine)
    }
}

/// An engine that holds the policy, and the policy's package.
fn parse(text: &str, old: bool) -> Result<(Engine, String), PolicyError> {
    let mut engine = Engine::new();
    engine.set_rego_v0(old);
    // What a policy prints is not shown.
    engine.set_gather_prints(true);
    let package = engine
        .add_policy(FILE.to_owned(), text.to_owned())
        .map_err(|error| PolicyError::Syntax { message: message(&error) })?;
    Ok((engine, package))
}

/// The value of a rule of the policy.
fn eval(engine: &mut Engine, rule: &'static str) -> Result<Rego, Fault> {
    match engine.eval_rule(format!("data.policy.{rule}")).map_err(|error| fault(&error))? {
        Rego::Undefined => Err(Fault::Undefined(rule)),
        value => Ok(value),
    }
}

/// Every claim that is asserted is affirming, and the required ones are asserted.
fn affirming(claims: &[(&'static str, Rego)]) -> Result<String, Fault> {
    let mut words = Vec::new();
    for (claim, value) in claims {
        let form = Fault::Form { rule: claim, expected: "a whole number" };
        match value.as_i64().map_err(|_| form)? {
            0 if !REQUIRED_CLAIMS.contains(claim) => {}
            value @ 2..=31 => words.push(format!("{claim} {value}")),
            value => return Err(Fault::Claim { claim, value }),
        }
    }
    let missing = REQUIRED_CLAIMS.into_iter().find(|claim| !claims.iter().any(|(name, _)| name == claim));
    missing.map_or_else(|| Ok(words.join(", ")), |claim| Err(Fault::Undefined(claim)))
}

fn fault(error: &anyhow::Error) -> Fault {
    match error.downcast_ref() {
        Some(LimitError::TimeLimitExceeded { .. }) => Fault::Time { seconds: SECONDS },
        _ => Fault::Evaluation { message: message(error) },
    }
}

/// What the interpreter says, in one line: where, then what. It draws the place over several lines.
fn message(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let place = text.lines().find_map(|line| line.trim().strip_prefix("--> ")).map(|place| {
        let mut parts = place.rsplitn(3, ':');
        let (column, line) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        format!("line {line}, column {column}: ")
    });
    let what = text.lines().find_map(|line| line.trim().strip_prefix("error: "));
    let what = what.or_else(|| text.lines().next()).unwrap_or_default();
    format!("{}{what}", place.unwrap_or_default()).chars().take(MAX_MESSAGE).collect()
}
