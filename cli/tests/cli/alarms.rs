//! What a station sees of ransomware, and the way back.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Aspects, Demo, Scratch, Snapshot, tell, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// How many files there are.
const FILES: u64 = 60;

fn json(demo: &Demo, args: &[&str]) -> Result<Value> {
    demo.call(args.iter().copied().chain(["--json"]))?.json()
}

fn text(n: u64) -> String {
    (0..100).map(|line| format!("report {n}, line {line}\n")).collect()
}

/// What does not compress.
fn noise(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut bytes {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    bytes
}

/// Encrypts every file but the first ten, some in place, some under another name.
fn encrypt(folder: &Path) -> Result<()> {
    for n in 10..FILES {
        let (file, key) = (folder.join(format!("{n}.txt")), noise(n, 4000));
        if n % 3 == 0 {
            fs::write(&file, key)?;
        } else {
            fs::write(folder.join(format!("{n}.txt.locked")), key)?;
            fs::remove_file(&file)?;
        }
    }
    Ok(fs::write(folder.join("READ ME.txt"), "pay")?)
}

fn open_alarms(demo: &Demo) -> Result<Vec<Value>> {
    let alarms = json(demo, &["alarm", "list"])?;
    Ok(alarms.as_array().context("a list")?.clone())
}

#[test]
fn encrypted_files_are_an_alarm_and_one_command_brings_them_back() -> Result<()> {
    let scratch = Scratch::new("alarms")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("reports"))?;
    let file = |n: u64| source.join(format!("reports/{n}.txt"));
    for n in 0..FILES {
        fs::write(file(n), text(n))?;
    }
    let demo = Demo::start(&scratch, Some(&source))?;
    json(&demo, &["point", "create", "demo", "all-is-there"])?;
    let rule = json(&demo, &["alarm", "set", "demo"])?;
    ensure!(rule["rule"] == "watch=on files=500 share=20 within=10m spoiled=70", "{rule}");
    let set = demo.call(["alarm", "set", "demo", "share=0"])?;
    ensure!(set.code == Some(2), "{set:?}");
    // What was made within the last minutes is nobody's work yet: a station that starts now takes it for old.
    demo.interrupt()?;
    let demo = Demo::start(&scratch, Some(&source))?;
    ensure!(open_alarms(&demo)?.is_empty());
    // A day's work is none.
    for n in 0..FILES {
        fs::write(file(n), text(n + 1000))?;
    }
    json(&demo, &["point", "create", "demo", "evening"])?;
    // The last good moment is no point of anybody's.
    let saved = || demo.versions(Path::new("reports/0.txt")).map(|known| known.len());
    let before = saved()?;
    fs::write(file(0), text(2000))?;
    wait_for(SOON, "the last save", || Ok((saved()? > before).then_some(())))?;
    let reports = source.join("reports");
    let good = Snapshot::of(&reports, Aspects::ours())?;
    ensure!(open_alarms(&demo)?.is_empty());

    encrypt(&reports)?;
    let alarm = wait_for(SOON, "an alarm", || Ok(open_alarms(&demo)?.into_iter().next()))?;
    let id = alarm["alarm"].as_str().context("an id")?;
    ensure!(alarm["kind"] == "burst" && alarm["set"] == "demo", "{alarm}");
    let told = wait_for(SOON, "its point", || {
        let alarm = json(&demo, &["alarm", "show", id])?;
        Ok((alarm["point"].is_string() && alarm["spoiled"] == FILES - 10).then_some(alarm))
    })?;
    ensure!(told["files"].as_array().is_some_and(|files| files.len() == 50), "{told}");
    let point = told["point"].as_str().context("a point")?;
    let status = json(&demo, &["status"])?.to_string();
    ensure!(status.contains(&format!("keepshare alarm show {id}")), "{status}");
    let shown = String::from_utf8(demo.call(["alarm", "show", id])?.ok()?.out)?;
    ensure!(shown.contains(&format!("keepshare rollback demo:@point:{point}")), "{shown}");
    // What a master says of it ends nothing: it is this station's.
    json(&demo, &["point", "remove", "demo", point, "--yes"])?;
    let kept = json(&demo, &["point", "list", "demo"])?;
    let kept = kept.as_array().into_iter().flatten().find(|kept| kept["point"] == point);
    ensure!(kept.is_some_and(|kept| kept["kept_here"] == true), "{kept:?}");

    let place = format!("demo:@point:{point}");
    let done = json(&demo, &["rollback", &place, "--yes", "--nearest"])?;
    ensure!(done["state"] == "done" && done["conflicts"] == serde_json::json!([]), "{done}");
    let differences = good.differences(&Snapshot::of(&reports, Aspects::ours())?);
    ensure!(differences.is_empty(), "{}", tell(&differences));

    // It is there after a start, until somebody closes it; and bringing all back was no burst.
    demo.interrupt()?;
    let demo = Demo::start(&scratch, Some(&source))?;
    let alarms = open_alarms(&demo)?;
    ensure!(alarms.len() == 1 && alarms[0]["alarm"] == id, "{alarms:?}");
    json(&demo, &["alarm", "close", id])?;
    ensure!(open_alarms(&demo)?.is_empty());
    let status = json(&demo, &["status"])?.to_string();
    ensure!(!status.contains("alarm show"), "{status}");
    let points = || Ok::<_, anyhow::Error>(json(&demo, &["point", "list", "demo"])?.to_string());
    ensure!(points()?.contains(point), "it is held on");
    json(&demo, &["alarm", "close", id, "--release"])?;
    ensure!(!points()?.contains(point));
    let all = json(&demo, &["alarm", "list", "--all"])?;
    ensure!(all[0]["closed"] == true && all[0]["point"].is_null(), "{all}");
    let missing = demo.call(["alarm", "show", "00000000"])?;
    ensure!(missing.code == Some(3), "{missing:?}");
    demo.interrupt()
}
