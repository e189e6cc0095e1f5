//! Restores that are written where they are to be: whole, or it is told.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use keepshare_base::{Epoch, Seq};
use keepshare_replication::{
    lease::Lease,
    source::{CaptureMode::Inotify, RestoreAnswer, SourceError},
};

use super::{
    edits::captures,
    journal::request,
    support::{Rig, as_ordinary_user, listing, open},
};

/// A source whose own folder takes no new names, with `in/doc` in it, and the content of another version of that.
struct Closed {
    rig: Rig,
    content: PathBuf,
}

impl Closed {
    fn new() -> Self {
        let mut rig = Rig::with(
            Inotify,
            |root| fs::create_dir(root.join("in")).unwrap(),
            |config| config.restores.patience = Duration::from_secs(60),
        );
        fs::write(rig.path("in/doc"), "what it was").unwrap();
        rig.begin();
        fs::set_permissions(rig.root(), Permissions::from_mode(0o555)).unwrap();
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "right").unwrap();
        Self { rig, content }
    }

    /// Has a restore begin to write into the live file, and wait before its first byte.
    fn begin(&self) -> (Lease<File>, JoinHandle<Result<RestoreAnswer, SourceError>>) {
        let version = OpenOptions::new().write(true).open(&self.content).unwrap();
        let held = Lease::write(version).unwrap();
        let (handle, request) = (self.rig.handle.clone(), request("in/doc", 1, &self.content));
        let asked = thread::spawn(move || handle.restore(request));
        until("somebody to read the version", || !held.is_held());
        (held, asked)
    }

    fn doc(&self) -> Vec<u8> {
        fs::read(self.rig.path("in/doc")).unwrap()
    }

    fn torn(&self) -> Vec<String> {
        self.rig.handle.status().torn
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = fs::set_permissions(self.rig.root(), Permissions::from_mode(0o755));
    }
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns what is in a file that nobody has written to for two looks.
fn at_rest(path: &Path) -> Vec<u8> {
    let mut before = fs::read(path).unwrap();
    loop {
        let now = fs::read(path).unwrap();
        if now == before {
            return now;
        }
        before = now;
    }
}

/// A process that ends in the middle leaves half of two versions, which looks like a save: so it is told, until it is over.
#[test]
fn a_restore_that_was_cut_off_is_told_after_a_restart() {
    as_ordinary_user(|| {
        let mut closed = Closed::new();
        let (held, asked) = closed.begin();
        let journal = closed.rig.config.state_dir.join("test.redb");
        let noted = at_rest(&journal);
        drop(held);
        asked.join().unwrap().unwrap();
        assert_eq!((closed.doc(), closed.torn()), (b"right".to_vec(), vec![]));
        // As if the process had been killed before the last byte.
        closed.rig.handle.shutdown();
        fs::write(&journal, noted).unwrap();
        fs::write(closed.rig.path("in/doc"), "rightit was").unwrap();
        closed.rig.handle = open(&closed.rig.config);
        assert!(closed.rig.handle.wait_scanned());
        assert_eq!(closed.torn(), ["in/doc"]);
        closed.rig.handle.restore(request("in/doc", 2, &closed.content)).unwrap();
        assert_eq!((closed.doc(), closed.torn()), (b"right".to_vec(), vec![]));
        closed.rig.reopen();
        assert!(closed.rig.handle.wait_scanned());
        assert_eq!(closed.torn(), Vec::<String>::new());
    });
}

/// What was noted and not begun is nobody's trouble.
#[test]
fn a_restore_that_was_not_begun_is_not_told() {
    as_ordinary_user(|| {
        let mut closed = Closed::new();
        let (held, asked) = closed.begin();
        let handle = closed.rig.handle.clone();
        let stop = thread::spawn(move || handle.shutdown());
        drop(held);
        stop.join().unwrap();
        let after = closed.doc();
        assert!(after == b"what it was" || after == b"right", "whole, whoever was first");
        // Nobody answers, or it was done in time.
        let _ = asked.join().unwrap();
        closed.rig.handle = open(&closed.rig.config);
        assert!(closed.rig.handle.wait_scanned());
        assert_eq!((closed.doc(), closed.torn()), (after, vec![]));
    });
}

/// What is known by its name only is no version yet, and written over it would be lost.
#[test]
fn what_nobody_has_read_is_a_version_before_it_is_written_over() {
    let mut rig = Rig::new(captures()[0]);
    fs::write(rig.path("doc"), "what it was").unwrap();
    fs::hard_link(rig.path("doc"), rig.path("again")).unwrap();
    rig.begin();
    let content = rig.config.state_dir.join("version");
    fs::write(&content, "right").unwrap();
    // As after the loss of the journal.
    let seed = listing(&rig.model);
    rig.handle.new_epoch(Epoch::FIRST, Some(seed)).unwrap();
    assert!(rig.handle.wait_scanned());
    (rig.at, rig.model.versions) = (Seq(0), Vec::new());
    rig.handle.restore(request("doc", 1, &content)).unwrap();
    assert_eq!(fs::read(rig.path("again")).unwrap(), b"right");
    let doc = rig.file("doc");
    rig.wait("both versions", |rig| {
        rig.versions(doc) == [b"what it was".to_vec(), b"right".to_vec()]
    });
}

/// A disk that is full for a moment is no reason to write where others look.
#[test]
fn without_room_for_a_private_folder_a_restore_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mount = |command: &str, arguments: &[&str]| {
        let status = std::process::Command::new(command).args(arguments).arg(place.path()).status();
        assert!(status.unwrap().success());
    };
    mount("mount", &["-t", "tmpfs", "-o", "size=64m,nr_inodes=64", "none"]);
    {
        let mut rig = Rig::with_place(captures()[0], place.path());
        fs::write(rig.path("doc"), "what it was").unwrap();
        rig.begin();
        let content = tempfile::NamedTempFile::new().unwrap();
        fs::write(content.path(), "right").unwrap();
        let filler = |number: u8| place.path().join(format!("filler {number}"));
        let fillers = (0..64).take_while(|number| File::create(filler(*number)).is_ok()).count();
        let refused = rig.handle.restore(request("doc", 1, content.path())).unwrap_err();
        assert!(matches!(refused, SourceError::NoRoom(_)), "{refused}");
        assert_eq!(fs::read(rig.path("doc")).unwrap(), b"what it was");
        for number in 0..fillers {
            fs::remove_file(filler(u8::try_from(number).unwrap())).unwrap();
        }
        rig.handle.restore(request("doc", 2, content.path())).unwrap();
        assert_eq!(fs::read(rig.path("doc")).unwrap(), b"right");
    }
    // A thread that looks for open files may look at it for a moment longer.
    mount("umount", &["--lazy"]);
}
