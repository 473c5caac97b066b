//! A language model as its files describe it: from a request to a prompt and parameters (`chat.md` §2).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use hallmark_model::llm::model::TOKENIZER;
use hallmark_model::llm::sampling::{MAX_STOP, Parameters, Seed};
use hallmark_model::llm::{Carried, LlmError};
use hallmark_text::{
    ChatTemplate, FunctionCall, Grammar, GrammarCompiler, GrammarError, GrammarKind, Message, Request,
    SpecialTokens, TemplateError, Tokenizer, ToolCall,
};
use serde_json::{Value, json};

use super::carried::Own;
use super::{calls, schema};
use crate::backend::BackendError;
use crate::chat::{self, ChatRequest, Format, Part, Role, ToolChoice};

/// The most tokens of an answer where the request names no number. Not what is left of the context: that would tell the prompt's length to
/// whoever sees a receipt.
const DEFAULT_TOKENS: u64 = 1024;
/// Members of configurations that name the tokens at which an answer ends.
const END: &str = "eos_token_id";

/// Why files do not make a language model that chats.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum LanguageError {
    #[error("the model has no {0}")]
    Missing(&'static str),
    #[error("{file} is not JSON: {why}")]
    Json { file: &'static str, why: String },
    #[error(transparent)]
    Tokenizer(#[from] hallmark_text::TokenizerError),
    #[error(transparent)]
    Template(#[from] hallmark_text::TemplateError),
    #[error(
        "its .gguf carries no vocabulary (`tokenizer.ggml.tokens`), and no tokenizer.json lies beside it"
    )]
    NoVocabulary,
    #[error("gguf: metadata `tokenizer.ggml.{name}` is not {expected}")]
    Metadata { name: &'static str, expected: &'static str },
    #[error(transparent)]
    Gguf(#[from] LlmError),
    #[error("no file says at which token an answer ends")]
    NoEnd,
    #[error("the tokenizer has {tokens} tokens, the model {rows}")]
    Vocabulary { tokens: usize, rows: usize },
}

/// Tokenizer, template and the tokens that end an answer.
pub struct Language {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Ascending, not empty.
    stop: Vec<u32>,
    context: usize,
    /// Made when the first request asks for a form.
    grammars: OnceLock<Result<GrammarCompiler, GrammarError>>,
    /// `generation_config.json`, where there is one.
    defaults: Value,
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Language").field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// What a request comes down to.
pub struct Plan {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// How tokens are drawn.
    pub parameters: Parameters,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How many likely tokens to list with each; `None` for none at all.
    pub top: Option<usize>,
    /// Whether calls of tools are looked for.
    pub tools: bool,
    /// Whether the answer is one call and nothing else.
    pub forced: bool,
    /// What the answer must fit.
    pub grammar: Option<Grammar>,
}

impl Language {
    /// From the model's files by name. `context`: tokens of prompt and answer together, at most.
    pub fn open(files: &BTreeMap<String, Vec<u8>>, context: usize) -> Result<Self, LanguageError> {
        let json = |file: &'static str| match files.get(file) {
            None => Ok(Value::Null),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| LanguageError::Json { file, why: error.to_string() }),
        };
        let mut own = own(files)?;
        let (config, defaults) = (json("config.json")?, json("generation_config.json")?);
        let (about, map) = (json("tokenizer_config.json")?, json("special_tokens_map.json")?);
        let source = match files.get("chat_template.jinja") {
            Some(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            None if files.contains_key("tokenizer_config.json") => template(&about),
            None => own.as_mut().and_then(|own| own.template.take()),
        };
        let source = source.ok_or(LanguageError::Missing("chat template"))?;
        let token = |name: &str, id: &str| {
            let value = about.get(name).filter(|value| !value.is_null()).or_else(|| map.get(name));
            let value = value.and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
            value.map(str::to_owned).or_else(|| own.as_ref()?.token(id))
        };
        let mut special = SpecialTokens {
            bos: token("bos_token", "bos_token_id"),
            eos: token("eos_token", "eos_token_id"),
            pad: token("pad_token", "padding_token_id"),
            unk: token("unk_token", "unknown_token_id"),
            control: Vec::new(),
        };
        let (tokenizer, ends) = match (own, files.get(TOKENIZER)) {
            (Some(own), _) => (own.tokenizer, own.stop),
            (None, Some(file)) => (Tokenizer::from_json(file)?, Vec::new()),
            (None, None) => return Err(LanguageError::Missing(TOKENIZER)),
        };
        special.control = tokenizer.control_tokens();
        let named = special.eos.as_deref().and_then(|text| tokenizer.token_id(text));
        let mut stop: Vec<u32> =
            named.into_iter().chain(ends).chain(ids(&config)).chain(ids(&defaults)).collect();
        stop.sort_unstable();
        stop.dedup();
        stop.truncate(MAX_STOP);
        if stop.is_empty() {
            return Err(LanguageError::NoEnd);
        }
        let template = ChatTemplate::new(&source, special)?;
        Ok(Self { tokenizer, template, stop, context, grammars: OnceLock::new(), defaults })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Renders the shortest chat, and looks whether tokens can become text.
    ///
    /// # Errors
    /// A decoder that is not known; a template that gives no prompt for the chat. One that says itself that it wants another chat is taken
    /// at its word.
    pub fn check(&self) -> Result<(), LanguageError> {
        self.tokenizer.decoder(true)?;
        let messages = [Message::user("Hi")];
        let request = Request { messages: &messages, add_generation_prompt: true, ..Request::default() };
        match self.template.render(&request) {
            Ok(_) | Err(TemplateError::Raised(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Prompt and parameters for `request`. `seed` is left out where nothing is drawn.
    pub fn plan(&self, request: &ChatRequest, seed: Seed) -> Result<Plan, BackendError> {
        for name in ["logit_bias", "functions", "function_call"] {
            let idle = |value: &Value| value.is_null() || *value == json!({}) || *value == json!([]);
            if request.extra.get(name).is_some_and(|value| !idle(value)) {
                return Err(refused(&format_args!("it cannot take `{name}` into account: leave it out")));
            }
        }
        let tools: Vec<Value> = match request.tool_choice {
            ToolChoice::None => Vec::new(),
            _ => request.tools.iter().map(tool).collect(),
        };
        let prompt = if request.raw { self.text(request)? } else { self.chat(request, &tools)? };
        if prompt.len() >= self.context {
            return Err(BackendError::TooLong { got: prompt.len(), limit: self.context });
        }
        let parameters = self.parameters(request, seed)?;
        parameters.check().map_err(|error| refused(&error))?;
        Ok(Plan {
            prompt,
            parameters,
            stop: request.sampling.stop.clone(),
            top: request.sampling.logprobs.and_then(|top| usize::try_from(top).ok()),
            tools: !tools.is_empty(),
            forced: matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_)),
            grammar: self.grammar(request)?,
        })
    }

    /// The tokens of a conversation.
    fn chat(&self, request: &ChatRequest, tools: &[Value]) -> Result<Vec<u32>, BackendError> {
        let mut messages = request.messages.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        let extra = request.extra.get("chat_template_kwargs").filter(|value| !value.is_null());
        if extra.is_some_and(|extra| !extra.is_object()) {
            return Err(refused(&"`chat_template_kwargs`: expected an object"));
        }
        let rendered = |messages: &[Message]| {
            let request =
                Request { messages, tools, add_generation_prompt: true, extra, ..Request::default() };
            self.template.render(&request)
        };
        let mut prompt = rendered(&messages);
        if prompt.is_err() && messages.iter().any(|message| message.content.is_none()) {
            // Some templates join a message's text to others' without asking whether there is one.
            for message in &mut messages {
                message.content.get_or_insert_default();
            }
            prompt = rendered(&messages);
        }
        let prompt = prompt.map_err(|error| refused(&error))?;
        self.tokenizer.encode_prompt(&prompt).map_err(|error| refused(&error))
    }

    /// The tokens of a text to go on from, in the tokenizer's own frame. Whoever writes it writes control tokens too.
    fn text(&self, request: &ChatRequest) -> Result<Vec<u32>, BackendError> {
        let text: String = request.messages.iter().map(chat::Message::text).collect();
        let prompt = self.tokenizer.encode(&text, true).map_err(|error| refused(&error))?;
        if prompt.is_empty() {
            Err(refused(&"an empty text gives it nothing to go on from"))
        } else {
            Ok(prompt)
        }
    }

    fn parameters(&self, request: &ChatRequest, seed: Seed) -> Result<Parameters, BackendError> {
        let asked = &request.sampling;
        // A request's numbers come first, then the model's own defaults. Adding +0 makes +0 of -0.
        let number = |asked: Option<f64>, name: &str, otherwise: f64| {
            let default = self.defaults.get(name).and_then(Value::as_f64);
            asked.or(default).unwrap_or(otherwise) as f32 + 0.0
        };
        // Members that OpenAI's formats do not have, as servers of open models name them.
        let more = |name: &str| match request.extra.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let wrong = || refused(&format_args!("`{name}`: expected a number"));
                value.as_f64().map(Some).ok_or_else(wrong)
            }
        };
        let temperature = number(asked.temperature, "temperature", 1.0);
        let top_k = number(more("top_k")?, "top_k", 0.0).max(0.0);
        let max_tokens = asked.max_tokens.unwrap_or(DEFAULT_TOKENS);
        Ok(Parameters {
            temperature,
            // -1 and 0 are all.
            top_k: top_k as u32,
            top_p: number(asked.top_p, "top_p", 1.0),
            min_p: number(more("min_p")?, "min_p", 0.0),
            repetition: number(more("repetition_penalty")?, "repetition_penalty", 1.0),
            presence: number(asked.presence_penalty, "presence_penalty", 0.0),
            frequency: number(asked.frequency_penalty, "frequency_penalty", 0.0),
            stop: self.stop.clone(),
            max_tokens: u32::try_from(max_tokens).unwrap_or(u32::MAX),
            seed: (temperature != 0.0).then_some(seed),
        })
    }

    /// A call that must come leaves the asked form no place.
    fn grammar(&self, request: &ChatRequest) -> Result<Option<Grammar>, BackendError> {
        let called = |wanted: &dyn Fn(&chat::Tool) -> bool, none: &dyn fmt::Display| {
            let tools: Vec<&chat::Tool> = request.tools.iter().filter(|tool| wanted(tool)).collect();
            if tools.is_empty() { Err(refused(none)) } else { Ok((GrammarKind::Lark, calls::grammar(tools))) }
        };
        let (kind, text) = match (&request.tool_choice, &request.format) {
            (ToolChoice::Required, _) => {
                called(&|_| true, &"`tool_choice` asks for a call, but there are no tools")?
            }
            (ToolChoice::Function(name), _) => called(
                &|tool| tool.name == *name,
                &"`tool_choice` names a function that is not among the tools",
            )?,
            (_, Format::Text) => return Ok(None),
            (_, Format::JsonObject) => {
                (GrammarKind::JsonSchema, schema::shaped(&json!({"type": "object"}), true).to_string())
            }
            (_, Format::JsonSchema { schema, strict, .. }) => {
                (GrammarKind::JsonSchema, schema::shaped(schema, *strict == Some(true)).to_string())
            }
        };
        let end = self.stop.first().copied().unwrap_or(0);
        let compiler = self.grammars.get_or_init(|| GrammarCompiler::new(&self.tokenizer, end));
        let compiler = compiler.as_ref().map_err(|error| refused(error))?;
        compiler.compile(kind, &text).map(Some).map_err(|error| refused(&error))
    }
}

/// The request is at fault.
fn refused(why: &dyn fmt::Display) -> BackendError {
    BackendError::Unfit { message: why.to_string().chars().take(1024).collect() }
}

/// What the `.gguf` carries, where no `tokenizer.json` lies beside it.
fn own(files: &BTreeMap<String, Vec<u8>>) -> Result<Option<Own>, LanguageError> {
    if files.contains_key(TOKENIZER) {
        return Ok(None);
    }
    let gguf = files.keys().find(|name| name.ends_with(".gguf"));
    gguf.map(|name| Own::new(Carried::read(name, files)?)).transpose()
}

/// The template in `tokenizer_config.json`: one text, or the one named `default`.
fn template(about: &Value) -> Option<String> {
    match about.get("chat_template")? {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default =
                named.iter().find(|entry| entry.get("name").is_some_and(|name| name == "default"))?;
            default.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The ids under [`END`]: one, or a list.
fn ids(config: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(END) {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

fn message(message: &chat::Message) -> Result<Message, BackendError> {
    if message.parts.iter().any(|part| !matches!(part, Part::Text(_))) {
        return Err(BackendError::Unsupported { what: "anything but text in a message" });
    }
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool | Role::Function => "tool",
    };
    let call = |call: &chat::ToolCall| ToolCall {
        id: Some(call.id.clone()),
        kind: "function",
        function: FunctionCall {
            name: call.name.clone(),
            // What is no JSON is shown to the model as it is.
            arguments: serde_json::from_str(&call.arguments)
                .unwrap_or_else(|_| call.arguments.clone().into()),
        },
    };
    Ok(Message {
        role: role.to_owned(),
        content: (!message.parts.is_empty()).then(|| message.text()),
        tool_calls: message.tool_calls.iter().map(call).collect(),
        tool_call_id: message.tool_call_id.clone(),
        name: message.name.clone(),
    })
}

fn tool(tool: &chat::Tool) -> Value {
    let mut function = json!({"name": tool.name});
    if let Value::Object(members) = &mut function {
        members
            .extend(tool.description.as_ref().map(|text| ("description".to_owned(), text.as_str().into())));
        members.extend(tool.parameters.as_ref().map(|schema| ("parameters".to_owned(), schema.clone())));
    }
    json!({"type": "function", "function": function})
}
