//! What a station keeps on its disk: the records of a log, a log as a file, a pack as a file.
//!
//! The first byte says which. Records get checksums that are right, as no change of theirs would come through otherwise.

use std::sync::Arc;

use keepshare_base::{
    Change, CommitId, Content, Epoch, Event, Extent, FileId, FileRow, FileTime, FilledChange, Kind,
    Meta, Name, NameRow, OriginId, Owner, Point, PointKind, PointRow, Position, RunningHash, Seq,
    Stamp,
};
use keepshare_versioning::{
    Incoming, Store, StoreOptions,
    disk::{
        Disk,
        sim::{Crash, SimDisk},
    },
    log::Log,
    pack::{PackLoc, PackReader, PackWriter},
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "records",
    run,
    examples,
    words: &[
        &[0x80, 0x80, 0x80, 0x80, 1],
        &[0xff; 8],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0; 8],
        &[3],
    ],
    cost: 100,
};

const RECORDS: u8 = b'r';
const LOG: u8 = b'l';
const PACK: u8 = b'p';

/// The most records of one log.
const RECORDS_MAX: usize = 32;

/// How much is read of a file, in bytes.
const READ_BYTES: usize = 128 << 10;

fn run(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((&RECORDS, bodies)) => open_records(bodies),
        Some((&LOG, file)) => open_log(file),
        Some((&PACK, file)) => read_pack(file),
        _ => false,
    }
}

/// Opens a log of these records, each after its length in two bytes.
fn open_records(mut bodies: &[u8]) -> bool {
    let disk = SimDisk::new();
    let mut log = Log::create(Arc::new(disk.clone())).expect("an empty disk takes a log");
    for number in 1..=RECORDS_MAX {
        let Some((len, rest)) = bodies.split_first_chunk::<2>() else { break };
        let (body, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*len))));
        let commit = CommitId(u64::try_from(number).expect("a few"));
        log.append(commit, body).expect("a short body is taken");
        bodies = rest;
    }
    log.sync().expect("the disk is well");
    drop(log);
    open_twice(&disk)
}

fn open_log(bytes: &[u8]) -> bool {
    let disk = SimDisk::new();
    let log = Log::create(Arc::new(disk.clone())).expect("an empty disk takes a log");
    drop(log);
    put(&disk, &only_file(&disk, "log"), bytes);
    open_twice(&disk)
}

/// Opens a set, and once more without its index: the answers are the same.
fn open_twice(disk: &SimDisk) -> bool {
    let Ok((store, _)) = open(disk) else { return false };
    let digests = look_around(&store);
    drop(store);
    let disk = disk.reopen(Crash::KeepAll);
    disk.remove("index.redb").expect("there was an index");
    let (store, report) = open(&disk).expect("what was opened is opened again");
    assert_eq!(report.torn_bytes, 0, "what was cut stays cut");
    assert_eq!(look_around(&store), digests, "the index is another one when it is built anew");
    true
}

fn open(disk: &SimDisk) -> Result<(Store, keepshare_versioning::OpenReport), impl std::fmt::Debug> {
    let options =
        StoreOptions { cache_bytes: 1 << 20, reserve_bytes: 0, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), options)
}

/// Asks for everything that there is, whatever comes of it, and returns the digests of the index.
fn look_around(store: &Store) -> Option<Vec<String>> {
    let reader = store.reader();
    let view = reader.view().ok()?;
    let at = view.latest();
    let _ = (view.newest_commit(), view.commit_at(Stamp::MAX), view.points(CommitId(0), 100));
    let _ = (view.position(OriginId(1)), view.highest(OriginId(1)), view.touched(CommitId(0)));
    for (parent, entry) in view.names_after(None, 100).unwrap_or_default() {
        let _ = (view.lookup(parent, &entry.name, at), view.path_of(entry.file, at));
    }
    for number in 0..8 {
        let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: number };
        let _ = (view.links(file, at), view.last_links(file), view.list(file, at, None, 100));
        let _ = (view.aside(0, None, 100), view.newest_aside());
        for state in view.versions(file).unwrap_or_default() {
            let _ = (reader.read(&state, 0, READ_BYTES), view.next_data(&state, 0));
        }
    }
    let digests = view.digests().ok()?;
    Some(digests.into_iter().map(|(table, digest)| format!("{table} {digest}")).collect())
}

/// Reads the place that the first bytes say from a pack of the others.
fn read_pack(bytes: &[u8]) -> bool {
    let Some((loc, file)) = bytes.split_first_chunk::<{ PackLoc::BYTES }>() else { return false };
    let loc = PackLoc::from_bytes(loc).expect("it has as many bytes");
    assert_eq!(PackLoc::from_bytes(&loc.to_bytes()), Some(loc));
    let disk = SimDisk::new();
    let writer = PackWriter::open(Arc::new(disk.clone()), 0);
    let mut writer = writer.expect("an empty disk takes packs");
    writer.append(b"x").expect("a byte fits");
    writer.sync().expect("the disk is well");
    drop(writer);
    put(&disk, &only_file(&disk, "packs"), file);
    let _ = PackWriter::open(Arc::new(disk.clone()), 0);
    let Ok(content) = PackReader::new(Arc::new(disk)).read(loc) else { return false };
    assert_eq!(content.len(), usize::try_from(loc.raw).expect("it was read"));
    true
}

/// Makes these bytes all that a file holds.
fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(name, true).expect("the disk is well");
    file.set_len(0).expect("the disk is well");
    file.write_all_at(bytes, 0).expect("the disk is well");
    file.sync_data().expect("the disk is well");
}

fn only_file(disk: &SimDisk, folder: &str) -> String {
    let names = disk.list(folder).expect("the disk is well");
    assert_eq!(names.len(), 1, "{names:?}");
    format!("{folder}/{}", names[0])
}

fn examples() -> Vec<(String, Vec<u8>)> {
    let disk = written();
    let log = disk.content(&only_file(&disk, "log"));
    let (opened, found) = Log::open(Arc::new(disk.clone()), None).expect("a log that was written");
    let mut records = vec![RECORDS];
    for entry in opened.replay(found.start) {
        let body = entry.expect("a record that was written").body;
        let len = u16::try_from(body.len()).expect("a short record");
        records.extend(len.to_le_bytes());
        records.extend(body);
    }
    let disk = SimDisk::new();
    let writer = PackWriter::open(Arc::new(disk.clone()), 0);
    let mut writer = writer.expect("an empty disk takes packs");
    writer.append(b"something before it").expect("it fits");
    let loc = writer.append(&b"words that are packed ".repeat(40)).expect("it fits");
    writer.sync().expect("the disk is well");
    let pack = disk.content(&only_file(&disk, "packs"));
    vec![
        ("records".to_owned(), records),
        ("log".to_owned(), [&[LOG][..], &log].concat()),
        ("pack".to_owned(), [&[PACK][..], &loc.to_bytes(), &pack].concat()),
    ]
}

/// A set with a folder, and files that are kept in every way there is: saved, renamed, made longer, removed.
fn written() -> SimDisk {
    let disk = SimDisk::new();
    let (mut store, _) = open(&disk).expect("an empty disk takes a set");
    let file = |counter| FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter };
    let name = |parent, text: &[u8], target| NameRow {
        parent,
        name: Name::new(text).expect("a name"),
        target,
    };
    let row = |counter, content, size| FileRow {
        file: file(counter),
        event: Event::Saved,
        meta: meta(if counter == 1 { Kind::Dir } else { Kind::File }, size),
        content,
        hash: None,
        cut: true,
        fuzzy: false,
    };
    let large = b"0123456789abcdef".repeat(5 << 10);
    let page = Content::Extents {
        fresh: false,
        extents: vec![Extent { offset: 4096, len: 5, zero: false }],
        hash: keepshare_base::ContentHash::of(b"bytes"),
    };
    let whole = |bytes: &[u8]| Content::whole(bytes);
    let changes: [(Vec<NameRow>, Vec<FileRow>, Vec<u8>); 5] = [
        (
            vec![name(FileId::ROOT, b"sales", Some((file(1), Kind::Dir)))],
            vec![row(1, Content::Same, 0)],
            vec![],
        ),
        (
            vec![
                name(file(1), b"small", Some((file(2), Kind::File))),
                name(file(1), b"large", Some((file(3), Kind::File))),
            ],
            vec![
                row(2, whole(b"small"), 5),
                row(3, whole(&large), u64::try_from(large.len()).expect("it fits")),
            ],
            [&b"small"[..], &large].concat(),
        ),
        (vec![], vec![row(3, page, 200_000)], b"bytes".to_vec()),
        (
            vec![
                name(file(1), b"small", None),
                name(FileId::ROOT, b"renamed", Some((file(2), Kind::File))),
            ],
            vec![row(2, whole(&large[..1000]), 1000)],
            large[..1000].to_vec(),
        ),
        (vec![name(file(1), b"large", None)], vec![], vec![]),
    ];
    let (mut now, mut running) = (Stamp(1_763_600_000_000_000), RunningHash::EMPTY);
    for (seq, (names, files, payload)) in (1..).zip(changes) {
        now = now.plus_micros(1_000_000);
        running = running.extended(&[seq]);
        let point = (seq == 3).then(|| PointRow::Made {
            point: Point { name: "release-7".into(), kind: PointKind::App },
            lasts_micros: None,
        });
        let user = Some("anna".to_owned());
        let change = Change { stamp: now, user, names, files, point, ..Change::default() };
        let seq = Seq(seq.into());
        let incoming = Incoming {
            position: Position { origin: OriginId(1), epoch: Epoch::FIRST, seq },
            complete: true,
            running,
            filled: FilledChange { change, payload },
        };
        store.commit(now, &incoming).expect("a change that is right");
        store.sync().expect("the disk is well");
    }
    // Of two that were removed one comes back.
    let removed = [(file(2), CommitId(2)), (file(3), CommitId(2))];
    let aside = store.set_aside(now, 1_000_000, &removed).expect("they may go");
    assert_eq!(aside.len(), removed.len());
    store.bring_back(0, 1).expect("it is aside");
    store.sync().expect("the disk is well");
    drop(store);
    disk
}

fn meta(kind: Kind, size: u64) -> Meta {
    Meta {
        kind,
        size,
        mode: 0o640,
        owner: Owner { id: 1000, name: "anna".into() },
        group: Owner::default(),
        mtime: FileTime { secs: 1_763_600_000, nanos: 5 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}
