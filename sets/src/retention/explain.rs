//! What a policy says of the versions that a path shows.

use keepshare_base::{CommitId, SetPath};
use keepshare_control::{Failure, Outcome};
use keepshare_versioning::{
    Reader, View,
    retention::{Candidate, Policy, Shown, history},
    set::SetStore,
};

use crate::{asking::read_failure, writer::now};

/// Returns what becomes of each version that a path shows, newest first, by the history of its name alone.
pub fn explain(
    reader: &Reader,
    store: &SetStore,
    policy: &Policy,
    path: &SetPath,
) -> Outcome<Vec<Shown>> {
    let now = now(store)?;
    let view = reader.view().map_err(read_failure)?;
    let nothing = || Failure::not_found(format!("nothing is or was called {path}"));
    let (parent, name) = path.split_last().ok_or_else(nothing)?;
    let folders = view.folders_at(&parent).map_err(read_failure)?;
    let folder = folders.first().ok_or_else(nothing)?;
    let shown = history(&view, policy, now, *folder, name).map_err(read_failure)?;
    if shown.is_empty() { Err(nothing()) } else { Ok(shown) }
}

/// Returns a path by which a candidate is found.
pub fn path_of(view: &View, candidate: &Candidate) -> SetPath {
    let (folder, name) = &candidate.shown;
    let at = [CommitId::MAX, candidate.commit];
    let folder = at.into_iter().find_map(|at| view.path_of(*folder, at).ok().flatten());
    let names = folder.iter().flat_map(|folder| folder.names());
    SetPath::from(names.chain([name]).cloned().collect::<Vec<_>>())
}
