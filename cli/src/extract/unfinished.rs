//! What is not to stay when a command ends early: the one file that is not whole yet, or a whole folder. Gone, whatever ends the command,
//! but for what nobody can catch.

use std::{
    ffi::{OsStr, OsString},
    io, mem,
    os::fd::OwnedFd,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::Context;
use rustix::{fs::AtFlags, io::Errno};
use tokio::signal::unix::{SignalKind, signal};

use keepshare_control::Outcome;

/// Names the file that is not whole yet, where there is one.
#[derive(Clone, Default)]
pub(crate) struct Unfinished(Arc<Mutex<Option<Named>>>);

struct Named {
    folder: OwnedFd,
    name: OsString,
}

impl Unfinished {
    /// Makes a file that is to be removed unless it is put in its place.
    pub(super) fn make<T>(
        &self,
        folder: &OwnedFd,
        name: &OsStr,
        make: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let named = Named { folder: folder.try_clone()?, name: name.to_owned() };
        let mut unfinished = self.lock();
        let made = make()?;
        *unfinished = Some(named);
        Ok(made)
    }

    /// Puts it in its place.
    pub(super) fn place(&self, place: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
        let mut unfinished = self.lock();
        place()?;
        *unfinished = None;
        Ok(())
    }

    /// Removes it, if it is still there.
    pub(super) fn remove(&self) {
        remove(&mut self.lock());
    }

    /// Removes it and ends the process when that is interrupted or told to end.
    pub(crate) fn remove_when_interrupted(self) -> Outcome<()> {
        when_interrupted(move || {
            // Held to the end, so that no other is begun.
            let mut unfinished = self.lock();
            remove(&mut unfinished);
            mem::forget(unfinished);
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does something and ends the process when that is interrupted or told to end.
pub(crate) fn when_interrupted(act: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.context("cannot listen for signals")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).context("cannot listen for signals");
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            }
        });
        act();
        // As shells tell of a process that a signal ended.
        process::exit(128 + number)
    });
    Ok(())
}

fn remove(unfinished: &mut Option<Named>) {
    if let Some(Named { folder, name }) = unfinished.take() {
        // Best effort: where it cannot be removed, the folder has gone bad.
        let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
    }
}
