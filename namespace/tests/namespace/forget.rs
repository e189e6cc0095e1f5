//! When rows go with what they describe, nobody is told anything else.

use keepshare_auth::Principal;
use keepshare_base::CommitId;
use keepshare_namespace::Who;

use crate::{
    asking::{find, on_drive, show, versions},
    rig::*,
};

/// Everything that may be typed after the paths of a set with so many changes, the files' own numbers too.
fn typed(changes: u64, files: &[u64]) -> Vec<String> {
    let times = (0..changes + 3).map(|second| format!("2026-11-20_15.00.{second:02}"));
    let ids = (0..changes + 3).flat_map(|seq| {
        let of_files = files.iter().map(move |file| format!("v1.1.{seq}-{file}"));
        std::iter::once(format!("v1.1.{seq}")).chain(of_files)
    });
    times.chain(ids).collect()
}

/// All that is answered to one of them.
fn answers(rig: &Rig, user: Option<&Principal>, changes: u64) -> Vec<String> {
    let who = user.map_or(Who::Admin, Who::User);
    let mut all = vec![];
    for path in ["dir", "dir/a", "dir/b", "there/a", "there/hot", "there", "gone", "gone/c", ""] {
        for typed in typed(changes, &[1, 2, 3, 4, 5]) {
            let story = format!("{path}@{typed}");
            all.push(format!("{story}: {}", show(rig, who, path, &typed)));
            if let Some(user) = user.filter(|_| !path.is_empty()) {
                all.push(format!("{story}, on the drive: {}", on_drive(rig, user, path, &typed)));
            }
        }
        // Those that went are told to an admin one by one.
        if user.is_some() {
            all.push(format!("{path}: {}", versions(rig, who, path, 100)));
        }
    }
    all.push(find(rig, who, "*", 1000));
    if let Some(user) = user {
        for folder in ["", "there/"] {
            for below in ["", "/_deleted", "/_deleted/gone@", "/hot@", "/a@", "/_points"] {
                let path = format!("{folder}@versions{below}");
                let names = rig.names(user, &path).map_err(|error| error.to_string());
                all.push(format!("{path}: {names:?}"));
            }
        }
    }
    all
}

#[test]
fn rows_that_go_change_no_answer() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let a = rig.add(dir, "a", 0o644, b"a");
    let hot = rig.add(dir, "hot", 0o644, b"0");
    let gone = rig.add_dir(ROOT, "gone", 0o755);
    rig.add(gone, "c", 0o644, b"c");
    let mut saved: Vec<CommitId> = vec![];
    for i in 1..8 {
        let mode = if i == 4 { 0o600 } else { 0o644 };
        saved.push(rig.save(hot, mode, &[b'0' + i]));
    }
    rig.apply(edit().put(dir, "b", a));
    rig.apply(edit().point("point"));
    for i in 8..12 {
        saved.push(rig.save(hot, 0o644, &[b'a' + i]));
    }
    rig.apply(edit().gone(gone, "c").gone(ROOT, "gone"));
    saved.push(rig.save(hot, 0o644, b"x"));
    saved.push(rig.save(hot, 0o644, b"y"));
    rig.apply(edit().gone(ROOT, "dir").put_dir(ROOT, "there", dir));
    for i in 0..10 {
        saved.push(rig.save(hot, 0o644, &[b'A' + i]));
    }
    let changes = rig.position().seq.0;
    assert!(changes < 60, "seconds are typed in one minute");
    // What is asked for lies in the past by a day.
    rig.now = rig.now.plus_micros(2 * 86_400 * SECOND);
    rig.store.tick(rig.now);
    saved.pop();
    let kept = [saved[0], saved[14]];
    saved.retain(|at| !kept.contains(at));
    rig.store.expire(&saved.iter().map(|at| (hot, *at)).collect::<Vec<_>>()).unwrap();
    rig.store.sync().unwrap();
    let users = [anna(), bob(), eve()];
    let all = |rig: &Rig| {
        let users = users.iter().map(Some).chain([None]);
        users.flat_map(|user| answers(rig, user, changes)).collect::<Vec<_>>()
    };
    let rows = |rig: &Rig| {
        let view = rig.store.reader().view().unwrap();
        let commits = (1..=changes).filter(|at| view.commit_info(CommitId(*at)).unwrap().is_some());
        (view.versions(hot).unwrap().len(), commits.count())
    };
    let (before, rows_before) = (all(&rig), rows(&rig));
    while rig.store.maintain().unwrap() {}
    let rows_after = rows(&rig);
    assert!(rows_after.0 + 8 < rows_before.0, "{rows_before:?}, {rows_after:?}");
    assert!(rows_after.1 + 8 < rows_before.1, "{rows_before:?}, {rows_after:?}");
    for rig in [rig.restart()] {
        for (before, after) in before.iter().zip(all(&rig)) {
            assert_eq!(*before, after);
        }
    }
}
