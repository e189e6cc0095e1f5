//! Two thousand edits a second: how far behind the replica is, and what keeping up costs.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_support::{tree, tree::TreeSpec};

use crate::{
    peer::{PLAIN, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, check_copy, wait},
};

/// How many edits a second.
const RATE: u64 = 2000;

/// How many edits are made before the clock is looked at.
const BURST: u64 = 20;

/// What became of the edits.
#[derive(Debug)]
struct Edits {
    /// When the last one was made.
    ended: Instant,
    /// When the oldest one that the target did not show at the end was made.
    oldest_missing: Option<Instant>,
    /// Which mark each edited file carries last.
    last: HashMap<usize, u64>,
}

/// What following the edits took.
#[derive(Clone, Copy, Debug, Default)]
struct Followed {
    lag_seconds: f64,
    converge_seconds: f64,
    cpu_seconds: f64,
    wire_bytes: u64,
}

/// What a measure is called, what it counts, and where it is found.
type Measure = (&'static str, Unit, fn(Followed) -> f64);

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("churn")?;
    let source = scratch.join("source");
    let count = place.files(20_000).max(200);
    tree::grow(&source, TreeSpec { files: count, odd: false, seed: 1 })?;
    let files = paths(count);
    let edits = RATE * if place.scale >= 1.0 { 20 } else { 5 };
    let rsync = match Rsync::start(&scratch)? {
        Some(rsync) => Some(follow_by_rsync(&rsync, &source, &files, edits)?),
        None => None,
    };
    let ours = follow_by_us(&Rig::mirrored(&scratch, &source)?, &source, &files, edits)?;
    let rows: [Measure; 4] = [
        ("lag after the last edit", Unit::Seconds, |f| f.lag_seconds),
        ("all edits visible after", Unit::Seconds, |f| f.converge_seconds),
        ("CPU both sides", Unit::Seconds, |f| f.cpu_seconds),
        ("on the wire", Unit::Bytes, |f| f.wire_bytes as f64),
    ];
    for (measure, unit, value) in rows {
        report.row(Row {
            work: "churn",
            measure,
            unit,
            ours: value(ours),
            peer: rsync.map(value),
        })?;
    }
    Ok(())
}

fn follow_by_us(rig: &Rig, source: &Path, files: &[PathBuf], count: u64) -> Result<Followed> {
    let live = rig.live()?;
    let before = rig.meter()?;
    let edits = edit(source, &live, files, count)?;
    wait("all edits show", || missing(&live, files, &edits.last).is_none())?;
    let converge_seconds = edits.ended.elapsed().as_secs_f64();
    rig.wait_quiet()?;
    let used = rig.since(before)?;
    rig.check()?;
    Ok(Followed {
        lag_seconds: edits.lag_seconds(),
        converge_seconds,
        cpu_seconds: used.cpu_seconds,
        wire_bytes: used.wire_bytes,
    })
}

/// Runs rsync in a loop beside the edits, as people do who have nothing else.
fn follow_by_rsync(
    rsync: &Rsync,
    source: &Path,
    files: &[PathBuf],
    count: u64,
) -> Result<Followed> {
    rsync.pass(source, PLAIN)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let looping = scope.spawn(|| -> Result<Followed> {
            let mut followed = Followed::default();
            loop {
                let last = ended.load(Ordering::SeqCst);
                let used = rsync.pass(source, PLAIN)?;
                followed.cpu_seconds += used.cpu_seconds;
                followed.wire_bytes += used.wire_bytes;
                if last {
                    return Ok(followed);
                }
            }
        });
        let edits = edit(source, rsync.copy(), files, count);
        ended.store(true, Ordering::SeqCst);
        let followed = looping.join().expect("the loop returns its errors")?;
        let edits = edits?;
        let converge_seconds = edits.ended.elapsed().as_secs_f64();
        check_copy(source, rsync.copy())?;
        Ok(Followed { lag_seconds: edits.lag_seconds(), converge_seconds, ..followed })
    })
}

/// Marks files at the rate and looks what the target shows right after the last mark.
fn edit(source: &Path, target: &Path, files: &[PathBuf], count: u64) -> Result<Edits> {
    let mut random = StdRng::seed_from_u64(5);
    let mut last = HashMap::new();
    let mut made = Vec::new();
    let started = Instant::now();
    for number in 0..count {
        if number % BURST == 0 {
            made.push(Instant::now());
            let due = started + Duration::from_micros(number * 1_000_000 / RATE);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let index = random.random_range(0..files.len());
        let file = OpenOptions::new().write(true).open(source.join(&files[index]))?;
        file.write_all_at(&mark(number), 0)?;
        last.insert(index, number);
    }
    let ended = Instant::now();
    let oldest = missing(target, files, &last);
    let made_at = |number: u64| usize::try_from(number / BURST).ok().and_then(|i| made.get(i));
    Ok(Edits { ended, oldest_missing: oldest.and_then(made_at).copied(), last })
}

/// Returns the oldest mark that the target does not show.
fn missing(target: &Path, files: &[PathBuf], last: &HashMap<usize, u64>) -> Option<u64> {
    let shown = |index: usize, number: u64| {
        let mut found = [0; 16];
        let file = File::open(target.join(&files[index]));
        file.and_then(|file| file.read_exact_at(&mut found, 0)).is_ok() && found == mark(number)
    };
    last.iter().filter(|(index, number)| !shown(**index, **number)).map(|(_, number)| *number).min()
}

fn mark(number: u64) -> [u8; 16] {
    let mut mark = *b"................";
    mark[..8].copy_from_slice(&number.to_le_bytes());
    mark
}

fn paths(count: usize) -> Vec<PathBuf> {
    (0..count)
        .map(|index| {
            let half = if index < count / 2 { "a" } else { "b" };
            PathBuf::from(format!("{half}/d{:03}/f{index:05}", index / 100))
        })
        .collect()
}

impl Edits {
    fn lag_seconds(&self) -> f64 {
        self.oldest_missing.map_or(0.0, |made| (self.ended - made).as_secs_f64())
    }
}
