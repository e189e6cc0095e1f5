//! What a share answers of the past: versions, views of times, what is gone.

use keepshare_base::Kind;
use keepshare_namespace::{Denial, Node, Show};

use crate::rig::*;

#[test]
fn versions_are_listed_newest_first_and_read_back() {
    let mut rig = Rig::new();
    let sales = rig.add_dir(ROOT, "Sales", 0o755);
    let report = rig.add(sales, "report.docx", 0o644, b"one");
    rig.user = "CORP\\bob";
    rig.save(report, 0o644, b"second");
    let who = bob();
    let folder = "Sales/@versions/report.docx@";
    let listed = rig.names(&who, folder).unwrap();
    assert_eq!(
        listed,
        ["_history.csv", "2026-11-20_15.00.04+0100_bob.docx", "2026-11-20_15.00.03+0100_anna.docx"]
    );
    assert_eq!(rig.read(&who, &format!("{folder}/{}", listed[1])).unwrap(), "second");
    assert_eq!(rig.read(&who, &format!("{folder}/{}", listed[2])).unwrap(), "one");
    assert_eq!(
        rig.read(&who, &format!("Sales/@versions/report.docx/{}", listed[2])).unwrap(),
        "one"
    );
    for (typed, content) in [
        ("latest.docx", "second"),
        ("LATEST", "second"),
        ("2026-11-20_15.00.03", "one"),
        ("2026-11-20_15.00.03.docx", "one"),
        ("2026-11-20_15.00.03+0100.DOCX", "one"),
        ("2026-11-20", "second"),
        ("v1.1.3", "one"),
    ] {
        assert_eq!(rig.read(&who, &format!("{folder}/{typed}")).unwrap(), content, "{typed}");
    }
    for typed in ["2026-11-20_15.00.02", "2026-11-20_15.00.03.txt", "x", "2026-11-20_15.00.03+0100"]
    {
        let found = rig.find(&who, &format!("{folder}/{typed}"));
        let wanted = if typed.ends_with("+0100") { "yes" } else { "none" };
        assert_eq!(word(&found), wanted, "{typed}");
    }
    assert_eq!(rig.node(&who, &format!("{folder}/..")), Node::Versions { folder: sales });
    assert_eq!(rig.node(&who, "Sales/@versions/.."), live(sales));
}

/// Ids of versions never equal live ones, nor each other, and stay over a restart; so do names.
#[test]
fn a_version_is_itself_after_a_restart() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a.txt", 0o644, b"one");
    rig.save(file, 0o644, b"two");
    let ids = |rig: &Rig| -> Vec<_> {
        let node = rig.node(&bob(), "@versions/a.txt@");
        let list = rig.list_by(&bob(), node, 2).unwrap();
        list.into_iter().map(|entry| (entry.name, entry.node, entry.id, entry.cookie)).collect()
    };
    let before = ids(&rig);
    let node = rig.node(&bob(), "@versions/a.txt@");
    let rig = rig.restart();
    // The name is found again though nothing but the handle is known.
    assert_eq!(word(&rig.attributes(&bob(), node)), "yes");
    let page = rig.share.list(&bob(), node, before[1].3, 9, rig.now).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(ids(&rig), before);
    let live_id = rig.attributes(&bob(), live(file)).unwrap().id;
    assert!(
        before
            .iter()
            .all(|(_, _, id, cookie)| *id != live_id && *id < 1 << 63 && *cookie < 1 << 63)
    );
}

/// A name that is listed must mean one version for ever, or nothing, whatever comes in the same second.
#[test]
fn a_name_of_a_version_means_one_version_or_nothing() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a.txt", 0o644, b"0");
    let alone = rig.names(&bob(), "@versions/a.txt@").unwrap().remove(1);
    assert_eq!(alone, "2026-11-20_15.00.02+0100_anna.txt");
    let mut known: Vec<(String, String)> = vec![];
    for round in 1..5 {
        rig.apply_after(1000, edit().whole(file, 0o644, round.to_string().as_bytes()));
        let names = rig.names(&bob(), "@versions/a.txt@").unwrap();
        assert_eq!(names.len(), round + 2);
        for (name, content) in &known {
            assert_eq!(&rig.read(&bob(), &format!("@versions/a.txt@/{name}")).unwrap(), content);
        }
        assert_eq!(word(&rig.find(&bob(), &format!("@versions/a.txt@/{alone}"))), "none");
        let read = |name: &String| rig.read(&bob(), &format!("@versions/a.txt@/{name}")).unwrap();
        known = names[1..].iter().map(|name| (name.clone(), read(name))).collect();
    }
    assert_eq!(known[0].0, "2026-11-20_15.00.02.004000+0100_anna.txt");
    assert_eq!(known[4].0, "2026-11-20_15.00.02.000000+0100_anna.txt");
    assert_eq!(known[0].1, "4");
}

/// Nobody knows who saves from a master's own folder: such a name looks like a typed time, and still means one version.
#[test]
fn a_name_without_a_user_means_one_version_or_nothing() {
    let mut rig = Rig::new();
    rig.user = "";
    let file = rig.add(ROOT, "plain", 0o644, b"one");
    let alone = rig.names(&bob(), "@versions/plain@").unwrap().remove(1);
    assert_eq!(alone, "2026-11-20_15.00.02+0100");
    rig.apply_after(1000, edit().whole(file, 0o644, b"two"));
    // Two changes of one microsecond, as a clock that stands still makes them.
    rig.apply_after(0, edit().whole(file, 0o644, b"three"));
    let names = rig.names(&bob(), "@versions/plain@").unwrap();
    let second = "2026-11-20_15.00.02";
    let expected = [
        "_history.csv".to_owned(),
        format!("{second}.001000+0100-v1.1.4-1"),
        format!("{second}.001000+0100-v1.1.3-1"),
        format!("{second}.000000+0100"),
    ];
    assert_eq!(names, expected);
    let read = |name: &str| rig.read(&bob(), &format!("@versions/plain@/{name}"));
    assert_eq!(word(&read(&alone)), "none");
    assert_eq!(word(&read(&format!("{second}.001000+0100"))), "none");
    for (name, content) in names[1..].iter().zip(["three", "two", "one"]) {
        assert_eq!(read(name).unwrap(), content);
    }
    assert_eq!(read(second).unwrap(), "three", "a typed time is the state at its end");
}

/// A rename joins two histories: what a name meant in one of them it must not mean in the other.
#[test]
fn names_stay_where_histories_join() {
    let mut rig = Rig::new();
    let draft = rig.add(ROOT, "draft.txt", 0o644, b"draft");
    let report = rig.file();
    let first = edit().whole(report, 0o644, b"report").put(ROOT, "report.txt", report);
    rig.apply_after(250_000, first);
    let listed = |rig: &Rig, of: &str| -> Vec<(String, String)> {
        let names = rig.names(&bob(), &format!("@versions/{of}@")).unwrap();
        let read = |name: &String| rig.read(&bob(), &format!("@versions/{of}@/{name}")).unwrap();
        names[1..].iter().map(|name| (name.clone(), read(name))).collect()
    };
    let before = listed(&rig, "report.txt");
    rig.apply(edit().gone(ROOT, "draft.txt").put(ROOT, "report.txt", draft));
    let after = listed(&rig, "report.txt");
    assert_eq!(
        after.iter().map(|(_, content)| &content[..]).collect::<Vec<_>>(),
        ["draft", "report"]
    );
    assert_ne!(after[0].0, after[1].0);
    for (name, _) in before {
        assert_eq!(word(&rig.find(&bob(), &format!("@versions/report.txt@/{name}"))), "none");
    }
}

/// One save under a wrong clock hides nothing that comes after it, and `latest` is what is live.
#[test]
fn a_wrong_clock_of_a_master_hides_nothing() {
    for ahead in [3600, -3600, 5 * 365 * 24 * 3600] {
        let mut rig = Rig::new();
        let file = rig.add(ROOT, "f", 0o644, b"one");
        rig.ahead = ahead * SECOND;
        rig.save(file, 0o644, b"wrong");
        rig.ahead = 0;
        rig.save(file, 0o644, b"right");
        rig.save(file, 0o644, b"newest");
        for (typed, content) in [
            ("latest", "newest"),
            ("now", "newest"),
            ("1s", "right"),
            ("2s", "wrong"),
            ("3s", "one"),
            ("2026-11-20_15.00.02", "one"),
            ("2026-11-20_15.00.03", "wrong"),
            ("2026-11-20_15.00.04", "right"),
            ("2026-11-20", "newest"),
        ] {
            let read = |path: String| rig.read(&bob(), &path).unwrap();
            assert_eq!(read(format!("@versions/{typed}/f")), content, "{typed}, {ahead} s ahead");
            assert_eq!(read(format!("@versions/f@/{typed}")), content, "{typed}, {ahead} s ahead");
        }
    }
}

/// A view that is open stays what it was when changes of its time arrive late.
#[test]
fn an_open_view_never_changes() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", 0o644, b"one");
    rig.save(file, 0o644, b"two");
    let before = rig.now;
    let view = rig.node(&bob(), "@versions/2026-11-20_15.00.30");
    let latest = rig.node(&bob(), "@versions/latest");
    rig.now = rig.now.plus_micros(3600 * SECOND);
    let late = edit().whole(file, 0o644, b"late");
    rig.apply_stamped(before.plus_micros(SECOND), late);
    for open in [view, latest] {
        let open = rig.find_from(&bob(), open, "f").unwrap().node;
        assert_eq!(rig.read_node(&bob(), open).unwrap(), "two");
    }
    assert_eq!(rig.read(&bob(), "@versions/2026-11-20_15.00.30/f").unwrap(), "late");
    let rig = rig.restart();
    let open = rig.find_from(&bob(), view, "f").unwrap().node;
    assert_eq!(rig.read_node(&bob(), open).unwrap(), "two");
}

/// A mirror goes on for hours: what was opened while it went stays as it was, whatever parts of it come later, and what was
/// opened once it is done is all of it.
#[test]
fn a_view_that_was_opened_during_a_mirror_never_changes() {
    for typed in ["latest", "now", "2027"] {
        let mut rig = Rig::new();
        rig.add(ROOT, "before", 0o644, b"b");
        let (one, two, three) = (rig.file(), rig.file(), rig.file());
        let path = format!("@versions/{typed}");
        let mut open = vec![(rig.node(&bob(), &path), vec!["before"])];
        rig.apply_part(edit().whole(one, 0o644, b"1").put(ROOT, "one", one));
        open.push((rig.node(&bob(), &path), vec!["before", "one"]));
        rig.apply_part(edit().whole(two, 0o644, b"2").put(ROOT, "two", two));
        open.push((rig.node(&bob(), &path), vec!["before", "one", "two"]));
        rig.apply(edit().whole(three, 0o644, b"3").put(ROOT, "three", three));
        open.push((rig.node(&bob(), &path), vec!["before", "one", "three", "two"]));
        rig.save(one, 0o644, b"another");
        let rig = rig.restart();
        for (part, (view, names)) in open.iter().enumerate() {
            assert_eq!(rig.names_in(&bob(), *view).unwrap(), *names, "{typed}, part {part}");
            if names.contains(&"one") {
                let one = rig.find_from(&bob(), *view, "one").unwrap().node;
                assert_eq!(rig.read_node(&bob(), one).unwrap(), "1", "{typed}, part {part}");
            }
        }
        let views: std::collections::HashSet<_> = open.iter().map(|(view, _)| *view).collect();
        assert_eq!(views.len(), open.len(), "each is another");
    }
}

#[test]
fn expired_versions_are_not_listed_and_names_stay() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a.txt", 0o644, b"0");
    let middle = rig.apply_after(1000, edit().whole(file, 0o644, b"1"));
    rig.apply_after(1000, edit().whole(file, 0o644, b"2"));
    let before = rig.names(&bob(), "@versions/a.txt@").unwrap();
    let node = rig.node(&bob(), &format!("@versions/a.txt@/{}", before[2]));
    rig.store.expire(&[(file, middle)]).unwrap();
    rig.store.sync().unwrap();
    let after = rig.names(&bob(), "@versions/a.txt@").unwrap();
    assert_eq!(after, [&before[0][..], &before[1], &before[3]]);
    assert_eq!(word(&rig.find(&bob(), &format!("@versions/a.txt@/{}", before[2]))), "none");
    assert_eq!(word(&rig.attributes(&bob(), node)), "stale");
}

#[test]
fn a_time_view_shows_the_folder_as_it_was() {
    let mut rig = Rig::new();
    let sales = rig.add_dir(ROOT, "Sales", 0o755);
    let report = rig.add(sales, "report.docx", 0o644, b"one");
    let sub = rig.add_dir(sales, "sub", 0o755);
    rig.add(sub, "deep", 0o644, b"deep");
    let link = rig.file();
    rig.apply(edit().link(link, "x").target(sub, "link", Some((link, Kind::Symlink))));
    let then = "2026-11-20_15.00.06";
    rig.save(report, 0o644, b"two");
    rig.apply(edit().gone(sales, "report.docx").put(sales, "renamed.docx", report));
    rig.apply(edit().gone(sub, "deep").gone(sub, "link").gone(sales, "sub"));
    let who = bob();
    let view = format!("Sales/@versions/{then}");
    assert_eq!(rig.names(&who, &view).unwrap(), ["report.docx", "sub"]);
    assert_eq!(rig.names(&who, &format!("{view}/sub")).unwrap(), ["deep", "link"]);
    assert_eq!(rig.read(&who, &format!("{view}/report.docx")).unwrap(), "one");
    assert_eq!(rig.read(&who, &format!("{view}/sub/deep")).unwrap(), "deep");
    let link = rig.node(&who, &format!("{view}/sub/link"));
    assert_eq!(rig.share.read_link(&who, link, rig.now).unwrap().0, b"x");
    assert_eq!(word(&rig.find(&who, &format!("{view}/@versions"))), "none");
    assert_eq!(rig.node(&who, &format!("{view}/sub/..")), rig.node(&who, &view));
    assert_eq!(rig.node(&who, &format!("{view}/..")), Node::Versions { folder: sales });
    assert_eq!(
        rig.names(&who, &format!("@versions/{then}/Sales")).unwrap(),
        ["report.docx", "sub"]
    );
    assert_eq!(rig.names(&who, "Sales/@versions/latest").unwrap(), ["renamed.docx"]);
    assert_eq!(rig.names(&who, "Sales/@versions/LATEST").unwrap(), ["renamed.docx"]);
    let seconds_ago = format!("Sales/@versions/{}s", 3);
    assert_eq!(rig.names(&who, &seconds_ago).unwrap(), ["report.docx", "sub"]);
    for typed in ["2026-11-20_14.59", "2020-01-01", "nonsense"] {
        assert_eq!(word(&rig.find(&who, &format!("Sales/@versions/{typed}"))), "none", "{typed}");
    }
}

/// The folder that has a name today may be another one than had it then.
#[test]
fn a_younger_folder_shows_what_its_name_was() {
    let mut rig = Rig::new();
    let old = rig.add_dir(ROOT, "Sales", 0o755);
    let file = rig.add(old, "a", 0o644, b"old");
    rig.apply(edit().gone(old, "a").gone(ROOT, "Sales"));
    let new = rig.add_dir(ROOT, "Sales", 0o755);
    let sub = rig.add_dir(new, "sub", 0o755);
    let _ = (file, sub);
    let then = "2026-11-20_15.00.03";
    assert_eq!(rig.read(&bob(), &format!("Sales/@versions/{then}/a")).unwrap(), "old");
    assert_eq!(word(&rig.find(&bob(), &format!("Sales/sub/@versions/{then}"))), "none");
}

/// Who makes a folder again, to get back what was in it, finds it there.
#[test]
fn a_folder_that_is_made_again_has_the_past_of_the_one_before() {
    let mut rig = Rig::new();
    let old = rig.add_dir(ROOT, "Sales", 0o755);
    let file = rig.add(old, "a.txt", 0o644, b"one");
    rig.save(file, 0o644, b"two");
    rig.add(old, "b.txt", 0o600, b"own");
    rig.apply(edit().gone(old, "a.txt").gone(old, "b.txt").gone(ROOT, "Sales"));
    let new = rig.add_dir(ROOT, "Sales", 0o755);
    let deleted = "Sales/@versions/_deleted";
    assert_eq!(rig.names(&bob(), deleted).unwrap(), ["a.txt@"]);
    assert_eq!(rig.names(&anna(), deleted).unwrap(), ["a.txt@", "b.txt@"]);
    let names = rig.names(&bob(), &format!("{deleted}/a.txt@")).unwrap();
    assert_eq!(names.len(), 3);
    assert_eq!(rig.read(&bob(), &format!("{deleted}/a.txt@/{}", names[2])).unwrap(), "one");
    let node = rig.node(&bob(), &format!("{deleted}/a.txt@"));
    rig.add(new, "a.txt", 0o644, b"three");
    let mut rig = rig.restart();
    let names = rig.names_in(&bob(), node).unwrap();
    assert_eq!(names.len(), 4);
    let read = |name: &str| rig.read(&bob(), &format!("Sales/@versions/a.txt@/{name}")).unwrap();
    assert_eq!((read(&names[1]), read(&names[3])), ("three".to_owned(), "one".to_owned()));
    assert_eq!(
        rig.names(&bob(), "Sales/@versions").unwrap(),
        ["_README.txt", "_deleted", "a.txt@"]
    );
    // What a folder brought here was here; what it held elsewhere alone has nothing to do with this path.
    let other = rig.add_dir(ROOT, "Other", 0o755);
    rig.add(other, "c.txt", 0o644, b"brought");
    rig.add(other, "d.txt", 0o644, b"elsewhere");
    rig.apply(edit().gone(other, "d.txt"));
    rig.apply(edit().gone(ROOT, "Other").put_dir(ROOT, "Sales", other));
    rig.apply(edit().gone(ROOT, "Sales"));
    rig.add_dir(ROOT, "Sales", 0o755);
    let names = rig.names(&bob(), deleted).unwrap();
    assert_eq!(names, ["a.txt@", "c.txt@"]);
}

#[test]
fn what_is_gone_is_in_deleted() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "budget.xlsx", 0o644, b"money");
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    rig.add(dir, "inside", 0o644, b"in");
    rig.add(ROOT, "stays", 0o644, b"s");
    rig.user = "bob";
    rig.apply(edit().gone(ROOT, "budget.xlsx"));
    rig.apply(edit().gone(dir, "inside").gone(ROOT, "dir"));
    let who = bob();
    assert_eq!(rig.names(&who, "@versions/_deleted").unwrap(), ["budget.xlsx@", "dir@"]);
    assert_eq!(
        rig.names(&who, "@versions").unwrap(),
        ["_README.txt", "_deleted", "_points", "stays@"]
    );
    let names = rig.names(&who, "@versions/_deleted/budget.xlsx@").unwrap();
    assert_eq!(names, ["_history.csv", "2026-11-20_15.00.02+0100_anna.xlsx"]);
    assert_eq!(
        rig.read(&who, &format!("@versions/_deleted/budget.xlsx@/{}", names[1])).unwrap(),
        "money"
    );
    assert_eq!(word(&rig.find(&who, "@versions/budget.xlsx@/latest")), "yes");
    assert_eq!(word(&rig.find(&who, "@versions/_deleted/stays@")), "none");
    let table = rig.read(&who, "@versions/_deleted/budget.xlsx@/_history.csv").unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "when,who,size,hash,event,name,until,ended,current");
    assert_eq!(lines[1], "2026-11-20T15:00:06.000000+01:00,bob,,,deleted,budget.xlsx,,,");
    assert!(lines[2].starts_with("2026-11-20T15:00:02.000000+01:00,anna,5,"));
    assert!(lines[2].ends_with(",saved,budget.xlsx,2026-11-20T15:00:06.000000+01:00,deleted,"));
    let gone = rig.names(&who, "@versions/_deleted/dir@").unwrap();
    assert_eq!(gone, ["_history.csv", "2026-11-20_15.00.07+0100_bob"]);
    let inside = format!("@versions/_deleted/dir@/{}/inside", gone[1]);
    assert_eq!(rig.read(&who, &inside).unwrap(), "in");
    assert_eq!(rig.node(&who, "@versions/_deleted/dir@/.."), Node::Deleted { folder: ROOT });
    let _ = file;
}

#[test]
fn points_are_named_moments() {
    let mut rig = Rig::new();
    let sub = rig.add_dir(ROOT, "sub", 0o755);
    let file = rig.add(sub, "a", 0o644, b"one");
    rig.apply(edit().point("release 7/x"));
    rig.save(file, 0o644, b"two");
    rig.apply(edit().point("release 7/x"));
    rig.save(file, 0o644, b"three");
    let who = bob();
    // Of two with one name none has it alone, and what was listed never comes to mean the other.
    let names = ["release-7-x_v1.1.4", "release-7-x_v1.1.6"];
    assert_eq!(rig.names(&who, "@versions/_points").unwrap(), names);
    assert_eq!(rig.read(&who, &format!("@versions/_points/{}/sub/a", names[0])).unwrap(), "one");
    assert_eq!(rig.read(&who, &format!("sub/@versions/{}/a", names[1])).unwrap(), "two");
    assert_eq!(word(&rig.find(&who, "@versions/_points/release-7-x")), "none");
    assert_eq!(word(&rig.find(&who, "sub/@versions/_points")), "none");
}

/// Scripts make points without end: the newest ones are shown, and none of them takes the name of one before.
#[test]
fn a_point_never_takes_the_name_of_one_that_is_too_old_to_be_shown() {
    const SHOWN: usize = 1024;
    let mut rig = Rig::new();
    rig.apply(edit().point("release"));
    let old = format!("release_v{}", rig.position());
    let who = bob();
    assert_eq!(rig.names(&who, "@versions/_points").unwrap(), ["release"]);
    for n in 1..SHOWN {
        rig.commit_after(SECOND, edit().point(&format!("nightly {n}")));
        if n % 100 == 0 {
            rig.store.sync().unwrap();
        }
    }
    rig.apply(edit().point("release"));
    let points = rig.list_by(&who, rig.node(&who, "@versions/_points"), 2 * SHOWN).unwrap();
    let names: Vec<_> =
        points.into_iter().map(|point| String::from_utf8(point.name).unwrap()).collect();
    assert_eq!(names.len(), SHOWN);
    assert_eq!(names[0], "nightly-1");
    assert!(names[SHOWN - 1].starts_with("release_v"), "{}", names[SHOWN - 1]);
    for gone in ["release", &old] {
        assert_eq!(word(&rig.find(&who, &format!("@versions/_points/{gone}"))), "none", "{gone}");
    }
    for name in [&names[0], &names[SHOWN - 1]] {
        assert!(rig.find(&who, &format!("@versions/_points/{name}")).is_ok(), "{name}");
        assert!(rig.find(&who, &format!("@versions/{name}")).is_ok(), "{name}");
    }
}

/// A file may be called like a time: the `@` says which is meant.
#[test]
fn names_that_look_like_times_are_meant_with_the_suffix() {
    let mut rig = Rig::new();
    rig.add(ROOT, "2026-11-20", 0o644, b"file");
    rig.add(ROOT, "_deleted", 0o644, b"own");
    rig.add(ROOT, "a@", 0o644, b"at");
    rig.add(ROOT, "@versions~", 0o644, b"tilde");
    let who = bob();
    assert!(matches!(rig.node(&who, "@versions/2026-11-20"), Node::Past { .. }));
    assert_eq!(rig.read(&who, "@versions/2026-11-20@/latest").unwrap(), "file");
    assert_eq!(rig.read(&who, "@versions/_deleted@/latest").unwrap(), "own");
    assert_eq!(rig.read(&who, "@versions/a@@/latest").unwrap(), "at");
    assert_eq!(rig.read(&who, "@versions/a@/latest").unwrap(), "at");
    assert_eq!(rig.read(&who, "@versions~").unwrap(), "tilde");
    assert!(rig.names(&who, "").unwrap().contains(&"@versions~".to_owned()));
}

/// Clients must not keep what `latest` or `2h` meant a minute ago.
#[test]
fn folders_of_versions_have_a_fresh_ctime() {
    let mut rig = Rig::new();
    rig.add(ROOT, "a", 0o644, b"a");
    let node = rig.node(&bob(), "@versions");
    let at = |micros| rig.share.attributes(&bob(), node, rig.now.plus_micros(micros)).unwrap();
    let (first, later) = (at(0), at(90 * SECOND));
    assert_eq!(first.mtime, later.mtime);
    assert_eq!(first.mtime, first.ctime);
    assert!(later.ctime > first.ctime);
    assert_eq!(later.ctime.secs % 60, 0);
}

/// A history as it was before this one's file, name or folders changed must not be told.
#[test]
fn a_history_is_told_as_it_is_after_every_change() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let other = rig.add(ROOT, "other", 0o644, b"0");
    let (first, second) = (rig.file(), rig.file());
    let names = |rig: &Rig| rig.names(&bob(), "dir/@versions/a@").unwrap();
    rig.apply(edit().put(dir, "a", first).whole(first, 0o644, b"1"));
    let mut longest = names(&rig).len();
    for edit in [
        edit().whole(first, 0o644, b"2"),
        edit().mode(first, 0o640, 1),
        edit().put(dir, "b", second).whole(second, 0o644, b"3"),
        edit().put(dir, "a", second),
        edit().put(dir, "c", first).put(dir, "a", first),
        edit().whole(second, 0o644, b"elsewhere"),
        edit().whole(first, 0o644, b"4"),
        edit().gone(dir, "a"),
        edit().put(dir, "a", second),
        edit().gone(ROOT, "dir").put_dir(ROOT, "moved", dir),
        edit().gone(ROOT, "moved").put_dir(ROOT, "dir", dir),
    ] {
        rig.apply(edit);
        rig.save(other, 0o644, b"another");
        let Ok(told) = rig.names(&bob(), "dir/@versions/a@") else { continue };
        // A share that knows nothing yet says the same.
        rig.show(Show::Root);
        assert_eq!(told, names(&rig));
        rig.save(other, 0o644, b"yet another");
        assert_eq!(names(&rig), told);
        longest = longest.max(told.len());
    }
    assert!(longest >= 7, "{longest}");
}

/// `2s` means another moment a second later: no client may go on with what it meant.
#[test]
fn a_short_time_that_was_typed_is_not_kept() {
    let mut rig = Rig::new();
    rig.add(ROOT, "a", 0o644, b"a");
    rig.now = rig.now.plus_micros(90 * SECOND);
    for folder in ["@versions", "@versions/a@"] {
        let node = rig.node(&bob(), folder);
        let ctime = |rig: &Rig| rig.attributes(&bob(), node).unwrap().ctime;
        for typed in ["2s", "1m5s"] {
            let known = ctime(&rig);
            rig.now = rig.now.plus_micros(SECOND);
            assert_eq!(ctime(&rig), known, "nothing was typed since");
            rig.share.lookup(&bob(), node, typed.as_bytes(), rig.now).unwrap();
            assert!(ctime(&rig) > known);
        }
        let known = ctime(&rig);
        rig.now = rig.now.plus_micros(SECOND);
        rig.share.lookup(&bob(), node, b"2h", rig.now).unwrap_err();
        assert_eq!(ctime(&rig), known, "hours may be a minute old");
    }
}

#[test]
fn a_rename_carries_the_history_along() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "draft.odt", 0o644, b"one");
    rig.apply(edit().gone(ROOT, "draft.odt").put(ROOT, "report.docx", file));
    rig.save(file, 0o644, b"two");
    let names = rig.names(&bob(), "@versions/report.docx@").unwrap();
    assert_eq!(names.len(), 3);
    assert!(names[1].ends_with("_anna.docx") && names[2].ends_with("_anna.docx"), "{names:?}");
    assert_eq!(rig.names(&bob(), "@versions/_deleted").unwrap(), ["draft.odt@"]);
}

#[test]
fn what_version_folders_hold_is_read_and_nothing_else() {
    let mut rig = Rig::new();
    rig.add(ROOT, "a", 0o644, b"a");
    let who = bob();
    let text = rig.read(&who, "@versions/_README.txt").unwrap();
    assert!(text.contains("_deleted"));
    assert!(text.bytes().all(|byte| byte.is_ascii()));
    for path in ["@versions", "@versions/_deleted", "@versions/_points", "@versions/a@"] {
        assert_eq!(word(&rig.read(&who, path)), "a folder", "{path}");
    }
    let node = rig.node(&who, "@versions/a@/_history.csv");
    assert_eq!(word(&rig.share.list(&who, node, 0, 9, rig.now)), "not a folder");
    assert_eq!(word(&rig.share.lookup(&who, node, b"x", rig.now)), "not a folder");
    let table = rig.read_node(&who, node).unwrap();
    let (bytes, _) = rig.share.read(&who, node, 5, 3, rig.now).unwrap();
    assert_eq!(bytes, &table.as_bytes()[5..8]);
    assert!(rig.share.read(&who, node, u64::MAX, 3, rig.now).unwrap().0.is_empty());
}

/// Blocks of which small parts were read stay in memory: never for another state of the file, nor for whoever may not
/// read it any more.
#[test]
fn small_reads_tell_the_state_that_was_asked_for() {
    let bytes = |seed: u8| -> Vec<u8> {
        (0..150_000_u32).map(|at| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect()
    };
    let (old, new) = (bytes(1), bytes(2));
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "big.bin", 0o644, &old);
    let check = |rig: &Rig, node: Node, content: &[u8]| {
        for offset in [0, 1, 4096, 65_000, 65_535, 65_536, 131_072, 149_999, 150_000, 1 << 40] {
            for len in [0, 1, 537, 4096, 32 * 1024, 40_000, 150_000] {
                let start = usize::try_from(offset).unwrap().min(content.len());
                let wanted = &content[start..(start + len).min(content.len())];
                // The second time, from memory.
                for _ in 0..2 {
                    let (read, _) = rig.share.read(&bob(), node, offset, len, rig.now).unwrap();
                    assert!(read == wanted, "{len} bytes from {offset}");
                }
            }
        }
    };
    let first = rig.node(&bob(), "@versions/big.bin@/latest");
    check(&rig, live(file), &old);
    check(&rig, first, &old);
    rig.save(file, 0o644, &new);
    check(&rig, live(file), &new);
    check(&rig, first, &old);
    let mut out = b"before".to_vec();
    rig.share.read_into(&bob(), live(file), 70_000, 10, rig.now, &mut out).unwrap();
    assert_eq!(out, [b"before", &new[70_000..70_010]].concat());
    rig.save(file, 0o600, &new);
    let denied = rig.share.read_into(&bob(), live(file), 70_000, 10, rig.now, &mut out);
    assert!(matches!(denied, Err(Denial::NotAllowed)));
    assert_eq!(out.len(), 16, "something was given to whoever may not read");
}

/// What a file was called in a folder that has another name now is not counted against what it was here.
#[test]
fn the_past_of_a_folder_that_was_made_again_is_whole() {
    let mut rig = Rig::new();
    let old = rig.add_dir(ROOT, "a", 0o755);
    let file = rig.add(old, "f", 0o644, b"one");
    rig.save(file, 0o644, b"two");
    rig.save(file, 0o644, b"three");
    rig.apply(edit().gone(ROOT, "a").put_dir(ROOT, "b", old));
    for text in [b"four", b"five", b"six ", b"7777"] {
        rig.save(file, 0o644, text);
    }
    let new = rig.add_dir(ROOT, "a", 0o755);
    rig.add(new, "f", 0o644, b"again");
    let mut names = rig.names(&bob(), "a/@versions/f@").unwrap();
    names.retain(|name| name != "_history.csv");
    assert_eq!(names.len(), 4, "{names:?}");
    let read = |name: &String| rig.read(&bob(), &format!("a/@versions/f@/{name}")).unwrap();
    assert_eq!(names.iter().map(read).collect::<Vec<_>>(), ["again", "three", "two", "one"]);
}
