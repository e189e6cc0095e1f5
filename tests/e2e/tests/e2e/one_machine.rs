//! One machine that keeps every version of its own files, as a NAS does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_e2e::{MIRRORED, SOON, contents, has, seen::Seen, share_kills};
use keepshare_support::{
    Aspects, Cluster, Doors, Editor, KernelClient, Reply, Scratch, Station, Wiring,
    cluster::{SET, free_address},
    compare,
    drive::{ANNA, time_of, write_as},
    in_scratch, in_scratch_as_ordinary_user, tools, tree, wait_for,
};

/// How long somebody works between two kills at most, in milliseconds.
const WORK_MS_MAX: u64 = 600;

/// Returns a running station that keeps every version of a folder in place, by the three commands of the README.
fn nas(scratch: &Scratch, source: &Path) -> Result<Station> {
    nas_in(Station::new(scratch, "nas", vec![])?, source)
}

fn nas_in(mut nas: Station, source: &Path) -> Result<Station> {
    nas.init(&free_address()?.to_string())?;
    nas.start()?;
    nas.call(["set", "add", SET, "--source", &source.to_string_lossy()])?.ok()?;
    Ok(nas)
}

/// Returns once the set is in sync, with all of its copies.
fn in_sync_within(nas: &Station, deadline: Duration) -> Result<()> {
    let mut last = String::new();
    let waited = wait_for(deadline, "the set is in sync", || {
        let set = nas.set_status(SET)?;
        last = set.to_string();
        let copies = set["destinations"].as_array().context("no destinations")?;
        let all = copies.iter().all(|copy| copy["state"] == "in-sync");
        Ok((all && set["state"] == "in-sync").then_some(()))
    });
    waited.with_context(|| format!("it says: {last}"))
}

/// Returns the contents that a file had, newest first, once there are so many.
fn contents_within(nas: &Station, path: &str, count: usize) -> Result<Vec<String>> {
    wait_for(SOON, &format!("{path} has {count} versions"), || {
        Ok(Some(contents(nas, path)?).filter(|found| found.len() >= count))
    })
}

/// Returns how often everything was compared so far.
fn mirrors(scratch: &Scratch, station: &str) -> Result<usize> {
    let log = fs::read_to_string(scratch.join(&format!("{station}.log")))?;
    Ok(log.lines().filter(|line| line.contains("mirroring set=")).count())
}

fn check_store(nas: &Station) -> Result<()> {
    let report = nas.call(["fsck", "--json"])?.json()?;
    ensure!(report[0]["ok"] == true, "fsck says: {report}");
    Ok(())
}

/// Returns the id of a file's oldest version.
fn oldest(nas: &Station, path: &str) -> Result<String> {
    let versions = nas.versions(SET, Path::new(path))?;
    let oldest = versions.last().with_context(|| format!("{path} has no version"))?;
    Ok(oldest["version"].as_str().context("a version has an id")?.to_owned())
}

/// A second machine is not needed to get yesterday's file back: versions, show, restore and find work where the files are.
#[test]
fn three_commands_keep_every_save() -> Result<()> {
    in_scratch("nas-commands", keep_every_save)
}

/// Neither is root.
#[test]
fn three_commands_keep_every_save_of_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("nas-ordinary", keep_every_save)
}

fn keep_every_save(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let (doc, gone) = (source.join("desk/doc.txt"), source.join("desk/gone.txt"));
    fs::create_dir(source.join("desk"))?;
    fs::write(&doc, "first")?;
    fs::write(&gone, "deleted soon")?;
    let mut nas = nas(scratch, &source)?;
    in_sync_within(&nas, SOON)?;
    let set = nas.set_status(SET)?;
    let (folder, live) = (set["source"].as_str(), set["live"].as_str());
    ensure!(folder == source.to_str() && live == folder, "the live tree is in place: {set}");
    fs::write(&doc, "second")?;
    ensure!(contents_within(&nas, "desk/doc.txt", 2)? == ["second", "first"]);
    fs::remove_file(&gone)?;
    wait_for(SOON, "what is gone is found", || {
        let found = nas.call(["find", "gone.txt", "--deleted", "--json"])?;
        Ok((found.code == Some(0) && found.json()?[0]["ended"] == "deleted").then_some(()))
    })?;

    let names: Vec<_> = fs::read_dir(&source)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(names == ["desk"], "the copy writes nothing into the source: {names:?}");
    is_whole(scratch, &nas, &source)?;

    // In place, through the set's own source: an ordinary change that can be undone.
    let old = oldest(&nas, "desk/doc.txt")?;
    let restored = nas.call(["restore", &format!("{SET}:desk/doc.txt@{old}"), "--json"])?.json()?;
    ensure!(restored["outcome"] == "written", "it says: {restored}");
    ensure!(fs::read_to_string(&doc)? == "first");
    let versions = nas.versions(SET, Path::new("desk/doc.txt"))?;
    ensure!(versions[0]["event"] == "restored" && versions[0]["current"] == true, "{versions:?}");
    let back = oldest(&nas, "desk/gone.txt")?;
    let what = format!("{}@{back}", gone.display());
    nas.call(["restore", &what])?.ok().context("by its path in the source")?;
    ensure!(fs::read_to_string(&gone)? == "deleted soon");

    in_sync_within(&nas, SOON)?;
    check_store(&nas)?;
    nas.call(["status", "--check"])?.ok()?;

    nas.stop()?;
    fs::write(&doc, "while it was away")?;
    nas.start()?;
    in_sync_within(&nas, SOON)?;
    ensure!(contents_within(&nas, "desk/doc.txt", 4)?[0] == "while it was away");
    ensure!(mirrors(scratch, "nas")? == 1, "a restart compares nothing that is equal");
    Ok(())
}

/// Somebody works while the machine dies again and again: every version that was shown stays, and nothing is compared anew.
#[test]
fn what_one_machine_acknowledged_survives_kills_at_any_moment() -> Result<()> {
    in_scratch("nas-kills", survive_kills)
}

fn survive_kills(scratch: &mut Scratch) -> Result<()> {
    let seed = tools::seed("nas-kills");
    let mut random = StdRng::seed_from_u64(seed);
    let source = scratch.join("source");
    tree::grow(&source, tree::TreeSpec { files: 200, odd: true, seed })?;
    let mut editor = Editor::new(&source, seed)?;
    let mut nas = nas(scratch, &source)?;
    // Once in the middle of the first mirror, too.
    nas.kill()?;
    nas.start()?;
    in_sync_within(&nas, SOON)?;
    let (mut seen, before) = (Seen::default(), mirrors(scratch, "nas")?);
    for kill in 1..=share_kills() {
        let (began, work) = (Instant::now(), random.random_range(0..=WORK_MS_MAX));
        while began.elapsed() < Duration::from_millis(work) || random.random_bool(0.8) {
            editor.step()?;
            if random.random_bool(0.1) {
                seen.note(&nas, &source, editor.any_file())?;
            }
        }
        nas.kill()?;
        for _ in 0..random.random_range(0..20) {
            editor.step()?;
        }
        nas.start().with_context(|| format!("after kill {kill}"))?;
    }
    let outcomes = [
        in_sync_within(&nas, SOON),
        seen.check(&nas, &editor),
        check_store(&nas),
        is_whole(scratch, &nas, &source),
    ];
    let wrong: Vec<String> =
        outcomes.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let compared = mirrors(scratch, "nas")? - before;
    ensure!(compared == 0, "the journal had everything, and all was compared {compared} times");
    Ok(())
}

/// Fails unless the store alone gives back what is in the source.
fn is_whole(scratch: &Scratch, nas: &Station, source: &Path) -> Result<()> {
    let out = scratch.join("whole");
    nas.call(["restore", &format!("{SET}:@latest"), "--to", &out.to_string_lossy()])?.ok()?;
    let told = compare::differences(source, &out, Aspects::ours())?;
    ensure!(told.is_empty(), "what comes back is other:\n{}", compare::tell(&told));
    Ok(())
}

/// A disk that is full stops neither reading nor the station, and what was saved meanwhile is there afterwards.
#[test]
fn one_machine_with_a_full_disk_says_so_and_goes_on() -> Result<()> {
    if !tools::is_root() {
        tools::skip("one_machine_with_a_full_disk_says_so_and_goes_on", "mounting needs root");
        return Ok(());
    }
    in_scratch("nas-full", fill_its_disk)
}

fn fill_its_disk(scratch: &mut Scratch) -> Result<()> {
    let disk = scratch.mount_tmpfs("disk", 192 << 20)?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("early"), "arrived in time")?;
    let station = Station::new(scratch, "nas", vec![])?.with_state(&disk.join("state"));
    let nas = nas_in(station, &source)?;
    in_sync_within(&nas, SOON)?;
    tree::write_random(&disk.join("ballast"), 110 << 20, 1)?;
    for number in 0..10 {
        tree::write_random(&source.join(format!("large-{number}")), 6 << 20, number)?;
    }
    let told = wait_for(MIRRORED, "it says that its disk is full", || {
        let set = nas.set_status(SET)?;
        Ok((set["state"] == "waiting" || set["state"] == "alarm").then(|| set.to_string()))
    })?;
    ensure!(told.contains("full"), "it says only: {told}");
    ensure!(nas.call(["status", "--check"])?.code == Some(1), "a person must act");
    ensure!(nas.show(SET, Path::new("early"), "latest")? == b"arrived in time");
    fs::remove_file(disk.join("ballast"))?;
    in_sync_within(&nas, MIRRORED)?;
    for number in 0..10 {
        let name = format!("large-{number}");
        let kept = nas.show(SET, Path::new(&name), "latest")?;
        ensure!(kept == fs::read(source.join(&name))?, "{name} has other bytes");
    }
    nas.call(["status", "--check"])?.ok()?;
    check_store(&nas)
}

/// A disk of files that is not mounted is an alarm and no reason to forget: the versions are given back meanwhile.
#[test]
fn versions_come_back_while_the_source_is_away() -> Result<()> {
    in_scratch("nas-away", take_the_source_away)
}

fn take_the_source_away(scratch: &mut Scratch) -> Result<()> {
    let (source, away) = (scratch.make_dir("source")?, scratch.join("away"));
    fs::write(source.join("doc"), "first")?;
    let mut nas = nas(scratch, &source)?;
    in_sync_within(&nas, SOON)?;
    fs::write(source.join("doc"), "second")?;
    contents_within(&nas, "doc", 2)?;
    in_sync_within(&nas, SOON)?;
    let commit = nas.set_status(SET)?["commit"].clone();
    nas.stop()?;
    fs::rename(&source, &away)?;
    // Gone at first, then a folder of that name, as below a mount.
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(&source)?;
        }
        nas.start()?;
        let told = wait_for(SOON, "it says that the source is gone", || {
            let set = nas.set_status(SET)?;
            Ok((set["state"] == "alarm").then(|| set.to_string()))
        })?;
        ensure!(told.contains("source folder"), "it says: {told}");
        ensure!(contents(&nas, "doc")? == ["second", "first"]);
        let out = scratch.make_dir(&format!("out-{is_there}"))?;
        let first = format!("{SET}:doc@{}", oldest(&nas, "doc")?);
        nas.call(["restore", &first, "--to", &out.to_string_lossy()])?.ok()?;
        ensure!(fs::read_to_string(out.join("doc"))? == "first");
        ensure!(nas.call(["restore", &first])?.code != Some(0), "there is no place for it");
        ensure!(nas.set_status(SET)?["commit"] == commit, "an absent disk deletes nothing");
        nas.stop()?;
    }
    fs::remove_dir(&source)?;
    fs::rename(&away, &source)?;
    nas.start()?;
    in_sync_within(&nas, SOON)?;
    ensure!(contents(&nas, "doc")? == ["second", "first"]);
    ensure!(mirrors(scratch, "nas")? == 1, "nothing had to be compared");
    Ok(())
}

/// A folder that is taken in the old one's place goes on with its history, and so does a source whose journal was lost: the
/// store beside it is nobody else's.
#[test]
fn history_goes_on_after_a_new_disk_and_after_a_lost_journal() -> Result<()> {
    in_scratch("nas-new-disk", replace_the_disk)
}

fn replace_the_disk(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let doc = source.join("doc");
    fs::write(&doc, "first")?;
    let mut nas = nas(scratch, &source)?;
    in_sync_within(&nas, SOON)?;
    fs::write(&doc, "second")?;
    contents_within(&nas, "doc", 2)?;
    in_sync_within(&nas, SOON)?;
    nas.stop()?;
    fs::rename(&source, scratch.join("failed"))?;
    nas.start()?;
    let whole = format!("{SET}:@latest");
    nas.call(["restore", &whole, "--to", &source.to_string_lossy()])?.ok()?;
    nas.call(["set", "mirror", SET, "--new-source"])?.ok()?;
    in_sync_within(&nas, SOON)?;
    fs::write(&doc, "third")?;
    ensure!(contents_within(&nas, "doc", 3)? == ["third", "second", "first"]);
    in_sync_within(&nas, SOON)?;
    nas.stop()?;
    fs::remove_file(nas.state().join("journal").join(format!("{SET}.redb")))?;
    nas.start()?;
    in_sync_within(&nas, SOON)?;
    fs::write(&doc, "fourth")?;
    ensure!(contents_within(&nas, "doc", 4)? == ["fourth", "third", "second", "first"]);
    in_sync_within(&nas, SOON)?;
    check_store(&nas)
}

/// A store that cannot be opened is an alarm; what is saved meanwhile is journaled, and becomes versions afterwards.
#[test]
fn saves_are_noted_while_the_store_cannot_be_opened() -> Result<()> {
    in_scratch("nas-shut", shut_the_store)
}

fn shut_the_store(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("doc"), "first")?;
    let mut nas = nas(scratch, &source)?;
    in_sync_within(&nas, SOON)?;
    nas.stop()?;
    let (log, aside) = (nas.state().join("sets").join(SET).join("log"), scratch.join("log-aside"));
    fs::rename(&log, &aside)?;
    fs::write(&log, "in the way")?;
    nas.start()?;
    let set = nas.set_status(SET)?;
    ensure!(set["state"] == "alarm" && set["role"] == "master", "it says: {set}");
    ensure!(nas.call(["status", "--check"])?.code == Some(1), "a person must act");
    ensure!(nas.call(["versions", &format!("{SET}:doc")])?.code != Some(0), "there is no store");
    let head = set["head"].as_u64().context("the source is open")?;
    for text in ["second", "third"] {
        let before = nas.set_status(SET)?["head"].as_u64();
        fs::write(source.join("doc"), text)?;
        wait_for(SOON, "the save is journaled", || {
            let set = nas.set_status(SET)?;
            let is_read = !set["destinations"][0]["cause"].to_string().contains("looked at");
            Ok((set["head"].as_u64() > before && is_read).then_some(()))
        })?;
    }
    ensure!(nas.set_status(SET)?["head"].as_u64() > Some(head));
    nas.stop()?;
    fs::remove_file(&log)?;
    fs::rename(&aside, &log)?;
    nas.start()?;
    in_sync_within(&nas, SOON)?;
    let kept = contents_within(&nas, "doc", 3)?;
    ensure!(kept == ["third", "second", "first"], "{kept:?}");
    ensure!(mirrors(scratch, "nas")? == 1, "the journal had everything");
    Ok(())
}

/// The machine with the files may keep them as well as another one does: both have the same versions under the same ids.
#[test]
fn a_set_is_kept_here_and_on_another_station() -> Result<()> {
    in_scratch("nas-and-store", keep_in_two_places)
}

fn keep_in_two_places(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let doc = source.join("doc");
    fs::write(&doc, "first")?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    let folder = source.to_string_lossy().into_owned();
    let add = ["set", "add", SET, "--source", &folder, "--to", "store", "--to", "office"];
    cluster.office.call(add)?.ok()?;
    in_sync_within(&cluster.office, SOON)?;
    fs::write(&doc, "second")?;
    contents_within(&cluster.office, "doc", 2)?;
    contents_within(&cluster.store, "doc", 2)?;
    cluster.store.stop()?;
    fs::write(&doc, "third")?;
    contents_within(&cluster.office, "doc", 3)?;
    let set = cluster.office.set_status(SET)?;
    ensure!(set["state"] != "in-sync", "one copy is away: {set}");
    cluster.store.start()?;
    in_sync_within(&cluster.office, SOON)?;
    for station in [&cluster.office, &cluster.store] {
        let first = format!("{SET}:doc@{}", oldest(station, "doc")?);
        station.call(["restore", &first])?.ok()?;
        ensure!(fs::read_to_string(&doc)? == "first", "restored by {}", station.name());
        fs::write(&doc, format!("after {}", station.name()))?;
        wait_for(SOON, "the save is kept", || {
            let newest = contents(station, "doc")?.into_iter().next();
            Ok((newest == Some(format!("after {}", station.name()))).then_some(()))
        })?;
    }
    in_sync_within(&cluster.office, SOON)?;
    let ids = |station: &Station| -> Result<Vec<String>> {
        let versions = station.versions(SET, Path::new("doc"))?;
        Ok(versions.iter().map(|row| row["version"].to_string()).collect())
    };
    let (here, there) = (ids(&cluster.office)?, ids(&cluster.store)?);
    ensure!(here == there && here.len() >= 7, "{here:?} and {there:?}");
    cluster.equal_within(SOON, Aspects::ours())
}

/// The password of that user.
const PASSWORD: &str = "correct horse battery";

/// The drive of a machine that keeps its own files, with a user who owns them.
struct Drive {
    nas: Station,
    source: PathBuf,
    port: u16,
}

impl Drive {
    /// Returns one with a file that has two versions.
    fn new(scratch: &Scratch) -> Result<Self> {
        let source = scratch.make_dir("source")?;
        write_as(ANNA, &source.join("desk/doc.txt"), "first\n")?;
        let address = free_address()?;
        let doors = Doors { nfs: Some(address), show: "root" };
        let nas = nas_in(Station::new(scratch, "nas", vec![])?.with_doors(doors), &source)?;
        in_sync_within(&nas, SOON)?;
        fs::write(source.join("desk/doc.txt"), "second\n")?;
        contents_within(&nas, "desk/doc.txt", 2)?;
        let number = ANNA.to_string();
        let add = ["user", "add", "anna", "--uid", &number, "--gid", &number, "--password-stdin"];
        nas.call_with_input(add, PASSWORD)?.ok()?;
        Ok(Self { nas, source, port: address.port() })
    }

    /// Logs the user in for all users of this machine and returns what is mounted.
    fn log_in(&self) -> Result<String> {
        let login = ["login", "anna", "--json", "--password-stdin", "--shared"];
        let login = self.nas.call_with_input(login, PASSWORD)?.json()?;
        Ok(login["mount_path"].as_str().context("a login gives what is mounted")?.to_owned())
    }

    /// Runs a program of libnfs-utils on a path of the drive.
    fn libnfs(&self, program: &str, path: &str) -> Result<String> {
        let (port, mount) = (self.port, self.log_in()?);
        let url =
            format!("nfs://127.0.0.1{mount}/{path}?nfsport={port}&mountport={port}&version=3");
        let told = Reply::of(Command::new(program).arg(url).env("LC_ALL", "C.UTF-8"))?.ok()?;
        Ok(String::from_utf8(told.out)?)
    }
}

/// Users of a NAS map its drive: what is there now, as of what was kept, and all that was.
#[test]
fn the_drive_of_one_machine_shows_the_present_and_the_past() -> Result<()> {
    let test = "the_drive_of_one_machine_shows_the_present_and_the_past";
    if !["nfs-ls", "nfs-cat"].iter().all(|program| has(test, program)) {
        return Ok(());
    }
    if !tools::is_root() {
        tools::skip(test, "files of another owner need root");
        return Ok(());
    }
    in_scratch("nas-drive", read_the_drive)
}

fn read_the_drive(scratch: &mut Scratch) -> Result<()> {
    let drive = Drive::new(scratch)?;
    ensure!(drive.libnfs("nfs-cat", "desk/doc.txt")? == "second\n");
    ensure!(drive.libnfs("nfs-ls", "")?.contains("@versions"), "the past is listed");
    let versions = drive.libnfs("nfs-ls", "desk/@versions/doc.txt@")?;
    ensure!(versions.matches(".txt").count() == 2, "it lists:\n{versions}");
    let rows = drive.nas.versions(SET, Path::new("desk/doc.txt"))?;
    let then = time_of(rows.last().context("there are versions")?)?;
    for path in
        [format!("desk/@versions/doc.txt@/{then}"), format!("@versions/{then}/desk/doc.txt")]
    {
        ensure!(drive.libnfs("nfs-cat", &path)? == "first\n", "{path}");
    }
    fs::remove_file(drive.source.join("desk/doc.txt"))?;
    wait_for(SOON, "the drive lists what is gone", || {
        let gone = drive.libnfs("nfs-ls", "desk/@versions/_deleted")?;
        Ok(gone.contains("doc.txt@").then_some(()))
    })
}

/// Moving a version onto the file takes it back, in the folder that everybody works in.
#[test]
fn a_version_that_a_user_moves_is_back_in_the_source() -> Result<()> {
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip("a_version_that_a_user_moves_is_back_in_the_source", reason);
        return Ok(());
    }
    in_scratch("nas-kernel", move_a_version)
}

fn move_a_version(scratch: &mut Scratch) -> Result<()> {
    let drive = Drive::new(scratch)?;
    let guest = KernelClient::boot(scratch, drive.port)?;
    guest.mount(&drive.log_in()?, "/mnt/drive")?;
    let script = "cd /mnt/drive/desk && cat doc.txt && old=$(ls @versions/doc.txt@/*.txt | head -n 1) && \
                  setpriv --reuid 4001 --regid 4001 --clear-groups mv \"$old\" doc.txt && cat doc.txt";
    let told = guest.run(script)?.ok()?;
    let seen = String::from_utf8_lossy(&told.out).into_owned();
    ensure!(seen == "second\nfirst\n", "the client sees: {seen}");
    ensure!(fs::read_to_string(drive.source.join("desk/doc.txt"))? == "first\n");
    let rows = drive.nas.versions(SET, Path::new("desk/doc.txt"))?;
    ensure!(rows[0]["event"] == "restored" && rows[0]["user"] == "anna", "{}", rows[0]);
    in_sync_within(&drive.nas, SOON)?;
    check_store(&drive.nas)
}
