//! A rendered chat that remembers which control tokens are the template's own.

use serde_json::Value;

/// A chat as text, where text that merely looks like a control token is marked.
///
/// Only [`ChatTemplate::render`](crate::ChatTemplate::render) makes one, from untrusted messages, and [`Prompt::trusted`], from text
/// whose control tokens all mean it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text, with `mark` after the first character of whatever looks like a control token and came in through a message.
    marked: String,
    mark: Option<char>,
}

impl Prompt {
    /// A prompt that was written by someone who may write control tokens.
    pub fn trusted(text: impl Into<String>) -> Self {
        Self { marked: text.into(), mark: None }
    }

    /// The text that Hugging Face would tokenize.
    pub fn text(&self) -> String {
        self.plain(&self.marked)
    }

    /// Whether a message holds text that looks like a control token.
    pub fn is_marked(&self) -> bool {
        self.mark.is_some_and(|mark| self.marked.contains(mark))
    }

    pub(crate) fn marked(&self) -> &str {
        &self.marked
    }

    pub(crate) fn starts_with_mark(&self, text: &str) -> bool {
        self.mark.is_some_and(|mark| text.starts_with(mark))
    }

    pub(crate) fn plain(&self, text: &str) -> String {
        self.mark.map_or_else(|| text.to_owned(), |mark| text.chars().filter(|&c| c != mark).collect())
    }
}

/// Marks what looks like a control token in the strings of a chat.
pub(crate) struct Marker<'a> {
    control: &'a [String],
    mark: char,
}

impl<'a> Marker<'a> {
    /// A marker whose mark, one of Unicode's noncharacters, occurs nowhere in `source` or `values`. `None` where all of them occur:
    /// no honest text has even one.
    pub(crate) fn new(control: &'a [String], source: &str, values: &[&Value]) -> Option<Self> {
        let free = |mark: &char| !source.contains(*mark) && !values.iter().any(|value| occurs(value, *mark));
        ('\u{FDD0}'..='\u{FDEF}').find(free).map(|mark| Self { control, mark })
    }

    /// `value` with every string in it marked.
    pub(crate) fn mark(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.mark_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark(item)),
            Value::Object(map) => {
                if map.keys().any(|key| self.control.iter().any(|token| key.contains(token.as_str()))) {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(mut key, item)| {
                            self.mark_text(&mut key);
                            (key, item)
                        })
                        .collect();
                }
                map.iter_mut().for_each(|(_, item)| self.mark(item));
            }
            _ => {}
        }
    }

    fn mark_text(&self, text: &mut String) {
        if !self.control.iter().any(|token| !token.is_empty() && text.contains(token.as_str())) {
            return;
        }
        // A mark at each place where a control token begins, so that tokens that overlap are broken too.
        let mut marked = String::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            marked.push(character);
            let rest = text.get(at..).unwrap_or("");
            if self.control.iter().any(|token| !token.is_empty() && rest.starts_with(token.as_str())) {
                marked.push(self.mark);
            }
        }
        *text = marked;
    }

    pub(crate) fn prompt(&self, marked: String) -> Prompt {
        Prompt { marked, mark: Some(self.mark) }
    }
}

fn occurs(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| occurs(item, mark)),
        Value::Object(map) => map.iter().any(|(key, item)| key.contains(mark) || occurs(item, mark)),
        _ => false,
    }
}
