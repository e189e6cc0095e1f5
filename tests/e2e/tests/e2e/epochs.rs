//! A master whose set another master took on.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use keepshare_e2e::{MIRRORED, SOON, contents};
use keepshare_support::{Aspects, Cluster, Scratch, Wiring, cluster::SET, in_scratch, wait_for};

/// Who comes back after a week from the workshop must not mirror the old disk over what others wrote meanwhile.
#[test]
fn an_old_master_stops_and_takes_over_only_when_told() -> Result<()> {
    in_scratch("old-master", bring_the_old_master_back)
}

fn bring_the_old_master_back(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("plan"), "first")?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;
    let (state, old) = (cluster.office.state().to_owned(), scratch.join("old"));
    let kept = Command::new("cp").arg("-a").args([&state, &old]).status()?;
    ensure!(kept.success(), "the old master cannot be put aside");

    // The journal is lost: the master that goes on is another one, in an epoch above.
    fs::remove_file(state.join("journal").join(format!("{SET}.redb")))?;
    cluster.office.start()?;
    fs::write(source.join("plan"), "second")?;
    cluster.equal_within(MIRRORED, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;
    let before = contents(&cluster.store, "plan")?;

    fs::remove_dir_all(&state)?;
    fs::rename(&old, &state)?;
    fs::write(source.join("plan"), "of the old one")?;
    cluster.office.start()?;
    let told = wait_for(SOON, "the old master stops", || {
        let told = cluster.office.set_status(SET)?;
        Ok((told["state"] == "stopped").then_some(told))
    })?;
    let told = told.to_string();
    ensure!(told.contains("another master") && told.contains("--take-over"), "it says {told}");
    ensure!(fs::read(cluster.live()?.join("plan"))? == b"second", "it wrote over the new one");
    ensure!(contents(&cluster.store, "plan")? == before, "the history is another");
    for refused in [&["set", "mirror", SET][..], &["set", "mirror", SET, "--new-epoch"]] {
        let reply = cluster.office.call(refused.iter().copied())?;
        ensure!(reply.code == Some(4), "{refused:?}: {:?} {}", reply.code, reply.err);
        ensure!(reply.err.contains("--take-over"), "no way on: {}", reply.err);
    }

    cluster.office.call(["set", "mirror", SET, "--take-over"])?.ok()?;
    cluster.equal_within(MIRRORED, Aspects::ours())?;
    cluster.in_sync_within(SOON)?;
    let after = contents(&cluster.store, "plan")?;
    ensure!(after.first().map(String::as_str) == Some("of the old one"), "{after:?}");
    ensure!(before.iter().all(|version| after.contains(version)), "{before:?} became {after:?}");
    let kept: Vec<_> = fs::read_dir(state.join("journal"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    ensure!(kept.iter().any(|name| name.starts_with(&format!("{SET}.epoch-"))), "{kept:?}");
    let reply = cluster.office.call(["set", "mirror", SET, "--take-over"])?;
    ensure!(reply.code == Some(4), "there is nothing to take over: {}", reply.err);
    Ok(())
}

/// A mirror that somebody asks for sends nothing where nothing differs.
#[test]
fn a_set_is_mirrored_when_asked() -> Result<()> {
    in_scratch("asked-mirror", |scratch| {
        let source = scratch.make_dir("source")?;
        fs::write(source.join("plan"), "first")?;
        let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
        cluster.add_set()?;
        cluster.in_sync_within(SOON)?;
        let before = cluster.store.versions(SET, Path::new("plan"))?;
        cluster.office.call(["set", "mirror", SET])?.ok()?;
        cluster.in_sync_within(SOON)?;
        ensure!(cluster.store.versions(SET, Path::new("plan"))? == before);
        let epoch = |place: &str| -> Result<String> {
            Ok(place.split('.').nth(1).context("an epoch in an id")?.to_owned())
        };
        cluster.office.call(["set", "mirror", SET, "--new-epoch"])?.ok()?;
        cluster.in_sync_within(SOON)?;
        fs::write(source.join("plan"), "second")?;
        cluster.equal_within(SOON, Aspects::ours())?;
        let after = cluster.store.versions(SET, Path::new("plan"))?;
        let id = |row: &serde_json::Value| row["version"].as_str().unwrap_or("").to_owned();
        ensure!(epoch(&id(&after[0]))? > epoch(&id(&before[0]))?, "{after:?}");
        for (args, code) in [(["set", "mirror", "nosuch"], 3), (["set", "mirror", "-"], 2)] {
            ensure!(cluster.office.call(args)?.code == Some(code), "{args:?}");
        }
        let other = cluster.office.call(["set", "mirror", SET, "--to", "nowhere"])?;
        ensure!(other.code == Some(3), "{:?} {}", other.code, other.err);
        let there = cluster.store.call(["set", "mirror", SET])?;
        ensure!(there.code == Some(4) && there.err.contains("received"), "{}", there.err);
        Ok(())
    })
}
