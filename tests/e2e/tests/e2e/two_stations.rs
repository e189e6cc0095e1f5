//! Two stations, made by the commands an admin types, hold the same tree.

use std::{fs, os::unix::fs::MetadataExt, path::Path, thread};

use anyhow::{Context, Result, ensure};

use serde_json::Value;

use keepshare_e2e::{MIRRORED, SOON, has, large_bytes, many_files, rsync_finds};
use keepshare_support::{
    Aspects, Cluster, Network, Scratch, Wiring, cluster::SET, compare, in_scratch,
    in_scratch_as_ordinary_user, tools, tree, tree::TreeSpec, wait_for, wait_until,
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

/// What somebody lost is brought back where they work: on the machine with the files, which keeps no version itself.
#[test]
fn a_version_that_is_asked_for_on_the_master_comes_back_in_place() -> Result<()> {
    in_scratch("restore-on-master", come_back_on_the_master)
}

fn come_back_on_the_master(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let plan = source.join("plan.txt");
    fs::write(&plan, "first")?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    fs::write(&plan, "second, and longer")?;
    let id = |versions: &[Value], at: usize| -> Result<String> {
        let version = versions.get(at).context("too few versions")?;
        Ok(version["version"].as_str().context("no id")?.to_owned())
    };
    let versions = wait_for(SOON, "both versions", || {
        let versions = cluster.office.versions(SET, Path::new("plan.txt"))?;
        Ok((versions.len() == 2).then_some(versions))
    })?;
    let first = format!("{SET}:plan.txt@{}", id(&versions, 1)?);
    let restored = cluster.office.call(["restore", &first, "--json"])?.json()?;
    ensure!(restored["outcome"] == "written" && restored["on_its_way"] == false, "{restored}");
    ensure!(fs::read_to_string(&plan)? == "first");
    let after = wait_for(SOON, "the new version", || {
        let versions = cluster.store.versions(SET, Path::new("plan.txt"))?;
        Ok((versions.len() == 3).then_some(versions))
    })?;
    ensure!(after[0]["event"] == "restored", "{after:?}");
    ensure!(after[1]["version"] == versions[0]["version"], "the second is kept: {after:?}");
    let again = cluster.office.call(["restore", &first, "--json"])?.json()?;
    ensure!(again["outcome"] == "equal", "{again}");
    let folder = cluster.office.call(["restore", &format!("{SET}:@latest"), "--json"])?;
    ensure!(folder.code == Some(4), "only files come back in place: {folder:?}");
    let nothing = cluster.office.call(["restore", &format!("{SET}:no@latest"), "--json"])?;
    ensure!(nothing.code == Some(3), "{nothing:?}");
    let (error, _) = nothing.failure()?;
    ensure!(error.contains("station store"), "who says so is not told: {error}");
    be_killed_in_between(&mut cluster)
}

/// A master that is killed while it brings a large file back has one version or the other in its place, never half of it.
fn be_killed_in_between(cluster: &mut Cluster) -> Result<()> {
    let large = cluster.source().join("large");
    let aside = cluster.office.state().join(format!("journal/{SET}.restores/@here"));
    tree::write_random(&large, large_bytes() / 8, 11)?;
    let old = fs::read(&large)?;
    // What was cut while the file was still being written is a version, too.
    let whole = wait_for(MIRRORED, "a version of the large file", || {
        let versions = cluster.store.versions(SET, Path::new("large"))?;
        let is_whole = |version: &Value| version["size"] == old.len() && version["fuzzy"] == false;
        Ok(versions.into_iter().find(is_whole))
    })?;
    let version = whole["version"].as_str().context("no id")?.to_owned();
    fs::write(&large, "new")?;
    wait_for(SOON, "a version of the new file", || {
        let versions = cluster.store.versions(SET, Path::new("large"))?;
        Ok(versions.into_iter().find(|version| version["size"] == 3))
    })?;
    let restore = ["restore".to_owned(), format!("{SET}:large@{version}"), "--json".to_owned()];
    let office = &cluster.office;
    thread::scope(|scope| -> Result<()> {
        // What it says does not matter: it ends with the station.
        scope.spawn(|| office.call(&restore).map(drop));
        wait_until(SOON, "content is put aside", || {
            fs::read_dir(&aside).is_ok_and(|mut entries| entries.next().is_some())
        })?;
        office.kill_now()
    })?;
    cluster.office.kill()?;
    let found = fs::read(&large)?;
    ensure!(found == b"new" || found == old, "{} bytes are neither", found.len());
    cluster.office.start()?;
    cluster.in_sync_within(SOON)?;
    ensure!(fs::read_dir(&aside)?.next().is_none(), "what was put aside is still there");
    cluster.office.call(&restore)?.ok()?;
    let now = fs::read(&large)?;
    let differs = now.iter().zip(&old).position(|(now, old)| now != old);
    ensure!(now == old, "it is not what it was: {} bytes, at {differs:?}", now.len());
    let kept = cluster.store.versions(SET, Path::new("large"))?;
    ensure!(kept.iter().any(|kept| kept["size"] == 3), "what was there before is kept: {kept:?}");
    Ok(())
}
