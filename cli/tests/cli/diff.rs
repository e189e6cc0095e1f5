//! Two states compared, from a running demo: of a text, of what is none, of a folder, of what is gone.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Demo, Reply, Scratch, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// A demo on a source of our own.
struct Stage {
    scratch: Scratch,
    source: PathBuf,
    demo: Demo,
}

impl Stage {
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let source = scratch.make_dir("source")?;
        fs::create_dir(source.join("plans"))?;
        fs::write(source.join("plans/a.txt"), "one\ntwo\nthree\n")?;
        let demo = Demo::start(&scratch, Some(&source))?;
        Ok(Self { scratch, source, demo })
    }

    /// Makes a point, which has all that was saved until now.
    fn point(&self, name: &str) -> Result<()> {
        self.demo.call(["point", "create", "demo", name])?.ok()?;
        Ok(())
    }

    fn diff(&self, args: &[&str]) -> Result<Reply> {
        self.demo.call([&["diff"], args].concat())
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        self.diff(&[args, &["--json"]].concat())?.json()
    }
}

/// Returns the rows of a comparison as `change path`.
fn told(rows: &Value) -> Result<Vec<String>> {
    let rows = rows.as_array().context("it is no list")?;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or("?").to_owned();
    Ok(rows.iter().map(|row| format!("{} {}", text(row, "change"), text(row, "path"))).collect())
}

/// What is printed makes the one text of the other with `patch`; whether they differ is in the exit code only where it was asked
/// for.
#[test]
fn two_texts_are_compared_line_by_line() -> Result<()> {
    let stage = Stage::new("diff-text")?;
    stage.point("before")?;
    let then = "demo:plans/a.txt@point:before";
    let same = stage.diff(&[then, "--exit-code"])?.ok()?;
    ensure!(same.out.is_empty(), "{same:?}");

    fs::write(stage.source.join("plans/a.txt"), "one\n2\nthree\n")?;
    stage.point("after")?;
    let want = "--- demo:plans/a.txt@point:before\n+++ demo:plans/a.txt@latest\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
    ensure!(stage.diff(&[then])?.ok()?.out == want.as_bytes());
    let differ = stage.diff(&[then, "--exit-code"])?;
    ensure!(differ.code == Some(1) && differ.out == want.as_bytes(), "{differ:?}");
    ensure!(differ.err.is_empty(), "{differ:?}");
    let narrow = String::from_utf8(stage.diff(&[then, "@point:after", "-U", "0"])?.ok()?.out)?;
    ensure!(narrow.contains("@@ -2 +2 @@\n-two\n+2\n") && !narrow.contains("three"), "{narrow}");

    let told = stage.json(&[then, "@point:after"])?;
    ensure!(told["equal"] == false && told["size_from"] == 14 && told["size_to"] == 12, "{told}");
    ensure!(told["diff"].as_str().is_some_and(|diff| diff.contains("\n-two\n+2\n")), "{told}");
    let told = stage.json(&[then, then])?;
    ensure!(told["equal"] == true && told["diff"].is_null(), "{told}");

    let patch = stage.scratch.join("patch");
    fs::write(&patch, want)?;
    let old = stage.scratch.join("old.txt");
    fs::write(&old, "one\ntwo\nthree\n")?;
    let patched = Command::new("patch").arg(&old).arg(&patch).output();
    if patched.is_ok_and(|patched| patched.status.success()) {
        ensure!(fs::read_to_string(&old)? == "one\n2\nthree\n");
    }

    let path = stage.source.join("plans/a.txt");
    let local = format!("{}@point:before", path.to_str().context("a plain path")?);
    ensure!(stage.json(&[&local])?["equal"] == false, "a local path is as good");
    stage.demo.interrupt()
}

#[test]
fn what_is_no_text_is_told_in_a_line() -> Result<()> {
    let stage = Stage::new("diff-binary")?;
    let file = stage.source.join("plans/b.bin");
    fs::write(&file, b"a\0b")?;
    fs::write(stage.source.join("large"), vec![b'x'; (8 << 20) + 1])?;
    stage.point("before")?;
    fs::write(&file, b"a\0b\x1b[2J")?;
    fs::write(stage.source.join("large"), vec![b'y'; (8 << 20) + 1])?;
    stage.point("after")?;
    let text = String::from_utf8(stage.diff(&["demo:plans/b.bin@point:before"])?.ok()?.out)?;
    ensure!(text.lines().count() == 1 && !text.contains('\x1b'), "{text}");
    ensure!(text.contains("3 B") && text.contains("7 B") && text.contains("no text"), "{text}");
    let told = stage.json(&["demo:plans/b.bin@point:before"])?;
    ensure!(told["equal"] == false && told["diff"].is_null(), "{told}");
    ensure!(told["hash_from"] != told["hash_to"] && told["no_diff"].is_string(), "{told}");
    let told = stage.json(&["demo:large@point:before"])?;
    ensure!(told["no_diff"].as_str().is_some_and(|why| why.contains("8.0 MiB")), "{told}");
    // A file and a folder.
    let told = stage.json(&["demo:plans/b.bin@point:before", "demo:plans"])?;
    ensure!(told["kind_from"] == "file" && told["kind_to"] == "folder", "{told}");
    let text = stage.diff(&["demo:plans/b.bin@point:before", "demo:plans", "--exit-code"])?;
    ensure!(text.code == Some(1), "{text:?}");
    let text = String::from_utf8(text.out)?;
    ensure!(text.contains("file") && text.contains("folder"), "{text}");
    stage.demo.interrupt()
}

#[test]
fn two_folders_are_compared_with_all_below_them() -> Result<()> {
    let stage = Stage::new("diff-folder")?;
    let source = &stage.source;
    fs::create_dir_all(source.join("plans/old/deep"))?;
    for name in ["changed", "gone", "mode", "moved", "kind", "kept", "old/deep/x", "old/y"] {
        fs::write(source.join("plans").join(name), name)?;
    }
    let odd = OsStr::from_bytes(b"odd-\xff\x1b");
    fs::write(source.join("plans").join(odd), "odd")?;
    stage.point("before")?;
    let plans = source.join("plans");
    fs::write(plans.join("changed"), "another")?;
    fs::write(plans.join("new"), "brand new")?;
    fs::remove_file(plans.join("gone"))?;
    fs::remove_file(plans.join(odd))?;
    fs::set_permissions(plans.join("mode"), fs::Permissions::from_mode(0o600))?;
    fs::rename(plans.join("moved"), plans.join("old/moved-here"))?;
    fs::rename(plans.join("old"), plans.join("renamed"))?;
    fs::remove_file(plans.join("kind"))?;
    fs::create_dir(plans.join("kind"))?;
    stage.point("after")?;

    let (then, now) = ("demo:plans@point:before", "@point:after");
    let rows = stage.json(&[then, now])?;
    let found = told(&rows)?;
    let odd = found.iter().find(|row| row.starts_with("removed odd-")).context("it is gone")?;
    ensure!(!odd.contains('\x1b'), "{odd:?}");
    let want = [
        "changed changed",
        "removed gone",
        "kind kind",
        "attributes mode",
        "added new",
        odd,
        "renamed renamed",
        "renamed renamed/moved-here",
    ];
    ensure!(found == want, "{found:?}");
    let row = |path: &str| -> Result<&Value> {
        let mut rows = rows.as_array().into_iter().flatten();
        rows.find(|row| row["path"] == path).context("there is such a row")
    };
    let moved = row("renamed/moved-here")?;
    ensure!(moved["from"] == "moved" && moved["known_by"] == "file", "{moved}");
    ensure!(row("renamed")?["from"] == "old", "{rows}");
    let mode = &row("mode")?["attributes"][0];
    ensure!(mode["what"] == "mode" && mode["to"] == "0600", "{mode}");
    ensure!(row("changed")?["size_from"] == 7 && row("new")?["from"].is_null(), "{rows}");

    let text = stage.diff(&[then, now, "--exit-code"])?;
    ensure!(text.code == Some(1), "{text:?}");
    let text = String::from_utf8(text.out)?;
    ensure!(text.contains("renamed      old/ → renamed/"), "{text}");
    let last = text.lines().last().context("it says how many")?;
    ensure!(last.starts_with("1 added, 2 removed, 1 changed, 2 renamed"), "{text}");

    // Two folders with names of their own, and one with itself.
    let rows = stage.json(&["demo:plans/old@point:before", "demo:plans/renamed"])?;
    ensure!(told(&rows)? == ["added moved-here"], "{rows}");
    ensure!(stage.json(&[then, then])? == Value::Array(Vec::new()));
    let text = stage.diff(&[then, then, "--exit-code"])?.ok()?;
    ensure!(text.out == b"No differences.\n", "{text:?}");
    // The whole set.
    let rows = stage.json(&["demo:@point:before"])?;
    ensure!(told(&rows)?.contains(&"added plans/new".to_owned()), "{rows}");
    stage.demo.interrupt()
}

#[test]
fn what_cannot_be_compared_says_why() -> Result<()> {
    let stage = Stage::new("diff-refused")?;
    let first = wait_for(SOON, "a first version", || {
        let versions = stage.demo.versions(Path::new("plans/a.txt")).unwrap_or_default();
        Ok(versions.into_iter().next())
    })?;
    let first = first["version"].as_str().context("an id")?.to_owned();
    for (args, want) in [
        (&["demo:plans/a.txt"][..], 2),
        (&["demo:plans/a.txt@2h", "@sometime"], 2),
        (&["demo:plans/a.txt@point:never"], 3),
        (&["demo:plans/never@latest", "demo:plans/a.txt"], 3),
        (&["nosuch:a@2h"], 3),
    ] {
        let reply = stage.diff(&[args, &["--json"]].concat())?;
        ensure!(reply.code == Some(want), "{args:?}: {reply:?}");
        ensure!(reply.failure()?.1.is_some(), "{args:?}: {reply:?}");
    }
    // A version's id is a time like any other.
    let told = stage.json(&[&format!("demo:plans/a.txt@{first}"), "demo:plans/a.txt"])?;
    ensure!(told["equal"] == true && told["version_from"] == first, "{told}");
    stage.demo.interrupt()
}
