//! A restore loses nothing: not what is saved while it runs, nor what is written into the file that it replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redb::ReadableTable as _;

use keepshare_base::{Epoch, FileId, PresentFile, RestoreGround, RestoreOutcome, Seq};
use keepshare_replication::{
    lease::Lease,
    source::{
        CaptureMode::{self, Inotify},
        RestoreAnswer, RestoreRequest, SourceConfig, SourceError,
    },
};

use super::{
    edits::captures,
    journal::request,
    support::{Rig, as_ordinary_user, open},
};

const PREFIX: &str = ".keepshare-restore~";

/// A rig with `doc` in it, and the content of another version of it.
struct Scene {
    rig: Rig,
    content: PathBuf,
}

type Asked = JoinHandle<Result<RestoreAnswer, SourceError>>;

impl Scene {
    fn new(mode: CaptureMode) -> Self {
        Self::with(mode, |_| {})
    }

    fn with(mode: CaptureMode, configure: impl FnOnce(&mut SourceConfig)) -> Self {
        let mut rig = Rig::with(mode, |_| {}, configure);
        fs::write(rig.path("doc"), "what it was").unwrap();
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        Self { rig, content }
    }

    /// Keeps whoever reads the version waiting.
    fn hold_content(&self) -> Lease<File> {
        let file = OpenOptions::new().write(true).open(&self.content).unwrap();
        Lease::write(file).unwrap()
    }

    fn ask(&self, request: RestoreRequest) -> Asked {
        let handle = self.rig.handle.clone();
        thread::spawn(move || handle.restore(request))
    }

    fn request(&self, number: u8) -> RestoreRequest {
        request("doc", number, &self.content)
    }

    /// Waits until a restore writes, and returns the private folder.
    fn wait_writing(&self) -> PathBuf {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(private) = self.private()
                && fs::read_dir(&private).is_ok_and(|mut entries| entries.next().is_some())
            {
                return private;
            }
            assert!(Instant::now() < deadline, "nothing is written");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn private(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(self.rig.root()).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(|path| {
            path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with(PREFIX)
        })
    }

    /// Waits until some version that `doc` held has these bytes.
    fn wait_version(&mut self, bytes: &[u8]) {
        let what = format!("a version {:?}", String::from_utf8_lossy(bytes));
        self.rig.wait(&what, |rig| held_by(rig, "doc").iter().any(|version| version == bytes));
    }

    /// Waits until nothing is left of restores.
    fn wait_over(&mut self) {
        self.rig.settle();
        assert_eq!(self.private(), None, "the private folder is gone");
        assert_eq!(self.rig.handle.status().still_open, Vec::<String>::new());
    }
}

/// Returns the versions of all files that a name of the root held.
fn held_by(rig: &Rig, name: &str) -> Vec<Vec<u8>> {
    let names = rig.changes.iter().flat_map(|(_, change)| &change.names);
    let here = |row: &&keepshare_base::NameRow| {
        row.parent == FileId::ROOT && row.name.as_bytes() == name.as_bytes()
    };
    let held = names.filter(here).filter_map(|row| row.target).map(|(file, _)| file);
    let mut files: Vec<FileId> =
        held.chain(rig.model.resolve(name).map(|(file, _)| file)).collect();
    files.sort_unstable();
    files.dedup();
    files.into_iter().flat_map(|file| rig.versions(file)).collect()
}

/// Whoever saves while an old version is being written must find that save among the versions.
#[test]
fn a_save_while_a_restore_is_written_is_a_version() {
    for mode in captures() {
        for by_rename in [true, false] {
            let mut scene = Scene::new(mode);
            let held = scene.hold_content();
            let asked = scene.ask(scene.request(1));
            scene.wait_writing();
            if by_rename {
                fs::write(scene.rig.path(".x"), "precious").unwrap();
                fs::rename(scene.rig.path(".x"), scene.rig.path("doc")).unwrap();
            } else {
                fs::write(scene.rig.path("doc"), "precious").unwrap();
            }
            drop(held);
            asked.join().unwrap().unwrap();
            scene.wait_version(b"precious");
            scene.wait_over();
            assert_eq!(fs::read(scene.rig.path("doc")).unwrap(), b"right");
        }
    }
}

/// A look and an exchange are two moments, and what is saved between them, ten thousand times over, is a version too.
#[test]
fn a_save_at_any_moment_of_a_restore_is_a_version() {
    let mut scene = Scene::new(captures()[0]);
    let root = scene.rig.root().to_owned();
    for number in 0..40u8 {
        let asked = scene.ask(scene.request(number));
        let saved = format!("save {number}");
        thread::sleep(Duration::from_micros(u64::from(number) * 150));
        fs::write(root.join(".x"), &saved).unwrap();
        fs::rename(root.join(".x"), root.join("doc")).unwrap();
        match asked.join().unwrap() {
            // Or it came right after the exchange, and is what stands there.
            Ok(_) | Err(SourceError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
        scene.wait_version(saved.as_bytes());
    }
    scene.wait_over();
}

/// A program that has the old file open goes on writing into it, whatever the name stands for by then.
#[test]
fn what_is_written_into_a_replaced_file_is_a_version() {
    for mode in captures() {
        let mut scene = Scene::new(mode);
        let file = scene.rig.file("doc");
        let mut writer = OpenOptions::new().append(true).open(scene.rig.path("doc")).unwrap();
        let answer = scene.rig.handle.restore(scene.request(1)).unwrap();
        assert!(answer.still_open, "it is told");
        assert_eq!(scene.rig.handle.status().still_open, ["doc"]);
        // Others are not kept waiting by it.
        fs::write(scene.rig.path("other"), "wrong").unwrap();
        let other = request("other", 2, &scene.content);
        assert!(!scene.rig.handle.restore(other).unwrap().still_open);
        writer.write_all(b", and more").unwrap();
        scene.rig.catch_up();
        assert!(scene.rig.model.names.keys().all(|(_, name)| !name.to_string().contains(PREFIX)));
        drop(writer);
        scene.wait_version(b"what it was, and more");
        scene.wait_over();
        assert_eq!(scene.rig.file("doc"), file, "it is still the same file");
        assert_eq!(fs::read(scene.rig.path("doc")).unwrap(), b"right");
    }
}

/// What is not closed for days is a version from time to time all the same.
#[test]
fn what_stays_open_becomes_versions_meanwhile() {
    let often = Duration::from_millis(1);
    let mut scene = Scene::with(captures()[0], |config| config.restores.look_every = often);
    let mut writer = OpenOptions::new().append(true).open(scene.rig.path("doc")).unwrap();
    scene.rig.handle.restore(scene.request(1)).unwrap();
    writer.write_all(b", and more").unwrap();
    scene.wait_version(b"what it was, and more");
    writer.write_all(b", and the end").unwrap();
    drop(writer);
    scene.wait_version(b"what it was, and more, and the end");
    scene.wait_over();
}

/// Stores through a map change neither times nor raise events while the map lives.
#[test]
#[expect(unsafe_code, reason = "a shared map is what this is about")]
fn what_is_stored_through_a_map_of_a_replaced_file_is_a_version() {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    for mode in captures() {
        let mut scene = Scene::new(mode);
        let file = OpenOptions::new().read(true).write(true).open(scene.rig.path("doc")).unwrap();
        let (all, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a map of its own, of a file that stays as long as it is; unmapped below.
        let map = unsafe { mmap(std::ptr::null_mut(), 11, all, shared, &file, 0) }.unwrap();
        // SAFETY: within the map.
        unsafe { map.cast::<u8>().write(b'W') };
        drop(file);
        scene.rig.handle.rescan();
        scene.rig.wait("the first store", |rig| {
            rig.model.files[&rig.file("doc")].bytes.to_vec() == b"What it was"
        });
        let answer = scene.rig.handle.restore(scene.request(1)).unwrap();
        assert!(answer.still_open);
        // SAFETY: within the map.
        unsafe { map.cast::<u8>().add(1).write(b'H') };
        // SAFETY: what was mapped above, and nothing else has it.
        unsafe { munmap(map, 11) }.unwrap();
        scene.wait_version(b"WHat it was");
        scene.wait_over();
    }
}

/// A file with several names is written where it is, and never while a program has it open.
#[test]
fn a_file_with_several_names_is_not_written_while_it_is_open() {
    for mode in captures() {
        let patience = Duration::from_millis(300);
        let mut scene = Scene::with(mode, |config| config.restores.patience = patience);
        fs::hard_link(scene.rig.path("doc"), scene.rig.path("again")).unwrap();
        scene.rig.settle();
        let inode = fs::metadata(scene.rig.path("doc")).unwrap().ino();
        let reader = File::open(scene.rig.path("again")).unwrap();
        let refused = scene.rig.handle.restore(scene.request(1)).unwrap_err();
        assert!(refused.to_string().contains("open in a program"), "{refused}");
        assert_eq!(fs::read(scene.rig.path("doc")).unwrap(), b"what it was");
        drop(reader);
        scene.rig.handle.restore(scene.request(2)).unwrap();
        scene.wait_over();
        assert_eq!(fs::metadata(scene.rig.path("doc")).unwrap().ino(), inode);
        assert_eq!(fs::read(scene.rig.path("again")).unwrap(), b"right");
        assert!(held_by(&scene.rig, "doc").contains(&b"what it was".to_vec()));
    }
}

/// A source whose own folder takes no new names has no place for a private folder: files are written where they are.
#[test]
fn a_source_that_takes_no_new_names_is_restored_where_it_is() {
    as_ordinary_user(|| {
        let patience = Duration::from_millis(300);
        let mut rig = Rig::with(
            Inotify,
            |root| fs::create_dir(root.join("in")).unwrap(),
            |config| config.restores.patience = patience,
        );
        fs::write(rig.path("in/doc"), "what it was").unwrap();
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        fs::set_permissions(rig.root(), fs::Permissions::from_mode(0o555)).unwrap();
        let writer = OpenOptions::new().append(true).open(rig.path("in/doc")).unwrap();
        let refused = rig.handle.restore(request("in/doc", 1, &content)).unwrap_err();
        assert!(refused.to_string().contains("open in a program"), "{refused}");
        drop(writer);
        rig.handle.restore(request("in/doc", 2, &content)).unwrap();
        rig.handle.restore(request("in/gone", 3, &content)).unwrap();
        fs::set_permissions(rig.root(), fs::Permissions::from_mode(0o755)).unwrap();
        rig.settle();
        for name in ["in/doc", "in/gone"] {
            assert_eq!(fs::read(rig.path(name)).unwrap(), b"right");
        }
        assert!(rig.versions(rig.file("in/doc")).contains(&b"what it was".to_vec()));
    });
}

/// What was written beside a file cannot be exchanged with it everywhere: then it is written into the file, when nobody has that
/// open, and nothing stays beside.
#[test]
fn what_cannot_be_exchanged_is_written_into_the_file() {
    as_ordinary_user(|| {
        let patience = Duration::from_millis(300);
        let mut rig = Rig::with(
            Inotify,
            |root| fs::create_dir(root.join("in")).unwrap(),
            |config| config.restores.patience = patience,
        );
        fs::write(rig.path("in/doc"), "what it was").unwrap();
        rig.begin();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        let set_mode = |mode| {
            fs::set_permissions(rig.config.root.join("in"), fs::Permissions::from_mode(mode))
        };
        // The private folder can be made, but no name of this one can be moved.
        set_mode(0o555).unwrap();
        let writer = OpenOptions::new().append(true).open(rig.path("in/doc")).unwrap();
        let inode = writer.metadata().unwrap().ino();
        let refused = rig.handle.restore(request("in/doc", 1, &content)).unwrap_err();
        assert!(refused.to_string().contains("open in a program"), "{refused}");
        assert_eq!(fs::read(rig.path("in/doc")).unwrap(), b"what it was");
        drop(writer);
        rig.handle.restore(request("in/doc", 2, &content)).unwrap();
        assert_eq!(fs::read(rig.path("in/doc")).unwrap(), b"right");
        assert_eq!(fs::metadata(rig.path("in/doc")).unwrap().ino(), inode);
        let refused = rig.handle.restore(request("in/gone", 3, &content)).unwrap_err();
        assert!(matches!(refused, SourceError::Refused(_)), "{refused}");
        assert!(!rig.path("in/gone").exists());
        set_mode(0o755).unwrap();
        let mut scene = Scene { rig, content };
        let deadline = Instant::now() + Duration::from_secs(20);
        while scene.private().is_some() {
            assert!(Instant::now() < deadline, "something is left beside");
            thread::sleep(Duration::from_millis(1));
        }
        scene.wait_over();
        let rig = &scene.rig;
        assert!(rig.versions(rig.file("in/doc")).contains(&b"what it was".to_vec()));
    });
}

/// Where nothing was, something may be by the time that the version is written.
#[test]
fn a_file_that_appears_meanwhile_is_not_replaced_unseen() {
    for mode in captures() {
        for with_ground in [true, false] {
            let mut scene = Scene::new(mode);
            fs::remove_file(scene.rig.path("doc")).unwrap();
            scene.rig.settle();
            let held = scene.hold_content();
            let ground =
                RestoreGround { folder: FileId::ROOT, present: None::<PresentFile>, still: None };
            let request =
                RestoreRequest { ground: with_ground.then_some(ground), ..scene.request(1) };
            let asked = scene.ask(request);
            scene.wait_writing();
            fs::write(scene.rig.path("doc"), "precious").unwrap();
            drop(held);
            let asked = asked.join().unwrap();
            assert_eq!(asked.is_err(), with_ground, "{asked:?}");
            scene.wait_version(b"precious");
            scene.wait_over();
            let now: &[u8] = if with_ground { b"precious" } else { b"right" };
            assert_eq!(fs::read(scene.rig.path("doc")).unwrap(), now);
        }
    }
}

/// What only a few could reach stays theirs, also where its folder is gone by the time that it is a version.
#[test]
fn a_late_version_whose_folder_is_gone_is_its_owners_alone() {
    let mut scene = Scene::new(captures()[0]);
    fs::create_dir(scene.rig.path("secret")).unwrap();
    fs::write(scene.rig.path("secret/a"), "hidden").unwrap();
    fs::set_permissions(scene.rig.path("secret/a"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(scene.rig.path("secret"), fs::Permissions::from_mode(0o700)).unwrap();
    scene.rig.settle();
    let mut writer = OpenOptions::new().append(true).open(scene.rig.path("secret/a")).unwrap();
    let request = request("secret/a", 1, &scene.content);
    assert!(scene.rig.handle.restore(request).unwrap().still_open);
    fs::remove_dir_all(scene.rig.path("secret")).unwrap();
    scene.rig.wait("the folder to go", |rig| rig.model.resolve("secret").is_none());
    writer.write_all(b", and more").unwrap();
    drop(writer);
    let late = |rig: &Rig| {
        let mut versions = rig.model.versions.iter();
        versions.find(|version| version.bytes.to_vec() == b"hidden, and more").map(|v| v.file)
    };
    scene.rig.wait("the version", |rig| late(rig).is_some());
    let file = late(&scene.rig).unwrap();
    assert_eq!(scene.rig.model.files[&file].meta.mode, 0o600);
    scene.wait_over();
}

/// A new epoch empties the journal: a late save that is nowhere else is journaled anew.
#[test]
fn a_late_save_is_journaled_in_the_epoch_that_begins_before_it_left() {
    let mut scene = Scene::with(captures()[0], |config| config.limits.spool_bytes_max = 0);
    let mut writer = OpenOptions::new().append(true).open(scene.rig.path("doc")).unwrap();
    let answer = scene.rig.handle.restore(scene.request(1)).unwrap();
    writer.write_all(b", and more").unwrap();
    drop(writer);
    let late = answer.position.seq.next().next();
    let deadline = Instant::now() + Duration::from_secs(30);
    while scene.rig.handle.head().seq < late {
        assert!(Instant::now() < deadline, "it is not journaled");
        thread::sleep(Duration::from_millis(1));
    }
    scene.rig.handle.new_epoch(Epoch::FIRST, None).unwrap();
    (scene.rig.at, scene.rig.model.versions) = (Seq(0), Vec::new());
    scene.wait_version(b"what it was, and more");
}

/// The process may end while what was replaced waits in the private folder: whoever starts next looks at it again.
#[test]
fn what_was_replaced_is_looked_at_again_after_a_restart() {
    for mode in captures() {
        let mut scene = Scene::new(mode);
        let file = scene.rig.file("doc");
        let mut writer = OpenOptions::new().append(true).open(scene.rig.path("doc")).unwrap();
        assert!(scene.rig.handle.restore(scene.request(1)).unwrap().still_open);
        scene.rig.handle.shutdown();
        let private = scene.private().expect("it is still there");
        writer.write_all(b", and more").unwrap();
        // Found by what it is, not by its name.
        fs::rename(&private, scene.rig.path("somewhere")).unwrap();
        scene.rig.handle = open(&scene.rig.config);
        scene.rig.wait("the first scan", |rig| rig.handle.status().still_open == ["doc"]);
        assert!(scene.rig.model.resolve("somewhere").is_none());
        drop(writer);
        scene.wait_version(b"what it was, and more");
        scene.rig.settle();
        assert_eq!(scene.rig.file("doc"), file);
        assert!(!scene.rig.path("somewhere").exists());
    }
}

/// With its journal gone nobody knows what a file in the private folder was called; it becomes a version all the same.
#[test]
fn what_was_replaced_is_kept_where_the_journal_is_lost() {
    let mut scene = Scene::new(captures()[0]);
    let writer = OpenOptions::new().append(true).open(scene.rig.path("doc")).unwrap();
    scene.rig.handle.restore(scene.request(1)).unwrap();
    scene.rig.handle.shutdown();
    fs::remove_file(scene.rig.config.state_dir.join("test.redb")).unwrap();
    drop(writer);
    scene.rig.model = super::support::Model { keep_versions: true, ..Default::default() };
    scene.rig.changes.clear();
    scene.rig.at = keepshare_base::Seq(0);
    scene.rig.handle = open(&scene.rig.config);
    // Before a station is known nobody gets what is journaled: the first is mirrored.
    let deadline = Instant::now() + Duration::from_secs(30);
    while scene.rig.handle.head().seq < Seq(3) {
        assert!(Instant::now() < deadline, "it is not journaled");
        thread::sleep(Duration::from_millis(1));
    }
    scene.rig.mirror();
    scene.rig.wait("the version", |rig| {
        rig.model.versions.iter().any(|version| version.bytes.to_vec() == b"what it was")
    });
    scene.wait_over();
}

/// A full disk costs the restore, and nothing else.
#[test]
fn a_restore_onto_a_full_disk_is_refused_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = |command: &str, arguments: &[&str]| {
        let status = std::process::Command::new(command).args(arguments).arg(place.path()).status();
        assert!(status.unwrap().success());
    };
    mount("mount", &["-t", "tmpfs", "-o", "size=24m", "none"]);
    {
        let mut rig = Rig::with_place(captures()[0], place.path());
        fs::write(rig.path("doc"), "what it was").unwrap();
        rig.begin();
        let content = tempfile::NamedTempFile::new().unwrap();
        fs::write(content.path(), vec![7; 32 << 20]).unwrap();
        let refused = rig.handle.restore(request("doc", 1, content.path())).unwrap_err();
        assert!(matches!(refused, SourceError::NoRoom(_)), "{refused}");
        assert_eq!(fs::read(rig.path("doc")).unwrap(), b"what it was");
        fs::write(rig.path("later"), "goes on").unwrap();
        rig.settle();
    }
    // A thread that looks for open files may look at it for a moment longer.
    mount("umount", &["--lazy"]);
}

/// However long a version takes to be written, what others save meanwhile is captured meanwhile.
#[test]
fn a_restore_keeps_no_save_waiting() {
    let mut scene = Scene::new(captures()[0]);
    fs::write(&scene.content, vec![3; 64 << 20]).unwrap();
    let held = scene.hold_content();
    let asked = scene.ask(scene.request(1));
    scene.wait_writing();
    for number in 0..100 {
        fs::write(scene.rig.path(&format!("edit {number}")), "saved").unwrap();
    }
    scene.rig.wait("the edits", |rig| rig.model.resolve("edit 99").is_some());
    assert!(!asked.is_finished());
    drop(held);
    let answer = asked.join().unwrap().unwrap();
    scene.wait_over();
    let after = scene.rig.changes.iter().skip_while(|(seq, _)| *seq != answer.position.seq).skip(1);
    let late = after.flat_map(|(_, change)| &change.names);
    let late: Vec<_> = late.map(|row| row.name.to_string()).collect();
    assert!(late.iter().all(|name| !name.starts_with("edit")), "{late:?}");
}

/// A restore's file is nobody else's before it is what the version was.
#[test]
fn what_a_restore_writes_is_closed_to_others() {
    let scene = Scene::new(captures()[0]);
    // Names that look like ours are users' own: nothing is written through them.
    let outside = scene.rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let digits = "0123456789abcdef0123456789abcdef";
    symlink(&outside, scene.rig.path(&format!("{PREFIX}{digits}"))).unwrap();
    let held = scene.hold_content();
    let asked = scene.ask(scene.request(1));
    let private = scene.wait_writing();
    assert_eq!(fs::metadata(&private).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(&private).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
    drop(held);
    asked.join().unwrap().unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let doc = OpenOptions::new().read(true).custom_flags(0).open(scene.rig.path("doc")).unwrap();
    assert_eq!(doc.metadata().unwrap().mode() & 0o777, 0o640);
}

/// A note is forgotten when what it speaks of is gone, and not before: what stays would never be found again.
#[test]
fn the_note_of_a_file_that_cannot_be_removed_is_kept() {
    const FORMER: redb::TableDefinition<'_, &[u8], ()> = redb::TableDefinition::new("aside");
    let mut rig = Rig::new(captures()[0]);
    // As a build before this one noted it.
    let name = format!("{PREFIX}00");
    let key = [FileId::ROOT.to_bytes().as_slice(), name.as_bytes()].concat();
    rig.handle.shutdown();
    let database = super::support::database(&rig.config).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(FORMER).unwrap().insert(key.as_slice(), ()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    // A folder is not unlinked.
    fs::create_dir(rig.path(&name)).unwrap();
    let mut restarted = |is_known: bool| {
        rig.handle = open(&rig.config);
        assert!(rig.handle.wait_scanned());
        rig.handle.shutdown();
        let database = super::support::database(&rig.config).unwrap();
        let transaction = database.begin_write().unwrap();
        let known = transaction.open_table(FORMER).unwrap().get(key.as_slice()).unwrap().is_some();
        assert_eq!(known, is_known);
        transaction.abort().unwrap();
        let _ = fs::remove_dir(rig.path(&name));
    };
    restarted(true);
    restarted(false);
    rig.handle = open(&rig.config);
}

/// What is equal already is not written again.
#[test]
fn a_restore_of_what_is_there_writes_nothing() {
    let mut scene = Scene::new(captures()[0]);
    scene.rig.handle.restore(scene.request(1)).unwrap();
    scene.wait_over();
    let inode = fs::metadata(scene.rig.path("doc")).unwrap().ino();
    let answer = scene.rig.handle.restore(scene.request(2)).unwrap();
    assert_eq!((answer.outcome, answer.still_open), (RestoreOutcome::Equal, false));
    scene.wait_over();
    assert_eq!(fs::metadata(scene.rig.path("doc")).unwrap().ino(), inode);
}

/// Whoever may write to a source's folder can call a folder there as ours are called: nothing of it is moved, removed or
/// made known.
#[test]
fn a_folder_that_is_only_called_as_ours_stays_what_it_is() {
    let name = format!("{PREFIX}0123456789abcdef0123456789abcdef");
    let make = |root: &std::path::Path| {
        let payroll = root.join(&name);
        fs::create_dir_all(payroll.join("2025")).unwrap();
        fs::write(payroll.join("salaries"), "secret").unwrap();
        fs::set_permissions(&payroll, fs::Permissions::from_mode(0o700)).unwrap();
    };
    let mut rig = Rig::with(captures()[0], make, |_| {});
    rig.begin();
    fs::write(rig.path("doc"), "x").unwrap();
    rig.settle();
    let payroll = rig.path(&name);
    assert_eq!(fs::read(payroll.join("salaries")).unwrap(), b"secret");
    assert!(payroll.join("2025").is_dir());
    let at_the_top: Vec<_> = fs::read_dir(rig.root()).unwrap().collect();
    assert_eq!(at_the_top.len(), 2, "{at_the_top:?}");
}

/// Whoever may write to a source's folder can take the private folder away: that costs the restore under way alone.
#[test]
fn a_private_folder_that_is_taken_away_is_made_anew() {
    let mut scene = Scene::new(captures()[0]);
    let held = scene.hold_content();
    let asked = scene.ask(scene.request(1));
    fs::remove_dir_all(scene.wait_writing()).unwrap();
    drop(held);
    let first = asked.join().unwrap();
    assert!(
        !matches!(&first, Ok(answer) if answer.outcome == RestoreOutcome::Written),
        "{first:?}"
    );
    let second = scene.rig.handle.restore(scene.request(2)).unwrap();
    assert_eq!(second.outcome, RestoreOutcome::Written);
    assert_eq!(fs::read(scene.rig.path("doc")).unwrap(), b"right");
    scene.wait_over();
}
