//! Log, packs and a checked database on a real folder: the calls of the simulated disk mean the same there.

use std::{path::Path, sync::Arc};

use keepshare_base::CommitId;
use keepshare_versioning::{
    checked::open_checked,
    disk::{Disk, RealDisk},
    log::Log,
    pack::{PackReader, PackWriter},
};
use redb::{ReadableDatabase, TableDefinition};

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("numbers");

fn open(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::open(dir).expect("nobody else has it open"))
}

/// Writes a little, goes away, and finds it again, three times over with a rewritten log in between.
#[test]
fn a_set_is_found_again_as_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::create(open(dir.path())).unwrap());
    let mut locs = vec![];
    for round in 1..=3 {
        let disk = open(dir.path());
        let (mut log, recovery) = Log::open(disk.clone(), None).unwrap();
        assert_eq!((recovery.end.commit, recovery.torn_bytes), (CommitId(round - 1), 0));
        let mut packs = PackWriter::open(disk.clone(), 0).unwrap();
        locs.push((packs.append(format!("content {round}").as_bytes()).unwrap(), round));
        packs.sync().unwrap();
        log.append(CommitId(round), &round.to_le_bytes()).unwrap();
        log.sync().unwrap();
        let mut rewriter = log.rewrite().unwrap();
        rewriter.append(b"everything").unwrap();
        log.switch(rewriter).unwrap();
        assert_eq!(log.replay(recovery.start).count(), 1);
        let db = open_checked(&disk, "index.redb", 1024 * 1024).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(round, round * 10).unwrap();
        write.commit().unwrap();
    }
    let disk = open(dir.path());
    let reader = PackReader::new(disk.clone());
    for (loc, round) in locs {
        assert_eq!(reader.read(loc).unwrap(), format!("content {round}").as_bytes());
    }
    let db = open_checked(&disk, "index.redb", 1024 * 1024).unwrap();
    let table = db.database().begin_read().unwrap().open_table(TABLE).unwrap();
    assert!((1..=3).all(|n| table.get(n).unwrap().unwrap().value() == n * 10));
    let names: Vec<_> = disk.list("").unwrap();
    assert_eq!(names, ["index.redb"], "nothing temporary is left");
}
