//! What an admin says of how long versions are kept, from the plan to what is gone.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Demo, Scratch, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// The file that is saved.
const FILE: &str = "plans/a.txt";

/// The demo's set.
const SET: &str = "demo";

fn saved(demo: &Demo, count: usize) -> Result<Vec<String>> {
    wait_for(SOON, &format!("{count} versions"), || {
        let versions = demo.versions(Path::new(FILE)).unwrap_or_default();
        let kept = versions.iter().filter(|version| version["removed"] != true);
        let ids = kept.filter_map(|version| version["version"].as_str());
        let ids: Vec<String> = ids.map(ToOwned::to_owned).collect();
        Ok((ids.len() == count).then_some(ids))
    })
}

fn code(demo: &Demo, args: &[&str]) -> Result<(Option<i32>, String)> {
    let reply = demo.call(args.iter().copied().chain(["--json"]))?;
    let (error, hint) = reply.failure()?;
    Ok((reply.code, format!("{error} {}", hint.unwrap_or_default())))
}

fn json(demo: &Demo, args: &[&str]) -> Result<Value> {
    demo.call(args.iter().copied().chain(["--json"]))?.json()
}

/// Nothing goes that was not planned, nothing of it is decided by a slip of the finger, and what stays is read as before.
#[test]
fn versions_go_by_a_plan_and_by_nothing_else() -> Result<()> {
    let scratch = Scratch::new("retention")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("plans"))?;
    let file = source.join(FILE);
    fs::write(&file, "save 1")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    for save in 2..=6 {
        saved(&demo, save - 1)?;
        fs::write(&file, format!("save {save}"))?;
    }
    let ids = saved(&demo, 6)?;
    let set = SET;
    let at = |id: &str| format!("{set}:{FILE}@{id}");

    let shown = json(&demo, &["retention", "show", set])?;
    ensure!(shown[0]["policy"]["last"] == "12" && shown[0]["is_set"] == false, "{shown}");
    let plan = json(&demo, &["retention", "plan", set])?;
    ensure!(plan["remove"] == 0, "nothing goes by the first policy: {plan}");
    ensure!(plan["by_itself"] == false, "{plan}");
    let text = String::from_utf8(demo.call(["retention", "plan", set])?.ok()?.out)?;
    ensure!(text.contains("retention apply demo --plan"), "{text}");
    let plan = json(&demo, &["retention", "plan", set])?;
    let id = plan["plan"].as_str().context("a plan of nothing has an id")?.to_owned();
    let applied = json(&demo, &["retention", "apply", set, "--plan", &id])?;
    ensure!(applied["removed"] == 0 && applied["skipped"] == 0, "{applied}");
    let shown = json(&demo, &["retention", "show", set])?;
    ensure!(shown[0]["is_applied"] == true && shown[0]["next_run"].is_string(), "{shown}");
    let plan = json(&demo, &["retention", "plan", set])?;
    ensure!(plan["by_itself"] == true, "{plan}");
    let told = Value::from(demo.versions(Path::new(FILE))?);
    ensure!(told[0]["kept_because"][0] == "newest" && told[0]["kept_until"].is_null(), "{told}");
    ensure!(told[5]["kept_because"][0] == "min_age", "{told}");

    let tight = ["last=1", "steps=365d", "min_age=0", "protect_days=0"];
    let asked: Vec<&str> = ["retention", "set", set].into_iter().chain(tight).collect();
    let (refused, text) = code(&demo, &asked)?;
    ensure!(refused == Some(4) && text.contains("retention plan"), "{refused:?}: {text}");
    let (refused, text) = code(&demo, &["retention", "set", set, "lats=1"])?;
    ensure!(refused == Some(2) && text.contains("protect_days"), "{refused:?}: {text}");
    let would: Vec<&str> = ["retention", "plan", set].into_iter().chain(tight).collect();
    let would = json(&demo, &would)?;
    ensure!(would["remove"] == 4 && would["plan"].is_null(), "{would}");
    let set_so: Vec<&str> = asked.into_iter().chain(["--yes"]).collect();
    json(&demo, &set_so)?;

    let plan = json(&demo, &["retention", "plan", set])?;
    ensure!(plan["remove"] == 4 && plan["by_itself"] == false, "{plan}");
    let forecast = &plan["forecast"];
    ensure!(forecast["free_bytes"].is_u64() && forecast["bytes_per_day"].is_null(), "{plan}");
    ensure!(forecast.get("full_in_days").is_some_and(Value::is_null), "{plan}");
    let first = &plan["versions"][0];
    ensure!(first["path"] == FILE && first["action"] == "remove", "{plan}");
    ensure!(first["reasons"][0] == "steps", "{plan}");
    let planned: Vec<&str> = plan["versions"]
        .as_array()
        .context("versions")?
        .iter()
        .filter_map(|version| version["version"].as_str())
        .collect();
    let goes: Vec<&str> = ids[1..5].iter().rev().map(String::as_str).collect();
    ensure!(planned == goes, "{planned:?}, not {goes:?}");
    let id = plan["plan"].as_str().context("a plan has an id")?.to_owned();
    ensure!(saved(&demo, 6)? == ids, "a plan removes nothing");
    let told = Value::from(demo.versions(Path::new(FILE))?);
    ensure!(told[1]["kept_because"] == Value::from(Vec::<Value>::new()), "it goes: {told}");
    ensure!(told[1]["kept_until"].is_string() && told[5]["kept_until"].is_null(), "{told}");
    let explained = demo.call(["retention", "explain", &format!("{set}:{FILE}")])?.ok()?;
    let explained = String::from_utf8(explained.out)?;
    ensure!(explained.contains("goes: steps") && explained.contains("newest"), "{explained}");

    for folder in ["plans", ""] {
        let asked = format!("{set}:{folder}");
        let (refused, text) = code(&demo, &["retention", "explain", &asked])?;
        ensure!(refused == Some(2) && text.contains("is a folder"), "{refused:?}: {text}");
        ensure!(text.contains("retention show"), "{text}");
    }
    let (refused, _) = code(&demo, &["retention", "explain", "demo:plans/none"])?;
    ensure!(refused == Some(3), "{refused:?}");
    let (refused, _) = code(&demo, &["retention", "apply", set, "--plan", "0"])?;
    ensure!(refused == Some(4), "{refused:?}");
    fs::write(&file, "save 7")?;
    saved(&demo, 7)?;
    let applied = json(&demo, &["retention", "apply", set, "--plan", &id])?;
    ensure!(applied["removed"] == 4 && applied["skipped"] == 0, "{applied}");
    let left = saved(&demo, 3)?;
    ensure!(left[1..] == [ids[0].clone(), ids[5].clone()], "what was not planned stays: {left:?}");
    let told = demo.versions(Path::new(FILE))?;
    let removed: Vec<_> = told.iter().filter(|version| version["removed"] == true).collect();
    ensure!(removed.len() == 4, "{told:?}");
    ensure!(removed.iter().all(|version| version.get("kept_because").is_none()), "{removed:?}");
    for (id, text) in [(&left[0], "save 7"), (&left[1], "save 6"), (&left[2], "save 1")] {
        let shown = demo.call(["show", &at(id)])?.ok()?;
        ensure!(shown.out == text.as_bytes(), "{shown:?}");
    }
    let gone = demo.call(["show", &at(&ids[2])])?;
    ensure!(gone.code != Some(0), "{gone:?}");
    ensure!(fs::read_to_string(&file)? == "save 7");

    let (refused, text) = code(&demo, &["retention", "apply", set, "--plan", &id])?;
    ensure!(refused == Some(4) && text.contains("retention plan"), "once: {text}");
    let plan = json(&demo, &["retention", "plan", set])?;
    let id = plan["plan"].as_str().context("a plan has an id")?.to_owned();
    json(&demo, &["retention", "set", set, "--reset"])?;
    let (refused, text) = code(&demo, &["retention", "apply", set, "--plan", &id])?;
    ensure!(refused == Some(4) && text.contains("changed"), "{text}");
    ensure!(saved(&demo, 3)? == left);
    demo.interrupt()
}

/// What a policy removed that went too far is there again, as it was, and no night takes it once more.
#[test]
fn what_was_removed_comes_back() -> Result<()> {
    let scratch = Scratch::new("undo")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("plans"))?;
    let file = source.join(FILE);
    fs::write(&file, "save 1")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    for save in 2..=5 {
        saved(&demo, save - 1)?;
        fs::write(&file, format!("save {save}"))?;
    }
    let ids = saved(&demo, 5)?;
    let (refused, text) = code(&demo, &["retention", "undo", SET, "--yes"])?;
    ensure!(refused == Some(4) && text.contains("can come back"), "nothing went yet: {text}");

    let tight = ["last=1", "steps=365d", "min_age=0", "protect_days=0", "--yes"];
    let asked: Vec<&str> = ["retention", "set", SET].into_iter().chain(tight).collect();
    json(&demo, &asked)?;
    let plan = json(&demo, &["retention", "plan", SET])?;
    let id = plan["plan"].as_str().context("a plan has an id")?.to_owned();
    let applied = json(&demo, &["retention", "apply", SET, "--plan", &id])?;
    ensure!(applied["removed"] == 3, "{applied}");
    saved(&demo, 2)?;
    let shown = json(&demo, &["retention", "show", SET])?;
    let run = &shown[0]["can_come_back"][0];
    ensure!(run["versions"] == 3 && run["bytes"] == 18 && run["until"].is_string(), "{shown}");
    ensure!(shown[0]["is_applied"] == true, "{shown}");

    let (refused, text) = code(&demo, &["retention", "undo", SET])?;
    ensure!(refused == Some(4), "{refused:?}: {text}");
    ensure!(text.contains("3 versions") && text.contains("--yes"), "{text}");
    ensure!(saved(&demo, 2)?.len() == 2, "nothing is brought back by a question");
    let undone = json(&demo, &["retention", "undo", SET, "--yes"])?;
    ensure!(undone["brought_back"] == 3 && undone["bytes"] == 18, "{undone}");
    ensure!(undone["gone"] == 0 && undone["runs"][0]["versions"] == 3, "{undone}");
    ensure!(saved(&demo, 5)? == ids, "not under the same ids");
    for (id, save) in ids.iter().zip((1..=5).rev()) {
        let shown = demo.call(["show", &format!("{SET}:{FILE}@{id}")])?.ok()?;
        ensure!(shown.out == format!("save {save}").as_bytes(), "{shown:?}");
    }
    let shown = json(&demo, &["retention", "show", SET])?;
    ensure!(shown[0]["can_come_back"].is_null(), "{shown}");
    ensure!(shown[0]["is_applied"] == false, "a hand has to apply again: {shown}");
    let run = &shown[0]["last_run"];
    ensure!(run["removed"] == 3 && run["brought_back"] == 3, "{shown}");
    let status = demo.call(["status"])?.ok()?;
    let status = String::from_utf8(status.out)?;
    ensure!(status.contains("3 versions removed, and brought back; by itself once"), "{status}");
    let (refused, _) = code(&demo, &["retention", "undo", SET, "--all", "--yes"])?;
    ensure!(refused == Some(4), "once: {refused:?}");

    // Of two runs, the last one first; each is told by when it was.
    for (last, removed) in [("last=3", 1), ("last=1", 2)] {
        json(&demo, &["retention", "set", SET, last, "--yes"])?;
        let plan = json(&demo, &["retention", "plan", SET])?;
        let id = plan["plan"].as_str().context("a plan has an id")?.to_owned();
        let applied = json(&demo, &["retention", "apply", SET, "--plan", &id])?;
        ensure!(applied["removed"] == removed, "{applied}");
    }
    let mut times = Vec::new();
    for count in [2, 1] {
        let (_, text) = code(&demo, &["retention", "undo", SET])?;
        let undone = json(&demo, &["retention", "undo", SET, "--yes"])?;
        ensure!(undone["brought_back"] == count, "{undone}");
        let [run] = &undone["runs"].as_array().context("runs")?[..] else {
            anyhow::bail!("of one run: {undone}");
        };
        let time = run["time"].as_str().context("a time")?.to_owned();
        ensure!(text.contains(&time[..time.len() - 10]), "{text}: {time}");
        times.push(time);
    }
    ensure!(times[0] > times[1], "{times:?}");
    demo.interrupt()
}
