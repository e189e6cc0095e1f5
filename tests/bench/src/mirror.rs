//! The first mirror: many small files, a large one, and what reaches the disk.

use std::path::Path;

use anyhow::Result;

use keepshare_support::{Snapshot, tree, tree::TreeSpec};

use crate::{
    peer::{PLAIN, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, Used, check_copy},
};

pub(crate) fn measure_small(place: &Place, report: &mut Report) -> Result<()> {
    let grow = |source: &Path| {
        let spec = TreeSpec { files: place.files(20_000), odd: false, seed: 1 };
        tree::grow(source, spec).map(drop)
    };
    let (ours, rsync) = measure_tree(place, "mirror-small", grow)?;
    report_times("mirror-small", report, ours, rsync)
}

pub(crate) fn measure_large(place: &Place, report: &mut Report) -> Result<()> {
    let grow = |source: &Path| {
        std::fs::create_dir_all(source)?;
        tree::write_random(&source.join("large"), place.scaled(2 << 30), 1)
    };
    let (ours, rsync) = measure_tree(place, "mirror-large", grow)?;
    report_times("mirror-large", report, ours, rsync)
}

/// What goes to the disk for what there is: the live tree, and beside it every version.
pub(crate) fn measure_disk(place: &Place, report: &mut Report) -> Result<()> {
    let grow = |source: &Path| {
        let spec = TreeSpec { files: place.files(20_000), odd: false, seed: 1 };
        tree::grow(source, spec)?;
        tree::write_random(&source.join("large"), place.scaled(256 << 20), 2)
    };
    let mut bytes = 0;
    let (ours, rsync) = measure_tree(place, "disk", |source| {
        grow(source)?;
        bytes = Snapshot::bytes_of(source)?;
        Ok(())
    })?;
    let times = |used: Used| used.written_bytes as f64 / bytes as f64;
    report.row(Row {
        work: "disk",
        measure: "written ÷ source bytes",
        unit: Unit::Times,
        ours: times(ours),
        peer: rsync.map(times),
    })?;
    report_times("disk", report, ours, rsync)
}

fn measure_tree(
    place: &Place,
    name: &str,
    grow: impl FnOnce(&Path) -> Result<()>,
) -> Result<(Used, Option<Used>)> {
    let scratch = place.scratch(name)?;
    let source = scratch.join("source");
    grow(&source)?;
    let rsync = match Rsync::start(&scratch)? {
        Some(rsync) => {
            let used = rsync.pass(&source, PLAIN)?;
            check_copy(&source, rsync.copy())?;
            std::fs::remove_dir_all(rsync.copy())?;
            Some(used)
        }
        None => None,
    };
    let rig = Rig::new(&scratch, &source)?;
    let before = rig.meter()?;
    rig.cluster.add_set()?;
    rig.wait_in_sync()?;
    let mut ours = rig.since(before)?;
    // Pages that were written reach the disk a little later; what the index still does belongs to the mirror.
    rig.wait_quiet()?;
    let all = rig.since(before)?;
    ours.written_bytes = all.written_bytes;
    ours.cpu_seconds = all.cpu_seconds;
    rig.check()?;
    Ok((ours, rsync))
}

fn report_times(
    work: &'static str,
    report: &mut Report,
    ours: Used,
    rsync: Option<Used>,
) -> Result<()> {
    report.row(Row {
        work,
        measure: "first mirror",
        unit: Unit::Seconds,
        ours: ours.seconds,
        peer: rsync.map(|used| used.seconds),
    })?;
    report.row(Row {
        work,
        measure: "first mirror, CPU both sides",
        unit: Unit::Seconds,
        ours: ours.cpu_seconds,
        peer: rsync.map(|used| used.cpu_seconds),
    })?;
    report.row(Row {
        work,
        measure: "first mirror on the wire",
        unit: Unit::Bytes,
        ours: ours.wire_bytes as f64,
        peer: rsync.map(|used| used.wire_bytes as f64),
    })
}
