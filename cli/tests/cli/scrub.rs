//! The look for damage, as an admin sees it.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Cluster, Scratch, Station, Wiring, cluster::SET, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// Returns bytes that nothing makes shorter, so that they stand in a pack as they are.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Returns the folder of a station's copy.
fn copy_of(station: &Station, set: &str) -> Result<PathBuf> {
    let copies = station.state().join("sets");
    let copy = copies.join(set);
    ensure!(copy.join("packs").is_dir(), "{} is no copy", copy.display());
    Ok(copy)
}

/// Flips a bit of content where it stands in the packs of a station.
pub(crate) fn damage(station: &Station, set: &str, content: &[u8]) -> Result<()> {
    for pack in fs::read_dir(copy_of(station, set)?.join("packs"))? {
        let pack = pack?.path();
        let bytes = fs::read(&pack)?;
        let Some(at) = bytes.windows(64).position(|part| part == &content[..64]) else { continue };
        flip(&pack, at + 40)?;
        return Ok(());
    }
    anyhow::bail!("it is in no pack")
}

fn flip(path: &Path, at: usize) -> Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let times = file.metadata()?.modified()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)?;
    file.write_all_at(&[byte[0] ^ 4], at as u64)?;
    Ok(file.set_modified(times)?)
}

struct Stage {
    cluster: Cluster,
    old: Vec<u8>,
    new: Vec<u8>,
    _scratch: Scratch,
}

impl Stage {
    /// Makes two stations, and a file with two versions.
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let source = scratch.make_dir("source")?;
        let (old, new) = (noise(1, 40_000), noise(2, 50_000));
        fs::write(source.join("file"), &old)?;
        let cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
        cluster.add_set()?;
        cluster.in_sync_within(SOON)?;
        fs::write(source.join("file"), &new)?;
        wait_for(SOON, "two versions", || {
            Ok((cluster.store.versions(SET, Path::new("file"))?.len() == 2).then_some(()))
        })?;
        cluster.in_sync_within(SOON)?;
        Ok(Self { cluster, old, new, _scratch: scratch })
    }

    fn scrub(&self, what: &str) -> Result<Value> {
        let told = self.cluster.store.call(["scrub", what, SET, "--json"])?.json()?;
        Ok(told[0].clone())
    }
}

/// What is damaged and nowhere else is told by everything that tells of the station, and given to nobody.
#[test]
fn a_damaged_version_is_an_alarm_and_nobody_gets_it() -> Result<()> {
    let stage = Stage::new("scrub-damaged")?;
    let store = &stage.cluster.store;
    let told = stage.scrub("now")?;
    ensure!(told["damaged"] == 0 && told["state"] == "waiting", "{told}");
    ensure!(told["last_pass"]["found"] == 0 && told["damage"] == serde_json::json!([]), "{told}");
    damage(store, SET, &stage.old)?;
    let reply = store.call(["scrub", "now", SET])?;
    ensure!(reply.code == Some(1), "{reply:?}");
    let told = stage.scrub("status")?;
    let versions = store.versions(SET, Path::new("file"))?;
    let oldest = versions.last().context("no version")?["version"].clone();
    ensure!(told["damaged"] == 1, "{told}");
    let listed = &told["damage"][0];
    let is_it =
        listed["path"] == "file" && listed["version"] == oldest && listed["kind"] == "version";
    ensure!(is_it && listed["is_mended"] == false, "{listed} is not {oldest}");
    let status = store.set_status(SET)?;
    ensure!(status["state"] == "alarm" && status["scrub"]["damaged"] == 1, "{status}");
    ensure!(store.call(["status", "--check"])?.code == Some(1));
    let at = format!("{SET}:file@{}", oldest.as_str().unwrap_or_default());
    let shown = store.call(["show", &at])?;
    ensure!(shown.code == Some(1) && shown.err.contains("damaged"), "{shown:?}");
    ensure!(store.show(SET, Path::new("file"), "latest")? == stage.new);
    Ok(())
}

/// What the live tree has, too, comes back by itself; a live file that differs is told, and left.
#[test]
fn what_is_elsewhere_comes_back() -> Result<()> {
    let mut stage = Stage::new("scrub-mended")?;
    damage(&stage.cluster.store, SET, &stage.new)?;
    let told = stage.scrub("now")?;
    ensure!(told["damaged"] == 0 && told["damage"][0]["is_mended"] == true, "{told}");
    let live = stage.cluster.live()?.join("file");
    flip(&live, 777)?;
    let told = stage.scrub("now")?;
    ensure!(told["damage"][0]["kind"] == "live" && told["live_differences"] == 1, "{told}");
    let status = stage.cluster.store.set_status(SET)?;
    ensure!(status["problems"].to_string().contains("live tree"), "{status}");
    flip(&live, 777)?;
    stage.cluster.store.kill()?;
    stage.cluster.store.start()?;
    ensure!(stage.cluster.store.show(SET, Path::new("file"), "latest")? == stage.new);
    let told = stage.scrub("now")?;
    ensure!(told["last_pass"]["found"] == 0, "{told}");
    ensure!(stage.cluster.store.call(["fsck", SET])?.code == Some(0));
    Ok(())
}

/// Somebody paused it for a reason that a restart does not know.
#[test]
fn a_pause_lasts_over_a_restart() -> Result<()> {
    let mut stage = Stage::new("scrub-paused")?;
    ensure!(stage.scrub("pause")?["state"] == "paused");
    stage.cluster.store.kill()?;
    stage.cluster.store.start()?;
    ensure!(stage.scrub("status")?["state"] == "paused");
    let refused = stage.cluster.store.call(["scrub", "now", SET])?;
    ensure!(refused.code == Some(4) && refused.err.contains("scrub resume"), "{refused:?}");
    ensure!(stage.scrub("resume")?["state"] == "waiting");
    ensure!(stage.scrub("now")?["last_pass"]["found"] == 0);
    // A file of before that does not read costs where it was, and nothing else.
    stage.cluster.store.stop()?;
    fs::write(copy_of(&stage.cluster.store, SET)?.join("scrub.toml"), "\0half of it")?;
    stage.cluster.store.start()?;
    ensure!(stage.scrub("status")?["last_pass"] == Value::Null);
    ensure!(stage.scrub("now")?["last_pass"]["found"] == 0);
    ensure!(stage.cluster.store.call(["scrub", "status", "nowhere"])?.code == Some(3));
    Ok(())
}
