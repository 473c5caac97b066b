//! A chat as a caller gives it.

use serde::Serialize;
use serde_json::Value;

/// One message of a chat. Every string in it is untrusted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or whatever else the template knows.
    pub role: String,
    /// The text; absent in a message that only calls tools.
    pub content: Option<String>,
    /// The calls that the assistant made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call that a `tool` message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the tool that answers, or of the speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A call of a tool, in the shape that templates expect.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ToolCall {
    /// The caller's id of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`: the one kind there is.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What is called.
    pub function: FunctionCall,
}

/// The function of a [`ToolCall`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// Its arguments: a JSON object. Templates disagree with the API here, whose arguments are a string of JSON: parse it first.
    pub arguments: Value,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(content.into()), ..Self::default() }
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of the system.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

impl ToolCall {
    /// A call of the function `name`.
    pub fn function(name: impl Into<String>, arguments: Value) -> Self {
        Self { id: None, kind: "function", function: FunctionCall { name: name.into(), arguments } }
    }
}

/// What a chat template renders.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// The chat so far.
    pub messages: &'a [Message],
    /// Definitions of tools as JSON, each `{"type": "function", "function": {..}}`. Empty: the template sees `tools` as none.
    pub tools: &'a [Value],
    /// Whether the prompt ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Further variables of the template, such as `enable_thinking`: an object.
    pub extra: Option<&'a Value>,
    /// What `strftime_now(format)` answers, by format. A template that asks for another format gets an error: there is no clock here.
    /// Empty: the template finds no `strftime_now`.
    pub dates: &'a [(&'a str, &'a str)],
}

/// A model's control tokens, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `bos_token` of the template.
    pub bos: Option<String>,
    /// `eos_token` of the template.
    pub eos: Option<String>,
    /// `pad_token` of the template.
    pub pad: Option<String>,
    /// `unk_token` of the template.
    pub unk: Option<String>,
    /// Every control token of the tokenizer ([`Tokenizer::control_tokens`](crate::Tokenizer::control_tokens)): what may not come in
    /// through a message.
    pub control: Vec<String>,
}
