//! What a policy says of the versions that a path shows.

use keepshare_base::{CommitId, Kind, SetName, SetPath};
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
    (set, path): (&SetName, &SetPath),
) -> Outcome<Vec<Shown>> {
    let now = now(store)?;
    let view = reader.view().map_err(read_failure)?;
    let nothing = || Failure::not_found(format!("nothing is or was called {path}"));
    let Some((parent, name)) = path.split_last() else { return Err(no_file(set, path, Kind::Dir)) };
    let folders = view.folders_at(&parent).map_err(read_failure)?;
    let folder = folders.first().ok_or_else(nothing)?;
    let shown = history(&view, policy, now, *folder, name).map_err(read_failure)?;
    if !shown.is_empty() {
        return Ok(shown);
    }
    let newest = view.history(*folder, name, 1).map_err(read_failure)?.into_iter().next();
    Err(newest.map_or_else(nothing, |newest| no_file(set, path, newest.state.meta.kind)))
}

/// Says why there is nothing to explain of what has no versions that could go.
fn no_file(set: &SetName, path: &SetPath, kind: Kind) -> Failure {
    let policy = format!("keepshare retention show {set} shows the policy");
    match kind {
        Kind::Dir => {
            let inside = path.names().iter().map(|name| format!("{name}/")).collect::<String>();
            let what =
                if inside.is_empty() { format!("all of set {set}") } else { path.to_string() };
            Failure::usage(format!(
                "{what} is a folder: its own times stay, and each file in it is judged by itself"
            ))
            .hint(format!(
                "keepshare retention explain {set}:{inside}FILE says it of one; {policy}"
            ))
        }
        Kind::File => Failure::not_found(format!("no version of {path} is left")).hint(policy),
        _ => Failure::usage(format!("{path} is no file: what it was stays")).hint(policy),
    }
}

/// Returns a path by which a candidate is found.
pub fn path_of(view: &View, candidate: &Candidate) -> SetPath {
    let (folder, name) = &candidate.shown;
    let at = [CommitId::MAX, candidate.commit];
    let folder = at.into_iter().find_map(|at| view.path_of(*folder, at).ok().flatten());
    let names = folder.iter().flat_map(|folder| folder.names());
    SetPath::from(names.chain([name]).cloned().collect::<Vec<_>>())
}
