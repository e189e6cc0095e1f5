//! Wrong clocks: when a change was made is told by all that is known, and the order of changes by none of it.

use keepshare_base::{CommitId, FileId, Stamp};
use keepshare_versioning::{
    Arrival, ClockAlarm, Sent,
    disk::{Disk as _, sim::Crash},
};

use crate::rig::{NOW, ROOT, Rig, SECOND, START, edit};

const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

/// A master whose clock is off by something, and a station whose clock may be off as well; both say so on the link.
struct Clocks {
    rig: Rig,
    file: FileId,
    time: Stamp,
}

impl Clocks {
    fn new() -> Self {
        let mut clocks = Self { rig: Rig::new(), file: FileId::ROOT, time: START };
        clocks.file = clocks.rig.master.file();
        let name = edit().put(ROOT, "f", clocks.file);
        let first = name.whole(clocks.file, b"first", true);
        clocks.take(first, 0, 0, 0);
        clocks
    }

    /// Saves the file a minute later, under clocks that are this far ahead; sent so much later.
    fn save(&mut self, text: &str, master: i64, station: i64, late: i64) -> CommitId {
        self.take(edit().whole(self.file, text.as_bytes(), true), master, station, late)
    }

    fn take(&mut self, edit: crate::rig::Edit, master: i64, station: i64, late: i64) -> CommitId {
        self.time = self.time.plus_micros(60 * SECOND);
        let mut incoming = self.rig.master.next(edit);
        incoming.filled.change.stamp = self.time.plus_micros(master);
        let arrives = self.time.plus_micros(late);
        let heard = Some(arrives.plus_micros(station - SECOND));
        let arrival = Arrival {
            clock: arrives.plus_micros(station),
            up_micros: Some(arrives.micros_since(START).unsigned_abs()),
            sent: Some(Sent { clock: arrives.plus_micros(master), heard }),
        };
        let at = self.rig.store.commit(arrival, &incoming).unwrap();
        self.rig.store.sync().unwrap();
        at
    }

    /// Returns what the file was `minutes` after the first save.
    fn at_minute(&self, minutes: i64) -> String {
        let time = START.plus_micros((1 + minutes) * 60 * SECOND);
        let at = self.rig.view().commit_at(time).unwrap();
        String::from_utf8(self.rig.content(at, "f")).unwrap()
    }

    fn alarm(&mut self) -> Option<ClockAlarm> {
        self.rig.store.take_clock_alarm()
    }
}

/// One save under a wrong clock must not hide those after it, for an hour, or for years.
#[test]
fn a_masters_clock_that_is_wrong_for_one_save_hides_nothing() {
    for by in [HOUR, -HOUR, 5 * YEAR, -5 * YEAR, 10 * SECOND] {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.alarm(), None);
        clocks.save("wrong", by, 0, 0);
        assert!(
            matches!(clocks.alarm(), Some(ClockAlarm::Differs { ahead_micros, .. }) if ahead_micros == by)
        );
        clocks.save("right", 0, 0, 0);
        assert_eq!(clocks.alarm(), None, "and then it is right again");
        clocks.save("and again", 0, 0, 0);
        let told: Vec<_> = (0..5).map(|minute| clocks.at_minute(minute)).collect();
        assert_eq!(told, ["first", "wrong", "right", "and again", "and again"], "{by} µs");
        // The stamp stays what the master said.
        let versions = clocks.rig.view().versions(clocks.file).unwrap();
        assert_eq!(versions[2].stamp, START.plus_micros(2 * 60 * SECOND + by));
    }
}

/// What was made while the line was cut is filed when it was made, not when it came.
#[test]
fn what_arrives_late_is_filed_when_it_was_made() {
    for by in [0, HOUR, -2 * HOUR] {
        let mut clocks = Clocks::new();
        for (minute, text) in [(1, "one"), (2, "two")] {
            clocks.save(text, by, 0, ((10 - minute) * 60 + minute) * SECOND);
        }
        let told: Vec<_> = (0..4).map(|minute| clocks.at_minute(minute)).collect();
        assert_eq!(told, ["first", "one", "two", "two"], "{by} µs");
    }
}

/// A new holder of the origin whose clock is behind, or a stamp forced back: order is the order of commits.
#[test]
fn later_changes_with_earlier_stamps_are_later() {
    let mut clocks = Clocks::new();
    let mut incoming = clocks.rig.master.next(edit().whole(clocks.file, b"second", true));
    incoming.filled.change.stamp = START.plus_micros(-YEAR);
    let at = clocks.rig.store.commit(clocks.time.plus_micros(SECOND), &incoming).unwrap();
    clocks.rig.store.sync().unwrap();
    let view = clocks.rig.view();
    assert_eq!(view.commit_at(Stamp::MAX).unwrap(), at);
    assert_eq!(view.newest_commit().unwrap(), at);
    let info = view.commit_info(at).unwrap().unwrap();
    assert_eq!(info.moment, clocks.time, "as late as the one before it, at least");
    assert_eq!(clocks.rig.content(NOW, "f"), b"second");
}

/// The station's own clock jumps to 2099 for one save.
#[test]
fn one_arrival_in_2099_takes_no_other_there() {
    let mut clocks = Clocks::new();
    let wrong = clocks.save("wrong", 0, 73 * YEAR, 0);
    assert!(matches!(clocks.alarm(), Some(ClockAlarm::Jumped { .. })));
    let right = clocks.save("right", 0, 0, 0);
    assert!(matches!(clocks.alarm(), Some(ClockAlarm::SetBack { .. })));
    clocks.save("and again", 0, 0, 0);
    assert_eq!(clocks.alarm(), None);
    let told: Vec<_> = (0..4).map(|minute| clocks.at_minute(minute)).collect();
    assert_eq!(told, ["first", "wrong", "right", "and again"]);
    let view = clocks.rig.view();
    let arrival = |at| view.commit_info(at).unwrap().unwrap().arrival;
    assert_eq!(arrival(right), START.plus_micros(3 * 60 * SECOND));
    assert_eq!(arrival(wrong), START.plus_micros(2 * 60 * SECOND + 73 * YEAR));
}

/// What an older clock left is put right once, durably, and not touched again.
#[test]
fn a_wrong_arrival_is_repaired() {
    let mut clocks = Clocks::new();
    clocks.save("one", 0, 0, 0);
    // Over a restart nothing tells that it is the station's clock that is wrong.
    clocks.rig.crash(Crash::LoseAll);
    let wrong = clocks.save("wrong", 0, 73 * YEAR, 0);
    clocks.rig.crash(Crash::LoseAll);
    clocks.save("right", 0, 0, 0);
    assert_eq!(clocks.at_minute(4), "one", "everything after it is said to be of 2099");
    let now = clocks.time.plus_micros(SECOND);
    assert_eq!(clocks.rig.store.repair_clock(now).unwrap(), 2);
    clocks.rig.store.sync().unwrap();
    let told = |clocks: &Clocks| -> Vec<_> { (0..4).map(|at| clocks.at_minute(at)).collect() };
    assert_eq!(told(&clocks), ["first", "one", "wrong", "right"]);
    let info = clocks.rig.view().commit_info(wrong).unwrap().unwrap();
    assert_eq!(info.arrival, START.plus_micros(3 * 60 * SECOND));
    assert_eq!(clocks.rig.store.repair_clock(now).unwrap(), 0);
    let disk = clocks.rig.disk.reopen(Crash::LoseAll);
    disk.remove("index.redb").unwrap();
    clocks.rig.reopen_on(disk);
    assert_eq!(told(&clocks), ["first", "one", "wrong", "right"]);
    clocks.save("later", 0, 0, 0);
    assert_eq!(clocks.at_minute(4), "later");
}

/// Moments and running time are part of the log: they are the same after a crash, a rebuild and a new log.
#[test]
fn moments_are_the_same_after_a_rebuild() {
    let mut clocks = Clocks::new();
    for (i, by) in [0, HOUR, 0, -HOUR, 5 * YEAR, 0].into_iter().enumerate() {
        clocks.save(&i.to_string(), by, 0, 0);
    }
    let all = |rig: &Rig| -> Vec<_> {
        let view = rig.view();
        (1..=view.latest().0).map(|at| view.commit_info(CommitId(at)).unwrap().unwrap()).collect()
    };
    let before = all(&clocks.rig);
    let running: Vec<_> = before.iter().map(|info| info.running_micros / 60_000_000).collect();
    assert_eq!(running, [0, 1, 2, 3, 4, 5, 6]);
    clocks.rig.store.flush().unwrap();
    let disk = clocks.rig.disk.reopen(Crash::LoseAll);
    disk.remove("index.redb").unwrap();
    clocks.rig.reopen_on(disk);
    assert!(clocks.rig.report.rebuilt.is_some());
    assert_eq!(all(&clocks.rig), before);
}

/// An open view of a time stays what it was, whatever of that time arrives later.
#[test]
fn an_open_view_does_not_see_what_arrives_late() {
    let mut clocks = Clocks::new();
    let opened = clocks.save("one", 0, 0, 0);
    let time = START.plus_micros(HOUR);
    clocks.save("late", 0, 0, 2 * HOUR);
    let view = clocks.rig.view();
    assert!(view.commit_at(time).unwrap() > opened);
    assert_eq!(view.commit_at_from(time, opened).unwrap(), opened);
}
