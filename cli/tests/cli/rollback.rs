//! Folders that are rolled back in place, with a preview and an undo.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Aspects, Demo, Editor, Scratch, Snapshot, tell, wait_for};

fn json(demo: &Demo, args: &[&str]) -> Result<Value> {
    let reply = demo.call(args.iter().copied().chain(["--json"]))?;
    // What was not done wholly says of what, on standard output.
    let out = String::from_utf8_lossy(&reply.out).into_owned();
    reply.json().with_context(|| format!("{args:?}: {out}"))
}

/// Returns what is told of what was not done wholly, which a script must see.
fn not_wholly(demo: &Demo, args: &[&str]) -> Result<Value> {
    let reply = demo.call(args.iter().copied().chain(["--json"]))?;
    ensure!(reply.code == Some(1), "{args:?}: {reply:?}");
    Ok(serde_json::from_slice(&reply.out)?)
}

fn refused(demo: &Demo, args: &[&str]) -> Result<(Option<i32>, String)> {
    let reply = demo.call(args.iter().copied().chain(["--json"]))?;
    let (error, hint) = reply.failure()?;
    Ok((reply.code, format!("{error} {}", hint.unwrap_or_default())))
}

fn point(demo: &Demo, name: &str) -> Result<()> {
    json(demo, &["point", "create", "demo", name]).map(drop)
}

fn same(folder: &Path, wanted: &Snapshot, context: &str) -> Result<()> {
    let differences = wanted.differences(&Snapshot::of(folder, Aspects::ours())?);
    ensure!(differences.is_empty(), "{context}: {}", tell(&differences));
    Ok(())
}

/// Whatever people did, a folder is what it was to the last attribute, and an undo takes that back.
#[test]
fn a_folder_is_what_it_was_and_an_undo_takes_that_back() -> Result<()> {
    back_and_undone("rollback-random", keepshare_support::tools::seed("rollback"), 4)
}

/// One name of a file makes room for another file, while what the file holds is still to be written under its other name.
#[test]
fn a_name_makes_room_before_its_file_is_written() -> Result<()> {
    back_and_undone("rollback-pinned", 2_619_091_981_617_719_549, 1)
}

/// A file that was written over gets its other name back, though the station has not heard yet of what was written.
#[test]
fn a_name_comes_back_for_what_was_just_written() -> Result<()> {
    back_and_undone("rollback-pinned-link", 12_088_229_225_770_433_536, 2)
}

fn back_and_undone(name: &str, seed: u64, rounds: usize) -> Result<()> {
    let scratch = Scratch::new(name)?;
    let source = scratch.make_dir("source")?;
    let folder = source.join("plan");
    fs::create_dir(&folder)?;
    let demo = Demo::start(&scratch, Some(&source))?;
    let mut editor = Editor::new(&folder, seed)?;
    for round in 0..rounds {
        (0..60).try_for_each(|_| editor.step().map(drop))?;
        point(&demo, &format!("then-{round}"))?;
        let then = Snapshot::of(&folder, Aspects::ours())?;
        (0..40).try_for_each(|_| editor.step().map(drop))?;
        point(&demo, &format!("before-{round}"))?;
        let before = Snapshot::of(&folder, Aspects::ours())?;

        let place = format!("demo:plan@point:then-{round}");
        let context = format!("KEEPSHARE_SEED={seed} round {round}");
        let preview = json(&demo, &["rollback", &place, "--dry-run"])?;
        same(&folder, &before, &format!("{context}: a preview"))?;
        ensure!(preview["state"] == "preview" && preview["rollback"].is_null(), "{preview}");
        let done = json(&demo, &["rollback", &place, "--yes"])?;
        ensure!(done["state"] == "done", "{context}: {done}");
        ensure!(done["conflicts"] == serde_json::json!([]), "{context}: {done}");
        for counted in ["restored", "brought_back", "removed", "renamed", "unchanged", "bytes"] {
            ensure!(done[counted] == preview[counted], "{context}: {preview} is not {done}");
        }
        same(&folder, &then, &context)?;
        let id = done["rollback"].as_str().context("an id")?;
        let undone = json(&demo, &["rollback", "--undo", id, "--set", "demo", "--yes"])?;
        ensure!(undone["conflicts"] == serde_json::json!([]), "{context}: {undone}");
        same(&folder, &before, &format!("{context}: undone"))?;
    }
    let all = json(&demo, &["rollback", "--list"])?;
    ensure!(all.as_array().is_some_and(|all| all.len() == 2 * rounds), "{all}");
    Ok(())
}

/// What came from elsewhere stays, what went elsewhere stays there, too, and what nobody can have meant is refused.
#[test]
fn what_came_in_stays_and_what_went_out_is_copied_back() -> Result<()> {
    let scratch = Scratch::new("rollback-moves")?;
    let source = scratch.make_dir("source")?;
    for folder in ["plan/sub", "other"] {
        fs::create_dir_all(source.join(folder))?;
    }
    let odd = std::ffi::OsStr::from_bytes(b"plan/caf\xe9");
    for (path, text) in [("plan/out", "out"), ("plan/sub/a", "a"), ("other/in", "in")] {
        fs::write(source.join(path), text)?;
    }
    fs::write(source.join(odd), "latin")?;
    symlink("sub/a", source.join("plan/link"))?;
    let demo = Demo::start(&scratch, Some(&source))?;
    point(&demo, "nine")?;

    fs::rename(source.join("plan/out"), source.join("other/out"))?;
    fs::rename(source.join("other/in"), source.join("plan/in"))?;
    fs::rename(source.join("plan/sub"), source.join("plan/renamed"))?;
    fs::write(source.join("plan/renamed/a"), "encrypted")?;
    fs::write(source.join("plan/renamed/new"), "ransom")?;
    fs::remove_file(source.join(odd))?;
    fs::remove_file(source.join("plan/link"))?;
    point(&demo, "ten")?;

    let (code, text) = refused(&demo, &["rollback", "demo:plan@point:nine"])?;
    ensure!(code == Some(4) && text.contains("--yes"), "{code:?} {text}");
    let shown = demo.call(["rollback", "demo:plan@point:nine", "--dry-run"])?.ok()?;
    let shown = String::from_utf8(shown.out)?;
    for line in ["~ plan/sub/a", "+ plan/out", "- plan/sub/new", "> plan/renamed -> plan/sub"] {
        ensure!(shown.contains(line), "{line} in {shown}");
    }
    let done = json(&demo, &["rollback", "demo:plan@point:nine", "--yes"])?;
    let told = serde_json::json!([
        { "path": "plan/in", "why": "it was elsewhere then, and stays" },
    ]);
    ensure!(done["conflicts"] == told, "{done}");
    let counts = ["restored", "brought_back", "removed", "renamed", "exact"].map(|key| &done[key]);
    ensure!(counts == [1, 3, 1, 1, 3], "{done}");
    for (path, text) in
        [("plan/out", "out"), ("other/out", "out"), ("plan/in", "in"), ("plan/sub/a", "a")]
    {
        ensure!(fs::read_to_string(source.join(path))? == text, "{path}");
    }
    ensure!(fs::read_to_string(source.join(odd))? == "latin");
    ensure!(fs::read_link(source.join("plan/link"))? == Path::new("sub/a"));
    ensure!(!source.join("plan/renamed").exists() && !source.join("plan/sub/new").exists());
    // All that went is a version.
    let new = demo.call(["show", "demo:plan/renamed/new@point:ten"])?.ok()?;
    ensure!(new.out == b"ransom");

    // Done again, there is nothing to do.
    let again = json(&demo, &["rollback", "demo:plan@point:nine", "--dry-run"])?;
    let counts = ["restored", "brought_back", "removed", "renamed"].map(|key| &again[key]);
    ensure!(counts == [0, 0, 0, 0], "{again}");

    // An undo leaves what was worked on since.
    fs::write(source.join("plan/sub/a"), "worked on")?;
    point(&demo, "eleven")?;
    let id = done["rollback"].as_str().context("an id")?;
    let undone = json(&demo, &["rollback", "--undo", id, "--set", "demo", "--yes"])?;
    ensure!(undone["conflicts"][0]["path"] == "plan/renamed/a", "{undone}");
    ensure!(fs::read_to_string(source.join("plan/renamed/a"))? == "worked on");
    ensure!(fs::read_to_string(source.join("plan/renamed/new"))? == "ransom");

    for (args, want) in [
        (&["rollback", "demo:plan/in@point:nine", "--yes"][..], 4),
        (&["rollback", "demo:other/in@point:nine", "--yes"], 4),
        (&["rollback", "demo:plan@1990-01-01", "--yes"], 3),
        (&["rollback", "demo:plan", "--yes"], 2),
        (&["rollback", "nosuch:plan@9:00", "--yes"], 3),
        (&["rollback", "--undo", "nosuch", "--set", "demo"], 3),
        (&["rollback", "--undo", id], 2),
        (&["rollback", "--stop", id, "--set", "demo"], 4),
        (&["rollback"], 2),
    ] {
        let (code, text) = refused(&demo, args)?;
        ensure!(code == Some(want), "{args:?}: {code:?} {text}");
    }
    Ok(())
}

/// What was deleted comes back, and nothing else changes.
#[test]
fn what_was_deleted_comes_back() -> Result<()> {
    let scratch = Scratch::new("undelete")?;
    let source = scratch.make_dir("source")?;
    let folder = source.join("plan");
    fs::create_dir_all(folder.join("deep/er"))?;
    fs::write(folder.join("deep/er/a"), "a")?;
    fs::write(folder.join("kept"), "kept")?;
    fs::write(folder.join("old"), "old")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    point(&demo, "start")?;
    fs::remove_file(folder.join("old"))?;
    point(&demo, "nine")?;
    fs::write(folder.join("deep/b"), "b")?;
    point(&demo, "ten")?;
    fs::remove_dir_all(folder.join("deep"))?;
    fs::write(folder.join("kept"), "changed")?;
    point(&demo, "eleven")?;

    let undelete = ["undelete", "demo:plan", "--since", "point:nine"];
    let preview = json(&demo, &[&undelete[..], &["--dry-run"]].concat())?;
    ensure!(preview["brought_back"] == 4 && !folder.join("deep").exists(), "{preview}");
    let done = json(&demo, &[&undelete[..], &["--yes"]].concat())?;
    ensure!(done["brought_back"] == 4 && done["conflicts"] == serde_json::json!([]), "{done}");
    ensure!(fs::read_to_string(folder.join("deep/er/a"))? == "a");
    ensure!(fs::read_to_string(folder.join("deep/b"))? == "b");
    ensure!(fs::read_to_string(folder.join("kept"))? == "changed");
    ensure!(!folder.join("old").exists(), "it went before");
    Ok(())
}

/// One that is ended in the middle is taken back whole: what it did is known to its last step.
#[test]
fn what_was_ended_in_the_middle_can_be_undone() -> Result<()> {
    let scratch = Scratch::new("rollback-stop")?;
    let source = scratch.make_dir("source")?;
    let folder = source.join("plan");
    fs::create_dir(&folder)?;
    let save = |what: &str| {
        let path = |number: u32| folder.join(format!("{number}"));
        (0..1500).try_for_each(|number| fs::write(path(number), format!("{what} {number}")))
    };
    save("then")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    point(&demo, "then")?;
    save("later")?;
    point(&demo, "before")?;
    let before = Snapshot::of(&folder, Aspects::ours())?;
    let listed = || -> Result<Value> {
        Ok(json(&demo, &["rollback", "--list"])?.get(0).cloned().unwrap_or_default())
    };
    let order = ["rollback", "demo:plan@point:then", "--yes"];
    let stopped = std::thread::scope(|scope| -> Result<Value> {
        let ordered = scope.spawn(|| not_wholly(&demo, &order));
        wait_for(Duration::from_secs(60), "the first steps", || {
            Ok((listed()?["restored"].as_u64() > Some(20)).then_some(()))
        })?;
        let told = listed()?;
        let id = told["rollback"].as_str().context("an id")?;
        let stopped = json(&demo, &["rollback", "--stop", id, "--set", "demo"])?;
        let answered = ordered.join().ok().context("it answers")??;
        ensure!(answered["state"] == "stopped", "{answered}");
        Ok(stopped)
    })?;
    ensure!(
        stopped["state"] == "stopped" && stopped["restored"].as_u64() < Some(1500),
        "{stopped}"
    );
    let id = stopped["rollback"].as_str().context("an id")?;
    let undone = json(&demo, &["rollback", "--undo", id, "--set", "demo", "--yes"])?;
    ensure!(undone["restored"] == stopped["restored"], "{stopped} is not {undone}");
    same(&folder, &before, "undone")
}

/// A folder that came back goes again, once; and what was in a folder that was made again is found.
#[test]
fn a_folder_that_was_gone_comes_and_goes() -> Result<()> {
    let scratch = Scratch::new("rollback-gone")?;
    let source = scratch.make_dir("source")?;
    let folder = source.join("plan/inner");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("a"), "a")?;
    fs::write(source.join("plan/b"), "b")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    point(&demo, "then")?;
    fs::remove_dir_all(source.join("plan"))?;
    point(&demo, "gone")?;

    let done = json(&demo, &["rollback", "demo:plan@point:then", "--yes"])?;
    ensure!(fs::read_to_string(folder.join("a"))? == "a", "{done}");
    let id = done["rollback"].as_str().context("an id")?;
    let undo = ["rollback", "--undo", id, "--set", "demo", "--yes"];
    let undone = json(&demo, &undo)?;
    ensure!(undone["conflicts"] == serde_json::json!([]), "{undone}");
    ensure!(!source.join("plan").exists(), "{undone}");
    let (code, text) = refused(&demo, &undo)?;
    let by = undone["rollback"].as_str().context("an id")?;
    ensure!(code == Some(4) && text.contains(by), "{code:?} {text}");
    let again = json(&demo, &["rollback", "--undo", by, "--set", "demo", "--yes"])?;
    ensure!(fs::read_to_string(folder.join("a"))? == "a", "{again}");
    let (code, text) = refused(&demo, &undo)?;
    let by = again["rollback"].as_str().context("an id")?;
    ensure!(code == Some(4) && text.contains(&format!("--undo {by}")), "{code:?} {text}");
    json(&demo, &["rollback", "--undo", by, "--set", "demo", "--yes"])?;
    ensure!(!source.join("plan").exists());

    // Somebody's program makes it again.
    fs::create_dir_all(&folder)?;
    fs::write(source.join("plan/b"), "new")?;
    point(&demo, "again")?;
    let undeleted = json(&demo, &["undelete", "demo:", "--since", "point:then", "--yes"])?;
    ensure!(fs::read_to_string(folder.join("a"))? == "a", "{undeleted}");
    ensure!(fs::read_to_string(source.join("plan/b"))? == "new", "{undeleted}");
    ensure!(undeleted["conflicts"][0]["path"] == "plan/b", "{undeleted}");
    Ok(())
}

/// A folder that somebody renames while it goes on holds nothing up: what was in it is listed.
#[test]
fn a_folder_that_is_renamed_meanwhile_holds_nothing_up() -> Result<()> {
    let scratch = Scratch::new("rollback-renamed")?;
    let source = scratch.make_dir("source")?;
    let path = |number: u32| format!("plan/{}/{number}", number % 10);
    (0..10).try_for_each(|n| fs::create_dir_all(source.join(format!("plan/{n}"))))?;
    let save = |what: &str| {
        let save = |number: u32| fs::write(source.join(path(number)), format!("{what} {number}"));
        (0..1500).try_for_each(save)
    };
    save("then")?;
    let demo = Demo::start(&scratch, Some(&source))?;
    point(&demo, "then")?;
    save("later")?;
    point(&demo, "before")?;
    let order = ["rollback", "demo:plan@point:then", "--yes"];
    let told = std::thread::scope(|scope| -> Result<Value> {
        let ordered = scope.spawn(|| not_wholly(&demo, &order));
        wait_for(Duration::from_secs(60), "the first steps", || {
            let told = json(&demo, &["rollback", "--list"])?;
            Ok((told[0]["restored"].as_u64() > Some(20)).then_some(()))
        })?;
        fs::rename(source.join("plan"), source.join("moved"))?;
        ordered.join().ok().context("it answers")?
    })?;
    ensure!(told["state"] == "incomplete", "{told}");
    let (done, left) = (told["restored"].as_u64(), told["not_done"].as_u64());
    ensure!(done.zip(left).is_some_and(|(done, left)| done + left >= 1500), "{told}");
    let then = |number: &u32| {
        let there = source.join(path(*number).replace("plan", "moved"));
        fs::read_to_string(there).is_ok_and(|text| text.starts_with("then"))
    };
    let restored = (0..1500).filter(then).count() as u64;
    ensure!(Some(restored) >= done, "{restored} {told}");
    Ok(())
}

/// Whoever orders it hears first how much more it takes, and whether that is there: what finds no room would wait.
#[test]
fn the_preview_says_what_room_it_takes() -> Result<()> {
    if !keepshare_support::tools::is_root() {
        keepshare_support::tools::skip("the_preview_says_what_room_it_takes", "it needs root");
        return Ok(());
    }
    let mut scratch = Scratch::new("rollback-room")?;
    let source = scratch.mount_tmpfs("source", 24 << 20)?;
    fs::create_dir(source.join("plan"))?;
    fs::write(source.join("plan/big"), vec![7; 10 << 20])?;
    fs::write(source.join("plan/small"), vec![7; 1 << 20])?;
    let demo = Demo::start_single(&scratch, Some(&source))?;
    point(&demo, "then")?;
    let args = ["rollback", "demo:plan@point:then", "--dry-run"];
    let told = json(&demo, &args)?;
    ensure!(told.get("grows").is_none() && told["room"].as_u64() > Some(8 << 20), "{told}");
    fs::remove_file(source.join("plan/big"))?;
    fs::write(source.join("plan/small"), vec![8; 1 << 19])?;
    point(&demo, "since")?;
    let told = json(&demo, &args)?;
    ensure!(told["grows"] == (10 << 20) + (1 << 19), "{told}");
    let shown = String::from_utf8(demo.call(args)?.ok()?.out)?;
    ensure!(shown.contains("more on the master's disk."), "{shown}");
    fs::write(source.join("filling"), vec![9; 16 << 20])?;
    point(&demo, "full")?;
    let shown = String::from_utf8(demo.call(args)?.ok()?.out)?;
    ensure!(shown.contains("are free: what finds no room then waits"), "{shown}");
    Ok(())
}
