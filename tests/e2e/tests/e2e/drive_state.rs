//! What a station says of its drive: damage that readers meet, names that not all clients can show, and finding names.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_e2e::{SOON, has};
use keepshare_support::{
    Drive, Scratch, Wiring, cluster::SET, drive::ANNA, drive::write_as, in_scratch, tools, tree,
    wait_for,
};

/// A flipped byte under a read is an error for the client and an alarm for the admin; whatever was given out was right.
#[test]
fn damage_is_an_error_and_an_alarm_and_never_bytes() -> Result<()> {
    let name = "damage_is_an_error_and_an_alarm_and_never_bytes";
    if !has(name, "nfs-cat") || !is_root(name) {
        return Ok(());
    }
    in_scratch("drive-damage", meet_damage)
}

fn meet_damage(scratch: &mut Scratch) -> Result<()> {
    const SIZE: u64 = 3 << 20;
    let source = scratch.make_dir("source")?;
    let large = source.join("large");
    tree::write_random(&large, SIZE, 7)?;
    write_as(ANNA, &source.join("small"), "in a row of the log, not in a pack")?;
    std::os::unix::fs::chown(&large, Some(ANNA), Some(ANNA))?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let cat = |path: &str| -> Result<_> {
        let url = drive.url(&format!("{}/{path}", drive.log_in_shared("anna")?));
        drive.libnfs(None, "nfs-cat", [url])
    };
    let written = fs::read(&large)?;
    ensure!(cat("large")?.ok()?.out == written, "it is whole before");
    flip_in_packs(&drive, SIZE / 2)?;
    let read = cat("large")?;
    ensure!(read.out != written, "a flipped byte was not in what was read: the test tests nothing");
    ensure!(written.starts_with(&read.out), "bytes were given out that nobody wrote");
    ensure!(cat("small")?.ok()?.out.starts_with(b"in a row"), "the rest is still read");
    let state = drive.cluster.store.set_status(SET)?;
    let cause = state["cause"].as_str().context("an alarm has a cause")?;
    ensure!(state["state"] == "alarm" && cause.contains("damaged"), "status says: {state}");
    Ok(())
}

/// Flips the byte in the middle of every pack.
fn flip_in_packs(drive: &Drive, at_least: u64) -> Result<()> {
    let packs = drive.cluster.store.state().join("sets").join(SET).join("packs");
    let mut flipped = 0;
    for pack in fs::read_dir(&packs).with_context(|| format!("{}", packs.display()))? {
        let pack = pack?.path();
        let file = OpenOptions::new().read(true).write(true).open(&pack)?;
        let len = file.metadata()?.len();
        if len < at_least {
            continue;
        }
        let mut byte = [0];
        file.read_exact_at(&mut byte, len / 2)?;
        file.write_all_at(&[byte[0] ^ 1], len / 2)?;
        flipped += 1;
    }
    ensure!(flipped > 0, "there is no pack to damage");
    Ok(())
}

/// Names that Windows forbids are served like all others, and the admin is told.
#[test]
fn names_that_windows_cannot_show_are_served_and_told() -> Result<()> {
    let name = "names_that_windows_cannot_show_are_served_and_told";
    if !has(name, "nfs-cat") || !is_root(name) {
        return Ok(());
    }
    in_scratch("drive-names", tell_names)
}

fn tell_names(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    write_as(ANNA, &source.join("plan/a:b.txt"), "with a colon")?;
    write_as(ANNA, &source.join("plan/fine.txt"), "fine")?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let told = |want: &dyn Fn(&str) -> bool| {
        wait_for(SOON, "the status about names", || {
            let status = drive.cluster.store.set_status(SET)?;
            let problems = status["problems"].as_array().cloned().unwrap_or_default();
            let text = problems.iter().filter_map(Value::as_str).find(|p| p.contains("Windows"));
            Ok(want(text.unwrap_or_default()).then_some(()))
        })
    };
    told(&|text| text.contains("1 name:") && text.contains("plan/a:b.txt"))?;
    let url = drive.url(&format!("{}/plan/a:b.txt", drive.log_in_shared("anna")?));
    ensure!(drive.libnfs(None, "nfs-cat", [url])?.ok()?.out == b"with a colon");
    write_as(ANNA, &source.join("con"), "a device's name")?;
    told(&|text| text.contains("2 names"))?;
    fs::remove_file(source.join("con"))?;
    fs::rename(source.join("plan/a:b.txt"), source.join("plan/a-b.txt"))?;
    told(&str::is_empty)
}

/// What is and what was is found by name, wherever it is.
#[test]
fn names_are_found_living_and_deleted() -> Result<()> {
    in_scratch("find", find_names)
}

fn find_names(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    for path in ["plan/budget.xlsx", "plan/old/Budget 2025.xlsx", "letters/thanks.txt"] {
        fs::create_dir_all(source.join(path).parent().context("a file is in a folder")?)?;
        fs::write(source.join(path), path)?;
    }
    let drive = Drive::new(scratch, &source, Wiring::Loopback)?;
    drive.cluster.in_sync_within(SOON)?;
    fs::remove_dir_all(source.join("plan/old"))?;
    fs::rename(source.join("letters/thanks.txt"), source.join("plan/thanks.txt"))?;
    wait_for(SOON, "the rename", || {
        let live = drive.cluster.live()?;
        let is_there = live.join("plan/thanks.txt").exists() && !live.join("plan/old").exists();
        Ok(is_there.then_some(()))
    })?;
    let find = |args: &[&str]| -> Result<Vec<(String, String)>> {
        let args = ["find", "--json"].iter().chain(args);
        let found = drive.cluster.store.call(args)?.json()?;
        let found = found.as_array().context("what is found is no array")?;
        let one = |found: &Value| {
            let path = found["path"].as_str().context("a path")?;
            let ended = found["ended"].as_str().unwrap_or("there");
            Ok((path.to_owned(), ended.to_owned()))
        };
        found.iter().map(one).collect()
    };
    let sorted = |args: &[&str]| -> Result<Vec<(String, String)>> {
        let mut found = find(args)?;
        found.sort();
        Ok(found)
    };
    let expect = |args: &[&str], expected: &[(&str, &str)]| -> Result<()> {
        let found = sorted(args)?;
        let same = found.iter().map(|(path, ended)| (path.as_str(), ended.as_str()));
        ensure!(same.eq(expected.iter().copied()), "{args:?}: {found:?}");
        Ok(())
    };
    let old = ("plan/old/Budget 2025.xlsx", "deleted");
    expect(&["budget"], &[("plan/budget.xlsx", "there"), old])?;
    expect(&["*.txt"], &[("letters/thanks.txt", "renamed"), ("plan/thanks.txt", "there")])?;
    expect(&["*", "--deleted", "--set", SET], &[("plan/old", "deleted"), old])?;
    let plan = format!("{SET}:plan");
    expect(&["*.txt", "--in", &plan], &[("plan/thanks.txt", "there")])?;
    expect(&["*", "--deleted", "--since", "1h", "--in", &plan], &[("plan/old", "deleted"), old])?;
    let latest = drive.cluster.store.call(["find", "*", "--since", "latest", "--json"])?;
    ensure!(latest.code == Some(3), "{latest:?}");
    one_after_the_other(&drive)?;
    let wrong = drive.cluster.store.call(["find", "*", "--after", "nowhere"])?;
    ensure!(wrong.code == Some(2) && wrong.err.contains("after"), "{wrong:?}");
    let none = drive.cluster.store.call(["find", "nothing-like-it"])?;
    ensure!(none.code == Some(3), "{none:?}");
    Ok(())
}

/// What one answer has no room for comes with the next ones, each once; and each says what scripts go by.
fn one_after_the_other(drive: &Drive) -> Result<()> {
    let ask = |args: &[&str]| -> Result<Vec<Value>> {
        let args = ["find", "*", "--json"].iter().chain(args);
        let found = drive.cluster.store.call(args)?;
        match found.code {
            Some(3) => Ok(Vec::new()),
            _ => Ok(found.json()?.as_array().context("what is found is no array")?.clone()),
        }
    };
    let all = ask(&[])?;
    let (mut each, mut after) = (Vec::new(), None::<String>);
    loop {
        let go_on = after.as_ref().map(|after| ["--after", after.as_str()]);
        let args = ["--limit", "2"].iter().chain(go_on.iter().flatten()).copied();
        let page = ask(&args.collect::<Vec<_>>())?;
        let Some(last) = page.last() else { break };
        after = Some(last["after"].as_str().context("no after")?.to_owned());
        each.extend(page);
    }
    ensure!(each == all, "{each:?}, not {all:?}");
    for found in &all {
        let is_gone = found["ended"] == "deleted";
        ensure!(found["set"] == SET && found["deleted"] == is_gone, "{found}");
        ensure!(found["versions"].as_u64().is_some_and(|versions| versions > 0), "{found}");
        ensure!(found["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{found}");
    }
    Ok(())
}

fn is_root(name: &str) -> bool {
    let is_root = tools::is_root();
    if !is_root {
        tools::skip(name, "files of several owners need root");
    }
    is_root
}
