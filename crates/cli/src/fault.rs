//! What ends a command early: exit codes, and errors in three parts.
//!
//! ```text
//! error: the input does not fit the model
//!   caused by: input `image` has shape [1, 8, 9], the model takes [batch, 1, 8, 8]
//!   hint: `hallmark model show digits-cnn` lists the inputs
//! ```

use std::error::Error;

use anyhow::Error as AnyError;
use hallmark_gateway::local::{LanguageError, LocalError};
use hallmark_model::llm::LlmError;
use serde_json::{Value, json};

use crate::config::ConfigError;
use crate::console;
use crate::disk::DiskError;
use crate::keys::KeysError;
use crate::store::StoreError;
use crate::tensor_io::{ConvertError, FileError, InputError, JsonError, NpyError};

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or accepted.
    Accepted = 0,
    /// Rejected: a forged bundle, a malformed file, a model or an input that is refused.
    Rejected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Nothing failed, but not enough was shown.
    Undecided = 3,
    /// Something could not be read, written or reached.
    Unreachable = 4,
}

impl Exit {
    /// Of several outcomes the one that counts: rejected, then unreadable, then undecided, then accepted.
    pub fn worst(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Accepted => 0,
            Self::Undecided => 1,
            Self::Unreachable => 2,
            Self::Usage => 3,
            Self::Rejected => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

/// A sentence with an exit code and a hint; put on an error with [`anyhow::Context::context`].
#[derive(Clone, Debug)]
pub struct Note {
    what: String,
    exit: Option<Exit>,
    hint: Option<String>,
}

impl Note {
    /// Says `what` went wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: None, hint: None }
    }

    /// A mistake in the command line.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Some(Exit::Usage), hint: None }
    }

    /// Something that could not be read, written or reached.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: Some(Exit::Unreachable), hint: None }
    }

    /// Says what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As an error of its own.
    pub fn error(self) -> AnyError {
        AnyError::new(self)
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Note {}

/// The exit code of an error.
pub fn exit_of(error: &AnyError) -> Exit {
    if let Some(exit) = error.downcast_ref::<Note>().and_then(|note| note.exit) {
        return exit;
    }
    // A file that is too large was reached, and is refused.
    let disk = |cause: &DiskError| !matches!(cause, DiskError::TooLarge { .. });
    let store = |cause: &StoreError| matches!(cause, StoreError::Busy { .. } | StoreError::Damaged { .. });
    let keys = |cause: &KeysError| {
        matches!(cause, KeysError::File { .. } | KeysError::Key { .. } | KeysError::OtherKey { .. })
    };
    let link = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref().is_some_and(disk)
            || cause.downcast_ref().is_some_and(store)
            || cause.downcast_ref().is_some_and(keys)
    };
    // What was attached as a context is no link of the chain, but is found by its type.
    let unreachable = error.chain().any(link) || error.downcast_ref().is_some_and(store);
    if unreachable {
        Exit::Unreachable
    } else if error.chain().any(|cause| cause.is::<ConfigError>()) {
        Exit::Usage
    } else {
        Exit::Rejected
    }
}

/// Prints an error to standard error, and with `json` as an object to standard output too.
pub fn report(error: &AnyError, json: bool) -> Exit {
    let exit = exit_of(error);
    let causes = causes_of(error);
    let hint = hint_of(error);
    console::error(&error.to_string(), &causes, hint.as_deref());
    if json {
        let value: Value = json!({
            "error": { "message": error.to_string(), "causes": causes, "hint": hint },
            "exit": exit as i32,
        });
        console::json(&value);
    }
    exit
}

/// The causes, outermost first. Some errors tell their cause in their own message too; it is not said twice.
fn causes_of(error: &AnyError) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.ends_with(&cause) {
            causes.push(cause.clone());
        }
        said = cause;
    }
    causes
}

fn hint_of(error: &AnyError) -> Option<String> {
    let note = error.downcast_ref::<Note>().and_then(|note| note.hint.clone());
    // What was attached as a context is no link of the chain, but is found by its type.
    let store = || error.downcast_ref::<StoreError>().and_then(|cause| known_hint(cause));
    note.or_else(|| error.chain().find_map(known_hint).or_else(store).map(str::to_owned))
}

fn input_error<'e>(cause: &'e (dyn Error + 'static)) -> Option<&'e InputError> {
    match cause.downcast_ref::<FileError>() {
        // A transparent error is no link of the chain.
        Some(FileError::Input(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

/// Hints for causes that speak for themselves, wherever they happen.
fn known_hint(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = cause.downcast_ref::<DiskError>() {
        return match error {
            DiskError::Full { .. } => {
                Some("free some space, or choose another place with --home or --output")
            }
            DiskError::ReadOnly { .. } => Some("choose a writable place with --home or --output"),
            DiskError::Denied { .. } => {
                Some("check the owner and mode of that path, or choose another with --home")
            }
            _ => None,
        };
    }
    if let Some(FileError::Npy(NpyError::Pickled)) = cause.downcast_ref() {
        return Some("save it with an explicit dtype");
    }
    if let Some(error) = input_error(cause) {
        return match error {
            InputError::Unnamed { .. } => Some("give the inputs by name: an .npz file, or a JSON object"),
            InputError::Convert { source: ConvertError::Lossy { .. }, .. } => {
                Some("round it yourself first, for example with numpy: array.astype(numpy.float32)")
            }
            InputError::Json(JsonError::BareNonFinite { .. }) => {
                Some("write it as a string: \"NaN\", \"Infinity\" or \"-Infinity\"")
            }
            InputError::Json(JsonError::TooLarge { .. }) => Some("give large inputs as .npy or .npz"),
            InputError::Shape { .. } | InputError::Missing { .. } | InputError::Unknown { .. } => {
                Some("`hallmark model show MODEL` lists the inputs")
            }
            _ => None,
        };
    }
    if let Some(LocalError::Language(error)) = cause.downcast_ref() {
        return Some(match error {
            LanguageError::Template(_) => {
                "put a chat template that works into the folder as chat_template.jinja; the publisher's page may have a newer one"
            }
            LanguageError::Vocabulary { .. } => "take tokenizer and weights from one publisher's one model",
            _ => {
                "put the publisher's tokenizer.json and tokenizer_config.json beside the weights in a folder, and add that"
            }
        });
    }
    if let Some(error) = cause.downcast_ref::<LlmError>() {
        return match error {
            LlmError::ConfigUnsupported { .. } | LlmError::TensorType { .. } => {
                Some("this build runs what the message lists; convert the model, or take another")
            }
            LlmError::FileSize { .. }
            | LlmError::FileDigest { .. }
            | LlmError::Differs { .. }
            | LlmError::Version { .. }
            | LlmError::NotDecoder
            | LlmError::NotEncoder => None,
            _ => Some(
                "fetch the model's files again from their publisher: these are cut, damaged or of different models",
            ),
        };
    }
    match cause.downcast_ref::<StoreError>()? {
        StoreError::Busy { .. } => Some("try again when the other process is done, or use another --home"),
        StoreError::Damaged { .. } => Some("remove it and add it again; nothing else depends on it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn notes_carry_exit_and_hint_through_contexts() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error =
            AnyError::new(DiskError::new("write", std::path::Path::new("x"), io)).context("not stored");
        assert_eq!(exit_of(&error), Exit::Unreachable);
        assert!(hint_of(&error).unwrap().contains("space"));
        let error = Err::<(), _>(Note::usage("no").hint("do")).context("outer").unwrap_err();
        assert_eq!((exit_of(&error), hint_of(&error).as_deref()), (Exit::Usage, Some("do")));
        assert_eq!(exit_of(&AnyError::msg("bad model")), Exit::Rejected);
    }

    #[test]
    fn the_worst_outcome_counts() {
        use Exit::{Accepted, Rejected, Undecided, Unreachable};
        let worst = |list: &[Exit]| list.iter().fold(Accepted, |a, b| a.worst(*b));
        assert_eq!(worst(&[Accepted, Undecided, Accepted]), Undecided);
        assert_eq!(worst(&[Undecided, Unreachable]), Unreachable);
        assert_eq!(worst(&[Unreachable, Rejected, Accepted]), Rejected);
    }
}
