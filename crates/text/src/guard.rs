//! Panics of other people's code, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; `None` where it panicked. Whatever `work` changed by reference must not be used after that.
pub(crate) fn unpanicked<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// How much stack [`on_large_stack`] gives, in bytes. It is address space, not memory, until it is used.
const STACK: usize = 512 << 20;

/// Runs `work` where it may recurse deeper than the caller's stack allows; `None` where it panicked, or no thread could be had.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()?;
        thread.join().ok()
    })
}

/// The first 300 characters of an outside error's text.
pub(crate) fn short(error: impl std::fmt::Display) -> String {
    error.to_string().chars().take(300).collect()
}
