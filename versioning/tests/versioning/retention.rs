//! What retention lets go of a real store, and what it may not.

use std::collections::{BTreeSet, HashMap};

use keepshare_base::{CommitId, FileId};
use keepshare_versioning::{
    View,
    disk::sim::Dice,
    retention::{Candidate, Counts, Gone, Now, Policy, Review, history, outlook},
};

use crate::rig::{NOW, ROOT, Rig, SECOND, edit, name, path, seed};

/// Nothing but steps of some seconds, as the rig saves once a second.
fn policy(said: &str) -> Policy {
    let bare = ["last=0", "max_versions=none", "min_age=0", "protect_days=0", "deleted=none"];
    Policy::default().with(bare.into_iter().chain(said.split(' '))).unwrap()
}

/// So many seconds after the rig's last change.
fn later(rig: &Rig, seconds: u64) -> Now {
    let running = rig.store.running_micros(&rig.master.now.into());
    let clock = rig.master.now.plus_micros(i64::try_from(seconds).unwrap() * SECOND);
    Now { running_micros: running + seconds * SECOND.unsigned_abs(), clock }
}

fn review(view: &View, mut review: Review) -> (Vec<Candidate>, Counts) {
    let mut all = Vec::new();
    loop {
        if let Some((going, is_last)) = review.step(view, 3).unwrap() {
            all.extend(going);
            if is_last {
                all.sort_by_key(|candidate| (candidate.file, candidate.commit));
                return (all, review.counts());
            }
        }
    }
}

fn going(rig: &Rig, policy: &Policy, seconds: u64) -> Vec<Candidate> {
    review(&rig.view(), Review::new(policy.clone(), later(rig, seconds))).0
}

/// Removes what goes, and returns how many that were.
fn thin(rig: &mut Rig, policy: &Policy, seconds: u64) -> usize {
    let versions: Vec<_> =
        going(rig, policy, seconds).into_iter().map(|gone| (gone.file, gone.commit)).collect();
    let removed = rig.set_aside(&versions).len();
    assert_eq!(removed, versions.len(), "what goes may go");
    removed
}

/// Returns the contents of what is left in a history, newest first.
fn left(rig: &Rig, folder: FileId, text: &str) -> Vec<String> {
    let history = rig.view().history(folder, &name(text), 1000).unwrap();
    let kept = history.iter().filter(|entry| !entry.state.expired);
    kept.map(|entry| String::from_utf8(rig.read(&entry.state)).unwrap()).collect()
}

#[test]
fn saves_are_thinned_and_the_newest_stays() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"0");
    for save in 1..20 {
        rig.apply(edit().whole(file, save.to_string().as_bytes(), true));
    }
    assert_eq!(thin(&mut rig, &policy("steps=5s"), 1), 15);
    assert_eq!(left(&rig, ROOT, "f"), ["19", "15", "10", "5", "0"].map(String::from).as_slice());
    assert_eq!(thin(&mut rig, &policy("steps=5s"), 1), 0, "a second time nothing goes");
    assert_eq!(rig.content(NOW, "f"), b"19");
}

/// Rewrites a file so many times in each of some days, and lets a night come: returns what goes then, and what is counted, and has it removed.
fn day_and_night(
    rig: &mut Rig,
    file: FileId,
    (days, saves): (i64, i64),
    last_run: &mut Option<u64>,
) -> (usize, Counts) {
    let day = 86_400;
    for save in 0..days * saves {
        rig.master.now = rig.master.now.plus_micros(day / saves * SECOND);
        rig.apply(edit().whole(file, format!("{save} {:?}", rig.master.now).as_bytes(), true));
    }
    let now = later(rig, 1);
    let begun = Review::new(Policy::default(), now);
    let begun = match last_run.replace(now.running_micros) {
        Some(last_run) => begun.after_run(last_run),
        None => begun,
    };
    let (going, counts) = review(&rig.view(), begun);
    let versions: Vec<_> = going.iter().map(|gone| (gone.file, gone.commit)).collect();
    rig.set_aside(&versions);
    (going.len(), counts)
}

/// Nearly all that goes in a night is of the day before. A station that took that for a loss would wait for a hand each night.
#[test]
fn what_a_busy_day_leaves_is_no_loss() {
    let mut rig = Rig::new();
    let hot = rig.add(ROOT, "hot", b"0");
    let mut last_run = None;
    let mut most = 0;
    for night in 0..40 {
        // One day is busier by far.
        let saves = if night == 20 { 700 } else { 96 };
        let (gone, counts) = day_and_night(&mut rig, hot, (1, saves), &mut last_run);
        most = most.max(counts.gone * 100 / (counts.kept + counts.gone));
        let settled = counts.settled_kept + counts.settled_gone;
        assert!(counts.settled_gone * 10 <= settled, "night {night}: {counts:?}");
        assert!(night == 0 || gone > 50, "night {night}: {counts:?}");
    }
    assert!(most > 50, "{most} % of all");
}

/// Where a night comes once a week, more than a quarter of what the last one left comes to an age each time at which a version a week is enough.
#[test]
fn what_comes_to_an_age_between_two_nights_is_no_loss() {
    let mut rig = Rig::new();
    let hot = rig.add(ROOT, "hot", b"0");
    let mut last_run = None;
    let mut most = 0;
    for week in 0..8 {
        let (_, counts) = day_and_night(&mut rig, hot, (7, 24), &mut last_run);
        let settled = counts.settled_kept + counts.settled_gone;
        // The first one is a plan that somebody applies.
        if week > 0 {
            assert!(counts.settled_gone * 10 <= settled, "week {week}: {counts:?}");
            most = most.max(counts.gone * 100 / (counts.kept + counts.gone));
        }
    }
    assert!(most > 25, "{most} % of all");
}

/// What nights have left goes for what people or a master in wrong hands did: that is counted, however old it has become.
#[test]
fn what_goes_after_nights_that_left_it_is_counted() {
    let mut rig = Rig::new();
    let files: Vec<FileId> = (0..10).map(|n| rig.add(ROOT, &format!("f{n}"), b"0")).collect();
    let hot = rig.add(ROOT, "hot", b"0");
    let mut last_run = None;
    for night in 0..30 {
        if night % 3 == 0 {
            for file in &files {
                rig.apply(edit().whole(*file, night.to_string().as_bytes(), true));
            }
        }
        let (_, counts) = day_and_night(&mut rig, hot, (1, 24), &mut last_run);
        let settled = counts.settled_kept + counts.settled_gone;
        assert!(counts.settled_gone * 4 <= settled, "night {night}: {counts:?}");
    }
    // Each file is written over until none of the last is one that people had.
    for file in &files {
        for save in 0..13 {
            rig.apply(edit().whole(*file, format!("x{save}").as_bytes(), true));
        }
    }
    let count = |rig: &Rig, said: &str, days: u64| {
        let policy = Policy::default().with(said.split(' ')).unwrap();
        let begun = Review::new(policy, later(rig, days * 86_400)).after_run(last_run.unwrap());
        let (_, counts) = review(&rig.view(), begun);
        (counts.settled_gone * 4 > counts.settled_gone + counts.settled_kept, counts)
    };
    let (is_loss, counts) = count(&rig, "last=12", 1);
    assert!(is_loss, "{counts:?}");
    // A policy that was said by mistake.
    let (is_loss, counts) = count(&rig, "last=0 steps=365d protect_days=0", 1);
    assert!(is_loss, "{counts:?}");
    let (is_loss, counts) = count(&rig, "max_age=20d", 1);
    assert!(is_loss, "{counts:?}");
    for n in 0..10 {
        rig.apply(edit().gone(ROOT, &format!("f{n}")));
    }
    let (is_loss, counts) = count(&rig, "deleted=90d", 91);
    assert!(is_loss, "{counts:?}");
}

/// What is told of a version holds, and of a history that is longer than asked for nothing is told.
#[test]
fn what_is_told_of_the_time_to_come_is_true_then() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"0");
    for save in 1..20 {
        rig.apply(edit().whole(file, save.to_string().as_bytes(), true));
    }
    let (view, now) = (rig.view(), later(&rig, 1));
    let policy = policy("steps=0:30s,5s:60s,10s");
    let told = |most| outlook(&view, &policy, now, (ROOT, &name("f")), most).unwrap();
    assert!(told(19).is_none());
    let told = told(20).unwrap();
    assert_eq!(told.len(), 20);
    assert!(told[0].1.is_none() && told[19].1.is_none(), "the newest and the oldest stay");
    let second = SECOND.unsigned_abs();
    let seconds = told[1..19].iter().map(|(_, until)| until.unwrap().div_ceil(second));
    let seconds: Vec<u64> = seconds.collect();
    assert_eq!(seconds, (11..29).rev().collect::<Vec<_>>());
    // The view was asked a second after the last change.
    assert!(going(&rig, &policy, 11).is_empty());
    assert!(!going(&rig, &policy, 12).is_empty());
}

/// Programs save by rename: the files change, the name's history is one.
#[test]
fn saves_by_rename_are_one_history() {
    let mut rig = Rig::new();
    rig.add(ROOT, "f", b"0");
    for save in 1..20 {
        let temp = rig.add(ROOT, ".f", save.to_string().as_bytes());
        rig.apply(edit().gone(ROOT, ".f").put(ROOT, "f", temp));
    }
    let policy = policy("steps=10s deleted=5s");
    thin(&mut rig, &policy, 60);
    let kept = left(&rig, ROOT, "f");
    assert!(kept.len() > 3 && kept.len() < 12, "{kept:?}");
    assert_eq!((kept.first().unwrap().as_str(), kept.last().unwrap().as_str()), ("19", "0"));
    assert_eq!(rig.content(NOW, "f"), b"19");
}

/// A name that was given up long ago lets all go; the name under which the file goes on does not.
#[test]
fn what_another_name_shows_stays() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "old", b"1");
    rig.apply(edit().whole(file, b"2", true));
    rig.apply(edit().gone(ROOT, "old").put(ROOT, "new", file));
    let linked = rig.add(ROOT, "a", b"x");
    rig.apply(edit().put(ROOT, "b", linked));
    rig.apply(edit().gone(ROOT, "a"));
    assert_eq!(thin(&mut rig, &policy("steps=0 deleted=5s"), 60), 0);
    assert_eq!(left(&rig, ROOT, "new"), ["2", "1"]);
    assert_eq!(left(&rig, ROOT, "b"), ["x"]);
}

#[test]
fn what_is_deleted_goes_when_its_time_is_over() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    rig.apply(edit().whole(file, b"2", true));
    rig.apply(edit().gone(ROOT, "f"));
    let policy = policy("steps=0 deleted=50s");
    assert_eq!(thin(&mut rig, &policy, 49), 0);
    assert!(going(&rig, &policy, 50).iter().all(|candidate| candidate.gone == Gone::Deleted));
    assert_eq!(thin(&mut rig, &policy, 50), 2);
    assert_eq!(left(&rig, ROOT, "f"), [""; 0]);
}

/// A folder that is removed and made again is another one; what was in it is shown at its path as before, and stays.
#[test]
fn what_stands_again_in_a_folder_that_was_made_anew_stays() {
    let mut rig = Rig::new();
    let dir = rig.add_dir(ROOT, "d");
    let file = rig.add(dir, "f", b"1");
    let lost = rig.add(dir, "lost", b"2");
    rig.apply(edit().gone(dir, "f").gone(dir, "lost").gone(ROOT, "d"));
    let again = rig.add_dir(ROOT, "d");
    rig.add(again, "f", b"3");
    let policy = policy("steps=0 deleted=5s");
    let gone = going(&rig, &policy, 60);
    assert_eq!(gone.iter().map(|candidate| candidate.file).collect::<Vec<_>>(), [lost]);
    // And where the folder was called otherwise when it went.
    rig.apply(edit().gone(again, "f").gone(ROOT, "d"));
    assert_eq!(going(&rig, &policy, 60).len(), 3, "{file}");
}

/// A folder that went had been at another path before, where another one is now, with the same name in it.
#[test]
fn what_stands_again_where_a_folder_once_was_stays() {
    let mut rig = Rig::new();
    let first = rig.add_dir(ROOT, "tmp");
    rig.add(first, "f", b"1");
    rig.apply(edit().gone(ROOT, "tmp").put_dir(ROOT, "d", first));
    let second = rig.add_dir(ROOT, "tmp2");
    rig.add(second, "f", b"2");
    rig.apply(edit().gone(ROOT, "d").put_dir(ROOT, "old", first));
    rig.apply(edit().gone(ROOT, "tmp2").put_dir(ROOT, "d", second));
    rig.apply(edit().gone(first, "f").gone(ROOT, "old"));
    assert_eq!(going(&rig, &policy("steps=0 deleted=5s"), 60), []);
}

/// A station that cuts a version by itself gives it no commit of its own.
#[test]
fn what_the_station_cut_is_judged_as_well() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    rig.apply(edit().whole(file, b"2", false));
    let later = rig.master.now.plus_micros(60 * SECOND);
    rig.store.cut_open(later).unwrap();
    rig.store.sync().unwrap();
    rig.master.now = later;
    rig.apply(edit().whole(file, b"3", true));
    assert_eq!(left(&rig, ROOT, "f").len(), 3, "the station cut one");
    assert_eq!(going(&rig, &policy("steps=1000s"), 60).len(), 1);
}

/// What is removed is looked at once more: it may have become what a file is.
#[test]
fn what_is_removed_may_not_be_what_a_file_is_now() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"1");
    let first = rig.state(NOW, "f").unwrap().commit;
    let second = rig.apply(edit().whole(file, b"2", true));
    // What was planned before is the newest by now, or went.
    assert_eq!(rig.set_aside(&[(file, second), (file, CommitId(999))]), []);
    assert_eq!(rig.set_aside(&[(file, second), (file, first)]).len(), 1);
    assert_eq!(left(&rig, ROOT, "f"), ["2"]);
}

/// Makes a set in which people save, rename, link, remove and make again what they like.
fn life(rig: &mut Rig, dice: &mut Dice, steps: usize) {
    let dirs = [ROOT, rig.add_dir(ROOT, "d"), rig.add_dir(ROOT, "e")];
    let names = ["a", "b", "c", "t"];
    for step in 0..steps {
        let (dir, text) = (dirs[dice.below(3)], names[dice.below(4)]);
        let (to_dir, to) = (dirs[dice.below(3)], names[dice.below(4)]);
        let present = rig.view().lookup(dir, &name(text), NOW).unwrap().map(|(file, _)| file);
        let content = step.to_string();
        match (dice.below(8), present) {
            (0, Some(_)) => drop(rig.apply(edit().gone(dir, text))),
            (1, Some(file)) if (dir, text) != (to_dir, to) => {
                rig.apply(edit().gone(dir, text).put(to_dir, to, file));
            }
            (2, Some(file)) => drop(rig.apply(edit().put(to_dir, to, file))),
            (3, Some(_)) => {
                let file = rig.master.file();
                rig.apply(edit().whole(file, content.as_bytes(), true).put(dir, text, file));
            }
            (_, Some(file)) => drop(rig.apply(edit().whole(file, content.as_bytes(), true))),
            (_, None) => drop(rig.add(dir, text, content.as_bytes())),
        }
    }
}

/// Nothing goes that one of the histories that show it keeps; what is there stays as it is; and it does not matter in how many parts the
/// set is gone through.
#[test]
fn nothing_goes_that_a_history_keeps() {
    let seed = seed();
    let mut dice = Dice(seed);
    for _ in 0..8 {
        let mut rig = Rig::new();
        life(&mut rig, &mut dice, 150);
        let policy = policy("steps=0:20s,10s:80s,30s deleted=70s last=1");
        let now = later(&rig, 5);
        let view = rig.view();
        let (gone, counts) = review(&view, Review::new(policy.clone(), now));
        let (same, in_parts) = review(&view, Review::remembering(policy.clone(), now, 7));
        assert_eq!((&same, counts), (&gone, in_parts));
        assert!(!gone.is_empty() && counts.kept > 0);
        let gone: BTreeSet<_> = gone.iter().map(|gone| (gone.file, gone.commit)).collect();
        let mut present = HashMap::new();
        for (folder, name) in view.names_of_all(None, 1000).unwrap() {
            for shown in history(&view, &policy, now, folder, &name).unwrap() {
                let state = &shown.entry.state;
                if shown.fate.is_kept() {
                    assert!(!gone.contains(&(state.file, state.commit)), "seed {seed}");
                }
                if shown.entry.current {
                    present.insert((folder, name.clone()), rig.read(state));
                }
            }
        }
        let versions: Vec<_> = gone.into_iter().collect();
        assert_eq!(rig.set_aside(&versions).len(), versions.len());
        while rig.store.maintain().unwrap() {}
        for ((folder, name), content) in present {
            let (file, _) = rig.view().lookup(folder, &name, NOW).unwrap().unwrap();
            let state = rig.view().file(file, NOW).unwrap().unwrap();
            assert_eq!(rig.read(&state), content, "seed {seed}");
        }
    }
}

/// A path is what it was: the nearest older version that is kept.
#[test]
fn the_past_shows_the_nearest_older_version() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"0");
    let commits: Vec<CommitId> = (1..6)
        .map(|save| rig.apply(edit().whole(file, save.to_string().as_bytes(), true)))
        .collect();
    thin(&mut rig, &policy("steps=100s"), 1);
    assert_eq!(left(&rig, ROOT, "f"), ["5", "0"]);
    for commit in &commits[..4] {
        assert_eq!(rig.content(*commit, "f"), b"0");
    }
    assert!(rig.view().resolve(&path("f"), commits[2]).unwrap().is_some(), "it did exist");
}
