//! The promises of the whole, kept by the real binary.
//!
//! Each module of `tests/e2e` is about one of them. What they share is here: how large a run is, what a history shows, and
//! what an independent program says about two trees.

pub mod office;
pub mod seen;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use keepshare_support::{Cluster, Station, cluster::SET, tools};

/// How long anything may take to arrive that is not large.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a first mirror may take.
pub const MIRRORED: Duration = Duration::from_secs(600);

/// Returns how many files a large tree has: `KEEPSHARE_E2E_FILES`.
pub fn many_files() -> usize {
    tools::param("KEEPSHARE_E2E_FILES", 20_000)
}

/// Returns how large a large file is: `KEEPSHARE_E2E_LARGE_MIB`.
pub fn large_bytes() -> u64 {
    tools::param::<u64>("KEEPSHARE_E2E_LARGE_MIB", 2048) << 20
}

/// Returns for how long random edits go on: `KEEPSHARE_E2E_EDIT_SECONDS`.
pub fn edit_time() -> Duration {
    Duration::from_secs(tools::param("KEEPSHARE_E2E_EDIT_SECONDS", 60))
}

/// Returns for how long a link is cut: `KEEPSHARE_E2E_CUT_SECONDS`.
pub fn cut_time() -> Duration {
    Duration::from_secs(tools::param("KEEPSHARE_E2E_CUT_SECONDS", 60))
}

/// Returns how often a station dies in the middle of a restore: `KEEPSHARE_E2E_RESTORE_KILLS`.
pub fn restore_kills() -> usize {
    tools::param("KEEPSHARE_E2E_RESTORE_KILLS", 20)
}

/// Returns how often a station that keeps its own files dies: `KEEPSHARE_E2E_SHARE_KILLS`.
pub fn share_kills() -> usize {
    tools::param("KEEPSHARE_E2E_SHARE_KILLS", 50)
}

/// Returns how long a day of an office is: `KEEPSHARE_E2E_OFFICE_SECONDS`.
pub fn office_time() -> Duration {
    Duration::from_secs(tools::param("KEEPSHARE_E2E_OFFICE_SECONDS", 40))
}

/// Returns how many entries a large folder has: `KEEPSHARE_E2E_FOLDER_ENTRIES`.
pub fn folder_entries() -> usize {
    tools::param("KEEPSHARE_E2E_FOLDER_ENTRIES", 100_000)
}

/// One version in a history, with its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Its id.
    pub id: String,
    /// Its bytes as `show` gives them.
    pub content: Vec<u8>,
    /// Everything `versions --json` says.
    pub row: Value,
}

/// Returns the history of a path on a station, newest first, each version once.
pub fn history(station: &Station, path: &str) -> Result<Vec<Version>> {
    let mut versions: Vec<Version> = Vec::new();
    for row in station.versions(SET, Path::new(path))? {
        let id = row["version"].as_str().context("a version has an id")?.to_owned();
        // A file that was renamed holds the same version under two names.
        if versions.iter().any(|version| version.id == id) {
            continue;
        }
        let content = station.show(SET, Path::new(path), &id)?;
        versions.push(Version { id, content, row });
    }
    // A program that sets a mode or a time after its save makes a version of its own that holds the same.
    let older: Vec<Option<Vec<u8>>> =
        versions.iter().skip(1).map(|version| Some(version.content.clone())).collect();
    let mut older = older.into_iter().chain([None]);
    versions.retain(|version| {
        let older = older.next().flatten();
        version.row["event"] != "attributes" || older.as_ref() != Some(&version.content)
    });
    Ok(versions)
}

/// Returns the contents of a history as text, newest first.
pub fn contents(station: &Station, path: &str) -> Result<Vec<String>> {
    let text = |version: Version| String::from_utf8_lossy(&version.content).into_owned();
    Ok(history(station, path)?.into_iter().map(text).collect())
}

/// Returns what rsync would still have to do to make `live` equal to `source`; nothing when they are.
pub fn rsync_finds(source: &Path, live: &Path) -> Result<String> {
    let slash = |path: &Path| path.join("");
    let mut command = Command::new("rsync");
    command.args(["-aHn", "--delete", "--checksum", "--itemize-changes", "--modify-window=-1"]);
    let output = tools::run(command.arg(slash(source)).arg(slash(live)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the bytes that files below a folder occupy.
pub fn occupied(folder: &Path) -> Result<u64> {
    let output = tools::run(Command::new("du").args(["-s", "--block-size=1"]).arg(folder))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split_whitespace().next().context("du printed nothing")?;
    number.parse().with_context(|| format!("du printed {text}"))
}

/// Returns where a station keeps the past of the set, the live tree left out.
pub fn kept(cluster: &Cluster) -> [PathBuf; 2] {
    let set = cluster.store.state().join("sets").join(SET);
    [set.join("log"), set.join("packs")]
}

/// Tells whether a test can use a program, and says so in the run if not.
pub fn has(test: &str, program: &str) -> bool {
    let found = tools::installed(program).is_some();
    if !found {
        tools::skip(test, &format!("{program} is not installed"));
    }
    found
}

/// Runs git in a folder, whoever owns that.
pub fn git<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Result<String> {
    let mut command = Command::new("git");
    command.args([
        "-c",
        "safe.directory=*",
        "-c",
        "user.name=Anna",
        "-c",
        "user.email=a@example.org",
    ]);
    command.args(["-c", "gc.auto=0", "-c", "init.defaultBranch=main"]);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_OPTIONAL_LOCKS", "0").arg("-C").arg(folder).args(args);
    let output = tools::run(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
