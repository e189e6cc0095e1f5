//! A folder with ten thousand files gets another name.

use std::{fs, time::Instant};

use anyhow::Result;

use keepshare_support::{tree, tree::TreeSpec};

use crate::{
    peer::{PLAIN, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, check_copy, wait},
};

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("rename")?;
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: place.files(20_000), odd: false, seed: 1 })?;
    let rsync = Rsync::start(&scratch)?;
    if let Some(rsync) = &rsync {
        rsync.pass(&source, PLAIN)?;
    }
    let rig = Rig::mirrored(&scratch, &source)?;
    let live = rig.live()?;
    let before = rig.meter()?;
    let started = Instant::now();
    fs::rename(source.join("a"), source.join("renamed"))?;
    wait("the new name shows", || live.join("renamed").exists() && !live.join("a").exists())?;
    let seconds = started.elapsed().as_secs_f64();
    rig.wait_quiet()?;
    let used = rig.since(before)?;
    rig.check()?;
    drop(rig);
    let rsync = match rsync {
        Some(rsync) => {
            let used = rsync.pass(&source, PLAIN)?;
            check_copy(&source, rsync.copy())?;
            Some(used)
        }
        None => None,
    };
    report.row(Row {
        work: "rename",
        measure: "folder of 10k visible",
        unit: Unit::Seconds,
        ours: seconds,
        peer: rsync.map(|used| used.seconds),
    })?;
    report.row(Row {
        work: "rename",
        measure: "folder of 10k on the wire",
        unit: Unit::Bytes,
        ours: used.wire_bytes as f64,
        peer: rsync.map(|used| used.wire_bytes as f64),
    })
}
