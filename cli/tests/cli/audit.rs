//! The record of who did what: shown, and held against what other stations keep of it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Cluster, Scratch, Station, Wiring, cluster::SET, wait_for};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(60);

const PASSWORD: &str = "correct horse battery\n";

fn cluster(scratch: &Scratch) -> Result<Cluster> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    Ok(cluster)
}

fn add_users(station: &Station, names: &[&str]) -> Result<()> {
    for name in names {
        let add = ["user", "add", name, "--uid", "1000", "--gid", "1000", "--password-stdin"];
        station.call_with_input(add, PASSWORD)?.ok()?;
    }
    Ok(())
}

fn log(station: &Station) -> PathBuf {
    station.state().join("audit.log")
}

fn show(station: &Station, options: &[&str]) -> Result<Vec<Value>> {
    let lines = station.call([&["audit", "show", "--json"], options].concat())?.ok()?.json()?;
    Ok(lines.as_array().context("a list")?.clone())
}

/// Waits until the store keeps a head of the office's log of at least so many lines.
fn kept_by_store(cluster: &Cluster, count: u64) -> Result<()> {
    wait_for(SOON, &format!("a head of {count} lines"), || {
        let heads = cluster.store.call(["audit", "show", "--head", "--json"])?.ok()?.json()?;
        let is_it = |head: &&Value| {
            let counted = head["head"].as_str().and_then(|head| head.split_once(':'));
            let counted = counted.and_then(|(count, _)| count.parse::<u64>().ok());
            head["station"] == "office" && head["seen"].is_string() && counted >= Some(count)
        };
        Ok(heads.as_array().context("a list")?.iter().find(is_it).map(drop))
    })
}

#[test]
fn lines_are_shown_by_what_is_asked_for() -> Result<()> {
    let scratch = Scratch::new("audit-show")?;
    let cluster = cluster(&scratch)?;
    let store = &cluster.store;
    add_users(store, &["anna", "ben"])?;
    store
        .call([
            "restore",
            &format!("{SET}:file@latest"),
            "--to",
            &scratch.join("out").to_string_lossy(),
        ])?
        .ok()?;
    let all = show(store, &[])?;
    ensure!(all.len() == 3 && all[0]["user"] == "anna" && all[2]["event"] == "export", "{all:?}");
    ensure!(all.iter().zip(1..).all(|(line, n)| line["n"] == n), "{all:?}");
    ensure!(show(store, &["--user", "ben"])?.len() == 1);
    ensure!(show(store, &["--set", SET])?.len() == 1);
    ensure!(show(store, &["--event", "user-add"])?.len() == 2);
    ensure!(show(store, &["--limit", "1"])?[0]["event"] == "export", "the newest");
    ensure!(show(store, &["--since", "1h"])?.len() == 3);
    let time = all[1]["time"].as_str().context("a time")?;
    ensure!(show(store, &["--since", time])?.len() == 1, "what came after {time}");
    let text = String::from_utf8(store.call(["audit", "show"])?.ok()?.out)?;
    ensure!(text.contains("user-add  anna") && text.contains("export"), "{text}");
    for wrong in [&["--event", "usr-add"][..], &["--since", "sometime"], &["--limit", "0"]] {
        let reply = store.call([&["audit", "show"], wrong].concat())?;
        ensure!(reply.code == Some(2), "{reply:?}");
    }
    let reply = store.call(["audit", "verify", "--json"])?.ok()?.json()?;
    ensure!(reply["ok"] == true && reply["lines"] == 3 && reply["first"] == 1, "{reply}");
    Ok(())
}

/// The record outlives a station that is killed, and whoever edits it while it is down is found by what it says itself.
#[test]
fn a_line_that_was_changed_is_found_and_half_a_line_is_not_taken_for_that() -> Result<()> {
    let scratch = Scratch::new("audit-flip")?;
    let mut cluster = cluster(&scratch)?;
    add_users(&cluster.store, &["anna", "ben", "carl"])?;
    cluster.store.kill()?;
    let log = log(&cluster.store);
    let text = fs::read_to_string(&log)?;
    OpenOptions::new().append(true).open(&log)?.write_all(b"{\"n\":4,\"before\":\"00")?;
    cluster.store.start()?;
    add_users(&cluster.store, &["dora"])?;
    let torn = show(&cluster.store, &["--event", "audit-torn"])?;
    ensure!(torn.len() == 1 && torn[0]["n"] == 4, "{torn:?}");
    cluster.store.call(["audit", "verify"])?.ok()?;
    cluster.store.stop()?;
    let now = fs::read_to_string(&log)?;
    ensure!(now.starts_with(&text));
    fs::write(&log, now.replacen("\"ben\"", "\"eve\"", 1))?;
    let folder = cluster.store.state().to_string_lossy().into_owned();
    let offline = cluster.store.call(["audit", "verify", "--in", &folder])?;
    ensure!(offline.code == Some(1), "{offline:?}");
    cluster.store.start()?;
    let reply = cluster.store.call(["audit", "verify", "--json"])?;
    ensure!(reply.code == Some(1), "{reply:?}");
    let (told, _) = reply.failure()?;
    ensure!(told.contains("audit.log, line 3: it does not continue line 2"), "{told}");
    Ok(())
}

/// Whoever has root on a machine can cut the record's end, or write it anew: what another station keeps of it shows that.
#[test]
fn an_end_that_was_cut_is_shown_by_the_other_station() -> Result<()> {
    let scratch = Scratch::new("audit-cut")?;
    let mut cluster = cluster(&scratch)?;
    add_users(&cluster.office, &["anna", "ben", "carl"])?;
    cluster.store.stop()?;
    cluster.store.start()?;
    kept_by_store(&cluster, 3)?;
    let head = String::from_utf8(cluster.office.call(["audit", "show", "--head"])?.ok()?.out)?;
    let reply = cluster.office.call(["audit", "verify", "--json"])?.ok()?.json()?;
    ensure!(
        reply["heads"][0]["station"] == "store" && reply["heads"][0]["found"] == "same",
        "{reply}"
    );
    cluster.office.stop()?;
    let log = log(&cluster.office);
    let text = fs::read_to_string(&log)?;
    let first = text.lines().next().context("a line")?;
    fs::write(&log, format!("{first}\n"))?;
    cluster.office.start()?;
    let cut = wait_for(SOON, "the store is asked", || {
        let reply = cluster.office.call(["audit", "verify", "--json"])?;
        Ok((reply.code == Some(1)).then_some(reply))
    })?;
    let report: Value = serde_json::from_slice(&cut.out)?;
    ensure!(report["fault"].is_null() && report["heads"][0]["found"] == "missing", "{report}");
    // Written on, it looks whole, and is not what it was.
    add_users(&cluster.office, &["dora", "emil", "frida"])?;
    let reply = cluster.office.call(["audit", "verify", "--json"])?;
    let report: Value = serde_json::from_slice(&reply.out)?;
    ensure!(reply.code == Some(1) && report["heads"][0]["found"] == "other", "{report}");
    // And what somebody wrote down shows it without any other station.
    let folder = cluster.office.state().to_string_lossy().into_owned();
    let check = ["audit", "verify", "--in", &folder, "--head", head.trim()];
    ensure!(cluster.office.call(check)?.code == Some(1));
    ensure!(cluster.office.call(["audit", "verify", "--in", &folder])?.code == Some(0));
    Ok(())
}
