//! How much an apply does to the file system.

use std::{fs, os::unix::fs::MetadataExt};

use keepshare_base::{
    Content, ContentHash, Event, Extent, FileId, FileRow, FilledChange, Kind, Stamp,
};

use super::{
    bench::Bench,
    master::{Master, name},
};

/// Ten thousand files move with their folder, not one by one.
#[test]
fn a_renamed_folder_is_one_rename() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let folder = master.make(FileId::ROOT, "before", Kind::Dir, b"");
    bench.send(&mut master);
    for part in 0..10 {
        for at in 0..1000 {
            let id = master.birth(Kind::File, b"x".to_vec());
            master.put(folder, &format!("f{part}-{at}"), id);
        }
        bench.send(&mut master);
    }
    bench.apply();
    bench.expect(&master.set);
    master.set.names.remove(&(FileId::ROOT, name("before")));
    master.put(FileId::ROOT, "after", folder);
    let applied = bench.follow(&mut master);
    assert_eq!((applied.counts.renamed, applied.counts.made, applied.counts.removed), (1, 0, 0));
}

/// Two folders change names without a file of theirs being touched.
#[test]
fn exchanged_folders_are_renamed() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let a = master.make(FileId::ROOT, "a", Kind::Dir, b"");
    let b = master.make(FileId::ROOT, "b", Kind::Dir, b"");
    master.make(a, "in-a", Kind::File, b"a");
    master.make(b, "in-b", Kind::File, b"b");
    bench.follow(&mut master);
    let inode = |bench: &Bench, path: &str| fs::metadata(bench.live().join(path)).unwrap().ino();
    let before = (inode(&bench, "a/in-a"), inode(&bench, "b/in-b"));
    master.put(FileId::ROOT, "a", b);
    master.put(FileId::ROOT, "b", a);
    let applied = bench.follow(&mut master);
    assert_eq!((applied.counts.made, applied.counts.removed), (0, 0));
    assert!(applied.counts.renamed <= 3, "{:?}", applied.counts);
    assert_eq!((inode(&bench, "b/in-a"), inode(&bench, "a/in-b")), before);
}

/// A folder is replaced while one of its children lives on elsewhere.
#[test]
fn survivors_of_a_replaced_folder_are_moved_not_made() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let old = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    let kept = master.make(old, "kept", Kind::Dir, b"");
    master.make(kept, "deep", Kind::File, b"deep");
    master.make(old, "dies", Kind::File, b"dies");
    bench.follow(&mut master);
    let inode = fs::metadata(bench.live().join("folder/kept/deep")).unwrap().ino();
    master.set.names.remove(&(old, name("kept")));
    master.set.remove(FileId::ROOT, &name("folder"));
    let new = master.make(FileId::ROOT, "folder", Kind::Dir, b"");
    master.put(new, "kept", kept);
    let applied = bench.follow(&mut master);
    assert_eq!(applied.counts.made, 1);
    assert_eq!(fs::metadata(bench.live().join("folder/kept/deep")).unwrap().ino(), inode);
}

/// A file with two names is one inode, and a change shows under both.
#[test]
fn hard_links_stay_one_inode() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "one", Kind::File, b"first");
    master.put(FileId::ROOT, "two", file);
    bench.follow(&mut master);
    master.write(file, b"second".to_vec());
    bench.follow(&mut master);
    assert_eq!(fs::read(bench.live().join("two")).unwrap(), b"second");
}

/// One page of a huge sparse file costs one page, and the holes stay holes.
#[test]
fn a_page_of_a_sparse_file_costs_a_page() {
    const SIZE: u64 = 10 << 30;
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "image", Kind::File, b"");
    bench.follow(&mut master);
    let page = |master: &mut Master, offset: u64, with: u8| {
        let mut incoming = master.send();
        let bytes = vec![with; 4096];
        let mut meta = master.set.files[&file].meta.clone();
        meta.size = SIZE;
        let extents = vec![Extent { offset, len: 4096, zero: false }];
        let hash = ContentHash::of(&bytes);
        let content = Content::Extents { fresh: false, extents, hash };
        let row = FileRow {
            file,
            event: Event::Saved,
            meta,
            content,
            hash: None,
            cut: true,
            fuzzy: false,
        };
        let change =
            keepshare_base::Change { stamp: Stamp(9), files: vec![row], ..Default::default() };
        incoming.filled = FilledChange { change, payload: bytes };
        incoming
    };
    let first = page(&mut master, 5 << 30, 1);
    bench.commit(&first);
    bench.apply();
    let second = page(&mut master, 7 << 30, 2);
    bench.commit(&second);
    let applied = bench.apply();
    assert_eq!(applied.counts.bytes, 4096);
    let about = fs::metadata(bench.live().join("image")).unwrap();
    assert_eq!(about.size(), SIZE);
    assert!(about.blocks() * 512 <= 1 << 20, "{} blocks", about.blocks());
}

/// A small file is never seen half written: it is another inode under the name.
#[test]
fn a_small_file_is_replaced_whole() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    let file = master.make(FileId::ROOT, "note", Kind::File, b"first");
    bench.follow(&mut master);
    let before = fs::File::open(bench.live().join("note")).unwrap();
    master.write(file, b"second".to_vec());
    bench.follow(&mut master);
    assert_eq!(std::io::read_to_string(before).unwrap(), "first");
}

/// Devices would be powers on this machine; a pipe would hang who opens it.
#[test]
fn devices_and_pipes_are_not_made() {
    let (mut bench, mut master) = (Bench::new(false), Master::new(1));
    for (text, kind) in [
        ("pipe", Kind::Fifo),
        ("socket", Kind::Socket),
        ("disk", Kind::BlockDevice),
        ("null", Kind::CharDevice),
    ] {
        master.make(FileId::ROOT, text, kind, b"");
    }
    bench.follow(&mut master);
    assert_eq!(fs::read_dir(bench.live()).unwrap().count(), 0);
}
