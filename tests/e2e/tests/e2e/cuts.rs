//! Bad networks: a station that was cut off catches up by itself, with what it missed and no more.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use keepshare_e2e::{MIRRORED, SOON, contents, cut_time};
use keepshare_support::{
    Aspects, Cluster, Network, Scratch, Wiring, in_scratch, tools,
    tree::{self, TreeSpec},
    wait_until,
};

/// How much is there before the cut, so that a full copy would be seen in the bytes.
const BEFORE_BYTES: u64 = 64 << 20;

/// A pulled plug: no packet gets through and neither side is told.
#[test]
fn a_pulled_plug_costs_what_was_missed_and_no_version() -> Result<()> {
    if let Some(reason) = Network::hindrance() {
        tools::skip("a_pulled_plug_costs_what_was_missed_and_no_version", reason);
        return Ok(());
    }
    in_scratch("unplugged", |scratch| be_cut_off(scratch, Wiring::Namespaces))
}

/// A broken connection: both sides are told, and nobody answers until it heals.
#[test]
fn a_broken_connection_costs_what_was_missed_and_no_version() -> Result<()> {
    in_scratch("broken", |scratch| be_cut_off(scratch, Wiring::Relayed))
}

/// A connection that stays open and swallows everything: only silence tells that the other side is gone.
#[test]
fn silence_is_noticed() -> Result<()> {
    in_scratch("silence", notice_silence)
}

fn notice_silence(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "before")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Relayed)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    if let Some(relay) = &cluster.relay {
        relay.swallow();
        fs::write(source.join("file"), "into the silence")?;
        wait_until(SOON * 2, "the master notices", || {
            cluster.destination().is_ok_and(|status| status["connected"] == false)
        })?;
        relay.heal();
    }
    cluster.equal_within(SOON, Aspects::ours())
}

/// Far away is not cut off: with 100 ms each way everything still arrives, and saves do not wait for one another.
#[test]
fn a_slow_line_is_only_slow() -> Result<()> {
    in_scratch("slow-line", arrive_slowly)
}

fn arrive_slowly(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: 1000, odd: true, seed: 12 })?;
    let cluster = Cluster::new(scratch, &source, Wiring::Relayed)?;
    if let Some(relay) = &cluster.relay {
        relay.set_delay(Duration::from_millis(100));
    }
    cluster.add_set()?;
    cluster.in_sync_within(MIRRORED)?;
    for number in 0..200 {
        fs::write(source.join(format!("new-{number}")), number.to_string())?;
    }
    cluster.equal_within(SOON, Aspects::ours())
}

fn be_cut_off(scratch: &Scratch, wiring: Wiring) -> Result<()> {
    let source = scratch.make_dir("source")?;
    tree::write_random(&source.join("large"), BEFORE_BYTES, 1)?;
    fs::write(source.join("diary"), "day 0")?;
    let cluster = Cluster::new(scratch, &source, wiring)?;
    cluster.add_set()?;
    cluster.in_sync_within(MIRRORED)?;
    set_cut(&cluster, true)?;
    let saves = keep_a_diary(&source)?;
    change_a_page(&source.join("large"))?;
    let before = cluster.wire_bytes()?;
    set_cut(&cluster, false)?;
    cluster.equal_within(SOON * 2, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    let bytes = cluster.wire_bytes()? - before;
    ensure!(bytes < BEFORE_BYTES / 50, "{bytes} bytes to catch up with a page and a diary");
    let kept = contents(&cluster.store, "diary")?;
    for day in &saves {
        ensure!(kept.contains(day), "{day} is no version; these are: {kept:?}");
    }
    eprintln!("caught up with {} saves in {bytes} bytes", saves.len());
    Ok(())
}

fn set_cut(cluster: &Cluster, cut: bool) -> Result<()> {
    match (&cluster.relay, &cluster.network) {
        (Some(relay), _) if cut => relay.cut(),
        (Some(relay), _) => relay.heal(),
        (None, Some(network)) if cut => network.unplug(1)?,
        (None, Some(network)) => network.plug(1)?,
        (None, None) => {}
    }
    Ok(())
}

/// Saves a file now and then for as long as the cut lasts, and returns what was saved.
///
/// The pauses are the story, not a wait: saves that follow at once may be one version.
fn keep_a_diary(source: &Path) -> Result<Vec<String>> {
    let (started, mut saves) = (Instant::now(), Vec::new());
    while started.elapsed() < cut_time() {
        let text = format!("day {}", saves.len() + 1);
        fs::write(source.join("diary"), &text)?;
        saves.push(text);
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(saves)
}

fn change_a_page(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut page = [0; 4096];
    StdRng::seed_from_u64(2).fill_bytes(&mut page);
    fs::OpenOptions::new().write(true).open(path)?.write_all_at(&page, 4096 * 1000)?;
    Ok(())
}
