//! Which names change together, and in what order.
//!
//! Names that share a file are one atomic change: rename, exchange and replace never show half of themselves. A name in
//! a folder that itself moves belongs to the folder's change; one in a new folder comes after it; a folder that goes
//! takes what was in it along. Pure.

use std::collections::{HashMap, HashSet};

use keepshare_base::{FileId, Kind};

use super::fitting::{Load, in_pieces};
use crate::look::NameDiff;

/// Groups name changes into changes of a set and puts them in an order that is right after every one of them.
///
/// Within a group, and among groups of removals, what is deeper in a folder that goes comes first if it came first in
/// `diffs`.
pub fn group(diffs: Vec<NameDiff>) -> Vec<Vec<NameDiff>> {
    let mut sets = Sets::new(diffs.len());
    let gained = row_of(&diffs, |diff| diff.new);
    let lost = row_of(&diffs, |diff| diff.old);
    let all = diffs.iter().map(Load::of_diff).fold(Load::default(), Load::with);
    let tree_fits = all.fits();
    for (i, diff) in diffs.iter().enumerate() {
        for (file, _) in diff.old.iter().chain(&diff.new) {
            for other in [gained.get(file), lost.get(file)].into_iter().flatten() {
                sets.join(i, *other);
            }
        }
        match (gained.get(&diff.parent), lost.get(&diff.parent)) {
            // The folder moved, or took the place of something: a cycle may pass through it.
            (Some(gain), Some(_)) => sets.join(i, *gain),
            (Some(gain), None) if diffs[*gain].old.is_some() => sets.join(i, *gain),
            (None, Some(loss)) if tree_fits => sets.join(i, *loss),
            _ => {}
        }
    }
    let born: HashMap<FileId, usize> = gained
        .iter()
        .filter(|(file, _)| !lost.contains_key(file))
        .map(|(file, row)| (*file, sets.root(*row)))
        .collect();
    let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut first_seen = Vec::new();
    for i in 0..diffs.len() {
        let root = sets.root(i);
        let rows = groups.entry(root).or_default();
        if rows.is_empty() {
            first_seen.push(root);
        }
        rows.push(i);
    }
    let order = order(&diffs, &groups, &first_seen, &born);
    let mut diffs: Vec<Option<NameDiff>> = diffs.into_iter().map(Some).collect();
    let groups = order
        .into_iter()
        .map(|root| groups[&root].iter().filter_map(|row| diffs[*row].take()).collect());
    if tree_fits { groups.collect() } else { join_removals(groups) }
}

/// Puts what goes, which comes last, into as few groups as changes have room for: one each would be a commit for each.
fn join_removals(groups: impl Iterator<Item = Vec<NameDiff>>) -> Vec<Vec<NameDiff>> {
    let removes = |group: &Vec<NameDiff>| group.iter().all(|diff| diff.new.is_none());
    let (gone, mut joined): (Vec<_>, Vec<_>) = groups.partition(removes);
    joined.extend(in_pieces(gone.into_iter().flatten().collect(), Load::of_diff));
    joined
}

/// Removals last; every other group after the groups that make its folders.
fn order(
    diffs: &[NameDiff],
    groups: &HashMap<usize, Vec<usize>>,
    first_seen: &[usize],
    born: &HashMap<FileId, usize>,
) -> Vec<usize> {
    let removes = |root: &usize| groups[root].iter().all(|row| diffs[*row].new.is_none());
    let mut order = Vec::with_capacity(first_seen.len());
    let mut placed = HashSet::new();
    for root in first_seen.iter().filter(|root| !removes(root)) {
        let mut stack = vec![*root];
        let mut entered = HashSet::new();
        while let Some(top) = stack.last().copied() {
            if placed.contains(&top) {
                stack.pop();
                continue;
            }
            let first_visit = entered.insert(top);
            let parents = groups[&top].iter().filter_map(|row| born.get(&diffs[*row].parent));
            let missing: Vec<usize> =
                parents.filter(|p| **p != top && !placed.contains(*p)).copied().collect();
            if missing.is_empty() || !first_visit {
                placed.insert(top);
                order.push(top);
                stack.pop();
            } else {
                stack.extend(missing);
            }
        }
    }
    order.extend(first_seen.iter().filter(|root| removes(root)));
    order
}

fn row_of(
    diffs: &[NameDiff],
    side: impl Fn(&NameDiff) -> Option<(FileId, Kind)>,
) -> HashMap<FileId, usize> {
    diffs.iter().enumerate().filter_map(|(i, diff)| Some((side(diff)?.0, i))).collect()
}

/// Sets of rows that are joined one by one.
struct Sets(Vec<usize>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepshare_base::{Epoch, Name, OriginId};

    fn id(counter: u64) -> FileId {
        FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter }
    }

    fn diff(parent: FileId, name: &str, old: u64, new: u64, kind: Kind) -> NameDiff {
        let target = |file| (file != 0).then(|| (id(file), kind));
        let name = Name::new(name.as_bytes()).unwrap();
        NameDiff { parent, name, old: target(old), new: target(new) }
    }

    fn shown(diffs: Vec<NameDiff>) -> Vec<String> {
        let names = |group: Vec<NameDiff>| {
            group.iter().map(|diff| diff.name.to_string()).collect::<Vec<_>>().join(" ")
        };
        group(diffs).into_iter().map(names).collect()
    }

    const ROOT: FileId = FileId::ROOT;

    #[test]
    fn rename_replace_and_exchange_are_one_change_each() {
        let file = Kind::File;
        assert_eq!(shown(vec![diff(ROOT, "a", 1, 0, file), diff(ROOT, "b", 0, 1, file)]), ["a b"]);
        let replace = vec![diff(ROOT, "tmp", 2, 0, file), diff(ROOT, "doc", 1, 2, file)];
        assert_eq!(shown(replace), ["tmp doc"]);
        let exchange = vec![diff(ROOT, "a", 1, 2, file), diff(ROOT, "b", 2, 1, file)];
        assert_eq!(shown(exchange), ["a b"]);
        let strangers = vec![diff(ROOT, "a", 0, 1, file), diff(ROOT, "b", 0, 2, file)];
        assert_eq!(shown(strangers), ["a", "b"]);
    }

    #[test]
    fn new_folders_come_before_and_removals_after() {
        let file = Kind::File;
        let diffs = vec![
            diff(ROOT, "gone", 9, 0, file),
            diff(id(2), "deep", 0, 3, file),
            diff(id(1), "inner", 0, 2, Kind::Dir),
            diff(ROOT, "outer", 0, 1, Kind::Dir),
        ];
        assert_eq!(shown(diffs), ["outer", "inner", "deep", "gone"]);
    }

    /// One after the other would put a folder into itself in between.
    #[test]
    fn folders_that_change_places_are_one_change() {
        let dir = Kind::Dir;
        let diffs = vec![
            diff(ROOT, "a", 1, 0, dir),
            diff(id(2), "a", 0, 1, dir),
            diff(id(1), "b", 2, 0, dir),
            diff(ROOT, "b", 0, 2, dir),
        ];
        assert_eq!(shown(diffs), ["a a b b"]);
    }

    /// One change has no room for them; names one by one would be a commit each.
    #[test]
    fn a_large_folder_goes_in_few_changes() {
        let name = |n| format!("{n:0110}");
        let mut diffs: Vec<_> =
            (2..4002).map(|n| diff(id(1), &name(n), n, 0, Kind::File)).collect();
        diffs.push(diff(ROOT, "d", 1, 0, Kind::Dir));
        let groups = group(diffs);
        assert_eq!(groups.len(), 2);
        for group in &groups {
            assert!(group.iter().map(Load::of_diff).fold(Load::default(), Load::with).fits());
        }
        assert_eq!(groups[1].last().unwrap().name, Name::new(b"d").unwrap(), "the folder last");
    }

    #[test]
    fn a_folder_that_goes_takes_its_names_along() {
        let diffs = vec![
            diff(id(1), "x", 2, 0, Kind::File),
            diff(id(1), "y", 3, 0, Kind::File),
            diff(ROOT, "d", 1, 0, Kind::Dir),
        ];
        assert_eq!(shown(diffs), ["x y d"]);
    }
}
