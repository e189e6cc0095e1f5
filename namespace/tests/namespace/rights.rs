//! Who may see what, now and in the past.
//!
//! Each story is asked about by three users, with the very nodes that the owner got: a handle in the wrong hands must
//! not tell more than its names do. Anna owns everything, Bob is in her group, Eve is nobody.

use keepshare_auth::Principal;
use keepshare_base::{
    Content, Event, Kind, Meta, RequestId, RestoreOutcome, RestoreRow, VersionId,
};
use keepshare_namespace::{Denial, Node};

use crate::rig::*;

/// What is asked about: an entry of a folder, and the history it belongs to.
struct Probe {
    folder: Node,
    name: String,
    node: Node,
    history: Node,
}

/// Asks everything, and writes the answers down.
fn answers(rig: &Rig, who: &Principal, probe: &Probe) -> String {
    let Probe { folder, name, node, history } = probe;
    let share = &rig.share;
    let attributes = word(&share.attributes(who, *node, rig.now)).to_owned();
    let lookup = share.lookup(who, *folder, name.as_bytes(), rig.now);
    if let Ok(found) = &lookup {
        assert_eq!(found.node, *node);
    }
    let list = match rig.list_by(who, *folder, 2) {
        Ok(entries) => entries.len().to_string(),
        denied => word(&denied).to_owned(),
    };
    let read = match share.read(who, *node, 0, 99, rig.now) {
        Ok((bytes, _)) => String::from_utf8(bytes).unwrap(),
        denied => word(&denied).to_owned(),
    };
    let link = match share.read_link(who, *node, rig.now) {
        Ok((bytes, _)) => String::from_utf8(bytes).unwrap(),
        denied => word(&denied).to_owned(),
    };
    let access = match share.access(who, *node, rig.now) {
        Ok(access) => {
            let bits = [
                (access.read, 'r'),
                (access.search, 's'),
                (access.execute, 'x'),
                (access.restore, 'w'),
            ];
            bits.iter().map(|(set, letter)| if *set { *letter } else { '-' }).collect()
        }
        denied => word(&denied).to_owned(),
    };
    let table = match history {
        Node::History { folder, name } => {
            let node = Node::HistoryTable { folder: *folder, name: *name };
            match rig.read_node(who, node) {
                Ok(text) => (text.lines().count() - 1).to_string(),
                denied => word(&denied).to_owned(),
            }
        }
        other => panic!("{other:?} is no history"),
    };
    format!(
        "attributes {attributes}, lookup {}, list {list}, read {read}, link {link}, access {access}, csv {table}",
        word(&lookup)
    )
}

#[track_caller]
fn check(rig: &Rig, story: &str, probe: &Probe, [for_anna, for_bob, for_eve]: [&str; 3]) {
    for (who, wanted) in [(anna(), for_anna), (bob(), for_bob), (eve(), for_eve)] {
        assert_eq!(answers(rig, &who, probe), wanted, "{story}, for {}", who.user);
    }
}

const NOTHING: &str = "attributes no, lookup no, list no, read no, link no, access no, csv no";

/// The history can be seen, this version of it cannot.
fn but_not_this(list: usize, lines: usize) -> String {
    format!("attributes no, lookup none, list {list}, read no, link no, access no, csv {lines}")
}

fn version(content: &str, list: usize, access: &str, lines: usize) -> String {
    format!(
        "attributes yes, lookup yes, list {list}, read {content}, link wrong kind, access {access}, csv {lines}"
    )
}

/// Returns probes of the versions of a name, newest first, as Anna sees them.
fn versions(rig: &Rig, path: &str) -> Vec<Probe> {
    let history = rig.node(&anna(), path);
    let entries = rig.list_by(&anna(), history, 9).unwrap();
    let probe = |entry: keepshare_namespace::Listed| Probe {
        folder: history,
        name: String::from_utf8(entry.name).unwrap(),
        node: entry.node,
        history,
    };
    entries.into_iter().skip(1).map(probe).collect()
}

#[test]
fn a_private_file() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "secret", 0o600, b"plan");
    let history = rig.node(&anna(), "@versions/secret@");
    let present = Probe { folder: live(ROOT), name: "secret".into(), node: live(file), history };
    let told = "attributes yes, lookup yes, list 2, read no, link no, access ----, csv no";
    let own = "attributes yes, lookup yes, list 2, read plan, link wrong kind, access r--w, csv 1";
    check(&rig, "live", &present, [own, told, told]);
    let [newest] = &versions(&rig, "@versions/secret@")[..] else { panic!() };
    check(&rig, "its version", newest, [&version("plan", 2, "r--w", 1), NOTHING, NOTHING]);
    let in_view = view(&rig, "@versions/2026-11-20", "secret", history);
    let own = "attributes yes, lookup yes, list 1, read plan, link wrong kind, access r--w, csv 1";
    let hidden = "attributes no, lookup none, list 0, read no, link no, access no, csv no";
    check(&rig, "in a view of a time", &in_view, [own, hidden, hidden]);
    for (who, there) in [(anna(), true), (bob(), false), (eve(), false)] {
        let names = rig.names(&who, "@versions").unwrap();
        assert_eq!(names.contains(&"secret@".to_owned()), there);
        assert_eq!(rig.find(&who, "@versions/secret@").is_ok(), there);
    }
}

/// What everybody could read yesterday is closed today: so is yesterday.
#[test]
fn an_open_file_that_was_closed() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "plan", 0o644, b"one");
    rig.save(file, 0o644, b"two");
    rig.apply(edit().mode(file, 0o640, 3));
    let probes = versions(&rig, "@versions/plan@");
    assert_eq!(probes.len(), 3);
    for (probe, content) in probes.iter().zip(["two", "two", "one"]) {
        let anna = version(content, 4, "r--w", 3);
        let bob = version(content, 4, "r---", 3);
        check(&rig, "for the group", probe, [&anna, &bob, NOTHING]);
    }
    rig.apply(edit().mode(file, 0o600, 3));
    let probes = versions(&rig, "@versions/plan@");
    for (probe, content) in probes.iter().zip(["two", "two", "two", "one"]) {
        let anna = version(content, 5, "r--w", 4);
        check(&rig, "for nobody", probe, [&anna, NOTHING, NOTHING]);
    }
}

/// What was written while a file was closed stays closed.
#[test]
fn a_closed_file_that_was_opened() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "plan", 0o600, b"draft");
    rig.save(file, 0o640, b"group");
    rig.save(file, 0o644, b"all");
    let [all, group, draft] = &versions(&rig, "@versions/plan@")[..] else { panic!() };
    let anna = |content| version(content, 4, "r--w", 3);
    let bob = |content| version(content, 3, "r---", 2);
    let eve = |content| version(content, 2, "r---", 1);
    check(&rig, "all", all, [&anna("all"), &bob("all"), &eve("all")]);
    check(&rig, "group", group, [&anna("group"), &bob("group"), &but_not_this(2, 1)]);
    check(&rig, "draft", draft, [&anna("draft"), &but_not_this(3, 2), &but_not_this(2, 1)]);
}

/// Removing a file must not undo the chmod before it.
#[test]
fn a_file_removed_after_it_was_closed() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "plan", 0o644, b"one");
    rig.apply(edit().mode(file, 0o600, 3));
    rig.apply(edit().gone(ROOT, "plan"));
    let probes = versions(&rig, "@versions/_deleted/plan@");
    assert_eq!(probes.len(), 2);
    for probe in &probes {
        let anna = version("one", 3, "r--w", 3);
        check(&rig, "closed, then removed", probe, [&anna, NOTHING, NOTHING]);
    }
    assert!(rig.names(&bob(), "@versions/_deleted").unwrap().is_empty());

    let mut rig = Rig::new();
    rig.add(ROOT, "plan", 0o644, b"one");
    rig.apply(edit().gone(ROOT, "plan"));
    let [newest] = &versions(&rig, "@versions/_deleted/plan@")[..] else { panic!() };
    let anna = version("one", 2, "r--w", 2);
    let others = version("one", 2, "r---", 2);
    check(&rig, "removed while open", newest, [&anna, &others, &others]);
}

/// A folder that is gone still keeps out whom it kept out last.
#[test]
fn a_private_folder_that_is_gone() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let sub = rig.add_dir(dir, "sub", 0o755);
    rig.add(sub, "a", 0o644, b"a");
    rig.apply(edit().dir(dir, 0o750));
    rig.apply(edit().gone(ROOT, "dir"));
    let history = rig.node(&anna(), "@versions/_deleted/dir@");
    let names = rig.names_in(&anna(), history).unwrap();
    let path = format!("@versions/_deleted/dir@/{}/sub", names[1]);
    let probe = view(&rig, &path, "a", history);
    let told = |access: &str| {
        format!(
            "attributes yes, lookup yes, list 1, read a, link wrong kind, access {access}, csv 1"
        )
    };
    let shut = "attributes no, lookup no, list no, read no, link no, access no, csv no";
    check(&rig, "as it was before it went", &probe, [&told("r--w"), &told("r---"), shut]);
    // Before the chmod Eve could read it; her last rights are what counts.
    let path = "@versions/2026-11-20_15.00.04/dir/sub";
    let probe = view(&rig, path, "a", history);
    check(&rig, "as it was before the chmod", &probe, [&told("r--w"), &told("r---"), shut]);
    assert_eq!(rig.names(&bob(), "@versions/_deleted").unwrap(), ["dir@"]);
    assert!(rig.names(&eve(), "@versions/_deleted").unwrap().is_empty());
}

/// One file, two places: each way in takes its own folders, and what was written before the open place was there stays
/// closed.
#[test]
fn a_hard_link_into_an_open_folder() {
    let mut rig = Rig::new();
    let open = rig.add_dir(ROOT, "open", 0o755);
    let shut = rig.add_dir(ROOT, "shut", 0o750);
    let file = rig.add(shut, "a", 0o644, b"one");
    rig.apply(edit().put(open, "b", file));
    rig.save(file, 0o644, b"two");
    let [two, one] = &versions(&rig, "open/@versions/b@")[..] else { panic!() };
    let anna = |content| version(content, 3, "r--w", 2);
    let bob = |content| version(content, 3, "r---", 2);
    check(
        &rig,
        "through the open one",
        two,
        [&anna("two"), &bob("two"), &version("two", 2, "r---", 1)],
    );
    check(&rig, "before the link", one, [&anna("one"), &bob("one"), &but_not_this(2, 1)]);
    let [two, one] = &versions(&rig, "shut/@versions/a@")[..] else { panic!() };
    check(&rig, "through the private one", two, [&anna("two"), &bob("two"), NOTHING]);
    check(&rig, "its older version", one, [&anna("one"), &bob("one"), NOTHING]);
    // The living file is reached through any place; that of its past through its own.
    assert_eq!(rig.read_node(&eve(), live(file)).unwrap(), "two");
    rig.apply(edit().gone(open, "b"));
    assert_eq!(word(&rig.read_node(&eve(), live(file))), "no");
    let [two, _] = &versions(&rig, "open/@versions/_deleted/b@")[..] else { panic!() };
    let anna = version("two", 3, "r--w", 3);
    let bob = version("two", 3, "r---", 3);
    check(&rig, "the open place is gone", two, [&anna, &bob, NOTHING]);
}

/// The past is reached through a folder: that another place of the file is open does not open this one, now nor then.
#[test]
fn the_folder_of_a_node_lets_through_now_and_then() {
    let mut rig = Rig::new();
    let open = rig.add_dir(ROOT, "open", 0o755);
    let door = rig.add_dir(ROOT, "door", 0o700);
    let file = rig.add(open, "a", 0o644, b"one");
    rig.apply(edit().put(door, "b", file));
    rig.save(file, 0o644, b"two");
    let shut = rig.position();
    let [version, _] = &versions(&rig, "open/@versions/a@")[..] else { panic!() };
    let through = |folder| {
        let Node::Version { file, position, .. } = version.node else { panic!() };
        let moment = keepshare_namespace::PastMoment::After(shut);
        [Node::Version { folder, file, position }, Node::Past { folder, file, moment }]
    };
    let words = |rig: &Rig, folder| through(folder).map(|node| word(&rig.read_node(&eve(), node)));
    assert_eq!(words(&rig, open), ["yes", "yes"]);
    assert_eq!(words(&rig, door), ["no", "no"], "closed now");
    rig.apply(edit().dir(door, 0o755));
    assert_eq!(words(&rig, door), ["no", "no"], "closed then");
    rig.save(file, 0o644, b"three");
    assert_eq!(rig.read(&eve(), "door/@versions/b@/latest").unwrap(), "three");
    rig.apply(edit().gone(ROOT, "door"));
    assert_eq!(words(&rig, door), ["stale", "stale"], "gone");
}

#[test]
fn a_file_moved_out_of_a_private_folder() {
    let mut rig = Rig::new();
    let open = rig.add_dir(ROOT, "open", 0o755);
    let shut = rig.add_dir(ROOT, "shut", 0o700);
    let file = rig.add(shut, "a", 0o644, b"one");
    rig.apply(edit().gone(shut, "a").put(open, "a", file));
    rig.save(file, 0o644, b"two");
    let [two, one] = &versions(&rig, "open/@versions/a@")[..] else { panic!() };
    let anna = |content| version(content, 3, "r--w", 2);
    let seen = version("two", 2, "r---", 1);
    check(&rig, "after the move", two, [&anna("two"), &seen, &seen]);
    let hidden = but_not_this(2, 1);
    check(&rig, "before the move", one, [&anna("one"), &hidden, &hidden]);
    // And into it: what was open once is closed now.
    rig.apply(edit().gone(open, "a").put(shut, "a", file));
    let [two, _] = &versions(&rig, "open/@versions/_deleted/a@")[..] else { panic!() };
    let anna = version("two", 3, "r--w", 3);
    check(&rig, "moved back", two, [&anna, NOTHING, NOTHING]);
}

#[test]
fn a_view_of_the_time_before_a_folder_was_closed_or_opened() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let file = rig.add(dir, "a", 0o644, b"one");
    let link = rig.file();
    rig.apply(edit().link(link, "a").target(dir, "link", Some((link, Kind::Symlink))));
    let then = "@versions/2026-11-20_15.00.04";
    let history = rig.node(&anna(), "dir/@versions/a@");
    let links = rig.node(&anna(), "dir/@versions/link@");
    rig.apply(edit().dir(dir, 0o750));
    let told = |access: &str| {
        format!(
            "attributes yes, lookup yes, list 2, read one, link wrong kind, access {access}, csv 1"
        )
    };
    let probe = view(&rig, &format!("{then}/dir"), "a", history);
    check(&rig, "closed since", &probe, [&told("r--w"), &told("r---"), NOTHING]);
    let as_link = |access: &str| {
        format!(
            "attributes yes, lookup yes, list 2, read wrong kind, link a, access {access}, csv 1"
        )
    };
    let probe = view(&rig, &format!("{then}/dir"), "link", links);
    check(&rig, "a link in it", &probe, [&as_link("r---"), &as_link("r---"), NOTHING]);
    assert_eq!(rig.names(&bob(), then).unwrap(), ["dir"]);
    assert!(rig.names(&eve(), then).unwrap().is_empty());

    rig.apply(edit().dir(dir, 0o700));
    let closed = "@versions/2026-11-20_15.00.06";
    rig.apply(edit().dir(dir, 0o755));
    let probe = view(&rig, &format!("{closed}/dir"), "a", history);
    let own = told("r--w");
    let hidden = "attributes no, lookup no, list no, read no, link no, access no, csv 1";
    check(&rig, "opened since", &probe, [&own, hidden, hidden]);
    let _ = file;
}

/// To list a folder takes `r`, to get through it `x`: one is not the other, in the past neither.
#[test]
fn reading_and_searching_a_past_folder_are_two_rights() {
    let mut rig = Rig::new();
    let blind = rig.add_dir(ROOT, "blind", 0o711);
    rig.add(blind, "a", 0o644, b"a");
    let shown = rig.add_dir(ROOT, "shown", 0o744);
    rig.add(shown, "b", 0o644, b"b");
    let then = "@versions/2026-11-20";
    assert_eq!(rig.names(&eve(), then).unwrap(), ["blind"]);
    assert_eq!(word(&rig.names(&eve(), &format!("{then}/blind"))), "no");
    assert_eq!(rig.read(&eve(), &format!("{then}/blind/a")).unwrap(), "a");
    assert_eq!(word(&rig.find(&eve(), &format!("{then}/shown"))), "none");
    assert_eq!(word(&rig.names(&eve(), "blind/@versions")), "no");
    assert_eq!(rig.read(&eve(), "blind/@versions/a@/latest").unwrap(), "a");
    assert_eq!(word(&rig.find(&eve(), "shown/@versions")), "no");
}

/// A version whose row says more than its content's own time did must not open that content.
#[test]
fn an_older_version_that_stands_in_takes_its_own_rights() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a", 0o600, b"secret");
    let second = rig.save(file, 0o644, b"public");
    rig.save(file, 0o644, b"newer");
    let then = "@versions/2026-11-20_15.00.03/a";
    assert_eq!(rig.read(&eve(), then).unwrap(), "public");
    rig.store.expire(&[(file, second)]).unwrap();
    rig.store.sync().unwrap();
    assert_eq!(rig.read(&anna(), then).unwrap(), "secret");
    assert_eq!(word(&rig.read(&eve(), then)), "none");
}

/// A folder's row that retention removed the content of still says who might pass.
#[test]
fn a_folders_expired_row_still_counts() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    rig.add(dir, "early", 0o644, b"early");
    let closing = rig.apply(edit().dir(dir, 0o700));
    rig.add(dir, "late", 0o644, b"late");
    rig.apply(edit().dir(dir, 0o755));
    rig.store.expire(&[(dir, closing)]).unwrap();
    rig.store.sync().unwrap();
    let lists = |who: &Principal| rig.names(who, "dir/@versions").unwrap();
    assert!(lists(&anna()).contains(&"late@".to_owned()));
    assert!(!lists(&eve()).contains(&"late@".to_owned()));
    assert!(lists(&eve()).contains(&"early@".to_owned()));
}

#[test]
fn an_access_list_counts_then_and_now() {
    let mut rig = Rig::new();
    let file = rig.file();
    let acl = |bits: u16| {
        let entries = [
            (0x01, 6, u32::MAX),
            (0x02, bits, EVE),
            (0x04, 0, u32::MAX),
            (0x10, 7, u32::MAX),
            (0x20, 0, u32::MAX),
        ];
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            value.extend([u16::to_le_bytes(tag), u16::to_le_bytes(bits)].concat());
            value.extend(u32::to_le_bytes(id));
        }
        Meta {
            xattrs: vec![(b"system.posix_acl_access".to_vec(), value)],
            ..meta(Kind::File, 0o670, 0)
        }
    };
    let row = |bits| edit().row(file, acl(bits), Content::whole(b""), Event::Saved);
    rig.apply(row(4).put(ROOT, "a", file));
    rig.apply(row(0));
    assert_eq!(word(&rig.find(&eve(), "@versions/a@")), "none");
    rig.apply(row(4));
    assert_eq!(rig.names(&eve(), "@versions/a@").unwrap().len(), 3);
    assert_eq!(word(&rig.find(&bob(), "@versions/a@")), "none");
}

/// A restore takes the right to read the version and to write what it replaces.
#[test]
fn restores_take_reading_then_and_writing_now() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o775);
    let file = rig.add(dir, "a.txt", 0o644, b"one");
    rig.save(file, 0o664, b"two");
    rig.save(file, 0o664, b"three");
    rig.add(dir, "own", 0o600, b"own");
    let request = RequestId([7; 32]);
    let history = rig.node(&anna(), "dir/@versions/a.txt@");
    let ask = |rig: &Rig, who: &Principal, from: (Node, &str), to: (Node, &str)| {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        rig.share.restore(who, from, to, request, rig.now)
    };
    let second = rig.names_in(&anna(), history).unwrap()[2].clone();
    let done = ask(&rig, &bob(), (history, &second), (live(dir), "a.txt")).unwrap();
    assert_eq!((done.path.to_string(), done.user.as_str()), ("dir/a.txt".to_owned(), "bob"));
    assert_eq!((done.state.meta.size, done.request), (3, request));
    assert!(done.state.version().is_some());
    let view = rig.node(&bob(), "@versions/2026-11-20_15.00.03/dir");
    let done = ask(&rig, &bob(), (view, "a.txt"), (live(dir), "new.txt")).unwrap();
    assert_eq!(done.path.to_string(), "dir/new.txt");
    type Name<'a> = (Node, &'a str);
    let view = rig.node(&anna(), "@versions/2026-11-20");
    let cases: [(&str, Principal, Name<'_>, Name<'_>); 16] = [
        ("no", eve(), (history, &second), (live(dir), "a.txt")),
        ("no", eve(), (history, &second), (live(dir), "new")),
        ("no", bob(), (history, &second), (live(dir), "own")),
        ("no", bob(), (history, &second), (live(ROOT), "new")),
        ("none", bob(), (history, "nothing.txt"), (live(dir), "a.txt")),
        ("read-only", bob(), (live(dir), "a.txt"), (live(dir), "b.txt")),
        ("read-only", bob(), (history, &second), (history, "x")),
        ("read-only", bob(), (history, &second), (live(dir), "@versions")),
        ("read-only", bob(), (history, "_history.csv"), (live(dir), "a.txt")),
        ("no", bob(), (view, "dir"), (live(ROOT), "x")),
        ("yes", anna(), (view, "dir"), (live(ROOT), "x")),
        ("taken", anna(), (view, "dir"), (live(ROOT), "dir")),
        ("taken", anna(), (view, "dir"), (live(dir), "a.txt")),
        ("read-only", anna(), (view, "dir"), (view, "x")),
        ("read-only", anna(), (rig.node(&anna(), "@versions"), "2026-11-20"), (live(ROOT), "x")),
        ("a folder", anna(), (history, &second), (live(ROOT), "dir")),
    ];
    for (n, (wanted, who, from, to)) in cases.iter().enumerate() {
        assert_eq!(word(&ask(&rig, who, *from, *to)), *wanted, "case {n}");
    }
    let reader = Principal { may_write: false, ..bob() };
    let denied = ask(&rig, &reader, (history, &second), (live(dir), "a.txt"));
    assert!(matches!(denied, Err(Denial::ReadOnly)));
    let restores = |who: &Principal, node| rig.share.access(who, node, rig.now).unwrap().restore;
    for node in [live(file), live(dir), history, rig.node(&bob(), "dir/@versions/a.txt@/latest")] {
        assert!(restores(&bob(), node), "{node:?}");
        assert!(!restores(&eve(), node), "{node:?}");
        assert!(!restores(&reader, node), "{node:?}");
    }
}

/// Clients number their calls anew after a reboot: what only looks like a repeat is done, and not answered by what was done
/// long ago.
#[test]
fn a_request_is_a_repeat_for_minutes_and_while_its_result_stands() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a.txt", 0o666, b"one");
    rig.save(file, 0o666, b"second");
    let history = rig.node(&bob(), "@versions/a.txt@");
    let first = rig.names(&bob(), "@versions/a.txt@").unwrap().pop().unwrap();
    let ask = |rig: &Rig| {
        let (from, to) = ((history, first.as_bytes()), (live(ROOT), &b"a.txt"[..]));
        rig.share.restore(&bob(), from, to, RequestId([7; 32]), rig.now).unwrap().request
    };
    let restored = |rig: &mut Rig, request| {
        let (version, outcome) = (VersionId(rig.position()), RestoreOutcome::Written);
        let mut edit = edit().whole(file, 0o666, b"one");
        edit.change.restore = Some(RestoreRow { request, version, outcome });
        rig.apply(edit);
    };
    let mut known = vec![ask(&rig)];
    assert_eq!(known, [RequestId([7; 32])]);
    for round in 0..4 {
        let request = ask(&rig);
        assert_eq!(request, *known.last().unwrap(), "it was not answered yet");
        restored(&mut rig, request);
        assert_eq!(ask(&rig), request, "the answer was lost, and the result stands");
        rig.now = rig.now.plus_micros(60 * SECOND);
        assert_eq!(ask(&rig), request);
        match round % 2 {
            0 => drop(rig.save(file, 0o666, b"another")),
            _ => rig.now = rig.now.plus_micros(600 * SECOND),
        }
        let next = ask(&rig);
        assert!(!known.contains(&next), "{round}");
        rig = rig.restart();
        assert_eq!(ask(&rig), next);
        known.push(next);
    }
}

/// Whoever may write a file may not therefore give it an owner, a mode or a set-id bit that some version had.
#[test]
fn restores_bring_back_no_power() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o777);
    let tool = rig.add(dir, "tool", 0o4755, b"v1");
    rig.save(tool, 0o755, b"patched");
    let shared = rig.add(dir, "shared", 0o646, b"one");
    rig.save(shared, 0o666, b"two");
    let ask = |rig: &Rig, who: &Principal, from: &str, to: &str| {
        let history = rig.node(who, &format!("dir/@versions/{from}@"));
        // Newest first, and the table last.
        let names = rig.names_in(who, history).unwrap();
        let oldest = names.iter().rfind(|name| !name.starts_with('_')).unwrap().clone();
        let from = (history, oldest.as_bytes());
        let asked =
            rig.share.restore(who, from, (live(dir), to.as_bytes()), RequestId([7; 32]), rig.now);
        let meta = asked.unwrap().state.meta;
        (meta.mode, meta.owner.id, meta.group.id)
    };
    let (anna, eve) = (anna(), eve());
    // The file's owner may give it back its mode, but no set-id bit.
    assert_eq!(ask(&rig, &anna, "tool", "tool"), (0o755, anna.uid, anna.gid));
    // Another one who may write it changes its content alone.
    assert_eq!(ask(&rig, &eve, "shared", "shared"), (0o666, anna.uid, anna.gid));
    assert_eq!(ask(&rig, &eve, "tool", "shared"), (0o666, anna.uid, anna.gid));
    // A copy is whose who made it; what is brought back to its place is what it was.
    assert_eq!(ask(&rig, &eve, "tool", "mine"), (0o755, eve.uid, eve.gid));
    rig.apply(edit().gone(dir, "shared"));
    assert_eq!(ask(&rig, &eve, "shared", "shared"), (0o646, anna.uid, anna.gid));
    assert_eq!(ask(&rig, &eve, "shared", "other"), (0o646, eve.uid, eve.gid));
}

/// Returns a probe of an entry in a view of a time.
fn view(rig: &Rig, path: &str, name: &str, history: Node) -> Probe {
    let folder = rig.node(&anna(), path);
    let node = rig.find_from(&anna(), folder, name).unwrap().node;
    Probe { folder, name: name.to_owned(), node, history }
}
