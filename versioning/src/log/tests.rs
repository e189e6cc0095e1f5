//! What a log promises under truncation, flipped bits, crashes, a full disk and failing syncs.

use super::{
    frame::{FileHeader, FrameHeader},
    *,
};
use crate::disk::sim::{Crash, Dice, SimDisk};

const FILE: &str = "log/0000000001";

/// A log on a disk in memory, with what was appended to it.
struct Bench {
    disk: SimDisk,
    log: Log,
    bodies: Vec<Vec<u8>>,
}

impl Bench {
    fn new() -> Self {
        let disk = SimDisk::new();
        let log = Log::create(Arc::new(disk.clone())).unwrap();
        Self { disk, log, bodies: vec![] }
    }

    fn append(&mut self, body: &[u8]) {
        self.bodies.push(body.to_vec());
        self.log.append(CommitId(self.bodies.len() as u64), body).unwrap();
    }

    /// Three groups: two records, one with a body of no length, one; each durable before the next.
    fn filled() -> Self {
        let mut bench = Self::new();
        bench.append(b"first");
        bench.append(&[7; 40]);
        bench.log.sync().unwrap();
        bench.append(b"");
        bench.log.sync().unwrap();
        bench.append(b"the last one");
        bench.log.sync().unwrap();
        bench
    }
}

fn open(disk: &SimDisk, known: Option<LogPosition>) -> Result<(Log, Recovery), LogError> {
    Log::open(Arc::new(disk.clone()), known)
}

/// Returns the bodies of everything in the log, snapshot first.
fn bodies(log: &Log) -> Result<Vec<Vec<u8>>, LogError> {
    let start = LogPosition { generation: log.generation, ..LogPosition::EMPTY };
    log.replay(start).map(|entry| entry.map(|entry| entry.body)).collect()
}

/// Returns where each frame begins and ends, and what it says is durable.
fn frames(disk: &SimDisk, file: &str) -> Vec<(u64, u64, CommitId)> {
    let content = disk.content(file);
    let id = FileHeader::from_bytes(content.first_chunk().unwrap()).unwrap().id;
    let mut frames = vec![];
    let mut at = FileHeader::BYTES;
    while at < content.len() {
        let header = FrameHeader::from_bytes(id, at as u64, &content[at..]).unwrap();
        let end = at + header.frame_len();
        frames.push((at as u64, end as u64, header.durable));
        at = end;
    }
    frames
}

#[test]
fn what_was_appended_is_replayed_from_every_place() {
    let bench = Bench::filled();
    let entries: Vec<_> =
        bench.log.replay(LogPosition::EMPTY).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(entries.iter().map(|e| e.body.clone()).collect::<Vec<_>>(), bench.bodies);
    for (i, entry) in entries.iter().enumerate() {
        assert_eq!(entry.commit, CommitId(i as u64 + 1));
        let rest: Vec<_> = bench.log.replay(entry.position).map(|e| e.unwrap().body).collect();
        assert_eq!(rest, bench.bodies[i + 1..]);
        let (_, recovery) = open(&bench.disk, Some(entry.position)).unwrap();
        assert_eq!(recovery.known, Some(entry.position));
    }
    assert_eq!(entries.last().unwrap().position, bench.log.position());
}

#[test]
fn there_is_one_log() {
    assert!(matches!(open(&SimDisk::new(), None), Err(LogError::Missing)));
    let bench = Bench::new();
    let again = Log::create(Arc::new(bench.disk.clone()));
    assert!(matches!(again, Err(LogError::Exists)));
}

/// A crash in the middle of a write must cost what was not acknowledged, and nothing else.
#[test]
fn a_last_record_cut_anywhere_is_a_torn_tail() {
    let bench = Bench::filled();
    let (start, end, _) = *frames(&bench.disk, FILE).last().unwrap();
    for len in start..end {
        let disk = bench.disk.reopen(Crash::KeepAll);
        disk.truncate(FILE, len);
        let (log, recovery) = open(&disk, None).unwrap();
        assert_eq!(bodies(&log).unwrap(), bench.bodies[..3], "cut at {len}");
        assert_eq!(recovery.torn_bytes, len - start);
        assert_eq!(disk.content(FILE).len() as u64, start, "the tail is gone");
    }
}

/// The index is synced only after the log, so what it remembers was durable.
#[test]
fn a_last_record_that_the_index_remembers_is_never_cut() {
    let bench = Bench::filled();
    let (start, end, _) = *frames(&bench.disk, FILE).last().unwrap();
    for len in start..end {
        let disk = bench.disk.reopen(Crash::KeepAll);
        disk.truncate(FILE, len);
        let error = open(&disk, Some(bench.log.position())).unwrap_err();
        let LogError::Damaged { commit, offset } = error else { panic!("{error} at {len}") };
        assert_eq!((commit, offset), (CommitId(4), start));
        assert_eq!(disk.content(FILE).len() as u64, len, "nothing was cut");
    }
}

/// Flips every bit there is. Whatever is left must be a beginning of what was written, and no shorter than what an
/// unhurt frame, or the index, knows to be durable.
#[test]
fn no_flipped_bit_gives_a_wrong_record_or_cuts_a_durable_one() {
    for (mark, index_knows) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut bench = Bench::filled();
        if mark {
            bench.log.mark();
            bench.log.write().unwrap();
        }
        let known = index_knows.then(|| bench.log.position());
        let frames = frames(&bench.disk, FILE);
        for bit in 0..bench.disk.content(FILE).len() as u64 * 8 {
            let disk = bench.disk.reopen(Crash::KeepAll);
            let at = bit / 8;
            disk.flip(FILE, at, (bit % 8) as u8);
            let unhurt = frames.iter().filter(|(start, end, _)| !(*start..*end).contains(&at));
            let told = unhurt.map(|(_, _, durable)| durable.0).max().unwrap();
            let durable = if index_knows { bench.bodies.len() as u64 } else { told };
            match open(&disk, known) {
                Ok((log, recovery)) => {
                    let left = bodies(&log).unwrap();
                    assert_eq!(left, bench.bodies[..left.len()], "bit {bit}");
                    assert!(left.len() as u64 >= durable, "bit {bit}: cut to {}", left.len());
                    assert!(at >= FileHeader::BYTES as u64, "bit {bit} of the header not noticed");
                    assert_eq!(recovery.known.is_some(), index_knows);
                }
                Err(LogError::Damaged { .. }) => {
                    assert_eq!(disk.content(FILE).len(), bench.disk.content(FILE).len());
                }
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
    }
}

/// A mark holds nothing, so losing one between two records that follow each other loses nothing.
#[test]
fn a_damaged_mark_costs_nothing() {
    let mut bench = Bench::new();
    bench.append(b"one");
    bench.log.sync().unwrap();
    bench.log.mark();
    bench.append(b"two");
    bench.log.sync().unwrap();
    bench.log.mark();
    bench.log.write().unwrap();
    let (start, _, _) = frames(&bench.disk, FILE)[1];
    bench.disk.patch(FILE, start, &[0xff; 32]);
    let (log, recovery) = open(&bench.disk, None).unwrap();
    assert_eq!((recovery.damaged_marks, recovery.torn_bytes), (1, 0));
    assert_eq!(bodies(&log).unwrap(), bench.bodies);
}

/// A whole record may vanish when a file system loses a block; the ones behind it must not close the ranks.
#[test]
fn a_missing_record_in_the_middle_is_damage() {
    let bench = Bench::filled();
    let (start, end, _) = frames(&bench.disk, FILE)[1];
    bench.disk.patch(FILE, start, &vec![0; usize::try_from(end - start).unwrap()]);
    let error = open(&bench.disk, None).unwrap_err();
    assert!(matches!(error, LogError::Damaged { commit: CommitId(2), .. }), "{error}");
}

/// A user can write anything into a file, and small files stand in records. What looks like a frame there must not
/// decide whether a tail is torn.
#[test]
fn a_frame_planted_in_a_body_is_not_believed() {
    let bench = Bench::filled();
    let content = bench.disk.content(FILE);
    let (start, end, _) = *frames(&bench.disk, FILE).last().unwrap();
    let real_frame =
        content[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].to_vec();
    let mut bench = Bench::filled();
    bench.append(&real_frame);
    bench.log.write().unwrap();
    let (start, _, _) = *frames(&bench.disk, FILE).last().unwrap();
    bench.disk.flip(FILE, start, 0);
    let (log, recovery) = open(&bench.disk, None).unwrap();
    assert!(recovery.torn_bytes > 0);
    assert_eq!(bodies(&log).unwrap(), bench.bodies[..4]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let bench = Bench::filled();
    let mut header = *bench.disk.content(FILE).first_chunk::<{ FileHeader::BYTES }>().unwrap();
    header[8] = 2;
    header[12..16].fill(0);
    let crc = crc32c::crc32c(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    bench.disk.patch(FILE, 0, &header);
    let error = open(&bench.disk, None).unwrap_err();
    assert!(matches!(error, LogError::NewerFormat { found: 2, known: 1 }), "{error}");
}

/// An index that was restored from elsewhere must not be taken for this log's.
#[test]
fn an_index_of_another_log_is_not_recognised() {
    let (one, mut other) = (Bench::filled(), Bench::new());
    other.append(b"different");
    other.log.sync().unwrap();
    let (_, recovery) = open(&one.disk, Some(other.log.position())).unwrap();
    assert_eq!(recovery.known, None);
    let error = open(&other.disk, Some(one.log.position())).unwrap_err();
    assert!(matches!(error, LogError::Damaged { commit: CommitId(2), .. }), "{error}");
}

/// The place of the index survives a rewrite as long as the records behind it are there.
#[test]
fn a_rewrite_keeps_what_came_since_and_the_places_in_it() {
    let mut bench = Bench::filled();
    let before = bench.log.replay(LogPosition::EMPTY).nth(2).unwrap().unwrap().position;
    let mut rewriter = bench.log.rewrite().unwrap();
    let of = rewriter.of();
    rewriter.append(b"all of it").unwrap();
    bench.append(b"came since");
    let since = bench.log.position();
    bench.append(b"and this");
    bench.log.switch(rewriter).unwrap();
    bench.append(b"after");
    bench.log.sync().unwrap();
    assert_eq!(crate::disk::Disk::list(&bench.disk, "log").unwrap(), ["0000000002"]);
    let (log, recovery) = open(&bench.disk, Some(since)).unwrap();
    let texts = ["all of it", "came since", "and this", "after"].map(|t| t.as_bytes().to_vec());
    assert_eq!(bodies(&log).unwrap(), texts);
    assert_eq!(recovery.end, bench.log.position());
    let here = recovery.known.unwrap();
    assert_eq!((here.generation, here.commit, here.running), (2, since.commit, since.running));
    assert_eq!(log.replay(here).count(), 2);
    let (log, recovery) = open(&bench.disk, Some(of)).unwrap();
    assert_eq!(log.replay(recovery.known.unwrap()).count(), 3);
    let (_, recovery) = open(&bench.disk, Some(before)).unwrap();
    assert_eq!(recovery.known, None, "in front of the snapshot");
}

/// In a snapshot everything was durable, so nothing of it can be torn.
#[test]
fn no_flipped_bit_of_a_snapshot_passes() {
    let mut bench = Bench::filled();
    let mut rewriter = bench.log.rewrite().unwrap();
    ["part one", "part two"].iter().for_each(|part| rewriter.append(part.as_bytes()).unwrap());
    bench.append(b"since");
    bench.log.switch(rewriter).unwrap();
    let file = "log/0000000002";
    let whole = bodies(&bench.log).unwrap();
    let mark = frames(&bench.disk, file).last().unwrap().0;
    for bit in 0..bench.disk.content(file).len() as u64 * 8 {
        let disk = bench.disk.reopen(Crash::KeepAll);
        disk.flip(file, bit / 8, (bit % 8) as u8);
        match open(&disk, None) {
            Ok((log, _)) => assert!(bit / 8 >= mark && bodies(&log).unwrap() == whole, "bit {bit}"),
            Err(error) => assert!(matches!(error, LogError::Damaged { .. }), "bit {bit}: {error}"),
        }
    }
    for len in 0..bench.log.snapshot_bytes() {
        let disk = bench.disk.reopen(Crash::KeepAll);
        disk.truncate(file, len);
        let error = open(&disk, None).unwrap_err();
        assert!(matches!(error, LogError::Damaged { .. }), "cut at {len}: {error}");
    }
}

/// What a run of appends, syncs, marks and rewrites acknowledged, until the disk died.
#[derive(Default)]
struct Run {
    bodies: Vec<Vec<u8>>,
    acked: usize,
}

impl Run {
    /// Goes on with what is in the log until the seed's steps are done or the disk dies.
    fn work(&mut self, log: &mut Log, dice: &mut Dice, steps: usize) -> Result<(), LogError> {
        let mut rewriter: Option<LogRewriter> = None;
        for _ in 0..steps {
            match dice.below(10) {
                0..5 => {
                    let mut body = format!("body {} ", self.bodies.len()).into_bytes();
                    body.resize(body.len() + dice.below(1200), b'x');
                    log.append(CommitId(self.bodies.len() as u64 + 1), &body)?;
                    self.bodies.push(body);
                }
                5 => log.write()?,
                6 => log.mark(),
                7 | 8 => {
                    log.sync()?;
                    self.acked = self.bodies.len();
                }
                _ => match rewriter.take() {
                    Some(rewriter) => {
                        log.switch(rewriter)?;
                        self.acked = self.bodies.len();
                    }
                    None => {
                        let mut next = log.rewrite()?;
                        self.acked = self.bodies.len();
                        self.bodies.iter().try_for_each(|body| next.append(body))?;
                        rewriter = Some(next);
                    }
                },
            }
        }
        Ok(())
    }

    /// Opens what a crash left, holds it against what was promised, and takes it for the truth from now on.
    fn check(&mut self, disk: &SimDisk, what: &str) -> Log {
        let (log, recovery) = open(disk, None).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        let left = bodies(&log).unwrap();
        assert!(left.len() >= self.acked, "{what}: {} left, {} acked", left.len(), self.acked);
        assert!(left == self.bodies[..left.len()], "{what}: not what was appended");
        assert_eq!(recovery.end.commit, CommitId(left.len() as u64), "{what}");
        self.bodies.truncate(left.len());
        // Opening makes durable what it shows.
        self.acked = left.len();
        log
    }
}

/// Kills the disk at every sync and every write of a run with rewrites, loses or tears what was not synced, opens it,
/// goes on, and does it again.
#[test]
fn what_was_acknowledged_survives_a_crash_anywhere() {
    let seed = seed();
    let total = |mut run: Run| {
        let disk = SimDisk::new();
        let mut log = Log::create(Arc::new(disk.clone())).unwrap();
        run.work(&mut log, &mut Dice(seed), 60).unwrap();
        (disk.syncs(), disk.writes())
    };
    let (syncs, writes) = total(Run::default());
    let crashes = (1..=syncs).map(|n| (n, true)).chain((1..=writes).map(|n| (n, false)));
    for (n, at_sync) in crashes {
        for kind in 0..6 {
            let what = format!("seed {seed}, crash {n} at_sync {at_sync}, kind {kind}");
            let crash = match kind {
                0 => Crash::LoseAll,
                1 => Crash::KeepAll,
                _ => Crash::Tear(seed + n * 100 + kind),
            };
            let disk = SimDisk::new();
            if at_sync {
                disk.crash_at(n);
            } else {
                disk.crash_at_write(n);
            }
            let mut run = Run::default();
            // It succeeds where the disk died at the very end, removing the old log.
            let _ = Log::create(Arc::new(disk.clone()))
                .and_then(|mut log| run.work(&mut log, &mut Dice(seed), 60));
            let disk = disk.reopen(crash);
            if open::newest_generation(&disk).unwrap().is_none() {
                assert_eq!(run.acked, 0, "{what}");
                continue;
            }
            let mut log = run.check(&disk, &what);
            run.work(&mut log, &mut Dice(seed ^ n), 20).unwrap();
            run.check(&disk.reopen(Crash::Tear(n)), &format!("{what}, again"));
        }
    }
}

/// A crash while the crash before is being recovered from must not cost anything either.
#[test]
fn recovery_can_be_interrupted_anywhere() {
    let mut bench = Bench::filled();
    bench.append(&[3; 3000]);
    bench.log.write().unwrap();
    for seed in 0..40 {
        let torn = bench.disk.reopen(Crash::Tear(seed));
        for n in 1.. {
            let disk = torn.reopen(Crash::KeepAll);
            disk.crash_at_write(n);
            let done = open(&disk, None).is_ok();
            let (log, _) = open(&disk.reopen(Crash::Tear(n)), None).unwrap();
            let left = bodies(&log).unwrap();
            assert!(
                left.len() >= 4 && left == bench.bodies[..left.len()],
                "seed {seed}, write {n}"
            );
            if done {
                break;
            }
        }
    }
}

/// Space comes back when something is removed; until then nothing is lost and nothing is acknowledged.
#[test]
fn a_full_disk_keeps_the_buffer_for_another_try() {
    let mut bench = Bench::filled();
    bench.disk.set_capacity(Some(bench.disk.used_bytes() + 50));
    bench.append(&[1; 100]);
    assert!(matches!(bench.log.sync(), Err(LogError::Full(_))));
    assert_eq!(bench.log.durable(), CommitId(4));
    let (log, _) = open(&bench.disk.reopen(Crash::KeepAll), None).unwrap();
    assert_eq!(bodies(&log).unwrap(), bench.bodies[..4], "what fitted is a torn tail");
    bench.disk.set_capacity(None);
    bench.log.sync().unwrap();
    let (log, _) = open(&bench.disk.reopen(Crash::LoseAll), None).unwrap();
    assert_eq!(bodies(&log).unwrap(), bench.bodies);
}

/// After a failed sync the next one succeeds without having written anything. Whoever believed it lost data.
#[test]
fn a_failed_sync_poisons_until_reopened() {
    let mut bench = Bench::filled();
    bench.append(&[1; 2000]);
    bench.disk.fail_sync(bench.disk.syncs() + 1);
    assert!(matches!(bench.log.sync(), Err(LogError::Io(_))));
    assert!(matches!(bench.log.sync(), Err(LogError::Poisoned)));
    assert!(matches!(bench.log.append(CommitId(6), b""), Err(LogError::Poisoned)));
    assert_eq!(bench.log.durable(), CommitId(4));
    // The process starts again on the same kernel, which shows bytes that the disk does not have.
    let (log, _) = open(&bench.disk, None).unwrap();
    assert_eq!(bodies(&log).unwrap(), bench.bodies);
    let (log, _) = open(&bench.disk.reopen(Crash::LoseAll), None).unwrap();
    assert_eq!(bodies(&log).unwrap(), bench.bodies, "opening shows only what it made durable");
}

/// The old log must go on when there is no space for the new one.
#[test]
fn a_rewrite_that_does_not_fit_leaves_the_log_as_it_was() {
    let mut bench = Bench::filled();
    bench.disk.set_capacity(Some(bench.disk.used_bytes() + 500));
    let mut rewriter = bench.log.rewrite().unwrap();
    rewriter.append(&[5; 600]).unwrap();
    assert!(matches!(bench.log.switch(rewriter), Err(LogError::Full(_))));
    bench.disk.set_capacity(None);
    bench.append(b"goes on");
    bench.log.sync().unwrap();
    let (log, _) = open(&bench.disk.reopen(Crash::LoseAll), None).unwrap();
    assert_eq!(bodies(&log).unwrap(), bench.bodies);
}

#[test]
fn a_body_over_the_limit_is_refused_and_the_log_goes_on() {
    let mut bench = Bench::new();
    let long = vec![0; BODY_BYTES_MAX + 1];
    assert!(matches!(bench.log.append(CommitId(1), &long), Err(LogError::TooLong(_))));
    bench.append(&vec![9; 3 * 1024 * 1024]);
    bench.log.sync().unwrap();
    let (log, _) = open(&bench.disk, None).unwrap();
    assert!(bodies(&log).unwrap() == bench.bodies);
}

fn seed() -> u64 {
    let seed = std::env::var("KEEPSHARE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| crate::disk::random_id().unwrap() >> 16);
    println!("KEEPSHARE_TEST_SEED={seed}");
    seed
}
