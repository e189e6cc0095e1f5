//! Clocks that are wrong: what is asked for by time is what was there then, whatever the clocks said.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use chrono::{SecondsFormat, Utc};
use serde_json::Value;

use keepshare_e2e::{MIRRORED, SOON, has};
use keepshare_support::{
    Cluster, Drive, Scratch, Wiring, WrongClock,
    cluster::SET,
    drive::{ANNA, write_as},
    in_scratch, tools, wait_for,
};

/// What means the present.
const WORDS: [&str; 3] = ["latest", "now", "2099-01-01"];

/// A master's clock is wrong for one save: nothing that comes after it is hidden, on the command line or in the drive.
#[test]
fn a_masters_clock_that_is_wrong_for_one_save_hides_nothing() -> Result<()> {
    let name = "a_masters_clock_that_is_wrong_for_one_save_hides_nothing";
    if !["nfs-cat", "cc"].iter().all(|program| has(name, program)) {
        return Ok(());
    }
    if !tools::is_root() {
        tools::skip(name, "users of the drive need root");
        return Ok(());
    }
    in_scratch("wrong-clock", hide_nothing)
}

fn hide_nothing(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    write_as(ANNA, &source.join("f"), "first")?;
    let clock = WrongClock::new(scratch)?;
    let mut drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    drive.cluster.office.stop()?;
    drive.cluster.office.wrap(clock.wrapper());
    drive.cluster.office.start()?;
    drive.cluster.in_sync_within(MIRRORED)?;
    // What the file was at each of these times.
    let mut known = vec![(now(), "first".to_owned())];
    for (hours, word) in [(1, "ahead"), (-1, "behind")] {
        for (wrong, text) in [(0, "before"), (hours, "wrong"), (0, "right"), (0, "newest")] {
            clock.set_ahead(wrong * 3600)?;
            let content = format!("{text}, a clock {word}");
            save(&drive, &source, &content)?;
            known.push((now(), content));
            check(&drive, &known)?;
        }
        check_drive(&drive, &known[known.len() - 3..])?;
        restore_now(&drive, scratch, &known)?;
        let status = drive.cluster.store.set_status(SET)?.to_string();
        let told = format!("the clock of the master was 60 min {word}");
        ensure!(status.contains(&told), "no alarm of it: {status}");
        // Who looks at no screen hears of it as well.
        let checked = drive.cluster.store.call(["status", "--check"])?;
        ensure!(checked.code == Some(1) && checked.err.contains(&told), "{checked:?}");
    }
    // Versions are in the order of their making, and bear the times that the master's clock said.
    let versions = drive.versions("f")?;
    let time = |version: &Value| -> Result<i64> {
        let time = version["time"].as_str().context("a version has a time")?;
        Ok(chrono::DateTime::parse_from_rfc3339(time)?.timestamp())
    };
    ensure!(versions.len() == known.len(), "{versions:?}");
    for (newest, wrong, before, ahead) in [(0, 2, 3, -1), (4, 6, 7, 1)] {
        let (newest, wrong, before) =
            (time(&versions[newest])?, time(&versions[wrong])?, time(&versions[before])?);
        ensure!(newest >= before && newest - before < 1800, "{versions:?}");
        ensure!((wrong - before - ahead * 3600).abs() < 1800, "{versions:?}");
    }
    Ok(())
}

/// The station's own clock was wrong for a run: what arrived then seems to be to come, until it is repaired.
#[test]
fn arrivals_that_are_to_come_are_repaired() -> Result<()> {
    if !has("arrivals_that_are_to_come_are_repaired", "cc") {
        return Ok(());
    }
    in_scratch("repair-clock", repair)
}

fn repair(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("f"), "first")?;
    let clock = WrongClock::new(scratch)?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(MIRRORED)?;
    cluster.store.wrap(clock.wrapper());
    let mut known = vec![(now(), "first")];
    for (hours, content) in [(26, "wrong"), (0, "right")] {
        cluster.store.stop()?;
        clock.set_ahead(hours * 3600)?;
        cluster.store.start()?;
        let before = cluster.store.versions(SET, Path::new("f"))?.len();
        fs::write(source.join("f"), content)?;
        wait_for(SOON, &format!("'{content}' is a version"), || {
            Ok((cluster.store.versions(SET, Path::new("f"))?.len() > before).then_some(()))
        })?;
        known.push((now(), content));
    }
    let fsck = ["fsck", SET, "--repair-clock", "--json"];
    let report = cluster.store.call(fsck)?.json()?;
    ensure!(report[0]["clock_repaired"].as_u64() >= Some(1), "{report}");
    let report = cluster.store.call(fsck)?.json()?;
    ensure!(report[0]["clock_repaired"] == 0 && report[0]["ok"] == true, "{report}");
    for (typed, content) in &known {
        let shown = cluster.store.show(SET, Path::new("f"), typed)?;
        ensure!(shown == content.as_bytes(), "show f@{typed}: {}", text(&shown));
    }
    let last = &known[known.len() - 1].0;
    for version in cluster.store.versions(SET, Path::new("f"))? {
        let arrived = version["arrived"].as_str().context("a version has arrived")?;
        ensure!(arrived <= &last[..], "it says to have arrived at {arrived}, at {last}");
    }
    Ok(())
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Saves the file and returns when the station has it as a version.
fn save(drive: &Drive, source: &Path, content: &str) -> Result<()> {
    let before = drive.versions("f")?.len();
    fs::write(source.join("f"), content)?;
    wait_for(SOON, &format!("'{content}' is a version"), || {
        Ok((drive.versions("f")?.len() > before).then_some(()))
    })
}

/// Asks for everything that is known.
fn check(drive: &Drive, known: &[(String, String)]) -> Result<()> {
    let (_, newest) = known.last().context("something is known")?;
    let times = known.iter().map(|(time, content)| (&time[..], content));
    let words = WORDS.map(|word| (word, newest));
    for (typed, content) in times.chain(words) {
        let shown = drive.cluster.store.show(SET, Path::new("f"), typed)?;
        ensure!(shown == content.as_bytes(), "show f@{typed}: {}", text(&shown));
    }
    Ok(())
}

/// Asks the drive, which answers a typed time as the command line does.
fn check_drive(drive: &Drive, known: &[(String, String)]) -> Result<()> {
    let (_, newest) = known.last().context("something is known")?;
    let times = known.iter().map(|(time, content)| (&time[..], content));
    let words = WORDS.map(|word| (word, newest));
    for (typed, content) in times.chain(words) {
        for path in [format!("@versions/{typed}/f"), format!("@versions/f@/{typed}")] {
            let url = drive.url(&format!("{}/{path}", drive.log_in_shared("anna")?));
            let read = drive.libnfs(None, "nfs-cat", [url])?.ok()?.out;
            ensure!(read == content.as_bytes(), "{path}: {}", text(&read));
        }
    }
    Ok(())
}

fn restore_now(drive: &Drive, scratch: &Scratch, known: &[(String, String)]) -> Result<()> {
    let (_, newest) = known.last().context("something is known")?;
    let to = scratch.join("restored");
    let place = format!("{SET}:f@now");
    let to_text = to.to_string_lossy().into_owned();
    drive.cluster.store.call(["restore", &place, "--to", &to_text])?.ok()?;
    let restored = fs::read(to.join("f"))?;
    ensure!(restored == newest.as_bytes(), "restore f@now: {}", text(&restored));
    fs::remove_dir_all(&to).context("cannot remove what was restored")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
