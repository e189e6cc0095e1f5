//! Remembers which threads have panicked.
//!
//! A set whose thread is gone changes no more, and its last status looks as well as ever. Whoever shows a status asks
//! here first. Only a start of the station anew brings a thread back.

use std::{
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

/// A thread that is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Panicked {
    /// What it was called.
    pub thread: String,
    /// What it said last, and where.
    pub why: String,
}

/// The most that are remembered: further ones are of the same kind.
const PANICS_MAX: usize = 16;

static PANICS: Mutex<Vec<Panicked>> = Mutex::new(Vec::new());

/// Remembers from now on, and still has it said on standard error.
pub fn remember() {
    let said = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let name = thread::current().name().unwrap_or("a thread").to_owned();
        let said_by = info.payload();
        let what = said_by.downcast_ref::<&str>().copied();
        let what = what.or_else(|| said_by.downcast_ref::<String>().map(String::as_str));
        let what = what.unwrap_or("it did not say why");
        let place = info.location().map(|at| format!(" ({at})")).unwrap_or_default();
        let mut known = lock();
        if known.len() < PANICS_MAX {
            known.push(Panicked { thread: name, why: format!("{what}{place}") });
        }
        drop(known);
        said(info);
    }));
}

/// Returns all that are known.
pub fn all() -> Vec<Panicked> {
    lock().clone()
}

/// Returns why the first of the threads with such a name is gone, if one is.
pub fn of(is_meant: impl Fn(&str) -> bool) -> Option<String> {
    lock().iter().find(|panicked| is_meant(&panicked.thread)).map(|panicked| panicked.why.clone())
}

fn lock() -> MutexGuard<'static, Vec<Panicked>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set must not look well because the thread that would say otherwise is gone.
    #[test]
    fn a_thread_that_is_gone_is_known_by_its_name() {
        remember();
        let thread = thread::Builder::new().name("source-lost".to_owned());
        let ended = thread.spawn(|| panic!("no more")).unwrap().join();
        assert!(ended.is_err());
        let why = of(|name| name == "source-lost").unwrap();
        assert!(why.starts_with("no more (") && why.contains("panics.rs"), "{why}");
        assert_eq!(of(|name| name == "source-well"), None);
        assert!(all().iter().any(|panicked| panicked.thread == "source-lost"));
    }
}
