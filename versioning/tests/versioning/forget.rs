//! Rows go with what they describe, and nothing that is kept, or asked for, goes with them.

use std::sync::Arc;

use chrono_tz::Tz;

use keepshare_base::{
    CommitId, Epoch, FileId, Made, OriginId, Point, PointKind, PointRow, Position, RequestId,
    RestoreOutcome, RestoreRow, Seq, Stamp, VersionId,
};
use keepshare_versioning::{
    ASIDE_MICROS, CommitError, Store, StoreError, StoreOptions,
    disk::{
        Disk,
        sim::{Crash, SimDisk},
    },
    names,
};

use crate::{
    model::{Memory, check_everything},
    rig::{Edit, Master, NOW, ROOT, Rig, SECOND, START, bytes, edit, name, options},
};

fn forgetting() -> StoreOptions {
    StoreOptions { let_go_min: 1, log_bytes_min: 64 * 1024, ..options() }
}

fn rig_with(options: StoreOptions) -> Rig {
    let mut rig = Rig::new();
    (rig.store, rig.report) = Store::open(Arc::new(rig.disk.clone()), options).unwrap();
    rig
}

fn rig() -> Rig {
    rig_with(forgetting())
}

/// Lets more than a day pass, and what goes then go.
fn pass_a_day(rig: &mut Rig) {
    rig.master.now = rig.master.now.plus_micros(i64::try_from(ASIDE_MICROS).unwrap() + SECOND);
    rig.store.tick(rig.master.now);
    while rig.store.maintain().unwrap() {}
}

/// Lets go of versions for good, and of their rows; what came before is older than a day.
fn let_go(rig: &mut Rig, versions: &[(FileId, CommitId)]) {
    pass_a_day(rig);
    rig.store.expire(versions).unwrap();
    while rig.store.maintain().unwrap() {}
}

/// Saves a file so many times, a minute apart, and returns the commits.
fn save(rig: &mut Rig, file: FileId, times: u64) -> Vec<CommitId> {
    let saved = (0..times).map(|i| {
        rig.master.now = rig.master.now.plus_micros(59 * SECOND);
        rig.apply(edit().whole(file, &bytes(i, 200), true))
    });
    saved.collect()
}

fn of(file: FileId, commits: &[CommitId]) -> Vec<(FileId, CommitId)> {
    commits.iter().map(|at| (file, *at)).collect()
}

fn commits_of(rig: &Rig, file: FileId) -> Vec<u64> {
    let mut commits: Vec<_> =
        rig.view().versions(file).unwrap().iter().map(|state| state.commit.0).collect();
    commits.reverse();
    commits
}

fn numbers(commits: &[CommitId]) -> Vec<u64> {
    commits.iter().map(|at| at.0).collect()
}

/// An index that is built from the log has the same rows. Returns how many bytes it has.
fn check_rebuilt(disk: &SimDisk, store: &Store, case: &str) -> usize {
    let disk = disk.reopen(Crash::KeepAll);
    disk.remove("index.redb").unwrap();
    let (mut rebuilt, _) = Store::open(Arc::new(disk.clone()), forgetting()).unwrap();
    let digests = |store: &Store| store.reader().view().unwrap().digests().unwrap();
    assert_eq!(rebuilt.latest(), store.latest(), "{case}");
    assert_eq!(digests(&rebuilt), digests(store), "{case}");
    rebuilt.flush().unwrap();
    disk.content("index.redb").len()
}

/// Returns the bytes of the log and of the index.
fn sizes(rig: &Rig) -> (usize, usize) {
    let logs = rig.disk.list("log").unwrap();
    let log = logs.iter().map(|log| rig.disk.content(&format!("log/{log}")).len()).sum();
    (log, rig.disk.content("index.redb").len())
}

/// What a file that was saved very often takes.
#[derive(Debug)]
struct Hot {
    kept: usize,
    log: usize,
    index: usize,
    /// What an index takes that is built from the log.
    rows: usize,
}

/// Saves one file very often, thins it as it goes, and returns what that takes.
fn hot(options: StoreOptions, saves: u64) -> Hot {
    let mut rig = rig_with(options);
    let file = rig.add(ROOT, "hot", b"first");
    for round in 0..saves / 2000 {
        let mut commits = vec![];
        for i in 0..2000 {
            rig.master.now = rig.master.now.plus_micros(9 * SECOND);
            let content = bytes(round * 2000 + i, 200);
            commits.push((file, rig.commit(edit().whole(file, &content, true))));
            if i % 100 == 99 {
                rig.store.sync().unwrap();
                rig.store.flush().unwrap();
                rig.store.maintain().unwrap();
            }
        }
        let goes: Vec<_> = (0..1999).filter(|i| i % 100 != 50).map(|i| commits[i]).collect();
        goes.chunks(500).for_each(|goes| assert_eq!(rig.set_aside(goes).len(), goes.len()));
        pass_a_day(&mut rig);
        rig.store.flush().unwrap();
    }
    for i in 0..4 {
        // What was let go of last is younger than a day for as long as nothing happens.
        pass_a_day(&mut rig);
        rig.store.expire(&[]).unwrap();
        rig.apply(edit().whole(file, &bytes(i, 10), false));
        rig.store.flush().unwrap();
    }
    let versions = rig.view().versions(file).unwrap();
    let kept = versions.iter().filter(|state| !state.expired).count();
    assert!(kept >= usize::try_from(saves / 100).unwrap(), "{kept} kept");
    let rows = check_rebuilt(&rig.disk, &rig.store, "hot");
    let (log, index) = sizes(&rig);
    Hot { kept, log, index, rows }
}

/// A file that is saved all the time takes what is kept of it, and not what was ever saved.
#[test]
fn a_hot_file_takes_what_is_kept_of_it() {
    let few = hot(forgetting(), 4000);
    let many = hot(forgetting(), 20_000);
    eprintln!("{few:?}, {many:?}");
    // What two days bring has room in the index, however long that goes on.
    assert!(many.log < 64 * 1024 + 1024 * many.kept, "{many:?}");
    assert!(many.index <= few.index + 2048 * (many.kept - few.kept), "{few:?}, {many:?}");
    assert!(many.rows < (1 << 20) + 2048 * many.kept, "{many:?}");
}

/// The same, with all rows there ever were.
#[test]
#[ignore = "it measures what the rows took that go now"]
fn a_hot_file_took_what_was_ever_saved() {
    let never = StoreOptions { let_go_min: u64::MAX, ..forgetting() };
    eprintln!("{:?}, {:?}", hot(never.clone(), 4000), hot(never, 20_000));
}

/// What a file leaves that was made, deleted and let go of: its names stay, and with them all that says what they stood for.
#[test]
#[ignore = "it measures"]
fn what_a_temporary_file_leaves() {
    for options in [StoreOptions { let_go_min: u64::MAX, ..forgetting() }, forgetting()] {
        let mut rig = rig_with(options);
        let mut made = vec![];
        for i in 0..10_000_u64 {
            let file = rig.master.file();
            let text = format!("temporary-{i}");
            made.push((
                file,
                rig.commit(edit().whole(file, b"temporary", true).put(ROOT, &text, file)),
            ));
            rig.commit(edit().gone(ROOT, &text));
            if i % 100 == 99 {
                rig.store.sync().unwrap();
                rig.store.maintain().unwrap();
            }
        }
        made.chunks(500).for_each(|made| assert_eq!(rig.set_aside(made).len(), made.len()));
        pass_a_day(&mut rig);
        pass_a_day(&mut rig);
        rig.store.flush().unwrap();
        let rows = check_rebuilt(&rig.disk, &rig.store, "temporary");
        let (log, index) = sizes(&rig);
        eprintln!("10,000 temporary files: log {log}, index {index}, built anew {rows}");
    }
}

/// Of what went the first and the last are told, whatever is asked for between them is removed, and never unknown.
#[test]
fn what_went_is_still_said_to_be_removed() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let commits = save(&mut rig, file, 9);
    let other = rig.add(ROOT, "other", b"other");
    let others = save(&mut rig, other, 3);
    let before = rig.view().versions(file).unwrap();
    let infos: Vec<_> =
        commits.iter().map(|at| rig.view().commit_info(*at).unwrap().unwrap()).collect();
    let_go(&mut rig, &of(file, &commits[1..7]));
    let left = [&commits[..2], &commits[6..]].concat();
    assert_eq!(commits_of(&rig, file)[1..], numbers(&left));
    let view = rig.view();
    for (i, info) in infos.iter().enumerate() {
        let is_gone = (2..6).contains(&i);
        let told = if is_gone { commits[1] } else { commits[i] };
        assert_eq!(view.commit_info(commits[i]).unwrap().is_none(), is_gone, "commit {i}");
        assert_eq!(view.commit_at(info.moment).unwrap(), told, "commit {i}");
        assert_eq!(view.commit_through(info.position).unwrap(), Some(told), "commit {i}");
        let id = VersionId(info.position);
        assert_eq!(view.commit_with(id, None).unwrap(), Some(told), "commit {i}");
        let version = view.version(file, id).unwrap().unwrap();
        assert_eq!((version.commit, version.expired), (told, (1..7).contains(&i)), "version {i}");
        assert_eq!(view.version(other, id).unwrap(), None, "it is no version of another file");
        let shown = view.file(file, commits[i]).unwrap().unwrap();
        let want = if (1..7).contains(&i) { commits[0] } else { commits[i] };
        assert_eq!((shown.commit, shown.expired), (want, false), "at commit {i}");
    }
    for at in &others {
        let id = VersionId(view.commit_info(*at).unwrap().unwrap().position);
        assert_eq!(view.version(file, id).unwrap(), None, "nothing of it went there");
        assert_eq!(view.version(other, id).unwrap().unwrap().commit, *at);
    }
    let never: VersionId = "v1.1.999".parse().unwrap();
    assert_eq!(view.commit_with(never, Some(file)).unwrap(), None);
    assert_eq!(view.commit_before(commits[6]).unwrap(), Some(commits[1]));
    // What is kept is told of as it was, until when included.
    let entries = view.history(ROOT, &name("f"), 100).unwrap();
    let of_first = entries.iter().find(|entry| entry.state.commit == commits[0]).unwrap();
    assert_eq!(of_first.until, commits[1]);
    let kept = before.iter().filter(|state| !(1..7).any(|i| commits[i] == state.commit));
    for state in kept {
        assert_eq!(view.file(file, state.commit).unwrap().as_ref(), Some(state));
        assert_eq!(rig.read(state).len() as u64, state.meta.size);
    }
    drop(view);
    check_rebuilt(&rig.disk, &rig.store, "removed");
}

/// Where nothing older is kept, it is still told that there was something.
#[test]
fn a_file_of_which_nothing_is_kept_was_there() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let first = rig.store.latest();
    let commits = save(&mut rig, file, 5);
    rig.apply(edit().gone(ROOT, "f"));
    rig.add(ROOT, "other", b"");
    let_go(&mut rig, &of(file, &[&[first], &commits[..]].concat()));
    assert_eq!(commits_of(&rig, file), [first.0, commits[4].0]);
    for at in commits {
        let state = rig.view().file(file, at).unwrap().unwrap();
        assert!(state.expired);
        assert!(rig.view().lookup(ROOT, &name("f"), at).unwrap().is_some());
    }
}

/// Who may see the version that stands in for one that went must have had the right to that very one.
#[test]
fn a_version_with_other_rights_stays() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let mut commits = save(&mut rig, file, 3);
    let mut secret = edit().whole(file, b"secret", true);
    secret.change.files[0].meta.mode = 0o600;
    commits.push(rig.apply(secret));
    commits.extend(save(&mut rig, file, 4));
    let_go(&mut rig, &of(file, &commits[..7]));
    // The first of each, and the last.
    let left = [0, 3, 4, 6, 7].map(|i| commits[i].0);
    assert_eq!(commits_of(&rig, file)[1..], left);
    for (i, at) in commits.iter().enumerate() {
        let (_, meta) = rig.view().meta(file, *at).unwrap().unwrap();
        assert_eq!(meta.mode, if i == 3 { 0o600 } else { 0o640 }, "commit {i}");
    }
}

/// A history that begins or ends between two versions has what it had: the file was renamed there, or a folder above it.
#[test]
fn versions_around_a_move_stay() {
    type Moves = fn(Edit, FileId, FileId) -> Edit;
    let file_moves: Moves = |edit, dir, file| edit.gone(dir, "f").put(dir, "g", file);
    let folder_moves: Moves = |edit, dir, _| edit.gone(ROOT, "dir").put_dir(ROOT, "there", dir);
    for (moves, with_save) in
        [(file_moves, false), (file_moves, true), (folder_moves, false), (folder_moves, true)]
    {
        let mut rig = rig();
        let dir = rig.add_dir(ROOT, "dir");
        let file = rig.add(dir, "f", b"first");
        let mut commits = save(&mut rig, file, 4);
        let moved = match with_save {
            true => edit().whole(file, b"moved", true),
            false => edit(),
        };
        let moved = rig.apply(moves(moved, dir, file));
        if with_save {
            commits.push(moved);
        }
        commits.extend(save(&mut rig, file, 4));
        let last = commits.len() - 1;
        let_go(&mut rig, &of(file, &commits[..last]));
        // What stands right before and right after the move stays.
        let left: Vec<_> = [0, 3, 4, last - 1, last].map(|i| commits[i].0).to_vec();
        assert_eq!(commits_of(&rig, file)[1..], left, "with a save: {with_save}");
        assert!(rig.view().commit_info(moved).unwrap().is_some());
    }
}

/// A clock that is set back gives times again that versions had which went: what has one is never called by it alone.
#[test]
fn a_name_is_never_given_again() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let commits = save(&mut rig, file, 6);
    let was = rig.view().versions(file).unwrap();
    let was = was.iter().find(|state| state.commit == commits[2]).unwrap().stamp;
    let_go(&mut rig, &of(file, &commits[..5]));
    let half = Stamp(was.0 + SECOND / 2);
    let incoming = {
        let mut incoming = rig.master.next(edit().whole(file, b"again", true));
        incoming.filled.change.stamp = half;
        incoming
    };
    rig.store.commit(rig.master.now, &incoming).unwrap();
    rig.apply(edit().whole(file, b"now", true));
    let history = rig.view().history(ROOT, &name("f"), 100).unwrap();
    let entries: Vec<_> = history.iter().collect();
    let called = names::called(&entries, Tz::UTC);
    let again = entries.iter().position(|entry| entry.state.stamp == half).unwrap();
    let id = names::id(&entries[again].state).to_string();
    assert!(called.names[again].contains(&id), "{} has no {id}", called.names[again]);
    assert_eq!(called.shared.len(), 2, "{:?}", called.shared);
    let shared = |name: &String| called.shared.contains(name);
    assert!(!called.names.iter().any(shared), "{:?}", called.names);
}

/// What was made at a time that is not between those of its neighbours says so: nothing else does.
#[test]
fn a_version_of_another_time_stays() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let mut commits = vec![];
    for (i, second) in [0, 10, 300, 20, 30, 5, 40, 50].into_iter().enumerate() {
        let mut incoming = rig.master.next(edit().whole(file, &bytes(i as u64, 100), true));
        incoming.filled.change.stamp = Stamp(START.0 + second * SECOND);
        commits.push(rig.store.commit(rig.master.now, &incoming).unwrap());
        rig.store.sync().unwrap();
    }
    rig.apply(edit().whole(file, b"now", true));
    let before = rig.view().versions(file).unwrap();
    let_go(&mut rig, &of(file, &commits));
    let left = rig.view().versions(file).unwrap();
    let gone = before.iter().filter(|state| !left.iter().any(|at| at.commit == state.commit));
    let stamps: Vec<_> = gone.map(|gone| gone.stamp.micros_since(START) / SECOND).collect();
    assert_eq!(stamps, [40, 10]);
}

/// What a mirror brought is known by its origin's word alone, and what the station cut by its own.
#[test]
fn versions_that_are_called_otherwise_stay() {
    let mut rig = rig();
    rig.master.seq = Seq(100);
    let file = rig.master.file();
    let mut commits = vec![];
    for i in 0..6 {
        rig.master.now = rig.master.now.plus_micros(60 * SECOND);
        rig.master.seq = rig.master.seq.next();
        let part = edit().whole(file, &bytes(i, 100), true).put(ROOT, "f", file);
        let mut part = rig.master.at_place(part, false);
        let position = Position { seq: Seq(10 + i), ..part.position };
        let made = Made { position, stamp: rig.master.now, user: None };
        part.filled.change.made.push((file, made));
        commits.push((rig.store.commit(rig.master.now, &part).unwrap(), VersionId(position)));
        let end = rig.master.at_place(edit(), true);
        rig.store.commit(rig.master.now, &end).unwrap();
    }
    rig.apply(edit().whole(file, b"now", true));
    let all = commits_of(&rig, file);
    let versions: Vec<_> = commits.iter().map(|(at, _)| (file, *at)).collect();
    let_go(&mut rig, &versions);
    assert_eq!(commits_of(&rig, file), all);
    for (at, id) in commits {
        assert_eq!(rig.view().version(file, id).unwrap().unwrap().commit, at);
    }
}

/// Where several origins take turns, a time means another commit of each: none goes between those of another.
#[test]
fn commits_between_those_of_another_origin_stay() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let mut turns = vec![];
    for origin in [1, 1, 1, 1, 2, 1, 2, 1, 2, 2, 2, 2, 1] {
        rig.master.now = rig.master.now.plus_micros(60 * SECOND);
        let mut incoming = rig.master.clone().next(edit());
        if origin == 1 {
            incoming = rig.master.next(edit());
        } else {
            let seq = turns.iter().filter(|(origin, _)| *origin == 2).count() as u64 + 1;
            incoming.position =
                Position { origin: OriginId(2), epoch: Epoch::FIRST, seq: Seq(seq) };
        }
        turns.push((origin, rig.store.commit(rig.master.now, &incoming).unwrap()));
    }
    rig.apply(edit().whole(file, b"now", true));
    let first = rig.view().versions(file).unwrap().pop().unwrap().commit;
    let_go(&mut rig, &[(file, first)]);
    let stays = |at: &CommitId| rig.view().commit_info(*at).unwrap().is_some();
    let stay: Vec<_> = turns.iter().map(|(_, at)| stays(at)).collect();
    let (t, f) = (true, false);
    assert_eq!(stay, [f, f, f, t, t, t, t, t, t, f, f, t, t]);
}

/// What is aside can come back, and so can all that it was between.
#[test]
fn nothing_goes_that_can_come_back() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let commits = save(&mut rig, file, 8);
    let aside = rig.set_aside(&of(file, &commits[..7]));
    rig.store.expire(&of(file, &commits[2..3])).unwrap();
    while rig.store.maintain().unwrap() {}
    assert_eq!(commits_of(&rig, file)[1..], numbers(&commits));
    assert_eq!(rig.bring_back(0).len(), aside.len() - 1);
    assert_eq!(commits_of(&rig, file)[1..], numbers(&commits));
}

/// Commits stay that a point, an answer to a restore, a name or a mirror stand for, and the newest of all.
#[test]
fn commits_that_something_stands_for_stay() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    rig.apply(edit());
    let mut stay = vec![];
    let point = Point { name: "point".to_owned(), kind: PointKind::Crash };
    let mut said = edit();
    said.change.point = Some(PointRow::Made { point, lasts_micros: None });
    stay.push(rig.apply(said));
    rig.apply(edit());
    rig.apply(edit());
    let mut said = edit();
    let (request, outcome) = (RequestId([7; 32]), RestoreOutcome::Equal);
    let version = VersionId(rig.view().versions(file).unwrap()[0].position);
    said.change.restore = Some(RestoreRow { request, version, outcome });
    stay.push(rig.apply(said));
    rig.apply(edit());
    rig.apply(edit());
    stay.push(rig.apply(edit().put(ROOT, "g", file)));
    rig.apply(edit());
    rig.apply(edit());
    // A mirror jumps: its parts, its end, and the last change before it tell what was never here.
    stay.push(rig.apply(edit()));
    rig.master.seq = Seq(rig.master.seq.0 + 5);
    for complete in [false, false, true] {
        rig.master.now = rig.master.now.plus_micros(SECOND);
        let part = rig.master.at_place(edit(), complete);
        stay.push(rig.store.commit(rig.master.now, &part).unwrap());
        rig.store.sync().unwrap();
    }
    let jumped = VersionId(Position {
        seq: Seq(rig.master.seq.0 - 2),
        ..rig.master.at_place(edit(), true).position
    });
    rig.apply(edit());
    rig.apply(edit());
    let commits = save(&mut rig, file, 4);
    stay.push(*commits.last().unwrap());
    let latest = rig.store.latest();
    let highest = rig.view().highest(OriginId(1)).unwrap();
    let_go(&mut rig, &of(file, &commits[..3]));
    let view = rig.view();
    for at in &stay {
        assert!(view.commit_info(*at).unwrap().is_some(), "{at} of {stay:?}");
    }
    let gone = (1..=latest.0).filter(|at| view.commit_info(CommitId(*at)).unwrap().is_none());
    assert_eq!(gone.count(), 10);
    assert_eq!(view.highest(OriginId(1)).unwrap(), highest);
    assert_eq!(view.commit_with(jumped, None).unwrap(), None, "it was never here");
    assert_eq!(view.points(CommitId(0), 9).unwrap().len(), 1);
    assert_eq!(view.restore(request).unwrap().unwrap().commit, stay[1]);
    drop(view);
    check_rebuilt(&rig.disk, &rig.store, "commits");
    // The journal goes on.
    rig.apply(edit().whole(file, b"on", true));
    assert_eq!(rig.content(NOW, "f"), b"on");
}

/// A commit of less than a day ago stays, whatever it has: readers have views of it.
#[test]
fn young_commits_stay() {
    let mut rig = rig();
    let file = rig.add(ROOT, "f", b"first");
    let commits = save(&mut rig, file, 6);
    rig.store.expire(&of(file, &commits[..5])).unwrap();
    while rig.store.maintain().unwrap() {}
    assert_eq!(commits_of(&rig, file).len(), 4);
    for at in commits {
        assert!(rig.view().commit_info(at).unwrap().is_some());
    }
}

/// What a script got done before the disk died.
struct Done {
    memory: Memory,
    master: Master,
    acknowledged: CommitId,
}

impl Done {
    fn new() -> Self {
        Self { memory: Memory::default(), master: Master::new(), acknowledged: CommitId(0) }
    }

    fn change(&mut self, store: &mut Store, edit: Edit) -> Result<CommitId, CommitError> {
        let incoming = self.master.next(edit);
        let at = store.commit(self.master.now, &incoming)?;
        self.memory.apply(at, &incoming);
        Ok(at)
    }

    /// Does all housekeeping there is.
    fn maintain(&mut self, store: &mut Store) -> Result<(), StoreError> {
        store.tick(self.master.now);
        loop {
            let more = store.maintain()?;
            self.acknowledged = store.sync()?;
            self.hear(store);
            if !more {
                return Ok(());
            }
        }
    }

    /// Remembers what was let go of.
    fn hear(&mut self, store: &Store) {
        let left = store.reader().view().unwrap().aside(0, None, usize::MAX).unwrap();
        let gone = self.memory.aside().into_iter().filter(|aside| !left.contains(aside));
        let gone: Vec<_> = gone.map(|aside| (aside.file, aside.commit)).collect();
        self.memory.expire(store.latest(), &gone);
    }
}

fn script(disk: &SimDisk, done: &mut Done) -> Result<(), CommitError> {
    let (mut store, _) = Store::open(Arc::new(disk.clone()), small())?;
    let files: Vec<FileId> = (0..3).map(|_| done.master.file()).collect();
    for (i, file) in files.iter().enumerate() {
        let new = edit().whole(*file, b"first", true).put(ROOT, &format!("f{i}"), *file);
        done.change(&mut store, new)?;
    }
    for round in 0..3_u64 {
        let mut versions = vec![];
        for i in 0..24_u64 {
            let file = files[(i / 8) as usize];
            let content = bytes(i, [30, 3000, 90_000][i as usize % 3]);
            versions.push((file, done.change(&mut store, edit().whole(file, &content, true))?));
            if i % 8 == 7 {
                done.acknowledged = store.sync()?;
            }
        }
        let goes: Vec<_> = (0..24).filter(|i| i % 8 != 7).map(|i| versions[i]).collect();
        let (now, since) = (done.master.now, store.running_micros(&done.master.now.into()));
        store.set_aside(now, since, &goes)?;
        done.memory.set_aside(store.latest(), since, &goes);
        done.acknowledged = store.sync()?;
        if round == 1 {
            let back = store.bring_back(0, 2)?;
            done.memory.bring_back(store.latest(), &back);
        }
        store.flush()?;
        done.acknowledged = store.latest();
        let day = i64::try_from(ASIDE_MICROS).unwrap() + SECOND;
        done.master.now = done.master.now.plus_micros(day);
        done.maintain(&mut store)?;
    }
    Ok(())
}

fn small() -> StoreOptions {
    StoreOptions { let_go_min: 1, log_bytes_min: 16 * 1024, ..options() }
}

/// Opens what a crash left, holds it against what was done, and does what was left to do.
fn recover(disk: &SimDisk, mut done: Done, case: &str) -> usize {
    let opened = Store::open(Arc::new(disk.clone()), small());
    let (mut store, _) = opened.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let latest = store.latest();
    assert!(latest >= done.acknowledged, "{case}: {} of {}", latest, done.acknowledged);
    done.memory.forget_after(latest);
    // What was let go of right before the crash is let go of.
    done.hear(&store);
    check_everything(&store, &done.memory, case);
    done.maintain(&mut store).unwrap();
    check_everything(&store, &done.memory, case);
    store.flush().unwrap();
    check_rebuilt(disk, &store, case);
    let view = store.reader().view().unwrap();
    let left = |file| done.memory.versions(file).len() - view.versions(file).unwrap().len();
    done.memory.all_files().map(left).sum()
}

/// Whatever rows went and whatever did not when the power was lost: each answer is as before.
#[test]
fn a_crash_while_rows_go_loses_nothing() {
    let (disk, mut done) = (SimDisk::new(), Done::new());
    script(&disk, &mut done).unwrap();
    let syncs = disk.syncs();
    let gone = recover(&disk.reopen(Crash::KeepAll), done, "no crash");
    assert!(gone > 20, "{gone} versions have no row any more");
    for n in 1..=syncs {
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Tear(n)] {
            let (disk, mut done) = (SimDisk::new(), Done::new());
            disk.crash_at(n);
            let _ = script(&disk, &mut done);
            recover(&disk.reopen(crash), done, &format!("sync {n} of {syncs}, {crash:?}"));
        }
    }
}
