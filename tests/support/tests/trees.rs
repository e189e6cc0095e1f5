//! The trees, their comparison and the editor are what the tests above stand on: they are tested themselves.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use keepshare_support::{
    Aspects, Editor, Scratch, Snapshot, differences,
    tools::{self, run},
    tree::{self, TreeSpec},
};

/// What it does to a copy, and the word by which the comparison must tell it.
type Spoil = (&'static str, fn(&Path));

/// A comparison that overlooks something would let the product overlook it too.
#[test]
fn every_kind_of_difference_is_told() {
    let scratch = Scratch::new("compare").unwrap();
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    tree::grow(&a, TreeSpec { files: 30, odd: true, seed: 1 }).unwrap();
    let spoil: &[Spoil] = &[
        ("missing", |b| fs::remove_file(b.join("a/d000/f00001")).unwrap()),
        ("surplus", |b| fs::write(b.join("new"), "").unwrap()),
        ("size", |b| fs::write(b.join("a/d000/f00001"), "x").unwrap()),
        ("other bytes", |b| {
            let path = b.join("odd/attributes/time 0.0");
            fs::write(&path, "ATTRIBUTES").unwrap();
            tree::set_mtime(&path, 0, 0).unwrap();
        }),
        ("mtime", |b| tree::set_mtime(&b.join("odd/attributes/time 0.0"), 0, 1).unwrap()),
        ("mtime", |b| tree::set_mtime(&b.join("odd/links/dangling"), 0, 1).unwrap()),
        ("mtime", |b| tree::set_mtime(&b.join("odd/shapes/empty folder"), 0, 1).unwrap()),
        ("mode", |b| {
            let mode = fs::Permissions::from_mode(0o601);
            fs::set_permissions(b.join("odd/attributes/mode 0600"), mode).unwrap();
        }),
        ("target", |b| {
            fs::remove_file(b.join("odd/links/relative")).unwrap();
            symlink("elsewhere", b.join("odd/links/relative")).unwrap();
        }),
        ("the same file as", |b| {
            let (name, text) = (b.join("odd/links/second name"), "one file, three names");
            fs::remove_file(&name).unwrap();
            fs::write(name, text).unwrap();
        }),
        ("kind", |b| {
            fs::remove_file(b.join("odd/shapes/empty file")).unwrap();
            fs::create_dir(b.join("odd/shapes/empty file")).unwrap();
        }),
    ];
    for (expected, spoil) in spoil {
        run(Command::new("cp").arg("-a").args([&a, &b])).unwrap();
        assert_eq!(differences(&a, &b, Aspects::ALL).unwrap(), Vec::<String>::new());
        spoil(&b);
        let told = differences(&a, &b, Aspects::ALL).unwrap().join("\n");
        assert!(told.contains(expected), "{expected} is not told, but: {told}");
        run(Command::new("chmod").arg("-R").arg("u+rwx").arg(&b)).unwrap();
        fs::remove_dir_all(&b).unwrap();
    }
}

/// A failed random test is repeated by its seed: the same seed must do the same.
#[test]
fn one_seed_makes_one_tree_and_one_sequence_of_edits() {
    let scratch = Scratch::new("seeds").unwrap();
    let aspects = Aspects { times: false, ..Aspects::ALL };
    for name in ["a", "b"] {
        tree::grow(&scratch.join(name), TreeSpec { files: 50, odd: true, seed: 7 }).unwrap();
        let mut editor = Editor::new(&scratch.join(name), 9).unwrap();
        for _ in 0..500 {
            editor.step().unwrap();
        }
    }
    let told = differences(&scratch.join("a"), &scratch.join("b"), aspects).unwrap();
    assert_eq!(told, Vec::<String>::new());
}

/// Versions are checked against what the editor says it wrote: it must know every content.
#[test]
fn the_editor_knows_every_content_it_leaves_behind() {
    let scratch = Scratch::new("editor").unwrap();
    let root = scratch.make_dir("tree").unwrap();
    let mut editor = Editor::new(&root, tools::seed("editor")).unwrap();
    for _ in 0..40 {
        for _ in 0..25 {
            editor.step().unwrap();
        }
        let snapshot = Snapshot::of(&root, Aspects::ALL).unwrap();
        for path in snapshot.files() {
            let path = root.join(std::str::from_utf8(path).unwrap());
            let content = fs::read(&path).unwrap();
            assert!(editor.wrote(blake3::hash(&content)), "{} is unknown", path.display());
        }
    }
}

/// Half of the promises are for ordinary users: their tests must really run as one.
#[test]
fn an_ordinary_user_is_one() {
    let scratch = Scratch::new("ordinary").unwrap();
    let folder = scratch.make_dir("theirs").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    tools::as_user(tools::ORDINARY_USER, || {
        assert!(!tools::is_root());
        run(Command::new("touch").arg(folder.join("file"))).unwrap();
        assert!(fs::read("/etc/shadow").is_err());
    })
    .unwrap();
    let owner = fs::metadata(folder.join("file")).unwrap().uid();
    assert!(owner != 0 || !tools::is_root());
}
