//! Power cuts: whatever a station acknowledged is there afterwards, and right.

use std::{fs, io::Write as _, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_e2e::{SOON, edit_time, seen::Seen};
use keepshare_support::{
    Aspects, Cluster, Editor, Scratch, Wiring, cluster::SET, in_scratch,
    in_scratch_as_ordinary_user, tools, tree, wait_for,
};

/// How often a side is killed.
const KILLS: u32 = 10;

/// Somebody works while either side dies ten times: nothing acknowledged is lost, nothing is wrong, all agree.
#[test]
fn what_was_acknowledged_survives_ten_kills_on_either_side_as_root() -> Result<()> {
    if !tools::is_root() {
        tools::skip("what_was_acknowledged_survives_ten_kills_as_root", "needs root");
        return Ok(());
    }
    in_scratch("kills-root", survive_kills)
}

/// The same with the means an ordinary user has to see changes.
#[test]
fn what_was_acknowledged_survives_ten_kills_on_either_side_as_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("kills-user", survive_kills)
}

/// What a restore replaced, and somebody still writes to, outlives the process that watches over it.
#[test]
fn a_save_into_a_file_that_a_restore_replaced_survives_a_kill() -> Result<()> {
    in_scratch("kill-restore", kill_after_a_restore)
}

fn kill_after_a_restore(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let doc = source.join("doc");
    fs::write(&doc, "first")?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let path = Path::new("doc");
    let versions = |cluster: &Cluster| cluster.store.versions(SET, path);
    let old = versions(&cluster)?[0]["version"].as_str().context("an id")?.to_owned();
    fs::write(&doc, "second")?;
    wait_for(SOON, "the second version", || Ok((versions(&cluster)?.len() == 2).then_some(())))?;
    let mut writer = fs::OpenOptions::new().append(true).open(&doc)?;
    let what = format!("{SET}:doc@{old}");
    let restored = cluster.store.call(["restore", &what, "--json"])?.ok()?.json()?;
    ensure!(restored["still_open"] == true, "it says: {restored}");
    let told = cluster.office.set_status(SET)?["problems"].to_string();
    ensure!(told.contains("still open by a writer"), "status says: {told}");
    cluster.office.kill()?;
    writer.write_all(b", and what came after the kill")?;
    drop(writer);
    cluster.office.start()?;
    let late = b"second, and what came after the kill".as_slice();
    wait_for(SOON, "the late save as a version", || {
        let size = u64::try_from(late.len()).unwrap_or(0);
        Ok(versions(&cluster)?.iter().any(|row| row["size"] == size).then_some(()))
    })?;
    cluster.equal_within(SOON, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    ensure!(fs::read(&doc)? == b"first", "the restore holds");
    ensure!(fs::read_dir(&source)?.count() == 1, "nothing is left beside it");
    check_store(&cluster)
}

fn survive_kills(scratch: &mut Scratch) -> Result<()> {
    let seed = tools::seed("kills");
    let mut random = StdRng::seed_from_u64(seed);
    let source = scratch.join("source");
    tree::grow(&source, tree::TreeSpec { files: 200, odd: true, seed })?;
    let mut editor = Editor::new(&source, seed)?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let mut seen = Seen::default();
    let started = Instant::now();
    for kill in 1..=KILLS {
        while started.elapsed() < edit_time() * kill / KILLS {
            editor.step()?;
            if random.random_bool(0.05) {
                let path = editor.any_file();
                seen.note(&cluster.store, cluster.source(), path)?;
            }
        }
        let killed = if random.random_bool(0.5) { &mut cluster.office } else { &mut cluster.store };
        killed.kill()?;
        // Work goes on while it is away.
        for _ in 0..random.random_range(0..50) {
            editor.step()?;
        }
        killed.start().with_context(|| format!("after kill {kill} of {}", killed.name()))?;
    }
    // Each says something of its own: all are asked, whatever the first one answers.
    let outcomes = [
        cluster.equal_within(SOON, Aspects::ours()),
        cluster.in_sync_within(SOON),
        seen.check(&cluster.store, &editor),
        check_store(&cluster),
    ];
    let wrong: Vec<String> =
        outcomes.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn check_store(cluster: &Cluster) -> Result<()> {
    let report = cluster.store.call(["fsck", "--json"])?.json()?;
    ensure!(report[0]["ok"] == true, "fsck says: {report}");
    Ok(())
}
