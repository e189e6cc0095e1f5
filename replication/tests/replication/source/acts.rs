//! What brings a folder back: folders and links that are made, names that are moved, added and removed. Nothing is lost by it, and
//! what is done is journaled as whatever users do.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use keepshare_base::{
    ContentHash, FileId, Kind, Meta, Name, Point, PointKind, PointRow, PresentFile, RequestId,
    RestoreGround, RestoreOutcome, SetPath,
};
use keepshare_proto::{
    Act, Elsewhere, RestoreAnswer, Text,
    restore::{MasterInput, MasterOutput},
    shipper::Input,
};
use keepshare_replication::{
    drivers::restores::MasterRestores,
    source::{
        self,
        CaptureMode::{self, Scan},
        RestoreRequest, SourceConfig, SourceError,
    },
};

use super::{
    edits::captures,
    journal,
    mounts::in_own_mounts,
    support::{Rig, Shown, as_ordinary_user, disk_tree, open},
};

const PREFIX: &str = ".keepshare-restore~";

/// A rig, and what numbers its requests.
struct Stage {
    rig: Rig,
    number: u8,
}

impl Stage {
    /// Begins with `in/doc`, `in/other` and the folder `out`.
    fn new(mode: CaptureMode) -> Self {
        Self::with(mode, |_| {})
    }

    fn with(mode: CaptureMode, configure: impl FnOnce(&mut SourceConfig)) -> Self {
        let prepare = |root: &Path| {
            fs::create_dir(root.join("in")).unwrap();
            fs::create_dir(root.join("out")).unwrap();
            fs::write(root.join("in/doc"), "what it was").unwrap();
            fs::write(root.join("in/other"), "another").unwrap();
        };
        let mut rig = Rig::with(mode, prepare, configure);
        rig.begin();
        Self { rig, number: 0 }
    }

    /// What a station says of a name: its folder and what it has there, with what that holds.
    fn ground(&self, path: &str) -> RestoreGround {
        let (folder, _) = path.rsplit_once('/').unwrap_or_default();
        let (folder, _) = self.rig.model.resolve(folder).expect("its folder is known");
        let present = self.rig.model.resolve(path).map(|(file, _)| file);
        let meta = present.map(|file| &self.rig.model.files[&file].meta);
        let still = meta.filter(|meta| meta.kind == Kind::File).map(|meta| (meta.size, meta.mtime));
        let present = present.zip(meta).map(|(file, meta)| PresentFile::new(file, meta));
        RestoreGround { folder, present, still }
    }

    fn elsewhere(&self, path: &str) -> Elsewhere {
        Elsewhere { path: SetPath::parse(path.as_bytes()).unwrap(), ground: self.ground(path) }
    }

    fn request(&mut self, act: Act, path: &str) -> RestoreRequest {
        self.number += 1;
        let ground = Some(self.ground(path));
        let plain = journal::request(path, self.number, Path::new("/nonexistent"));
        RestoreRequest { ground, act, ..plain }
    }

    fn do_it(&self, request: RestoreRequest) -> Result<source::RestoreAnswer, SourceError> {
        self.rig.handle.restore(request)
    }

    /// Does it, and does it again: a link may break before the answer came. The second time nothing is left to do.
    fn twice(&mut self, request: RestoreRequest) {
        let first = self.do_it(request.clone()).unwrap();
        assert_eq!(first.outcome, RestoreOutcome::Written, "{:?}", request.act);
        for settled in [false, true] {
            if settled {
                self.rig.settle();
            }
            let again = self.do_it(request.clone()).unwrap();
            assert_eq!(
                again.outcome,
                RestoreOutcome::Equal,
                "{:?}, settled: {settled}",
                request.act
            );
        }
        self.rig.settle();
    }

    /// Asks for something that is not done, and changes nothing.
    fn refused(&mut self, request: RestoreRequest, why: &str) {
        let before = self.shown();
        let error = self.do_it(request).unwrap_err();
        assert!(matches!(error, SourceError::Refused(_)), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(before == self.shown(), "something was changed");
    }

    /// What users see in the folder.
    fn shown(&self) -> BTreeMap<PathBuf, Shown> {
        let mut tree = disk_tree(self.rig.root());
        tree.retain(|path, _| !path.to_string_lossy().starts_with(PREFIX));
        tree
    }

    fn make(&mut self, path: &str, meta: Meta) -> RestoreRequest {
        RestoreRequest { meta, ..self.request(Act::Make, path) }
    }

    fn private(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.rig.root()).unwrap().map(|entry| entry.unwrap());
        let mut private =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
        private.next().map(|entry| entry.path())
    }

    /// Returns what lies in the private folder.
    fn put_aside(&self) -> PathBuf {
        let private = self.private().expect("there is one");
        let mut entries = fs::read_dir(private).unwrap().map(|entry| entry.unwrap().path());
        let only = entries.next().expect("something is in it");
        assert!(entries.next().is_none());
        only
    }

    fn wait_over(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.private().is_some() {
            self.rig.catch_up();
            assert!(Instant::now() < deadline, "the private folder stays");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.rig.settle();
    }

    fn wait_version(&mut self, bytes: &[u8]) {
        let what = format!("a version {:?}", String::from_utf8_lossy(bytes));
        self.rig.wait(&what, |rig| all_versions(rig).iter().any(|version| version == bytes));
    }
}

fn all_versions(rig: &Rig) -> Vec<Vec<u8>> {
    let is_file = |file: FileId| rig.model.files[&file].meta.kind == Kind::File;
    let versions = rig.model.versions.iter().filter(|version| is_file(version.file));
    versions.map(|version| version.bytes.to_vec()).collect()
}

/// With events and without any: what is done is noticed all the same.
fn modes() -> Vec<CaptureMode> {
    captures().into_iter().chain([Scan]).collect()
}

fn folder(mode: u32) -> Meta {
    let plain = journal::request("x", 0, Path::new("/")).meta;
    Meta { kind: Kind::Dir, size: 0, mode, ..plain }
}

fn link_to(target: &str) -> Meta {
    Meta { kind: Kind::Symlink, symlink: target.into(), ..folder(0o777) }
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn folders_and_links_are_made_once() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let made = stage.make("in/sub", folder(0o750));
        stage.twice(made);
        assert_eq!(mode_of(&stage.rig.path("in/sub")), 0o750);
        assert_eq!(fs::metadata(stage.rig.path("in/sub")).unwrap().mtime(), 1_600_000_000);
        let link = stage.make("in/link", link_to("doc"));
        stage.twice(link.clone());
        assert_eq!(fs::read_link(stage.rig.path("in/link")).unwrap(), Path::new("doc"));
        assert_eq!(fs::symlink_metadata(stage.rig.path("in/link")).unwrap().mtime(), 1_600_000_000);
        // What is in it by then does not make it another one.
        let again = RestoreRequest { ..stage.make("in/sub", folder(0o750)) };
        fs::write(stage.rig.path("in/sub/x"), "x").unwrap();
        assert_eq!(stage.do_it(again).unwrap().outcome, RestoreOutcome::Equal);
        stage.rig.handle.rescan();
        stage.rig.settle();
    }
}

/// Half of it done, the process was killed: the repeat does the rest, and only of what nobody else can have made.
#[test]
fn a_folder_that_was_half_made_is_made_whole() {
    let mut stage = Stage::new(captures()[0]);
    let made = stage.make("in/sub", folder(0o755));
    fs::create_dir(stage.rig.path("in/sub")).unwrap();
    fs::set_permissions(stage.rig.path("in/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    stage.twice(made);
    assert_eq!(mode_of(&stage.rig.path("in/sub")), 0o755);
    for (name, content, mode) in [("a", None, 0o711), ("b", Some("x"), 0o700)] {
        let made = stage.make(&format!("in/{name}"), folder(0o755));
        let theirs = stage.rig.path(&format!("in/{name}"));
        fs::create_dir(&theirs).unwrap();
        if let Some(content) = content {
            fs::write(theirs.join("x"), content).unwrap();
        }
        fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).unwrap();
        stage.refused(made, "something else has that name");
    }
    let (dir, link) = (stage.make("in/doc", folder(0o755)), stage.make("in/doc", link_to("x")));
    stage.refused(dir, "something else has that name");
    stage.refused(link, "something else has that name");
    stage.rig.settle();
}

/// A station that knows of the folder has it made what it was.
#[test]
fn attributes_are_set_where_they_were_seen() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let set = RestoreRequest { meta: folder(0o705), ..stage.request(Act::SetAttributes, "in") };
        stage.twice(set);
        assert_eq!(mode_of(&stage.rig.path("in")), 0o705);
        let mut root = stage.request(Act::SetAttributes, "x");
        let meta = stage.rig.model.files[&FileId::ROOT].meta.clone();
        let present = Some(PresentFile::new(FileId::ROOT, &meta));
        root.ground = Some(RestoreGround { folder: FileId::ROOT, present, still: None });
        (root.path, root.meta) = (SetPath::default(), folder(0o711));
        stage.twice(root.clone());
        assert_eq!(mode_of(stage.rig.root()), 0o711);
        stage
            .rig
            .wait("the root's attributes", |rig| rig.model.files[&FileId::ROOT].meta.mode == 0o711);
        root.meta.mode = 0o700;
        stage.refused(root, "its rights were changed");
        // Somebody changed it since it was seen, and that is not known yet.
        let set = RestoreRequest { meta: folder(0o777), ..stage.request(Act::SetAttributes, "in") };
        fs::set_permissions(stage.rig.path("in"), fs::Permissions::from_mode(0o700)).unwrap();
        if mode == Scan {
            stage.rig.handle.rescan();
        }
        stage.refused(set, "its rights were changed");
        let wrong =
            RestoreRequest { meta: link_to("x"), ..stage.request(Act::SetAttributes, "in") };
        stage.refused(wrong, "something else has that name");
    }
}

/// Whoever may put a folder's attributes back brings nobody power by it, and takes none that is there.
#[test]
fn a_set_id_bit_stays_and_does_not_come() {
    let mut stage = Stage::new(captures()[0]);
    let set = RestoreRequest { meta: folder(0o2755), ..stage.request(Act::SetAttributes, "in") };
    stage.twice(set);
    assert_eq!(mode_of(&stage.rig.path("in")), 0o755);
    fs::set_permissions(stage.rig.path("out"), fs::Permissions::from_mode(0o2700)).unwrap();
    stage.rig.settle();
    let set = RestoreRequest { meta: folder(0o2755), ..stage.request(Act::SetAttributes, "out") };
    stage.twice(set);
    assert_eq!(mode_of(&stage.rig.path("out")), 0o2755);
    let set = RestoreRequest { meta: folder(0o755), ..stage.request(Act::SetAttributes, "out") };
    stage.twice(set);
    assert_eq!(mode_of(&stage.rig.path("out")), 0o755);
}

#[test]
fn what_is_moved_keeps_its_file() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let file = stage.rig.file("in/doc");
        let moved = stage.request(Act::Move(stage.elsewhere("out/was")), "in/doc");
        stage.twice(moved);
        assert_eq!(stage.rig.file("out/was"), file);
        // A folder with all that is in it.
        let (inner, other) = (stage.rig.file("in"), stage.rig.file("in/other"));
        let moved = stage.request(Act::Move(stage.elsewhere("out/in")), "in");
        stage.twice(moved);
        assert_eq!((stage.rig.file("out/in"), stage.rig.file("out/in/other")), (inner, other));
        let link = stage.make("link", link_to("out"));
        stage.twice(link);
        let link = stage.rig.file("link");
        let moved = stage.request(Act::Move(stage.elsewhere("out/link")), "link");
        stage.twice(moved);
        assert_eq!(stage.rig.file("out/link"), link);
        assert_eq!(fs::read(stage.rig.path("out/was")).unwrap(), b"what it was");
    }
}

#[test]
fn names_are_exchanged() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let (doc, out) = (stage.rig.file("in/doc"), stage.rig.file("out"));
        let exchanged = stage.request(Act::Move(stage.elsewhere("out")), "in/doc");
        stage.twice(exchanged);
        assert_eq!((stage.rig.file("out"), stage.rig.file("in/doc")), (doc, out));
        assert_eq!(fs::read(stage.rig.path("out")).unwrap(), b"what it was");
        let names: Vec<_> =
            stage.rig.changes.iter().flat_map(|(_, change)| &change.names).collect();
        assert!(names.iter().all(|row| row.target.is_none_or(|(at, _)| [doc, out].contains(&at))));
    }
}

#[test]
fn nothing_is_moved_over_anything() {
    for mode in modes() {
        let patience = Duration::from_millis(300);
        let mut stage = Stage::with(mode, |config| config.restores.patience = patience);
        let to = stage.elsewhere("out/new");
        let moved = stage.request(Act::Move(to.clone()), "in/doc");
        fs::write(stage.rig.path("out/new"), "precious").unwrap();
        stage.refused(moved, "something else has that name");
        // Onto a name that a station knows as free, and behind which another file is by now.
        let mut exchanged = stage.elsewhere("in/other");
        let moved = stage.request(Act::Move(exchanged.clone()), "in/doc");
        fs::remove_file(stage.rig.path("in/other")).unwrap();
        fs::write(stage.rig.path("in/other"), "quite another").unwrap();
        stage.rig.handle.rescan();
        stage.rig.settle();
        if let Act::Move(to) = &moved.act
            && stage.rig.model.resolve("in/other").unwrap().0
                != to.ground.present.as_ref().unwrap().file
        {
            stage.refused(moved, "not the file any more");
        }
        exchanged.ground = stage.ground("in/other");
        exchanged.ground.folder = stage.rig.file("out");
        let moved = stage.request(Act::Move(exchanged), "in/doc");
        stage.refused(moved, "another folder");
    }
}

#[test]
fn a_folder_is_not_moved_into_itself() {
    let mut stage = Stage::new(captures()[0]);
    fs::create_dir(stage.rig.path("in/deep")).unwrap();
    stage.rig.settle();
    for to in ["in/deep/in", "in/in"] {
        let moved = stage.request(Act::Move(stage.elsewhere(to)), "in");
        stage.refused(moved, "into itself");
    }
    let exchanged = stage.request(Act::Move(stage.elsewhere("in")), "in/deep");
    stage.refused(exchanged, "into itself");
}

/// Whoever saved something since the state that a person looked at keeps it where it is.
#[test]
fn what_was_changed_since_is_left_alone() {
    for mode in captures() {
        let mut stage = Stage::new(mode);
        let to = stage.elsewhere("out/x");
        let acts = [Act::Move(to.clone()), Act::Link(to), Act::Remove];
        let requests: Vec<_> = acts.map(|act| stage.request(act, "in/doc")).into();
        fs::write(stage.rig.path("in/doc"), "saved since").unwrap();
        for request in &requests {
            stage.refused(request.clone(), "changed since");
        }
        stage.rig.settle();
        let requests = requests.iter().map(|request| {
            let still = stage.ground("in/doc").still;
            let ground = request.ground.clone().map(|ground| RestoreGround { still, ..ground });
            RestoreRequest { ground, ..request.clone() }
        });
        let requests: Vec<_> = requests.collect();
        fs::set_permissions(stage.rig.path("in/doc"), fs::Permissions::from_mode(0o600)).unwrap();
        for request in &requests {
            stage.refused(request.clone(), "rights were changed");
        }
        fs::rename(stage.rig.path("in/other"), stage.rig.path("in/doc")).unwrap();
        for request in &requests {
            stage.refused(request.clone(), "not the file any more");
        }
        fs::rename(stage.rig.path("in"), stage.rig.path("was in")).unwrap();
        fs::create_dir(stage.rig.path("in")).unwrap();
        fs::write(stage.rig.path("in/doc"), "yet another").unwrap();
        stage.rig.settle();
        for request in &requests {
            stage.refused(request.clone(), "another folder");
        }
        stage.rig.settle();
    }
}

/// So it is for what is written over it.
#[test]
fn a_write_onto_what_was_changed_since_is_refused() {
    let mut stage = Stage::new(captures()[0]);
    let content = stage.rig.config.state_dir.join("version");
    fs::write(&content, "right").unwrap();
    let write = RestoreRequest { content, ..stage.request(Act::Write, "in/doc") };
    fs::write(stage.rig.path("in/doc"), "saved since").unwrap();
    stage.refused(write.clone(), "changed since");
    stage.rig.settle();
    let request = stage.request(Act::Write, "in/doc").request;
    let write = RestoreRequest { ground: Some(stage.ground("in/doc")), request, ..write };
    assert_eq!(stage.do_it(write).unwrap().outcome, RestoreOutcome::Written);
    stage.rig.settle();
    assert_eq!(fs::read(stage.rig.path("in/doc")).unwrap(), b"right");
}

/// The process may end after a file was put in place, and before that is journaled: who asks again has it told as done. What is other than
/// the version stays, whatever its times say.
#[test]
fn a_write_that_was_done_already_is_told_as_done() {
    let mut stage = Stage::new(captures()[0]);
    let content = stage.rig.config.state_dir.join("version");
    fs::write(&content, "right").unwrap();
    let over = RestoreRequest { content: content.clone(), ..stage.request(Act::Write, "in/doc") };
    let new = RestoreRequest { content, ..stage.request(Act::Write, "in/new") };
    for (number, request) in [(101, over), (102, new)] {
        let path = stage.rig.path(&request.path.to_string());
        assert_eq!(stage.do_it(request.clone()).unwrap().outcome, RestoreOutcome::Written);
        stage.rig.settle();
        let again = RestoreRequest { request: RequestId([number; 32]), ..request.clone() };
        assert_eq!(stage.do_it(again).unwrap().outcome, RestoreOutcome::Equal);
        let was = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "wrong").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(was).unwrap();
        stage.rig.settle();
        let again = RestoreRequest { request: RequestId([number + 10; 32]), ..request };
        let error = stage.do_it(again).unwrap_err();
        assert!(matches!(error, SourceError::Refused(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"wrong");
        stage.rig.settle();
    }
    stage.wait_over();
}

#[test]
fn a_file_gets_one_more_name() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let file = stage.rig.file("in/doc");
        let linked = stage.request(Act::Link(stage.elsewhere("out/doc")), "in/doc");
        stage.twice(linked);
        assert_eq!((stage.rig.file("out/doc"), stage.rig.file("in/doc")), (file, file));
        let taken = stage.request(Act::Link(stage.elsewhere("in/other")), "in/doc");
        stage.refused(taken, "something else has that name");
        let folder = stage.request(Act::Link(stage.elsewhere("out/in")), "in");
        stage.refused(folder, "only a file");
        // One of its names is moved like any.
        let moved = stage.request(Act::Move(stage.elsewhere("name")), "out/doc");
        stage.twice(moved);
        assert_eq!((stage.rig.file("name"), stage.rig.file("in/doc")), (file, file));
        let removed = stage.request(Act::Remove, "name");
        stage.twice(removed);
        assert!(!stage.rig.path("name").exists(), "this name goes, the file stays");
        assert_eq!(stage.rig.file("in/doc"), file);
    }
}

#[test]
fn what_is_removed_is_gone() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        symlink("doc", stage.rig.path("in/link")).unwrap();
        stage.rig.handle.rescan();
        stage.rig.settle();
        let full = stage.request(Act::Remove, "in");
        stage.refused(full, "not empty");
        let before = all_versions(&stage.rig);
        for name in ["in/link", "in/doc", "in/other", "in"] {
            let removed = stage.request(Act::Remove, name);
            stage.twice(removed);
            assert!(stage.rig.model.resolve(name).is_none(), "{name}");
            assert!(fs::symlink_metadata(stage.rig.path(name)).is_err(), "{name}");
        }
        stage.wait_over();
        // What was a version before is none once more.
        assert_eq!(all_versions(&stage.rig), before);
    }
}

/// Nobody could bring it back. The rig's comparer would wait for ever at a pipe.
#[test]
fn a_pipe_stays() {
    let mut stage = Stage::new(captures()[0]);
    let pipe = stage.rig.path("in/pipe");
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    stage.rig.wait("the pipe", |rig| rig.model.resolve("in/pipe").is_some());
    let removed = stage.request(Act::Remove, "in/pipe");
    let error = stage.do_it(removed).unwrap_err();
    assert!(matches!(error, SourceError::Refused(_)), "{error}");
    assert!(error.to_string().contains("cannot be brought back"), "{error}");
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
}

/// What only few know to be a version, as nobody said what it holds, becomes one once more.
#[test]
fn what_nobody_says_that_they_have_is_a_version_before_it_goes() {
    let mut stage = Stage::new(captures()[0]);
    let mut removed = stage.request(Act::Remove, "in/doc");
    removed.ground.as_mut().unwrap().still = None;
    let so_often =
        |rig: &Rig| all_versions(rig).iter().filter(|version| **version == b"what it was").count();
    let before = so_often(&stage.rig);
    stage.twice(removed);
    stage.rig.wait("one more version", |rig| so_often(rig) == before + 1);
    stage.wait_over();
}

/// It was looked at, and is other than that when it is moved away.
#[test]
fn a_save_right_before_a_removal_is_kept() {
    for by_rename in [true, false] {
        let mut stage = Stage::new(captures()[0]);
        for number in 0..5 {
            let saved = format!("save {number}");
            fs::write(stage.rig.path("doc"), "before").unwrap();
            fs::write(stage.rig.path(".x"), &saved).unwrap();
            stage.rig.begin();
            let file = stage.rig.file("doc");
            stage.rig.wait("a version", |rig| !rig.versions(file).is_empty());
            let removed = stage.request(Act::Remove, "doc");
            let handle = stage.rig.handle.clone();
            std::thread::scope(|scope| {
                let asked = scope.spawn(move || handle.restore(removed));
                // Its private folder is made after the look.
                while !asked.is_finished() && stage.private().is_none() {
                    std::hint::spin_loop();
                }
                if by_rename {
                    fs::rename(stage.rig.path(".x"), stage.rig.path("doc")).unwrap();
                } else {
                    fs::write(stage.rig.path("doc"), &saved).unwrap();
                }
                match asked.join().unwrap() {
                    Ok(_) | Err(SourceError::Refused(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            });
            stage.wait_version(saved.as_bytes());
            stage.wait_over();
            if by_rename {
                assert_eq!(fs::read(stage.rig.path("doc")).unwrap(), saved.as_bytes());
            }
        }
    }
}

/// Things that are not replicated lie in folders, too, and stay with them.
#[test]
fn a_folder_with_something_unknown_in_it_stays() {
    let mut stage = Stage::new(captures()[0]);
    // A name that no set can hold.
    let name = [b"@GMT-".as_slice(), &[b'x'; 250]].concat();
    fs::write(stage.rig.path("out").join(OsStr::from_bytes(&name)), "not replicated").unwrap();
    let removed = stage.request(Act::Remove, "out");
    stage.refused(removed, "not empty");
}

/// Who has it open goes on writing into it, whatever became of its name.
#[test]
fn what_is_written_into_a_removed_file_is_a_version() {
    for mode in captures() {
        let mut stage = Stage::new(mode);
        let mut writer = OpenOptions::new().append(true).open(stage.rig.path("in/doc")).unwrap();
        let removed = stage.request(Act::Remove, "in/doc");
        let answer = stage.do_it(removed).unwrap();
        assert!(answer.still_open, "it is told");
        assert_eq!(stage.rig.handle.status().still_open, ["in/doc"]);
        stage.rig.wait("it to go", |rig| rig.model.resolve("in/doc").is_none());
        writer.write_all(b", and more").unwrap();
        drop(writer);
        stage.wait_version(b"what it was, and more");
        stage.wait_over();
        assert!(stage.rig.model.resolve("in/doc").is_none());
        assert!(!stage.rig.path("in/doc").exists());
    }
}

/// A program saved a moment ago, and has not closed: that is a version, or it stays.
#[test]
fn what_was_saved_a_moment_ago_is_a_version_before_it_goes() {
    for mode in captures() {
        let mut stage = Stage::new(mode);
        let mut writer = File::create(stage.rig.path("in/doc")).unwrap();
        writer.write_all(b"just now").unwrap();
        stage.rig.wait("what was written", |rig| {
            rig.model.files[&rig.file("in/doc")].bytes.to_vec() == b"just now"
        });
        let removed = stage.request(Act::Remove, "in/doc");
        stage.do_it(removed).unwrap();
        stage.rig.catch_up();
        assert!(all_versions(&stage.rig).contains(&b"just now".to_vec()));
        drop(writer);
        stage.wait_over();
        assert!(!stage.rig.path("in/doc").exists());
    }
}

/// However close a save comes to it, it is a version, or stands there.
#[test]
fn a_save_at_any_moment_of_a_removal_is_kept() {
    let mut stage = Stage::new(captures()[0]);
    for number in 0..30_u64 {
        fs::write(stage.rig.path("doc"), format!("before {number}")).unwrap();
        let file = stage.rig.path("doc");
        stage.rig.settle();
        let file_id = stage.rig.file("doc");
        stage.rig.wait("a version", |rig| !rig.versions(file_id).is_empty());
        let mut request = stage.request(Act::Remove, "doc");
        if number % 2 == 0 {
            request.ground.as_mut().unwrap().still = None;
        }
        let saved = format!("save {number}");
        let by_rename = number % 3 == 0;
        let (handle, aside) = (stage.rig.handle.clone(), stage.rig.path(".x"));
        let content = saved.clone();
        std::thread::scope(|scope| {
            let asked = scope.spawn(move || handle.restore(request));
            std::thread::sleep(Duration::from_micros(number * 40));
            if by_rename {
                fs::write(&aside, &content).unwrap();
                fs::rename(&aside, &file).unwrap();
            } else {
                fs::write(&file, &content).unwrap();
            }
            match asked.join().unwrap() {
                Ok(_) | Err(SourceError::Refused(_)) => {}
                Err(error) => panic!("{error}"),
            }
        });
        stage.wait_version(saved.as_bytes());
        if by_rename {
            // That is another file: whoever asked never saw it.
            assert_eq!(fs::read(stage.rig.path("doc")).unwrap(), saved.as_bytes());
        }
    }
    stage.wait_over();
}

/// Nor is another file moved, or exchanged, that came in the moment of the move.
#[test]
fn a_save_at_any_moment_of_a_move_stays_where_it_is() {
    let mut stage = Stage::new(captures()[0]);
    for number in 0..100_u64 {
        let is_exchange = number % 2 == 0;
        let (from, to) = (format!("from {number}"), format!("out/to {number}"));
        fs::write(stage.rig.path(&from), "from").unwrap();
        if is_exchange {
            fs::write(stage.rig.path(&to), "to").unwrap();
        }
        stage.rig.settle();
        let file = stage.rig.file(&from);
        stage.rig.wait("a version", |rig| !rig.versions(file).is_empty());
        let request = stage.request(Act::Move(stage.elsewhere(&to)), &from);
        let (handle, aside) = (stage.rig.handle.clone(), stage.rig.path(".x"));
        let moved = std::thread::scope(|scope| {
            let asked = scope.spawn(move || handle.restore(request));
            std::thread::sleep(Duration::from_micros(number * 10));
            fs::write(&aside, "saved").unwrap();
            fs::rename(&aside, stage.rig.path(&from)).unwrap();
            asked.join().unwrap()
        });
        stage.rig.settle();
        assert_eq!(fs::read(stage.rig.path(&from)).unwrap(), b"saved");
        let there = fs::read(stage.rig.path(&to));
        match moved {
            Ok(_) => assert_eq!(there.unwrap(), b"from"),
            Err(SourceError::Refused(_)) if is_exchange => assert_eq!(there.unwrap(), b"to"),
            Err(SourceError::Refused(_)) => assert!(there.is_err()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The process may end between any two steps of it: what lies in the private folder then was removed, or is to be where it was.
#[test]
fn an_end_in_the_middle_of_a_removal_loses_nothing() {
    for mode in captures() {
        for is_open in [false, true] {
            let mut stage = Stage::new(mode);
            let mut writer =
                OpenOptions::new().append(true).open(stage.rig.path("in/doc")).unwrap();
            let removed = stage.request(Act::Remove, "in/doc");
            assert!(stage.do_it(removed.clone()).unwrap().still_open);
            let file = stage.rig.file("in/doc");
            stage.rig.handle.shutdown();
            stage.put_aside();
            writer.write_all(b", and more").unwrap();
            let writer = is_open.then_some(writer);
            // Somebody has made another one.
            fs::write(stage.rig.path("in/doc"), "anew").unwrap();
            stage.rig.handle = open(&stage.rig.config);
            assert!(stage.rig.handle.wait_scanned());
            stage.rig.wait("the new one", |rig| {
                rig.model.resolve("in/doc").is_some_and(|(now, _)| now != file)
            });
            drop(writer);
            stage.wait_version(b"what it was, and more");
            stage.wait_over();
            assert_eq!(fs::read(stage.rig.path("in/doc")).unwrap(), b"anew");
        }
    }
}

/// After its note was written and before anything was moved, nothing was removed.
#[test]
fn a_note_alone_removes_nothing() {
    let mut stage = Stage::new(captures()[0]);
    let writer = OpenOptions::new().append(true).open(stage.rig.path("in/doc")).unwrap();
    let removed = stage.request(Act::Remove, "in/doc");
    let file = stage.rig.file("in/doc");
    stage.do_it(removed.clone()).unwrap();
    stage.rig.handle.shutdown();
    // As it was before the move.
    let inside = stage.put_aside();
    fs::rename(&inside, stage.rig.path("in/doc")).unwrap();
    drop(writer);
    stage.rig.handle = open(&stage.rig.config);
    stage.wait_over();
    assert_eq!(fs::read(stage.rig.path("in/doc")).unwrap(), b"what it was");
    if stage.rig.model.resolve("in/doc").is_some_and(|(now, _)| now == file) {
        stage.twice(RestoreRequest { ground: Some(stage.ground("in/doc")), ..removed });
    }
}

/// Something else had the name in the moment of the move, and the process ended before it was put back.
#[test]
fn what_was_taken_by_mistake_is_back_after_a_restart() {
    for is_taken in [false, true] {
        let mut stage = Stage::new(captures()[0]);
        let writer = OpenOptions::new().append(true).open(stage.rig.path("in/doc")).unwrap();
        let removed = stage.request(Act::Remove, "in/doc");
        stage.do_it(removed).unwrap();
        stage.rig.handle.shutdown();
        let inside = stage.put_aside();
        fs::remove_file(&inside).unwrap();
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("precious"), "x").unwrap();
        drop(writer);
        if is_taken {
            fs::write(stage.rig.path("in/doc"), "theirs").unwrap();
        }
        stage.rig.handle = open(&stage.rig.config);
        stage.wait_over();
        if is_taken {
            assert_eq!(fs::read(stage.rig.path("in/doc")).unwrap(), b"theirs");
            let names = fs::read_dir(stage.rig.path("in")).unwrap();
            let beside = names.map(|entry| entry.unwrap().path());
            let beside = beside.into_iter().find(|path| path.join("precious").exists()).unwrap();
            assert!(beside.to_string_lossy().contains("doc~"));
        } else {
            assert_eq!(fs::read(stage.rig.path("in/doc/precious")).unwrap(), b"x");
        }
    }
}

/// Where names are no text, and where names of ours are users'.
#[test]
fn any_name_is_moved_made_and_removed() {
    for mode in modes() {
        let mut stage = Stage::new(mode);
        let strange =
            |raw: &[u8]| SetPath::from(vec![Name::new(b"in").unwrap(), Name::new(raw).unwrap()]);
        let raw: &[u8] = b"\xff\xfe \n'x";
        let (folder_id, parent) = (stage.ground("in/doc").folder, stage.rig.path("in"));
        let free = RestoreGround { folder: folder_id, present: None, still: None };
        let to = Elsewhere { path: strange(raw), ground: free.clone() };
        let file = stage.rig.file("in/doc");
        let moved = stage.request(Act::Move(to), "in/doc");
        let ground = moved.ground.clone();
        stage.twice(moved);
        assert_eq!(fs::read(parent.join(OsStr::from_bytes(raw))).unwrap(), b"what it was");
        let key = (folder_id, Name::new(raw).unwrap());
        assert_eq!(stage.rig.model.names[&key].0, file);
        // A user's own `@versions` is called otherwise in the set.
        let escaped = keepshare_base::escape_name(b"@versions").unwrap();
        let path = SetPath::from(vec![Name::new(b"in").unwrap(), escaped]);
        let made = RestoreRequest { path, ground: Some(free), ..stage.make("in/x", folder(0o755)) };
        stage.twice(made);
        assert!(parent.join("@versions").is_dir());
        let mut removed = stage.request(Act::Remove, "in/other");
        (removed.path, removed.ground) = (strange(raw), ground);
        stage.twice(removed);
        assert!(!parent.join(OsStr::from_bytes(raw)).exists());
    }
}

#[test]
fn what_is_mounted_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut stage = Stage::new(captures()[0]);
    fs::create_dir(stage.rig.path("in/mnt")).unwrap();
    stage.rig.settle();
    let requests = [
        stage.request(Act::Remove, "in/mnt"),
        stage.request(Act::Move(stage.elsewhere("out/mnt")), "in/mnt"),
        RestoreRequest { meta: folder(0o700), ..stage.request(Act::SetAttributes, "in/mnt") },
    ];
    let run = |command: &str, arguments: &[&str]| {
        let place = stage.rig.path("in/mnt");
        let status = std::process::Command::new(command).args(arguments).arg(place).status();
        assert!(status.unwrap().success());
    };
    run("mount", &["-t", "tmpfs", "none"]);
    for request in requests {
        let error = stage.do_it(request).unwrap_err();
        assert!(error.to_string().contains("mounted"), "{error}");
    }
    run("umount", &[]);
}

/// Without root only what may be done is done, and what may not be is told.
#[test]
fn an_ordinary_user_does_what_they_may() {
    as_ordinary_user(|| {
        let mut stage = Stage::new(CaptureMode::Inotify);
        let made = stage.make("in/sub", folder(0o750));
        stage.twice(made);
        let removed = stage.request(Act::Remove, "in/doc");
        stage.twice(removed);
        // A folder that is shut is filled first: it gets its mode last.
        let shut = stage.make("in/shut", folder(0o555));
        stage.twice(shut.clone());
        let inside = stage.make("in/shut/inside", folder(0o750));
        stage.twice(inside);
        let last = stage.request(Act::SetAttributes, "in/shut");
        stage.twice(RestoreRequest { meta: folder(0o555), ..last });
        assert_eq!(mode_of(&stage.rig.path("in/shut")), 0o555);
        assert_eq!(stage.do_it(shut).unwrap().outcome, RestoreOutcome::Equal);
        fs::set_permissions(stage.rig.path("in/shut"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(stage.rig.path("in"), fs::Permissions::from_mode(0o555)).unwrap();
        stage.rig.settle();
        let requests = [
            stage.request(Act::Remove, "in/other"),
            stage.request(Act::Remove, "in/sub"),
            stage.request(Act::Move(stage.elsewhere("out/x")), "in/other"),
            stage.make("in/new", folder(0o750)),
        ];
        for request in requests {
            stage.refused(request, "denied");
        }
        stage.wait_over();
        fs::set_permissions(stage.rig.path("in"), fs::Permissions::from_mode(0o755)).unwrap();
    });
}

/// What does not say what must be there is not done, and a point is not made here.
#[test]
fn an_act_needs_a_ground() {
    let mut stage = Stage::new(captures()[0]);
    let removed = stage.request(Act::Remove, "in/doc");
    stage.refused(RestoreRequest { ground: None, ..removed }, "does not say");
}

/// A master's half of a link: what a station asks for is done, and answered.
struct Link {
    runtime: tokio::runtime::Runtime,
    restores: MasterRestores,
    handle: source::SourceHandle,
}

impl Link {
    fn new(rig: &Rig) -> Self {
        let restores = MasterRestores::new(rig.config.state_dir.join("restores")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { runtime, restores, handle: rig.handle.clone() }
    }

    fn ask(&mut self, request: RestoreRequest) -> RestoreAnswer {
        let RestoreRequest { request: id, path, version, meta, ground, act, .. } = request;
        let (hash, user) = (ContentHash([0; 32]), None);
        let request = keepshare_proto::RestoreRequest {
            request: id,
            path,
            version,
            meta,
            hash,
            user,
            ground,
            act,
        };
        let (to, mut events) = tokio::sync::mpsc::unbounded_channel();
        let _entered = self.runtime.enter();
        self.restores.perform(MasterOutput::Begin(request), &self.handle, &to);
        self.restores.perform(MasterOutput::Finish { request: id }, &self.handle, &to);
        match events.blocking_recv() {
            Some(Input::Restore(MasterInput::Done { answer, .. })) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn ask_point(&mut self, name: &str, number: u16, lasts_micros: u64) -> RestoreAnswer {
        let act = Act::Point { name: Text::new(name), lasts_micros };
        let plain = journal::request("x", 0, Path::new("/"));
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        let path = SetPath::default();
        self.ask(RestoreRequest { request: RequestId(id), path, act, ..plain })
    }
}

/// What a disk that is full is in the way of is done when it is not, and none of it is left out of a roll-back. What is removed by then
/// makes room.
#[test]
fn what_needs_room_waits_for_it() {
    in_own_mounts(&format!("{}::what_needs_room_waits_for_it", module_path!()), || {
        let place = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,nr_inodes=96", "none"]).arg(place.path());
        assert!(mount.status().unwrap().success());
        let mut rig = Rig::with_place(captures()[0], place.path());
        fs::create_dir(rig.path("in")).unwrap();
        fs::write(rig.path("in/doc"), "what it was").unwrap();
        fs::write(rig.path("in/other"), "another").unwrap();
        rig.begin();
        let mut link = Link::new(&rig);
        let mut stage = Stage { rig, number: 0 };
        let content = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        fs::write(content.path(), "right").unwrap();
        let write = RestoreRequest {
            content: content.path().to_owned(),
            ..stage.request(Act::Write, "in/new")
        };
        let requests = [
            write,
            stage.make("in/sub", folder(0o750)),
            stage.make("in/link", link_to("doc")),
            stage.request(Act::Link(stage.elsewhere("in/again")), "in/doc"),
            // It goes by way of the private folder, which is not there yet.
            stage.request(Act::Remove, "in/other"),
        ];
        let asked_by_link = stage.make("in/sub", folder(0o750));
        let filler = |number: u8| place.path().join(format!("filler {number}"));
        let fillers = (0..96).take_while(|number| File::create(filler(*number)).is_ok()).count();
        let before = stage.shown();
        for request in &requests {
            let error = stage.do_it(request.clone()).unwrap_err();
            assert!(matches!(error, SourceError::NoRoom(_)), "{:?}: {error}", request.act);
        }
        assert!(before == stage.shown(), "something was changed");
        // Where content is put aside lies on the same disk here.
        fs::remove_file(filler(0)).unwrap();
        let answer = link.ask(asked_by_link);
        assert!(answer.is_for_room() || matches!(answer, RestoreAnswer::Written(_)), "{answer:?}");
        for number in 1..fillers {
            fs::remove_file(filler(u8::try_from(number).unwrap())).unwrap();
        }
        stage.rig.settle();
        for request in &requests {
            let done = stage.do_it(request.clone());
            assert!(done.is_ok(), "{:?}: {done:?}", request.act);
        }
        stage.rig.settle();
    });
}

/// Nobody can tell what became of what was under way when the folder of the source went: it is asked for again when that is back.
#[test]
fn what_is_under_way_when_the_folder_goes_is_not_refused() {
    let mut stage = Stage::with(captures()[0], |config| {
        config.restores.patience = Duration::from_secs(600);
    });
    fs::hard_link(stage.rig.path("in/doc"), stage.rig.path("in/again")).unwrap();
    stage.rig.settle();
    let content = stage.rig.config.state_dir.join("version");
    fs::write(&content, "right").unwrap();
    // It has two names, so that it is written where it is, and waits for whoever has it open.
    let open = OpenOptions::new().append(true).open(stage.rig.path("in/doc")).unwrap();
    let request = RestoreRequest { content, ..stage.request(Act::Write, "in/doc") };
    let (handle, asked) = (stage.rig.handle.clone(), request.clone());
    let asked = std::thread::spawn(move || handle.restore(asked));
    stage.rig.wait("it is written beside", |rig| {
        let mut names = fs::read_dir(rig.root()).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(PREFIX))
    });
    let away = stage.rig.dir.path().join("away");
    fs::rename(stage.rig.root(), &away).unwrap();
    let error = asked.join().unwrap().unwrap_err();
    assert!(matches!(error, SourceError::Vanished(_)), "{error}");
    let made = journal::request("in/sub", 77, Path::new("/"));
    let made = RestoreRequest {
        act: Act::Make,
        ground: request.ground.clone(),
        meta: folder(0o750),
        ..made
    };
    let answer = Link::new(&stage.rig).ask(made);
    assert!(matches!(answer, RestoreAnswer::NotNow(_)), "{answer:?}");
    assert!(!answer.is_for_room());
    fs::rename(&away, stage.rig.root()).unwrap();
    drop(open);
    stage.rig.wait("the folder is back", |rig| rig.handle.status().alarms.is_empty());
    stage.rig.settle();
    assert_eq!(stage.do_it(request).unwrap().outcome, RestoreOutcome::Written);
    stage.rig.settle();
}

/// A set has so many points at the most: a station that is in wrong hands does not use them up.
#[test]
fn a_link_makes_no_more_points_than_so_many() {
    let stage = Stage::new(captures()[0]);
    let mut link = Link::new(&stage.rig);
    let day = 86_400 * 1_000_000;
    let mut made = 0;
    let why = loop {
        match link.ask_point(&format!("rollback-{made}"), made, day) {
            RestoreAnswer::Written(_) => made += 1,
            RestoreAnswer::Failed(why) => break why,
            other => panic!("{other:?}"),
        }
        assert!(made < 300, "there is no end of it");
    };
    assert_eq!(made, 256);
    assert!(why.as_str().contains("256 points"), "{why}");
    // What was made is answered as before.
    assert!(matches!(link.ask_point("rollback-0", 0, day), RestoreAnswer::Written(_)));
}

/// A point is asked for like an act, and held for as long as it stays.
#[test]
fn a_point_is_made_on_request() {
    let mut stage = Stage::new(captures()[0]);
    let mut link = Link::new(&stage.rig);
    fs::write(stage.rig.path("in/doc"), "saved right before").unwrap();
    let mut ask = |name: &str, number| link.ask_point(name, number, 7_000_000);
    let RestoreAnswer::Written(at) = ask("rollback-1-before", 1) else {
        panic!("no point was made")
    };
    let again = ask("rollback-1-before", 1);
    assert_eq!(again, RestoreAnswer::Written(at), "a repeat makes no other");
    assert!(matches!(ask("", 2), RestoreAnswer::Failed(_)), "it has no name");
    assert!(
        matches!(ask(&format!("rollback-{}", "x".repeat(300)), 3), RestoreAnswer::Failed(_)),
        "no station takes it"
    );
    assert!(matches!(ask("nightly", 4), RestoreAnswer::Failed(_)), "a link makes no others");
    stage.rig.settle();
    let rows =
        stage.rig.changes.iter().filter_map(|(seq, change)| Some((*seq, change.point.clone()?)));
    let point = Point { name: "rollback-1-before".to_owned(), kind: PointKind::Crash };
    let wanted = [
        (at.seq, PointRow::Made { point, lasts_micros: Some(7_000_000) }),
        (at.seq.next(), PointRow::Held { point: at, lasts_micros: Some(7_000_000) }),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
    let file = stage.rig.file("in/doc");
    assert_eq!(stage.rig.versions(file).pop().unwrap(), b"saved right before");
}
