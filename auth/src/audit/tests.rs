//! The audit log, whole and as somebody has changed it.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_are_json_that_only_the_owner_reads() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(dir.path()).unwrap();
    let line = AuditLine::refused(Stamp(0), AuditEvent::Mount, "a \"quoted\"\nreason");
    audit.write(line.user(&"anna".parse().unwrap()).address("::ffff:10.0.0.1".parse().unwrap()));
    audit.write(AuditLine::done(Stamp(1), AuditEvent::UserAdd));
    let path = dir.path().join(AUDIT_FILE);
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "mount");
    assert_eq!(lines[0]["ok"], false);
    assert_eq!(lines[0]["reason"], "a \"quoted\"\nreason");
    assert_eq!((&lines[0]["user"], &lines[0]["address"]), (&"anna".into(), &"10.0.0.1".into()));
    assert_eq!(lines[1]["event"], "user-add");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_log_is_bounded_and_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open_bounded(dir.path(), 1000).unwrap();
    for n in 0..1000 {
        let at = Stamp(n * MINUTE_US);
        audit.write(AuditLine::done(at, AuditEvent::Login).because(n));
    }
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 1000));
    assert_eq!(lines(&dir.path().join(AUDIT_FILE)).last().unwrap()["reason"], "999");
}

/// A backup takes the files as they were at one moment, however often they get other names while it reads.
#[test]
fn the_files_of_a_moment_hang_together_while_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open_bounded(dir.path(), 1000).unwrap();
    let write = |n| audit.write(AuditLine::done(Stamp(n * MINUTE_US), AuditEvent::Login));
    (0..40).for_each(write);
    let head = audit.head().unwrap();
    let then = audit.lines().unwrap();
    (40..400).for_each(write);
    let copy = tempfile::tempdir().unwrap();
    for file in then.contents() {
        let (name, content) = file.unwrap();
        fs::write(copy.path().join(name), content).unwrap();
    }
    let checked = check(Lines::in_folder(copy.path()).unwrap(), &[]).unwrap();
    assert_eq!((checked.fault, checked.head), (None, head));
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 4);
}

/// Whoever can be refused at will must not push the history out.
#[test]
fn a_flood_of_refusals_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(dir.path()).unwrap();
    for _ in 0..10_000 {
        audit.write(AuditLine::refused(Stamp(5), AuditEvent::Mount, "unknown"));
    }
    audit.write(AuditLine::done(Stamp(5), AuditEvent::Mount));
    let lines = lines(&dir.path().join(AUDIT_FILE));
    assert_eq!(lines.len(), 121);
    assert_eq!(lines[120]["unwritten"], 10_000 - 120);
}

/// Anybody can have mounts refused; that must not hide who guesses passwords.
#[test]
fn refused_mounts_hide_no_refused_logins() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(dir.path()).unwrap();
    for _ in 0..10_000 {
        audit.write(AuditLine::refused(Stamp(5), AuditEvent::Mount, "unknown"));
    }
    audit.write(AuditLine::refused(Stamp(5), AuditEvent::Login, "wrong"));
    let lines = lines(&dir.path().join(AUDIT_FILE));
    assert_eq!(lines.len(), 121);
    assert_eq!(lines[120]["event"], "login");
    assert!(lines[120].get("unwritten").is_none(), "the next mount tells of mounts");
}

/// What a user may do as often as they like must not push the history out, nor hide what others do.
#[test]
fn a_flood_of_one_users_doings_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(dir.path()).unwrap();
    let (anna, ben) = ("anna".parse().unwrap(), "ben".parse().unwrap());
    for _ in 0..10_000 {
        audit.write(AuditLine::done(Stamp(5), AuditEvent::Resume).user(&anna));
    }
    audit.write(AuditLine::done(Stamp(5), AuditEvent::Revoke).user(&anna));
    audit.write(AuditLine::done(Stamp(5), AuditEvent::Resume).user(&ben));
    let lines = lines(&dir.path().join(AUDIT_FILE));
    assert_eq!(lines.len(), 122);
    assert_eq!((&lines[121]["user"], &lines[121]["unwritten"]), (&"ben".into(), &9880.into()));
}

/// Writes some lines into files of `bytes_max`, and returns the audit log.
fn written(dir: &Path, lines: i64, bytes_max: u64) -> Audit {
    let audit = Audit::open_bounded(dir, bytes_max).unwrap();
    for n in 0..lines {
        audit.write(AuditLine::done(Stamp(n * MINUTE_US), AuditEvent::Login).because(n));
    }
    audit
}

fn checked(dir: &Path) -> Checked {
    check(Lines::in_folder(dir).unwrap(), &[]).unwrap()
}

fn file_names(dir: &Path) -> Vec<PathBuf> {
    let names = (1..=files::OLD_MAX).rev().map(|n| format!("{AUDIT_FILE}.{n}"));
    let all = names.chain([AUDIT_FILE.to_owned()]).map(|name| dir.join(name));
    all.filter(|path| path.exists()).collect()
}

#[test]
fn lines_hang_together_over_all_files_and_starts() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for _ in 0..5 {
        let audit = written(dir.path(), 8, 1000);
        said.push(audit.head().unwrap().unwrap());
        let found = check(audit.lines().unwrap(), &said).unwrap();
        assert_eq!(found.fault, None);
        assert_eq!((found.head, found.before_chain), (said.last().copied(), 0));
        assert_eq!(found.heads.last(), Some(&HeadFound::Same));
    }
    assert_eq!(said.last().unwrap().count, 40);
    let found = check(Lines::in_folder(dir.path()).unwrap(), &said).unwrap();
    assert!(found.first > Some(1), "the oldest went");
    assert_eq!(found.heads[0], HeadFound::Gone);
    assert_eq!(file_names(dir.path()).len(), 4);
}

/// Whatever is done to the lines but the last one, whoever does not write all later ones anew is found, with the line.
#[test]
fn what_was_changed_in_the_middle_is_found() {
    let whole = tempfile::tempdir().unwrap();
    written(whole.path(), 30, 1500);
    assert_eq!(checked(whole.path()).fault, None);
    let files = file_names(whole.path());
    assert_eq!(files.len(), 4);
    let lines_of = |path: &Path| -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(ToOwned::to_owned).collect()
    };
    type Act = fn(&mut Vec<String>, usize);
    let acts: [(&str, Act); 6] = [
        ("cut", |lines, at| drop(lines.remove(at))),
        ("flipped", |lines, at| lines[at] = lines[at].replace("\"ok\":true", "\"ok\":frue")),
        ("changed", |lines, at| lines[at] = lines[at].replace("\"login\"", "\"mount\"")),
        ("repeated", |lines, at| lines.insert(at, lines[at].clone())),
        ("reordered", |lines, at| {
            let other = if at == 0 { 1 } else { at - 1 };
            lines.swap(at, other);
        }),
        ("inserted", |lines, at| {
            lines.insert(at, r#"{"time":"2026-01-01T00:00:00Z","event":"login","ok":true}"#.into());
        }),
    ];
    for (file, path) in files.iter().enumerate() {
        for (what, act) in acts {
            for at in 0..lines_of(path).len() {
                let is_last = file + 1 == files.len() && at + 1 == lines_of(path).len();
                if is_last && ["cut", "changed"].contains(&what) {
                    // That is what heads are for.
                    continue;
                }
                let before = fs::read(path).unwrap();
                let mut lines = lines_of(path);
                act(&mut lines, at);
                fs::write(path, lines.join("\n") + "\n").unwrap();
                let fault = checked(whole.path()).fault;
                let fault =
                    fault.unwrap_or_else(|| panic!("{what} at {at} of {file} is not found"));
                let name = path.file_name().unwrap().to_str().unwrap();
                let is_near = fault.file == name && fault.line.abs_diff(at as u64 + 1) <= 1;
                let is_behind = fault.file != name && fault.line == 1;
                assert!(is_near || is_behind, "{what} at {at} of {name}: {fault:?}");
                fs::write(path, before).unwrap();
            }
        }
        // A whole file.
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let is_found = checked(whole.path()).fault.is_some();
        assert!(is_found || file + 1 == files.len(), "file {file} is missed");
        fs::write(path, bytes).unwrap();
    }
}

/// What nobody can see in the lines themselves: only a head that was kept elsewhere tells, or the station that wrote them.
#[test]
fn a_tail_that_was_cut_or_written_anew_is_found_by_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let audit = written(dir.path(), 10, 1 << 20);
    let head = audit.head().unwrap().unwrap();
    let path = dir.path().join(AUDIT_FILE);
    let text = fs::read_to_string(&path).unwrap();
    let cut: String = text.lines().take(8).map(|line| format!("{line}\n")).collect();
    fs::write(&path, &cut).unwrap();
    let by_head = check(Lines::in_folder(dir.path()).unwrap(), &[head]).unwrap();
    assert_eq!((by_head.fault, &by_head.heads[..]), (None, &[HeadFound::Missing][..]));
    let by_writer = check(audit.lines().unwrap(), &[]).unwrap().fault.unwrap();
    assert!(by_writer.why.contains("ends with line 8 of the chain, of which 10"), "{by_writer:?}");
    // And somebody writes on as if nothing had been.
    drop(audit);
    written(dir.path(), 10, 1 << 20);
    let found = check(Lines::in_folder(dir.path()).unwrap(), &[head]).unwrap();
    assert_eq!((found.fault, &found.heads[..]), (None, &[HeadFound::Other][..]));
    // The last line alone.
    fs::write(&path, text.replace("\"9\"", "\"8\"")).unwrap();
    let found = check(Lines::in_folder(dir.path()).unwrap(), &[head]).unwrap();
    assert_eq!((found.fault, &found.heads[..]), (None, &[HeadFound::Other][..]));
}

/// A crash in the middle of a line is no alarm, is told, and the chain goes on from the last whole line.
#[test]
fn half_a_line_is_told_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(AUDIT_FILE);
    let head = written(dir.path(), 3, 1 << 20).head().unwrap().unwrap();
    let whole = fs::read(&path).unwrap();
    let half = [&whole[..], &whole[..40]].concat();
    fs::write(&path, half).unwrap();
    let found = check(Lines::in_folder(dir.path()).unwrap(), &[head]).unwrap();
    assert_eq!((found.fault, found.torn_bytes, found.lines), (None, 40, 3));
    let audit = Audit::open(dir.path()).unwrap();
    assert_eq!(check(audit.lines().unwrap(), &[]).unwrap().fault, None, "before it is written to");
    audit.write(AuditLine::done(Stamp(7), AuditEvent::Login));
    let found = check(audit.lines().unwrap(), &[head]).unwrap();
    assert_eq!((found.fault, found.torn_bytes, found.torn_lines, found.lines), (None, 0, 1, 5));
    assert_eq!(found.heads, [HeadFound::Same]);
    let lines = lines(&path);
    assert_eq!(lines[3]["event"], "audit-torn");
    assert!(lines[3]["reason"].as_str().unwrap().contains("40 bytes were cut"), "{}", lines[3]);
}

/// Half a line in the middle is no crash of ours.
#[test]
fn half_a_line_with_others_behind_it_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 30, 1500);
    let path = old(&dir.path().join(AUDIT_FILE), 1);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let fault = checked(dir.path()).fault.unwrap();
    assert!(fault.file == "audit.log.1" && fault.why.contains("half a line"), "{fault:?}");
}

/// A line that is damaged does not end the log: what is written behind it hangs together, and the damage stays told.
#[test]
fn the_chain_goes_on_behind_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(AUDIT_FILE);
    written(dir.path(), 3, 1 << 20);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 5;
    bytes[last] = 0xff;
    fs::write(&path, bytes).unwrap();
    let audit = written(dir.path(), 2, 1 << 20);
    assert_eq!(audit.head().unwrap().unwrap().count, 5);
    let fault = checked(dir.path()).fault.unwrap();
    assert!(fault.line == 3 && fault.why.contains("cannot be read"), "{fault:?}");
}

/// Logs of former builds are read, and the chain begins behind them.
#[test]
fn lines_of_before_the_chain_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(AUDIT_FILE);
    let line = r#"{"time":"2026-01-01T00:00:00.000000Z","event":"login","ok":true}"#;
    fs::write(old(&path, 1), format!("{line}\n{line}\n")).unwrap();
    fs::write(&path, format!("{line}\n{line}\n{{\"time")).unwrap();
    written(dir.path(), 2, 1 << 20);
    let found = checked(dir.path());
    assert_eq!((found.fault, found.before_chain, found.first), (None, 4, Some(1)));
    assert_eq!((found.lines, found.torn_lines), (7, 1));
    // What has no place among those that have one was put in.
    let text = fs::read_to_string(&path).unwrap() + line + "\n";
    fs::write(&path, text).unwrap();
    assert!(checked(dir.path()).fault.unwrap().why.contains("no place in the chain"));
    // And taking its place from a line does not make it one of before.
    let text = fs::read_to_string(&path).unwrap().replace("\"n\":1,", "");
    fs::write(&path, text).unwrap();
    assert!(checked(dir.path()).fault.unwrap().why.contains("begins with line 2"));
}

/// A full disk tears a line: what was written of it goes, what is lost is counted and told, and the chain is whole.
#[test]
fn a_full_disk_is_told_when_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let audit = written(dir.path(), 2, 1 << 20);
    let path = dir.path().join(AUDIT_FILE);
    let inner = audit.0.as_ref().unwrap();
    let good = {
        let mut file = inner.lock().unwrap();
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        std::mem::replace(&mut file.file, full)
    };
    for _ in 0..3 {
        audit.write(AuditLine::done(Stamp(1), AuditEvent::Mount));
    }
    inner.lock().unwrap().file = good;
    audit.write(AuditLine::done(Stamp(2), AuditEvent::Mount));
    let lines = lines(&path);
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[2]["event"], &lines[3]["unwritten"]), (&"audit-torn".into(), &3.into()));
    assert!(lines[2]["reason"].as_str().unwrap().contains("could not be written"), "{}", lines[2]);
    assert_eq!(check(audit.lines().unwrap(), &[]).unwrap().fault, None);
}
