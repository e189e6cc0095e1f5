//! Questions by path: each gets the answer that the drive gives, and what may not be seen is not there.

use std::convert::Infallible;

use keepshare_auth::Principal;
use keepshare_base::{Kind, SetPath, VersionId};
use keepshare_namespace::{
    AskError, Content, Denial, Exported, FoundPath, Interrupted, Missing, Pattern, Shown, Sought,
    Taker, Who,
};
use keepshare_versioning::NamesFrom;

use crate::rig::*;

fn path(text: &str) -> SetPath {
    let names = text.split('/').filter(|part| !part.is_empty()).map(name);
    SetPath::from(names.collect::<Vec<_>>())
}

/// Everything that was given out, as one text.
#[derive(Default)]
struct Told(Vec<String>);

impl Taker for Told {
    type Error = Infallible;

    fn shown(&mut self, shown: Shown) -> Result<(), Infallible> {
        let path: Vec<_> = shown.path.iter().map(ToString::to_string).collect();
        let end = match shown.content {
            Content::Follows if shown.meta.kind == Kind::Dir => "/",
            Content::Follows => "=",
            Content::SameAs(_) => " again",
            Content::Missing(Missing::NotListable) => " shut",
            Content::Missing(_) => " missing",
        };
        self.0.push(format!("{}{end}", path.join("/")));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.last_mut().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(())
    }
}

fn error_word(error: &AskError) -> String {
    match error {
        AskError::NotThere => "not then".to_owned(),
        AskError::NeverThere { near: Some(near) } => format!("never, near {near}"),
        AskError::NeverThere { near: None } => "never".to_owned(),
        AskError::NotListable => "shut".to_owned(),
        other => other.to_string(),
    }
}

/// Asks for the content that a path had, as `show` does.
pub(crate) fn show(rig: &Rig, who: Who<'_>, text: &str, typed: &str) -> String {
    let mut told = Told::default();
    let ask = rig.share.ask(who, rig.now);
    let then = match ask.at(&path(text), typed) {
        Ok(then) => then,
        Err(error) => return error_word(&error),
    };
    match ask.show(&then, &mut told) {
        Ok(()) => told.0.join(" "),
        Err(Interrupted::Asked(error)) => error_word(&error),
        Err(Interrupted::Taker(never)) => match never {},
    }
}

fn export(rig: &Rig, who: Who<'_>, text: &str, typed: &str) -> String {
    export_with(rig, who, Exported::Content, (text, typed))
}

fn export_with(rig: &Rig, who: Who<'_>, with: Exported, (text, typed): (&str, &str)) -> String {
    let mut told = Told::default();
    let ask = rig.share.ask(who, rig.now);
    match ask.export(&ask.at(&path(text), typed).unwrap(), with, &mut told) {
        Ok(()) => told.0.join(" "),
        Err(Interrupted::Asked(error)) => error_word(&error),
        Err(Interrupted::Taker(never)) => match never {},
    }
}

/// Asks for the versions of a path: each by its path, its length, and how it ended.
pub(crate) fn versions(rig: &Rig, who: Who<'_>, text: &str, limit: usize) -> String {
    match rig.share.ask(who, rig.now).versions(&path(text), limit) {
        Ok(versions) => {
            let told = versions.iter().map(|version| {
                let ended = version.until.map_or("", |(_, ended)| ended.word());
                let current = if version.current { "now" } else { "" };
                format!("{}:{}{current}{ended}", version.path, version.state.meta.size)
            });
            told.collect::<Vec<_>>().join(" ")
        }
        Err(error) => error_word(&error),
    }
}

/// What is looked for by its name alone.
pub(crate) fn sought(pattern: &str) -> Sought {
    Sought {
        pattern: Pattern::new(pattern, false).unwrap(),
        within: SetPath::default(),
        since: None,
        from: NamesFrom::default(),
    }
}

pub(crate) fn find(rig: &Rig, who: Who<'_>, pattern: &str, limit: usize) -> String {
    let (mut told, sought) = (Vec::new(), sought(pattern));
    let take = |found: FoundPath| {
        let gone = found.gone.map_or("", |(_, ended)| ended.word());
        told.push(format!("{}:{gone}", found.path));
        Ok::<_, Infallible>(())
    };
    rig.share.ask(who, rig.now).find(&sought, limit, take).unwrap();
    told.join(" ")
}

/// Asks for all of a path's past by the drive's nodes: what a time shows of it, through the root, or `none`.
pub(crate) fn on_drive(rig: &Rig, who: &Principal, text: &str, typed: &str) -> String {
    let Ok(found) = rig.find(who, &format!("@versions/{typed}/{text}")) else {
        return "none".to_owned();
    };
    let name = text.rsplit('/').next().unwrap();
    match rig.read_node(who, found.node) {
        Ok(content) => format!("{name}={content}"),
        Err(Denial::IsFolder) => match rig.names_in(who, found.node) {
            Ok(names) => {
                let below = names.iter().map(|below| {
                    let below_path = format!("@versions/{typed}/{text}/{below}");
                    let is_dir = matches!(rig.read(who, &below_path), Err(Denial::IsFolder));
                    format!("{name}/{below}{}", if is_dir { "/" } else { "=" })
                });
                std::iter::once(format!("{name}/")).chain(below).collect::<Vec<_>>().join(" ")
            }
            Err(_) => "shut".to_owned(),
        },
        Err(error) => panic!("{text} at {typed}: {error}"),
    }
}

/// Writes the second in which a commit was made.
fn second_of(commit: u64) -> String {
    format!("2026-11-20_15.00.{commit:02}")
}

/// Asks everybody for the same by path and on the drive.
#[track_caller]
fn check(rig: &Rig, text: &str, commit: u64, [admin, owner, group, stranger]: [&str; 4]) {
    let typed = second_of(commit);
    assert_eq!(show(rig, Who::Admin, text, &typed), admin, "{text} at {commit}, for the admin");
    for (who, wanted) in [(anna(), owner), (bob(), group), (eve(), stranger)] {
        let story = format!("{text} at {commit}, for {}", who.user);
        assert_eq!(show(rig, Who::User(&who), text, &typed), wanted, "{story}");
        let drive = on_drive(rig, &who, text, &typed);
        let wanted = match wanted {
            "shut" => "shut",
            wanted if wanted.starts_with("not") || wanted.starts_with("never") => "none",
            wanted => wanted,
        };
        assert_eq!(drive, wanted, "{story}, on the drive");
    }
}

/// The same question gets one answer on the drive and by path.
#[test]
fn path_and_drive_say_the_same() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755); // 2
    let open = rig.add(dir, "open", 0o644, b"one"); // 3
    rig.add(dir, "own", 0o600, b"secret"); // 4
    rig.save(open, 0o640, b"group"); // 5
    const NEVER: &str = "never, near dir";
    let all = "dir/ dir/open= dir/own=";
    check(&rig, "dir/open", 5, ["open=group", "open=group", "open=group", NEVER]);
    check(&rig, "dir/open", 3, ["open=one", "open=one", "open=one", NEVER]);
    check(&rig, "dir/own", 4, ["own=secret", "own=secret", "never, near dir/open", NEVER]);
    check(&rig, "dir/own", 3, ["not then", "not then", "never, near dir/open", NEVER]);
    check(&rig, "dir", 5, [all, all, "dir/ dir/open=", "dir/"]);
    check(&rig, "dir", 1, ["not then"; 4]);
    check(&rig, "no", 5, ["never"; 4]);

    // Opened since: what was written while it was closed stays closed.
    rig.save(open, 0o644, b"all"); // 6
    check(&rig, "dir/open", 6, ["open=all"; 4]);
    check(&rig, "dir/open", 5, ["open=group", "open=group", "open=group", "not then"]);
    check(&rig, "dir/open", 3, ["open=one"; 4]);

    // Closed since, and opened again: what was in the folder meanwhile stays closed.
    rig.apply(edit().dir(dir, 0o750)); // 7
    check(&rig, "dir/open", 6, ["open=all", "open=all", "open=all", "never"]);
    check(&rig, "dir", 6, [all, all, "dir/ dir/open=", "never"]);
    rig.save(open, 0o644, b"meanwhile"); // 8
    rig.apply(edit().dir(dir, 0o755)); // 9
    check(&rig, "dir/open", 8, ["open=meanwhile", "open=meanwhile", "open=meanwhile", "not then"]);
    check(&rig, "dir/open", 6, ["open=all"; 4]);

    // To search a folder and to list it are two rights.
    rig.apply(edit().dir(dir, 0o711)); // 10
    check(&rig, "dir", 10, [all, all, "shut", "shut"]);
    check(&rig, "dir/open", 6, ["open=all"; 4]);
    rig.apply(edit().dir(dir, 0o755)); // 11

    // Renamed: the old path has what it had, and the file's history goes along.
    rig.apply(edit().gone(ROOT, "dir").put_dir(ROOT, "new", dir)); // 12
    check(&rig, "dir/open", 6, ["open=all"; 4]);
    // At this moment the folder was open, and so was what it held.
    check(&rig, "new/open", 12, ["open=meanwhile"; 4]);
    for who in [Who::Admin, Who::User(&anna()), Who::User(&bob()), Who::User(&eve())] {
        assert_eq!(show(&rig, who, "new/open", &second_of(6)), "open=all");
    }
    assert_eq!(rig.read(&eve(), "new/@versions/open@/2026-11-20_15.00.06").unwrap(), "all");
}

/// A folder that is made again has the past of the one before, for whoever may see that one.
#[test]
fn a_folder_made_again_has_its_past_by_path_too() {
    let mut rig = Rig::new();
    let old = rig.add_dir(ROOT, "Sales", 0o755);
    let file = rig.add(old, "a", 0o644, b"one");
    rig.save(file, 0o640, b"two!");
    rig.add(old, "b", 0o600, b"own");
    rig.apply(edit().gone(old, "a").gone(old, "b").gone(ROOT, "Sales"));
    let gone = |who: Who<'_>, rig: &Rig| versions(rig, who, "Sales/a", 9);
    let (anna, bob, eve) = (anna(), bob(), eve());
    let both = "Sales/a:4deleted Sales/a:3replaced";
    for (who, told) in [
        (Who::Admin, both),
        (Who::User(&anna), both),
        (Who::User(&bob), both),
        (Who::User(&eve), "never, near Sales"),
    ] {
        assert_eq!(gone(who, &rig), told, "{who:?}");
    }
    rig.add_dir(ROOT, "Sales", 0o755);
    for (who, told, deleted) in
        [(&anna, both, "a b"), (&bob, both, "a"), (&eve, "never, near Sales", "")]
    {
        assert_eq!(gone(Who::User(who), &rig), told, "{}", who.user);
        let on_drive = rig.names(who, "Sales/@versions/_deleted").unwrap();
        assert_eq!(on_drive.join(" ").replace('@', ""), deleted, "{}", who.user);
        let listed = rig.share.ask(Who::User(who), rig.now).versions(&path("Sales"), 99).unwrap();
        let listed = listed.iter().filter(|version| version.path.names().len() == 2);
        let listed: Vec<_> = listed.map(|version| version.path.names()[1].to_string()).collect();
        assert_eq!(listed.join(" "), deleted, "{}", who.user);
    }
}

/// Builds a set with things that Eve may not see, or the same without them.
fn with_hidden(is_hidden: bool) -> Rig {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    for number in 0..8 {
        let file = rig.add(dir, &format!("report-{number}"), 0o644, b"one");
        rig.save(file, if is_hidden { 0o600 } else { 0o644 }, b"hidden");
        rig.save(file, 0o644, b"three");
        if is_hidden {
            rig.apply(edit().gone(dir, &format!("report-{number}")));
            rig.apply(edit().put(dir, &format!("report-{number}"), file));
        } else {
            rig.now = rig.now.plus_micros(2 * SECOND);
        }
    }
    if is_hidden {
        let shut = rig.add_dir(ROOT, "reports", 0o700);
        let file = rig.add(shut, "report-1", 0o644, b"in a shut folder");
        rig.save(file, 0o644, b"again");
        rig.apply(edit().gone(shut, "report-1"));
        rig.add(dir, "report-x", 0o600, b"gone");
        rig.apply(edit().gone(dir, "report-x"));
    }
    rig
}

/// What is hidden takes no place from what is not, and neither an error nor a hint tells of it.
#[test]
fn what_is_hidden_is_as_if_it_were_not_there() {
    let hidden = with_hidden(true);
    let eve = eve();
    let who = Who::User(&eve);
    for missing in ["dir/report-x", "reports/report-1", "reports/other", "reports/report-1/below"] {
        let never = missing.replace("reports", "reportz").replace("report-x", "report-z");
        for typed in ["latest", "2026-11-20", "v1.1.40"] {
            let told = show(&hidden, who, missing, typed).replace("reports", "reportz");
            assert_eq!(told, show(&hidden, who, &never, typed), "{missing} at {typed}");
            assert!(told.starts_with("never"), "{missing} at {typed}: {told}");
        }
        let told = versions(&hidden, who, missing, 9);
        assert_eq!(told, versions(&hidden, who, &never, 9), "{missing}");
        let restore = |text: &str| {
            let restorable = hidden.share.ask(who, hidden.now).restorable(&path(text), "latest");
            error_word(&restorable.unwrap_err())
        };
        assert_eq!(restore(missing), restore(&never), "{missing}");
    }
    let all = find(&hidden, who, "report", 99);
    // That the folder is there can be read in the one above.
    assert!(!all.contains("reports/") && !all.contains("report-x"), "{all}");
    assert!(find(&hidden, Who::Admin, "report", 99).contains("report-x"));
    // Suggestions name what is seen alone.
    assert_eq!(show(&hidden, Who::Admin, "report", "latest"), "never, near reports");
    assert_eq!(show(&hidden, who, "report", "latest"), "never");
}

/// Limits count what is told.
#[test]
fn limits_are_not_changed_by_what_is_hidden() {
    let hidden = with_hidden(true);
    let eve = eve();
    let who = Who::User(&eve);
    let words = |told: String| told.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let all = words(find(&hidden, who, "report", 99));
    assert_eq!(all.len(), 9);
    let whole = words(versions(&hidden, who, "dir/report-1", 99));
    assert_eq!(whole, ["dir/report-1:5now", "dir/report-1:3replaced"]);
    for limit in 1..4 {
        assert_eq!(words(find(&hidden, who, "report", limit)), all[..limit]);
        let some = words(versions(&hidden, who, "dir/report-1", limit));
        assert_eq!(some, whole[..limit.min(2)]);
    }
}

/// A version's former path is told to whoever could go there then; to others it has the path that was asked for.
#[test]
fn a_former_place_that_is_hidden_is_not_named() {
    let mut rig = Rig::new();
    let shut = rig.add_dir(ROOT, "shut", 0o700);
    let file = rig.add(ROOT, "a", 0o644, b"open");
    rig.apply(edit().gone(ROOT, "a").put(shut, "merger", file));
    rig.save(file, 0o644, b"in there");
    rig.apply(edit().gone(shut, "merger").put(ROOT, "b", file));
    let (anna, eve) = (anna(), eve());
    let told = versions(&rig, Who::User(&anna), "b", 9);
    assert!(told.contains("shut/merger"), "{told}");
    let told = versions(&rig, Who::User(&eve), "b", 9);
    assert!(!told.contains("merger") && told.contains("b:4"), "{told}");
}

/// A search finds the names that listing every folder would show, now and then.
#[test]
fn a_search_sees_what_a_listing_shows() {
    let mut rig = Rig::new();
    let blind = rig.add_dir(ROOT, "blind", 0o711);
    rig.add(blind, "x-in-blind", 0o644, b"1");
    let shown = rig.add_dir(ROOT, "shown", 0o744);
    rig.add(shown, "x-in-shown", 0o644, b"1");
    let open = rig.add_dir(ROOT, "open", 0o755);
    rig.add(open, "x-live", 0o600, b"1");
    rig.add(open, "x-gone", 0o644, b"1");
    rig.add(open, "x-gone-own", 0o600, b"1");
    rig.apply(edit().gone(open, "x-gone").gone(open, "x-gone-own"));
    // Not to be listed when it was there; now it is.
    let dir = rig.add_dir(ROOT, "later", 0o711);
    rig.add(dir, "x-then", 0o644, b"1");
    rig.apply(edit().gone(dir, "x-then"));
    rig.apply(edit().dir(dir, 0o755));
    let dead = rig.add_dir(ROOT, "dead", 0o755);
    rig.add(dead, "x-dead", 0o644, b"1");
    rig.add(dead, "x-dead-own", 0o600, b"1");
    rig.apply(edit().gone(ROOT, "dead"));
    let shut = rig.add_dir(ROOT, "shut", 0o755);
    rig.add(shut, "x-shut", 0o644, b"1");
    rig.apply(edit().dir(shut, 0o700));
    rig.apply(edit().gone(ROOT, "shut"));
    let eve = eve();
    let sorted = |told: String| {
        let mut words: Vec<_> = told.split(' ').map(str::to_owned).collect();
        words.sort();
        words.join(" ")
    };
    let told = sorted(find(&rig, Who::User(&eve), "x-", 99));
    assert_eq!(told, "dead/x-dead:deleted open/x-gone:deleted open/x-live: shown/x-in-shown:");
    let told = find(&rig, Who::Admin, "x-", 99);
    assert_eq!(told.split(' ').count(), 9, "{told}");
}

/// What is brought out as a whole leaves out what may not be seen, and says where a folder cannot be listed.
#[test]
fn an_export_has_what_a_copy_from_the_drive_has() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    let sub = rig.add_dir(dir, "sub", 0o755);
    let file = rig.add(sub, "a", 0o644, b"one");
    rig.apply(edit().put(dir, "z", file));
    rig.add(sub, "own", 0o600, b"own");
    let blind = rig.add_dir(dir, "blind", 0o711);
    rig.add(blind, "b", 0o644, b"two");
    rig.add_dir(dir, "shut", 0o700);
    let own = "dir/ dir/blind/ dir/blind/b=two dir/shut/ dir/sub/ dir/sub/a=one dir/sub/own=own dir/z again";
    assert_eq!(export(&rig, Who::Admin, "dir", "latest"), own);
    assert_eq!(export(&rig, Who::User(&anna()), "dir", "latest"), own);
    assert_eq!(
        export(&rig, Who::User(&eve()), "dir", "latest"),
        "dir/ dir/blind shut dir/sub/ dir/sub/a=one dir/z again"
    );
    let entries = |who| export_with(&rig, who, Exported::Entries, ("dir", "latest"));
    let all = "dir/ dir/blind/ dir/blind/b= dir/shut/ dir/sub/ dir/sub/a= dir/sub/own= dir/z=";
    assert_eq!(entries(Who::Admin), all);
    assert_eq!(entries(Who::User(&eve())), "dir/ dir/blind shut dir/sub/ dir/sub/a= dir/z=");
}

/// A restore by path takes what a restore on the drive takes.
#[test]
fn a_restore_by_path_takes_the_rights_of_one_on_the_drive() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "a", 0o664, b"one");
    rig.save(file, 0o664, b"two");
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    rig.add(dir, "b", 0o644, b"one");
    rig.apply(edit().gone(dir, "b"));
    rig.add(dir, "own", 0o600, b"own");
    let then = second_of(5);
    let ask = |rig: &Rig, who: Who<'_>, text: &str| match rig
        .share
        .ask(who, rig.now)
        .restorable(&path(text), &then)
    {
        Ok(restorable) => format!("{}", VersionId(restorable.state.position)),
        Err(error) => error_word(&error),
    };
    let by_drive = |rig: &Rig, who: &Principal, folder: &str, text: &str| {
        let from = rig.find(who, &format!("{folder}@versions/{text}@")).map_err(|_| "none");
        let from = match from {
            Ok(from) => from.node,
            Err(none) => return none.to_owned(),
        };
        let to = (rig.node(who, folder), text.as_bytes());
        let request = keepshare_base::RequestId([1; 32]);
        match rig.share.restore(who, (from, then.as_bytes()), to, request, rig.now) {
            Ok(restore) => format!("{}", VersionId(restore.state.position)),
            Err(error) => error.to_string(),
        }
    };
    let (anna, bob, eve) = (anna(), bob(), eve());
    for (who, a, b) in [
        (&anna, "v1.1.3", "v1.1.5"),
        (&bob, "v1.1.3", "you may not write there"),
        (&eve, "you may not write there", "you may not write there"),
    ] {
        assert_eq!(ask(&rig, Who::User(who), "a"), a, "{}", who.user);
        assert_eq!(ask(&rig, Who::User(who), "dir/b"), b, "{}", who.user);
        let word = |by_path: &str| match by_path {
            "you may not write there" => "not allowed".to_owned(),
            version => version.to_owned(),
        };
        assert_eq!(by_drive(&rig, who, "", "a"), word(a), "{}", who.user);
        assert_eq!(by_drive(&rig, who, "dir/", "b"), word(b), "{}", who.user);
    }
    assert_eq!(ask(&rig, Who::User(&eve), "dir"), "only files are restored in place");
    assert_eq!(ask(&rig, Who::User(&eve), "dir/own"), "never, near dir");
    let reader = Principal { may_write: false, ..anna.clone() };
    assert_eq!(ask(&rig, Who::User(&reader), "a"), "you may not write there");
    // Who may not give a file its owner does not bring it back as somebody else's; an admin brings it back as it was.
    rig.apply(edit().gone(ROOT, "a"));
    rig.apply(edit().dir(ROOT, 0o777));
    let owner = |who: Who<'_>| {
        let restorable = rig.share.ask(who, rig.now).restorable(&path("a"), &then).unwrap();
        (restorable.state.meta.owner.id, restorable.ground.is_some())
    };
    assert_eq!(owner(Who::Admin), (ANNA, false));
    assert_eq!(owner(Who::User(&anna)), (ANNA, true));
    // The folder that it would come into is not there: whoever asks hears of the folder.
    rig.apply(edit().gone(ROOT, "dir"));
    assert_eq!(ask(&rig, Who::User(&anna), "dir/b"), "there is no folder dir now");
    assert_eq!(ask(&rig, Who::Admin, "dir/b"), "there is no folder dir now");
}

/// Who makes one folder and hears of the next, again and again, gives up.
#[test]
fn all_of_a_missing_way_is_told_at_once() {
    let mut rig = Rig::new();
    let top = rig.add_dir(ROOT, "top", 0o755);
    let deep = rig.add_dir(top, "deep", 0o755);
    rig.add(deep, "file", 0o644, b"one");
    rig.apply(edit().gone(ROOT, "top"));
    let anna = anna();
    for who in [Who::Admin, Who::User(&anna)] {
        let ask = rig.share.ask(who, rig.now);
        let error = ask.restorable(&path("top/deep/file"), &second_of(4)).unwrap_err();
        assert_eq!(error_word(&error), "there is no folder top/deep now");
    }
}

/// A number that was never given means nothing, of a file, a folder or the whole set.
#[test]
fn a_version_that_nothing_has_is_none() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "dir", 0o755);
    rig.add(dir, "file", 0o644, b"one"); // 3
    for (text, there) in [("", " dir/"), ("dir", "dir/ dir/file="), ("dir/file", "file=one")] {
        let told = show(&rig, Who::Admin, text, "v1.1.3");
        assert!(told.contains(there.trim()), "{text}: {told}");
        for none in ["v1.1.4", "v1.1.99", "v1.2.3", "v2.1.3"] {
            assert_eq!(
                show(&rig, Who::Admin, text, none),
                "it has no such version",
                "{text} {none}"
            );
        }
    }
}
