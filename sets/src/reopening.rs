//! Opens sets again that could not be opened for lack of space: nobody should have to restart a station that only waited.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// How often it is tried.
const EVERY: Duration = Duration::from_secs(10);

/// How often it is tried at the least.
const EVERY_MAX: Duration = Duration::from_secs(600);

/// Tries until the station stops: `reopen` tells whether space lacks still.
pub async fn keep(
    reopen: impl Fn() -> bool + Send + Sync + 'static,
    mut stopping: watch::Receiver<bool>,
) {
    let reopen = Arc::new(reopen);
    let mut pause = EVERY;
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let (again, begun) = (Arc::clone(&reopen), Instant::now());
        let tried = tokio::task::spawn_blocking(move || again()).await;
        pause = match tried {
            Ok(are_full) => pause_after(begun.elapsed(), are_full),
            Err(error) => {
                tracing::error!(%error, "opening sets again failed");
                EVERY_MAX
            }
        };
    }
}

/// Returns how long to wait after a try that took so long: one that fills the disk with half an index for minutes, in vain,
/// is not to be what the station does all day.
fn pause_after(took: Duration, are_full: bool) -> Duration {
    if are_full { (took * 10).clamp(EVERY, EVERY_MAX) } else { EVERY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_takes_long_in_vain_is_seldom_made() {
        let seconds = Duration::from_secs;
        assert_eq!(pause_after(seconds(0), true), EVERY);
        assert_eq!(pause_after(seconds(30), true), seconds(300));
        assert_eq!(pause_after(seconds(180), true), EVERY_MAX);
        assert_eq!(pause_after(seconds(180), false), EVERY, "it was opened at last");
    }
}
