//! Panics of others as errors: the state machine's, and redb's, which asserts what it expects of
//! pages that may be damaged. Unwinding through the engine would end one of its tasks and leave
//! everybody else waiting for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; a panic in it becomes its text. What `work` was changing must not be used again.
pub(crate) fn unless_panicked<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("panicked ({})", text.unwrap_or("without a text"))
    })
}
