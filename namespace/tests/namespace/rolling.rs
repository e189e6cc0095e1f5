//! What users may have rolled back: each thing takes the rights of a single restore, and nothing is told that they may not list.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
    process::Command,
};

use keepshare_auth::Principal;
use keepshare_base::{CommitId, Content, Event, FileId, Kind, Meta, SetPath};
use keepshare_namespace::{StepError, StepPlace, Who};
use keepshare_versioning::rollback::{Back, Doing, PlanError, Planned, Step, Wanted};

use crate::rig::*;

const NOW: CommitId = CommitId::MAX;

fn path(text: &str) -> SetPath {
    let names = text.split('/').filter(|part| !part.is_empty()).map(name);
    SetPath::from(names.collect::<Vec<_>>())
}

/// What somebody's plan says.
#[derive(Debug, Default, Eq, PartialEq)]
struct Told {
    /// What is done, each in a word, without what only sets attributes.
    does: Vec<String>,
    left: Vec<String>,
    unchanged: u64,
}

fn back(folder: &str, back: Back) -> Wanted {
    Wanted { path: path(folder), back, base: NOW, only: None, links: false }
}

fn to(folder: &str, at: CommitId) -> Wanted {
    back(folder, Back::To { at, is_point: false })
}

fn steps(rig: &Rig, who: Who<'_>, wanted: &Wanted) -> Result<(Vec<Step>, Told), PlanError> {
    let (mut steps, mut told) = (Vec::new(), Told::default());
    let mut take = |planned| match planned {
        Planned::Step(step) => steps.push(step),
        Planned::Left(left) => told.left.push(format!("{} {:?}", left.path, left.why)),
    };
    told.unchanged = rig.share.ask(who, rig.now).plan_back(wanted, &mut take)?.unchanged;
    for Step { path, doing, .. } in &steps {
        told.does.push(match doing {
            Doing::Write { over: Some(_), .. } => format!("write {path}"),
            Doing::Write { over: None, .. } => format!("add {path}"),
            Doing::Make { .. } => format!("make {path}"),
            Doing::Move { to, .. } => format!("move {path} {to}"),
            Doing::Link { to, .. } => format!("link {path} {to}"),
            Doing::Remove { .. } => format!("remove {path}"),
            Doing::SetAttributes { .. } => continue,
        });
    }
    told.does.sort();
    told.left.sort();
    Ok((steps, told))
}

fn plan(rig: &Rig, who: &Principal, wanted: &Wanted) -> Told {
    steps(rig, Who::User(who), wanted).unwrap().1
}

/// Adds something of somebody's.
fn add(rig: &mut Rig, owner: u32, parent: FileId, text: &str, mode: u32) -> FileId {
    let file = rig.file();
    rig.apply(edit().whole_of(owner, file, mode, text.as_bytes()).put(parent, text, file));
    file
}

fn add_dir(rig: &mut Rig, owner: u32, parent: FileId, text: &str, mode: u32) -> FileId {
    let dir = rig.file();
    rig.apply(edit().dir_of(owner, dir, mode).put_dir(parent, text, dir));
    dir
}

fn save(rig: &mut Rig, owner: u32, file: FileId, mode: u32, bytes: &[u8]) {
    rig.apply(edit().whole_of(owner, file, mode, bytes));
}

fn latest(rig: &Rig) -> CommitId {
    rig.store.reader().view().unwrap().latest()
}

/// Whoever rolls a folder back in which others work, too, gets their own things back, and hears what of the others' was left.
#[test]
fn what_is_others_is_told_and_left() {
    let mut rig = Rig::new();
    let shared = add_dir(&mut rig, ANNA, ROOT, "shared", 0o777);
    let [anna_s, eve_s] = [ANNA, EVE].map(|owner| {
        let text = format!("of-{owner}");
        add(&mut rig, owner, shared, &text, 0o644)
    });
    let open = add(&mut rig, ANNA, shared, "open", 0o666);
    let then = latest(&rig);
    save(&mut rig, ANNA, anna_s, 0o644, b"changed");
    save(&mut rig, EVE, eve_s, 0o644, b"changed");
    save(&mut rig, ANNA, open, 0o666, b"changed");
    let told = plan(&rig, &eve(), &to("shared", then));
    assert_eq!(told.does, ["write shared/of-1002", "write shared/open"]);
    assert_eq!(told.left, ["shared/of-1000 NotYours"]);
    let all = steps(&rig, Who::Admin, &to("shared", then)).unwrap().1;
    assert_eq!((all.does.len(), all.left.len()), (3, 0));
    // Whoever may only read may have nothing done.
    let reader = Principal { may_write: false, ..eve() };
    let refused = steps(&rig, Who::User(&reader), &to("shared", then));
    assert!(matches!(refused, Err(PlanError::ReadOnly)), "{refused:?}");
}

/// Whatever goes on where somebody may not look, a preview says the same: it names nothing of it, and counts nothing.
#[test]
fn a_plan_says_nothing_of_what_may_not_be_listed() {
    let told = [false, true].map(|is_busy| {
        let mut rig = Rig::new();
        let shared = add_dir(&mut rig, EVE, ROOT, "shared", 0o777);
        let own = add(&mut rig, EVE, shared, "own", 0o644);
        let shut = add_dir(&mut rig, ANNA, shared, "shut", 0o700);
        let passage = add_dir(&mut rig, ANNA, shared, "passage", 0o711);
        let was_shut = add_dir(&mut rig, ANNA, shared, "was-shut", 0o700);
        let private = add(&mut rig, ANNA, shared, "private", 0o600);
        let gone = add(&mut rig, ANNA, shared, "gone-private", 0o600);
        let mut inside = Vec::new();
        for folder in [shut, passage, was_shut] {
            inside.push(add(&mut rig, ANNA, folder, "in", 0o644));
            inside.push(add(&mut rig, ANNA, folder, "deleted", 0o644));
        }
        let into = add(&mut rig, ANNA, passage, "moved", 0o644);
        let then = latest(&rig);
        save(&mut rig, EVE, own, 0o644, b"changed");
        let spare = rig.file();
        if is_busy {
            save(&mut rig, ANNA, private, 0o600, b"changed");
            rig.apply(edit().gone(shared, "gone-private"));
            for folder in [shut, passage, was_shut] {
                rig.apply(edit().gone(folder, "deleted"));
                add(&mut rig, ANNA, folder, "new", 0o644);
            }
            save(&mut rig, ANNA, inside[0], 0o644, b"changed");
            save(&mut rig, ANNA, inside[2], 0o644, b"changed");
            rig.apply(edit().gone(passage, "moved").put(shut, "moved", into));
        } else {
            // A name that went is seen to be gone.
            rig.apply(edit().gone(shared, "gone-private"));
            let _ = (gone, spare);
        }
        rig.apply(edit().dir_of(ANNA, was_shut, 0o777));
        let since = back("shared", Back::Deleted { since: then });
        [plan(&rig, &eve(), &to("shared", then)), plan(&rig, &eve(), &since)]
    });
    assert_eq!(told[0], told[1], "what goes on there is told");
    assert_eq!(told[1][0].does, ["write shared/own"]);
    assert_eq!(told[1][0].left, ["shared/passage NotListed"]);
    assert_eq!(told[1][1], Told::default());
}

/// A folder whose names are their owners' to take away is rolled back like that, too; and nothing goes that whoever has it go could
/// not bring back.
#[test]
fn nothing_goes_that_could_not_be_taken_away_or_brought_back() {
    for (mode, goes) in [
        (0o1777, &["remove shared/eve"][..]),
        (0o777, &["remove shared/anna", "remove shared/eve"]),
        (0o755, &[]),
    ] {
        let mut rig = Rig::new();
        let shared = add_dir(&mut rig, ANNA, ROOT, "shared", mode);
        add(&mut rig, ANNA, shared, "old", 0o644);
        let then = latest(&rig);
        add(&mut rig, ANNA, shared, "anna", 0o644);
        add(&mut rig, EVE, shared, "eve", 0o644);
        add(&mut rig, ANNA, shared, "secret", 0o600);
        let folder = add_dir(&mut rig, ANNA, shared, "folder", 0o755);
        add(&mut rig, ANNA, folder, "in", 0o644);
        add_dir(&mut rig, ANNA, shared, "shut", 0o700);
        let told = plan(&rig, &eve(), &to("shared", then));
        assert_eq!(told.does, goes, "{mode:o}");
        assert!(told.left.contains(&"shared/secret NotYours".to_owned()), "{mode:o} {told:?}");
        assert!(told.left.contains(&"shared/shut NotListed".to_owned()), "{mode:o} {told:?}");
    }
    // In a sticky folder of one's own everything goes.
    let mut rig = Rig::new();
    let own = add_dir(&mut rig, EVE, ROOT, "own", 0o1777);
    let then = latest(&rig);
    add(&mut rig, ANNA, own, "anna", 0o644);
    assert_eq!(plan(&rig, &eve(), &to("own", then)).does, ["remove own/anna"]);
}

/// What went to where its user may not write stays there, and where that is said to nobody who may not list it.
#[test]
fn what_was_moved_to_a_folder_of_others_stays_there() {
    for mode in [0o755, 0o711, 0o733] {
        let mut rig = Rig::new();
        let shared = add_dir(&mut rig, EVE, ROOT, "shared", 0o777);
        let locked = add_dir(&mut rig, ANNA, shared, "locked", mode);
        let file = add(&mut rig, EVE, shared, "file", 0o666);
        let then = latest(&rig);
        rig.apply(edit().gone(shared, "file").put(locked, "hidden-name", file));
        let told = plan(&rig, &eve(), &to("shared", then));
        assert_eq!(told.does, [] as [String; 0], "{mode:o}");
        assert!(told.left.contains(&"shared/file NotYours".to_owned()), "{mode:o} {told:?}");
        assert!(!format!("{told:?}").contains("hidden-name"), "{mode:o} {told:?}");
    }
    // From a folder that may be written it comes back, and a folder of others' does only where it is not carried elsewhere.
    let mut rig = Rig::new();
    let shared = add_dir(&mut rig, EVE, ROOT, "shared", 0o777);
    let other = add_dir(&mut rig, ANNA, shared, "other", 0o777);
    let file = add(&mut rig, EVE, shared, "file", 0o644);
    let [near, far] = ["near", "far"].map(|text| add_dir(&mut rig, ANNA, shared, text, 0o755));
    let then = latest(&rig);
    rig.apply(edit().gone(shared, "file").put(other, "file", file));
    rig.apply(edit().gone(shared, "near").put_dir(shared, "nearer", near));
    rig.apply(edit().gone(shared, "far").put_dir(other, "far", far));
    let told = plan(&rig, &eve(), &to("shared", then));
    assert_eq!(told.does, ["move shared/nearer shared/near", "move shared/other/file shared/file"]);
    assert_eq!(told.left, ["shared/far NotYours"]);
}

/// Another name of somebody's file gives nobody power over it: the name goes and comes, the file is left as it is.
#[test]
fn another_name_of_a_file_is_no_right_to_it() {
    let mut rig = Rig::new();
    let (own, anna_s) =
        (add_dir(&mut rig, EVE, ROOT, "own", 0o755), add_dir(&mut rig, ANNA, ROOT, "annas", 0o755));
    let file = add(&mut rig, ANNA, anna_s, "file", 0o644);
    rig.apply(edit().put(own, "linked", file));
    let then = latest(&rig);
    save(&mut rig, ANNA, file, 0o644, b"changed");
    let told = plan(&rig, &eve(), &to("own", then));
    assert_eq!((told.does, told.left), (vec![], vec!["own/linked LinkedOutside".to_owned()]));
    let wanted = Wanted { links: true, ..to("own", then) };
    let told = plan(&rig, &eve(), &wanted);
    assert_eq!((told.does, told.left), (vec![], vec!["own/linked NotYours".to_owned()]));
    // A name that came since goes from one's own folder, and from no other.
    rig.apply(edit().put(own, "since", file).put(anna_s, "since", file));
    assert_eq!(plan(&rig, &eve(), &wanted).does, ["remove own/since"]);
    // Where both names are inside, a copy comes back instead of another name.
    let mut rig = Rig::new();
    let top = add_dir(&mut rig, EVE, ROOT, "top", 0o755);
    let anna_s = add_dir(&mut rig, ANNA, top, "annas", 0o755);
    let file = add(&mut rig, ANNA, anna_s, "file", 0o644);
    let mine = add(&mut rig, EVE, top, "mine", 0o644);
    rig.apply(edit().put(top, "linked", file).put(top, "mine-too", mine));
    let then = latest(&rig);
    rig.apply(edit().gone(top, "linked").gone(top, "mine-too"));
    let told = plan(&rig, &eve(), &to("top", then));
    assert_eq!(told.does, ["add top/linked", "link top/mine top/mine-too"]);
}

/// Names that lead elsewhere are names: what they lead to is not looked at, nor touched.
#[test]
fn symlinks_lead_nowhere() {
    let mut rig = Rig::new();
    let own = add_dir(&mut rig, EVE, ROOT, "own", 0o755);
    let anna_s = add_dir(&mut rig, ANNA, ROOT, "annas", 0o755);
    add(&mut rig, ANNA, anna_s, "file", 0o644);
    let link = rig.file();
    rig.apply(edit().link(link, "../annas").target(own, "link", Some((link, Kind::Symlink))));
    let then = latest(&rig);
    rig.apply(edit().gone(own, "link"));
    let folder = add_dir(&mut rig, EVE, own, "link", 0o755);
    add(&mut rig, EVE, folder, "file", 0o644);
    let told = plan(&rig, &eve(), &to("own", then));
    assert!(told.does.contains(&"make own/link".to_owned()), "{told:?}");
    assert!(!format!("{told:?}").contains("annas"), "{told:?}");
    // Through one that stands where a folder was, nothing is done.
    let mut rig = Rig::new();
    let own = add_dir(&mut rig, EVE, ROOT, "own", 0o755);
    add_dir(&mut rig, EVE, own, "sub", 0o755);
    let then = latest(&rig);
    let link = rig.file();
    rig.apply(edit().gone(own, "sub"));
    rig.apply(edit().link(link, "..").target(own, "sub", Some((link, Kind::Symlink))));
    let through = steps(&rig, Who::User(&eve()), &to("own/sub/annas", then));
    assert!(matches!(through, Err(PlanError::NoFolder(_) | PlanError::NotThere)), "{through:?}");
}

/// A folder that may not be listed, now or then, is not rolled back; nor is one that cannot be reached.
#[test]
fn a_folder_that_may_not_be_listed_is_not_rolled_back() {
    let mut rig = Rig::new();
    let folder = add_dir(&mut rig, ANNA, ROOT, "folder", 0o711);
    add_dir(&mut rig, EVE, folder, "inner", 0o755);
    let then = latest(&rig);
    let refused = |rig: &Rig, folder| steps(rig, Who::User(&eve()), &to(folder, then)).unwrap_err();
    assert!(matches!(refused(&rig, "folder"), PlanError::NotListed));
    rig.apply(edit().dir_of(ANNA, folder, 0o755));
    assert!(matches!(refused(&rig, "folder"), PlanError::NotListed), "it was shut then");
    rig.apply(edit().dir_of(ANNA, folder, 0o700));
    let [shut, nothing] = ["folder/inner", "folder/nothing"].map(|inner| refused(&rig, inner));
    assert_eq!(shut.to_string(), nothing.to_string(), "it says what is there");
}

/// Where a step is done, as a test finds it.
fn place(rig: &Rig, step: &Step) -> StepPlace {
    let view = rig.store.reader().view().unwrap();
    let folder =
        |path: &SetPath| view.resolve(&path.split_last().unwrap().0, NOW).unwrap().unwrap().0;
    let to = match &step.doing {
        Doing::Move { to, .. } | Doing::Link { to, .. } => Some(folder(to)),
        _ => None,
    };
    let made = view.resolve(&step.path, NOW).unwrap().map(|(file, _)| file);
    StepPlace { folder: folder(&step.path), to, made }
}

fn may_do(rig: &Rig, who: &Principal, step: &Step) -> Result<Meta, StepError> {
    let view = rig.store.reader().view().unwrap();
    let state = match &step.doing {
        Doing::Write { what, .. }
        | Doing::Make { what, .. }
        | Doing::SetAttributes { what, .. } => view.state_of(*what).unwrap().unwrap(),
        Doing::Move { what, .. } | Doing::Remove { what, .. } => {
            view.file(what.file.file, NOW).unwrap().unwrap()
        }
        Doing::Link { .. } => view.file(place(rig, step).made.unwrap(), NOW).unwrap().unwrap(),
    };
    rig.share.ask(Who::User(who), rig.now).may_do(step, place(rig, step), &state)
}

/// Rights that end between the plan and a step end the step; and nobody gets or gives what a single restore would not.
#[test]
fn every_step_takes_the_rights_of_its_moment() {
    let mut rig = Rig::new();
    let shared = add_dir(&mut rig, ANNA, ROOT, "shared", 0o777);
    let open = add(&mut rig, ANNA, shared, "open", 0o666);
    let own = add(&mut rig, EVE, shared, "own", 0o640);
    let then = latest(&rig);
    save(&mut rig, ANNA, open, 0o644, b"changed");
    save(&mut rig, ANNA, open, 0o606, b"changed again");
    save(&mut rig, EVE, own, 0o600, b"changed");
    add(&mut rig, ANNA, shared, "new", 0o644);
    let (steps, _) = steps(&rig, Who::User(&eve()), &to("shared", then)).unwrap();
    let find = |text: &str| {
        let is_it = |step: &&Step| {
            step.path.to_string() == text && !matches!(step.doing, Doing::SetAttributes { .. })
        };
        steps.iter().find(is_it).unwrap_or_else(|| panic!("{text}: {steps:?}"))
    };
    let meta = may_do(&rig, &eve(), find("shared/open")).unwrap();
    assert_eq!((meta.mode, meta.owner.id), (0o606, ANNA), "the mode is its owner's to change");
    let meta = may_do(&rig, &eve(), find("shared/own")).unwrap();
    assert_eq!((meta.mode, meta.owner.id), (0o640, EVE), "her own comes back as it was");
    may_do(&rig, &eve(), find("shared/new")).unwrap();

    // Whoever may write it by now, and not read it, gets nothing of what it was into it either.
    save(&mut rig, ANNA, open, 0o602, b"changed again");
    assert!(may_do(&rig, &eve(), find("shared/open")).is_err());
    save(&mut rig, ANNA, open, 0o604, b"changed again");
    rig.apply(edit().dir_of(ANNA, shared, 0o1777));
    for text in ["shared/open", "shared/new"] {
        let may = may_do(&rig, &eve(), find(text));
        assert!(matches!(may, Err(StepError::NotYours)), "{text}: {may:?}");
    }
    may_do(&rig, &eve(), find("shared/own")).unwrap();
    let reader = Principal { may_write: false, ..eve() };
    assert!(may_do(&rig, &reader, find("shared/own")).is_err(), "she may only read by now");
}

/// Modes and owners are their owners' to bring back; where nothing else differs, nothing is written.
#[test]
fn attributes_are_their_owners() {
    let mut rig = Rig::new();
    let shared = add_dir(&mut rig, EVE, ROOT, "shared", 0o777);
    let [annas, eves] = [(ANNA, "annas"), (EVE, "eves")].map(|(owner, text)| {
        let folder = add_dir(&mut rig, owner, shared, text, 0o777);
        (folder, add(&mut rig, owner, folder, "file", 0o666))
    });
    let then = latest(&rig);
    for (owner, (folder, file)) in [(ANNA, annas), (EVE, eves)] {
        save(&mut rig, owner, file, 0o646, b"file");
        rig.apply(edit().dir_of(owner, folder, 0o757));
        add(&mut rig, EVE, folder, "new", 0o644);
    }
    let (steps, told) = steps(&rig, Who::User(&eve()), &to("shared", then)).unwrap();
    let does = ["remove shared/annas/new", "remove shared/eves/new", "write shared/eves/file"];
    assert_eq!(told.does, does);
    assert_eq!(told.left, ["shared/annas NotYours", "shared/annas/file NotYours"]);
    let gives = steps.iter().filter(|step| matches!(step.doing, Doing::SetAttributes { .. }));
    let gives: Vec<_> = gives.map(|step| step.path.to_string()).collect();
    assert_eq!(gives, ["shared/eves"], "times of others' folders are theirs");
}

/// A folder that comes back is its owner's where whoever brings it back may put something into it, and else a copy of theirs; what is
/// in it comes back into that folder, and into none that somebody puts in its place.
#[test]
fn a_folder_comes_back_with_what_is_in_it() {
    for (mode, owner) in [(0o777, ANNA), (0o755, EVE)] {
        let mut rig = Rig::new();
        let shared = add_dir(&mut rig, EVE, ROOT, "shared", 0o777);
        let folder = add_dir(&mut rig, ANNA, shared, "folder", mode);
        add(&mut rig, ANNA, folder, "file", 0o644);
        let then = latest(&rig);
        rig.apply(edit().gone(folder, "file").gone(shared, "folder"));
        let (steps, told) = steps(&rig, Who::User(&eve()), &to("shared", then)).unwrap();
        assert_eq!(told.does, ["add shared/folder/file", "make shared/folder"], "{mode:o}");
        let [make, write] = [&steps[0], &steps[1]];
        let meta = may_do(&rig, &eve(), make).unwrap();
        assert_eq!(meta.owner.id, owner, "{mode:o}");
        let made = rig.file();
        let made_with = edit().row(made, meta, Content::Same, Event::Created);
        rig.apply(made_with.put_dir(shared, "folder", made));
        let again = may_do(&rig, &eve(), make).unwrap();
        assert_eq!(again.owner.id, owner, "{mode:o}: a repeat makes another one");
        let meta = may_do(&rig, &eve(), write).unwrap();
        assert_eq!(meta.owner.id, ANNA, "{mode:o}: it is back where it was last");

        let others = rig.file();
        let swapped = edit().dir_of(ANNA, others, 0o755).put_dir(shared, "folder", others);
        rig.apply(swapped);
        assert!(may_do(&rig, &eve(), write).is_err(), "{mode:o}: into another's folder");
    }
}

/// A set, and the same tree as plain files of the same owners and modes, for the kernel to judge.
struct World {
    rig: Rig,
    files: tempfile::TempDir,
    /// What is in it, by path: which, what kind, whose, which mode.
    things: BTreeMap<String, (FileId, Kind, u32, u32)>,
    seed: u64,
    made: u32,
}

const FILE_MODES: [u32; 5] = [0o644, 0o666, 0o600, 0o622, 0o640];
const FOLDER_MODES: [u32; 7] = [0o755, 0o777, 0o777, 0o1777, 0o700, 0o711, 0o733];

impl World {
    fn new(seed: u64) -> Self {
        let mut rig = Rig::new();
        let files = tempfile::tempdir().unwrap();
        fs::set_permissions(files.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(files.path().join("now")).unwrap();
        fs::create_dir(files.path().join("now/f")).unwrap();
        let folder = add_dir(&mut rig, EVE, ROOT, "f", 0o777);
        let things = BTreeMap::from([("f".to_owned(), (folder, Kind::Dir, EVE, 0o777))]);
        let mut world = Self { rig, files, things, seed: seed | 1, made: 0 };
        world.give("f");
        world
    }

    fn below(&mut self, end: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed >> 16).unwrap() % end
    }

    fn real(&self, path: &str) -> PathBuf {
        self.files.path().join("now").join(path)
    }

    /// Gives the plain file or folder the owner and the mode that it has.
    fn give(&mut self, path: &str) {
        let (_, _, owner, mode) = self.things[path];
        let group = if owner == EVE { 999 } else { STAFF };
        let path = self.real(path);
        chown(&path, Some(owner), Some(group)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn choose(&mut self, of: Option<Kind>) -> Option<String> {
        let fits = |kind: Kind| of.is_none_or(|of| of == kind);
        let found: Vec<String> = self
            .things
            .iter()
            .filter(|(path, (_, kind, ..))| *path != "f" && fits(*kind))
            .map(|(path, _)| path.clone())
            .collect();
        (!found.is_empty()).then(|| found[self.below(found.len())].clone())
    }

    fn folder(&mut self) -> (String, FileId) {
        let path = self.choose(Some(Kind::Dir)).unwrap_or_else(|| "f".to_owned());
        let path = if self.below(3) == 0 { "f".to_owned() } else { path };
        (path.clone(), self.things[&path].0)
    }

    fn parent(&self, path: &str) -> (FileId, String) {
        let (above, name) = path.rsplit_once('/').unwrap();
        (self.things[above].0, name.to_owned())
    }

    fn act(&mut self) {
        self.made += 1;
        let name = format!("n{}", self.made);
        let (above, folder) = self.folder();
        let path = format!("{above}/{name}");
        let owner = [ANNA, EVE][self.below(2)];
        match self.below(10) {
            0..=2 => {
                let mode = FILE_MODES[self.below(FILE_MODES.len())];
                let file = add(&mut self.rig, owner, folder, &name, mode);
                fs::write(self.real(&path), &name).unwrap();
                self.things.insert(path.clone(), (file, Kind::File, owner, mode));
                self.give(&path);
            }
            3 => {
                let mode = FOLDER_MODES[self.below(FOLDER_MODES.len())];
                let file = add_dir(&mut self.rig, owner, folder, &name, mode);
                fs::create_dir(self.real(&path)).unwrap();
                self.things.insert(path.clone(), (file, Kind::Dir, owner, mode));
                self.give(&path);
            }
            4 | 5 => {
                let Some(path) = self.choose(Some(Kind::File)) else { return };
                let (file, _, owner, mode) = self.things[&path];
                save(&mut self.rig, owner, file, mode, name.as_bytes());
                fs::write(self.real(&path), &name).unwrap();
            }
            6 => {
                let Some(path) = self.choose(None) else { return };
                let modes =
                    if self.things[&path].1 == Kind::Dir { &FOLDER_MODES[..] } else { &FILE_MODES };
                let mode = modes[self.below(modes.len())];
                let (file, kind, owner, _) = self.things[&path];
                match kind {
                    Kind::Dir => drop(self.rig.apply(edit().dir_of(owner, file, mode))),
                    _ => {
                        let content = fs::read(self.real(&path)).unwrap();
                        save(&mut self.rig, owner, file, mode, &content);
                    }
                }
                for (_, thing) in self.things.iter_mut().filter(|(_, thing)| thing.0 == file) {
                    thing.3 = mode;
                }
                self.give(&path);
            }
            7 => {
                let Some(path) = self.choose(None) else { return };
                if self.things.keys().any(|other| other.starts_with(&format!("{path}/"))) {
                    return;
                }
                let (parent, name) = self.parent(&path);
                self.rig.apply(edit().gone(parent, &name));
                match self.things.remove(&path).unwrap().1 {
                    Kind::Dir => fs::remove_dir(self.real(&path)).unwrap(),
                    _ => fs::remove_file(self.real(&path)).unwrap(),
                }
            }
            8 => {
                let Some(from) = self.choose(None) else { return };
                if format!("{path}/").starts_with(&format!("{from}/")) {
                    return;
                }
                let ((parent, old), (file, kind, ..)) = (self.parent(&from), self.things[&from]);
                let there = Some((file, kind));
                self.rig.apply(edit().gone(parent, &old).target(folder, &name, there));
                fs::rename(self.real(&from), self.real(&path)).unwrap();
                let moved =
                    |other: &String| *other == from || other.starts_with(&format!("{from}/"));
                let below: Vec<String> =
                    self.things.keys().filter(|other| moved(other)).cloned().collect();
                for other in below {
                    let thing = self.things.remove(&other).unwrap();
                    self.things.insert(format!("{path}{}", &other[from.len()..]), thing);
                }
            }
            _ => {
                let Some(from) = self.choose(Some(Kind::File)) else { return };
                let thing = self.things[&from];
                self.rig.apply(edit().put(folder, &name, thing.0));
                fs::hard_link(self.real(&from), self.real(&path)).unwrap();
                self.things.insert(path, thing);
            }
        }
    }

    /// Runs a script as Eve, as the kernel lets her.
    fn as_eve(&self, script: &str) -> String {
        let numbers = ["--reuid", "1002", "--regid", "999", "--clear-groups"];
        let told = Command::new("setpriv")
            .args(numbers)
            .args(["sh", "-c", script])
            .current_dir(self.files.path())
            .output()
            .unwrap();
        String::from_utf8(told.stdout).unwrap()
    }
}

/// Whatever a user's plan does, the kernel would let that user do by hand, step by step; and whatever it names, `find` as that user
/// does, now or then.
#[test]
fn a_plan_does_what_the_kernel_would_let_its_user_do() {
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    if !rustix::process::geteuid().is_root() || !has_setpriv {
        eprintln!("skipped: it needs root, and setpriv");
        return;
    }
    let seed: u64 = std::env::var("KEEPSHARE_SEED").map_or(7, |seed| seed.parse().unwrap());
    let mut does = 0;
    for life in 0..60 {
        let mut world = World::new(seed.wrapping_add(life).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (0..40).for_each(|_| world.act());
        let then = latest(&world.rig);
        let copied =
            Command::new("cp").args(["-a", "now", "then"]).current_dir(world.files.path()).status();
        assert!(copied.unwrap().success());
        (0..25).for_each(|_| world.act());
        let names = world.as_eve("find now then -printf '%f\\n' 2>/dev/null");
        let names: BTreeSet<&str> = names.lines().collect();
        let context = format!("KEEPSHARE_SEED={seed} life {life}");
        let is_whole = life % 3 < 2;
        let wanted =
            if is_whole { to("f", then) } else { back("f", Back::Deleted { since: then }) };
        let (steps, told) = steps(&world.rig, Who::User(&eve()), &wanted).unwrap();
        let left = told.left.iter().filter_map(|left| Some(left.split_once(' ')?.0.to_owned()));
        let of_steps = steps.iter().flat_map(|step| step.paths().chain([&step.path]));
        for path in of_steps.map(ToString::to_string).chain(left) {
            for name in path.split('/') {
                let name = name.split('~').next().unwrap();
                // What was made and deleted since is in neither copy.
                assert!(
                    !is_whole || names.contains(name),
                    "{context}: {name} of {path} is told: {told:?}"
                );
            }
        }
        let mut script = "umask 022; cd now\n".to_owned();
        for step in &steps {
            let path = step.path.to_string();
            let does = match &step.doing {
                Doing::Write { over: Some(_), .. } => format!("truncate -c -s +0 {path}"),
                Doing::Write { over: None, .. } => format!("touch {path}"),
                Doing::Make { .. } => format!("mkdir {path}"),
                Doing::Move { to, .. } => format!("test ! -e {to} && mv -T {path} {to}"),
                Doing::Link { to, .. } => format!("ln -P {path} {to}"),
                Doing::Remove { kind: Kind::Dir, .. } => format!("rmdir {path}"),
                Doing::Remove { .. } => format!("rm -f {path}"),
                Doing::SetAttributes { .. } => format!("chmod --reference={path} {path}"),
            };
            script += &format!("{does} || echo '{does}'\n");
        }
        does += steps.len();
        let refused = world.as_eve(&script);
        assert!(refused.is_empty(), "{context}: {refused}\n{script}\n{told:?}");
    }
    assert!(does > 200, "{does} steps in all");
}
