//! Things that go wrong, and what a person is told about them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_e2e::{MIRRORED, SOON};
use keepshare_support::{
    Aspects, Cluster, Scratch, Station, Wiring,
    cluster::{SET, free_address},
    in_scratch, in_scratch_as_ordinary_user, tools,
    tree::{self, TreeSpec},
    wait_for, wait_until,
};

/// A full disk stops what needs space and nothing else, says so, and is forgotten when there is space again.
#[test]
fn a_station_with_a_full_disk_waits_says_so_and_goes_on() -> Result<()> {
    if !tools::is_root() {
        tools::skip("a_station_with_a_full_disk_waits_says_so_and_goes_on", "mounting needs root");
        return Ok(());
    }
    in_scratch("full-disk", fill_a_disk)
}

fn fill_a_disk(scratch: &mut Scratch) -> Result<()> {
    let disk = scratch.mount_tmpfs("disk", 192 << 20)?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("early"), "arrived in time")?;
    let cluster =
        Cluster::with_store_state(scratch, &source, Wiring::Loopback, Some(&disk.join("state")))?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    tree::write_random(&disk.join("ballast"), 120 << 20, 1)?;
    for number in 0..10 {
        tree::write_random(&source.join(format!("large-{number}")), 6 << 20, number)?;
    }
    let cause = wait_for(MIRRORED, "the replica says that it waits", || {
        let set = cluster.store.set_status(SET)?;
        Ok((set["state"] == "waiting").then(|| set["cause"].to_string()))
    })?;
    ensure!(cause.contains("full") || cause.contains("space"), "it says only: {cause}");
    let cause = wait_for(SOON, "the master says so too", || {
        let to = cluster.destination()?;
        Ok((to["state"] == "waiting").then(|| to["cause"].to_string()))
    })?;
    ensure!(cause.contains("full") || cause.contains("space"), "it says only: {cause}");
    for station in [&cluster.office, &cluster.store] {
        let checked = station.call(["status", "--check"])?;
        ensure!(checked.code == Some(1) && checked.err.contains("disk full"), "{checked:?}");
    }
    let is_logged = |what: &str| -> Result<Option<()>> {
        let log = fs::read_to_string(scratch.join("store.log"))?;
        let is_told = |line: &str| line.contains(what) && line.contains("disk full");
        Ok(log.lines().any(is_told).then_some(()))
    };
    wait_for(SOON, "the log says that a person must act", || is_logged("a person must act"))?;
    let early = cluster.store.show(SET, Path::new("early"), "latest")?;
    ensure!(early == b"arrived in time", "reads do not go on");
    ensure!(fs::read(cluster.live()?.join("early"))? == b"arrived in time");
    fs::remove_file(disk.join("ballast"))?;
    cluster.equal_within(MIRRORED, Aspects::ALL)?;
    cluster.in_sync_within(SOON)?;
    wait_for(SOON, "the log says that nobody has to act any more", || is_logged("alarm ended"))?;
    cluster.store.call(["status", "--check"])?.ok()?;
    Ok(())
}

/// A master whose own disk is full says that, and not that its source is gone; it goes on by itself, and loses nothing.
#[test]
fn a_master_with_a_full_disk_says_so_and_goes_on() -> Result<()> {
    if !tools::is_root() {
        tools::skip("a_master_with_a_full_disk_says_so_and_goes_on", "mounting needs root");
        return Ok(());
    }
    in_scratch("full-master", fill_a_masters_disk)
}

fn fill_a_masters_disk(scratch: &mut Scratch) -> Result<()> {
    let disk = scratch.mount_tmpfs("disk", 64 << 20)?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "early")?;
    let state = disk.join("state");
    let mut cluster = Cluster::with_office_state(scratch, &source, Wiring::Loopback, &state)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    for round in 0..2 {
        fill_up(&disk.join("ballast"))?;
        for number in 0..20 {
            fs::write(source.join(format!("file-{round}-{number}")), format!("{number}"))?;
        }
        let told = wait_for(SOON, "the master says what is wrong", || {
            let told = cluster.office.set_status(SET)?.to_string();
            Ok(told.contains("is full").then_some(told))
        })?;
        ensure!(!told.contains("source folder is gone"), "it says: {told}");
        ensure!(!told.contains("in-sync"), "it says: {told}");
        fs::remove_file(disk.join("ballast"))?;
        cluster.equal_within(SOON * 2, Aspects::ALL)?;
        cluster.in_sync_within(SOON)?;
        let healed = cluster.office.set_status(SET)?;
        let is_well = healed["alarms"].as_array().is_some_and(Vec::is_empty);
        ensure!(is_well && !healed.to_string().contains("is full"), "it still says: {healed}");
    }
    cluster.office.stop()?;
    cluster.office.start()?;
    cluster.in_sync_within(SOON)
}

/// A master that begins a new epoch while the station's disk is full is waited for, not refused until somebody restarts it.
#[test]
fn a_new_epoch_on_a_full_disk_waits_and_goes_on() -> Result<()> {
    if !tools::is_root() {
        tools::skip("a_new_epoch_on_a_full_disk_waits_and_goes_on", "mounting needs root");
        return Ok(());
    }
    in_scratch("full-epoch", begin_an_epoch_on_a_full_disk)
}

fn begin_an_epoch_on_a_full_disk(scratch: &mut Scratch) -> Result<()> {
    let disk = scratch.mount_tmpfs("disk", 160 << 20)?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "early")?;
    let state = disk.join("state");
    let mut cluster = Cluster::with_store_state(scratch, &source, Wiring::Loopback, Some(&state))?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;
    fs::remove_file(cluster.office.state().join("journal/work.redb"))?;
    fill_up(&disk.join("ballast"))?;
    cluster.office.start()?;
    fs::write(source.join("file"), "late")?;
    wait_until(SOON, "the station has an alarm", || {
        let told = cluster.store.set_status(SET).map(|status| status["alarms"].to_string());
        told.is_ok_and(|told| told.contains("is full"))
    })?;
    fs::remove_file(disk.join("ballast"))?;
    cluster.equal_within(SOON * 2, Aspects::ALL)?;
    cluster.in_sync_within(SOON)?;
    let healed = cluster.store.set_status(SET)?;
    let is_well = healed["alarms"].as_array().is_some_and(Vec::is_empty);
    ensure!(is_well && !healed.to_string().contains("is full"), "it still says: {healed}");
    Ok(())
}

/// Takes all space of a disk.
fn fill_up(ballast: &Path) -> Result<()> {
    let mut file = fs::File::create(ballast)?;
    loop {
        match std::io::Write::write_all(&mut file, &[7; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A folder that is suddenly not there is a disk that is not mounted, not ten thousand deletes.
#[test]
fn a_source_that_vanishes_is_an_alarm_and_deletes_nothing() -> Result<()> {
    in_scratch("vanished", take_the_source_away)
}

fn take_the_source_away(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: 300, odd: false, seed: 1 })?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    let away = scratch.join("away");
    fs::rename(&source, &away)?;
    alarm_within(&cluster.office)?;
    // Also a master that starts while the folder is away must not take it for an empty one.
    cluster.office.stop()?;
    cluster.office.start()?;
    alarm_within(&cluster.office)?;
    let told = keepshare_support::differences(&away, &cluster.live()?, Aspects::ours())?;
    ensure!(told.is_empty(), "the live tree changed: {told:?}");
    fs::rename(&away, &source)?;
    fs::write(source.join("back"), "again")?;
    cluster.equal_within(SOON * 2, Aspects::ours())?;
    cluster.in_sync_within(SOON)
}

/// An empty folder in place of a full one is a disk that is not mounted, too.
#[test]
fn a_source_that_is_empty_after_a_restart_is_an_alarm() -> Result<()> {
    in_scratch("unmounted", start_with_an_empty_source)
}

fn start_with_an_empty_source(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.join("source");
    tree::grow(&source, TreeSpec { files: 300, odd: false, seed: 1 })?;
    let mut cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.equal_within(SOON, Aspects::ours())?;
    cluster.office.stop()?;
    fs::rename(&source, scratch.join("away"))?;
    fs::create_dir(&source)?;
    cluster.office.start()?;
    alarm_within(&cluster.office)?;
    let told =
        keepshare_support::differences(&scratch.join("away"), &cluster.live()?, Aspects::ours())?;
    ensure!(told.is_empty(), "the live tree changed: {told:?}");
    Ok(())
}

/// A station holds its live folder open, which goes on working wherever somebody moves it. Who looks where it should be
/// finds nothing: both ends say so, and go on when it is back.
#[test]
fn a_live_folder_that_is_moved_away_is_told_at_both_ends() -> Result<()> {
    in_scratch("live-moved", move_the_live_folder)
}

fn move_the_live_folder(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("plan"), "first")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let live = cluster.live()?;
    let away = live.with_file_name("away");
    fs::rename(&live, &away)?;
    let checked = cluster.store.call(["fsck", SET])?;
    let told = String::from_utf8_lossy(&checked.out);
    let is_told = told.contains("live tree: it cannot be compared");
    ensure!(checked.code == Some(1) && is_told, "fsck says: {checked:?}");
    let told = wait_for(SOON, "the replica says that the folder is not there", || {
        let set = cluster.store.set_status(SET)?;
        Ok((set["state"] == "alarm").then_some(set))
    })?;
    let is_told = told["problems"].to_string().contains(&*live.to_string_lossy());
    ensure!(is_told && told["live_commit"] == 0, "it says: {told}");
    wait_until(SOON, "the master says that it is not shown", || {
        cluster.destination().is_ok_and(|to| to["state"] == "lagging")
    })?;
    fs::write(source.join("plan"), "second")?;
    wait_until(SOON, "what is saved meanwhile is kept", || {
        let kept = cluster.store.show(SET, Path::new("plan"), "latest");
        kept.is_ok_and(|kept| kept == b"second")
    })?;
    ensure!(fs::read(away.join("plan"))? == b"first", "it is written where nobody looks");
    ensure!(!live.exists(), "another folder was made in its place");
    fs::rename(&away, &live)?;
    cluster.in_sync_within(SOON)?;
    cluster.equal_within(SOON, Aspects::ALL)?;
    cluster.store.call(["fsck", SET])?.ok()?;
    Ok(())
}

/// A file that cannot be read is named, and costs nothing but itself.
#[test]
fn files_that_cannot_be_read_are_named_and_the_rest_goes_on() -> Result<()> {
    in_scratch_as_ordinary_user("unreadable", name_what_cannot_be_read)
}

fn name_what_cannot_be_read(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    for name in ["open-1", "closed-file", "open-2"] {
        fs::write(source.join(name), name)?;
    }
    fs::create_dir(source.join("closed-folder"))?;
    fs::write(source.join("closed-folder/inside"), "inside")?;
    let set =
        |name: &str, mode| fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode));
    set("closed-file", 0o000)?;
    set("closed-folder", 0o000)?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    let live = wait_for(SOON, "a live tree", || Ok(cluster.live().ok()))?;
    for name in ["open-1", "open-2"] {
        wait_until(SOON, name, || fs::read(live.join(name)).is_ok_and(|b| b == name.as_bytes()))?;
    }
    wait_until(SOON, "the status names what cannot be read", || {
        let told = cluster.office.set_status(SET).map(|s| s["problems"].to_string());
        told.is_ok_and(|told| told.contains("closed-file") && told.contains("closed-folder"))
    })?;
    wait_until(SOON, "the master says that it is incomplete", || {
        let is_told = |set: &Value| set["state"] == "incomplete" && set["incomplete"] == 2;
        cluster.office.set_status(SET).is_ok_and(|set| is_told(&set))
    })?;
    // Better nothing than a file without content, which a restore would give out.
    ensure!(!live.join("closed-file").exists(), "an empty file stands for what cannot be read");
    set("closed-file", 0o600)?;
    set("closed-folder", 0o700)?;
    cluster.equal_within(SOON * 2, Aspects::ORDINARY)?;
    wait_until(SOON, "the status forgets what is well again", || {
        cluster.office.set_status(SET).is_ok_and(|s| !s["problems"].to_string().contains("closed"))
    })?;
    cluster.in_sync_within(SOON)
}

/// A token lets one station in, once, and only into its own cluster.
#[test]
fn tokens_that_were_used_or_altered_let_nobody_in() -> Result<()> {
    in_scratch("tokens", try_tokens)
}

fn try_tokens(scratch: &mut Scratch) -> Result<()> {
    let mut office = Station::new(scratch, "office", Vec::new())?;
    let office_at = free_address()?.to_string();
    office.init(&office_at)?;
    office.start()?;
    let join = |name: &str, token: &str| -> Result<(Station, keepshare_support::Reply)> {
        let station = Station::new(scratch, name, Vec::new())?;
        let (listen, state) = (free_address()?.to_string(), station.state().display().to_string());
        let args = ["join", &office_at, "--json", "--token", token, "--name", name];
        let reply =
            station.call(args.into_iter().chain(["--listen", &listen, "--state", &state]))?;
        Ok((station, reply))
    };
    let token = office.token()?;
    for (number, altered) in altered(&token).iter().enumerate() {
        let (_, reply) = join(&format!("altered-{number}"), altered)?;
        ensure!(reply.code != Some(0), "{altered} was taken for {token}");
        let (error, hint) = reply.failure()?;
        ensure!(hint.is_some(), "no next step after: {error}");
        ensure!(!error.contains(&token), "the error shows the token");
    }
    let (_, reply) = join("store", &token)?;
    reply.ok()?;
    let (_, reply) = join("second", &token)?;
    ensure!(reply.code == Some(4), "reused: {reply:?}");
    let (error, hint) = reply.failure()?;
    ensure!(hint.is_some(), "no next step after: {error}");
    let members = office.status()?["members"].to_string();
    ensure!(members.contains("store") && !members.contains("second"), "{members}");
    Ok(())
}

/// Whoever mistypes a token or an address tries again in the same place.
#[test]
fn a_join_that_failed_is_not_in_the_way_of_the_next() -> Result<()> {
    in_scratch("join-again", join_again)
}

fn join_again(scratch: &mut Scratch) -> Result<()> {
    let mut office = Station::new(scratch, "office", Vec::new())?;
    let (office_at, listen) = (free_address()?.to_string(), free_address()?.to_string());
    office.init(&office_at)?;
    office.start()?;
    let nobody = free_address()?.to_string();
    let mut store = Station::new(scratch, "store", Vec::new())?;
    let (token, state) = (office.token()?, store.state().display().to_string());
    let wrong = altered(&token).swap_remove(2);
    let not_a_folder = scratch.join("file");
    fs::write(&not_a_folder, "")?;
    let elsewhere = not_a_folder.join("state").display().to_string();
    for (code, at, token, state) in [
        (4, &office_at, &wrong, &state),
        (5, &nobody, &token, &state),
        // Nothing is asked of the primary before the state can be written: the token stays good.
        (1, &office_at, &token, &elsewhere),
    ] {
        let args = ["join", at, "--token", token, "--name", "store", "--listen", &listen];
        let reply = store.call(args.into_iter().chain(["--state", state, "--json"]))?;
        ensure!(reply.code == Some(code), "{at} {state}: {reply:?}");
        let (error, hint) = reply.failure()?;
        ensure!(hint.is_some(), "no next step after: {error}");
        ensure!(!store.state().exists() && !store.config().exists(), "left behind by: {error}");
    }
    store.join(&office_at, &token, &listen, None)?;
    store.start()
}

/// Returns the token with one letter of each part changed, cut short, and nothing.
fn altered(token: &str) -> Vec<String> {
    let change = |index: usize| {
        let letter = if token.as_bytes()[index] == b'a' { "b" } else { "a" };
        format!("{}{letter}{}", &token[..index], &token[index + 1..])
    };
    let in_hash = token.find('.').map_or(0, |dot| dot + 5);
    let in_secret = token.len() - 10;
    let shorter = token[..token.len() - 1].to_owned();
    vec![change(0), change(in_hash), change(in_secret), shorter, String::new(), "v1.x.y".to_owned()]
}

/// What cannot be done is answered with the cause, the next step, and a code that scripts can rely on.
#[test]
fn wrong_input_gives_the_cause_a_hint_and_its_exit_code() -> Result<()> {
    in_scratch("input", type_wrong_things)
}

fn type_wrong_things(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "text")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let inside = source.join("inside");
    fs::create_dir(&inside)?;
    let (inside, file) = (inside.to_string_lossy(), source.join("file"));
    let (file, around) = (file.to_string_lossy(), scratch.join("").to_string_lossy().into_owned());
    let of_station = cluster.office.state().to_string_lossy().into_owned();
    let source = source.to_string_lossy().into_owned();
    let cases: &[(i32, &[&str])] = &[
        (2, &["versions"]),
        (2, &["no-such-command"]),
        (3, &["show", "work:file@someday"]),
        (2, &["versions", "work:../file"]),
        (2, &["set", "add", "Bad Name", "--source", &source, "--to", "store"]),
        (3, &["versions", "nowhere:file"]),
        (3, &["versions", "work:no-such-file"]),
        (3, &["show", "work:no-such-file@latest"]),
        (3, &["show", "work:file@v1.1.999999"]),
        (3, &["show", "work:file@2001-01-01"]),
        (3, &["set", "show", "nowhere"]),
        (3, &["set", "add", "other", "--source", "/nowhere/at/all", "--to", "store"]),
        (3, &["set", "add", "other", "--source", &source, "--to", "nobody"]),
        (3, &["versions", "work:file@2h"]),
        (3, &["fsck", "nowhere"]),
        (4, &["set", "add", SET, "--source", &source, "--to", "store"]),
        (4, &["set", "add", "other", "--source", &inside, "--to", "store"]),
        (4, &["set", "add", "other", "--source", &around, "--to", "store"]),
        (4, &["set", "add", "other", "--source", &file, "--to", "store"]),
        (4, &["set", "add", "other", "--source", &of_station, "--to", "store"]),
        (4, &["set", "add", "other", "--source", &inside, "--to", "office"]),
        (4, &["set", "add", "other", "--source", &of_station]),
        (4, &["token", "create"]),
        (4, &["restore", "work:inside@latest"]),
        (5, &["status", "--socket", "/nowhere/at/all"]),
    ];
    let mut wrong = Vec::new();
    for (code, args) in cases {
        let station = if args[0] == "set" { &cluster.office } else { &cluster.store };
        let text = station.call(*args)?;
        let json = station.call(args.iter().chain(&["--json"]))?;
        let told = format!("{args:?}: {:?} {}", text.code, text.err.trim());
        if text.code != Some(*code) || json.code != Some(*code) {
            wrong.push(format!("not {code}: {told}"));
        }
        if !text.err.contains("error:") || !text.out.is_empty() {
            wrong.push(format!("no error on standard error alone: {told}"));
        }
        match json.failure() {
            Err(error) => wrong.push(format!("{args:?} --json: {error:#}")),
            Ok((_, hint)) if hint.is_none() || hint.as_deref() == Some("") => {
                wrong.push(format!("no hint: {told}"));
            }
            Ok(_) => {}
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A command that needs a station says that there is none, and what to do.
#[test]
fn a_station_that_does_not_run_is_unavailable() -> Result<()> {
    in_scratch("away", ask_nobody)
}

fn ask_nobody(scratch: &mut Scratch) -> Result<()> {
    let station = Station::new(scratch, "office", Vec::new())?;
    for command in ["status", "run"] {
        let reply = station.call([command, "--json"])?;
        ensure!(reply.code == Some(3) && reply.failure()?.1.is_some(), "no config: {reply:?}");
    }
    fs::write(station.config(), "name = \"office\"\nlisten = [1]\n")?;
    let reply = station.call(["run"])?;
    ensure!(reply.code == Some(2) && reply.err.contains("line 2, column 10: "), "{reply:?}");
    ensure!(reply.err.contains("hint: ") && !reply.err.contains("\\n"), "{reply:?}");
    fs::remove_file(station.config())?;
    let nothing_there = format!("name = \"office\"\nstate = \"{}\"\n", station.state().display());
    fs::write(station.config(), nothing_there)?;
    let reply = station.call(["run", "--json"])?;
    ensure!(reply.code == Some(3) && reply.failure()?.1.is_some(), "no station: {reply:?}");
    fs::remove_file(station.config())?;
    station.init(&free_address()?.to_string())?;
    let reply = station.call(["status", "--json"])?;
    ensure!(reply.code == Some(5), "{reply:?}");
    let (error, hint) = reply.failure()?;
    ensure!(hint.context(error)?.contains("keepshare run"), "the hint does not help: {reply:?}");
    let reply = station.call(["init", "--name", "office", "--json"])?;
    ensure!(reply.code == Some(4), "a second init: {reply:?}");
    Ok(())
}

fn alarm_within(station: &Station) -> Result<()> {
    let mut last = String::new();
    let waited = wait_until(SOON, "the status shows an alarm", || {
        let set = station.set_status(SET);
        last = set.as_ref().map_or_else(|e| format!("{e:#}"), ToString::to_string);
        set.is_ok_and(|set| set["state"] == "alarm")
    });
    waited.with_context(|| format!("it says: {last}"))
}
