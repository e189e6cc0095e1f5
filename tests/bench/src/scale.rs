//! Very many tiny files: the first mirror, and what each file takes in memory and on disks beside its content.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use keepshare_support::cluster::SET;

use crate::{
    peer::{PLAIN, Rsync},
    report::{Report, Row, Unit},
    rig::{Place, Rig, check_copy, wait},
};

/// How often memory is looked at while the mirror runs.
const LOOK: Duration = Duration::from_millis(100);

/// So many files are in one folder.
const FOLDER_FILES: usize = 1000;

pub(crate) fn measure(place: &Place, report: &mut Report) -> Result<()> {
    let scratch = place.scratch("scale")?;
    let source = scratch.join("source");
    let files = place.files(50_000);
    grow(&source, files)?;
    let rsync = match Rsync::start(&scratch)? {
        Some(rsync) => {
            let used = rsync.pass(&source, PLAIN)?;
            check_copy(&source, rsync.copy())?;
            fs::remove_dir_all(rsync.copy())?;
            Some(used)
        }
        None => None,
    };
    let mut rig = Rig::new(&scratch, &source)?;
    let before = rig.meter()?;
    rig.cluster.add_set()?;
    let mut resident_bytes = 0;
    wait("in sync", || {
        thread::sleep(LOOK);
        let now = [&rig.cluster.office, &rig.cluster.store].map(|station| station.usage());
        let now = now.into_iter().flatten().map(|usage| usage.resident_bytes).sum::<u64>();
        resident_bytes = resident_bytes.max(now);
        rig.cluster.destination().is_ok_and(|status| status["state"] == "in-sync")
    })?;
    let used = rig.since(before)?;
    rig.wait_quiet()?;
    let cpu_seconds = rig.since(before)?.cpu_seconds;
    rig.check()?;
    let journal = bytes_of(&rig.cluster.office.state().join("journal"))?;
    let set = rig.cluster.store.state().join("sets").join(SET);
    let index = bytes_of(&set.join("index.redb"))? + bytes_of(&set.join("log"))?;
    rig.cluster.office.stop()?;
    rig.cluster.store.stop()?;
    let started = Instant::now();
    rig.cluster.store.start()?;
    rig.cluster.office.start()?;
    rig.wait_in_sync()?;
    let restart_seconds = started.elapsed().as_secs_f64();

    let mut row =
        |measure, unit, ours, peer| report.row(Row { work: "scale", measure, unit, ours, peer });
    let each = |bytes: u64| bytes as f64 / files as f64;
    row("first mirror", Unit::Seconds, used.seconds, rsync.map(|used| used.seconds))?;
    let peer = rsync.map(|used| used.cpu_seconds);
    row("first mirror, CPU both sides", Unit::Seconds, cpu_seconds, peer)?;
    row("memory at most, both sides", Unit::Bytes, resident_bytes as f64, None)?;
    row("a file in the master's journal", Unit::Bytes, each(journal), None)?;
    row("a file in a replica's index and log", Unit::Bytes, each(index), None)?;
    row("both start again, until in sync", Unit::Seconds, restart_seconds, None)
}

/// Makes files of a few hundred bytes.
fn grow(root: &Path, files: usize) -> Result<()> {
    for number in 0..files {
        let folder = root.join(format!("d{:04}", number / FOLDER_FILES));
        if number.is_multiple_of(FOLDER_FILES) {
            fs::create_dir_all(&folder)?;
        }
        let text = format!("file {number}\n").repeat(1 + number % 40);
        fs::write(folder.join(format!("file-{number:07}.txt")), text)?;
    }
    Ok(())
}

/// Returns what a file, or the files in a folder, are long.
fn bytes_of(path: &Path) -> Result<u64> {
    let meta = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    fs::read_dir(path)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
