//! `keepshare demo`: what somebody sees in the first five minutes must be true.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_e2e::{MIRRORED, SOON, git, has, many_files};
use keepshare_support::{
    Aspects, Demo, Scratch, Snapshot, compare::equal_within, in_scratch,
    in_scratch_as_ordinary_user, tools, tree, tree::TreeSpec, wait_for,
};

/// The sample has a history; every version of it can be looked at, taken out and brought back.
#[test]
fn the_sample_can_be_explored_as_root() -> Result<()> {
    if !tools::is_root() {
        tools::skip("the_sample_can_be_explored_as_root", "needs root");
        return Ok(());
    }
    in_scratch("demo-root", explore_the_sample)
}

/// The same for somebody without any right.
#[test]
fn the_sample_can_be_explored_as_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("demo-user", explore_the_sample)
}

/// A real tree with everything that occurs in one arrives whole, and its files have versions.
#[test]
fn a_real_tree_arrives_whole_as_root() -> Result<()> {
    if !tools::is_root() {
        tools::skip("a_real_tree_arrives_whole_as_root", "needs root");
        return Ok(());
    }
    in_scratch("demo-tree-root", replicate_a_real_tree)
}

/// The same for somebody without any right, who cannot keep modes and owners live.
#[test]
fn a_real_tree_arrives_whole_as_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("demo-tree-user", replicate_a_real_tree)
}

/// Git makes and removes thousands of files in bursts and would notice a single one that is wrong.
#[test]
fn a_git_checkout_being_worked_in_stays_a_git_checkout_as_root() -> Result<()> {
    if !tools::is_root() {
        tools::skip("a_git_checkout_being_worked_in_as_root", "needs root");
        return Ok(());
    }
    in_scratch("demo-git-root", work_in_a_checkout)
}

/// The same with the means an ordinary user has to see changes.
#[test]
fn a_git_checkout_being_worked_in_stays_a_git_checkout_as_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("demo-git-user", work_in_a_checkout)
}

/// Whoever tried something out yesterday finds it again today.
#[test]
fn a_demo_goes_on_where_it_was() -> Result<()> {
    in_scratch("demo-again", go_on_where_it_was)
}

fn go_on_where_it_was(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "first")?;
    let demo = Demo::start(scratch, Some(&source))?;
    versions_within(&demo, "file", 1)?;
    demo.interrupt()?;
    fs::write(source.join("file"), "second, while nobody looked")?;
    let demo = Demo::start(scratch, Some(&source))?;
    versions_within(&demo, "file", 2)?;
    demo.kill()?;
    let demo = Demo::start(scratch, Some(&source))?;
    let versions = versions_within(&demo, "file", 2)?;
    let oldest = versions.last().context("there are versions")?;
    ensure!(show(&demo, Path::new("file"), oldest)? == b"first");
    demo.interrupt()
}

/// One station that keeps its own files shows the same, and goes on where it was without being told what it is.
#[test]
fn the_sample_of_one_station_can_be_explored() -> Result<()> {
    in_scratch("demo-single", explore_one_station)
}

fn explore_one_station(scratch: &mut Scratch) -> Result<()> {
    let demo = Demo::start_single(scratch, None)?;
    ensure!(demo.path("live")? == demo.path("source")?, "the live tree is in place");
    let status = demo.call(["status", "--json"])?.json()?;
    ensure!(status["stations"].as_array().is_some_and(|stations| stations.len() == 1), "{status}");
    ensure!(demo.ready["nfs_port"].is_u64() && demo.ready["mount_path"].is_string());
    explore(scratch, demo)?;
    let again = Demo::start(scratch, None)?;
    let versions = versions_within(&again, "letters/offer.txt", 6)?;
    ensure!(show(&again, Path::new("letters/offer.txt"), &versions[0])? == b"asdf\n");
    again.interrupt()
}

fn explore_the_sample(scratch: &mut Scratch) -> Result<()> {
    let demo = Demo::start(scratch, None)?;
    explore(scratch, demo)
}

fn explore(scratch: &Scratch, demo: Demo) -> Result<()> {
    let (source, live) = (demo.path("source")?, demo.path("live")?);
    equal_within(SOON, &source, &live, Aspects::ours())?;
    let mut with_a_past = None;
    for path in Snapshot::of(&source, Aspects::ALL)?.files() {
        let path = PathBuf::from(std::str::from_utf8(path)?);
        let versions = demo.versions(&path)?;
        let newest = versions.first().with_context(|| format!("{path:?} has no version"))?;
        ensure!(newest["current"] == true, "the newest version of {path:?} is not current");
        ensure!(show(&demo, &path, newest)? == fs::read(source.join(&path))?, "{path:?}");
        for version in &versions {
            let bytes = show(&demo, &path, version)?;
            ensure!(version["size"] == bytes.len(), "{path:?}: {version}");
            if let Some(hash) = version["hash"].as_str() {
                ensure!(blake3::hash(&bytes).to_hex().as_str() == hash, "{path:?}: {version}");
            }
        }
        if versions.len() > 1 {
            with_a_past = Some((path, versions));
        }
    }
    let (path, versions) = with_a_past.context("no file of the sample has two versions")?;
    take_out_and_bring_back(scratch, &demo, &path, &versions)?;
    demo.interrupt()
}

fn take_out_and_bring_back(
    scratch: &Scratch,
    demo: &Demo,
    path: &Path,
    versions: &[Value],
) -> Result<()> {
    let oldest = versions.last().context("there are versions")?;
    let (then, now) = (show(demo, path, oldest)?, fs::read(demo.path("source")?.join(path))?);
    ensure!(then != now, "the sample's history of {path:?} is the same thing twice");
    let out = scratch.make_dir("out")?;
    let what = at(demo, path, oldest)?;
    demo.call([OsStr::new("restore"), &what, OsStr::new("--to"), out.as_os_str()])?.ok()?;
    let name = path.file_name().context("a file has a name")?;
    ensure!(fs::read(out.join(name))? == then, "taken out: other bytes");
    demo.call([OsStr::new("restore"), &what])?.ok()?;
    ensure!(fs::read(demo.path("source")?.join(path))? == then, "brought back: other bytes");
    let after = versions_within(demo, &path.to_string_lossy(), versions.len() + 1)?;
    ensure!(after[0]["event"] == "restored", "{}", after[0]);
    // It can be undone.
    let undo = at(demo, path, &versions[0])?;
    demo.call([OsStr::new("restore"), &undo])?.ok()?;
    ensure!(fs::read(demo.path("source")?.join(path))? == now, "undone: other bytes");
    Ok(())
}

fn replicate_a_real_tree(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    let files = tree::grow(&source, TreeSpec { files: many_files(), odd: true, seed: 20 })?;
    ensure!(files >= many_files(), "only {files} files");
    let demo = Demo::start(scratch, Some(&source))?;
    equal_within(MIRRORED, &source, &demo.path("live")?, Aspects::ours())?;
    for path in ["a/d000/f00000", "odd/shapes/sparse", "odd/names/new\nline", "odd/shapes/zeros"] {
        let path = Path::new(path);
        let versions = versions_within(&demo, &path.to_string_lossy(), 1)?;
        ensure!(show(&demo, path, &versions[0])? == fs::read(source.join(path))?, "{path:?}");
    }
    fs::write(source.join("a/d000/f00000"), "edited")?;
    let versions = versions_within(&demo, "a/d000/f00000", 2)?;
    ensure!(show(&demo, Path::new("a/d000/f00000"), &versions[0])? == b"edited");
    demo.interrupt()
}

fn work_in_a_checkout(scratch: &mut Scratch) -> Result<()> {
    if !has("a_git_checkout_being_worked_in", "git") {
        return Ok(());
    }
    let source = scratch.make_dir("source")?;
    git(&source, ["init", "--quiet"])?;
    tree::grow(&source, TreeSpec { files: 400, odd: false, seed: 1 })?;
    commit_all(&source, "first")?;
    let demo = Demo::start(scratch, Some(&source))?;
    let live = demo.path("live")?;
    for round in 0..6 {
        let branch = format!("branch-{round}");
        git(&source, ["switch", "--quiet", "--create", &branch])?;
        tree::grow(&source, TreeSpec { files: 100 * round, odd: false, seed: round as u64 + 2 })?;
        fs::write(source.join("README"), format!("round {round}\n"))?;
        commit_all(&source, &branch)?;
        git(&source, ["switch", "--quiet", "main"])?;
        git(&source, ["merge", "--quiet", "--no-edit", "--no-ff", &branch])?;
        git(&source, ["repack", "-q", "-a", "-d"])?;
        git(&source, ["gc", "--quiet", "--prune=now"])?;
    }
    equal_within(SOON, &source, &live, Aspects::ours())?;
    git(&live, ["fsck", "--full", "--strict"])?;
    ensure!(git(&live, ["log", "--oneline"])? == git(&source, ["log", "--oneline"])?);
    let versions = demo.versions(Path::new("README"))?;
    ensure!(
        !versions.is_empty() && show(&demo, Path::new("README"), &versions[0])? == b"round 5\n"
    );
    demo.interrupt()
}

fn commit_all(source: &Path, message: &str) -> Result<()> {
    git(source, ["add", "--all"])?;
    git(source, ["commit", "--quiet", "--message", message])?;
    Ok(())
}

fn at(demo: &Demo, path: &Path, version: &Value) -> Result<OsString> {
    let set = demo.ready["set"].as_str().context("the demo printed no set")?;
    let mut what = keepshare_support::station::place(set, path);
    what.push("@");
    what.push(version["version"].as_str().context("a version has an id")?);
    Ok(what)
}

fn show(demo: &Demo, path: &Path, version: &Value) -> Result<Vec<u8>> {
    Ok(demo.call([OsStr::new("show"), &at(demo, path, version)?])?.ok()?.out)
}

fn versions_within(demo: &Demo, path: &str, count: usize) -> Result<Vec<Value>> {
    wait_for(SOON, &format!("{path} has {count} versions"), || {
        let versions = demo.versions(Path::new(path)).unwrap_or_default();
        Ok((versions.len() >= count).then_some(versions))
    })
}
