//! Waiting for what must happen, never for time to pass.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The first pause between two looks; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Returns once `condition` holds; an error that names `what` when it does not by `deadline`.
pub fn wait_until(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    wait_for(deadline, what, || Ok(condition().then_some(())))
}

/// Returns what `look` finds; its error at once, and one that names `what` when it finds nothing by `deadline`.
pub fn wait_for<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if started.elapsed() >= deadline {
            bail!("not within {deadline:?}: {what}");
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_not_waited_for_and_what_never_does_is_named() {
        wait_until(Duration::ZERO, "truth", || true).unwrap();
        let error = wait_until(Duration::from_millis(3), "the end of time", || false).unwrap_err();
        assert!(error.to_string().contains("the end of time"), "{error}");
    }

    #[test]
    fn an_error_while_looking_ends_the_waiting() {
        let look = || -> Result<Option<()>> { bail!("gone") };
        let error = wait_for(Duration::from_secs(600), "nothing", look).unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
