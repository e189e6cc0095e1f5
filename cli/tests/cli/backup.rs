//! A station in one encrypted file, and the way back from it.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_support::{Cluster, Reply, Scratch, Station, Wiring, cluster::SET, wait_for};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(120);

const PASSPHRASE: &str = "many words that nobody guesses\n";

const PASSWORD: &str = "correct horse battery\n";

fn cluster(scratch: &Scratch) -> Result<Cluster> {
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    Ok(cluster)
}

fn add_user(station: &Station, name: &str) -> Result<()> {
    let add = ["user", "add", name, "--uid", "1000", "--gid", "1000", "--password-stdin"];
    station.call_with_input(add, PASSWORD)?.ok()?;
    Ok(())
}

/// Types a command about a backup, with the passphrase.
fn types(station: &Station, what: &str, file: &str, options: &[&str]) -> Result<Reply> {
    let args = [&["station", what, file, "--passphrase-stdin", "--json"], options].concat();
    station.call_with_input(args, PASSPHRASE)
}

/// Takes everything away that a machine takes with it when it dies.
fn lose(station: &mut Station) -> Result<()> {
    station.kill()?;
    fs::remove_dir_all(station.state())?;
    fs::remove_file(station.config())?;
    Ok(())
}

/// Returns what is in a state folder, but for the lock.
fn names(state: &Path) -> Result<Vec<OsString>> {
    let entries = fs::read_dir(state)?.map(|entry| Ok(entry?.file_name()));
    let mut names: Vec<_> = entries.collect::<Result<_>>()?;
    names.retain(|name| name != "lock");
    Ok(names)
}

fn certificate(station: &Station) -> Result<Vec<u8>> {
    Ok(fs::read(station.state().join("identity/station.pem"))?)
}

fn log_in(station: &Station, user: &str, password: &str) -> Result<Reply> {
    let login =
        ["login", user, "--set", SET, "--address", "127.0.0.1", "--json", "--password-stdin"];
    station.call_with_input(login, password)
}

/// The master's machine is gone with everything. Another one takes its place, and nobody has to add a station, a set or a user.
#[test]
fn a_master_comes_back_from_its_backup_and_goes_on() -> Result<()> {
    let scratch = Scratch::new("backup-master")?;
    let mut cluster = cluster(&scratch)?;
    let file = scratch.join("office.age").to_string_lossy().into_owned();
    add_user(&cluster.office, "anna")?;
    cluster.office.call(["token", "create"])?.ok()?;
    types(&cluster.office, "backup", &file, &[])?.ok()?;
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600);
    ensure!(types(&cluster.office, "backup", &file, &[])?.code == Some(4), "it was replaced");
    types(&cluster.office, "backup", &file, &["--force"])?.ok()?;
    // What comes after the backup is lost with the machine, and the store has seen it.
    add_user(&cluster.office, "ben")?;
    cluster.store.stop()?;
    cluster.store.start()?;
    wait_for(SOON, "the store keeps a head of what will be lost", || {
        let heads = cluster.store.call(["audit", "show", "--head", "--json"])?.ok()?.json()?;
        Ok(heads.to_string().contains("\"4:").then_some(()))
    })?;
    cluster.in_sync_within(SOON)?;
    let certificate_then = certificate(&cluster.office)?;
    let sealed = fs::read(&file)?;
    let secret = certificate_then.split(|byte| *byte == b'\n').nth(1).context("a key")?;
    ensure!(!sealed.windows(secret.len()).any(|window| window == secret), "the key is readable");
    lose(&mut cluster.office)?;

    let wrong = ["station", "restore", &file, "--yes", "--passphrase-stdin"];
    let reply = cluster.office.call_with_input(wrong, "another passphrase\n")?;
    ensure!(reply.code == Some(4) && !cluster.office.state().exists(), "{reply:?}");
    ensure!(format!("{reply:?}").contains("does not open with this passphrase"), "{reply:?}");
    let told = types(&cluster.office, "restore", &file, &["--list"])?.ok()?.json()?;
    ensure!(told["station"] == "office" && told["role"] == "primary", "{told}");
    ensure!(!cluster.office.state().exists(), "--list changes nothing");
    let reply = types(&cluster.office, "restore", &file, &[])?;
    let (meaning, hint) = reply.failure()?;
    ensure!(reply.code == Some(4) && meaning.contains("must not run any more"), "{reply:?}");
    ensure!(hint.is_some_and(|hint| hint.contains("--yes")));
    let told = types(&cluster.office, "restore", &file, &["--yes"])?.ok()?.json()?;
    ensure!(told["users"] == serde_json::json!(["anna"]), "{told}");
    ensure!(certificate(&cluster.office)? == certificate_then);
    let twice = types(&cluster.office, "restore", &file, &["--yes"])?;
    ensure!(twice.code == Some(4) && certificate(&cluster.office)? == certificate_then);
    ensure!(!cluster.office.state().join(".restoring").exists());

    cluster.office.start()?;
    cluster.in_sync_within(SOON)?;
    fs::write(cluster.source().join("file"), "written after it")?;
    wait_for(SOON, "a version of after", || {
        let shown = cluster.store.show(SET, Path::new("file"), "latest")?;
        Ok((shown == b"written after it").then_some(()))
    })?;
    let versions = cluster.store.versions(SET, Path::new("file"))?;
    ensure!(versions.len() == 2, "{versions:?}");
    let tokens = cluster.office.call(["token", "list", "--json"])?.ok()?.json()?;
    ensure!(tokens == serde_json::json!([]), "tokens of then came back: {tokens}");
    // The record says that it was brought back, and what the store saw beyond the backup is told, not taken for a fault.
    let lines = cluster.office.call(["audit", "show", "--json", "--event", "station-restored"])?;
    let lines = lines.ok()?.json()?;
    ensure!(lines.as_array().map(Vec::len) == Some(1), "{lines}");
    let report = wait_for(SOON, "the store is asked", || {
        let report = cluster.office.call(["audit", "verify", "--json"])?.json()?;
        Ok(report["unasked"].as_array().is_some_and(Vec::is_empty).then_some(report))
    })?;
    let found: Vec<&Value> =
        report["heads"].as_array().context("heads")?.iter().map(|head| &head["found"]).collect();
    ensure!(report["ok"] == true && found.contains(&&"lost-in-restore".into()), "{report}");
    Ok(())
}

/// A station that keeps versions comes back as itself: its users log in, with the passwords of then, and its policy holds.
#[test]
fn a_station_with_users_comes_back_and_they_log_in() -> Result<()> {
    let scratch = Scratch::new("backup-store")?;
    let mut cluster = cluster(&scratch)?;
    let file = scratch.join("store.age").to_string_lossy().into_owned();
    add_user(&cluster.store, "anna")?;
    log_in(&cluster.store, "anna", PASSWORD)?.ok()?;
    let grant = ["session", "grant", "10.0.0.0/24", "--set", SET, "--yes"];
    cluster.store.call(grant)?.ok()?;
    cluster.store.call(["retention", "set", SET, "protect_days=77", "--yes"])?.ok()?;
    let short = ["station", "backup", &file, "--passphrase-stdin"];
    ensure!(cluster.store.call_with_input(short, "short\n")?.code == Some(2));
    // It does not have to run, either.
    cluster.store.stop()?;
    types(&cluster.store, "backup", &file, &[])?.ok()?;
    lose(&mut cluster.store)?;

    // What was left by a restore that was cut off is put there again; what belongs to somebody is not replaced.
    let state = cluster.store.state().to_owned();
    fs::create_dir_all(&state)?;
    fs::write(state.join("parts.toml"), "somebody's")?;
    let refused = types(&cluster.store, "restore", &file, &["--yes"])?;
    ensure!(refused.code == Some(4), "{refused:?}");
    ensure!(names(&state)? == ["parts.toml"], "{:?}", names(&state)?);
    ensure!(!cluster.store.config().exists());
    // What cannot be put in its place leaves nothing behind of what could.
    fs::remove_file(state.join("parts.toml"))?;
    fs::create_dir(state.join("identity"))?;
    fs::write(state.join("identity/notes"), "somebody's")?;
    let failed = types(&cluster.store, "restore", &file, &["--yes"])?;
    ensure!(failed.code == Some(1), "{failed:?}");
    let (why, _) = failed.failure()?;
    ensure!(why.contains("identity") && !cluster.store.config().exists(), "{failed:?}");
    ensure!(names(&state)? == ["identity"], "{:?}", names(&state)?);
    fs::remove_dir_all(state.join("identity"))?;
    // One that was cut off while it put files in place was perhaps of another backup.
    fs::write(state.join("parts.toml"), "of another backup")?;
    fs::write(state.join("pending.toml"), "of another backup")?;
    fs::create_dir(state.join(".restoring"))?;
    fs::write(state.join(".restoring/placing"), "")?;
    let told = types(&cluster.store, "restore", &file, &["--yes"])?.ok()?.json()?;
    ensure!(told["sessions_ended"] == 2, "{told}");
    ensure!(!state.join("pending.toml").exists() && !state.join(".restoring").exists());

    cluster.store.start()?;
    cluster.in_sync_within(SOON)?;
    ensure!(cluster.store.show(SET, Path::new("file"), "latest")? == b"one");
    let sessions = cluster.store.call(["session", "list", "--json"])?.ok()?.json()?;
    ensure!(sessions == serde_json::json!([]), "sessions of then came back: {sessions}");
    log_in(&cluster.store, "anna", PASSWORD)?.ok()?;
    ensure!(log_in(&cluster.store, "anna", "another horse battery\n")?.code != Some(0));
    let policy = cluster.store.call(["retention", "show", SET, "--json"])?.ok()?.json()?;
    ensure!(policy[0]["policy"]["protect_days"] == "77", "{policy}");
    Ok(())
}
