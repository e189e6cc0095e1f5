//! What is gone at one path and new at another: the same file, or another one with the same content.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
};

use keepshare_base::{Kind, Name};
use keepshare_control::answers::ShownEntry;

use super::tree::{self, Change, Content, KnownBy, What};

/// Makes one change of what was removed and what was added that are the same; the order stays that of paths. In one set, files are
/// known again by themselves, and else by their content alone. What moved with its folder, and is as it was, is left out.
pub(super) fn paired(changes: Vec<Change>, one_set: bool) -> Vec<Change> {
    let mut slots: Vec<Option<Change>> = changes.into_iter().map(Some).collect();
    if one_set {
        let key = |entry: &ShownEntry| Some((tree::file(entry)?, entry.meta.kind));
        pair_by(&mut slots, KnownBy::File, key);
    }
    pair_by(&mut slots, KnownBy::Content, |entry| {
        let has_content = entry.meta.kind == Kind::File && entry.meta.size > 0;
        has_content.then_some(entry.hash?)
    });
    let changes: Vec<Change> = slots.into_iter().flatten().collect();
    let moved: HashSet<(Vec<Name>, Vec<Name>)> =
        changes.iter().filter(|change| is_moved_folder(change)).filter_map(ends).collect();
    changes.into_iter().filter(|change| !moved_along(change, &moved)).collect()
}

/// Pairs what has the same key, in the order of paths.
fn pair_by<K: Eq + Hash>(
    slots: &mut [Option<Change>],
    known_by: KnownBy,
    key: impl Fn(&ShownEntry) -> Option<K>,
) {
    let mut gone: HashMap<K, VecDeque<usize>> = HashMap::new();
    for (at, slot) in slots.iter().enumerate() {
        if let Some(Change { what: What::Removed, then: Some(then), .. }) = slot
            && let Some(key) = key(then)
        {
            gone.entry(key).or_default().push_back(at);
        }
    }
    for at in 0..slots.len() {
        let Some(Change { what: What::Added, now: Some(now), .. }) = &slots[at] else { continue };
        let from = key(now).and_then(|key| gone.get_mut(&key)?.pop_front());
        let Some(then) = from.and_then(|from| slots[from].take()?.then) else { continue };
        if let Some(change) = &mut slots[at] {
            // Only what is known by itself may have been changed, too.
            let content = match (known_by, &change.now) {
                (KnownBy::File, Some(now)) => tree::content(&then, now, true),
                _ => Content::Same,
            };
            (change.what, change.then) = (What::Renamed(known_by, content), Some(then));
        }
    }
}

/// Returns both paths of what was renamed.
fn ends(change: &Change) -> Option<(Vec<Name>, Vec<Name>)> {
    match (change.what, &change.then, &change.now) {
        (What::Renamed(..), Some(then), Some(now)) => Some((then.path.clone(), now.path.clone())),
        _ => None,
    }
}

fn is_moved_folder(change: &Change) -> bool {
    change.now.as_ref().is_some_and(|now| now.meta.kind == Kind::Dir)
}

/// Tells whether something has another path because its folder has, and nothing else of it is different.
fn moved_along(change: &Change, moved: &HashSet<(Vec<Name>, Vec<Name>)>) -> bool {
    let (What::Renamed(_, Content::Same), Some(then), Some(now)) =
        (change.what, &change.then, &change.now)
    else {
        return false;
    };
    let (Some((last_then, from)), Some((last_now, to))) =
        (then.path.split_last(), now.path.split_last())
    else {
        return false;
    };
    last_then == last_now
        && moved.contains(&(from.to_vec(), to.to_vec()))
        && tree::attributes(&then.meta, &now.meta).is_empty()
}

#[cfg(test)]
mod tests {
    use super::{
        super::sample::{entry, shown},
        *,
    };

    fn gone(path: &str, version: &str, content: &str) -> Change {
        Change { what: What::Removed, then: Some(entry(path, version, content)), now: None }
    }

    fn new(path: &str, version: &str, content: &str) -> Change {
        Change { what: What::Added, then: None, now: Some(entry(path, version, content)) }
    }

    fn told(changes: Vec<Change>, one_set: bool) -> Vec<String> {
        let from = |change: &Change| {
            let ends = ends(change).map(|(from, _)| {
                let from: Vec<String> = from.iter().map(ToString::to_string).collect();
                format!(" from {}", from.join("/"))
            });
            format!("{}{}", shown(change), ends.unwrap_or_default())
        };
        paired(changes, one_set).iter().map(from).collect()
    }

    #[test]
    fn a_file_is_known_again_by_itself_and_else_by_its_content() {
        let all = || {
            vec![
                gone("a", "1-7", "seven"),
                new("b", "2-7", "seven, changed"),
                gone("c", "1-8", "eight"),
                new("d", "2-9", "eight"),
                gone("e", "1-5", ""),
                new("f", "2-6", ""),
            ]
        };
        let want = [
            "Renamed(File, Different) b from a",
            "Renamed(Content, Same) d from c",
            "Removed e",
            "Added f",
        ];
        assert_eq!(told(all(), true), want);
        let want =
            ["Removed a", "Added b", "Renamed(Content, Same) d from c", "Removed e", "Added f"];
        assert_eq!(told(all(), false), want, "numbers of two sets say nothing");
    }

    /// Three of one content: two have gone somewhere, and one is gone.
    #[test]
    fn each_is_paired_once() {
        let content = ["a", "b", "c"].map(|path| gone(path, "", "x"));
        let all = content.into_iter().chain([new("d", "", "x"), new("e", "", "x")]).collect();
        let want =
            ["Removed c", "Renamed(Content, Same) d from a", "Renamed(Content, Same) e from b"];
        assert_eq!(told(all, true), want);
    }

    /// A folder that was renamed is one line, with what else happened in it.
    #[test]
    fn what_moved_with_its_folder_is_left_out() {
        let mut now = new("new/deep/mode", "1-5", "m");
        now.now.as_mut().unwrap().meta.mode = 0o600;
        let all = vec![
            new("new/", "2-1", ""),
            new("new/deep/", "1-2", ""),
            new("new/deep/changed", "2-4", "other"),
            new("new/deep/kept", "1-3", "k"),
            now,
            gone("old/", "1-1", ""),
            gone("old/deep/", "1-2", ""),
            gone("old/deep/changed", "1-4", "c"),
            gone("old/deep/kept", "1-3", "k"),
            gone("old/deep/mode", "1-5", "m"),
        ];
        let want = [
            "Renamed(File, Same) new from old",
            "Renamed(File, Different) new/deep/changed from old/deep/changed",
            "Renamed(File, Same) new/deep/mode from old/deep/mode",
        ];
        assert_eq!(told(all, true), want);
    }
}
