//! The pages for the worst days, done as they are written: every command of theirs is executed here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use keepshare_support::{Cluster, Reply, Scratch, Station, Wiring, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(120);

/// The set of which the pages speak.
const SET: &str = "projects";

/// Two stations with a set and a history, and the pages' paths in a scratch folder.
struct Office {
    scratch: Scratch,
    cluster: Cluster,
    source: PathBuf,
}

impl Office {
    /// Makes them, and a backup as `backup.md` says.
    fn new(name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        scratch.make_dir("srv/backup")?;
        let source = scratch.make_dir("srv/projects")?;
        fs::create_dir(source.join("plan"))?;
        fs::write(source.join("plan/a.txt"), "first")?;
        fs::write(source.join("b.txt"), "other")?;
        fs::write(scratch.join("srv/passphrase"), "many words that nobody guesses\n")?;
        let cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
        let from = source.to_string_lossy().into_owned();
        cluster.office.call(["set", "add", SET, "--source", &from, "--to", "store"])?.ok()?;
        let mut office = Self { scratch, cluster, source };
        office.in_sync()?;
        fs::write(office.source.join("plan/a.txt"), "second")?;
        office.versions("plan/a.txt", 2)?;
        office.follow("backup.md")?;
        office.in_sync()?;
        Ok(office)
    }

    /// Types every command of a page, in order.
    fn follow(&mut self, page: &str) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
        let text = fs::read_to_string(folder.join(page)).context("cannot read the page")?;
        self.type_all(page, &text)
    }

    /// Types every command of the part of a page below a heading.
    fn follow_part(&mut self, page: &str, heading: &str) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations");
        let text = fs::read_to_string(folder.join(page)).context("cannot read the page")?;
        let (_, part) = text.split_once(&format!("## {heading}\n")).context("no such heading")?;
        let part = part.split("\n## ").next().unwrap_or_default();
        self.type_all(heading, part)
    }

    fn type_all(&mut self, page: &str, text: &str) -> Result<()> {
        let mut typed = 0;
        for line in text.lines() {
            let Some((machine, command)) = line.trim_start().split_once("$ ") else { continue };
            if ["office", "store"].contains(&machine) {
                self.types(machine, command).with_context(|| format!("{page}: {line}"))?;
                typed += 1;
            }
        }
        ensure!(typed > 2, "{page} has no commands");
        Ok(())
    }

    fn types(&mut self, machine: &str, command: &str) -> Result<()> {
        let srv = format!("{}/", self.scratch.join("srv").display());
        let station = self.station(machine)?;
        match command {
            "systemctl start keepshare" => return station.start(),
            "systemctl stop keepshare" => return station.stop(),
            "keepshare status --watch" => return self.in_sync(),
            _ => {}
        }
        let config = station.config().to_string_lossy().into_owned();
        let state = station.state().to_string_lossy().into_owned();
        let command = command
            .replace("/etc/keepshare/station.toml", &config)
            .replace("/etc/keepshare/backup.passphrase", "/srv/passphrase")
            .replace("/var/lib/keepshare", &state)
            .replace("/srv/", &srv)
            .replace("store:", "");
        if let Some(args) = command.strip_prefix("keepshare ") {
            station.call(args.split_whitespace())?.ok()?;
            return Ok(());
        }
        // Both machines are this one: where there is no rsync, a copy does what it would.
        let has_rsync = Command::new("rsync").arg("--version").output().is_ok();
        let command = match command.strip_prefix("rsync -aHAX ") {
            Some(paths) if !has_rsync => format!("cp -aT {paths}"),
            _ => command,
        };
        Reply::of(Command::new("sh").args(["-e", "-c", &command]))?.ok()?;
        Ok(())
    }

    fn station(&mut self, machine: &str) -> Result<&mut Station> {
        match machine {
            "office" => Ok(&mut self.cluster.office),
            "store" => Ok(&mut self.cluster.store),
            _ => bail!("there is no {machine}"),
        }
    }

    fn in_sync(&self) -> Result<()> {
        wait_for(SOON, "both stations say in-sync", || {
            let state = |station: &Station| {
                station.set_status(SET).is_ok_and(|status| status["state"] == "in-sync")
            };
            Ok((state(&self.cluster.office) && state(&self.cluster.store)).then_some(()))
        })
    }

    /// Waits until a file has at least so many versions, and returns how many it has.
    fn versions(&self, path: &str, count: usize) -> Result<usize> {
        wait_for(SOON, &format!("{path} has {count} versions"), || {
            let versions = self.cluster.store.versions(SET, Path::new(path))?;
            Ok((versions.len() >= count).then_some(versions.len()))
        })
    }

    /// Returns once a new save has arrived as one more version than these.
    fn goes_on_after(&self, before: usize) -> Result<()> {
        fs::write(self.source.join("plan/a.txt"), "written after it")?;
        let after = self.versions("plan/a.txt", before + 1)?;
        ensure!(after > before);
        let shown = self.cluster.store.show(SET, Path::new("plan/a.txt"), "latest")?;
        ensure!(shown == b"written after it");
        Ok(())
    }
}

/// Removes what a dead machine took with it.
fn lose(station: &mut Station) -> Result<()> {
    station.kill()?;
    fs::remove_dir_all(station.state())?;
    Ok(())
}

/// What the page promises: the machine is replaced, and every version from before is still listed.
#[test]
fn a_dead_master_is_replaced_and_no_version_is_lost() -> Result<()> {
    let mut office = Office::new("master-dead")?;
    let before = office.versions("plan/a.txt", 2)?;
    lose(&mut office.cluster.office)?;
    fs::remove_file(office.cluster.office.config())?;
    fs::remove_dir_all(&office.source)?;
    office.follow("master-dead.md")?;
    ensure!(fs::read(office.source.join("plan/a.txt"))? == b"second");
    let oldest = office.cluster.store.versions(SET, Path::new("plan/a.txt"))?;
    let oldest = oldest.last().context("no version")?["version"].as_str().unwrap_or_default();
    let shown = office.cluster.store.show(SET, Path::new("plan/a.txt"), oldest)?;
    ensure!(shown == b"first", "the oldest version is another one now");
    office.goes_on_after(before)
}

/// A station whose disk was replaced is the same station, and has every file again.
#[test]
fn a_new_disk_under_a_station_is_filled_again() -> Result<()> {
    let mut office = Office::new("new-disk-station")?;
    lose(&mut office.cluster.store)?;
    office.follow_part("new-disk.md", "Under a station that keeps versions")?;
    let before = office.versions("plan/a.txt", 1)?;
    office.goes_on_after(before)
}

/// A master's files come back from a station, and their history goes on.
#[test]
fn a_new_disk_under_a_masters_files_keeps_their_history() -> Result<()> {
    let mut office = Office::new("new-disk-master")?;
    let before = office.versions("plan/a.txt", 2)?;
    fs::remove_dir_all(&office.source)?;
    wait_for(SOON, "an alarm", || {
        let set = office.cluster.office.set_status(SET)?;
        let is_gone = set["cause"].to_string().contains("the source folder is gone");
        Ok((set["state"] == "alarm" && is_gone).then_some(()))
    })?;
    office.follow_part("new-disk.md", "Under the files of a master")?;
    ensure!(fs::read(office.source.join("b.txt"))? == b"other");
    office.goes_on_after(before)
}

/// The page about damage: what is elsewhere is well afterwards, and nobody has to act any more.
#[test]
fn damage_that_was_found_is_put_right() -> Result<()> {
    let mut office = Office::new("damage")?;
    let content = crate::scrub::noise(7, 100_000);
    fs::write(office.source.join("plan/big.bin"), &content)?;
    office.versions("plan/big.bin", 1)?;
    office.in_sync()?;
    crate::scrub::damage(&office.cluster.store, SET, &content)?;
    office.follow("damage.md")?;
    ensure!(office.cluster.store.show(SET, Path::new("plan/big.bin"), "latest")? == content);
    office.in_sync()
}
