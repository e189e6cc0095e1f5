//! Random histories, asked about at every commit by every user, against a model that keeps every commit whole.

#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod rig;

use std::collections::BTreeMap;

use proptest::prelude::*;

use keepshare_auth::Principal;
use keepshare_base::{FileId, Kind};
use keepshare_namespace::Node;

use rig::*;

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
}
