//! Random histories, asked about at every commit by every user, against a model that keeps every commit whole.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use keepshare_auth::Principal;
use keepshare_base::{FileId, Kind, SetPath};
use keepshare_namespace::{FoundPath, Node, PathVersion, Shown, Taker, Who};

use crate::{asking::sought, rig::*};

/// What a random master does: places are picked by number among those there are.
#[derive(Clone, Debug)]
enum Act {
    AddFile { folder: usize, name: usize, mode: usize },
    AddDir { folder: usize, name: usize, mode: usize },
    Save { file: usize, mode: usize },
    Chmod { thing: usize, mode: usize },
    Link { file: usize, folder: usize, name: usize },
    Move { place: usize, folder: usize, name: usize },
    Remove { place: usize },
}

const FILE_MODES: [u32; 5] = [0o644, 0o640, 0o600, 0o604, 0o044];
const DIR_MODES: [u32; 5] = [0o755, 0o750, 0o700, 0o711, 0o744];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn act() -> impl Strategy<Value = Act> {
    let number = || 0..64_usize;
    prop_oneof![
        3 => (number(), number(), number())
            .prop_map(|(folder, name, mode)| Act::AddFile { folder, name, mode }),
        3 => (number(), number(), number())
            .prop_map(|(folder, name, mode)| Act::AddDir { folder, name, mode }),
        2 => (number(), number()).prop_map(|(file, mode)| Act::Save { file, mode }),
        2 => (number(), number()).prop_map(|(thing, mode)| Act::Chmod { thing, mode }),
        1 => (number(), number(), number())
            .prop_map(|(file, folder, name)| Act::Link { file, folder, name }),
        2 => (number(), number(), number())
            .prop_map(|(place, folder, name)| Act::Move { place, folder, name }),
        2 => number().prop_map(|place| Act::Remove { place }),
    ]
}

#[derive(Clone, Debug)]
struct Thing {
    is_dir: bool,
    mode: u32,
    content: String,
}

/// The set after one commit; things stay when they have no name any more.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    names: BTreeMap<(FileId, &'static str), FileId>,
    things: BTreeMap<FileId, Thing>,
}

impl Snapshot {
    fn places(&self, file: FileId) -> Vec<FileId> {
        let places = self.names.iter().filter(|(_, target)| **target == file);
        places.map(|((folder, _), _)| *folder).collect()
    }

    fn is_attached(&self, file: FileId) -> bool {
        file == ROOT || self.places(file).into_iter().any(|folder| self.is_attached(folder))
    }

    fn folders(&self) -> Vec<FileId> {
        let dirs = self.things.iter().filter(|(_, thing)| thing.is_dir);
        dirs.map(|(file, _)| *file).filter(|file| self.is_attached(*file)).collect()
    }

    fn is_below(&self, file: FileId, folder: FileId) -> bool {
        file == folder || self.places(file).into_iter().any(|above| self.is_below(above, folder))
    }

    fn bits(&self, file: FileId, who: &Principal) -> u32 {
        let Some(thing) = self.things.get(&file) else { return 0 };
        let shift = match who.uid {
            ANNA => 6,
            _ if who.gid == STAFF => 3,
            _ => 0,
        };
        (thing.mode >> shift) & 7
    }

    /// Search on a folder and all above it, at this commit.
    fn passes(&self, folder: FileId, who: &Principal) -> bool {
        let above = || self.places(folder).into_iter().any(|above| self.passes(above, who));
        self.bits(folder, who) & 1 != 0 && (folder == ROOT || above())
    }

    fn children(&self, folder: FileId) -> Vec<(&'static str, FileId)> {
        let children = self.names.iter().filter(|((above, _), _)| *above == folder);
        children.map(|((_, name), file)| (*name, *file)).collect()
    }
}

/// All commits; the first one is before there was anything.
struct Model {
    snapshots: Vec<Snapshot>,
}

impl Model {
    fn now(&self) -> &Snapshot {
        self.snapshots.last().unwrap()
    }

    /// Where a thing is or, if it is gone, was last.
    fn last_places(&self, file: FileId) -> Vec<FileId> {
        let places = self.snapshots.iter().rev().map(|snapshot| snapshot.places(file));
        places.into_iter().find(|places| !places.is_empty()).unwrap_or_default()
    }

    fn passes_now(&self, folder: FileId, who: &Principal) -> bool {
        let above = || self.last_places(folder).into_iter().any(|up| self.passes_now(up, who));
        self.now().bits(folder, who) & 1 != 0 && (folder == ROOT || above())
    }

    fn reached_now(&self, file: FileId, who: &Principal) -> bool {
        let places = self.last_places(file);
        let living = |folder: &&FileId| {
            self.now().is_attached(**folder) && !self.now().places(file).is_empty()
        };
        let living: Vec<FileId> = places.iter().filter(living).copied().collect();
        let places = if living.is_empty() { places } else { living };
        file == ROOT || places.into_iter().any(|folder| self.passes_now(folder, who))
    }

    /// Whether someone may do this with what was at a commit, reached through a living folder.
    fn may_past(&self, at: usize, folder: FileId, file: FileId, who: &Principal, bit: u32) -> bool {
        let then = &self.snapshots[at];
        let reached_then =
            file == ROOT || then.places(file).into_iter().any(|above| then.passes(above, who));
        let was_there = folder == ROOT || !then.places(folder).is_empty();
        then.bits(file, who) & bit != 0
            && reached_then
            && self.now().bits(file, who) & bit != 0
            && self.reached_now(file, who)
            && self.passes_now(folder, who)
            && (!was_there || then.passes(folder, who))
    }

    /// Whether someone may read the version that a file became at a commit: where it had no name then, where it had the next.
    fn may_read_version(&self, cut: usize, folder: FileId, file: FileId, who: &Principal) -> bool {
        let mut linked = cut..self.snapshots.len();
        let linked = linked.find(|at| !self.snapshots[*at].places(file).is_empty());
        linked.is_some_and(|at| {
            let then = &self.snapshots[at];
            self.snapshots[cut].bits(file, who) & 4 != 0
                && then.places(file).into_iter().any(|above| then.passes(above, who))
                && self.now().bits(file, who) & 4 != 0
                && self.reached_now(file, who)
                && self.passes_now(folder, who)
                && then.passes(folder, who)
        })
    }

    fn sees(&self, at: usize, folder: FileId, file: FileId, who: &Principal) -> bool {
        let is_dir = self.snapshots[at].things[&file].is_dir;
        self.may_past(at, folder, file, who, if is_dir { 1 } else { 4 })
    }

    /// The folder that a folder's `@versions` shows at a commit.
    fn stood_for(&self, folder: FileId, at: usize) -> Option<FileId> {
        let then = &self.snapshots[at];
        if then.is_attached(folder) {
            return Some(folder);
        }
        let now = self.now();
        let ((above, name), _) = now.names.iter().find(|(_, target)| **target == folder)?;
        let file = *then.names.get(&(self.stood_for(*above, at)?, *name))?;
        then.things[&file].is_dir.then_some(file)
    }
}

/// Does what a random master did, where it can be done.
fn play(acts: &[Act]) -> (Rig, Model) {
    let mut rig = Rig::new();
    let root = Thing { is_dir: true, mode: 0o755, content: String::new() };
    let first = Snapshot { things: [(ROOT, root)].into(), ..Snapshot::default() };
    let mut model = Model { snapshots: vec![Snapshot::default(), first] };
    for (number, act) in acts.iter().enumerate() {
        let mut next = model.now().clone();
        if let Some(change) = step(&mut rig, &mut next, number, act) {
            let at = rig.apply(change);
            model.snapshots.push(next);
            assert_eq!(at.0, model.snapshots.len() as u64 - 1);
        }
    }
    (rig, model)
}

fn step(rig: &mut Rig, next: &mut Snapshot, number: usize, act: &Act) -> Option<Edit> {
    let folders = next.folders();
    let folder_of = |pick: usize| folders[pick % folders.len()];
    let files: Vec<FileId> =
        next.things.iter().filter(|(_, t)| !t.is_dir).map(|(f, _)| *f).collect();
    let places: Vec<_> = next.names.iter().map(|(place, target)| (*place, *target)).collect();
    let content = format!("content {number}");
    match *act {
        Act::AddFile { folder, name, mode } => {
            let (folder, name) = (folder_of(folder), NAMES[name % NAMES.len()]);
            let (file, mode) = (rig.file(), FILE_MODES[mode % FILE_MODES.len()]);
            next.names.insert((folder, name), file);
            let change = edit().whole(file, mode, content.as_bytes()).put(folder, name, file);
            next.things.insert(file, Thing { is_dir: false, mode, content });
            Some(change)
        }
        Act::AddDir { folder, name, mode } => {
            let (folder, name) = (folder_of(folder), NAMES[name % NAMES.len()]);
            let (file, mode) = (rig.file(), DIR_MODES[mode % DIR_MODES.len()]);
            next.names.insert((folder, name), file);
            next.things.insert(file, Thing { is_dir: true, mode, content: String::new() });
            Some(edit().dir(file, mode).put_dir(folder, name, file))
        }
        Act::Save { file, mode } => {
            let file = *files.get(file % files.len().max(1))?;
            let mode = FILE_MODES[mode % FILE_MODES.len()];
            let change = edit().whole(file, mode, content.as_bytes());
            next.things.insert(file, Thing { is_dir: false, mode, content });
            Some(change)
        }
        Act::Chmod { thing, mode } => {
            let nth = thing % next.things.len();
            let (file, thing) = next.things.iter_mut().nth(nth)?;
            if thing.is_dir {
                // Nobody, and no model, gets anywhere below a root that is shut.
                let mode = if *file == ROOT { 0o755 } else { DIR_MODES[mode % DIR_MODES.len()] };
                thing.mode = mode;
                return Some(edit().dir(*file, mode));
            }
            thing.mode = FILE_MODES[mode % FILE_MODES.len()];
            Some(edit().mode(*file, thing.mode, thing.content.len()))
        }
        Act::Link { file, folder, name } => {
            let file = *files.get(file % files.len().max(1))?;
            let (folder, name) = (folder_of(folder), NAMES[name % NAMES.len()]);
            next.names.insert((folder, name), file);
            Some(edit().put(folder, name, file))
        }
        Act::Move { place, folder, name } => {
            let ((from, old), file) = *places.get(place % places.len().max(1))?;
            let (folder, name) = (folder_of(folder), NAMES[name % NAMES.len()]);
            if next.is_below(folder, file) || (from, old) == (folder, name) {
                return None;
            }
            next.names.remove(&(from, old));
            next.names.insert((folder, name), file);
            let kind = if next.things[&file].is_dir { Kind::Dir } else { Kind::File };
            Some(edit().gone(from, old).target(folder, name, Some((file, kind))))
        }
        Act::Remove { place } => {
            let ((folder, name), _) = *places.get(place % places.len().max(1))?;
            next.names.remove(&(folder, name));
            Some(edit().gone(folder, name))
        }
    }
}

/// Holds the answers of a view of a time, and of everything below, against the model.
fn check_view(rig: &Rig, model: &Model, at: usize, folder: FileId, node: Node, who: &Principal) {
    let Node::Past { file, .. } = node else { panic!("{node:?}") };
    let then = &model.snapshots[at];
    let listed = rig.names_in(who, node);
    let story = format!("{file} at {at} through {folder}, for {}", who.user);
    if !model.may_past(at, folder, file, who, 4) {
        assert_eq!(word(&listed), "no", "{story}");
    } else {
        let sees = |(_, file): &(&str, FileId)| model.sees(at, folder, *file, who);
        let names = then.children(file).into_iter().filter(sees).map(|(name, _)| name);
        assert_eq!(listed.unwrap(), names.collect::<Vec<_>>(), "{story}");
    }
    for (name, below) in then.children(file) {
        let found = rig.share.lookup(who, node, name.as_bytes(), rig.now);
        if !model.sees(at, folder, below, who) {
            assert_eq!(word(&found), "none", "{name} in {story}");
            continue;
        }
        let found = found.unwrap().node;
        let thing = &then.things[&below];
        if thing.is_dir {
            check_view(rig, model, at, folder, found, who);
        } else {
            assert_eq!(rig.read_node(who, found).unwrap(), thing.content, "{name} in {story}");
        }
    }
}

fn check_live(rig: &Rig, model: &Model, folder: FileId, who: &Principal) {
    let now = model.now();
    let story = format!("{folder} for {}", who.user);
    if !(folder == ROOT || now.places(folder).into_iter().any(|above| now.passes(above, who))) {
        assert_eq!(word(&rig.attributes(who, live(folder))), "no", "{story}");
        return;
    }
    let listed = rig.names_in(who, live(folder)).map(|mut names| {
        names.retain(|name| name != "@versions");
        names
    });
    if now.bits(folder, who) & 4 == 0 {
        assert_eq!(word(&listed), "no", "{story}");
    } else {
        let names: Vec<_> = now.children(folder).into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed.unwrap(), names, "{story}");
    }
    for (name, file) in now.children(folder) {
        let found = rig.share.lookup(who, live(folder), name.as_bytes(), rig.now);
        if now.bits(folder, who) & 1 == 0 {
            assert_eq!(word(&found), "no", "{name} in {story}");
            continue;
        }
        assert_eq!(found.unwrap().node, live(file), "{name} in {story}");
        if !now.things[&file].is_dir {
            let read = rig.read_node(who, live(file));
            match now.bits(file, who) & 4 {
                0 => assert_eq!(word(&read), "no", "{name} in {story}"),
                _ => assert_eq!(read.unwrap(), now.things[&file].content, "{name} in {story}"),
            }
        }
    }
}

/// Returns every path that anything ever had, with `.` for what never was.
fn paths_ever(model: &Model) -> BTreeSet<Vec<&'static str>> {
    fn walk(
        then: &Snapshot,
        folder: FileId,
        above: &[&'static str],
        all: &mut BTreeSet<Vec<&'static str>>,
    ) {
        for (name, file) in then.children(folder) {
            let path = [above, &[name]].concat();
            if then.things[&file].is_dir {
                walk(then, file, &path, all);
            }
            all.insert(path);
        }
    }
    let mut all = BTreeSet::from([vec!["never"]]);
    model.snapshots.iter().for_each(|then| walk(then, ROOT, &[], &mut all));
    all
}

/// Returns what a path leads to at a commit.
fn resolve(then: &Snapshot, path: &[&'static str]) -> Option<FileId> {
    path.iter().try_fold(ROOT, |folder, name| then.names.get(&(folder, *name)).copied())
}

fn second_of(at: usize) -> String {
    format!("unix:{}", START.0 / SECOND + i64::try_from(at).unwrap())
}

fn set_path(path: &[&str]) -> SetPath {
    SetPath::from(path.iter().map(|text| name(text)).collect::<Vec<_>>())
}

/// Counts what is given out, and takes the names of what was asked for and of what is in it.
#[derive(Default)]
struct Taken(Vec<String>);

impl Taker for Taken {
    type Error = ();

    fn shown(&mut self, shown: Shown) -> Result<(), ()> {
        self.0.push(shown.path.last().map(ToString::to_string).unwrap_or_default());
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> Result<(), ()> {
        Ok(())
    }
}

/// Holds what a path was at a commit against what the drive shows of it: through the root or, for a file, in the versions
/// of its name.
fn check_path_then(rig: &Rig, model: &Model, path: &[&'static str], at: usize, who: &Principal) {
    let story = format!("{} at {at} for {}", path.join("/"), who.user);
    let typed = second_of(at);
    let ask = rig.share.ask(Who::User(who), rig.now);
    let by_path = ask.at(&set_path(path), &typed);
    let on_drive = rig.find(who, &format!("@versions/v1.1.{at}/{}", path.join("/")));
    match (on_drive, by_path) {
        (Ok(found), Ok(then)) => {
            let Node::Past { file, .. } = found.node else { panic!("{story}") };
            assert_eq!(then.state.file, file, "{story}");
            if then.state.meta.kind == Kind::Dir {
                let mut taken = Taken::default();
                let by_path = ask.show(&then, &mut taken).map(|()| taken.0[1..].to_vec());
                let on_drive = rig.names_in(who, found.node);
                assert_eq!(by_path.is_ok(), on_drive.is_ok(), "{story}");
                if let (Ok(by_path), Ok(on_drive)) = (by_path, on_drive) {
                    assert_eq!(by_path, on_drive, "{story}");
                }
            } else {
                let content = &model.snapshots[at].things[&file].content;
                assert_eq!(rig.store_content(&then.state), *content, "{story}");
            }
        }
        (Ok(_), Err(error)) => panic!("{story}: {error:?}"),
        (Err(_), Ok(then)) => {
            let (last, above) = path.split_last().unwrap();
            let above: String = above.iter().map(|name| format!("{name}/")).collect();
            // Where its folder is gone, no name of it has versions on the drive.
            if rig.find(who, &above).is_ok_and(|above| above.attributes.kind == Kind::Dir) {
                let typed = format!("{above}@versions/{last}@/v1.1.{at}");
                let by_time =
                    format!("{above}@versions/{last}@/{typed_time}", typed_time = second_of(at));
                let found = rig.find(who, &by_time).or_else(|_| rig.find(who, &typed));
                let Node::Version { file, position, .. } =
                    found.unwrap_or_else(|error| panic!("{story}: {error}")).node
                else {
                    panic!("{story}")
                };
                assert_eq!((then.state.file, then.state.position), (file, position), "{story}");
            } else {
                let commit = usize::try_from(then.state.commit.0).unwrap();
                assert!(model.may_read_version(commit, ROOT, then.state.file, who), "{story}");
            }
        }
        (Err(_), Err(_)) => {}
    }
    let then = resolve(&model.snapshots[at], path);
    let by_admin = rig.share.ask(Who::Admin, rig.now).at(&set_path(path), &typed);
    if let Some(file) = then {
        assert_eq!(by_admin.unwrap().state.file, file, "{story}, the admin");
    }
}

/// Holds the versions of a path against those that the drive lists for its name.
fn check_versions(rig: &Rig, model: &Model, path: &[&'static str], who: &Principal) {
    let story = format!("{} for {}", path.join("/"), who.user);
    let ask = rig.share.ask(Who::User(who), rig.now);
    let all = ask.versions(&set_path(path), usize::MAX).unwrap_or_default();
    for limit in 1..all.len().min(4) {
        let some = ask.versions(&set_path(path), limit).unwrap();
        assert_eq!(some.len(), limit, "{story}");
        for (one, other) in some.iter().zip(&all) {
            assert_eq!(one.state, other.state, "{story}");
        }
    }
    let (last, above) = path.split_last().unwrap();
    let Some(folder) = resolve(model.now(), above).filter(|file| model.now().things[file].is_dir)
    else {
        return;
    };
    let above: String = above.iter().map(|name| format!("{name}/")).collect();
    let is_folder = all.first().is_some_and(|newest| newest.state.meta.kind == Kind::Dir);
    // After the versions of a folder come those of what it held.
    let is_below = |version: &PathVersion| {
        is_folder && version.path.split_last().is_some_and(|(above, _)| above == set_path(path))
    };
    let key = |version: &PathVersion| (version.state.file, version.state.position);
    let files = all.iter().filter(|version| version.state.meta.kind != Kind::Dir);
    let by_path: BTreeSet<_> = files.clone().map(key).collect();
    let own: BTreeSet<_> = files.filter(|version| !is_below(version)).map(key).collect();
    let on_drive = rig.find(who, &format!("{above}@versions/{last}@"));
    let on_drive = on_drive.and_then(|found| rig.list_by(who, found.node, 9)).unwrap_or_default();
    let on_drive: BTreeSet<_> = on_drive
        .iter()
        .filter_map(|entry| match entry.node {
            Node::Version { file, position, .. } => Some((file, position)),
            _ => None,
        })
        .collect();
    assert!(own.is_subset(&on_drive), "{story}, in {folder}: {own:?}, not {on_drive:?}");
    assert!(on_drive.is_subset(&by_path), "{story}, in {folder}: {by_path:?}, not {on_drive:?}");
}

/// Holds what a search finds against what listing every folder shows: of the living all of it, of what is gone nothing that
/// could not be listed.
fn check_find(rig: &Rig, model: &Model, who: &Principal) {
    let mut all = Vec::new();
    let take = |found: FoundPath| {
        all.push(found);
        Ok::<_, ()>(())
    };
    rig.share.ask(Who::User(who), rig.now).find(&sought(""), usize::MAX, take).unwrap();
    let mut listed = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(found) = rig.find(who, &folder) else { continue };
        for name in rig.names_in(who, found.node).unwrap_or_default() {
            if name != "@versions" {
                listed.insert(format!("{folder}{name}"));
                folders.push(format!("{folder}{name}/"));
            }
        }
    }
    let living = all.iter().filter(|found| found.gone.is_none());
    let living: BTreeSet<_> = living.map(|found| found.path.to_string()).collect();
    assert_eq!(living, listed, "{}", who.user);
    for found in all.iter().filter(|found| found.gone.is_some()) {
        // Through the folders that live on the way; what stands at the path itself now may be something else.
        let (last, above) = found.path.names().split_last().unwrap();
        let (mut through, mut rest) = (ROOT, above);
        while let Some((first, below)) = rest.split_first()
            && let Some(next) = NAMES
                .iter()
                .find(|name| first.as_bytes() == name.as_bytes())
                .and_then(|name| model.now().names.get(&(through, *name)))
            && model.now().things[next].is_dir
        {
            (through, rest) = (*next, below);
        }
        let last = NAMES.iter().find(|name| last.as_bytes() == name.as_bytes()).unwrap();
        let could_be_listed = (0..model.snapshots.len()).any(|at| {
            let held = model.snapshots[at].names.iter().filter(|((_, name), _)| name == last);
            held.into_iter().any(|((folder, _), file)| {
                model.may_past(at, through, *folder, who, 4) && model.sees(at, through, *file, who)
            })
        });
        assert!(could_be_listed, "{} for {}", found.path, who.user);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_view_is_what_the_model_says(acts in prop::collection::vec(act(), 1..40)) {
        let (rig, model) = play(&acts);
        for who in [anna(), bob(), eve()] {
            for folder in model.now().folders() {
                check_live(&rig, &model, folder, &who);
                if !model.passes_now(folder, &who) {
                    continue;
                }
                for at in 1..model.snapshots.len() {
                    let versions = Node::Versions { folder };
                    let typed = format!("v1.1.{at}");
                    let found = rig.share.lookup(&who, versions, typed.as_bytes(), rig.now);
                    let file = model.stood_for(folder, at);
                    match file.filter(|file| model.sees(at, folder, *file, &who)) {
                        Some(_) => check_view(&rig, &model, at, folder, found.unwrap().node, &who),
                        None => prop_assert_eq!(word(&found), "none"),
                    }
                }
            }
        }
    }

    /// The same question gets one answer by path and on the drive.
    #[test]
    fn every_path_is_what_the_drive_shows(acts in prop::collection::vec(act(), 1..40)) {
        check_paths(&acts);
    }
}

/// A limit tells the first of all versions also where a file was called otherwise before, in a folder that took the path of
/// another.
#[test]
fn a_limit_tells_the_first_of_all_versions() {
    check_paths(&[
        Act::AddFile { folder: 0, name: 4, mode: 0 },
        Act::AddDir { folder: 0, name: 29, mode: 0 },
        Act::Remove { place: 6 },
        Act::Save { file: 0, mode: 0 },
        Act::AddFile { folder: 0, name: 18, mode: 0 },
        Act::AddDir { folder: 43, name: 45, mode: 0 },
        Act::Link { file: 32, folder: 1, name: 37 },
        Act::AddDir { folder: 2, name: 9, mode: 6 },
        Act::Link { file: 1, folder: 23, name: 45 },
        Act::AddFile { folder: 31, name: 47, mode: 14 },
    ]);
}

fn check_paths(acts: &[Act]) {
    let (rig, model) = play(acts);
    for who in [anna(), bob(), eve()] {
        for path in paths_ever(&model) {
            check_versions(&rig, &model, &path, &who);
            for at in 1..model.snapshots.len() {
                check_path_then(&rig, &model, &path, at, &who);
            }
        }
        check_find(&rig, &model, &who);
    }
}
