//! Calls in a model's text, as Hermes and Qwen write them: how they are found, and the grammar of one that must come (`chat.md` §3).

use std::fmt::Write as _;

use serde_json::Value;

use super::schema;
use crate::chat::Tool;

/// What opens a call.
pub const OPEN: &str = "<tool_call>";
/// What closes it.
const CLOSE: &str = "</tool_call>";

/// A call, and the text on both sides of it.
pub struct Found {
    /// What comes before it, without white space at its end.
    pub before: String,
    /// The function's name.
    pub name: String,
    /// Its arguments in RFC 8785's form.
    pub arguments: String,
    /// What comes after it, without white space at its beginning.
    pub after: String,
}

/// The first call in `text`, if it is whole.
pub fn find(text: &str) -> Option<Found> {
    let (before, rest) = text.split_once(OPEN)?;
    // An argument may hold the text that closes a call: what is between them must be a call too.
    let (name, arguments, after) = rest.match_indices(CLOSE).find_map(|(at, _)| {
        let (inside, after) = rest.split_at_checked(at)?;
        let (name, arguments) = read(inside.trim())?;
        Some((name, arguments, after.strip_prefix(CLOSE)?))
    })?;
    Some(Found {
        before: before.trim_end().to_owned(),
        name,
        arguments,
        after: after.trim_start().to_owned(),
    })
}

/// `text` without a call at its end that was cut off.
pub fn whole(text: &str) -> &str {
    match text.rsplit_once(OPEN) {
        Some((before, rest)) if !rest.contains(CLOSE) => before.trim_end(),
        _ => text,
    }
}

/// Name and arguments of a call: `{"name": .., "arguments": {..}}`.
fn read(text: &str) -> Option<(String, String)> {
    // Half a call ends in no brace: it need not be parsed again with each token.
    let call: Value = serde_json::from_str(text.ends_with('}').then_some(text)?).ok()?;
    let arguments = call.get("arguments").or_else(|| call.get("parameters"))?;
    Some((call.get("name")?.as_str()?.to_owned(), crate::json::canonical(arguments)))
}

/// The grammar, in Lark's notation, of an answer that is one call of one of `tools` and nothing else.
pub fn grammar<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> String {
    let mut rules = String::new();
    let mut names = Vec::new();
    for (index, tool) in tools.into_iter().enumerate() {
        let head = format!("{OPEN}\n{{\"name\": {}, \"arguments\": ", quoted(&tool.name));
        let tail = format!("}}\n{CLOSE}");
        // Writing to a String cannot fail.
        let _ = writeln!(rules, "call_{index}: {} arguments_{index} {}", quoted(&head), quoted(&tail));
        let _ = writeln!(
            rules,
            "arguments_{index}: %json {}",
            schema::arguments(tool.parameters.as_ref(), tool.strict == Some(true))
        );
        names.push(format!("call_{index}"));
    }
    format!("start: {}\n{rules}", names.join(" | "))
}

/// `text` as JSON writes it, which is how Lark's notation writes it but for U+007F.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
