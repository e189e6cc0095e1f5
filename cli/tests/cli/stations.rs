//! Two stations made by the commands an admin types, on this machine.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{
    Aspects, Cluster, Scratch, Station, Wiring, cluster::SET, in_scratch_as_ordinary_user,
    tree::write_random, wait_for,
};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// The shortest way from nothing to a version on another machine, and what each side says about it.
#[test]
fn a_file_arrives_and_both_sides_say_so() -> Result<()> {
    let scratch = Scratch::new("arrives")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    ensure!(fs::read(cluster.live()?.join("file"))? == b"one");
    ensure!(cluster.store.show(SET, Path::new("file"), "latest")? == b"one");
    let there = cluster.store.set_status(SET)?;
    ensure!(there["state"] == "in-sync" && there["from"] == "office", "{there}");
    let office = cluster.office.status()?;
    ensure!(office["members"][0]["name"] == "store" && office["members"][0]["connected"] == true);
    wait_for(SOON, "one revision of the document on both sides", || {
        let revisions = (cluster.office.status()?["revision"].clone(), cluster.store.status()?);
        Ok((revisions.0.is_string() && revisions.0 == revisions.1["revision"]).then_some(()))
    })?;
    Ok(())
}

/// What a master sends it can be asked about where people work: it keeps no history of its own, and has a station that does
/// answer. Nothing of it works without that station; what is restored in its place is written by the master itself.
#[test]
fn a_master_is_answered_by_the_station_that_keeps_its_set() -> Result<()> {
    let scratch = Scratch::new("asks")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("sub"))?;
    fs::write(source.join("sub/file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    fs::write(source.join("sub/file"), "two")?;
    let versions = wait_for(SOON, "both versions, on the master", || {
        let versions = cluster.office.versions(SET, Path::new("sub/file"))?;
        Ok((versions.len() == 2).then_some(versions))
    })?;
    ensure!(versions == cluster.store.versions(SET, Path::new("sub/file"))?);
    let oldest = versions[1]["version"].as_str().unwrap_or_default();
    ensure!(cluster.office.show(SET, Path::new("sub/file"), oldest)? == b"one");
    let local = source.join("sub/file").to_string_lossy().into_owned();
    ensure!(cluster.office.call(["show", &format!("{local}@{oldest}")])?.ok()?.out == b"one");
    let found = cluster.office.call(["find", "file", "--json"])?.ok()?.json()?;
    ensure!(found[0]["path"] == "sub/file" && found.as_array().map(Vec::len) == Some(1), "{found}");
    let out = scratch.join("out").to_string_lossy().into_owned();
    cluster.office.call(["restore", "work:sub@latest", "--to", &out])?.ok()?;
    ensure!(fs::read(scratch.join("out/sub/file"))? == b"two");
    let never = cluster.office.call(["versions", "work:sub/fyle", "--json"])?;
    ensure!(never.code == Some(3), "{never:?}");
    ensure!(never.failure()?.1.is_some_and(|hint| hint.contains("work:sub/file")), "{never:?}");
    let restored =
        cluster.office.call(["restore", &format!("work:sub/file@{oldest}"), "--json"])?;
    ensure!(restored.json()?["outcome"] == "written", "it is not written");
    ensure!(fs::read(source.join("sub/file"))? == b"one");
    cluster.store.stop()?;
    let away = cluster.office.call(["versions", "work:sub/file", "--json"])?;
    ensure!(away.code == Some(5) && away.failure()?.0.contains("store"), "{away:?}");
    let away = cluster.office.call(["restore", &format!("work:sub/file@{oldest}"), "--json"])?;
    ensure!(away.code == Some(5) && away.failure()?.0.contains("store"), "{away:?}");
    ensure!(fs::read(source.join("sub/file"))? == b"one");
    Ok(())
}

/// `kill -9` on both sides loses nothing that had arrived, and neither needs a person afterwards.
#[test]
fn both_sides_survive_a_kill() -> Result<()> {
    let scratch = Scratch::new("killed")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.store.kill()?;
    cluster.office.kill()?;
    fs::write(source.join("file"), "two")?;
    cluster.store.start()?;
    cluster.office.start()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    let versions = wait_for(SOON, "both versions", || {
        let versions = cluster.store.versions(SET, Path::new("file"))?;
        Ok((versions.len() == 2).then_some(versions))
    })?;
    let oldest = versions[1]["version"].as_str().unwrap_or_default();
    ensure!(cluster.store.show(SET, Path::new("file"), oldest)? == b"one");
    Ok(())
}

/// Without its master a station restores into a folder, and refuses to pretend in place.
#[test]
fn a_restore_in_place_needs_the_master() -> Result<()> {
    let scratch = Scratch::new("no-master")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;
    wait_for(SOON, "the store sees that the master is away", || {
        Ok((cluster.store.set_status(SET)?["state"] == "disconnected").then_some(()))
    })?;
    let reply = cluster.store.call(["restore", "work:file@latest", "--json"])?;
    ensure!(reply.code == Some(5), "{reply:?}");
    ensure!(reply.failure()?.1.is_some_and(|hint| hint.contains("nothing was changed")));
    let out = scratch.join("out").to_string_lossy().into_owned();
    cluster.store.call(["restore", "work:file@latest", "--to", &out])?.ok()?;
    ensure!(fs::read(scratch.join("out/file"))? == b"one");
    Ok(())
}

/// A master whose journal is lost, and with it which file is which, must not take everything away and bring it again.
#[test]
fn a_lost_journal_costs_no_second_copy_and_no_history() -> Result<()> {
    let scratch = Scratch::new("journal")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("folder"))?;
    fs::write(source.join("folder/large"), vec![7; 4 << 20])?;
    fs::write(source.join("file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Relayed)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    fs::write(source.join("file"), "two")?;
    wait_for(SOON, "two versions", || {
        Ok((cluster.store.versions(SET, Path::new("file"))?.len() == 2).then_some(()))
    })?;
    let inode = fs::metadata(cluster.live()?.join("folder/large"))?.ino();
    cluster.office.stop()?;
    fs::remove_file(cluster.office.state().join("journal/work.redb"))?;
    cluster.office.start()?;
    cluster.in_sync_within(SOON)?;
    ensure!(fs::metadata(cluster.live()?.join("folder/large"))?.ino() == inode, "brought again");
    fs::write(source.join("file"), "three")?;
    let versions = wait_for(SOON, "a third version", || {
        let versions = cluster.store.versions(SET, Path::new("file"))?;
        Ok((versions[0]["size"] == 5).then_some(versions))
    })?;
    ensure!(versions.len() == 3, "{versions:?}");
    Ok(())
}

/// Who reads `in-sync` may throw the original away: one file that did not arrive takes the word away.
#[test]
fn what_cannot_be_read_is_told_instead_of_in_sync() -> Result<()> {
    in_scratch_as_ordinary_user("incomplete", |scratch| {
        let source = scratch.make_dir("source")?;
        let closed = source.join("closed");
        fs::write(source.join("open"), "open")?;
        fs::write(&closed, "closed")?;
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000))?;
        let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
        cluster.add_set()?;
        let status = state_within(&cluster.office, "incomplete", "1 problem")?;
        let to = &status["destinations"][0];
        ensure!(to["state"] == "incomplete" && to["cause"] == "1 problem", "{status}");
        ensure!(status["problems"].to_string().contains("closed"), "{status}");
        let checked = cluster.office.call(["status", "--check"])?;
        ensure!(checked.code == Some(1) && checked.err.contains("incomplete"), "{checked:?}");
        let concerns = &cluster.office.status()?["concerns"];
        ensure!(concerns[0]["kind"] == "incomplete", "{concerns}");
        let shown = cluster.office.call(["status"])?.ok()?.out;
        let shown = String::from_utf8(shown)?;
        ensure!(!shown.contains("in-sync") && shown.contains("! closed: "), "{shown}");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o600))?;
        cluster.in_sync_within(SOON)
    })
}

/// A live tree that lacks a file is not in sync, on neither side.
#[test]
fn what_cannot_be_made_live_is_told_instead_of_in_sync() -> Result<()> {
    let scratch = Scratch::new("not-live")?;
    let source = scratch.make_dir("source")?;
    write_random(&source.join("large"), 1 << 20, 1)?;
    fs::write(source.join("small"), "small")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.store.stop()?;
    let set = cluster.store.state().join("sets").join(SET);
    damage_packs(&set)?;
    // Without what it remembers of the live tree, the station makes it anew.
    fs::remove_file(set.join("live.redb"))?;
    fs::remove_dir_all(set.join("live"))?;
    cluster.store.start()?;
    wait_for(SOON, "an alarm about damage", || {
        let status = cluster.store.set_status(SET)?;
        let cause = status["cause"].as_str().unwrap_or_default();
        let is_told = status["state"] == "alarm" && cause.contains("damaged content");
        Ok((is_told && status["problems"].to_string().contains("large")).then_some(()))
    })?;
    let status = state_within(&cluster.office, "lagging", "live tree")?;
    ensure!(status["destinations"][0]["lag_changes"] == 0, "{status}");
    Ok(())
}

/// A source with the state of a station in it feeds on itself: what is sent is kept there, and sent again.
#[test]
fn a_source_with_the_state_of_a_station_in_it_is_refused() -> Result<()> {
    let scratch = Scratch::new("feeding")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    fs::create_dir_all(source.join("deep/down"))?;
    let state = source.join("deep/down/state");
    let cluster = Cluster::with_store_state(&scratch, &source, Wiring::Loopback, Some(&state))?;
    for folder in [source.clone(), state.join("identity"), state.clone()] {
        let folder = folder.to_string_lossy().into_owned();
        let args = ["set", "add", "fed", "--source", &folder, "--to", "store", "--json"];
        let refused = cluster.office.call(args)?;
        ensure!(refused.code == Some(4), "{folder}: {refused:?}");
        let (error, hint) = refused.failure()?;
        ensure!(error.contains(&*state.to_string_lossy()) && hint.is_some(), "{error}");
    }
    ensure!(cluster.office.status()?["sets"] == Value::Array(Vec::new()));
    Ok(())
}

/// Returns a set's status as soon as it is in this state for this cause.
fn state_within(station: &Station, state: &str, cause: &str) -> Result<Value> {
    let mut last = Value::Null;
    let waited = wait_for(SOON, &format!("{} says {state}", station.name()), || {
        last = station.set_status(SET)?;
        let is_cause = last["cause"].as_str().is_some_and(|told| told.contains(cause));
        Ok((last["state"] == state && is_cause).then(|| last.clone()))
    });
    waited.with_context(|| format!("it says: {last}"))
}

/// Changes a byte in the middle of every pack.
fn damage_packs(set: &Path) -> Result<()> {
    let mut damaged = 0;
    for entry in fs::read_dir(set.join("packs"))? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
            fs::write(&path, bytes)?;
            damaged += 1;
        }
    }
    ensure!(damaged > 0, "there is no pack in {}", set.display());
    Ok(())
}
