//! What is asked and what is answered, apart from any wire format. Every dialect parses into [`ChatRequest`] and every backend
//! answers in [`Delta`]s.

use serde_json::{Map, Value, json};

/// A request for an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The model's name, as the gateway lists it.
    pub model: String,
    /// The conversation, oldest first; never empty.
    pub messages: Vec<Message>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must call one.
    pub tool_choice: ToolChoice,
    /// The form of the answer.
    pub format: Format,
    /// Whether the pieces should be given as they come.
    pub stream: bool,
    /// Whether there is no conversation, but one text to go on from: the only message's, as it stands.
    pub raw: bool,
    /// Members of the request that this type does not name, for backends that speak the same format.
    pub extra: Map<String, Value>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub parts: Vec<Part>,
    /// Calls that an assistant's turn made.
    pub tool_calls: Vec<ToolCall>,
    /// For a tool's turn: the call that it answers.
    pub tool_call_id: Option<String>,
    /// The speaker's name, where the format has one.
    pub name: Option<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image: a `data:` or `https:` URL.
    Image {
        /// The URL.
        url: String,
        /// OpenAI's `detail`.
        detail: Option<String>,
    },
    /// Anything else that OpenAI's format allows (audio, files), as it came.
    Other(Value),
}

/// How tokens are chosen; absent means the model's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// The most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Chosen by the requester, where it wants the same answer again.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// How many alternatives to give with each token; `None` for no probabilities at all.
    pub logprobs: Option<u32>,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    pub parameters: Option<Value>,
    /// Whether arguments must follow the schema exactly.
    pub strict: Option<bool>,
}

/// Whether a function must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    Function(String),
}

/// The form of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Free text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that follows a schema.
    JsonSchema {
        /// The schema's name.
        name: String,
        /// The schema.
        schema: Value,
        /// Whether it must be followed exactly.
        strict: Option<bool>,
    },
}

/// A call of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments: JSON text, as the model wrote it.
    pub arguments: String,
}

impl ToolCall {
    /// OpenAI's form, with exactly these members.
    pub fn to_value(&self) -> Value {
        json!({"id": self.id, "type": "function",
               "function": {"name": self.name, "arguments": self.arguments}})
    }
}

/// A token of the answer, where the backend knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: Option<u32>,
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest alternatives, likeliest first.
    pub top: Vec<(String, f64)>,
}

impl Token {
    fn to_value(&self) -> Value {
        let item =
            |text: &str, logprob: f64| json!({"token": text, "logprob": logprob, "bytes": text.as_bytes()});
        let mut value = item(&self.text, self.logprob);
        if let Value::Object(members) = &mut value {
            let top = self.top.iter().map(|(text, logprob)| item(text, *logprob)).collect();
            members.insert("top_logprobs".to_owned(), Value::Array(top));
        }
        value
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Finish {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
}

impl Finish {
    /// What OpenAI's word means.
    pub fn named(word: &str) -> Self {
        match word {
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Stop,
        }
    }

    /// OpenAI's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// How many tokens went in and came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
    /// Of the request, those that the provider had cached.
    pub cached: u64,
    /// Of the answer, those that were not shown.
    pub reasoning: u64,
}

impl Usage {
    /// Both.
    pub fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// OpenAI's form.
    pub fn to_value(self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.total(),
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        })
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// Text, and the tokens that make it up where they are known.
    Text {
        /// The text; may be empty while tokens make no whole character.
        text: String,
        /// Its tokens.
        tokens: Vec<Token>,
    },
    /// A piece of call number `index`. Id and name come once, with the first piece.
    Tool {
        /// Which call, from 0.
        index: usize,
        /// Its id.
        id: Option<String>,
        /// The function.
        name: Option<String>,
        /// More of the arguments' text.
        arguments: String,
    },
    /// The requester's stop text that ends the answer. `Finish` follows.
    StopText(String),
    /// Why it ended. Nothing but `Usage` and `Replay` follows.
    Finish(Finish),
    /// The counts, once known.
    Usage(Usage),
    /// What makes the receipt re-runnable.
    Replay(Box<crate::backend::Replay>),
}

/// The most bytes of an answer's text and arguments together.
pub const MAX_ANSWER: usize = 16 << 20;
/// The most calls of one answer.
pub const MAX_CALLS: usize = 128;

/// An answer as far as it has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completed {
    /// The text.
    pub text: String,
    /// The calls, in order.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens, where they are known.
    pub tokens: Vec<Token>,
    /// The requester's stop text that ended it, where that is known.
    pub stop_text: Option<String>,
    /// Why it ended; `None` while it has not.
    pub finish: Option<Finish>,
    /// The counts.
    pub usage: Option<Usage>,
    /// What makes the receipt re-runnable.
    pub replay: Option<Box<crate::backend::Replay>>,
    size: usize,
}

/// An answer larger than [`MAX_ANSWER`] or with more than [`MAX_CALLS`] calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is larger than a gateway takes")]
pub struct TooLarge;

impl Completed {
    /// Takes the next piece in.
    pub fn push(&mut self, delta: &Delta) -> Result<(), TooLarge> {
        match delta {
            Delta::Text { text, tokens } => {
                self.grow(text.len())?;
                self.text.push_str(text);
                self.tokens.extend_from_slice(tokens);
            }
            Delta::Tool { index, id, name, arguments } => {
                if *index >= MAX_CALLS {
                    return Err(TooLarge);
                }
                self.grow(arguments.len())?;
                if *index >= self.tool_calls.len() {
                    self.tool_calls.resize_with(index + 1, ToolCall::default);
                }
                if let Some(call) = self.tool_calls.get_mut(*index) {
                    if let Some(id) = id {
                        call.id.clone_from(id);
                    }
                    if let Some(name) = name {
                        call.name.clone_from(name);
                    }
                    call.arguments.push_str(arguments);
                }
            }
            Delta::StopText(text) => self.stop_text = Some(text.clone()),
            Delta::Finish(finish) => self.finish = Some(*finish),
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Replay(replay) => self.replay = Some(replay.clone()),
        }
        Ok(())
    }

    fn grow(&mut self, by: usize) -> Result<(), TooLarge> {
        self.size = self.size.saturating_add(by);
        if self.size > MAX_ANSWER { Err(TooLarge) } else { Ok(()) }
    }

    /// The calls in OpenAI's form.
    pub fn calls(&self) -> Value {
        Value::Array(self.tool_calls.iter().map(ToolCall::to_value).collect())
    }

    /// The assistant's message in OpenAI's form: what a receipt's `response` commits to.
    pub fn message(&self) -> Value {
        let content = if self.text.is_empty() && !self.tool_calls.is_empty() {
            Value::Null
        } else {
            Value::String(self.text.clone())
        };
        let mut message = json!({"role": "assistant", "content": content});
        if let (Value::Object(members), false) = (&mut message, self.tool_calls.is_empty()) {
            members.insert("tool_calls".to_owned(), self.calls());
        }
        message
    }

    /// OpenAI's `logprobs`, if any token is known.
    pub fn logprobs(tokens: &[Token]) -> Value {
        if tokens.is_empty() {
            return Value::Null;
        }
        json!({"content": tokens.iter().map(Token::to_value).collect::<Vec<_>>(), "refusal": null})
    }

    /// Why it ended, in the end.
    pub fn finish(&self) -> Finish {
        self.finish.unwrap_or(if self.tool_calls.is_empty() { Finish::Stop } else { Finish::ToolCalls })
    }
}

impl Message {
    /// All text of the message.
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None })
            .collect()
    }
}
