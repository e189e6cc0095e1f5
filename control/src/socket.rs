//! The station's Unix socket: where its admins ask.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::Router;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use crate::{
    caller::Caller,
    questions::{self, Station},
    router,
};

/// How many connections there are at once; further ones wait to be accepted. Nobody has a share of them: only who owns the
/// station opens its socket, so there is nobody to keep from a place.
const CONNECTIONS_MAX: usize = 32;

/// The listening socket; its file goes with it.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, which the caller's state lock makes ours: a socket left there is a dead one. Root, the station's
    /// own user and, where one is given with the state
    /// folder, a group can open it.
    pub fn bind(path: &Path, group: Option<(u32, &Path)>) -> anyhow::Result<Self> {
        let bind = || -> io::Result<UnixListener> {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            if let Some((group, state)) = group {
                chown(path, None, Some(group))?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                // The way to it, too, where that was the owner's alone: no more than passing through. A folder that is not the
                // station's own stays as somebody made it.
                if path.parent() == Some(state)
                    && fs::metadata(state)?.permissions().mode() & 0o077 == 0
                {
                    chown(state, None, Some(group))?;
                    fs::set_permissions(state, fs::Permissions::from_mode(0o710))?;
                }
            }
            Ok(listener)
        };
        let listener = bind().with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers questions for ever. Whoever can open the socket is an admin: its permissions decide, and the kernel holds them.
    pub async fn serve<S: Station>(&self, station: Arc<S>) {
        let router = questions::router(station);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        if let Err(error) = greet(stream, router).await {
                            tracing::debug!(%error, "a client went away");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Best effort: a socket left behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

async fn greet(stream: UnixStream, router: Router) -> anyhow::Result<()> {
    let caller = Caller::Admin { uid: stream.peer_cred()?.uid() };
    Ok(router::converse(stream, router, caller, None).await?)
}
