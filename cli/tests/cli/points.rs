//! Points, from the moment they are made until they end.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Demo, Scratch};

const SET: &str = "demo";

fn json(demo: &Demo, args: &[&str]) -> Result<Value> {
    demo.call(args.iter().copied().chain(["--json"]))?.json()
}

fn refused(demo: &Demo, args: &[&str]) -> Result<(Option<i32>, String)> {
    let reply = demo.call(args.iter().copied().chain(["--json"]))?;
    let (error, hint) = reply.failure()?;
    Ok((reply.code, format!("{error} {}", hint.unwrap_or_default())))
}

fn shown(demo: &Demo, place: &str) -> Result<String> {
    let reply = demo.call(["show", place])?.ok()?;
    Ok(String::from_utf8(reply.out)?)
}

#[test]
fn a_point_is_made_and_looked_at_and_ended() -> Result<()> {
    let scratch = Scratch::new("points")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("plan"))?;
    let file = source.join("plan/a.txt");
    fs::write(&file, "before")?;
    let demo = Demo::start(&scratch, Some(&source))?;

    ensure!(json(&demo, &["point", "list", SET])? == serde_json::json!([]));
    let made = json(&demo, &["point", "create", SET, "before-upgrade", "--hold=30d"])?;
    ensure!(made["point"] == "before-upgrade" && made["kind"] == "crash", "{made}");
    ensure!(made["missing"] == serde_json::json!([]) && made["unsettled"] == 0, "{made}");
    fs::write(&file, "after")?;
    fs::remove_dir_all(source.join("plan"))?;
    json(&demo, &["point", "create", SET, "nightly", "--lasts", "1d", "--app"])?;

    let points = json(&demo, &["point", "list"])?;
    let points = points.as_array().context("a list")?;
    ensure!(points.len() == 2 && points[0]["id"] == made["id"], "{points:?}");
    ensure!(points[0]["held"] == true && points[0]["until"].is_null(), "{points:?}");
    ensure!(points[1]["kind"] == "app" && points[1]["until"].is_string(), "{points:?}");

    // It is a time like any other: a file, a folder, and the drive's folder of that name.
    ensure!(shown(&demo, "demo:plan/a.txt@point:before-upgrade")? == "before");
    let id = made["id"].as_str().context("an id")?;
    ensure!(shown(&demo, &format!("demo:plan/a.txt@point:{id}"))? == "before");
    let to = scratch.path().join("then");
    let to = to.to_str().context("a path")?;
    demo.call(["restore", "demo:plan@point:before-upgrade", "--to", to])?.ok()?;
    ensure!(fs::read_to_string(Path::new(to).join("plan/a.txt"))? == "before");
    let (code, text) = refused(&demo, &["show", "demo:plan/a.txt@point:nightly"])?;
    ensure!(code == Some(3), "it was gone by then: {code:?} {text}");
    let (code, text) = refused(&demo, &["show", "demo:plan/a.txt@point:never"])?;
    ensure!(code == Some(3) && text.contains("point list"), "{code:?} {text}");

    for (args, want) in [
        (&["point", "create", SET, "before-upgrade"][..], 4),
        (&["point", "create", SET, "2h"], 2),
        (&["point", "create", SET, "a/b"], 2),
        (&["point", "create", SET, "short", "--lasts", "0"], 2),
        (&["point", "create", "nosuch", "x"], 3),
        (&["point", "hold", SET, "never"], 3),
        (&["point", "remove", SET, "before-upgrade", "--yes"], 4),
        (&["point", "remove", SET, "nightly"], 4),
    ] {
        let (code, text) = refused(&demo, args)?;
        ensure!(code == Some(want), "{args:?}: {code:?} {text}");
    }

    // What its master ends goes on for a day; what this station ends is gone at once.
    let said = json(&demo, &["point", "release", SET, "before-upgrade"])?;
    ensure!(said["from"].is_string() && said["missing"] == serde_json::json!([]), "{said}");
    let points = json(&demo, &["point", "list", SET])?;
    ensure!(points[0]["held"] == true, "a day's notice: {points}");
    json(&demo, &["point", "hold", SET, "nightly", "--here"])?;
    json(&demo, &["point", "remove", SET, "nightly", "--yes"])?;
    let points = json(&demo, &["point", "list", SET])?;
    ensure!(points[1]["kept_here"] == true && points[1]["until"].is_null(), "{points}");
    json(&demo, &["point", "release", SET, "nightly", "--here"])?;
    json(&demo, &["point", "remove", SET, "before-upgrade", "--here", "--yes"])?;
    let points = json(&demo, &["point", "list", SET])?;
    ensure!(points.as_array().is_some_and(|points| points.len() == 1), "{points}");
    ensure!(points[0]["point"] == "nightly", "{points}");
    let text = String::from_utf8(demo.call(["point", "list"])?.ok()?.out)?;
    ensure!(text.contains("nightly") && text.contains("until "), "{text}");
    Ok(())
}

/// A command looks at what a point has, in a copy that is gone afterwards; the last good one is found, and gone back to.
#[test]
fn a_point_is_looked_at_and_gone_back_to() -> Result<()> {
    let scratch = Scratch::new("verdicts")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("db"))?;
    fs::write(source.join("db/table"), "whole")?;
    fs::write(source.join("db/run"), "#!/bin/sh\nexit 0\n")?;
    fs::set_permissions(source.join("db/run"), fs::Permissions::from_mode(0o755))?;
    let demo = Demo::start(&scratch, Some(&source))?;
    let copies = scratch.make_dir("copies")?;
    let within = copies.to_str().context("a path")?;
    let check = |more: &[&str], command: &[&str]| {
        let args = [&["point", "check", SET], more, &["--in", within, "--json", "--"], command];
        demo.call(args.concat())
    };
    let is_whole = ["sh", "-c", "echo looked at; grep -qx whole db/table && chmod -R a-w ."];

    let none = check(&[], &is_whole)?;
    ensure!(none.code == Some(3), "there is no point: {none:?}");
    let (code, _) = refused(&demo, &["point", "last-good", SET])?;
    ensure!(code == Some(3));
    json(&demo, &["point", "create", SET, "first"])?;
    let found = check(&[], &is_whole)?.ok()?.json()?;
    ensure!(found["point"] == "first" && found["verdict"] == "good", "{found}");
    fs::write(source.join("db/table"), "torn")?;
    json(&demo, &["point", "create", SET, "second"])?;
    let found = check(&[], &is_whole)?;
    ensure!(found.code == Some(1), "{:?}", found.code);
    let found: Value = serde_json::from_slice(&found.out)?;
    ensure!(found["point"] == "second" && found["verdict"] == "bad", "{found}");
    // Of what was not found nothing is noted.
    ensure!(check(&["first"], &["no-such-command"])?.code == Some(1));
    // Nothing that users wrote is run: a path is one of where it was typed.
    let own = check(&["second", "--path", "db"], &["./db/run"])?;
    ensure!(own.code == Some(1) && own.err.contains("cannot run"), "{own:?}");
    ensure!(check(&["first"], &["sh", "-c", "kill -9 $$"])?.code == Some(1));
    ensure!(check(&["second", "--path", "db"], &["test", "-f", "db/table"])?.code == Some(0));
    ensure!(check(&["second", "--path", "gone"], &["true"])?.code == Some(3));
    json(&demo, &["point", "mark", SET, "second", "bad"])?;
    ensure!(fs::read_dir(&copies)?.next().is_none(), "a copy was left");
    let said = |point: &Value| (point["point"].clone(), point["verdict"].clone());
    let points = json(&demo, &["point", "list", SET])?;
    let points: Vec<_> = points.as_array().context("a list")?.iter().map(said).collect();
    ensure!(
        points == [("first".into(), "good".into()), ("second".into(), "bad".into())],
        "{points:?}"
    );

    let good = json(&demo, &["point", "last-good", SET])?;
    ensure!(good["point"] == "first", "{good}");
    let name = good["point"].as_str().context("a name")?;
    let would = json(&demo, &["point", "restore", SET, name, "--dry-run"])?;
    ensure!(would["restored"] == 1, "{would}");
    let done = json(&demo, &["point", "restore", SET, name, "--yes"])?;
    ensure!(
        done["restored"] == 1 && fs::read_to_string(source.join("db/table"))? == "whole",
        "{done}"
    );
    json(&demo, &["point", "mark", SET, "first", "unknown"])?;
    let (code, text) = refused(&demo, &["point", "last-good", SET])?;
    ensure!(code == Some(3) && text.contains("point check"), "{code:?} {text}");
    let audit = demo.call(["audit", "show", "--event", "point-mark", "--json"])?.ok()?.json()?;
    ensure!(audit.to_string().contains(" bad --by sh -c echo looked at"), "{audit}");
    Ok(())
}
