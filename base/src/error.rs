//! Errors as text.

use std::error::Error;

/// Returns an error with all its causes on one line, each behind a colon.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
