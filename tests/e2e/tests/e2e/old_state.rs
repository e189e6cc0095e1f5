//! What an earlier build wrote, opened by this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use keepshare_base::{Role, Stamp};
use keepshare_identity::{ClusterCa, PendingIdentity};
use serde_json::Value;

use keepshare_e2e::SOON;
use keepshare_support::{Scratch, Station, in_scratch, wait_until};

/// The set in it.
const SET: &str = "projects";

/// Where the paths of the fixture begin.
const MADE_AT: &str = "/tmp/keepshare-fixture";

/// Whoever updates has the same versions under the same ids, with the same bytes, and nothing is sent anew.
#[test]
fn the_state_of_an_earlier_build_opens_with_the_same_versions() -> Result<()> {
    in_scratch("old-state", open_it)
}

fn open_it(scratch: &mut Scratch) -> Result<()> {
    unpack(scratch.path())?;
    let mut office = Station::new(scratch, "office", vec![])?;
    let mut store = Station::new(scratch, "store", vec![])?;
    renew_certificates(&office, &store)?;
    store.start()?;
    office.start()?;
    let head = office.set_status(SET)?["head"].clone();
    wait_until(SOON, "the link stands and goes on where it was", || {
        office.set_status(SET).is_ok_and(|set| {
            let destination = &set["destinations"][0];
            destination["connected"] == true && destination["acknowledged"] == head
        })
    })?;
    wait_until(SOON, "the live tree is adopted", || {
        store.set_status(SET).is_ok_and(|set| set["state"] == "in-sync")
    })?;
    holds_everything(&store)?;
    let log = fs::read_to_string(scratch.join("office.log"))?;
    ensure!(!log.contains("mirroring"), "it was mirrored anew:\n{log}");
    // What both knew is what the cluster agrees on now, and the files that said it are beside that.
    let document = |station: &Station| fs::read(station.state().join("cluster.doc")).ok();
    wait_until(SOON, "both hold the same document", || {
        document(&office).is_some() && document(&store) == document(&office)
    })?;
    wait_until(SOON, "the former files are put aside", || {
        let former = ["sets.toml.former", "members.toml.former"];
        former.iter().all(|name| store.state().join(name).exists())
            && office.state().join(former[0]).exists()
    })?;
    ensure!(store.set_status(SET)?["from"] == "office");
    let users = store.call(["user", "list", "--json"])?.json()?;
    ensure!(users.to_string().contains("anna"), "the user is gone: {users}");

    // A folder that was unpacked is another one than the journal knows, and nothing is taken from it unasked.
    let told = office.set_status(SET)?.to_string();
    ensure!(told.contains("another folder is in its place"), "{told}");
    office.stop()?;
    store.stop()?;
    store.start()?;
    holds_everything(&store)
}

/// Compares with what the build that made the state answered.
fn holds_everything(store: &Station) -> Result<()> {
    let expected: Value = serde_json::from_slice(&fs::read(fixture().join("versions.json"))?)?;
    for (path, versions) in expected.as_object().context("paths")? {
        let now = store.versions(SET, Path::new(path))?;
        let versions = versions.as_array().context("versions")?;
        ensure!(versions.len() == 5, "{path} had five versions");
        for version in versions {
            let id = version["version"].as_str().context("an id")?;
            let found = now.iter().find(|row| row["version"] == id);
            let found = found.with_context(|| format!("{path} has no {id} any more: {now:#?}"))?;
            for field in ["size", "hash", "name", "event", "time"] {
                ensure!(found[field] == version[field], "{path}@{id}: {field} {found}");
            }
            let content = store.show(SET, Path::new(path), id)?;
            let then = version["content"].as_str().context("content")?;
            ensure!(content == then.as_bytes(), "{path}@{id} has other bytes");
        }
    }
    Ok(())
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/state-of-2026-11")
}

/// Unpacks the state, and names its new place where paths are written down.
fn unpack(to: &Path) -> Result<()> {
    let tar = Command::new("tar")
        .arg("-xzf")
        .arg(fixture().join("state.tar.gz"))
        .arg("-C")
        .arg(to)
        .status()?;
    ensure!(tar.success(), "tar ended with {tar}");
    let place = to.to_str().context("the scratch folder is text")?;
    for file in [
        "office/station.toml",
        "store/station.toml",
        "office/state/sets.toml",
        "store/state/sets.toml",
    ] {
        let text = fs::read_to_string(to.join(file))?;
        fs::write(to.join(file), text.replace(MADE_AT, place))?;
    }
    Ok(())
}

/// Certificates last 90 days; the state is older.
fn renew_certificates(office: &Station, store: &Station) -> Result<()> {
    let ca = ClusterCa::load(&office.state().join("identity"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Stamp(i64::try_from(now.as_micros())?);
    for (station, role) in [(office, Role::Primary), (store, Role::Replica)] {
        let identity = PendingIdentity::generate()?;
        let request = identity.request()?;
        let (_, certificate) = ca.sign(now, &request, &station.name().parse()?, role)?;
        let identity = identity.complete(&certificate, ca.certificate())?;
        identity.save(&station.state().join("identity"))?;
    }
    Ok(())
}
