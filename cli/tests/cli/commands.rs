//! The commands against a running demo: what they print, what they give back, how they fail.

use std::{
    fs,
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
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
        fs::write(source.join("plans/a.txt"), "first")?;
        let demo = Demo::start(&scratch, Some(&source))?;
        Ok(Self { scratch, source, demo })
    }

    /// Returns the versions of a path as soon as there are so many.
    fn versions(&self, path: &str, count: usize) -> Result<Vec<Value>> {
        wait_for(SOON, &format!("{path} has {count} versions"), || {
            let versions = self.demo.versions(Path::new(path)).unwrap_or_default();
            Ok((versions.len() >= count).then_some(versions))
        })
    }

    fn call(&self, args: &[&str]) -> Result<Reply> {
        self.demo.call(args)
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Scripts are written against these keys.
#[test]
fn versions_have_the_keys_that_were_promised() -> Result<()> {
    let stage = Stage::new("keys")?;
    fs::write(stage.source.join("plans/a.txt"), "second, longer")?;
    let versions = stage.versions("plans/a.txt", 2)?;
    let keys = [
        "version", "time", "size", "user", "event", "name", "current", "mode", "owner", "group",
        "owner_id", "group_id", "hash", "until", "ended",
    ];
    for version in &versions {
        for key in keys {
            ensure!(version.get(key).is_some(), "{key} is missing in {version}");
        }
    }
    let [newest, oldest] = &versions[..] else { panic!("{versions:?}") };
    ensure!(newest["current"] == true && newest["ended"].is_null(), "{newest}");
    ensure!(oldest["current"] == false && oldest["ended"] == "replaced", "{oldest}");
    ensure!(oldest["size"] == 5 && newest["size"] == 14 && text(&newest["time"]).ends_with('Z'));
    let status = stage.call(&["status", "--json"])?.json()?;
    for station in status["stations"].as_array().context("no stations")? {
        for key in ["name", "role", "version", "listen", "members", "sets", "problems"] {
            ensure!(station.get(key).is_some(), "{key} is missing in {station}");
        }
    }
    stage.demo.interrupt()
}

/// A whole folder comes back as it was, with what was deleted since and without what came since.
#[test]
fn a_folder_comes_back_as_of_a_moment() -> Result<()> {
    let stage = Stage::new("folder")?;
    let then = stage.versions("plans/a.txt", 1)?.remove(0);
    fs::write(stage.source.join("plans/b.txt"), "later")?;
    fs::remove_file(stage.source.join("plans/a.txt"))?;
    wait_for(SOON, "the deletion", || {
        let gone = stage.demo.versions(Path::new("plans/a.txt")).unwrap_or_default();
        Ok(gone.first().is_some_and(|gone| gone["ended"] == "deleted").then_some(()))
    })?;
    let out = stage.scratch.join("out");
    let shown = out.to_string_lossy().into_owned();
    let what = format!("demo:plans@{}", text(&then["version"]));
    stage.call(&["restore", &what, "--to", &shown])?.ok()?;
    ensure!(fs::read(out.join("plans/a.txt"))? == b"first");
    ensure!(!out.join("plans/b.txt").exists());
    let (was, is) = (fs::metadata(out.join("plans/a.txt"))?, text(&then["mtime"]));
    ensure!(is.starts_with("20") && was.mtime() > 0, "{is}");
    // Nothing is replaced unless that was asked for.
    let again = stage.call(&["restore", &what, "--to", &shown, "--json"])?;
    ensure!(again.code == Some(4), "{again:?}");
    ensure!(again.failure()?.1.is_some_and(|hint| hint.contains("--force")));
    stage.call(&["restore", &what, "--to", &shown, "--force"])?.ok()?;
    // What a folder has lost is found by asking for the folder.
    let of_folder = stage.demo.versions(Path::new("plans"))?;
    ensure!(of_folder.iter().any(|version| version["name"] == "plans/a.txt"), "{of_folder:?}");
    let listed = stage.call(&["show", "demo:plans@latest", "--json"])?.json()?;
    ensure!(listed[0]["name"] == "b.txt" && listed[1].is_null(), "{listed}");
    stage.demo.interrupt()
}

/// A path in the source or in the live tree is as good as one in the set.
#[test]
fn local_paths_are_recognised() -> Result<()> {
    let stage = Stage::new("local")?;
    let live = stage.demo.path("live")?;
    for root in [stage.source.as_path(), &live] {
        let path = root.join("plans/a.txt");
        let path = path.to_str().context("a plain path")?;
        let versions = stage.call(&["versions", path, "--json"])?.json()?;
        ensure!(versions[0]["name"] == "plans/a.txt", "{path}: {versions}");
        let shown = stage.call(&["show", &format!("{path}@latest")])?.ok()?;
        ensure!(shown.out == b"first", "{path}");
    }
    let elsewhere = stage.call(&["versions", "/etc/hostname", "--json"])?;
    ensure!(elsewhere.code == Some(3) && elsewhere.failure()?.1.is_some(), "{elsewhere:?}");
    stage.demo.interrupt()
}

/// A restore in place is one more version, the same bytes are answered as such, and the master writes it.
#[test]
fn a_restore_in_place_is_a_version_and_can_be_undone() -> Result<()> {
    let stage = Stage::new("in-place")?;
    let first = stage.versions("plans/a.txt", 1)?.remove(0);
    fs::write(stage.source.join("plans/a.txt"), "second")?;
    let second = stage.versions("plans/a.txt", 2)?.remove(0);
    let what = format!("demo:plans/a.txt@{}", text(&first["version"]));
    let restored = stage.call(&["restore", &what, "--json"])?.json()?;
    ensure!(restored["outcome"] == "written" && restored["version"] == first["version"]);
    ensure!(fs::read(stage.source.join("plans/a.txt"))? == b"first");
    let versions = stage.versions("plans/a.txt", 3)?;
    ensure!(versions[0]["event"] == "restored" && versions[0]["current"] == true, "{versions:?}");
    ensure!(stage.call(&["restore", &what, "--json"])?.json()?["outcome"] == "equal");
    let undo = format!("demo:plans/a.txt@{}", text(&second["version"]));
    stage.call(&["restore", &undo])?.ok()?;
    ensure!(fs::read(stage.source.join("plans/a.txt"))? == b"second");
    let folder = stage.call(&["restore", "demo:plans@latest", "--json"])?;
    ensure!(folder.code == Some(4), "{folder:?}");
    stage.demo.interrupt()
}

/// Who deleted a folder is told how to get back what was in it.
#[test]
fn a_file_whose_folder_is_gone_is_refused_with_the_next_step() -> Result<()> {
    let stage = Stage::new("no-folder")?;
    let first = stage.versions("plans/a.txt", 1)?.remove(0);
    fs::remove_dir_all(stage.source.join("plans"))?;
    wait_for(SOON, "the deletion", || {
        let gone = stage.demo.versions(Path::new("plans/a.txt")).unwrap_or_default();
        Ok(gone.first().is_some_and(|gone| gone["ended"] == "deleted").then_some(()))
    })?;
    let what = format!("demo:plans/a.txt@{}", text(&first["version"]));
    let refused = stage.call(&["restore", &what, "--json"])?;
    ensure!(refused.code == Some(4), "{refused:?}");
    let hint = refused.failure()?.1.context("no hint")?;
    ensure!(hint.contains("--to DIR") && hint.contains("the folder plans "), "{hint}");
    fs::create_dir(stage.source.join("plans"))?;
    // The other folder of this name has no such file and never had: the version is found all the same.
    fs::write(stage.source.join("plans/other.txt"), "other")?;
    stage.versions("plans/other.txt", 1)?;
    ensure!(stage.versions("plans/a.txt", 1)?[0]["version"] == first["version"]);
    let mut last = String::new();
    let waited = wait_for(SOON, "the folder to be known", || {
        let reply = stage.call(&["restore", &what])?;
        last = reply.err;
        Ok((reply.code == Some(0)).then_some(()))
    });
    waited.with_context(|| format!("it says: {last}"))?;
    ensure!(fs::read(stage.source.join("plans/a.txt"))? == b"first");
    stage.demo.interrupt()
}

/// A time that somebody gives to the wrong command, or that is too early, leads to the right one.
#[test]
fn times_that_do_not_fit_are_answered_with_what_does() -> Result<()> {
    let stage = Stage::new("times")?;
    let listed = stage.call(&["versions", "demo:plans/a.txt@2h", "--json"])?;
    ensure!(listed.code == Some(3), "{listed:?}");
    let hint = listed.failure()?.1.context("no hint")?;
    ensure!(hint.contains("keepshare show 'demo:plans/a.txt@2h'"), "{hint}");
    let early = stage.call(&["show", "demo:plans/a.txt@2001-01-01", "--json"])?;
    ensure!(early.code == Some(3), "{early:?}");
    let (error, hint) = early.failure()?;
    let begin = error.rsplit(' ').next().unwrap_or_default();
    ensure!(begin.starts_with("20") && begin.len() == "2026-11-20_15.32.07+0100".len(), "{error}");
    ensure!(hint.is_some_and(|hint| hint.contains(begin)), "the hint does not say it: {error}");
    let shown = stage.call(&["show", &format!("demo:plans/a.txt@{begin}")])?.ok()?;
    ensure!(shown.out == b"first", "what begins then is not there then");
    stage.demo.interrupt()
}

/// The shortest command does the plain thing, and a terminal is not filled with garbage.
#[test]
fn show_without_a_time_is_the_present_and_never_garbage() -> Result<()> {
    let stage = Stage::new("show")?;
    ensure!(stage.call(&["show", "demo:plans/a.txt"])?.ok()?.out == b"first");
    let listed = stage.call(&["show", "demo:plans", "--json"])?.json()?;
    ensure!(listed[0]["name"] == "a.txt", "{listed}");
    fs::write(stage.source.join("plans/b.bin"), b"\x7fELF\0\x1b[2J")?;
    stage.versions("plans/b.bin", 1)?;
    ensure!(stage.call(&["show", "demo:plans/b.bin"])?.ok()?.out == b"\x7fELF\0\x1b[2J");
    let socket = stage.demo.path("socket")?;
    let program = stage.scratch.program()?;
    let on_terminal = |what: &str| {
        let (program, socket) = (program.display(), socket.display());
        let typed = format!("'{program}' show {what} --socket '{socket}'");
        Reply::of(std::process::Command::new("script").args(["-qec", &typed, "/dev/null"]))
    };
    let refused = on_terminal("demo:plans/b.bin")?;
    let shown = String::from_utf8_lossy(&refused.out).into_owned();
    ensure!(refused.code == Some(4) && shown.contains("use > FILE"), "{refused:?}");
    ensure!(!shown.contains('\x1b') && !shown.contains("ELF"), "{shown:?}");
    ensure!(on_terminal("demo:plans/a.txt")?.ok()?.out == b"first");
    let typo = stage.call(&["show", "demo:plans/a.txt@sometime", "--json"])?;
    ensure!(typo.code == Some(3), "{typo:?}");
    ensure!(typo.failure()?.1.is_some_and(|hint| hint.contains("'sometime' is not a time")));
    stage.demo.interrupt()
}

/// Who mistypes a path is led to the right one, not from one command to another and back.
#[test]
fn a_path_that_is_not_there_is_answered_with_what_is_near() -> Result<()> {
    let stage = Stage::new("near")?;
    for (command, typed, meant) in [
        ("versions", "demo:plans/b.txt", "'demo:plans/a.txt'"),
        ("show", "demo:plnas/a.txt@latest", "'demo:plans/a.txt'"),
        ("restore", "demo:Plans/A.TXT@latest", "'demo:plans/a.txt'"),
    ] {
        let reply = stage.call(&[command, typed, "--json"])?;
        ensure!(reply.code == Some(3), "{typed}: {reply:?}");
        let hint = reply.failure()?.1.context("no hint")?;
        ensure!(hint.contains(&format!("did you mean {meant}?")), "{typed}: {hint}");
        ensure!(hint.contains("keepshare find"), "{typed}: {hint}");
    }
    let far = stage.call(&["versions", "demo:something/quite/other", "--json"])?.failure()?.1;
    let far = far.context("no hint")?;
    ensure!(far.contains("keepshare find 'other'") && !far.contains("did you mean"), "{far}");
    fs::remove_file(stage.source.join("plans/a.txt"))?;
    wait_for(SOON, "the deletion", || {
        let gone = stage.demo.versions(Path::new("plans/a.txt")).unwrap_or_default();
        Ok(gone.first().is_some_and(|gone| gone["ended"] == "deleted").then_some(()))
    })?;
    let gone = stage.call(&["show", "demo:plans/a.txt", "--json"])?;
    let (error, hint) = gone.failure()?;
    ensure!(gone.code == Some(3) && error.contains("is not there now"), "{error}");
    ensure!(hint.is_some_and(|hint| hint.contains("keepshare versions 'demo:plans/a.txt'")));
    stage.demo.interrupt()
}

/// A log that is written without a pause is there, though it has no version in its first seconds.
#[test]
fn a_file_without_a_version_yet_is_said_to_have_none_yet() -> Result<()> {
    let stage = Stage::new("no-version-yet")?;
    let log = stage.source.join("plans/app.log");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            let mut file = fs::File::create(&log)?;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n")?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let told = wait_for(SOON, "the file is said to have no version yet", || {
            let asked = stage.call(&["versions", "demo:plans/app.log", "--json"])?;
            ensure!(asked.code == Some(3), "it has versions already: {asked:?}");
            let (error, _) = asked.failure()?;
            Ok(error.contains("no version yet: the first is cut within 10 s").then_some(()))
        });
        stop.store(true, Ordering::Relaxed);
        told
    })?;
    stage.versions("plans/app.log", 1)?;
    stage.demo.interrupt()
}

/// What is shown of a file that is being written is no version, and nobody takes it for one.
#[test]
fn content_that_is_no_version_yet_is_said_to_be_none() -> Result<()> {
    let stage = Stage::new("uncut")?;
    let first = stage.versions("plans/a.txt", 1)?.remove(0);
    let (file, stop) = (stage.source.join("plans/a.txt"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| -> Result<()> {
            let mut file = fs::File::options().append(true).open(&file)?;
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n")?;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let told = wait_for(SOON, "the file is said to be no version", || {
            // What is no version may be gone while it is read.
            let shown = stage.call(&["show", "demo:plans/a.txt"])?;
            let note =
                "note: a.txt is no version yet (it is being received, or its master is away)";
            Ok((shown.err.contains(note)).then_some(shown.err))
        });
        let mut tries = 0;
        let listed = wait_for(SOON, "the restored folder is said to have it", || {
            tries += 1;
            let out = stage.scratch.join(&format!("out{tries}")).to_string_lossy().into_owned();
            let args = ["restore", "demo:plans@latest", "--to", &out, "--json"];
            let restored = stage.call(&args)?.json().unwrap_or_default();
            Ok((restored["uncut"][0] == "plans/a.txt").then_some(()))
        });
        stop.store(true, Ordering::Relaxed);
        ensure!(told?.contains(text(&first["version"])), "the last version is not named");
        listed
    })?;
    stage.demo.interrupt()
}

/// A time that is listed and typed back gives what was there then.
#[test]
fn times_that_are_listed_can_be_typed_back() -> Result<()> {
    let stage = Stage::new("typed-back")?;
    stage.versions("plans/a.txt", 1)?;
    for n in 2..=5 {
        fs::write(stage.source.join("plans/a.txt"), format!("saved {n}"))?;
        stage.versions("plans/a.txt", n)?;
    }
    let listed = String::from_utf8(stage.call(&["versions", "demo:plans/a.txt"])?.ok()?.out)?;
    let show = |when: &str| -> Result<Vec<u8>> {
        Ok(stage.call(&["show", &format!("demo:plans/a.txt@{when}")])?.ok()?.out)
    };
    let mut newer: Option<Vec<u8>> = None;
    for row in listed.lines().skip(1).take(4) {
        let words: Vec<&str> = row.split_whitespace().collect();
        let content = show(words[0])?;
        ensure!(show(words[1])? == content, "{row}");
        if let Some(newer) = newer {
            ensure!(show(words[words.len() - 1])? == newer, "{row}");
        }
        newer = Some(content);
    }
    stage.demo.interrupt()
}

/// What a limit leaves out is the oldest, never what was there between.
#[test]
fn a_limit_hides_no_versions_of_a_folder_that_was_made_again() -> Result<()> {
    let stage = Stage::new("limit")?;
    let file = |folder: &str| stage.source.join(folder).join("f");
    let save = |folder: &str, text: &str| fs::write(file(folder), text);
    fs::create_dir(stage.source.join("a"))?;
    for n in 1..=3 {
        save("a", &format!("a{n}"))?;
        stage.versions("a/f", n)?;
    }
    fs::rename(stage.source.join("a"), stage.source.join("b"))?;
    for n in 4..=7 {
        wait_for(SOON, "b/f is known", || {
            Ok(stage.demo.versions(Path::new("b/f")).is_ok().then_some(()))
        })?;
        save("b", &format!("b{n}, which is longer"))?;
        stage.versions("b/f", n)?;
    }
    fs::create_dir(stage.source.join("a"))?;
    save("a", "a again")?;
    let all = wait_for(SOON, "the new file is known", || {
        let all = stage.demo.versions(Path::new("a/f")).unwrap_or_default();
        let is_new = |newest: &Value| newest["current"] == true && newest["name"] == "a/f";
        let is_known = all.first().is_some_and(is_new);
        Ok(is_known.then_some(all))
    })?;
    ensure!(all.len() == 4, "{all:?}");
    for (limit, command) in [("0", "versions"), ("100001", "versions"), ("0", "find")] {
        let refused = stage.call(&[command, "demo:a/f", "--limit", limit, "--json"])?;
        ensure!(refused.code == Some(2), "{command} --limit {limit}: {refused:?}");
        ensure!(refused.failure()?.1.is_some_and(|hint| hint.contains("1 to 100000")));
    }
    for limit in 1..=5 {
        let args = ["versions", "demo:a/f", "--limit", &limit.to_string(), "--json"];
        let some = stage.call(&args)?.json()?;
        let some = some.as_array().context("versions are an array")?;
        let ids = |some: &[Value]| some.iter().map(|v| v["version"].clone()).collect::<Vec<_>>();
        ensure!(ids(some) == ids(&all[..limit.min(4)]), "--limit {limit}: {some:?}");
    }
    stage.demo.interrupt()
}

/// A folder's list of what is gone goes on where the folder was removed and made again, as it does on the drive.
#[test]
fn what_is_gone_from_a_folder_that_was_made_again_is_listed() -> Result<()> {
    let stage = Stage::new("made-again")?;
    let folder = stage.source.join("box");
    fs::create_dir(&folder)?;
    fs::write(folder.join("kept"), "of before")?;
    stage.versions("box/kept", 1)?;
    fs::remove_dir_all(&folder)?;
    wait_for(SOON, "the folder is gone", || {
        let gone = stage.demo.versions(Path::new("box/kept"))?;
        Ok((gone[0]["ended"] == "deleted").then_some(()))
    })?;
    fs::create_dir(&folder)?;
    fs::write(folder.join("new"), "of now")?;
    stage.versions("box/new", 1)?;
    let listed = stage.demo.versions(Path::new("box"))?;
    let is_kept = |version: &&Value| version["name"] == "box/kept";
    let kept = listed.iter().find(is_kept).with_context(|| format!("not listed: {listed:?}"))?;
    ensure!(kept["ended"] == "deleted" && kept["current"] == false, "{kept}");
    stage.demo.interrupt()
}

/// What was damaged is named, and the command fails.
#[test]
fn fsck_compares_the_live_tree() -> Result<()> {
    let stage = Stage::new("fsck")?;
    let report = stage.call(&["fsck", "--json"])?.json()?;
    ensure!(report[0]["ok"] == true && report[0]["set"] == "demo", "{report}");
    fs::write(stage.demo.path("live")?.join("plans/a.txt"), "FIRST")?;
    let reply = stage.call(&["fsck", "demo", "--json"])?;
    ensure!(reply.code == Some(1), "{reply:?}");
    let report: Value = serde_json::from_slice(&reply.out)?;
    ensure!(text(&report[0]["live_differences"][0]).contains("plans/a.txt"), "{report}");
    ensure!(stage.call(&["fsck", "nowhere"])?.code == Some(3));
    stage.demo.interrupt()
}

/// Shells ask for completions without any station.
#[test]
fn completions_need_no_station() -> Result<()> {
    let scratch = Scratch::new("completions")?;
    for shell in ["bash", "zsh", "fish"] {
        let mut command = std::process::Command::new(scratch.program()?);
        let reply = Reply::of(command.args(["completions", shell]))?.ok()?;
        ensure!(String::from_utf8(reply.out)?.contains("keepshare"), "{shell}");
    }
    Ok(())
}
