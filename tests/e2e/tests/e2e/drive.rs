//! The drive as libnfs sees it: a client that is not ours and needs no kernel.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, Result, ensure};

use keepshare_e2e::{SOON, has};
use keepshare_support::{
    Drive, Reply, Scratch, Station, Wiring,
    cluster::SET,
    drive::{ANNA, BOB, time_of, write_as},
    in_scratch, tools, tree, wait_for,
};

/// A user's whole way: a ticket, a listing, a file, a download, an older version, a deleted file.
#[test]
fn what_a_user_reads_is_what_was_written() -> Result<()> {
    with_libnfs("what_a_user_reads_is_what_was_written", read_everything)
}

/// Whoever has no good ticket has nothing, and a bad one spoils no good one.
#[test]
fn only_a_fresh_ticket_from_the_right_address_is_taken() -> Result<()> {
    with_libnfs("only_a_fresh_ticket_from_the_right_address_is_taken", refuse_tickets)
}

/// A session that was logged in for one uid is of no use to any other, and a revoked one to nobody.
#[test]
fn a_session_serves_who_it_is_for_and_until_it_is_revoked() -> Result<()> {
    with_libnfs("a_session_serves_who_it_is_for_and_until_it_is_revoked", bind_and_revoke)
}

/// What is anna's alone stays so: in the present, in old versions, when deleted, under typed times.
#[test]
fn another_user_sees_nothing_of_what_is_private() -> Result<()> {
    with_libnfs("another_user_sees_nothing_of_what_is_private", keep_private)
}

fn with_libnfs(test: &str, body: impl FnOnce(&mut Scratch) -> Result<()>) -> Result<()> {
    if !["nfs-ls", "nfs-cat", "nfs-cp"].iter().all(|program| has(test, program)) {
        return Ok(());
    }
    if !tools::is_root() {
        tools::skip(test, "files of several owners need root");
        return Ok(());
    }
    in_scratch(&format!("drive-{}", &test[..12]), body)
}

fn read_everything(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    for (path, content) in [("a.txt", "the first"), ("empty", ""), ("deep/er/b.txt", "below")] {
        write_as(ANNA, &source.join(path), content)?;
    }
    tree::write_random(&source.join("large"), 5 << 20, 1)?;
    chown(source.join("large"), Some(ANNA), Some(ANNA))?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let mount = drive.log_in_shared("anna")?;
    let listed = listed(&drive, &mount)?;
    let expected = [("@versions", None), ("a.txt", Some(9)), ("deep", None), ("empty", Some(0))];
    let mut expected: Vec<(String, Option<u64>)> =
        expected.map(|(name, size)| (name.to_owned(), size)).to_vec();
    expected.push(("large".to_owned(), Some(5 << 20)));
    ensure!(listed == expected, "nfs-ls lists {listed:?}");
    for path in ["a.txt", "empty", "deep/er/b.txt", "large"] {
        let told = cat(&drive, "anna", path)?.ok()?;
        ensure!(told.out == fs::read(source.join(path))?, "nfs-cat gives other bytes of {path}");
    }
    let (mount, out) = (drive.log_in_shared("anna")?, scratch.join("downloaded"));
    let url = drive.url(&format!("{mount}/large"));
    drive.libnfs(None, "nfs-cp", [url, out.to_string_lossy().into_owned()])?.ok()?;
    ensure!(fs::read(&out)? == fs::read(source.join("large"))?, "nfs-cp gives other bytes");
    read_the_past(&drive, &source)
}

fn read_the_past(drive: &Drive, source: &Path) -> Result<()> {
    let first = drive.versions("a.txt")?;
    fs::write(source.join("a.txt"), "the second, which is longer")?;
    wait_for(SOON, "a.txt has a second version", || {
        Ok((drive.versions("a.txt")?.len() > first.len()).then_some(()))
    })?;
    fs::remove_file(source.join("deep/er/b.txt"))?;
    wait_for(SOON, "b.txt is gone", || {
        Ok((!drive.cluster.live()?.join("deep/er/b.txt").exists()).then_some(()))
    })?;
    ensure!(cat(drive, "anna", "a.txt")?.ok()?.out == b"the second, which is longer");
    ensure!(
        cat(drive, "anna", "@versions/a.txt@/latest.txt")?.ok()?.out
            == b"the second, which is longer"
    );
    let then = time_of(&first[0])?;
    ensure!(cat(drive, "anna", &format!("@versions/a.txt@/{then}"))?.ok()?.out == b"the first");
    ensure!(cat(drive, "anna", &format!("@versions/{then}/a.txt"))?.ok()?.out == b"the first");
    let gone = "deep/er/@versions/_deleted/b.txt@";
    let mount = drive.log_in_shared("anna")?;
    let versions = listed(drive, &format!("{mount}/{gone}"))?;
    let (name, _) =
        versions.iter().find(|(name, _)| name.ends_with(".txt")).context("no version")?;
    ensure!(cat(drive, "anna", &format!("{gone}/{name}"))?.ok()?.out == b"below");
    ensure!(cat(drive, "anna", "deep/er/b.txt")?.code != Some(0), "what was deleted is there");
    Ok(())
}

fn refuse_tickets(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    write_as(ANNA, &source.join("a.txt"), "content")?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let good = drive.log_in_shared("anna")?;
    let ticket = good.strip_prefix("/login/").context("a ticket is mounted")?;
    let wrong = "0123456789abcdef0123456789abcdef";
    refused(&drive, &format!("/login/{wrong}"), "a ticket that nobody got")?;
    for path in ["/", "/login", "/login/", "/a.txt", &format!("/{ticket}")] {
        refused(&drive, path, "no ticket")?;
    }
    for length in 1..ticket.len() {
        refused(&drive, &format!("/login/{}", &ticket[..length]), "a truncated ticket")?;
    }
    refused(&drive, &format!("{good}0"), "a longer ticket")?;
    for at in 0..ticket.len() {
        let mut flipped = ticket.to_owned().into_bytes();
        flipped[at] = if flipped[at] == b'0' { b'1' } else { b'0' };
        let flipped = String::from_utf8(flipped)?;
        refused(&drive, &format!("/login/{flipped}"), "a ticket with one other digit")?;
    }
    let elsewhere = drive.log_in("anna", &["--shared", "--address", "127.0.0.2"])?;
    refused(&drive, &elsewhere, "a ticket for another address")?;
    // None of it has spoiled the good one; using that does.
    ensure!(fetch(&drive, None, &format!("{good}/a.txt"))?.ok()?.out == b"content");
    refused(&drive, &good, "a used ticket")?;
    ensure!(fetch(&drive, None, &format!("{good}/a.txt"))?.code != Some(0), "a used ticket");
    let mut old = drive;
    let kept = old.log_in_shared("anna")?;
    restart(&mut old.cluster.store)?;
    refused(&old, &kept, "a ticket of before a restart, which is forgotten")
}

fn bind_and_revoke(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    write_as(ANNA, &source.join("a.txt"), "content")?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let bound = |uid: u32| drive.log_in("anna", &["--uid", &uid.to_string()]);
    for other in [Some(BOB), Some(1), None] {
        let mount = bound(ANNA)?;
        let told = fetch(&drive, other, &format!("{mount}/a.txt"))?;
        ensure!(told.code != Some(0) && told.out.is_empty(), "{other:?} reads what is {ANNA}'s");
        let told = drive.libnfs(other, "nfs-ls", [drive.url(&mount)])?;
        let text = String::from_utf8_lossy(&told.out);
        ensure!(!text.contains("a.txt"), "{other:?} lists what is {ANNA}'s: {text}");
    }
    // The number on the client is the login's, whatever the user's own number is.
    for uid in [ANNA, 12_345] {
        let mount = bound(uid)?;
        let told = fetch(&drive, Some(uid), &format!("{mount}/a.txt"))?.ok()?;
        ensure!(told.out == b"content", "{uid} reads other bytes");
    }
    let mount = drive.log_in_shared("anna")?;
    drive.libnfs(None, "nfs-ls", [drive.url(&mount)])?.ok()?;
    refused(&drive, &mount, "a ticket with which somebody has looked")?;
    let unused = drive.log_in_shared("anna")?;
    drive.cluster.store.call(["session", "revoke", "--user", "anna"])?.ok()?;
    refused(&drive, &unused, "a ticket of somebody whose sessions were revoked")?;
    let sessions = drive.sessions("anna")?;
    let alive = sessions.iter().filter(|session| session["revoked"].is_null()).count();
    ensure!(!sessions.is_empty() && alive == 0, "the list shows {sessions:?}");
    Ok(())
}

fn keep_private(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    // What she had was open to all, once, in a folder that was open; that is no right now.
    for path in ["private/plan.txt", "private/gone.txt", "desk/diary.txt", "desk/burnt.txt"] {
        write_as(ANNA, &source.join(path), "anna's own")?;
    }
    write_as(ANNA, &source.join("desk/open.txt"), "for all")?;
    let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let open = drive.versions("private/plan.txt")?;
    let open = time_of(&open[0])?.to_owned();
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(source.join(path), fs::Permissions::from_mode(mode))
    };
    mode("private", 0o700)?;
    for path in ["desk/diary.txt", "desk/burnt.txt"] {
        mode(path, 0o600)?;
    }
    drive.cluster.in_sync_within(SOON)?;
    for path in ["private/plan.txt", "desk/diary.txt"] {
        fs::write(source.join(path), "anna's own, again")?;
        wait_for(SOON, "a version more", || {
            let newest = drive.versions(path)?.into_iter().next();
            Ok(newest.filter(|version| version["size"] == 17))
        })?;
    }
    let moment = drive.versions("desk/diary.txt")?;
    let moment = time_of(&moment[0])?;
    for path in ["private/gone.txt", "desk/burnt.txt"] {
        fs::remove_file(source.join(path))?;
        wait_for(SOON, "a file is gone", || {
            Ok((!drive.cluster.live()?.join(path).exists()).then_some(()))
        })?;
    }
    let files = [
        "private/plan.txt".to_owned(),
        "desk/diary.txt".to_owned(),
        "private/@versions/plan.txt@/latest.txt".to_owned(),
        "desk/@versions/diary.txt@/latest.txt".to_owned(),
        format!("desk/@versions/diary.txt@/{moment}.txt"),
        format!("desk/@versions/{moment}/burnt.txt"),
        format!("@versions/{moment}/private/gone.txt"),
        format!("@versions/{moment}/private/plan.txt"),
        format!("@versions/{moment}/desk/diary.txt"),
        format!("@versions/{open}/private/plan.txt"),
        format!("private/@versions/plan.txt@/{open}.txt"),
    ];
    for path in &files {
        ensure!(cat(&drive, "anna", path)?.code == Some(0), "anna cannot read {path}");
        let told = cat(&drive, "bob", path)?;
        ensure!(told.code != Some(0) && told.out.is_empty(), "bob reads {path}");
    }
    ensure!(cat(&drive, "bob", "desk/open.txt")?.ok()?.out == b"for all");
    for (folder, name) in [
        ("private", "plan.txt"),
        ("private/@versions", "plan.txt@"),
        ("private/@versions/_deleted", "gone.txt@"),
        ("desk/@versions", "diary.txt@"),
        ("desk/@versions/diary.txt@", ".txt"),
        ("desk/@versions/_deleted", "burnt.txt@"),
        ("desk/@versions/_deleted/burnt.txt@", ".txt"),
        (&format!("@versions/{moment}/private"), "gone.txt"),
    ] {
        for user in ["anna", "bob"] {
            let mount = drive.log_in_shared(user)?;
            let told = drive.libnfs(None, "nfs-ls", [drive.url(&format!("{mount}/{folder}"))])?;
            let text = String::from_utf8_lossy(&told.out).into_owned();
            ensure!(
                text.contains(name) == (user == "anna"),
                "{user} lists {folder}:\n{text}{}",
                told.err
            );
        }
    }
    Ok(())
}

fn restart(store: &mut Station) -> Result<()> {
    store.stop()?;
    store.start()?;
    wait_for(SOON, "the drive is served again", || Ok(store.set_status(SET).is_ok().then_some(())))
}

/// Logs in and returns what nfs-cat gives of a path of the drive.
fn cat(drive: &Drive, user: &str, path: &str) -> Result<Reply> {
    let mount = drive.log_in_shared(user)?;
    fetch(drive, None, &format!("{mount}/{path}"))
}

fn fetch(drive: &Drive, uid: Option<u32>, path: &str) -> Result<Reply> {
    drive.libnfs(uid, "nfs-cat", [drive.url(path)])
}

fn refused(drive: &Drive, path: &str, what: &str) -> Result<()> {
    let told = drive.libnfs(None, "nfs-ls", [drive.url(path)])?;
    ensure!(told.code != Some(0) && told.out.is_empty(), "{what} was taken: {path}");
    ensure!(told.err.contains("ACCES"), "{what} was refused by another word: {}", told.err);
    Ok(())
}

/// Returns what nfs-ls lists: names, with the sizes of files, by name.
fn listed(drive: &Drive, path: &str) -> Result<Vec<(String, Option<u64>)>> {
    let told = drive.libnfs(None, "nfs-ls", [drive.url(path)])?.ok()?;
    let text = String::from_utf8(told.out)?;
    let mut listed = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [mode, _, _, _, size, name] = fields[..] else {
            anyhow::bail!("nfs-ls says: {line}");
        };
        listed.push((
            name.to_owned(),
            if mode.starts_with('-') { Some(size.parse()?) } else { None },
        ));
    }
    listed.sort();
    Ok(listed)
}
