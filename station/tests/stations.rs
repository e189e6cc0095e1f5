//! Two stations made by the commands an admin types, on this machine.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Result, ensure};

use keepshare_support::{Aspects, Cluster, Scratch, Wiring, cluster::SET, wait_for};

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
    // The master keeps no history of its own, and says who does.
    let asked = cluster.office.call(["versions", "work:file", "--json"])?;
    ensure!(asked.code == Some(4) && asked.failure()?.0.contains("store"), "{asked:?}");
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
