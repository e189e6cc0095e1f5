//! For how long points stay, and who can end them.

use keepshare_base::{
    CommitId, OriginId, POINT_NOTICE_MICROS, Point, PointKind, PointRow, Position, Schedule,
};
use keepshare_versioning::{
    Arrival, POINTS_MAX,
    disk::sim::Crash,
    retention::{Candidate, Gone, Now, Policy, Review},
};

use crate::rig::{Edit, ROOT, Rig, SECOND, edit};

const DAY: i64 = 86_400 * SECOND;

fn says(point: PointRow) -> Edit {
    let mut said = edit();
    said.change.point = Some(point);
    said
}

fn made(name: &str, lasts_micros: Option<i64>) -> Edit {
    let point = Point { name: name.to_owned(), kind: PointKind::Crash };
    says(PointRow::Made { point, lasts_micros: lasts_micros.map(i64::unsigned_abs) })
}

/// One of the points that are made so often, of which so many stay.
fn scheduled(name: &str, every: i64, keep: u32) -> Edit {
    let point = Point { name: name.to_owned(), kind: PointKind::Crash };
    let schedule = Schedule { every_micros: every.unsigned_abs(), keep };
    says(PointRow::Scheduled { point, schedule })
}

/// Where the last change is.
fn here(rig: &Rig) -> Position {
    Position { origin: OriginId(1), epoch: rig.master.epoch, seq: rig.master.seq }
}

fn names(rig: &Rig) -> Vec<String> {
    let points = rig.view().points(CommitId(0), 100).unwrap();
    points.into_iter().map(|point| point.point.name).collect()
}

/// Lets so much time pass, and ends what is over.
fn pass(rig: &mut Rig, micros: i64) {
    rig.master.now = rig.master.now.plus_micros(micros);
    rig.apply(edit());
    rig.store.end_points(rig.master.now).unwrap();
    rig.store.sync().unwrap();
}

/// What goes by a policy a minute after the last change.
fn going(rig: &Rig, said: &str) -> Vec<Candidate> {
    let policy = Policy::default().with(said.split(' ')).unwrap();
    let now = rig.master.now.plus_micros(60 * SECOND);
    let now = Now { running_micros: rig.store.running_micros(&now.into()), clock: now };
    let mut review = Review::new(policy, now);
    loop {
        if let Some((going, is_last)) = review.step(&rig.view(), 100).unwrap() {
            assert!(is_last, "all of it is remembered");
            return going;
        }
    }
}

#[test]
fn a_point_stays_as_long_as_was_said_and_longer_while_it_is_held() {
    let mut rig = Rig::new();
    rig.apply(made("hourly", Some(3600 * SECOND)));
    rig.apply(made("held", Some(3600 * SECOND)));
    let point = here(&rig);
    rig.apply(says(PointRow::Held { point, lasts_micros: Some(7200 * SECOND.unsigned_abs()) }));
    rig.apply(made("for-ever", None));
    pass(&mut rig, 3500 * SECOND);
    assert_eq!(names(&rig), ["hourly", "held", "for-ever"]);
    pass(&mut rig, 200 * SECOND);
    assert_eq!(names(&rig), ["held", "for-ever"]);
    rig.crash(Crash::LoseAll);
    while rig.store.maintain().unwrap() {}
    assert_eq!(names(&rig), ["held", "for-ever"]);
    pass(&mut rig, 3600 * SECOND);
    assert_eq!(names(&rig), ["for-ever"]);
    pass(&mut rig, 30 * DAY);
    assert_eq!(names(&rig), ["for-ever"]);
}

/// A master that was taken over ends nothing at once: an admin has a day to see it, and the station's word counts for more.
#[test]
fn what_a_master_ends_ends_a_day_later() {
    let mut rig = Rig::new();
    let mut points = Vec::new();
    for name in ["removed", "released", "kept-here", "ended-here"] {
        rig.apply(made(name, None));
        let point = here(&rig);
        points.push(point);
        if name != "removed" {
            rig.apply(says(PointRow::Held { point, lasts_micros: None }));
        }
    }
    rig.store.keep_point(points[2], true).unwrap().unwrap();
    for point in &points {
        let point = *point;
        // The hold counts for more than the removal, and for no longer than a day after it was released.
        rig.apply(says(PointRow::Removed { point }));
        rig.apply(says(PointRow::Released { point }));
    }
    let notice = i64::try_from(POINT_NOTICE_MICROS).unwrap();
    pass(&mut rig, notice - 60 * SECOND);
    assert_eq!(names(&rig).len(), 4);
    rig.store.drop_point(points[3]).unwrap().unwrap();
    rig.store.sync().unwrap();
    assert_eq!(names(&rig), ["removed", "released", "kept-here"]);
    pass(&mut rig, 120 * SECOND);
    assert_eq!(names(&rig), ["kept-here"]);
    rig.crash(Crash::KeepAll);
    pass(&mut rig, 100 * DAY);
    assert_eq!(names(&rig), ["kept-here"]);
    rig.store.keep_point(points[2], false).unwrap().unwrap();
    pass(&mut rig, SECOND);
    assert_eq!(names(&rig), [""; 0]);
    // What is not here any more is passed over, as is what never was.
    rig.apply(says(PointRow::Held { point: points[0], lasts_micros: None }));
    assert_eq!(rig.store.drop_point(points[0]).unwrap(), None);
}

/// A clock that is wrong ends no point, and keeps none.
#[test]
fn points_go_by_running_time() {
    let mut rig = Rig::new();
    let up = |clock, seconds: i64| {
        let up_micros = Some((seconds * SECOND).unsigned_abs());
        Arrival { clock, up_micros, sent: None }
    };
    let begun = rig.master.now;
    let make = made("hourly", Some(3600 * SECOND));
    let incoming = rig.master.next(make);
    rig.store.commit(up(begun, 10), &incoming).unwrap();
    rig.store.sync().unwrap();
    for (clock, seconds, stays) in [
        (begun.plus_micros(4000 * DAY), 100, true),
        (begun.plus_micros(-4000 * DAY), 3000, true),
        (begun, 3700, false),
    ] {
        let now = up(clock, seconds);
        let incoming = rig.master.next(edit());
        rig.store.commit(now, &incoming).unwrap();
        rig.store.end_points(now).unwrap();
        rig.store.sync().unwrap();
        assert_eq!(!names(&rig).is_empty(), stays, "after {seconds} s");
    }
}

/// A master that was taken over must not end a point at once, by saying that it is to go and then making others without end.
#[test]
fn no_point_goes_before_its_day_for_others_that_are_made() {
    let mut rig = Rig::new();
    rig.apply(made("wanted", None));
    let point = here(&rig);
    rig.apply(made("monthly", Some(30 * DAY)));
    rig.apply(says(PointRow::Removed { point }));
    for n in 0..POINTS_MAX + 3 {
        rig.commit(made(&format!("p{n}"), Some(300 * DAY)));
    }
    rig.store.sync().unwrap();
    let points = rig.view().points(CommitId(0), usize::MAX).unwrap();
    assert_eq!(points.len(), POINTS_MAX);
    assert_eq!(names(&rig)[..2], ["wanted", "monthly"]);
}

/// Whoever says that 24 stay looks for 24 after a week in which the master was off, too.
#[test]
fn the_last_of_a_schedule_stay_while_none_follow() {
    let mut rig = Rig::new();
    let hour = 3600 * SECOND;
    for n in 0..6 {
        rig.apply(scheduled(&format!("h{n}"), hour, 3));
        rig.apply(scheduled(&format!("d{n}"), 24 * hour, 1));
        pass(&mut rig, hour);
    }
    let hours =
        |rig: &Rig| names(rig).into_iter().filter(|name| name.starts_with('h')).collect::<Vec<_>>();
    assert_eq!(hours(&rig), ["h3", "h4", "h5"], "as many as were said");
    assert_eq!(names(&rig).len(), 3 + 6, "those of another schedule are counted apart");
    for days in [1, 30] {
        pass(&mut rig, days * DAY);
        assert_eq!(names(&rig), ["h3", "h4", "h5", "d5"], "nothing followed them");
    }
    rig.crash(Crash::LoseAll);
    while rig.store.maintain().unwrap() {}
    rig.apply(scheduled("h6", hour, 3));
    pass(&mut rig, SECOND);
    assert_eq!(hours(&rig), ["h4", "h5", "h6"]);
    // Of one that is there after its time, too, there is a day's notice.
    let point = rig.view().points(CommitId(0), 1).unwrap()[0].position;
    rig.apply(says(PointRow::Removed { point }));
    let notice = i64::try_from(POINT_NOTICE_MICROS).unwrap();
    pass(&mut rig, notice - 60 * SECOND);
    assert_eq!(hours(&rig), ["h4", "h5", "h6"]);
    pass(&mut rig, 120 * SECOND);
    assert_eq!(hours(&rig), ["h5", "h6"]);
    // And where no more are made.
    rig.apply(says(PointRow::Unscheduled { every_micros: hour.unsigned_abs() }));
    pass(&mut rig, notice - 60 * SECOND);
    assert_eq!(hours(&rig), ["h5", "h6"]);
    pass(&mut rig, 120 * SECOND);
    assert_eq!(names(&rig), ["d5"]);
}

/// Many that are made in a moment, by a master in wrong hands, have none go before its time.
#[test]
fn no_point_of_a_schedule_goes_before_its_time_for_others_of_it() {
    let mut rig = Rig::new();
    let hour = 3600 * SECOND;
    for n in 0..3 {
        rig.apply(scheduled(&format!("true{n}"), hour, 3));
        pass(&mut rig, hour / 2);
    }
    for n in 0..POINTS_MAX {
        rig.commit(scheduled(&format!("false{n}"), hour, 3));
    }
    rig.store.sync().unwrap();
    pass(&mut rig, SECOND);
    assert_eq!(names(&rig)[..3], ["true0", "true1", "true2"]);
    pass(&mut rig, hour);
    assert_eq!(names(&rig)[..2], ["true2", "false0"], "what its time is, and nothing else");
    pass(&mut rig, 3 * hour);
    assert_eq!(rig.view().points(CommitId(0), usize::MAX).unwrap().len(), 3);
}

/// What a station that was away for months hears of at once are the last ones in the end, not the first.
#[test]
fn a_station_that_was_away_has_the_last_points() {
    let mut rig = Rig::new();
    let count = i64::try_from(POINTS_MAX).unwrap() + 100;
    let hour = 3600 * SECOND;
    rig.apply(made("mine", None));
    let begun = rig.master.now;
    let back = begun.plus_micros(count * hour);
    for n in 0..count {
        rig.master.now = begun.plus_micros(n * hour);
        let incoming = rig.master.next(scheduled(&format!("p{n}"), hour, 24));
        rig.store.commit(back, &incoming).unwrap();
    }
    rig.store.sync().unwrap();
    let points = rig.view().points(CommitId(0), usize::MAX).unwrap();
    assert_eq!(points.len(), POINTS_MAX);
    let names: Vec<&str> = points.iter().map(|point| &*point.point.name).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("mine", &*format!("p{}", count - 1)));
    assert_eq!(names[1], "p101");
}

/// A master that makes points without end must not have every version kept.
#[test]
fn points_beyond_the_limit_are_not_taken() {
    let mut rig = Rig::new();
    for n in 0..POINTS_MAX + 3 {
        rig.commit(made(&format!("p{n}"), None));
    }
    rig.store.sync().unwrap();
    let points = rig.view().points(CommitId(0), usize::MAX).unwrap();
    assert_eq!(points.len(), POINTS_MAX);
    assert_eq!(points.last().unwrap().point.name, format!("p{}", POINTS_MAX - 1));
}

/// What a point has stays for as long as the point does.
#[test]
fn retention_keeps_what_a_point_has() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "f", b"0");
    for save in 1..=9 {
        rig.apply(edit().whole(file, save.to_string().as_bytes(), true));
        if save == 5 {
            rig.apply(made("five", None));
        }
    }
    let said = "steps=900s last=0 max_versions=none min_age=0 protect_days=0 deleted=none";
    let count = |rig: &Rig| {
        let going = going(rig, said);
        assert!(going.iter().all(|going| going.gone == Gone::Thinned));
        going.len()
    };
    assert_eq!(count(&rig), 7, "all but the first, the last, and what the point has");
    let point = rig.view().points(CommitId(0), 1).unwrap()[0].position;
    rig.store.drop_point(point).unwrap();
    rig.store.sync().unwrap();
    assert_eq!(count(&rig), 8);
}

/// While a long file is read, what has come of it is of no moment: what the point has is the version before it.
#[test]
fn a_point_keeps_the_version_before_what_was_being_read() {
    let mut rig = Rig::new();
    let file = rig.add(ROOT, "image", b"whole");
    rig.apply(edit().whole(file, b"wh", false));
    rig.apply(edit().whole(file, b"who", false));
    rig.apply(made("p", None));
    // Left open for so long, it becomes a version of the station's own.
    rig.master.now = rig.master.now.plus_micros(60 * SECOND);
    rig.apply(edit().whole(file, b"whole again", true));
    for save in 0..9 {
        rig.apply(edit().whole(file, format!("later {save}").as_bytes(), true));
    }
    let said = "steps=900d last=0 max_versions=none min_age=0 protect_days=0 deleted=none";
    let going = going(&rig, said);
    let going: Vec<CommitId> = going.into_iter().map(|gone| gone.commit).collect();
    let states = rig.view().versions(file).unwrap();
    let kept: Vec<Vec<u8>> = states
        .iter()
        .filter(|state| !going.contains(&state.commit))
        .map(|state| rig.read(state))
        .collect();
    assert!(kept.contains(&b"whole".to_vec()), "{kept:?}");
    assert!(kept.contains(&b"who".to_vec()), "{kept:?}");
    assert!(going.len() >= 8, "{going:?}");
}

/// What was gone when a point was made is in no point: what is deleted goes when its time is over, however many points come.
#[test]
fn a_point_keeps_nothing_that_was_gone_before_it() {
    let mut rig = Rig::new();
    let gone = rig.add(ROOT, "gone", b"gone");
    rig.apply(edit().gone(ROOT, "gone"));
    let replaced = rig.add(ROOT, "doc", b"first");
    let saved = rig.add(ROOT, ".doc", b"second");
    rig.apply(edit().gone(ROOT, ".doc").put(ROOT, "doc", saved));
    let back = rig.add(ROOT, "back", b"back");
    rig.apply(edit().gone(ROOT, "back"));
    rig.apply(made("first", None));
    rig.apply(edit().put(ROOT, "back", back));
    rig.apply(made("second", None));
    rig.apply(edit().gone(ROOT, "back"));
    for n in 0..3 {
        rig.apply(made(&format!("later{n}"), None));
    }
    let said = "steps=900d last=0 max_versions=none min_age=0 protect_days=0 deleted=1s max_age=1s";
    let going = going(&rig, said);
    let going: Vec<_> = going.into_iter().map(|gone| gone.file).collect();
    assert!(going.contains(&gone) && going.contains(&replaced), "{going:?}");
    assert!(!going.contains(&back) && !going.contains(&saved), "{going:?}");
}
