//! How doors are opened: an address that cannot be had is a problem that is shown, and tried again; nothing else waits for it.

use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often an address that is taken is tried again.
const OPEN_EVERY: Duration = Duration::from_secs(5);

/// Why a door is shut that should be open.
#[derive(Debug, Default)]
pub(crate) struct Shut(Mutex<Option<String>>);

impl Shut {
    /// Returns why; none where the door is open or not wanted.
    pub(crate) fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries until a door is open, and returns it.
    pub(crate) async fn open<T>(
        &self,
        door: &str,
        address: SocketAddr,
        open: impl Fn() -> anyhow::Result<T>,
    ) -> T {
        loop {
            let opened = open();
            let why = opened.as_ref().err().map(|error| format!("{error:#}"));
            let before = std::mem::replace(
                &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
                why.clone(),
            );
            if let Some(error) = why.filter(|_| before.is_none()) {
                tracing::error!(%address, error, "{door} is shut");
            }
            if let Ok(opened) = opened {
                tracing::info!(%address, "{door} is open");
                return opened;
            }
            tokio::time::sleep(OPEN_EVERY).await;
        }
    }
}
