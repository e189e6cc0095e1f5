//! What is mounted in a source, over it, or away from it: none of it is the source's, and nothing of the source is gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use keepshare_replication::source::{CaptureMode, SourceAlarm};

use super::{edits::captures, support::Rig};

/// Runs a test of this file in a mount namespace of its own; see [`in_own_mounts`].
fn with_own_mounts(test: &str, body: impl FnOnce()) {
    in_own_mounts(&format!("{}::{test}", module_path!()), body);
}

/// Runs a test, given its path, in a process with a mount namespace of its own, which takes all mounts along when it ends.
/// Root only.
pub(crate) fn in_own_mounts(test: &str, body: impl FnOnce()) {
    const INSIDE: &str = "KEEPSHARE_TEST_OWN_MOUNTS";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let (_, test) = test.split_once("::").unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    let ended = inside.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output();
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => return eprintln!("skipped: no unshare (util-linux): {error}"),
    };
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("1 passed"), "there is no test {test}: {said}");
}

fn run(command: &str, arguments: &[&Path]) {
    let words: Vec<&str> = command.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).args(arguments).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

fn bind(from: &Path, to: &Path) {
    run("mount --bind", &[from, to]);
}

fn unmount(at: &Path) {
    run("umount", &[at]);
}

/// A folder with other files beside the source, on the same file system.
fn beside(rig: &Rig) -> PathBuf {
    let beside = rig.dir.path().join("beside");
    fs::create_dir_all(&beside).unwrap();
    fs::write(beside.join("other"), "not of the source").unwrap();
    beside
}

fn rig(mode: CaptureMode) -> Rig {
    let prepare = |root: &Path| {
        for folder in ["a", "b", "c"] {
            fs::create_dir_all(root.join(folder).join("inner")).unwrap();
            fs::write(root.join(folder).join("file"), folder).unwrap();
            fs::write(root.join(folder).join("inner/deep"), folder).unwrap();
        }
        fs::write(root.join("plain"), "plain").unwrap();
    };
    let mut rig = Rig::with(mode, prepare, |_| {});
    rig.begin();
    rig
}

fn wait_problems(rig: &mut Rig, count: u64) {
    rig.wait("the problems", move |rig| rig.handle.status().problem_count == count);
}

fn is_gone(rig: &Rig) -> bool {
    rig.handle.status().alarms.iter().any(|alarm| matches!(alarm, SourceAlarm::Vanished(_)))
}

fn assert_whole(rig: &Rig) {
    for folder in ["a", "b", "c"] {
        for name in ["file", "inner", "inner/deep"] {
            assert!(rig.model.resolve(&format!("{folder}/{name}")).is_some(), "{folder}/{name}");
        }
    }
    assert!(rig.model.resolve("plain").is_some());
}

/// What lies below a mount is still there, and a mount of the same file system is a mount.
#[test]
fn a_mount_that_was_there_at_the_start_takes_nothing_away() {
    with_own_mounts("a_mount_that_was_there_at_the_start_takes_nothing_away", || {
        for mode in captures() {
            let mut rig = rig(mode);
            let known = rig.file("a/inner/deep");
            let other = beside(&rig);
            bind(&other, &rig.path("a"));
            bind(&rig.path("b"), &rig.path("c"));
            bind(&other.join("other"), &rig.path("plain"));
            rig.reopen();
            wait_problems(&mut rig, 3);
            fs::write(rig.path("b/later"), "seen").unwrap();
            rig.wait("the write", |rig| rig.model.resolve("b/later").is_some());
            assert_whole(&rig);
            assert!(rig.model.resolve("a/other").is_none(), "what is mounted is not the source's");
            let paths: Vec<_> = rig.handle.status().problems.into_iter().map(|p| p.path).collect();
            assert_eq!(paths, ["a", "c", "plain"]);
            for mounted in ["a", "c", "plain"] {
                unmount(&rig.path(mounted));
            }
            rig.settle();
            wait_problems(&mut rig, 0);
            assert_eq!(rig.file("a/inner/deep"), known);
        }
    });
}

/// No event tells of a mount: the name is shown as long as it is there, and what it hid is compared afterwards.
#[test]
fn a_mount_made_while_running_is_seen_and_takes_nothing_away() {
    with_own_mounts("a_mount_made_while_running_is_seen_and_takes_nothing_away", || {
        for mode in captures() {
            let mut rig = rig(mode);
            let other = beside(&rig);
            bind(&other, &rig.path("a"));
            wait_problems(&mut rig, 1);
            bind(&rig.path("b"), &rig.path("c"));
            wait_problems(&mut rig, 2);
            run("mount -t tmpfs tmpfs", &[&rig.path("b/inner")]);
            wait_problems(&mut rig, 3);
            fs::write(rig.path("a/while"), "into the mount").unwrap();
            fs::write(rig.path("b/inner/while"), "into the mount").unwrap();
            fs::write(rig.path("plain"), "mark").unwrap();
            let plain = rig.file("plain");
            rig.wait("the mark", |rig| rig.model.files[&plain].bytes.to_vec() == b"mark");
            assert_whole(&rig);
            for path in ["a/while", "a/other", "b/inner/while"] {
                assert!(rig.model.resolve(path).is_none(), "{path} is of the mount");
            }
            for mounted in ["a", "c", "b/inner"] {
                unmount(&rig.path(mounted));
            }
            rig.settle();
            wait_problems(&mut rig, 0);
        }
    });
}

/// A disk that is unmounted, or mounted over, is a folder that nobody can look at: an alarm, and not a removal.
#[test]
fn a_source_that_is_unmounted_or_mounted_over_is_an_alarm() {
    with_own_mounts("a_source_that_is_unmounted_or_mounted_over_is_an_alarm", || {
        for mode in captures() {
            for lazily in [false, true] {
                let place = tempfile::tempdir().unwrap();
                let disk = place.path().join("disk");
                fs::create_dir(&disk).unwrap();
                run("mount -t tmpfs tmpfs", &[&disk]);
                let mut rig = Rig::with_place(mode, &disk);
                fs::write(rig.path("file"), "kept").unwrap();
                rig.begin();
                // The journal is not what this is about.
                let root = rig.root().to_owned();
                if lazily {
                    bind(&root, &root);
                    rig.wait("another mount of the same folder", |rig| !is_gone(rig));
                    rig.settle();
                    run("umount -l", &[&root]);
                } else {
                    run("mount -t tmpfs tmpfs", &[&root]);
                    rig.wait("the alarm", is_gone);
                    assert!(rig.model.resolve("file").is_some());
                    unmount(&root);
                }
                rig.wait("the end of the alarm", |rig| !is_gone(rig));
                fs::write(rig.path("later"), "seen").unwrap();
                rig.settle();
                rig.handle.shutdown();
                run("umount -l", &[&disk]);
            }
        }
    });
}

/// A journal that was lost knows nothing of what lies below a mount: that is no reason to have it removed everywhere.
#[test]
fn a_mirror_removes_nothing_that_lies_below_a_mount() {
    with_own_mounts("a_mirror_removes_nothing_that_lies_below_a_mount", || {
        let mut rig = rig(captures()[0]);
        rig.handle.shutdown();
        fs::remove_file(rig.config.state_dir.join("test.redb")).unwrap();
        bind(&beside(&rig), &rig.path("a"));
        rig.handle = super::support::open(&rig.config);
        let seed = super::support::listing(&rig.model);
        rig.handle.new_epoch(keepshare_base::Epoch::FIRST, Some(seed)).unwrap();
        rig.mirror();
        assert_whole(&rig);
        unmount(&rig.path("a"));
        rig.settle();
    });
}

/// On an overlay with layers on several file systems files have the devices of their layers.
#[test]
fn an_overlay_of_two_file_systems_is_replicated() {
    with_own_mounts("an_overlay_of_two_file_systems_is_replicated", || {
        for mode in [CaptureMode::Auto, CaptureMode::Inotify] {
            let place = tempfile::tempdir().unwrap();
            let at = |name: &str| place.path().join(name);
            for name in ["lower", "upper", "merged"] {
                fs::create_dir(at(name)).unwrap();
            }
            run("mount -t tmpfs tmpfs", &[&at("lower")]);
            run("mount -t tmpfs tmpfs", &[&at("upper")]);
            for name in ["upper/files", "upper/work", "lower/merged", "lower/merged/folder"] {
                fs::create_dir(at(name)).unwrap();
            }
            for i in 0..20 {
                fs::write(at(&format!("lower/merged/{i}")), format!("lower {i}")).unwrap();
            }
            fs::write(at("lower/merged/folder/deep"), "deep").unwrap();
            let (lower, upper) = (at("lower/merged"), at("upper"));
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                lower.display(),
                upper.join("files").display(),
                upper.join("work").display()
            );
            run(&format!("mount -t overlay overlay -o {options}"), &[&at("merged")]);
            let merged = at("merged");
            let mut rig = Rig::with(mode, |_| {}, |config| config.root.clone_from(&merged));
            rig.settle();
            assert_eq!(rig.model.tree().len(), 22);
            // New files have the numbers that those of the lower layer have, too.
            for i in 0..30 {
                fs::write(rig.path(&format!("new {i}")), format!("upper {i}")).unwrap();
            }
            fs::write(rig.path("3"), "copied up").unwrap();
            fs::rename(rig.path("4"), rig.path("folder/four")).unwrap();
            fs::remove_file(rig.path("5")).unwrap();
            rig.settle();
            rig.handle.rescan();
            rig.settle();
            rig.reopen();
            rig.settle();
            assert_eq!(rig.handle.status().problems, []);
            rig.handle.shutdown();
        }
    });
}
