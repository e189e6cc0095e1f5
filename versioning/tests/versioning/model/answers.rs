//! What a store answers, beside what is remembered: the same, but that of versions that were let go of and stand next to each
//! other only the first and the last are told.

use std::collections::BTreeSet;

use keepshare_base::{CommitId, FileId, Name, Position, Stamp, VersionId};
use keepshare_versioning::{FileState, NamesFrom, Store, View};

use crate::rig::NOW;

use super::Memory;

/// A commit, and the one that the store has in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) told: CommitId,
    pub(crate) meant: CommitId,
}

impl At {
    pub(crate) fn commit(at: CommitId) -> Self {
        Self { told: at, meant: at }
    }

    /// Asks for a change by its time, by its place, and by the id that it gave to versions.
    pub(crate) fn asked(view: &View, (at, place, time): (CommitId, Position, Stamp)) -> Self {
        let told = view.commit_at(time).unwrap();
        assert!(told <= at && told.0 > 0, "{told} for {at}");
        assert_eq!(view.commit_through(place).unwrap(), Some(told), "{place}");
        assert_eq!(view.commit_with(VersionId(place), None).unwrap(), Some(told), "{place}");
        assert_eq!(view.commit_info(at).unwrap().is_some(), told == at, "{at}");
        Self { told, meant: at }
    }
}

/// Holds a file's state at a commit against what is remembered, and returns it.
pub(crate) fn check_state(
    view: &View,
    memory: &Memory,
    file: FileId,
    at: At,
    case: &str,
) -> Option<FileState> {
    let (got, want) = (view.file(file, at.told).unwrap(), memory.file(file, at.meant));
    assert_eq!(got.is_some(), want.is_some(), "{case}: {file}, {at:?}");
    let mode = view.meta(file, at.told).unwrap().map(|(_, meta)| meta.mode);
    assert_eq!(mode, memory.mode(file, at.meant), "{case}: rights of {file}, {at:?}");
    let (got, want) = (got?, want?);
    let is_it = got.commit == want.at;
    let is_before = want.is_expired()
        && got.commit < want.at
        && [got.commit, want.at].into_iter().all(|at| memory.is_let_go(file, at));
    assert!(is_it || is_before, "{case}: {file}, {at:?}: {} is not {}", got.commit, want.at);
    assert_eq!(got.expired, want.is_expired(), "{case}: {file}, {at:?}");
    Some(got)
}

/// Holds the versions of a file against what is remembered.
pub(crate) fn check_versions(view: &View, memory: &Memory, file: FileId, case: &str) {
    let got: Vec<_> = view.versions(file).unwrap();
    let got: Vec<_> = got.iter().map(|state| (state.commit, state.position)).collect();
    let want = memory.versions(file);
    let let_go = |at: CommitId| memory.is_let_go(file, at).then_some(file);
    let marked: Vec<_> = want.iter().map(|version| (*version, let_go(version.0))).collect();
    check_lacks_only_between(&got, &marked, usize::MAX, &format!("{case}: {file}"));
    for (at, position) in want {
        let found = view.version(file, VersionId(position)).unwrap();
        let found = found.unwrap_or_else(|| panic!("{case}: {file} has no version {position}"));
        let is_it = (found.commit, found.position) == (at, position);
        let is_removed = found.expired && memory.is_let_go(file, at);
        assert!(is_it || is_removed, "{case}: {file}, {position}: {}", found.commit);
    }
}

/// Holds the history of a name against what is remembered.
pub(crate) fn check_history(
    view: &View,
    memory: &Memory,
    (parent, name): (FileId, &Name),
    limit: usize,
    case: &str,
) {
    let got = view.history(parent, name, limit).unwrap().into_iter();
    let got: Vec<_> = got.map(|e| (e.state.file, e.state.commit, e.parent, e.name)).collect();
    let want = memory.history(parent, name).into_iter();
    let want: Vec<_> = want
        .map(|entry| {
            let let_go = memory.is_let_go(entry.0, entry.1).then_some(entry.0);
            (entry, let_go)
        })
        .collect();
    check_lacks_only_between(&got, &want, limit, &format!("{case}: history of {name}"));
}

/// What is not told was let go of, of a file of which what is before and after it was let go of, too.
fn check_lacks_only_between<T: PartialEq + std::fmt::Debug>(
    got: &[T],
    want: &[(T, Option<FileId>)],
    limit: usize,
    case: &str,
) {
    let mut told = got.iter().peekable();
    for (i, (one, let_go)) in want.iter().enumerate() {
        if told.next_if(|next| *next == one).is_some() {
            continue;
        }
        if told.peek().is_none() && got.len() == limit {
            return;
        }
        let like = |i: Option<usize>| i.and_then(|i| want.get(i)).and_then(|(_, file)| *file);
        let around = [like(i.checked_sub(1)), like(Some(i + 1))];
        let is_between = let_go.is_some() && around == [*let_go; 2];
        assert!(is_between, "{case}: {one:?} is not told: {got:?} of {want:?}");
    }
    assert_eq!(told.next(), None, "{case}: {got:?} of {want:?}");
}

/// Asks for all names that there are or were, wherever they are, and for some.
pub(super) fn check_names(view: &View, memory: &Memory, case: &str) {
    for part in ["", "a", "1"] {
        let has = |bytes: &[u8]| {
            part.is_empty() || bytes.windows(part.len()).any(|some| some == part.as_bytes())
        };
        let names: BTreeSet<_> = memory.all_names().collect();
        let wanted = names.into_iter().filter(|(_, name)| has(name.as_bytes()));
        let (mut found, mut from) = (Vec::new(), Some(NamesFrom::default()));
        while let Some(here) = from {
            let is_meant = |name: &Name| has(name.as_bytes());
            let (some, next) = view.names_like(&here, &has, &is_meant).unwrap();
            found.extend(some);
            from = next;
        }
        assert!(found.iter().eq(wanted), "{case}: names with {part}");
    }
}

/// Holds every answer about every moment against what is remembered.
pub(crate) fn check_everything(store: &Store, memory: &Memory, case: &str) {
    let reader = store.reader();
    let view = reader.view().unwrap();
    assert_eq!(view.latest(), store.latest(), "{case}");
    assert_eq!(view.aside(0, None, usize::MAX).unwrap(), memory.aside(), "{case}");
    let commits = (0..=store.latest().0).map(CommitId).chain([NOW]).map(At::commit);
    let asked = memory.commits().map(|commit| At::asked(&view, commit));
    let moments: Vec<At> = commits.chain(asked).collect();
    check_names(&view, memory, case);
    for (parent, name) in memory.all_names() {
        for at in &moments {
            let got = view.lookup(*parent, name, at.told).unwrap();
            assert_eq!(got, memory.lookup(*parent, name, at.meant), "{case}: {name}, {at:?}");
        }
        check_history(&view, memory, (*parent, name), 1000, case);
    }
    for file in memory.all_files() {
        check_versions(&view, memory, file, case);
        let mut read = None;
        for at in &moments {
            let Some(got) = check_state(&view, memory, file, *at, case) else { continue };
            if read == Some(got.commit) || got.expired {
                continue;
            }
            read = Some(got.commit);
            let bytes = reader.read(&got, 0, usize::MAX).unwrap();
            let want = memory.file(file, at.meant).unwrap();
            let same = bytes == want.content.slice(0, want.content.len());
            assert!(same, "{case}: content of {file}, {at:?}");
        }
    }
}
