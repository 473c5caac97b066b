//! Panics of other people's code, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; `None` where it panicked. Whatever `work` changed by reference must not be used after that.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// The first 300 characters of an outside error's text.
pub(crate) fn short(error: impl std::fmt::Display) -> String {
    error.to_string().chars().take(300).collect()
}
