use std::sync::Arc;

use keepshare_base::{ContentHash, Event, FileTime, Meta, OriginId, Owner};
use keepshare_decide::{Signature, Told};
use redb::Database;

use super::*;
use crate::source::ledger::{FORMAT, Ledger, Snapshot};

fn database() -> Database {
    let backend = redb::backends::InMemoryBackend::new();
    Database::builder().create_with_backend(backend).unwrap()
}

fn file(counter: u64) -> FileId {
    FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn meta(kind: Kind) -> Meta {
    Meta {
        kind,
        size: 3,
        mode: 0o640,
        owner: Owner { id: 7, name: "anna".into() },
        group: Owner::default(),
        mtime: FileTime { secs: 1, nanos: 2 },
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    }
}

/// A record with all that there can be.
fn full_record(number: u64) -> FileRecord {
    let place = CutPlace { epoch: Epoch::FIRST, seq: Seq(4), stamp: Stamp(5) };
    let told =
        Told { event: Event::Saved, user: Some("anna".into()), fuzzy: true, cut: Some(place) };
    FileRecord {
        inode: Inode { number, birth: FileTime { secs: -4, nanos: 999_999_999 } },
        signature: Signature {
            size: 9,
            mtime: FileTime { secs: 1, nanos: 2 },
            ctime: FileTime { secs: i64::MAX, nanos: 0 },
        },
        meta: meta(Kind::File),
        hash: Some(ContentHash([7; 32])),
        blocks: true,
        forgotten: true,
        uncut: Some(Stamp(8)),
        told: Some(told),
    }
}

/// Every record reads as it was written, whatever its times are.
#[test]
fn records_read_back() {
    let full = full_record(1);
    let plain = FileRecord::new(Inode::default(), Signature::default(), meta(Kind::Dir));
    let early = FileTime { secs: i64::MIN, nanos: 1 };
    let signature = Signature { size: u64::MAX, mtime: early, ctime: FileTime::default() };
    let like = Meta { group: full.meta.owner.clone(), mtime: early, ..full.meta.clone() };
    for known in [
        FileRecord { signature, ..full.clone() },
        FileRecord { meta: like, forgotten: false, ..full.clone() },
        FileRecord { hash: None, told: None, ..full.clone() },
        FileRecord { blocks: false, uncut: None, ..full.clone() },
        full,
        plain,
    ] {
        assert_eq!(read_record(&rows::record(&known)).ok(), Some(known));
    }
    assert!(read_record(&[]).is_err());
}

/// A row that grows by its hash would leave its page and the next half empty.
#[test]
fn a_record_does_not_grow_by_its_hash() {
    let known = full_record(1);
    let unread = FileRecord { hash: None, ..known.clone() };
    assert_eq!(rows::record(&unread).len(), rows::record(&known).len());
}

/// What a turn put is what it reads, before and after it is in the tables.
#[test]
fn a_transaction_reads_what_it_put() {
    let database = database();
    let tx = database.begin_write().unwrap();
    let mut map = MapTx::open(&tx).unwrap();
    let names = ["a", "b", "c", "d"];
    for (counter, text) in (1..).zip(names) {
        map.set_name(FileId::ROOT, &name(text), Some((file(counter), Kind::File))).unwrap();
    }
    map.write().unwrap();
    map.set_name(FileId::ROOT, &name("b"), None).unwrap();
    map.set_name(FileId::ROOT, &name("d"), Some((file(300), Kind::Dir))).unwrap();
    map.set_name(FileId::ROOT, &name("e"), Some((file(1), Kind::File))).unwrap();
    map.set_region(file(1), 7, Some(b"hashes")).unwrap();
    for written in [false, true] {
        let listed = map.list(FileId::ROOT, None, 9).unwrap();
        let listed: Vec<_> = listed.iter().map(|e| (e.name.as_bytes(), e.file.counter)).collect();
        let all: [(&[u8], u64); 4] = [(b"a", 1), (b"c", 3), (b"d", 300), (b"e", 1)];
        assert_eq!(listed, all, "written: {written}");
        let after = map.list(FileId::ROOT, Some(&name("a")), 2).unwrap();
        assert!(after.iter().map(|e| e.name.clone()).eq([name("c"), name("d")]));
        let links = [(FileId::ROOT, name("a")), (FileId::ROOT, name("e"))];
        assert_eq!(map.links(file(1), 9).unwrap(), links);
        assert_eq!(map.links(file(4), 9).unwrap(), [], "another one has its name");
        assert_eq!(map.lookup(FileId::ROOT, &name("b")).unwrap(), None);
        assert_eq!(map.region_from(file(1), 0).unwrap(), Some(7));
        map.write().unwrap();
    }
    map.clear_blocks(file(1), 8).unwrap();
    assert!(map.region(file(1), 7).unwrap().is_some());
    map.set_region(file(1), 8, Some(b"more")).unwrap();
    map.clear_blocks(file(1), 0).unwrap();
    assert_eq!(map.region_from(file(1), 0).unwrap(), None);
}

/// A journal of a former release goes on where it was.
#[test]
fn a_journal_of_format_2_is_taken_over() {
    const OLD: [TableDefinition<'_, Bytes, Bytes>; 3] = [
        TableDefinition::new("names"),
        TableDefinition::new("files"),
        TableDefinition::new("blocks"),
    ];
    const OLD_LINKS: TableDefinition<'_, Bytes, ()> = TableDefinition::new("links");
    const OLD_INODES: TableDefinition<'_, u64, Bytes> = TableDefinition::new("inodes");
    const STATE: TableDefinition<'_, &str, Bytes> = TableDefinition::new("state");
    let database = Arc::new(database());
    let tx = database.begin_write().unwrap();
    {
        let [mut names, mut files, mut blocks] = OLD.map(|table| tx.open_table(table).unwrap());
        let mut links = tx.open_table(OLD_LINKS).unwrap();
        let mut inodes = tx.open_table(OLD_INODES).unwrap();
        for counter in 1..=300_u64 {
            let (id, root) = (file(counter).to_bytes(), FileId::ROOT.to_bytes());
            let name = format!("name{counter}");
            let key = [&root[..], name.as_bytes()].concat();
            names.insert(key.as_slice(), [&id[..], &[0]].concat().as_slice()).unwrap();
            links.insert([&id[..], &key].concat().as_slice(), ()).unwrap();
            let record = encode(&full_record(counter));
            // Format 1 lacks the last field.
            let last = if counter == 300 { encode(&full_record(300).told).len() } else { 0 };
            files.insert(id.as_slice(), &record[..record.len() - last]).unwrap();
            inodes.insert(counter, id.as_slice()).unwrap();
            let region = [&id[..], &5_u32.to_be_bytes()].concat();
            blocks.insert(region.as_slice(), counter.to_string().as_bytes()).unwrap();
        }
        let state =
            State { format: 2, origin: 1, epoch: 1, head: 9, scanned: true, ..State::default() };
        tx.open_table(STATE).unwrap().insert("now", encode(&state).as_slice()).unwrap();
    }
    tx.commit().unwrap();
    for _ in 0..2 {
        let ledger = Ledger::open(database.clone().into(), OriginId(1)).unwrap();
        let state = ledger.state();
        assert_eq!((state.format, state.head, state.scanned), (FORMAT, 9, true));
        let map = Snapshot::open(&ledger.database()).unwrap().map;
        assert_eq!(map.file_count().unwrap(), 300);
        for counter in 1..=300 {
            let (id, name) = (file(counter), name(&format!("name{counter}")));
            assert_eq!(map.lookup(FileId::ROOT, &name).unwrap(), Some((id, Kind::File)));
            assert_eq!(map.links(id, 9).unwrap(), [(FileId::ROOT, name)]);
            assert_eq!(map.by_number(counter).unwrap(), Some(id));
            let told = full_record(counter).told.filter(|_| counter < 300);
            assert_eq!(map.record(id).unwrap(), Some(FileRecord { told, ..full_record(counter) }));
            let region = map.blocks.value(&region_key(id, 5)).unwrap();
            assert_eq!(region, Some(counter.to_string().into_bytes()));
        }
    }
    let tx = redb::ReadableDatabase::begin_read(&*database).unwrap();
    assert!(OLD.iter().all(|table| tx.open_table(*table).is_err()), "nothing is kept twice");
}

/// Changes of journals of format 1 are still sent, and its state is read.
#[test]
fn rows_of_format_1_are_read() {
    let change = Change { stamp: Stamp(5), user: Some("anna".into()), ..Change::default() };
    // A field that is not there is one byte that is not there.
    let bytes = encode(&change);
    assert_eq!(decode_grown(&bytes[..bytes.len() - 1], "a change").ok(), Some(change));
    let database = database();
    let tx = database.begin_write().unwrap();
    let mut map = MapTx::open(&tx).unwrap();
    let row = [&[0; 32][..], &bytes[..bytes.len() - 1]].concat();
    map.journal.insert(1, row.as_slice()).unwrap();
    let sizes = map.sizes(Seq(1), 9).unwrap();
    assert_eq!((sizes[0].stamp, sizes[0].bytes), (Stamp(5), row.len() as u64));
    let state = State { epoch: 3, head: 9, ..State::default() };
    let bytes = encode(&state);
    assert_eq!(decode_grown(&bytes[..bytes.len() - 1], "the state").ok(), Some(state));
    assert!(decode_grown::<State>(&bytes[..4], "the state").is_err());
}

/// Numbers give the order of changes; the time of each is what the clock said, also where that was set back.
#[test]
fn a_change_keeps_the_time_that_its_clock_told() {
    let mut ledger = Ledger::open(database().into(), OriginId(1)).unwrap();
    let stamps = [1_000_000_000, 9].map(Stamp);
    for stamp in stamps {
        ledger.write(|tx| tx.append(&Change { stamp, ..Change::default() })).unwrap();
    }
    let snapshot = Snapshot::open(&ledger.database()).unwrap();
    let kept = snapshot.map.sizes(Seq(1), 9).unwrap();
    assert!(kept.iter().map(|change| change.stamp).eq(stamps), "{kept:?}");
    assert_eq!(snapshot.state.stamp, stamps[1], "nor does it go on from a later one");
}
