//! Everyday edits: what they become in the journal, by both kinds of events.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use keepshare_base::{Event, FileId, Kind};
use keepshare_proto::cut::CutRule;
use keepshare_replication::source::{
    CaptureMode::{self, Fanotify, Inotify},
    SourceConfig,
};

use super::support::Rig;

/// The captures that work here: fanotify needs root.
pub(crate) fn captures() -> Vec<CaptureMode> {
    if rustix::process::geteuid().is_root() { vec![Fanotify, Inotify] } else { vec![Inotify] }
}

#[test]
fn a_write_becomes_one_change_with_a_version() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("a"), "one").unwrap();
        rig.settle();
        let file = rig.file("a");
        rig.wait("a version", |rig| !rig.versions(file).is_empty());
        rig.begin();
        fs::write(rig.path("a"), "two!").unwrap();
        rig.wait("a second version", |rig| rig.versions(file).len() >= 2);
        rig.settle();
        assert_eq!(rig.versions(file), [b"one".to_vec(), b"two!".to_vec()], "{mode:?}");
        // Two where the close came late: the content, then the cut.
        let rows = rig.changes.iter().flat_map(|(_, change)| &change.files);
        let rows: Vec<_> = rows.filter(|row| row.file == file).collect();
        assert!(rows.len() <= 2, "{mode:?}: {:?}", rig.changes);
        assert_eq!(rows[0].event, Event::Saved);
    }
}

#[test]
fn everything_that_is_there_at_first_comes_by_a_mirror() {
    for mode in captures() {
        let mut rig = Rig::with(
            mode,
            |root| {
                fs::create_dir_all(root.join("x/y")).unwrap();
                fs::write(root.join("x/y/small"), "small").unwrap();
                fs::write(root.join("x/large"), vec![7; 3_000_000]).unwrap();
                fs::hard_link(root.join("x/large"), root.join("again")).unwrap();
                std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
                fs::write(root.join("@versions"), "a user's own").unwrap();
            },
            |_| {},
        );
        rig.settle();
        assert!(rig.changes.is_empty(), "nothing was left to the journal: {:?}", rig.changes);
        assert_eq!(rig.model.resolve("link").unwrap().1, Kind::Symlink);
        let parts = rig.mirror();
        assert_eq!(parts.len(), 1, "a second mirror has nothing to send");
    }
}

#[test]
fn attributes_travel_without_content() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("a"), "one").unwrap();
        rig.begin();
        fs::set_permissions(rig.path("a"), fs::Permissions::from_mode(0o600)).unwrap();
        rig.wait("the mode", |rig| !rig.changes.is_empty());
        rig.settle();
        assert_eq!(rig.payload_bytes, 0);
        assert_eq!(rig.changes[0].1.files[0].event, Event::Attributes);
    }
}

/// Editors save in several ways, and none of them may lose a state or show half of one.
#[test]
fn editors_save_without_a_gap() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("doc"), "first").unwrap();
        rig.begin();
        // Temporary and rename over it (most editors, Word on a share).
        fs::write(rig.path(".doc.tmp"), "second").unwrap();
        fs::rename(rig.path(".doc.tmp"), rig.path("doc")).unwrap();
        rig.settle();
        for (_, change) in &rig.changes {
            let doc = change.names.iter().find(|row| row.name.as_bytes() == b"doc");
            assert!(doc.is_none_or(|row| row.target.is_some()), "the name was gone: {change:?}");
        }
        rig.begin();
        // Aside, new, remove the old one (vim with a backup).
        fs::rename(rig.path("doc"), rig.path("doc~")).unwrap();
        fs::write(rig.path("doc"), "third").unwrap();
        fs::remove_file(rig.path("doc~")).unwrap();
        rig.settle();
        let file = rig.file("doc");
        assert_eq!(rig.model.files[&file].bytes.to_vec(), b"third");
    }
}

#[test]
fn an_exchange_is_one_change() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("a"), "one").unwrap();
        fs::write(rig.path("b"), "two").unwrap();
        rig.begin();
        let (one, two) = (rig.file("a"), rig.file("b"));
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            rig.path("a"),
            rustix::fs::CWD,
            rig.path("b"),
            rustix::fs::RenameFlags::EXCHANGE,
        )
        .unwrap();
        rig.settle();
        assert_eq!((rig.file("a"), rig.file("b")), (two, one));
        assert_eq!(rig.payload_bytes, 0);
        let with_names = rig.changes.iter().filter(|(_, change)| !change.names.is_empty());
        let names: Vec<usize> = with_names.map(|(_, change)| change.names.len()).collect();
        assert_eq!(names, [2], "{mode:?}: {:?}", rig.changes);
    }
}

/// An object is known by what it is, not by the folder it was written in.
#[test]
fn a_write_through_a_hard_link_outside_is_seen() {
    if !captures().contains(&Fanotify) {
        return;
    }
    let mut rig = Rig::new(Fanotify);
    fs::write(rig.path("a"), "one").unwrap();
    let outside = rig.dir.path().join("outside");
    fs::hard_link(rig.path("a"), &outside).unwrap();
    rig.begin();
    fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(b" two").unwrap();
    rig.wait("the write", |rig| !rig.changes.is_empty());
    rig.settle();
    let file = rig.file("a");
    assert_eq!(rig.model.files[&file].bytes.to_vec(), b"one two");
}

/// Whoever can watch no more than folders watches a file by itself that has a name outside when the source is opened: a save there
/// is a version when it is closed, as it is inside.
#[test]
fn a_save_through_a_hard_link_outside_is_a_version_at_once() {
    for mode in captures() {
        let link = |root: &Path| {
            fs::write(root.join("a"), "one").unwrap();
            fs::hard_link(root.join("a"), root.with_file_name("outside")).unwrap();
        };
        let mut rig = Rig::with(mode, link, only_closed);
        rig.begin();
        let (file, outside) = (rig.file("a"), rig.dir.path().join("outside"));
        // It is watched when nothing else is left to do, of which nobody is told.
        rig.wait("a version", |rig| {
            let mut outside = fs::OpenOptions::new().append(true).open(&outside).unwrap();
            outside.write_all(b" more").unwrap();
            rig.versions(file).iter().any(|version| version.ends_with(b" more"))
        });
        rig.settle();
    }
}

/// What is told of a name whose folder goes at once is true of the file, which may have another name.
#[test]
fn a_file_whose_other_name_went_with_its_folder_is_looked_at() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        fs::write(rig.path("kept"), "one").unwrap();
        for i in 1..=20 {
            fs::create_dir(rig.path("d")).unwrap();
            fs::hard_link(rig.path("kept"), rig.path("d/other")).unwrap();
            rig.settle();
            let other = fs::File::options().append(true).open(rig.path("d/other")).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + i);
            other.set_modified(time).unwrap();
            fs::rename(rig.path("d"), rig.dir.path().join(format!("gone {i}"))).unwrap();
            drop(other);
            rig.settle();
        }
    }
}

#[test]
fn a_folder_of_ten_thousand_moves_as_two_names() {
    for mode in captures() {
        let mut rig = Rig::with(
            mode,
            |root| {
                fs::create_dir(root.join("d")).unwrap();
                for i in 0..10_000 {
                    fs::write(root.join(format!("d/{i}")), "").unwrap();
                }
            },
            |_| {},
        );
        rig.begin();
        fs::rename(rig.path("d"), rig.path("e")).unwrap();
        rig.settle();
        let names: usize = rig.changes.iter().map(|(_, change)| change.names.len()).sum();
        assert_eq!(names, 2, "{mode:?}");
        assert_eq!(rig.payload_bytes, 0);
        assert!(rig.row_bytes < 1000, "{} bytes of rows", rig.row_bytes);
    }
}

/// inotify's well-known race: what is made in a folder before its watch stands is told to nobody.
#[test]
fn no_file_in_a_new_folder_is_missed() {
    for mode in captures() {
        let mut rig = Rig::new(mode);
        rig.model.keep_versions = false;
        for i in 0..2000 {
            let folder = rig.path(&format!("n{i}"));
            fs::create_dir(&folder).unwrap();
            for f in 0..3 {
                fs::write(folder.join(format!("f{f}")), "x").unwrap();
            }
        }
        fs::create_dir_all(rig.path("x/y/z")).unwrap();
        fs::write(rig.path("x/y/z/deep"), "deep").unwrap();
        rig.settle();
        let files = rig.model.tree().len();
        assert_eq!(files, 2000 * 4 + 4, "{mode:?}");
    }
}

/// A rule that makes versions only of what was closed, replaced or removed within a test.
fn only_closed(config: &mut SourceConfig) {
    config.cut = CutRule::new(3_600_000, 3_600_000).unwrap();
}

/// The close of a file is told before anyone has looked into its new folder, and its inode may have been another's.
#[test]
fn what_is_made_with_its_folder_is_a_version_at_once() {
    if !captures().contains(&Fanotify) {
        return;
    }
    let mut rig = Rig::with(Fanotify, |_| {}, only_closed);
    for i in 0..50 {
        let folder = rig.path(&format!("d{i}/e"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("4913"), "tried").unwrap();
        fs::remove_file(folder.join("4913")).unwrap();
        fs::write(folder.join("file"), format!("one {i}")).unwrap();
        let wanted = format!("one {i}").into_bytes();
        rig.wait("a version", move |rig| {
            rig.model.versions.iter().any(|version| version.bytes.to_vec() == wanted)
        });
    }
}

/// A file's inode may have been another's a moment ago: what is told of it is not lost.
#[test]
fn every_save_under_a_changing_name_is_a_version_at_once() {
    for mode in captures() {
        let mut rig = Rig::with(mode, |_| {}, only_closed);
        for i in 0..60 {
            let content = format!("save {i}");
            match i % 4 {
                0 => {
                    fs::write(rig.path(".doc.tmp"), &content).unwrap();
                    fs::rename(rig.path(".doc.tmp"), rig.path("doc")).unwrap();
                }
                1 => {
                    fs::rename(rig.path("doc"), rig.path("doc~")).unwrap();
                    fs::write(rig.path("doc"), &content).unwrap();
                    fs::remove_file(rig.path("doc~")).unwrap();
                }
                2 => {
                    fs::write(rig.path("new"), &content).unwrap();
                    fs::rename(rig.path("doc"), rig.path("old")).unwrap();
                    fs::rename(rig.path("new"), rig.path("doc")).unwrap();
                    fs::remove_file(rig.path("old")).unwrap();
                }
                _ => fs::write(rig.path("doc"), &content).unwrap(),
            }
            let wanted = content.into_bytes();
            rig.wait("a version", move |rig| {
                rig.model.versions.iter().any(|version| version.bytes.to_vec() == wanted)
            });
        }
    }
}

/// Names are looked at in order, and one folder's may all be gone before another's are looked at.
#[test]
fn thousands_of_files_moved_between_folders_stay_who_they_are() {
    const FILES: usize = 3000;
    for mode in captures() {
        for reversed in [false, true] {
            let prepare = |root: &Path| {
                let mut folders = ["a", "b"];
                if reversed {
                    folders.reverse();
                }
                for folder in folders {
                    fs::create_dir(root.join(folder)).unwrap();
                }
                for i in 0..FILES {
                    fs::write(root.join(format!("a/{i}")), format!("content {i}")).unwrap();
                }
            };
            let mut rig = Rig::with(mode, prepare, |_| {});
            rig.begin();
            fs::create_dir(rig.path("c")).unwrap();
            let before: Vec<FileId> = (0..FILES).map(|i| rig.file(&format!("a/{i}"))).collect();
            for i in 0..FILES {
                let to = if i.is_multiple_of(2) { "b" } else { "c" };
                fs::rename(rig.path(&format!("a/{i}")), rig.path(&format!("{to}/{i}"))).unwrap();
            }
            rig.settle();
            let of = |i: usize| format!("{}/{i}", if i.is_multiple_of(2) { "b" } else { "c" });
            let after: Vec<FileId> = (0..FILES).map(|i| rig.file(&of(i))).collect();
            assert!(before == after, "{mode:?}: files lost their identity");
            assert_eq!(rig.payload_bytes, 0, "{mode:?}: content was sent again");
        }
    }
}

/// A folder whose names take more than a frame has room for goes all the same, by changes and by a mirror.
#[test]
fn a_folder_with_long_names_can_go() {
    const FILES: usize = 3500;
    for mirrored in [false, true] {
        let prepare = |root: &Path| {
            fs::create_dir(root.join("d")).unwrap();
            for i in 0..FILES {
                // Two bytes each, as in many languages.
                let name = format!("{}{i}", "\u{436}".repeat(100));
                fs::write(root.join("d").join(name), "").unwrap();
            }
        };
        let mut rig = Rig::with(Inotify, prepare, |_| {});
        rig.begin();
        fs::rename(rig.path("d"), rig.dir.path().join("out")).unwrap();
        if mirrored {
            assert!(rig.handle.ask_settled().wait(Instant::now() + Duration::from_secs(60)));
            rig.mirror();
        }
        rig.settle();
        assert!(rig.changes.len() < 20, "{} changes", rig.changes.len());
    }
}

/// The inode of a folder that is gone is soon another's, which keeps its watch when the old one is forgotten.
#[test]
fn a_folder_with_the_inode_of_another_is_watched() {
    for mode in captures() {
        let mut rig = Rig::with_place(mode, &std::env::temp_dir());
        for i in 0..60 {
            let folder = rig.path(&format!("d{i}"));
            fs::create_dir_all(folder.join("n1")).unwrap();
            fs::rename(folder.join("n1"), folder.join("n2")).unwrap();
            fs::remove_dir(folder.join("n2")).unwrap();
            fs::create_dir(folder.join("n1")).unwrap();
        }
        rig.settle();
        for i in 0..60 {
            fs::write(rig.path(&format!("d{i}/n1/later")), "x").unwrap();
        }
        rig.settle();
    }
}
