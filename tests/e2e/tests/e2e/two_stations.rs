//! Two stations, made by the commands an admin types, hold the same tree.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, ensure};

use keepshare_e2e::{MIRRORED, SOON, has, large_bytes, many_files, rsync_finds};
use keepshare_support::{
    Aspects, Cluster, Network, Scratch, Wiring, cluster::SET, compare, in_scratch,
    in_scratch_as_ordinary_user, tools, tree, tree::TreeSpec,
};

/// What arrives is what was there: every byte, name, mode, time, owner and link, as an independent program sees it.
#[test]
fn a_large_tree_and_a_large_file_arrive_byte_for_byte() -> Result<()> {
    let name = "a_large_tree_and_a_large_file_arrive_byte_for_byte";
    if let Some(reason) = Network::hindrance() {
        tools::skip(name, reason);
        return Ok(());
    }
    if !has(name, "rsync") {
        return Ok(());
    }
    in_scratch("two-namespaces", arrive_byte_for_byte)
}

fn arrive_byte_for_byte(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: many_files(), odd: true, seed: 3 })?;
    tree::write_random(&source.join("large"), large_bytes(), 4)?;
    let cluster = Cluster::new(scratch, &source, Wiring::Namespaces)?;
    cluster.add_set()?;
    cluster.in_sync_within(MIRRORED)?;
    // In-sync means equal: nothing more is waited for.
    let told = compare::differences(&source, &cluster.live()?, Aspects::ALL)?;
    ensure!(told.is_empty(), "it said in-sync, but:\n{}", compare::tell(&told));
    let found = rsync_finds(&source, &cluster.live()?)?;
    ensure!(found.is_empty(), "rsync would still do:\n{found}");
    Ok(())
}

/// Without root the live tree keeps names, bytes, times and links; modes and owners are in the history.
#[test]
fn an_ordinary_users_station_keeps_owners_in_the_history() -> Result<()> {
    in_scratch_as_ordinary_user("two-ordinary", keep_owners_in_the_history)
}

fn keep_owners_in_the_history(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: many_files() / 4, odd: true, seed: 5 })?;
    tree::write_random(&source.join("large"), large_bytes() / 16, 6)?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(MIRRORED)?;
    cluster.equal_within(SOON, Aspects::ORDINARY)?;
    for path in ["large", "odd/attributes/mode 0400", "odd/attributes/mode 0777", "a/d000"] {
        let meta = fs::symlink_metadata(source.join(path))?;
        let versions = cluster.store.versions(SET, Path::new(path))?;
        let newest = versions.first().with_context(|| format!("{path} has no version"))?;
        ensure!(newest["mode"] == format!("{:04o}", meta.mode() & 0o7777), "{path}: {newest}");
        ensure!(newest["owner_id"] == meta.uid(), "{path}: {newest}");
        ensure!(newest["group_id"] == meta.gid(), "{path}: {newest}");
    }
    let problems = format!("{} {}", cluster.store.status()?, cluster.store.set_status(SET)?);
    ensure!(problems.contains("owner"), "it does not say that it cannot set owners: {problems}");
    Ok(())
}

/// A name that stands for the past cannot be a user's file in a set: it gets a name that can.
#[test]
fn a_users_own_file_called_versions_is_shown_under_another_name() -> Result<()> {
    in_scratch("reserved", show_under_another_name)
}

fn show_under_another_name(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("@versions"), "mine")?;
    fs::write(source.join("@GMT-2026.11.20-14.32.07"), "also mine")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let live = cluster.live()?;
    ensure!(fs::read(live.join("@versions~"))? == b"mine");
    ensure!(fs::read(live.join("~@GMT-2026.11.20-14.32.07"))? == b"also mine");
    ensure!(!live.join("@versions").exists());
    Ok(())
}

/// An admin stops and starts services; that must not look like a fault, nor cost a copy.
#[test]
fn stations_that_are_stopped_and_started_go_on() -> Result<()> {
    in_scratch("restart", stop_and_start)
}

fn stop_and_start(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: 500, odd: true, seed: 8 })?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Relayed)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let first = cluster.wire_bytes()?;
    cluster.store.stop()?;
    fs::write(source.join("new"), "while the replica was away")?;
    cluster.store.start()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    cluster.office.stop()?;
    fs::write(source.join("newer"), "while the master was away")?;
    cluster.office.start()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    let again = cluster.wire_bytes()? - first;
    ensure!(again < first / 4, "{again} bytes for two small files; the tree took {first}");
    Ok(())
}
