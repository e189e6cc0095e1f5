//! Power cuts: whatever a station acknowledged is there afterwards, and right.

use std::{
    ffi::OsStr, fs, io::Write as _, os::unix::ffi::OsStrExt as _, path::Path, time::Instant,
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use serde_json::Value;

use keepshare_e2e::{SOON, edit_time, seen::Seen};
use keepshare_support::{
    Aspects, Cluster, Editor, Scratch, Snapshot, Wiring, cluster::SET, in_scratch,
    in_scratch_as_ordinary_user, tell, tools, tree, wait_for,
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

/// A folder that is rolled back becomes what it was though either side dies in the middle, and nobody says anything more.
#[test]
fn a_roll_back_goes_on_after_kills_of_either_side() -> Result<()> {
    in_scratch("kill-rollback", kill_in_a_roll_back)
}

fn kill_in_a_roll_back(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    let folder = source.join("plan");
    tree::grow(&folder, tree::TreeSpec { files: 800, odd: true, seed: tools::seed("roll-back") })?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.office.call(["point", "create", SET, "good"])?.ok()?;
    let good = Snapshot::of(&folder, Aspects::ours())?;
    for (number, name) in good.files().enumerate() {
        let path = folder.join(OsStr::from_bytes(name));
        fs::write(&path, format!("encrypted {number}"))?;
        // The longest names have no room for more.
        if number % 2 == 0 && path.file_name().is_some_and(|name| name.len() < 200) {
            let mut locked = path.clone().into_os_string();
            locked.push(".locked");
            fs::rename(&path, locked)?;
        }
    }
    cluster.in_sync_within(SOON)?;
    let place = format!("{SET}:plan@point:good");
    let listed = |cluster: &Cluster| -> Result<Value> {
        let all = cluster.store.call(["rollback", "--list", "--json"])?.json()?;
        Ok(all[0].clone())
    };
    let order = cluster.store.start_call(["rollback", &place, "--yes", "--json"])?;
    wait_for(SOON, "the first steps", || {
        let told = listed(&cluster)?;
        Ok((told["renamed"].as_u64() > Some(9) || told["state"] == "done").then_some(()))
    })?;
    ensure!(listed(&cluster)?["state"] == "going-on", "it was done before anything was killed");
    cluster.store.kill()?;
    drop(order);
    cluster.store.start()?;
    let before = listed(&cluster)?["restored"].as_u64();
    wait_for(SOON, "more steps", || {
        let told = listed(&cluster)?;
        Ok((told["restored"].as_u64() > before || told["state"] == "done").then_some(()))
    })?;
    cluster.office.kill()?;
    cluster.office.start()?;
    let done = wait_for(SOON, "the end of it", || {
        let told = listed(&cluster)?;
        Ok((told["state"] == "done").then_some(told))
    })?;
    ensure!(done["more_conflicts"] == 0, "it says: {done}");
    let differences = good.differences(&Snapshot::of(&folder, Aspects::ours())?);
    ensure!(differences.is_empty(), "{} {done}", tell(&differences));
    cluster.equal_within(SOON, Aspects::ours())?;
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
