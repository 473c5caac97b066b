//! Members of a request, typed and bounded, with the path of whatever is wrong. `null` is as good as absent, as clients have it.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// The most items of any list in a request.
pub const MAX_ITEMS: usize = 4096;

/// An object of the request.
#[derive(Clone)]
pub struct Fields<'a> {
    members: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The request itself.
    pub fn root(members: &'a Map<String, Value>) -> Self {
        Self { members, path: String::new() }
    }

    fn of(value: &'a Value, path: String) -> Result<Self, ApiError> {
        match value {
            Value::Object(members) => Ok(Self { members, path }),
            _ => Err(ApiError::invalid(path, "expected an object")),
        }
    }

    /// The full name of member `name`.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A complaint about member `name`.
    pub fn wrong(&self, name: &str, expected: &str) -> ApiError {
        ApiError::invalid(self.path(name), format!("`{}`: expected {expected}", self.path(name)))
    }

    /// Member `name`, if it is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        self.get(name).map(|value| read(value).ok_or_else(|| self.wrong(name, expected))).transpose()
    }

    /// Text, if given.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "text", Value::as_str)
    }

    /// Text that must be given.
    pub fn needed(&self, name: &str) -> Result<&'a str, ApiError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "text"))
    }

    /// A truth value, if given.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// An integer of 0 or more, if given.
    pub fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.typed(name, "an integer of 0 or more", Value::as_u64)
    }

    /// A number between two others, if given.
    pub fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f64>, ApiError> {
        let read = |value: &Value| value.as_f64().filter(|number| (low..=high).contains(number));
        self.typed(name, &format!("a number from {low} to {high}"), read)
    }

    /// An object, if given.
    pub fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        self.get(name).map(|value| Self::of(value, self.path(name))).transpose()
    }

    /// An object that must be given.
    pub fn needed_object(&self, name: &str) -> Result<Self, ApiError> {
        self.object(name)?.ok_or_else(|| self.wrong(name, "an object"))
    }

    /// A list of objects; empty if not given.
    pub fn objects(&self, name: &str) -> Result<Vec<Self>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().filter(|items| items.len() <= MAX_ITEMS);
        let items = items.ok_or_else(|| self.wrong(name, &format!("a list of at most {MAX_ITEMS} items")))?;
        let path = self.path(name);
        items.iter().enumerate().map(|(index, item)| Self::of(item, format!("{path}[{index}]"))).collect()
    }

    /// A text or a list of texts; empty if not given.
    pub fn texts(&self, name: &str, limit: usize) -> Result<Vec<String>, ApiError> {
        let wrong = || self.wrong(name, &format!("a text, or a list of at most {limit} texts"));
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) if items.len() <= limit => {
                items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The members that `known` does not name.
    pub fn others(&self, known: &[&str]) -> Map<String, Value> {
        let others = self.members.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        others.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The object itself.
    pub fn value(&self) -> Value {
        Value::Object(self.members.clone())
    }
}
