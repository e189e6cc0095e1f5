//! One page of 4 KiB in a large file.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

use anyhow::{Result, bail};
use rand::RngCore;

use keepshare_support::{Scratch, tree};

use crate::{
    peer::{IN_PLACE, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, wait},
};

/// How often a page is changed; the median counts.
const ROUNDS: u64 = 5;

/// In a file of which all is read: its file system shares no blocks.
pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("page")?;
    let source = scratch.make_dir("source")?;
    measure_in("page", place, &scratch, &source, report)
}

/// In a file on XFS, where what was written is known.
pub(crate) fn measure_known(place: &Place, report: &mut Report) -> Result<()> {
    let mut scratch = place.scratch("page-xfs")?;
    // An eighth stays free: shadows end where the disk gets short.
    let bytes = (place.scaled(2 << 30) * 2).max(1 << 30);
    let Some(source) = scratch.mount_image("source", "xfs", bytes)? else {
        bail!("only root with mkfs.xfs (xfsprogs) can make a file system to measure on");
    };
    measure_in("page-xfs", place, &scratch, &source, report)
}

fn measure_in(
    work: &'static str,
    place: &Place,
    scratch: &Scratch,
    source: &Path,
    report: &mut Report,
) -> Result<()> {
    let size = place.scaled(2 << 30).next_multiple_of(4096);
    tree::write_random(&source.join("large"), size, 1)?;
    let (mut seen, mut cpu, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    let rig = Rig::mirrored(scratch, source)?;
    let live = rig.live()?.join("large");
    for round in 0..ROUNDS {
        let before = rig.meter()?;
        let started = Instant::now();
        let (offset, page) = change(&source.join("large"), size, round)?;
        wait("a page shows", || shows(&live, offset, &page))?;
        seen.push(started.elapsed().as_secs_f64());
        rig.wait_quiet()?;
        let used = rig.since(before)?;
        cpu.push(used.cpu_seconds);
        wire.push(used.wire_bytes as f64);
    }
    rig.check()?;
    drop(rig);
    let (mut their_seen, mut their_cpu, mut their_wire) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(rsync) = Rsync::start(scratch)? {
        rsync.pass(source, IN_PLACE)?;
        for round in 0..ROUNDS {
            change(&source.join("large"), size, ROUNDS + round)?;
            let used = rsync.pass(source, IN_PLACE)?;
            their_seen.push(used.seconds);
            their_cpu.push(used.cpu_seconds);
            their_wire.push(used.wire_bytes as f64);
        }
        crate::rig::check_copy(source, rsync.copy())?;
    }
    let rows = [
        ("one page visible", Unit::Seconds, seen, their_seen),
        ("one page, CPU both sides", Unit::Seconds, cpu, their_cpu),
        ("one page on the wire", Unit::Bytes, wire, their_wire),
    ];
    for (measure, unit, ours, theirs) in rows {
        let ours = median(ours).unwrap_or(f64::NAN);
        report.row(Row { work, measure, unit, ours, peer: median(theirs) })?;
    }
    Ok(())
}

/// Changes one page and returns where, and what it is now.
fn change(path: &Path, size: u64, round: u64) -> Result<(u64, Vec<u8>)> {
    let mut page = vec![0; 4096];
    rand::rng().fill_bytes(&mut page);
    let offset = size / 4096 * (2 * round + 1) / (4 * ROUNDS) * 4096;
    OpenOptions::new().write(true).open(path)?.write_all_at(&page, offset)?;
    Ok((offset, page))
}

fn shows(path: &Path, offset: u64, page: &[u8]) -> bool {
    let mut found = vec![0; page.len()];
    File::open(path).and_then(|file| file.read_exact_at(&mut found, offset)).is_ok()
        && found == page
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}
