//! Chat templates: Jinja as `transformers` renders it, under limits.
//!
//! As there, `trim_blocks` and `lstrip_blocks` are on, `break` and `continue` are known, strings have Python's methods, and there are
//! `raise_exception`, `strftime_now` and a `tojson` that writes what Python's `json.dumps(.., ensure_ascii=False)` writes.
//!
//! A template has so many steps, and what it makes, walks or compares counts as steps (`bound`): no template exhausts time, memory or
//! the stack. What Jinja lacks and minijinja has (`chain`, `zip`, `debug`) is not there.
//!
//! Unlike there, `strftime_now` has no clock: it answers from [`Request::dates`] or fails, and is not defined where there are none. (Many
//! templates ask whether it is, and have a date of their own.) `{% generation %}` is read and ignored.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, machinery};

use crate::guard::{on_large_stack, short, unpanicked};
use crate::message::{Request, SpecialTokens};
use crate::prompt::{Marker, Prompt};

mod bound;
mod json;

/// A model's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    special: SpecialTokens,
}

/// Why a chat could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is too long.
    #[error("a template of {got} bytes; at most {limit} are read")]
    SourceTooLong {
        /// Its length in bytes.
        got: usize,
        /// [`ChatTemplate::MAX_SOURCE`].
        limit: usize,
    },
    /// The template is not Jinja, or of a kind that is not known.
    #[error("not a template: {0}")]
    Syntax(String),
    /// The template itself refuses the chat, by `raise_exception`.
    #[error("the template refuses the chat: {0}")]
    Raised(String),
    /// The template asks what day it is, in a format that the caller did not answer.
    #[error("the template asks for the date as {0:?}, and no such date was given")]
    NoDate(String),
    /// The template runs too long or makes too much.
    #[error("the template needs more than {limit} steps")]
    OutOfFuel {
        /// The steps that this chat allows.
        limit: u64,
    },
    /// The rendered chat is too long.
    #[error("a rendered chat of {got} bytes; at most {limit} are allowed")]
    OutputTooLong {
        /// Its length in bytes.
        got: usize,
        /// [`ChatTemplate::MAX_OUTPUT`].
        limit: usize,
    },
    /// The chat cannot be given to a template.
    #[error("the chat is not JSON: {0}")]
    Chat(String),
    /// A chat that holds every one of the 32 noncharacters U+FDD0 to U+FDEF.
    #[error("the chat holds all of U+FDD0 to U+FDEF, of which one is needed")]
    Noncharacters,
    /// Rendering failed otherwise: an unknown filter, a missing value.
    #[error("the template fails: {0}")]
    Failed(String),
    /// The library failed where it must not.
    #[error("a panic inside the template library")]
    Panicked,
}

/// What a function of a template fails with, carried through the library's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(TemplateError);

impl ChatTemplate {
    /// The longest template, in bytes.
    pub const MAX_SOURCE: usize = 1 << 20;
    /// The longest rendered chat, in bytes.
    pub const MAX_OUTPUT: usize = 4 << 20;
    /// Steps that a rendering may take: one an instruction, one for every 64 bytes and every item that it makes or walks. A message
    /// costs a usual template some hundreds.
    pub const FUEL: u64 = 2_000_000;
    /// How deep macros may call one another: a frame takes about 10 kB of the stack.
    const MAX_DEPTH: usize = 40;

    /// Reads a template. `special` are the model's control tokens.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, TemplateError> {
        if source.len() > Self::MAX_SOURCE {
            return Err(TemplateError::SourceTooLong { got: source.len(), limit: Self::MAX_SOURCE });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| TemplateError::Syntax(short(e)))?);
        environment.set_fuel(Some(Self::FUEL));
        environment.set_recursion_limit(Self::MAX_DEPTH);
        bound::prepare(&mut environment);
        environment.set_formatter(json::print_like_python);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(refusal(TemplateError::Raised(short(message))))
        });
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        // Whatever has a length and an index, texts and maps too.
        environment.add_test("sequence", |value: &Value| value.is_undefined() || value.len().is_some());
        // As Jinja reads its source.
        let text = without_generation(&source.replace("\r\n", "\n").replace('\r', "\n"));
        unpanicked(|| environment.add_template_owned("chat", text))
            .ok_or(TemplateError::Panicked)?
            .map_err(|e| TemplateError::Syntax(short(detail(&e))))?;
        Ok(Self { environment, source: source.to_owned(), special })
    }

    /// Renders a chat to the prompt of its next message.
    pub fn render(&self, request: &Request) -> Result<Prompt, TemplateError> {
        let json = |e: serde_json::Error| TemplateError::Chat(short(e));
        let mut messages = serde_json::to_value(request.messages).map_err(json)?;
        let mut tools = serde_json::to_value(request.tools).map_err(json)?;
        let mut extra = request.extra.cloned().unwrap_or_default();
        let marker = Marker::new(&self.special.control, &self.source, &[&messages, &tools, &extra])
            .ok_or(TemplateError::Noncharacters)?;
        for value in [&mut messages, &mut tools, &mut extra] {
            marker.mark(value);
        }
        let mut context: Vec<(String, Value)> = Vec::new();
        if let serde_json::Value::Object(extra) = extra {
            context.extend(extra.into_iter().map(|(name, value)| (name, Value::from(Serde(value)))));
        }
        context.push(("messages".into(), Value::from(Serde(messages))));
        let tools = if request.tools.is_empty() { Value::from(()) } else { Value::from(Serde(tools)) };
        context.push(("tools".into(), tools));
        context.push(("documents".into(), Value::from(())));
        context.push(("add_generation_prompt".into(), Value::from(request.add_generation_prompt)));
        if !request.dates.is_empty() {
            context.push(("strftime_now".into(), strftime_now(request.dates)));
        }
        let special = &self.special;
        let named =
            [("bos", &special.bos), ("eos", &special.eos), ("pad", &special.pad), ("unk", &special.unk)];
        for (name, token) in named {
            if let Some(token) = token {
                context.push((format!("{name}_token"), Value::from(token.as_str())));
            }
        }
        let text = self.run(Value::from_pairs(context))?;
        if text.len() > Self::MAX_OUTPUT {
            return Err(TemplateError::OutputTooLong { got: text.len(), limit: Self::MAX_OUTPUT });
        }
        Ok(marker.prompt(text))
    }

    fn run(&self, context: Value) -> Result<String, TemplateError> {
        // A template can nest calls of macros, and values, and each level takes of the stack.
        let rendered = on_large_stack(|| {
            let template = self.environment.get_template("chat")?;
            let instructions = bound::bounded(machinery::get_compiled_template(&template));
            let (mut text, blocks) = (String::new(), BTreeMap::new());
            let mut out = machinery::make_string_output(&mut text);
            let evaluated = machinery::eval(
                &self.environment,
                &instructions,
                context,
                &blocks,
                &mut out,
                AutoEscape::None,
            );
            evaluated.map(drop)?;
            Ok(text)
        });
        rendered.ok_or(TemplateError::Panicked)?.map_err(|error: Error| {
            if error.kind() == ErrorKind::OutOfFuel {
                return TemplateError::OutOfFuel { limit: Self::FUEL };
            }
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
            while let Some(at) = cause {
                if let Some(Refusal(refusal)) = at.downcast_ref() {
                    return refusal.clone();
                }
                cause = at.source();
            }
            TemplateError::Failed(short(detail(&error)))
        })
    }
}

fn refusal(error: TemplateError) -> Error {
    Error::new(ErrorKind::InvalidOperation, "refused").with_source(Refusal(error))
}

fn detail(error: &Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    match error.detail() {
        Some(detail) => format!("{}: {detail}{line}", error.kind()),
        None => format!("{}{line}", error.kind()),
    }
}

fn strftime_now(dates: &[(&str, &str)]) -> Value {
    let dates: Vec<(String, String)> =
        dates.iter().map(|(f, d)| ((*f).to_owned(), (*d).to_owned())).collect();
    Value::from_function(move |format: String| {
        dates
            .iter()
            .find(|(known, _)| *known == format)
            .map(|(_, date)| date.clone())
            .ok_or_else(|| refusal(TemplateError::NoDate(short(format))))
    })
}

/// The template with `{% generation %}` blocks, which mark what is trained on, made blocks that are always taken.
fn without_generation(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        result.push_str(before);
        result.push_str("{%");
        let Some((tag, behind)) = after.split_once("%}") else {
            rest = after;
            break;
        };
        let word = tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let known = match word {
            "generation" => tag.replace(word, "if true"),
            "endgeneration" => tag.replace(word, "endif"),
            _ => {
                // Not even the end of this tag is certain: `%}` may stand in a string.
                rest = after;
                continue;
            }
        };
        result.push_str(&known);
        result.push_str("%}");
        rest = behind;
    }
    result.push_str(rest);
    result
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("source", &self.source)
            .field("special", &self.special)
            .finish_non_exhaustive()
    }
}
