//! Large folders and long histories: whole, once, and in time.

use std::collections::{BTreeMap, HashSet};

use keepshare_base::FileId;

use crate::rig::*;

/// How many entries the large folder has.
const ENTRIES: usize = 100_000;

/// How many versions the long history has.
const VERSIONS: usize = 10_000;

fn entry(number: usize) -> String {
    format!("entry-{number:06}")
}

/// Adds files in changes of a thousand.
fn fill(rig: &mut Rig, folder: FileId, numbers: impl Iterator<Item = usize>) {
    let numbers: Vec<usize> = numbers.collect();
    for part in numbers.chunks(1000) {
        let mut change = edit();
        for number in part {
            let file = rig.file();
            change = change.whole(file, 0o644, b"").put(folder, &entry(*number), file);
        }
        rig.commit_after(SECOND, change);
    }
    rig.store.sync().unwrap();
}

/// A client that lists a large folder must get all that stays, once, whatever comes and goes meanwhile, the entry at
/// which it goes on included.
#[test]
fn a_large_folder_is_listed_whole_while_entries_come_and_go() {
    let mut rig = Rig::new();
    let folder = rig.add_dir(ROOT, "large", 0o755);
    // Even numbers stay, odd ones go, and those beyond come.
    fill(&mut rig, folder, 0..ENTRIES);
    let (mut seen, mut after) = (BTreeMap::<Vec<u8>, usize>::new(), 0);
    let (mut goes, mut comes) = (1, 0);
    loop {
        let page = rig.share.list(&bob(), live(folder), after, 5000, rig.now).unwrap();
        for listed in &page.entries {
            *seen.entry(listed.name.clone()).or_default() += 1;
        }
        if page.end {
            break;
        }
        after = page.entries.last().unwrap().cookie;
        // The last entry listed goes, and so do others before and behind it.
        let last = String::from_utf8(page.entries.last().unwrap().name.clone()).unwrap();
        let number: usize = last["entry-".len()..][..6].parse().unwrap();
        let mut change = edit();
        if number % 2 == 1 && !last.ends_with('x') {
            change = change.gone(folder, &last);
        }
        for _ in 0..200 {
            if goes != number && goes < ENTRIES {
                change = change.gone(folder, &entry(goes));
            }
            goes += 34;
            goes |= 1;
            let file = rig.file();
            let come = format!("{}-x", entry(comes));
            change = change.whole(file, 0o644, b"").put(folder, &come, file);
            comes += 431;
        }
        rig.apply(change);
    }
    for number in (0..ENTRIES).step_by(2) {
        assert_eq!(seen.get(entry(number).as_bytes()), Some(&1), "{}", entry(number));
    }
    assert!(seen.values().all(|times| *times == 1));
    // A place outlives the process, and the name it was after.
    let page = rig.share.list(&bob(), live(folder), 0, 3, rig.now).unwrap();
    let (first, rest) = page.entries.split_first().unwrap();
    rig.apply(edit().gone(folder, &String::from_utf8(first.name.clone()).unwrap()));
    let rig = rig.restart();
    let page = rig.share.list(&bob(), live(folder), first.cookie, 2, rig.now).unwrap();
    assert_eq!(page.entries[0].name, rest[0].name);
    let wrong = rig.share.list(&bob(), live(folder), 0x1234_5678_9abc, 2, rig.now);
    assert!(matches!(wrong, Err(keepshare_namespace::Denial::BadCookie)));
}

#[test]
fn a_long_history_is_listed_whole() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "log.txt", 0o644, b"0");
    for number in 1..VERSIONS {
        // Three of a second, so that they are numbered, too.
        rig.commit_after(SECOND / 3, edit().whole(file, 0o644, number.to_string().as_bytes()));
        if number % 500 == 0 {
            rig.store.sync().unwrap();
        }
    }
    rig.store.sync().unwrap();
    let node = rig.node(&bob(), "@versions/log.txt@");
    let entries = rig.list_by(&bob(), node, 100).unwrap();
    assert_eq!(entries.len(), VERSIONS + 1);
    let names: HashSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(names.len(), VERSIONS + 1);
    for (at, number) in [(1, VERSIONS - 1), (5000, VERSIONS - 5000), (VERSIONS, 0)] {
        assert_eq!(rig.read_node(&bob(), entries[at].node).unwrap(), number.to_string());
    }
    let table = rig.read(&bob(), "@versions/log.txt@/_history.csv").unwrap();
    assert_eq!(table.lines().count(), VERSIONS + 1);
}

/// What happens to other files costs a long history nothing: it is not walked again.
#[test]
fn a_long_history_is_looked_into_while_other_files_change() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "long", 0o644, b"");
    let other = rig.add(ROOT, "other", 0o644, b"");
    for number in 0..VERSIONS / 4 {
        rig.commit_after(SECOND, edit().whole(file, 0o644, &number.to_le_bytes()));
    }
    rig.store.sync().unwrap();
    let name = rig.names(&bob(), "@versions/long@").unwrap().pop().unwrap();
    let node = rig.node(&bob(), "@versions/long@");
    let look = |rig: &Rig| {
        rig.share.lookup(&bob(), node, name.as_bytes(), rig.now).unwrap();
        rig.share.lookup(&bob(), node, b"_history.csv", rig.now).unwrap();
        rig.names(&bob(), "@versions/long@").unwrap().len()
    };
    let listed = look(&rig);
    let walked = rig.share.histories_walked();
    for _ in 0..20 {
        rig.apply_after(1000, edit().whole(other, 0o644, b"another"));
        assert_eq!(look(&rig), listed);
    }
    assert_eq!(rig.share.histories_walked(), walked, "changes of another file cost a walk");
    rig.apply_after(1000, edit().whole(file, 0o644, b"one more"));
    assert_eq!(look(&rig), listed + 1);
    assert!(rig.share.histories_walked() > walked, "the new version was found by chance");
}
