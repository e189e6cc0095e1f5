//! What is remembered of a name's past, and what tells that it still holds: not that nothing of the set has changed, but
//! that nothing has of this name.

use std::{
    hash::Hash,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use keepshare_base::{CommitId, DEPTH_MAX, FileId, Kind, Name, Position, Stamp};
use keepshare_versioning::{ReadError, View};

use crate::cache::{Forgetful, locked};

/// Things that were made of the past of names.
#[derive(Debug)]
pub(crate) struct Remembered<K, T>(Mutex<Forgetful<K, Arc<Dated<T>>>>);

/// Something that was made of the past of a name.
#[derive(Debug)]
pub(crate) struct Dated<T> {
    /// The newest commit as of which it is known to hold.
    latest: AtomicU64,
    made: Stamp,
    sign: Sign,
    value: T,
}

impl<T> Deref for Dated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What a name stood for.
type Held = Option<(FileId, Kind)>;

/// The commit of a state, the position that tells it, and whether it is a version.
type Newest = (CommitId, Position, bool);

/// What tells whether a history has changed: a few rows, whatever the set's other files do.
#[derive(Debug, Eq, PartialEq)]
struct Sign {
    /// The name, and those of the folders above it, each with what it stood for most recently.
    places: Vec<(FileId, Name, Vec<Held>)>,
    /// The newest states of the files among these of the name itself.
    newest: Vec<(FileId, Option<Newest>)>,
}

impl<K: Clone + Eq + Hash, T> Remembered<K, T> {
    /// Returns a memory of nothing, which holds this much in each half.
    pub(crate) fn new(weight_max: usize) -> Self {
        Self(Mutex::new(Forgetful::new(weight_max)))
    }

    /// Returns what is remembered, where it still holds. While other files change, it is taken to hold for `at_most`.
    pub(crate) fn find(
        &self,
        (view, now): (&View, Stamp),
        key: &K,
        (folder, name): (FileId, &Name),
        at_most: Duration,
    ) -> Result<Option<Arc<Dated<T>>>, ReadError> {
        let Some(known) = locked(&self.0).find(key) else { return Ok(None) };
        let latest = view.latest().0;
        if known.latest.load(Ordering::Relaxed) == latest {
            return Ok(Some(known));
        }
        let age = Duration::from_micros(now.0.abs_diff(known.made.0));
        if age > at_most || known.sign != Sign::of(view, folder, name)? {
            return Ok(None);
        }
        known.latest.store(latest, Ordering::Relaxed);
        Ok(Some(known))
    }

    /// Remembers what was made of a name's past just now.
    pub(crate) fn keep(
        &self,
        (view, now): (&View, Stamp),
        key: K,
        (folder, name): (FileId, &Name),
        (value, weight): (T, usize),
    ) -> Result<Arc<Dated<T>>, ReadError> {
        let (latest, sign) = (AtomicU64::new(view.latest().0), Sign::of(view, folder, name)?);
        let dated = Arc::new(Dated { latest, made: now, sign, value });
        locked(&self.0).keep(key, Arc::clone(&dated), weight);
        Ok(dated)
    }
}

impl Sign {
    fn of(view: &View, folder: FileId, name: &Name) -> Result<Self, ReadError> {
        let (mut places, mut newest) = (Vec::new(), Vec::new());
        let mut place = Some((folder, name.clone()));
        while let Some((above, name)) = place.filter(|_| places.len() <= DEPTH_MAX) {
            let held = view.held(above, &name, SIGN_CHANGES)?;
            place = match above {
                FileId::ROOT => None,
                _ => view.links(above, CommitId::MAX)?.pop(),
            };
            places.push((above, name, held));
        }
        let held = places.first().into_iter().flat_map(|(_, _, held)| held);
        for (file, _) in held.flatten() {
            let state = view.file(*file, CommitId::MAX)?;
            newest.push((*file, state.map(|state| (state.commit, state.position, state.cut))));
        }
        Ok(Self { places, newest })
    }
}

/// How many things that a name stood for, the last ones, tell whether its history has changed.
const SIGN_CHANGES: usize = 8;

/// For how long they do: names that went to and fro too often to tell by so few rows are not missed for long.
pub(crate) const SIGN_HOLDS: Duration = Duration::from_secs(60);
