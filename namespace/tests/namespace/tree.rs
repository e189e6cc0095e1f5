//! What a share answers of the living tree and of its past.

use keepshare_base::Kind;
use keepshare_namespace::{Denial, Node, Show};

use crate::rig::*;

#[test]
fn the_living_tree_is_told_as_it_is() {
    let mut rig = Rig::new();
    let sales = rig.add_dir(ROOT, "Sales", 0o755);
    let report = rig.add(sales, "report.docx", 0o644, b"one");
    rig.save(report, 0o644, b"second");
    let link = rig.file();
    rig.apply(edit().link(link, "report.docx").target(
        sales,
        "newest",
        Some((link, Kind::Symlink)),
    ));
    let who = bob();
    assert_eq!(rig.names(&who, "").unwrap(), ["@versions", "Sales"]);
    assert_eq!(rig.names(&who, "Sales").unwrap(), ["newest", "report.docx"]);
    assert_eq!(rig.read(&who, "Sales/report.docx").unwrap(), "second");
    let found = rig.find(&who, "Sales/report.docx").unwrap();
    assert_eq!(found.node, live(report));
    let told = found.attributes;
    assert_eq!((told.kind, told.mode, told.links, told.size), (Kind::File, 0o644, 1, 6));
    assert_eq!((told.uid, told.gid), (ANNA, STAFF));
    let (target, _) = rig.share.read_link(&who, live(link), rig.now).unwrap();
    assert_eq!(target, b"report.docx");
    assert_eq!(rig.node(&who, "Sales/.."), live(ROOT));
    assert_eq!(rig.node(&who, "Sales/."), live(sales));
    assert_eq!(rig.node(&who, ".."), live(ROOT));
    assert!(matches!(rig.find(&who, "Sales/none"), Err(Denial::NotFound)));
    assert!(matches!(rig.find(&who, "Sales/report.docx/x"), Err(Denial::NotFolder)));
    assert!(matches!(rig.find(&who, &"x".repeat(256)), Err(Denial::NameTooLong)));
    assert!(matches!(rig.read_node(&who, live(sales)), Err(Denial::IsFolder)));
}

/// A drive can be mounted before its set has come; nothing is open as long as nobody said so.
#[test]
fn an_empty_set_has_a_root_and_nothing_else() {
    let rig = Rig::empty();
    let told = rig.attributes(&anna(), live(ROOT)).unwrap();
    assert_eq!((told.kind, told.mode), (Kind::Dir, 0));
    assert_eq!(word(&rig.names(&anna(), "")), "no");
    assert_eq!(word(&rig.find(&anna(), "@versions")), "no");
    assert_eq!(word(&rig.attributes(&anna(), Node::Versions { folder: ROOT })), "no");
}

#[test]
fn versions_is_listed_where_the_share_says() {
    let mut rig = Rig::new();
    rig.add_dir(ROOT, "Sales", 0o755);
    for (show, root, below) in
        [(Show::Root, true, false), (Show::Never, false, false), (Show::Everywhere, true, true)]
    {
        rig.show(show);
        let lists = |path| rig.names(&bob(), path).unwrap().contains(&"@versions".to_owned());
        assert_eq!((lists(""), lists("Sales")), (root, below), "{show:?}");
        for path in ["@versions", "Sales/@versions", "Sales/@Versions"] {
            assert!(matches!(rig.node(&bob(), path), Node::Versions { .. }), "{show:?} {path}");
        }
    }
}

/// Clients keep what a folder holds for as long as its ctime stays: a name that came or went must move it.
#[test]
fn a_folders_ctime_moves_with_its_names() {
    let mut rig = Rig::new();
    let sales = rig.add_dir(ROOT, "Sales", 0o755);
    let report = rig.add(sales, "report.docx", 0o644, b"one");
    let ctime = |rig: &Rig| rig.attributes(&bob(), live(sales)).unwrap().ctime;
    let before = ctime(&rig);
    rig.save(report, 0o644, b"two");
    assert_eq!(ctime(&rig), before, "only content changed");
    rig.apply(edit().gone(sales, "report.docx"));
    let after = ctime(&rig);
    assert!(after > before);
    let rig = rig.restart();
    assert!(ctime(&rig) >= after);
}

/// A client keeps bytes for as long as ctime stays, wherever clocks and mtimes are.
#[test]
fn ctime_moves_with_every_commit_of_the_file() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "ahead", 0o644, b"0");
    let ctime = |rig: &Rig| rig.attributes(&bob(), live(file)).unwrap().ctime;
    let mut known = vec![ctime(&rig)];
    for (round, micros) in [SECOND, 1, 0, 0, SECOND].into_iter().enumerate() {
        let bytes = round.to_string();
        let mut edit = edit().whole(file, 0o644, bytes.as_bytes());
        edit.change.files[0].meta.mtime.secs = 4_000_000_000;
        rig.apply_after(micros, edit);
        let now = ctime(&rig);
        assert!(known.iter().all(|before| *before < now), "{known:?}, {now:?}");
        known.push(now);
    }
    assert!(known.iter().all(|ctime| ctime.secs < 4_000_000_000));
}

/// Programs save by renaming a new file over the old one: who is reading that reads on.
#[test]
fn a_file_that_was_replaced_is_read_to_its_end() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let old = rig.add(dir, "report", 0o644, b"the old one");
    let hidden = rig.add(dir, "hidden", 0o600, b"anna's");
    let new = rig.add(dir, "new", 0o644, b"the new one");
    rig.apply(edit().gone(dir, "new").put(dir, "report", new));
    rig.apply(edit().gone(dir, "hidden"));
    assert_eq!(rig.read_node(&bob(), live(old)).unwrap(), "the old one");
    assert_eq!(rig.read_node(&anna(), live(hidden)).unwrap(), "anna's");
    assert!(matches!(rig.read_node(&bob(), live(hidden)), Err(Denial::Stale)));
    // Whoever opens it hears that it is gone, and looks again.
    assert!(matches!(rig.attributes(&bob(), live(old)), Err(Denial::Stale)));
    assert!(matches!(rig.share.access(&bob(), live(old), rig.now), Err(Denial::Stale)));
    assert_eq!(rig.read(&bob(), "dir/report").unwrap(), "the new one");
    // Nor is there a way around a folder that was closed since.
    rig.apply(edit().dir(dir, 0o700));
    assert!(matches!(rig.read_node(&bob(), live(old)), Err(Denial::Stale)));
    rig.apply(edit().gone(dir, "report").gone(ROOT, "dir"));
    assert!(matches!(rig.read_node(&anna(), live(old)), Err(Denial::Stale)));
}

/// A folder may be listed by those who may not search it: they get names, and nothing else.
#[test]
fn names_without_search_carry_no_attributes() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "open", 0o744);
    let file = rig.add(dir, "a", 0o644, b"a");
    let entries = rig.list_by(&eve(), live(dir), 10).unwrap();
    assert_eq!(entries[0].name, b"a");
    assert_eq!(entries[0].attributes, None);
    assert_eq!(entries[0].id, rig.attributes(&anna(), live(file)).unwrap().id);
    assert_eq!(word(&rig.attributes(&eve(), live(file))), "no");
    assert_eq!(word(&rig.find(&eve(), "open/a")), "no");
}

#[test]
fn a_file_is_reached_through_any_of_its_places() {
    let mut rig = Rig::new();
    let open = rig.add_dir(ROOT, "open", 0o755);
    let shut = rig.add_dir(ROOT, "shut", 0o700);
    let file = rig.add(shut, "a", 0o644, b"a");
    assert_eq!(word(&rig.read_node(&bob(), live(file))), "no");
    rig.apply(edit().put(open, "b", file));
    assert_eq!(rig.read_node(&bob(), live(file)).unwrap(), "a");
    assert_eq!(rig.attributes(&bob(), live(file)).unwrap().links, 2);
    rig.apply(edit().gone(open, "b"));
    assert_eq!(word(&rig.read_node(&bob(), live(file))), "no");
    rig.apply(edit().gone(shut, "a"));
    assert_eq!(word(&rig.read_node(&bob(), live(file))), "stale");
}

/// What is in a folder that is gone is gone, whether or not its own names were taken away.
#[test]
fn what_hangs_in_a_dead_folder_is_stale() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let file = rig.add(dir, "a", 0o644, b"a");
    rig.apply(edit().gone(ROOT, "dir"));
    assert_eq!(word(&rig.attributes(&anna(), live(dir))), "stale");
    assert_eq!(word(&rig.attributes(&anna(), live(file))), "stale");
    assert_eq!(word(&rig.share.list(&anna(), live(dir), 0, 9, rig.now)), "stale");
}

/// Old names told with a new ctime would be kept by clients for good.
#[test]
fn names_and_ctime_are_of_one_moment_while_a_master_writes() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "busy", 0o755);
    let share = rig.share.clone();
    let reader = std::thread::spawn(move || {
        let mut told: Vec<(keepshare_base::FileTime, usize)> = vec![];
        loop {
            let before = share.attributes(&bob(), live(folder), START).unwrap().ctime;
            let names = share.list(&bob(), live(folder), 0, 500, START).unwrap().entries.len();
            told.push((before, names));
            if names == 200 {
                return told;
            }
        }
    });
    for number in 0..200 {
        rig.add(folder, &format!("n{number}"), 0o644, b"");
    }
    let told = reader.join().unwrap();
    // Names are never older than the ctime they are told with.
    for (ctime, names) in told {
        let arrived = rig.now.plus_micros(-SECOND * (200 - i64::try_from(names).unwrap()));
        assert!(ctime.to_stamp() <= arrived, "{names} names at {ctime:?}");
    }
}
