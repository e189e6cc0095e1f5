//! Files and folders that cannot be read: named, left as they were at the stations, and tried again.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use keepshare_base::DEPTH_MAX;
use keepshare_replication::source::{CaptureMode::Inotify, SourceError};

use super::{
    edits::captures,
    support::{Rig, as_ordinary_user},
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a file that nobody could ever read.
fn write_closed(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o000).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn wait_problems(rig: &mut Rig, count: u64) {
    rig.wait("the problems", move |rig| rig.handle.status().problem_count == count);
}

#[test]
fn an_unreadable_file_is_a_problem_of_its_own() {
    as_ordinary_user(|| {
        let mut rig = Rig::new(Inotify);
        write_closed(&rig.path("secret"), "x");
        fs::write(rig.path("fine"), "x").unwrap();
        rig.wait("the others", |rig| rig.model.resolve("fine").is_some());
        wait_problems(&mut rig, 1);
        let problems = rig.handle.status().problems;
        assert_eq!(problems[0].path, "secret", "{problems:?}");
        set_mode(&rig.path("secret"), 0o600);
        rig.settle();
        wait_problems(&mut rig, 0);
    });
}

/// Nobody has to wait for a scan to be told of it, or that it is gone.
#[test]
fn a_name_that_no_set_can_hold_is_a_problem_of_its_own() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.begin();
        let name = format!("@versions{}", "~".repeat(246));
        fs::write(rig.path(&name), "x").unwrap();
        fs::write(rig.path("fine"), "x").unwrap();
        rig.wait("the others", |rig| rig.model.resolve("fine").is_some());
        wait_problems(&mut rig, 1);
        fs::remove_file(rig.path(&name)).unwrap();
        wait_problems(&mut rig, 0);
    }
}

/// Whoever closes a folder closes all that is in it; when it is open again, nothing of it may be missing.
#[test]
fn a_closed_folder_is_gone_through_when_it_is_open_again() {
    as_ordinary_user(|| {
        for mode in [0o000, 0o600] {
            let mut rig = Rig::new(Inotify);
            fs::create_dir_all(rig.path("d/inner")).unwrap();
            fs::write(rig.path("d/known"), "x").unwrap();
            rig.begin();
            let known = rig.file("d/known");
            set_mode(&rig.path("d"), mode);
            rig.handle.rescan();
            rig.wait("the problem", |rig| rig.handle.status().problem_count > 0);
            assert!(rig.model.resolve("d/known").is_some(), "what cannot be seen is not gone");
            set_mode(&rig.path("d"), 0o700);
            fs::write(rig.path("d/new"), "x").unwrap();
            fs::write(rig.path("d/inner/new"), "x").unwrap();
            rig.settle();
            wait_problems(&mut rig, 0);
            assert_eq!(rig.file("d/known"), known);
        }
    });
}

/// A folder that comes closed and is opened later is found and watched.
#[test]
fn a_folder_that_was_never_open_is_found_when_it_is() {
    as_ordinary_user(|| {
        let mut rig = Rig::new(Inotify);
        fs::create_dir(rig.path("d")).unwrap();
        set_mode(&rig.path("d"), 0o000);
        wait_problems(&mut rig, 1);
        set_mode(&rig.path("d"), 0o700);
        fs::write(rig.path("d/new"), "x").unwrap();
        rig.settle();
        wait_problems(&mut rig, 0);
        fs::write(rig.path("d/later"), "x").unwrap();
        rig.settle();
    });
}

/// The last good state stays at the stations until what replaced it can be read.
#[test]
fn an_unreadable_replacement_does_not_take_the_old_file_away() {
    as_ordinary_user(|| {
        let mut rig = Rig::new(Inotify);
        fs::write(rig.path("doc"), "old").unwrap();
        rig.begin();
        let old = rig.file("doc");
        for round in 0..3 {
            write_closed(&rig.path(".new"), &format!("new {round}"));
            fs::rename(rig.path(".new"), rig.path("doc")).unwrap();
            fs::write(rig.path(&format!("mark{round}")), "x").unwrap();
            rig.wait("the mark", |rig| rig.model.resolve(&format!("mark{round}")).is_some());
            wait_problems(&mut rig, 1);
            assert_eq!(rig.file("doc"), old, "the name was taken away");
            assert_eq!(rig.model.files[&old].bytes.to_vec(), b"old");
        }
        set_mode(&rig.path("doc"), 0o600);
        rig.settle();
        wait_problems(&mut rig, 0);
        assert_ne!(rig.file("doc"), old, "it is another file");
        assert_eq!(rig.versions(old), [b"old".to_vec()]);
    });
}

/// A journal that was lost knows nothing of a closed folder: that is no reason to have it removed everywhere.
#[test]
fn a_mirror_removes_nothing_that_cannot_be_seen() {
    as_ordinary_user(|| {
        let mut rig = Rig::new(Inotify);
        fs::create_dir_all(rig.path("closed/inner")).unwrap();
        for path in ["closed/a", "closed/inner/b", "gone", "fine"] {
            fs::write(rig.path(path), "x").unwrap();
        }
        rig.begin();
        rig.handle.shutdown();
        fs::remove_file(rig.config.state_dir.join("test.redb")).unwrap();
        fs::remove_file(rig.path("gone")).unwrap();
        set_mode(&rig.path("closed"), 0o000);
        rig.handle = super::support::open(&rig.config);
        let seed = super::support::listing(&rig.model);
        rig.handle.new_epoch(keepshare_base::Epoch::FIRST, Some(seed)).unwrap();
        rig.mirror();
        for path in ["closed", "closed/a", "closed/inner/b", "fine"] {
            assert!(rig.model.resolve(path).is_some(), "{path} was taken away");
        }
        assert!(rig.model.resolve("gone").is_none());
        set_mode(&rig.path("closed"), 0o700);
        rig.settle();
    });
}

/// A version whose mode lets nobody read it may be brought back by a user who then cannot read it either: no station may
/// be told of a name whose file it never gets.
#[test]
fn a_restore_that_cannot_be_read_is_refused_and_stops_nothing() {
    as_ordinary_user(|| {
        let mut rig = Rig::new(Inotify);
        let content = rig.config.state_dir.join("version");
        fs::write(&content, "closed").unwrap();
        let mut request = super::journal::request("closed", 1, &content);
        request.meta.mode = 0;
        assert!(matches!(rig.handle.restore(request), Err(SourceError::Refused(_))));
        fs::write(rig.path("other"), "x").unwrap();
        rig.wait("the others", |rig| rig.model.resolve("other").is_some());
        assert!(rig.model.resolve("closed").is_none());
        set_mode(&rig.path("closed"), 0o600);
        rig.settle();
        wait_problems(&mut rig, 0);
    });
}

/// A folder whose place a symlink takes now and then was moved away; that is no problem, and leaves none.
#[test]
fn a_symlink_in_the_place_of_a_folder_is_no_problem() {
    let mut rig = Rig::new(Inotify);
    fs::create_dir_all(rig.path("folder/inner")).unwrap();
    std::os::unix::fs::symlink("/nowhere", rig.path("link")).unwrap();
    rig.begin();
    for i in 0..400 {
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            rig.path("folder"),
            rustix::fs::CWD,
            rig.path("link"),
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        let _ = fs::write(rig.path("folder/inner/file"), format!("{i}"));
    }
    rig.settle();
    assert_eq!(rig.handle.status().problems, []);
}

/// What lies deeper than a set's paths go is named, and everything else goes on.
#[test]
fn folders_too_deep_inside_each_other_stop_nothing_else() {
    let mut rig = Rig::new(captures()[0]);
    rig.begin();
    let deep = ["d"; 1030].join("/");
    fs::create_dir_all(rig.path(&deep)).unwrap();
    fs::write(rig.path(&format!("{deep}/file")), "x").unwrap();
    fs::write(rig.path("mark"), "x").unwrap();
    rig.wait("the problem", |rig| rig.handle.status().problem_count > 0);
    rig.wait("the mark", |rig| rig.model.resolve("mark").is_some());
    let told = rig.handle.status().problems;
    assert!(told[0].reason.contains("inside each other"), "{told:?}");
    assert!(rig.model.resolve(&["d"; DEPTH_MAX - 1].join("/")).is_some());
    assert!(rig.model.resolve(&["d"; DEPTH_MAX].join("/")).is_none(), "a file in it has no path");
    fs::write(rig.path("mark"), "y").unwrap();
    rig.wait("the save", |rig| {
        rig.model
            .resolve("mark")
            .is_some_and(|(mark, _)| rig.model.files[&mark].bytes.to_vec() == b"y")
    });
}
